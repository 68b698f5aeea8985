//  MurmurHash3, the fast hash that is no secret: for fingerprints that only have to differ.

public enum Murmur3 {
  /// The 32-bit hash, as it is made for 32-bit machines.
  public static func hash32(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
    var hash = seed
    let count = bytes.count
    var i = 0
    while i &+ 4 <= count {
      hash ^= scramble(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: i, as: UInt32.self)))
      hash = rotate(hash, 13) &* 5 &+ 0xe654_6b64
      i &+= 4
    }
    if i < count {
      var rest: UInt32 = 0
      for k in stride(from: count &- 1, through: i, by: -1) { rest = rest << 8 | UInt32(bytes[k]) }
      hash ^= scramble(rest)
    }
    hash ^= UInt32(truncatingIfNeeded: count)
    hash = (hash ^ hash >> 16) &* 0x85eb_ca6b
    hash = (hash ^ hash >> 13) &* 0xc2b2_ae35
    return hash ^ hash >> 16
  }

  private static func scramble(_ block: UInt32) -> UInt32 { rotate(block &* 0xcc9e_2d51, 15) &* 0x1b87_3593 }
  private static func rotate(_ value: UInt32, _ bits: UInt32) -> UInt32 { value << bits | value >> (32 &- bits) }

  private static let first: UInt64 = 0x87c3_7b91_1142_53d5
  private static let second: UInt64 = 0x4cf5_ad43_2745_937f

  /// The 128-bit hash, as it is made for 64-bit machines, in two halves.
  public static func hash128(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> (UInt64, UInt64) {
    var low = seed
    var high = seed
    let count = bytes.count
    var i = 0
    while i &+ 16 <= count {
      let a = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self))
      let b = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: i &+ 8, as: UInt64.self))
      low ^= rotate(a &* first, 31) &* second
      low = (rotate(low, 27) &+ high) &* 5 &+ 0x52dc_e729
      high ^= rotate(b &* second, 33) &* first
      high = (rotate(high, 31) &+ low) &* 5 &+ 0x3849_5ab5
      i &+= 16
    }
    if i < count {
      var a: UInt64 = 0
      var b: UInt64 = 0
      for k in stride(from: count &- 1, through: i, by: -1) {
        if k &- i >= 8 { b = b << 8 | UInt64(bytes[k]) } else { a = a << 8 | UInt64(bytes[k]) }
      }
      high ^= rotate(b &* second, 33) &* first
      low ^= rotate(a &* first, 31) &* second
    }
    low ^= UInt64(truncatingIfNeeded: count)
    high ^= UInt64(truncatingIfNeeded: count)
    low &+= high
    high &+= low
    low = finish(low)
    high = finish(high)
    low &+= high
    high &+= low
    return (low, high)
  }

  private static func rotate(_ value: UInt64, _ bits: UInt64) -> UInt64 { value << bits | value >> (64 &- bits) }

  private static func finish(_ value: UInt64) -> UInt64 {
    var value = (value ^ value >> 33) &* 0xff51_afd7_ed55_8ccd
    value = (value ^ value >> 33) &* 0xc4ce_b9fe_1a85_ec53
    return value ^ value >> 33
  }
}
