//  convert: texts to numbers and back, by Ruby's rules of what reads as a number.

internal import Config
internal import Diagnostics
internal import Events

/// What `convert` turns a value into. With `_eu`, comma and dot of a text are exchanged first.
enum NumberType: String, OptionEnum {
  case integer, float, string, boolean
  case integerEU = "integer_eu"
  case floatEU = "float_eu"
}

final class Convert: Change, @unchecked Sendable {
  private let field: FieldReference
  private let type: NumberType

  init(_ field: FieldReference, _ type: NumberType) {
    self.field = field
    self.type = type
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let value = event.value(field) else { return true }
    switch value.kind {
    case .null, .map: return true
    case .list:
      let list = event.makeList()
      var child = value.first
      while let element = child {
        guard let bits = convert(element, event, inList: true) else { return false }
        list.append(bits)
        child = element.next
      }
      return event.write(field, list.bits)
    default:
      guard let bits = convert(value, event, inList: false) else { return false }
      return event.write(field, bits)
    }
  }

  /// Nil where the value cannot be converted.
  private func convert(_ value: Value, _ event: Event, inList: Bool) -> ValueBits? {
    if value.isNull { return .null }
    switch type {
    case .integer, .integerEU: return integer(value, event)
    case .float, .floatEU: return float(value)
    case .boolean: return boolean(value)
    case .string: return value.isText ? value.bits : event.makeText { value.appendRubyText(to: &$0) }
    }
  }

  private func integer(_ value: Value, _ event: Event) -> ValueBits? {
    switch value.kind {
    case .integer, .bigInteger: return value.bits
    case .boolean: return .integer(value.boolean == true ? 1 : 0)
    case .double: return whole(value.double ?? 0, event)
    case .text:
      guard let text = value.text else { return nil }
      if type == .integer, let short = shortInteger(text) { return .integer(short) }
      return RubyNumber.withNumber(text, swapsMarks: type == .integerEU) { number, digits in
        if let hexadecimal = number.hexadecimal { return .integer(hexadecimal) }
        if number.hasPoint { return parseDouble(digits).flatMap { whole($0, event) } }
        if number.hasExponent { return nil }
        if let small = parseInteger(digits) { return .integer(small) }
        return .bigInteger(staying: event.copy(digits))
      }
    default: return nil
    }
  }

  /// Digits alone, which is what nearly every text is.
  private func shortInteger(_ text: UnsafeRawBufferPointer) -> Int64? {
    guard text.count > 0, text.count <= 18 else { return nil }
    var result: Int64 = 0
    for byte in text {
      let digit = byte &- 48
      if digit > 9 { return nil }
      result = result &* 10 &+ Int64(digit)
    }
    return result
  }

  private func whole(_ value: Double, _ event: Event) -> ValueBits? {
    guard value.isFinite else { return nil }
    let truncated = value.rounded(.towardZero)
    if let small = Int64(exactly: truncated) { return .integer(small) }
    return .bigInteger(staying: decimalDigits(of: truncated).withUnsafeBytes { event.copy($0) })
  }

  private func float(_ value: Value) -> ValueBits? {
    switch value.kind {
    case .double: return value.bits
    case .integer, .bigInteger: return value.number.map { .double($0) }
    case .boolean: return .double(value.boolean == true ? 1 : 0)
    case .text:
      guard let text = value.text else { return nil }
      if type == .float, let plain = parseDouble(text) { return .double(plain) }
      return RubyNumber.withNumber(text, swapsMarks: type == .floatEU) { number, digits in
        if let hexadecimal = number.hexadecimal { return .double(Double(hexadecimal)) }
        return parseDouble(digits).map { .double($0) }
      }
    default: return nil
    }
  }

  private static let truths: [StaticString] = ["1", "t", "y", "yes", "true", "1.0"]
  private static let lies: [StaticString] = ["", "0", "f", "n", "no", "false", "0.0"]

  /// What is neither true nor false stays as it is.
  private func boolean(_ value: Value) -> ValueBits {
    switch value.kind {
    case .integer:
      if value.integer == 1 { return .boolean(true) }
      if value.integer == 0 { return .boolean(false) }
    case .double:
      if value.double == 1 { return .boolean(true) }
      if value.double == 0 { return .boolean(false) }
    case .text:
      guard let text = value.text, text.count <= 5 else { break }
      if Convert.truths.contains(where: { Convert.equals(text, $0) }) { return .boolean(true) }
      if Convert.lies.contains(where: { Convert.equals(text, $0) }) { return .boolean(false) }
    default: break
    }
    return value.bits
  }

  private static func equals(_ text: UnsafeRawBufferPointer, _ word: StaticString) -> Bool {
    guard text.count == word.utf8CodeUnitCount else { return false }
    for i in 0..<text.count {
      let byte = text[i]
      if (byte &- 65 < 26 ? byte | 32 : byte) != word.utf8Start[i] { return false }
    }
    return true
  }
}

/// A text as Ruby's Integer() and Float() read it: blanks around, a sign, single underscores between digits, commas left
/// out, hexadecimal whole numbers.
struct RubyNumber {
  var hasPoint = false
  var hasExponent = false
  var hexadecimal: Int64?

  static let limitBytes = 4096

  /// Calls `body` with the number as JSON writes it; nil where the text is no number.
  static func withNumber(
    _ text: UnsafeRawBufferPointer, swapsMarks: Bool, _ body: (RubyNumber, UnsafeRawBufferPointer) -> ValueBits?
  ) -> ValueBits? {
    guard text.count <= limitBytes else { return nil }
    return withUnsafeTemporaryAllocation(byteCount: text.count + 3, alignment: 1) { room -> ValueBits? in
      guard let out = room.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return nil }
      // First without the thousands' marks, so that underscores and digits become neighbours.
      var count = 0
      for byte in text {
        var byte = byte
        if swapsMarks { byte = byte == 44 ? 46 : byte == 46 ? 44 : byte }
        if byte == 44 { continue }
        out[count] = byte
        count += 1
      }
      var number = RubyNumber()
      guard let length = number.normalize(out, count) else { return nil }
      return body(number, UnsafeRawBufferPointer(start: out, count: length))
    }
  }

  /// Rewrites the number in place as JSON writes it. The result is never longer than the text and two bytes.
  private mutating func normalize(_ p: UnsafeMutablePointer<UInt8>, _ all: Int) -> Int? {
    var count = all
    var i = 0
    while i < count, isSpace(p[i]) { i += 1 }
    while count > i, isSpace(p[count - 1]) { count -= 1 }
    var isNegative = false
    if i < count, p[i] == 43 || p[i] == 45 {
      isNegative = p[i] == 45
      i += 1
    }
    if count - i > 2, p[i] == 48, p[i + 1] | 32 == 120 { return hexadecimal(p, i + 2, count, isNegative) }
    // The parts, as ranges of the text; what is written is collected behind them in a second pass.
    var whole: [UInt8] = []
    var fraction: [UInt8] = []
    var exponent: [UInt8] = []
    guard RubyNumber.digits(p, &i, count, into: &whole) else { return nil }
    if i < count, p[i] == 46 {
      hasPoint = true
      i += 1
      guard RubyNumber.digits(p, &i, count, into: &fraction), !fraction.isEmpty else { return nil }
    }
    guard !whole.isEmpty || !fraction.isEmpty else { return nil }
    if i < count, p[i] | 32 == 101 {
      hasExponent = true
      i += 1
      if i < count, p[i] == 43 || p[i] == 45 {
        if p[i] == 45 { exponent.append(45) }
        i += 1
      }
      let sign = exponent.count
      guard RubyNumber.digits(p, &i, count, into: &exponent), exponent.count > sign else { return nil }
    }
    guard i == count else { return nil }
    var n = 0
    func put(_ byte: UInt8) {
      p[n] = byte
      n += 1
    }
    let significant = whole.drop { $0 == 48 }
    if isNegative, !significant.isEmpty || hasPoint || hasExponent { put(45) }
    if significant.isEmpty { put(48) } else { significant.forEach(put) }
    if hasPoint {
      put(46)
      fraction.forEach(put)
    }
    if hasExponent {
      put(101)
      exponent.forEach(put)
    }
    return n
  }

  private mutating func hexadecimal(
    _ p: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ isNegative: Bool
  ) -> Int? {
    var value: Int64 = 0
    for i in start..<end {
      let digit: UInt8
      switch p[i] {
      case 48...57: digit = p[i] - 48
      case 65...70: digit = p[i] - 55
      case 97...102: digit = p[i] - 87
      default: return nil
      }
      let (product, overflow) = value.multipliedReportingOverflow(by: 16)
      if overflow { return nil }
      value = product | Int64(digit)
    }
    hexadecimal = isNegative ? -value : value
    return 0
  }

  /// Digits with single underscores between them. False where an underscore stands elsewhere.
  private static func digits(
    _ p: UnsafeMutablePointer<UInt8>, _ i: inout Int, _ count: Int, into digits: inout [UInt8]
  ) -> Bool {
    var isFirst = true
    while i < count {
      if p[i] &- 48 <= 9 {
        digits.append(p[i])
        isFirst = false
        i += 1
      } else if p[i] == 95 {
        guard !isFirst, i + 1 < count, p[i + 1] &- 48 <= 9 else { return false }
        i += 1
      } else {
        break
      }
    }
    return true
  }
}

/// The exact decimal digits of a whole number beyond 64 bits.
func decimalDigits(of value: Double) -> [UInt8] {
  // Groups of nine digits, lowest first; the mantissa is doubled up to its exponent.
  var groups: [UInt32] = []
  var rest = value.magnitude.significandBitPattern | 1 << 52
  while rest > 0 {
    groups.append(UInt32(rest % 1_000_000_000))
    rest /= 1_000_000_000
  }
  for _ in 0..<max(0, Int(value.exponent) - 52) {
    var carry: UInt32 = 0
    for i in groups.indices {
      let doubled = groups[i] * 2 + carry
      groups[i] = doubled % 1_000_000_000
      carry = doubled / 1_000_000_000
    }
    if carry > 0 { groups.append(carry) }
  }
  var out = ByteBuffer()
  if value < 0 { out.append(45) }
  for (i, group) in groups.reversed().enumerated() {
    if i == 0 { out.append(decimal: Int(group)) } else { out.append(decimal: Int(group), width: 9) }
  }
  return out.array()
}
