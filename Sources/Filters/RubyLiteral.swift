//  Numbers as Ruby's Integer() and Float() read a text: blanks around, a sign, single underscores between digits, and
//  prefixes for other bases. Nothing else may stand around a number.

internal import Diagnostics
internal import Events
internal import Glibc

enum RubyLiteral {
  /// Longer texts are no numbers.
  static let limitBytes = 4096

  /// A whole number of any size; nil where the text is none. `0x`, `0b`, `0o` and a zero in front name the base.
  static func integer(_ text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits? {
    // Digits alone, without a zero in front, are what nearly every text is.
    if text.count > 0, text[0] != 48, let plain = parseInteger(text) { return .integer(plain) }
    let body = trimmed(text)
    guard body.count > 0, body.count <= limitBytes else { return nil }
    var i = 0
    let isNegative = body[0] == 45
    if isNegative || body[0] == 43 { i = 1 }
    var base: UInt32 = 10
    if i + 1 < body.count, body[i] == 48 {
      switch body[i + 1] | 32 {
      case UInt8(ascii: "x"): base = 16
      case UInt8(ascii: "b"): base = 2
      case UInt8(ascii: "o"): base = 8
      case UInt8(ascii: "d"): break
      default:
        // Underscores stand as digits do: `0_17` is octal.
        base = 8
        i -= 1
      }
      i += 2
      if base == 8, body[i - 1] == 48 { i -= 1 }
    }
    guard let digits = Digits(body, from: i, base: base) else { return nil }
    return digits.bits(isNegative: isNegative, event)
  }

  /// A number with a point or an exponent or without, also hexadecimal; nil where the text is none. Infinite where it is
  /// too large.
  static func double(_ text: UnsafeRawBufferPointer) -> Double? {
    if let plain = parseDouble(text) { return plain }
    let body = trimmed(text)
    guard body.count > 0, body.count <= limitBytes else { return nil }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: body.count + 2) { room -> Double? in
      var n = 0
      func put(_ byte: UInt8) {
        room[n] = CChar(bitPattern: byte)
        n += 1
      }
      var i = 0
      if body[0] == 43 || body[0] == 45 {
        put(body[0])
        i = 1
      }
      let isHexadecimal = i + 1 < body.count && body[i] == 48 && body[i + 1] | 32 == 120
      if isHexadecimal {
        put(48)
        put(120)
        i += 2
      }
      /// Copies digits with single underscores between them; nil where an underscore stands elsewhere.
      func digits(hexadecimal: Bool) -> Int? {
        let start = n
        while i < body.count {
          if isDigit(body[i], hexadecimal) {
            put(body[i])
          } else if body[i] == 95 {
            guard n > start, body[i - 1] != 95, i + 1 < body.count, isDigit(body[i + 1], hexadecimal) else {
              return nil
            }
          } else {
            break
          }
          i += 1
        }
        return n - start
      }
      guard let whole = digits(hexadecimal: isHexadecimal), whole > 0 || !isHexadecimal else { return nil }
      var fraction = 0
      if i < body.count, body[i] == 46 {
        put(46)
        i += 1
        guard let count = digits(hexadecimal: isHexadecimal), count > 0 else { return nil }
        fraction = count
      }
      guard whole + fraction > 0 else { return nil }
      if i < body.count, body[i] | 32 == (isHexadecimal ? 112 : 101) {
        put(body[i])
        i += 1
        if i < body.count, body[i] == 43 || body[i] == 45 {
          put(body[i])
          i += 1
        }
        guard let count = digits(hexadecimal: false), count > 0 else { return nil }
      }
      guard i == body.count, let start = room.baseAddress else { return nil }
      room[n] = 0
      return strtod(start, nil)
    }
  }

  private static func isDigit(_ byte: UInt8, _ hexadecimal: Bool) -> Bool {
    byte &- 48 < 10 || hexadecimal && (byte | 32) &- 97 < 6
  }

  /// The digits of a whole number in some base.
  private struct Digits {
    private var small: UInt64 = 0
    /// Groups of nine decimal digits, lowest first, once 64 bits are too few.
    private var groups: [UInt32] = []

    init?(_ text: UnsafeRawBufferPointer, from start: Int, base: UInt32) {
      guard start < text.count else { return nil }
      var wasUnderscore = true
      for i in start..<text.count {
        let byte = text[i]
        if byte == 95 {
          if wasUnderscore { return nil }
          wasUnderscore = true
          continue
        }
        wasUnderscore = false
        let digit = byte &- 48 < 10 ? UInt32(byte &- 48) : UInt32((byte | 32) &- 87)
        guard digit < base, byte &- 48 < 10 || (byte | 32) &- 97 < 6 else { return nil }
        add(digit, base)
      }
      if wasUnderscore { return nil }
    }

    private mutating func add(_ digit: UInt32, _ base: UInt32) {
      if groups.isEmpty {
        let (product, overflow) = small.multipliedReportingOverflow(by: UInt64(base))
        let (sum, carried) = product.addingReportingOverflow(UInt64(digit))
        if !overflow, !carried {
          small = sum
          return
        }
        var rest = small
        while rest > 0 {
          groups.append(UInt32(rest % 1_000_000_000))
          rest /= 1_000_000_000
        }
      }
      var carry = UInt64(digit)
      for i in groups.indices {
        let value = UInt64(groups[i]) * UInt64(base) + carry
        groups[i] = UInt32(value % 1_000_000_000)
        carry = value / 1_000_000_000
      }
      if carry > 0 { groups.append(UInt32(carry)) }
    }

    func bits(isNegative: Bool, _ event: Event) -> ValueBits {
      if groups.isEmpty {
        if small <= UInt64(Int64.max) {
          let value = Int64(small)
          return .integer(isNegative ? -value : value)
        }
        if isNegative, small == UInt64(Int64.max) + 1 { return .integer(Int64.min) }
      }
      var out = ByteBuffer(capacity: 64 + groups.count * 9)
      if isNegative { out.append(45) }
      if groups.isEmpty { out.append(text: String(small)) }
      for (i, group) in groups.reversed().enumerated() {
        if i == 0 { out.append(decimal: Int(group)) } else { out.append(decimal: Int(group), width: 9) }
      }
      return .bigInteger(staying: event.copy(out.bytes))
    }
  }
}
