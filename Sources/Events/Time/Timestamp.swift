//  A moment in UTC with nanoseconds: what `@timestamp` holds. It prints itself as ISO 8601, without a calendar object,
//  a formatter or an allocation.

public import Diagnostics

/// A moment: whole seconds since 1970-01-01T00:00:00Z, rounded down, and the nanoseconds behind them.
///
/// Any value of `seconds` prints and compares without a trap; readers of text accept years within ±999,999,999.
public struct Timestamp: Hashable, Comparable, Sendable {
  public var seconds: Int64
  /// 0…999,999,999.
  public var nanos: UInt32

  @inline(__always)
  public init(seconds: Int64, nanos: UInt32 = 0) {
    self.seconds = seconds
    self.nanos = nanos
  }

  /// From milliseconds since 1970-01-01T00:00:00Z; negative ones lie before it.
  public init(milliseconds: Int64) {
    let (seconds, rest) = floorDivide(milliseconds, 1000)
    self.init(seconds: seconds, nanos: UInt32(truncatingIfNeeded: rest) &* 1_000_000)
  }

  /// From nanoseconds since 1970-01-01T00:00:00Z, as `WallClock.ns` gives them.
  public init(ns nanoseconds: Int64) {
    let (seconds, rest) = floorDivide(nanoseconds, 1_000_000_000)
    self.init(seconds: seconds, nanos: UInt32(truncatingIfNeeded: rest))
  }

  /// Nanoseconds since 1970-01-01T00:00:00Z; the first or last that there are for years before 1678 and after 2261.
  public var nsClamped: Int64 {
    let (whole, isTooFar) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    let (sum, isBeyond) = whole.addingReportingOverflow(Int64(nanos))
    return isTooFar || isBeyond ? (seconds < 0 ? .min : .max) : sum
  }

  public static var now: Timestamp { Timestamp(ns: WallClock.ns) }

  /// The first and last moment of the years -999,999,999 and 999,999,999.
  public static let earliest = Timestamp(seconds: -31_557_014_135_596_800)
  public static let latest = Timestamp(seconds: 31_556_889_832_780_799, nanos: 999_999_999)

  @inline(__always)
  public static func < (left: Timestamp, right: Timestamp) -> Bool {
    left.seconds < right.seconds || (left.seconds == right.seconds && left.nanos < right.nanos)
  }

  /// The same moment without what lies below a millisecond.
  public var cutToMilliseconds: Timestamp {
    Timestamp(seconds: seconds, nanos: nanos / 1_000_000 &* 1_000_000)
  }

  /// The UTC day, counted from 1970-01-01, and the second within it, 0…86,399.
  @inline(__always)
  var dayAndSecond: (day: Int, second: Int) {
    let (day, second) = floorDivide(seconds, 86_400)
    return (Int(day), Int(second))
  }
}

/// Quotient rounded down, and the rest that belongs to it, which is never negative.
@inline(__always)
func floorDivide(_ value: Int64, _ divisor: Int64) -> (quotient: Int64, rest: Int64) {
  var quotient = value / divisor
  var rest = value &- quotient &* divisor
  let below = rest >> 63
  quotient &+= below
  rest &+= divisor & below
  return (quotient, rest)
}

// MARK: - Text

/// Two decimal digits in memory order, for a value below 100.
@inline(__always)
func twoDigits(_ value: UInt32) -> UInt16 {
  let tens = (value &* 103) >> 10
  return UInt16(truncatingIfNeeded: 0x3030 &+ tens &+ ((value &- tens &* 10) << 8))
}

extension UnsafeMutableRawPointer {
  /// Stores two decimal digits of a value below 100 at an offset.
  @inline(__always)
  func storeTwo(_ value: Int, at offset: Int) {
    storeBytes(of: twoDigits(UInt32(truncatingIfNeeded: value)).littleEndian, toByteOffset: offset, as: UInt16.self)
  }

  @inline(__always)
  func storeByte(_ byte: UInt8, at offset: Int) { storeBytes(of: byte, toByteOffset: offset, as: UInt8.self) }
}

extension Timestamp {
  /// Room that the longest ISO 8601 text needs, with some to spare.
  public static let iso8601Capacity = 48

  /// Appends `2025-03-09T07:12:44.120Z`: three, six or nine digits of the second, as many as are needed.
  @inline(__always)
  public func appendISO8601(to buffer: inout ByteBuffer) {
    buffer.reserve(Timestamp.iso8601Capacity)
    let written = writeISO8601(to: UnsafeMutableRawPointer(buffer.pointer + buffer.count))
    buffer.count &+= written
  }

  /// Writes the ISO 8601 text and returns its length. The memory must have room for `iso8601Capacity` bytes.
  public func writeISO8601(to start: UnsafeMutableRawPointer) -> Int {
    let (day, second) = dayAndSecond
    let date = CivilDate(daysSinceEpoch: day)
    var p = start
    if _fastPath(UInt(bitPattern: date.year) < 10_000) {
      let century = date.year / 100
      p.storeTwo(century, at: 0)
      p.storeTwo(date.year &- century &* 100, at: 2)
      p += 4
    } else {
      p = writeFarYear(date.year, at: p)
    }
    p.storeByte(UInt8(ascii: "-"), at: 0)
    p.storeTwo(date.month, at: 1)
    p.storeByte(UInt8(ascii: "-"), at: 3)
    p.storeTwo(date.day, at: 4)
    p.storeByte(UInt8(ascii: "T"), at: 6)
    let minuteOfDay = second / 60
    let hour = minuteOfDay / 60
    p.storeTwo(hour, at: 7)
    p.storeByte(UInt8(ascii: ":"), at: 9)
    p.storeTwo(minuteOfDay &- hour &* 60, at: 10)
    p.storeByte(UInt8(ascii: ":"), at: 12)
    p.storeTwo(second &- minuteOfDay &* 60, at: 13)
    p.storeByte(UInt8(ascii: "."), at: 15)
    p += 16
    let nanos = nanos < 1_000_000_000 ? nanos : 999_999_999
    let milli = nanos / 1_000_000
    p = Timestamp.storeThree(milli, at: p)
    let below = nanos &- milli &* 1_000_000
    if below != 0 {
      let micro = below / 1000
      p = Timestamp.storeThree(micro, at: p)
      let rest = below &- micro &* 1000
      if rest != 0 { p = Timestamp.storeThree(rest, at: p) }
    }
    p.storeByte(UInt8(ascii: "Z"), at: 0)
    return p - start &+ 1
  }

  @inline(__always)
  static func storeThree(_ value: UInt32, at p: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    let hundreds = value / 100
    p.storeByte(UInt8(truncatingIfNeeded: hundreds) &+ 48, at: 0)
    p.storeTwo(Int(value &- hundreds &* 100), at: 1)
    return p + 3
  }

  /// Years outside of 0…9999 carry a sign and at least four digits: `+12025`, `-0044`.
  @inline(never)
  private func writeFarYear(_ year: Int, at start: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    start.storeByte(year < 0 ? UInt8(ascii: "-") : UInt8(ascii: "+"), at: 0)
    var digits = 4
    var bound: UInt = 10_000
    let magnitude = year.magnitude
    while magnitude >= bound, digits < 18 {
      digits &+= 1
      bound &*= 10
    }
    var rest = magnitude
    for offset in stride(from: digits, to: 0, by: -1) {
      start.storeByte(UInt8(truncatingIfNeeded: rest % 10) &+ 48, at: offset)
      rest /= 10
    }
    return start + digits + 1
  }

  /// The ISO 8601 text as a `String`, for logs and tests.
  public var iso8601: String {
    withUnsafeTemporaryAllocation(byteCount: Timestamp.iso8601Capacity, alignment: 1) { room -> String in
      guard let start = room.baseAddress else { return "" }
      let count = writeISO8601(to: start)
      return String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }
  }
}

extension Timestamp: CustomStringConvertible {
  public var description: String { iso8601 }
}
