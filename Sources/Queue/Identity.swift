//  Names of segments and records that are never given twice: not after a restart, a failed sync or a recycled file.

internal import CSystem
internal import Diagnostics
internal import Glibc

/// The name of a segment: 6 bytes of unix milliseconds, then 5 random bytes, so that names sort by time.
public struct SegmentIdentity: Hashable, Sendable, Comparable {
  public static let byteCount = 11
  /// The first 8 bytes and the last 3, big-endian.
  let high: UInt64
  let low: UInt32

  init(high: UInt64, low: UInt32) {
    self.high = high
    self.low = low & 0xff_ffff
  }

  /// A fresh identity.
  static func draw() -> SegmentIdentity {
    var random: UInt64 = 0
    // Without the kernel's random bytes (early boot, no entropy) the monotonic clock's nanoseconds have to do.
    if sys_getrandom(&random, 8) != 0 { random = UInt64(bitPattern: Instant.now.ns) &* 0x9e37_79b9_7f4a_7c15 }
    let milliseconds = UInt64(clamping: WallClock.ns / 1_000_000) & 0xffff_ffff_ffff
    return SegmentIdentity(high: milliseconds << 16 | random & 0xffff, low: UInt32(truncatingIfNeeded: random >> 16))
  }

  init(bytes: UnsafeRawPointer) {
    high = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
    low =
      UInt32(bytes.load(fromByteOffset: 8, as: UInt8.self)) << 16
      | UInt32(bytes.load(fromByteOffset: 9, as: UInt8.self)) << 8
      | UInt32(bytes.load(fromByteOffset: 10, as: UInt8.self))
  }

  func store(to bytes: UnsafeMutableRawPointer) {
    bytes.storeBytes(of: high.bigEndian, as: UInt64.self)
    bytes.storeBytes(of: UInt8(truncatingIfNeeded: low >> 16), toByteOffset: 8, as: UInt8.self)
    bytes.storeBytes(of: UInt8(truncatingIfNeeded: low >> 8), toByteOffset: 9, as: UInt8.self)
    bytes.storeBytes(of: UInt8(truncatingIfNeeded: low), toByteOffset: 10, as: UInt8.self)
  }

  public var bytes: [UInt8] {
    withUnsafeTemporaryAllocation(byteCount: 16, alignment: 16) { room in
      guard let base = room.baseAddress else { return [] }
      store(to: base)
      return Array(room[..<SegmentIdentity.byteCount])
    }
  }

  /// Unix milliseconds at which the segment was begun.
  public var milliseconds: Int64 { Int64(high >> 16) }
  /// What every checksum of the segment starts from.
  var checksumSeed: UInt32 {
    var text = (high.bigEndian, low.bigEndian)
    return sys_crc32c(0x51c3_0001, &text, 12)
  }

  public static func < (left: SegmentIdentity, right: SegmentIdentity) -> Bool {
    (left.high, left.low) < (right.high, right.low)
  }
}

/// The name of a record: its segment's identity and its number there. 15 bytes, or 20 characters of base64url.
public struct RecordIdentity: Hashable, Sendable, CustomStringConvertible, Comparable {
  public static let textByteCount = 20
  public let segment: SegmentIdentity
  public let index: UInt32

  public init(segment: SegmentIdentity, index: UInt32) {
    self.segment = segment
    self.index = index
  }

  /// Writes the 20 characters to `text`, which must have room for them. Allocates nothing.
  @inline(__always)
  public func writeText(to text: UnsafeMutablePointer<UInt8>) {
    // 120 bits as five groups of 24.
    let second = segment.high << 40 | UInt64(segment.low) << 16 | UInt64(index >> 16)
    writeGroup(segment.high >> 40, text)
    writeGroup(segment.high >> 16, text + 4)
    writeGroup(second >> 32, text + 8)
    writeGroup(second >> 8, text + 12)
    writeGroup(UInt64(index), text + 16)
  }

  @inline(__always)
  private func writeGroup(_ bits: UInt64, _ text: UnsafeMutablePointer<UInt8>) {
    text[0] = character(bits >> 18)
    text[1] = character(bits >> 12)
    text[2] = character(bits >> 6)
    text[3] = character(bits)
  }

  @inline(__always)
  private func character(_ bits: UInt64) -> UInt8 {
    let value = UInt8(truncatingIfNeeded: bits & 63)
    switch value {
    case 0..<26: return value &+ 65
    case 26..<52: return value &+ 71
    case 52..<62: return value &- 4
    case 62: return UInt8(ascii: "-")
    default: return UInt8(ascii: "_")
    }
  }

  public var text: String {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: RecordIdentity.textByteCount) { room in
      guard let base = room.baseAddress else { return "" }
      writeText(to: base)
      return String(decoding: room, as: UTF8.self)
    }
  }

  public var description: String { text }

  /// - Returns: nil unless `text` is 20 characters of base64url.
  public init?(text: some Sequence<UInt8>) {
    var high: UInt64 = 0
    var low: UInt64 = 0
    var count = 0
    for byte in text {
      let value: UInt64
      switch byte {
      case 65...90: value = UInt64(byte) - 65
      case 97...122: value = UInt64(byte) - 71
      case 48...57: value = UInt64(byte) + 4
      case UInt8(ascii: "-"): value = 62
      case UInt8(ascii: "_"): value = 63
      default: return nil
      }
      // The first 60 bits go to `high`, the last 60 to `low`.
      if count < 10 { high = high << 6 | value } else { low = low << 6 | value }
      count += 1
      if count > RecordIdentity.textByteCount { return nil }
    }
    guard count == RecordIdentity.textByteCount else { return nil }
    // 120 bits: 64 of the identity's front, 24 of its end, 32 of the index.
    segment = SegmentIdentity(high: high << 4 | low >> 56, low: UInt32(truncatingIfNeeded: low >> 32) & 0xff_ffff)
    index = UInt32(truncatingIfNeeded: low)
  }

  /// An id that no record has, for what never was one.
  public static func draw() -> RecordIdentity { RecordIdentity(segment: .draw(), index: 0) }

  public static func < (left: RecordIdentity, right: RecordIdentity) -> Bool {
    (left.segment, left.index) < (right.segment, right.index)
  }
}

/// A place in a queue: the segment's number and the record's number in it.
struct Position: Hashable, Comparable, Sendable {
  var segment: UInt64
  var index: UInt32

  static func < (left: Position, right: Position) -> Bool {
    (left.segment, left.index) < (right.segment, right.index)
  }
}
