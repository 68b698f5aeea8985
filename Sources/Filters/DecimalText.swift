//  Decimal numbers as texts, as Java reads them: a sign, digits with a point anywhere, an exponent. What JSON refuses,
//  `+3`, `.5` and `5.`, counts here.

internal import Diagnostics
internal import Events

enum DecimalText {
  /// Longer texts are no numbers.
  static let limitBytes = 4096
  /// Most digits of a whole number that an exponent may make.
  static let digitLimit = 1024

  /// The whole part of the number, of any size; nil where the text is no number.
  static func integer(_ text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits? {
    if let short = parseInteger(text) { return .integer(short) }
    guard let number = Scan(text) else { return nil }
    // The digits in a row, and how many of them stand before the point.
    let whole = number.whole.count + number.exponent
    let all = number.whole.count + number.fraction.count
    guard whole <= digitLimit else { return number.isZero(text) ? .integer(0) : nil }
    guard whole > 0 else { return .integer(0) }
    return withUnsafeTemporaryAllocation(byteCount: whole + 1, alignment: 1) { room -> ValueBits? in
      var n = 0
      for i in 0..<whole {
        let digit: UInt8
        if i < number.whole.count {
          digit = text[number.whole.lowerBound + i]
        } else {
          digit = i < all ? text[number.fraction.lowerBound + i - number.whole.count] : 48
        }
        if n == 0 {
          if digit == 48 { continue }
          if number.isNegative {
            room[0] = 45
            n = 1
          }
        }
        room[n] = digit
        n += 1
      }
      if n == 0 { return .integer(0) }
      let digits = UnsafeRawBufferPointer(rebasing: room[..<n])
      if let small = parseInteger(digits) { return .integer(small) }
      return .bigInteger(staying: event.copy(digits))
    }
  }

  /// The nearest double; nil where the text is no number, or one beyond what a double holds.
  static func double(_ text: UnsafeRawBufferPointer) -> Double? {
    if let plain = parseDouble(text) { return plain.isFinite ? plain : nil }
    guard let number = Scan(text) else { return nil }
    return withUnsafeTemporaryAllocation(byteCount: text.count + 16, alignment: 1) { room -> Double? in
      var n = 0
      func put(_ byte: UInt8) {
        room[n] = byte
        n += 1
      }
      if number.isNegative { put(45) }
      let whole = text[number.whole].drop { $0 == 48 }
      if whole.isEmpty { put(48) } else { whole.forEach(put) }
      if !number.fraction.isEmpty {
        put(46)
        text[number.fraction].forEach(put)
      }
      if number.exponent != 0 {
        put(101)
        for byte in String(number.exponent).utf8 { put(byte) }
      }
      let value = parseDouble(UnsafeRawBufferPointer(rebasing: room[..<n]))
      return value.flatMap { $0.isFinite ? $0 : nil }
    }
  }

  private struct Scan {
    var isNegative = false
    var whole = 0..<0
    var fraction = 0..<0
    var exponent = 0

    init?(_ text: UnsafeRawBufferPointer) {
      guard text.count > 0, text.count <= limitBytes else { return nil }
      var i = 0
      func digits() -> Range<Int> {
        let start = i
        while i < text.count, text[i] &- 48 < 10 { i += 1 }
        return start..<i
      }
      if text[0] == 43 || text[0] == 45 {
        isNegative = text[0] == 45
        i = 1
      }
      whole = digits()
      if i < text.count, text[i] == 46 {
        i += 1
        fraction = digits()
      }
      guard !whole.isEmpty || !fraction.isEmpty else { return nil }
      if i < text.count, text[i] | 32 == 101 {
        i += 1
        var isDown = false
        if i < text.count, text[i] == 43 || text[i] == 45 {
          isDown = text[i] == 45
          i += 1
        }
        let written = digits()
        guard !written.isEmpty else { return nil }
        for j in written where exponent < 100_000_000 { exponent = exponent * 10 + Int(text[j] - 48) }
        if isDown { exponent = -exponent }
      }
      guard i == text.count else { return nil }
    }

    func isZero(_ text: UnsafeRawBufferPointer) -> Bool {
      text[whole].allSatisfy { $0 == 48 } && text[fraction].allSatisfy { $0 == 48 }
    }
  }
}

extension Event {
  /// The whole part of a number, of any size; nil for infinities and what is no number.
  func wholeNumber(_ value: Double) -> ValueBits? {
    guard value.isFinite else { return nil }
    let truncated = value.rounded(.towardZero)
    if let small = Int64(exactly: truncated) { return .integer(small) }
    return .bigInteger(staying: decimalDigits(of: truncated).withUnsafeBytes { copy($0) })
  }

  /// The text that Ruby makes of a value that is no text; nil for null. It stays until the batch is emptied.
  func rubyText(_ value: Value) -> UnsafeRawBufferPointer? {
    value.isNull ? nil : makeValue(makeText { value.appendRubyText(to: &$0) }).text
  }
}
