//  A bounded memory of answers. A few thousand user agents and addresses make up nearly all traffic, and working one out
//  costs a hundred times what finding it again does.
//
//  Four-way sets of slots; a slot points at one block that holds key and value. Reading an entry marks it, and a full
//  set gives up the first entry that was not read since the hand came by. The hash is seeded anew per process, so that
//  nobody outside can aim at one set; keys are always compared in full.

internal import CSystem
internal import Diagnostics
internal import Glibc

/// Keys of bytes with values of bytes, bounded in entries and bytes. One worker owns it; not thread-safe.
public struct FragmentCache: ~Copyable {
  /// Longer keys are not kept.
  public static let keyLimit = 2048
  private static let ways = 4

  private struct Slot {
    var hash: UInt64 = 0
    var block: UnsafeMutableRawPointer?
    var keyCount: UInt32 = 0
    var valueCount: UInt32 = 0
    var capacity: UInt32 = 0
    var wasRead = false
  }

  private let slots: UnsafeMutablePointer<Slot>
  private let setCount: Int
  private let bytesMax: Int
  private var hand = 0
  /// Bytes that the blocks hold.
  public private(set) var bytesHeld = 0

  /// - Parameters:
  ///   - entries: How many answers to keep; rounded up to a power of two, at least 4.
  ///   - bytesMax: Most bytes of all keys and values.
  public init(entries: Int, bytesMax: Int) {
    var sets = 1
    while sets * FragmentCache.ways < min(max(entries, 1), 1 << 20) { sets *= 2 }
    setCount = sets
    self.bytesMax = bytesMax
    slots = .allocate(capacity: sets * FragmentCache.ways)
    slots.initialize(repeating: Slot(), count: sets * FragmentCache.ways)
  }

  deinit {
    for i in 0..<setCount * FragmentCache.ways { free(slots[i].block) }
    slots.deallocate()
  }

  /// The value of `key`, good until the next `insert`; nil where it is not kept.
  @inline(__always)
  public borrowing func find(_ key: UnsafeRawBufferPointer, hash: UInt64) -> UnsafeRawBufferPointer? {
    let set = slots + Int(truncatingIfNeeded: hash) & (setCount &- 1) &* FragmentCache.ways
    for way in 0..<FragmentCache.ways where set[way].hash == hash {
      guard let block = set[way].block, Int(set[way].keyCount) == key.count else { continue }
      if let start = key.baseAddress, memcmp(block, start, key.count) != 0 { continue }
      set[way].wasRead = true
      return UnsafeRawBufferPointer(start: block + key.count, count: Int(set[way].valueCount))
    }
    return nil
  }

  /// Keeps `value` for `key`, in place of an entry that was not read lately. Keys and values that are too long are not
  /// kept.
  public mutating func insert(_ key: UnsafeRawBufferPointer, hash: UInt64, _ value: UnsafeRawBufferPointer) {
    let size = key.count + value.count
    guard key.count <= FragmentCache.keyLimit, size <= min(bytesMax, 1 << 16) else { return }
    let set = slots + Int(truncatingIfNeeded: hash) & (setCount &- 1) &* FragmentCache.ways
    var way = 0
    while way < FragmentCache.ways, set[way].block != nil { way += 1 }
    if way == FragmentCache.ways {
      way = hand & (FragmentCache.ways - 1)
      while set[way].wasRead {
        set[way].wasRead = false
        way = (way + 1) & (FragmentCache.ways - 1)
      }
      hand = way + 1
    }
    if set[way].block == nil || Int(set[way].capacity) < size || Int(set[way].capacity) > size * 2 + 64 {
      release(set + way)
      var sweep = 0
      while bytesHeld + size > bytesMax, sweep < setCount * FragmentCache.ways {
        release(slots + (Int(truncatingIfNeeded: hash >> 32) &+ sweep) & (setCount * FragmentCache.ways - 1))
        sweep += 1
      }
      guard let block = malloc(max(size, 1)) else { return }
      set[way].block = block
      set[way].capacity = UInt32(size)
      bytesHeld += size
    }
    guard let block = set[way].block else { return }
    if let start = key.baseAddress { memcpy(block, start, key.count) }
    if let start = value.baseAddress { memcpy(block + key.count, start, value.count) }
    set[way].hash = hash
    set[way].keyCount = UInt32(key.count)
    set[way].valueCount = UInt32(value.count)
    set[way].wasRead = false
  }

  /// Forgets everything; what `find` gave before is no longer good.
  public mutating func removeAll() { for i in 0..<setCount * FragmentCache.ways { release(slots + i) } }

  private mutating func release(_ slot: UnsafeMutablePointer<Slot>) {
    guard slot.pointee.block != nil else { return }
    free(slot.pointee.block)
    bytesHeld -= Int(slot.pointee.capacity)
    slot.pointee = Slot()
  }
}

/// A hash of bytes for tables of this process, seeded at its start.
enum SeededHash {
  private static let seed: UInt64 = {
    var seed: UInt64 = 0
    // Without randomness the tables still work; they are only easier to aim at.
    if sys_getrandom(&seed, 8) != 0 { seed = UInt64(truncatingIfNeeded: WallClock.ns) }
    return seed | 1
  }()
  static let start = seed

  @inline(__always)
  static func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let (high, low) = a.multipliedFullWidth(by: b)
    return high ^ low
  }

  @inline(__always)
  static func of(_ text: UnsafeRawBufferPointer, seed: UInt64 = start) -> UInt64 {
    guard let base = text.baseAddress else { return seed }
    var hash = seed ^ UInt64(truncatingIfNeeded: text.count) &* 0x9E37_79B9_7F4A_7C15
    var i = 0
    while i &+ 16 <= text.count {
      let a = base.loadUnaligned(fromByteOffset: i, as: UInt64.self)
      let b = base.loadUnaligned(fromByteOffset: i &+ 8, as: UInt64.self)
      hash = mix(a ^ 0xA076_1D64_78BD_642F, b ^ hash)
      i &+= 16
    }
    var rest: (UInt64, UInt64) = (0, 0)
    if i &+ 8 <= text.count {
      rest.0 = base.loadUnaligned(fromByteOffset: i, as: UInt64.self)
      i &+= 8
    }
    var shift: UInt64 = 0
    while i < text.count {
      rest.1 |= UInt64(base.load(fromByteOffset: i, as: UInt8.self)) &<< shift
      shift &+= 8
      i &+= 1
    }
    return mix(rest.0 ^ 0xE703_7ED1_A0B4_28DB, rest.1 ^ hash) ^ hash &* 0x8EBC_6AF0_9C88_C6E3
  }

  @inline(__always)
  static func of(_ address: IPAddress) -> UInt64 {
    mix(
      UInt64(truncatingIfNeeded: address.value) ^ start,
      UInt64(truncatingIfNeeded: address.value >> 64) ^ 0xA076_1D64_78BD_642F ^ (address.isV4 ? 1 : 0))
  }
}
