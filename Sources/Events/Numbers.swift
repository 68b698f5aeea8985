//  Numbers as texts, both ways: doubles printed with the fewest digits that read back as the same value, and JSON
//  numbers read without an allocation.
//
//  Almost every double in a log has at most fifteen significant digits. For those both directions need one exact
//  multiplication or division: an integer below 2⁵³ and a power of ten up to 10²² are exact, so their quotient is
//  rounded once and correctly. Whatever does not fit goes the long way, through the standard library or `strtod`.

public import Diagnostics
internal import Glibc

// MARK: - Printing

/// Appends a double as Java prints it: `1.0`, `0.25`, from 10⁷ up and below 10⁻³ with an exponent (`1.2345678E7`), and
/// `Infinity`, `-Infinity`, `NaN`.
public func appendJavaDouble(_ value: Double, to buffer: inout ByteBuffer) {
  guard value.isFinite else {
    buffer.append(value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity")
    return
  }
  if value.sign == .minus { buffer.append(UInt8(ascii: "-")) }
  if value == 0 {
    buffer.append("0.0")
    return
  }
  let magnitude = value.magnitude
  let (digits, scale) = shortestDigits(magnitude)
  appendJava(digits, scale: scale, to: &buffer)
}

/// Appends a double as a JSON value: the Java form, which is a JSON number, and a quoted text for what JSON cannot show.
public func appendJSONDouble(_ value: Double, to buffer: inout ByteBuffer) {
  let finite = value.isFinite
  if !finite { buffer.append(UInt8(ascii: "\"")) }
  appendJavaDouble(value, to: &buffer)
  if !finite { buffer.append(UInt8(ascii: "\"")) }
}

/// The shortest decimal that reads back as a positive, finite value: `digits` × 10^-`scale`, no zero at the end.
private func shortestDigits(_ value: Double) -> (digits: UInt64, scale: Int) {
  // Two decimals of at most fifteen digits never share a double, so the first that reads back is the shortest.
  var scale = 0
  while scale <= 22 {
    let candidate = (value * powersOfTen(scale)).rounded()
    if candidate >= 1e15 { break }
    if candidate / powersOfTen(scale) == value {
      var digits = UInt64(candidate)
      while digits % 10 == 0 {
        digits /= 10
        scale &-= 1
      }
      return (digits, scale)
    }
    scale &+= 1
  }
  return describedDigits(value)
}

@inline(never)
private func describedDigits(_ value: Double) -> (digits: UInt64, scale: Int) {
  var digits: UInt64 = 0
  var scale = 0
  var pointSeen = false
  var exponent = 0
  var exponentSign = 0
  for character in value.description.utf8 {
    switch character {
    case UInt8(ascii: "."): pointSeen = true
    case UInt8(ascii: "e"): exponentSign = 1
    case UInt8(ascii: "-"): exponentSign = -1
    case UInt8(ascii: "+"): break
    default:
      let digit = Int(character) &- 48
      if exponentSign != 0 {
        exponent = exponent &* 10 &+ digit
      } else {
        // Behind seventeen digits come zeros alone.
        if digits >= 100_000_000_000_000_000 {
          if !pointSeen { scale &-= 1 }
          continue
        }
        digits = digits &* 10 &+ UInt64(truncatingIfNeeded: digit)
        if pointSeen { scale &+= 1 }
      }
    }
  }
  scale &-= exponent &* exponentSign
  while digits != 0, digits % 10 == 0 {
    digits /= 10
    scale &-= 1
  }
  return (digits, scale)
}

private func appendJava(_ digits: UInt64, scale: Int, to buffer: inout ByteBuffer) {
  buffer.reserve(32)
  var count = 1
  var bound: UInt64 = 10
  while count < 19, digits >= bound {
    count &+= 1
    bound &*= 10
  }
  /// Writes the lowest `n` digits of `value`.
  func put(_ value: UInt64, _ n: Int) {
    var rest = value
    var i = buffer.count &+ n
    buffer.count = i
    for _ in 0..<n {
      i &-= 1
      buffer.pointer[i] = UInt8(truncatingIfNeeded: rest % 10) &+ 48
      rest /= 10
    }
  }
  // The first digit stands for 10^exponent.
  let exponent = count &- 1 &- scale
  if exponent >= 7 || exponent < -3 {
    var divisor: UInt64 = 1
    for _ in 1..<max(count, 1) { divisor &*= 10 }
    put(digits / divisor, 1)
    buffer.append(UInt8(ascii: "."))
    put(digits % divisor, max(count &- 1, 1))
    buffer.append(UInt8(ascii: "E"))
    buffer.append(decimal: exponent)
    return
  }
  if scale <= 0 {
    put(digits, count)
    for _ in 0..<(0 &- scale) { buffer.append(UInt8(ascii: "0")) }
    buffer.append(".0")
    return
  }
  var divisor: UInt64 = 1
  for _ in 0..<min(scale, 19) { divisor &*= 10 }
  let whole = scale > 19 ? 0 : digits / divisor
  put(whole, max(exponent &+ 1, 1))
  buffer.append(UInt8(ascii: "."))
  put(digits &- whole &* divisor, scale)
}

@inline(__always)
private func powersOfTen(_ exponent: Int) -> Double {
  switch exponent {
  case 0: 1
  case 1: 1e1
  case 2: 1e2
  case 3: 1e3
  case 4: 1e4
  case 5: 1e5
  case 6: 1e6
  case 7: 1e7
  case 8: 1e8
  case 9: 1e9
  case 10: 1e10
  case 11: 1e11
  case 12: 1e12
  case 13: 1e13
  case 14: 1e14
  case 15: 1e15
  case 16: 1e16
  case 17: 1e17
  case 18: 1e18
  case 19: 1e19
  case 20: 1e20
  case 21: 1e21
  default: 1e22
  }
}

// MARK: - Reading

/// What a JSON number is.
public enum NumberText: Hashable, Sendable {
  case integer(Int64)
  /// A whole number outside of 64 bits; its digits stay where they are.
  case bigInteger
  /// Correctly rounded; infinite where the text is too large for a double.
  case double(Double)
}

/// Reads a whole text as a JSON number. Nil where it is none: `+1`, `01`, `.5`, `1.`, blanks.
public func parseNumber(_ text: UnsafeRawBufferPointer) -> NumberText? {
  guard let p = text.baseAddress, let scan = NumberScan(p, text.count) else { return nil }
  if scan.isFloat { return .double(scan.double(p, text.count)) }
  guard !scan.overflow else { return .bigInteger }
  if scan.negative {
    guard scan.mantissa <= UInt64(Int64.max) &+ 1 else { return .bigInteger }
    return .integer(Int64(truncatingIfNeeded: 0 &- scan.mantissa))
  }
  return scan.mantissa <= UInt64(Int64.max) ? .integer(Int64(scan.mantissa)) : .bigInteger
}

/// Reads a JSON number without fraction and exponent; nil for everything else and outside of 64 bits.
public func parseInteger(_ text: UnsafeRawBufferPointer) -> Int64? {
  guard case .integer(let value)? = parseNumber(text) else { return nil }
  return value
}

/// Reads any JSON number as the nearest double, infinite where it is too large; nil where the text is no number.
public func parseDouble(_ text: UnsafeRawBufferPointer) -> Double? {
  guard let p = text.baseAddress, let scan = NumberScan(p, text.count) else { return nil }
  return scan.double(p, text.count)
}

/// One pass over a JSON number.
private struct NumberScan {
  var negative = false
  var isFloat = false
  /// All digits as one integer; cut where `overflow`.
  var mantissa: UInt64 = 0
  /// There are more digits than 64 bits hold.
  var overflow = false
  /// The mantissa counts in units of 10^exponent.
  var exponent = 0

  @inline(__always)
  init?(_ p: UnsafeRawPointer, _ count: Int) {
    var i = 0
    if count > 0, byte(p, 0) == UInt8(ascii: "-") {
      negative = true
      i = 1
    }
    let whole = i
    digits(p, count, &i)
    guard i > whole, i == whole &+ 1 || byte(p, whole) != UInt8(ascii: "0") else { return nil }
    if i == count { return }
    isFloat = true
    if byte(p, i) == UInt8(ascii: ".") {
      i &+= 1
      let fraction = i
      digits(p, count, &i)
      guard i > fraction else { return nil }
      exponent = fraction &- i
    }
    if i < count {
      guard byte(p, i) | 32 == UInt8(ascii: "e") else { return nil }
      i &+= 1
      var down = false
      if i < count, byte(p, i) == UInt8(ascii: "+") || byte(p, i) == UInt8(ascii: "-") {
        down = byte(p, i) == UInt8(ascii: "-")
        i &+= 1
      }
      let start = i
      var written = 0
      while i < count, byte(p, i) &- 48 <= 9 {
        // Beyond this nothing changes any more, whatever the mantissa.
        if written < 1_000_000_000 { written = written &* 10 &+ Int(byte(p, i) &- 48) }
        i &+= 1
      }
      guard i > start, i == count else { return nil }
      exponent &+= down ? 0 &- written : written
    }
  }

  @inline(__always)
  private mutating func digits(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int) {
    while i < count {
      let digit = byte(p, i) &- 48
      if digit > 9 { return }
      if mantissa > 1_844_674_407_370_955_160 {
        overflow = true
      } else {
        let (sum, carried) = (mantissa &* 10).addingReportingOverflow(UInt64(digit))
        if carried { overflow = true } else { mantissa = sum }
      }
      i &+= 1
    }
  }

  @inline(__always)
  func double(_ p: UnsafeRawPointer, _ count: Int) -> Double {
    if !overflow, mantissa <= 1 << 53, exponent >= -22, exponent <= 22 {
      let whole = Double(mantissa)
      let value = exponent < 0 ? whole / powersOfTen(0 &- exponent) : whole * powersOfTen(exponent)
      return negative ? -value : value
    }
    return slowDouble(p, count)
  }
}

/// `strtod` wants a zero behind its text. The program never sets a locale, so its decimal mark is the point.
@inline(never)
private func slowDouble(_ p: UnsafeRawPointer, _ count: Int) -> Double {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: count + 1) { room -> Double in
    guard let start = room.baseAddress else { return 0 }
    memcpy(start, p, count)
    start[count] = 0
    return strtod(start, nil)
  }
}
