//  The formats of the date filter that count: seconds and milliseconds since 1970, and the labels of TAI64N.

enum DateEpoch {
  /// Seconds above this are taken for milliseconds by mistake, and refused.
  private static let maxSeconds: Int64 = 2_147_483_647

  /// `1741504364`, `1741504364.120999`: digits below a millisecond are cut, and a fraction always counts forwards.
  static func seconds(_ p: UnsafeRawPointer, _ count: Int) -> Timestamp? {
    var i = 0
    guard let whole = integer(p, count, &i), whole <= maxSeconds else { return nil }
    var time = Timestamp(seconds: whole)
    if i == count { return time }
    guard byte(p, i) == UInt8(ascii: "."), i &+ 1 < count else { return nil }
    i &+= 1
    var unit: UInt32 = 100_000_000
    while i < count {
      guard byte(p, i) &- 48 <= 9 else { return nil }
      if unit >= 1_000_000 { time.nanos &+= UInt32(byte(p, i) &- 48) &* unit }
      unit /= 10
      i &+= 1
    }
    return time
  }

  static func seconds(_ value: Int64) -> Timestamp? { value <= maxSeconds ? Timestamp(seconds: value) : nil }

  static func seconds(_ value: Double) -> Timestamp? {
    guard value <= Double(maxSeconds) else { return nil }
    return milliseconds(value * 1000)
  }

  /// `1741504364120`.
  static func milliseconds(_ p: UnsafeRawPointer, _ count: Int) -> Timestamp? {
    var i = 0
    guard let value = integer(p, count, &i), i == count else { return nil }
    return Timestamp(milliseconds: value)
  }

  static func milliseconds(_ value: Double) -> Timestamp? {
    Int64(exactly: value.rounded(.towardZero)).map { Timestamp(milliseconds: $0) }
  }

  /// `@4000000067cd3f7607270e00`: 16 hex digits of seconds, 8 of nanoseconds.
  static func tai64n(_ p: UnsafeRawPointer, _ count: Int) -> Timestamp? {
    let start = count > 0 && byte(p, 0) == UInt8(ascii: "@") ? 1 : 0
    guard count &- start == 24 else { return nil }
    var seconds: UInt64 = 0
    var nanos: UInt64 = 0
    for i in 0..<24 {
      let character = byte(p, start &+ i)
      let letter = (character | 32) &- UInt8(ascii: "a")
      let digit: UInt8
      if character &- 48 <= 9 {
        digit = character &- 48
      } else if letter < 6 {
        digit = letter &+ 10
      } else {
        return nil
      }
      if i < 16 { seconds = seconds << 4 | UInt64(digit) } else { nanos = nanos << 4 | UInt64(digit) }
    }
    // The first digit marks the epoch; ten seconds lie between TAI and UTC of 1970.
    let whole = Int64(bitPattern: seconds & 0xfff_ffff_ffff_ffff) &- 10
    let milliseconds = nanos / 1_000_000
    return Timestamp(
      seconds: whole &+ Int64(milliseconds / 1000), nanos: UInt32(truncatingIfNeeded: milliseconds % 1000) &* 1_000_000)
  }

  /// Digits with a sign; nil without a digit or outside of 64 bits.
  private static func integer(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int) -> Int64? {
    guard count > 0 else { return nil }
    let negative = byte(p, 0) == UInt8(ascii: "-")
    if negative || byte(p, 0) == UInt8(ascii: "+") { i = 1 }
    let start = i
    var value: Int64 = 0
    while i < count {
      let digit = byte(p, i) &- 48
      if digit > 9 { break }
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carried) = product.subtractingReportingOverflow(Int64(digit))
      if overflow || carried { return nil }
      value = sum
      i &+= 1
    }
    guard i > start else { return nil }
    if negative { return value }
    return value == .min ? nil : 0 &- value
  }
}
