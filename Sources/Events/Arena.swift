//  Where the events of one batch live.
//
//  An event is a tree of 32-byte nodes in one growing array; texts are pointers into memory that stays put until the
//  batch is emptied: chunks of the arena itself, the keys of compiled references, or whatever a filter keeps alive
//  longer than the batch. So a capture of a grok expression costs one node and no bytes, an untouched JSON text is
//  written out as it came, and emptying a batch frees nothing.
//
//  A node knows its key, its next sibling and its value:
//
//      key     8 bytes   pointer (48 bits) and length (16 bits); longer keys are refused by the reader
//      hash    4         seeded hash of the key, so that a look-up compares integers
//      next    4         index of the next sibling, 0 at the end
//      a       4         length of a text, nanoseconds of a timestamp, number of children
//      kind    1         flags 1, spare 2
//      b       8         pointer of a text, integer, bits of a double, seconds, first and last child
//
//  One worker owns an arena; nothing in it is shared between threads.

public import Diagnostics
internal import Glibc

/// The types a value can have.
public enum Kind: UInt8, Sendable {
  case null, boolean, integer, double, text, timestamp, list, map
  /// An integer beyond 64 bits, kept as its digits.
  case bigInteger
}

/// A value without a place: what a node holds beside its key. 16 bytes, freely copied within its batch.
public struct ValueBits: Sendable {
  @usableFromInline var a: UInt32
  public let kind: Kind
  @usableFromInline var flags: UInt8
  @usableFromInline var b: UInt64

  @usableFromInline @inline(__always)
  init(kind: Kind, flags: UInt8 = 0, a: UInt32 = 0, b: UInt64 = 0) {
    self.kind = kind
    self.flags = flags
    self.a = a
    self.b = b
  }

  @usableFromInline static let escaped: UInt8 = 1  // a text as it stands in JSON source, with escapes
  @usableFromInline static let clean: UInt8 = 2  // a text that needs no escaping in JSON
  @usableFromInline static let raw: UInt8 = 4  // a number as it was written (pointer and length)
  @usableFromInline static let unparsed: UInt8 = 8  // a map or list as JSON source

  public static let null = ValueBits(kind: .null)
  @inline(__always) public static func boolean(_ value: Bool) -> ValueBits {
    ValueBits(kind: .boolean, b: value ? 1 : 0)
  }
  @inline(__always) public static func integer(_ value: Int64) -> ValueBits {
    ValueBits(kind: .integer, b: UInt64(bitPattern: value))
  }
  @inline(__always) public static func integer(_ value: Int) -> ValueBits { integer(Int64(value)) }
  @inline(__always) public static func double(_ value: Double) -> ValueBits {
    ValueBits(kind: .double, b: value.bitPattern)
  }
  @inline(__always) public static func timestamp(_ value: Timestamp) -> ValueBits {
    ValueBits(kind: .timestamp, a: value.nanos, b: UInt64(bitPattern: value.seconds))
  }

  /// A text whose bytes (valid UTF-8) stay in place until the batch is emptied.
  ///
  /// - Parameter isClean: True when the bytes hold no quote, backslash or control character.
  @inline(__always)
  public static func text(staying bytes: UnsafeRawBufferPointer, isClean: Bool = false) -> ValueBits {
    ValueBits(
      kind: .text, flags: isClean ? clean : 0, a: UInt32(truncatingIfNeeded: bytes.count),
      b: UInt64(UInt(bitPattern: bytes.baseAddress)))
  }

  /// An integer of any size by its digits, which stay in place until the batch is emptied.
  ///
  /// - Parameter digits: As JSON writes it: an optional minus, no leading zeros.
  public static func bigInteger(staying digits: UnsafeRawBufferPointer) -> ValueBits {
    ValueBits(
      kind: parseInteger(digits) == nil ? .bigInteger : .integer, flags: raw,
      a: UInt32(truncatingIfNeeded: digits.count), b: UInt64(UInt(bitPattern: digits.baseAddress)))
  }

  /// A text that the program itself holds.
  @inline(__always)
  public static func text(_ constant: StaticString) -> ValueBits {
    text(staying: UnsafeRawBufferPointer(start: constant.utf8Start, count: constant.utf8CodeUnitCount))
  }

  @usableFromInline var start: UnsafePointer<UInt8> {
    @inline(__always) get { UnsafePointer(bitPattern: UInt(b)) ?? emptyText }
  }
  @usableFromInline var span: UnsafeRawBufferPointer {
    @inline(__always) get { UnsafeRawBufferPointer(start: start, count: Int(a)) }
  }
  @usableFromInline var firstChild: UInt32 {
    @inline(__always) get { UInt32(truncatingIfNeeded: b) }
    @inline(__always) set { b = b & 0xffff_ffff_0000_0000 | UInt64(newValue) }
  }
  @usableFromInline var lastChild: UInt32 {
    @inline(__always) get { UInt32(truncatingIfNeeded: b >> 32) }
    @inline(__always) set { b = b & 0xffff_ffff | UInt64(newValue) << 32 }
  }
  @usableFromInline @inline(__always) func has(_ flag: UInt8) -> Bool { flags & flag != 0 }
}

/// Readable memory for texts without bytes.
@usableFromInline nonisolated(unsafe) let emptyText: UnsafePointer<UInt8> = {
  let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: 64)
  memory.initialize(repeating: 0, count: 64)
  return UnsafePointer(memory)
}()

/// A key: its bytes and their hash. Bytes stay in place as long as whoever made it says.
public struct Key: Sendable {
  @usableFromInline let word: UInt64
  @usableFromInline let hash: UInt32

  public static let limitBytes = 65_535

  /// - Parameter start: Readable for 8 bytes beyond `count`.
  @usableFromInline @inline(__always)
  init(padded start: UnsafePointer<UInt8>, count: Int) {
    word = UInt64(UInt(bitPattern: start)) & 0xffff_ffff_ffff | UInt64(truncatingIfNeeded: count) << 48
    hash = hashKey(start, count)
  }

  @usableFromInline @inline(__always)
  init(word: UInt64, hash: UInt32) {
    self.word = word
    self.hash = hash
  }

  public var count: Int { @inline(__always) get { Int(word >> 48) } }
  public var start: UnsafePointer<UInt8> {
    @inline(__always) get { UnsafePointer(bitPattern: UInt(word & 0xffff_ffff_ffff)).unsafelyUnwrapped }
  }
  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

  @usableFromInline @inline(__always)
  func equals(_ other: Key) -> Bool {
    guard hash == other.hash, word >> 48 == other.word >> 48 else { return false }
    return word == other.word || sameBytes(start, other.start, count)
  }
}

/// Seeds of the key hash, drawn at start so that nobody outside can make keys collide.
@usableFromInline let keySeeds: (UInt64, UInt64) = (.random(in: 1 ... .max), .random(in: 1 ... .max))

@usableFromInline @inline(__always)
func load8(_ p: UnsafePointer<UInt8>) -> UInt64 { UnsafeRawPointer(p).loadUnaligned(as: UInt64.self) }

/// - Parameter p: Readable for 8 bytes beyond `count`.
@usableFromInline
func hashKey(_ p: UnsafePointer<UInt8>, _ count: Int) -> UInt32 {
  var low: UInt64
  var high: UInt64
  if count <= 8 {
    low = count == 8 ? load8(p) : load8(p) & ((1 &<< UInt64(truncatingIfNeeded: count &* 8)) &- 1)
    high = 0
  } else {
    low = load8(p)
    high = load8(p + (count &- 8))
    if _slowPath(count > 16) {
      var i = 8
      while i < count &- 8 {
        let mixed = (low ^ keySeeds.1).multipliedFullWidth(by: load8(p + i) ^ keySeeds.0)
        low = mixed.high ^ mixed.low
        i &+= 8
      }
    }
  }
  let mixed = (low ^ keySeeds.0).multipliedFullWidth(
    by: high ^ keySeeds.1 ^ UInt64(truncatingIfNeeded: count) &<< 56 | 1)
  let folded = mixed.high ^ mixed.low
  return UInt32(truncatingIfNeeded: folded ^ folded >> 32)
}

@usableFromInline
struct Node {
  @usableFromInline var keyWord: UInt64
  @usableFromInline var keyHash: UInt32
  @usableFromInline var next: UInt32
  @usableFromInline var bits: ValueBits

  @usableFromInline @inline(__always)
  init(key: Key, bits: ValueBits) {
    keyWord = key.word
    keyHash = key.hash
    next = 0
    self.bits = bits
  }

  @usableFromInline var key: Key { @inline(__always) get { Key(word: keyWord, hash: keyHash) } }
}

@usableFromInline let noKey = Key(padded: emptyText, count: 0)

/// The key word of an event's own map: empty too, but at another address, by which it is known; its hash is the number
/// of the event's slot.
let rootKeyWord = UInt64(UInt(bitPattern: emptyText + 8)) & 0xffff_ffff_ffff

/// The memory of a batch. Reached through `EventBatch`, `Event` and `Value`, which carry a pointer to it.
@usableFromInline
struct Arena: ~Copyable {
  @usableFromInline var nodes: UnsafeMutablePointer<Node>
  @usableFromInline var nodeCount: UInt32
  @usableFromInline var nodeCapacity: UInt32
  /// Free bytes of the present chunk; 64 more lie readable behind `chunkEnd`.
  @usableFromInline var free: UnsafeMutablePointer<UInt8>
  @usableFromInline var chunkEnd: UnsafeMutablePointer<UInt8>
  @usableFromInline var chunk: Int
  @usableFromInline var chunks: [(start: UnsafeMutablePointer<UInt8>, size: Int)]
  @usableFromInline var slots: UnsafeMutablePointer<EventSlot>
  @usableFromInline var slotCount: Int
  @usableFromInline var slotCapacity: Int
  /// `Event.indexSize` entries for each slot.
  @usableFromInline var indexes: UnsafeMutablePointer<UInt32>
  /// Events that the running filter made, with the event they follow.
  @usableFromInline var spawned: [(event: Int32, after: Int32)]
  /// Working memory of text making; never held across calls.
  /// It lies outside this struct, so that text can be read from the arena while the buffer is written.
  @usableFromInline let scratch: UnsafeMutablePointer<ByteBuffer>

  /// Knows the ids of the records that the events came from.
  var recordIDs: (any RecordIDs)?

  /// Working memory of the JSON reader.
  var frames: UnsafeMutablePointer<JSONFrame>
  var frameCapacity: Int

  static let slack = 64
  static let chunkSize = 1 << 20
  /// What an emptied arena keeps; more is given back, so that one huge batch does not stay for ever.
  static let keptBytes = 8 << 20

  init() {
    nodeCapacity = 4096
    nodes = .allocate(capacity: Int(nodeCapacity))
    nodeCount = 1  // index 0 means none
    let first = UnsafeMutablePointer<UInt8>.allocate(capacity: Arena.chunkSize + Arena.slack)
    first.initialize(repeating: 0, count: Arena.slack)
    chunks = [(first, Arena.chunkSize)]
    free = first
    chunkEnd = first + Arena.chunkSize
    chunk = 0
    slotCapacity = 256
    slots = .allocate(capacity: slotCapacity)
    indexes = .allocate(capacity: slotCapacity * Event.indexSize)
    slotCount = 0
    spawned = []
    scratch = .allocate(capacity: 1)
    scratch.initialize(to: ByteBuffer(capacity: 4096))
    frameCapacity = 64
    frames = .allocate(capacity: frameCapacity)
  }

  func deallocate() {
    nodes.deallocate()
    slots.deallocate()
    indexes.deallocate()
    frames.deallocate()
    scratch.deinitialize(count: 1)
    scratch.deallocate()
    for chunk in chunks { chunk.start.deallocate() }
  }

  mutating func removeAll() {
    nodeCount = 1
    slotCount = 0
    spawned.removeAll(keepingCapacity: true)
    recordIDs = nil
    var held = 0
    var kept = 0
    for chunk in chunks {
      held += chunk.size
      if held > Arena.keptBytes, kept > 0 { break }
      kept += 1
    }
    for chunk in chunks[kept...] { chunk.start.deallocate() }
    chunks.removeSubrange(kept...)
    if chunks[0].size > Arena.keptBytes {
      chunks[0].start.deallocate()
      chunks[0] = (.allocate(capacity: Arena.chunkSize + Arena.slack), Arena.chunkSize)
    }
    chunk = 0
    free = chunks[0].start
    chunkEnd = free + chunks[0].size
    if nodeCapacity > 1 << 18 {
      nodes.deallocate()
      nodeCapacity = 4096
      nodes = .allocate(capacity: Int(nodeCapacity))
    }
    scratch.pointee.shrink(to: 1 << 20)
  }

  /// Bytes that stay until the batch is emptied; 64 more are readable behind them.
  @usableFromInline @inline(__always)
  mutating func allocate(_ count: Int) -> UnsafeMutablePointer<UInt8> {
    if _slowPath(chunkEnd - free < count) { nextChunk(count) }
    let start = free
    free = start + count
    return start
  }

  @usableFromInline @inline(never)
  mutating func nextChunk(_ count: Int) {
    while chunk + 1 < chunks.count {
      chunk += 1
      if chunks[chunk].size >= count {
        free = chunks[chunk].start
        chunkEnd = free + chunks[chunk].size
        return
      }
    }
    let size = max(Arena.chunkSize, count)
    let start = UnsafeMutablePointer<UInt8>.allocate(capacity: size + Arena.slack)
    chunks.append((start, size))
    chunk = chunks.count - 1
    free = start
    chunkEnd = start + size
  }

  @usableFromInline @inline(__always)
  mutating func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    guard let source = bytes.baseAddress, bytes.count > 0 else {
      return UnsafeRawBufferPointer(start: emptyText, count: 0)
    }
    let start = allocate(bytes.count)
    memcpy(start, source, bytes.count)
    return UnsafeRawBufferPointer(start: start, count: bytes.count)
  }

  @usableFromInline @inline(__always)
  mutating func makeNode(_ key: Key, _ bits: ValueBits) -> UInt32 {
    if _slowPath(nodeCount == nodeCapacity) { growNodes() }
    let i = nodeCount
    (nodes + Int(i)).initialize(to: Node(key: key, bits: bits))
    nodeCount = i &+ 1
    return i
  }

  @usableFromInline @inline(never)
  mutating func growNodes() {
    let larger = UnsafeMutablePointer<Node>.allocate(capacity: Int(nodeCapacity) * 2)
    larger.moveInitialize(from: nodes, count: Int(nodeCount))
    nodes.deallocate()
    nodes = larger
    nodeCapacity *= 2
  }

  mutating func growFrames() {
    let larger = UnsafeMutablePointer<JSONFrame>.allocate(capacity: frameCapacity * 2)
    larger.update(from: frames, count: frameCapacity)
    frames.deallocate()
    frames = larger
    frameCapacity *= 2
  }

  @usableFromInline @inline(__always)
  func node(_ i: UInt32) -> UnsafeMutablePointer<Node> { nodes + Int(i) }

  /// Appends `child` to the map or list `parent`.
  @usableFromInline @inline(__always)
  func link(_ child: UInt32, to parent: UInt32) {
    let p = node(parent)
    if p.pointee.bits.a == 0 {
      p.pointee.bits.firstChild = child
    } else {
      node(p.pointee.bits.lastChild).pointee.next = child
    }
    p.pointee.bits.lastChild = child
    p.pointee.bits.a &+= 1
  }

  /// The member of map `parent` with `key`; 0 when there is none.
  @usableFromInline @inline(__always)
  func find(_ key: Key, in parent: UInt32) -> UInt32 {
    let p = node(parent)
    var i = p.pointee.bits.a == 0 ? 0 : p.pointee.bits.firstChild
    while i != 0 {
      // Siblings mostly lie behind each other, so the next address is known before the link to it has been read.
      var n = node(i)
      var expected = i
      repeat {
        if n.pointee.keyHash == key.hash, n.pointee.key.equals(key) { return expected }
        expected &+= 1
        i = n.pointee.next
        n += 1
      } while i == expected
    }
    return 0
  }

  /// Element `index` of list `parent`, negative counted from the end; 0 when there is none.
  @usableFromInline
  func element(_ index: Int, of parent: UInt32) -> UInt32 {
    let p = node(parent)
    let count = Int(p.pointee.bits.a)
    let wanted = index < 0 ? index + count : index
    guard wanted >= 0, wanted < count else { return 0 }
    var i = p.pointee.bits.firstChild
    for _ in 0..<wanted { i = node(i).pointee.next }
    return i
  }

  /// Takes `child` out of the map or list `parent`.
  @usableFromInline
  func unlink(_ child: UInt32, from parent: UInt32) {
    let p = node(parent)
    if p.pointee.keyWord == rootKeyWord { slots[Int(p.pointee.keyHash)].indexedCount = .max }
    var previous: UInt32 = 0
    var i = p.pointee.bits.a == 0 ? 0 : p.pointee.bits.firstChild
    while i != 0, i != child {
      var n = node(i)
      var expected = i
      repeat {
        previous = expected
        expected &+= 1
        i = n.pointee.next
        n += 1
      } while i == expected && i != child
    }
    guard i == child, i != 0 else { return }
    let next = node(i).pointee.next
    if previous == 0 { p.pointee.bits.firstChild = next } else { node(previous).pointee.next = next }
    if p.pointee.bits.lastChild == child { p.pointee.bits.lastChild = previous }
    p.pointee.bits.a &-= 1
    if p.pointee.bits.a == 0 { p.pointee.bits.b = 0 }
    node(child).pointee.next = 0
  }

  /// Parses a map or list that is still JSON source.
  @usableFromInline @inline(__always)
  mutating func materialize(_ i: UInt32) {
    if _slowPath(node(i).pointee.bits.has(ValueBits.unparsed)) { parseInPlace(i) }
  }

  /// The decoded bytes of text node `i`; escapes are undone once and the node remembers.
  @usableFromInline @inline(__always)
  mutating func text(_ i: UInt32) -> UnsafeRawBufferPointer {
    if _slowPath(node(i).pointee.bits.has(ValueBits.escaped)) { node(i).pointee.bits = unescaped(node(i).pointee.bits) }
    return node(i).pointee.bits.span
  }

  /// A copy of `bits` that shares no node with it; texts stay shared.
  @usableFromInline
  mutating func deepCopy(_ bits: ValueBits) -> ValueBits {
    guard bits.kind == .map || bits.kind == .list, !bits.has(ValueBits.unparsed), bits.a > 0 else { return bits }
    let holder = makeNode(noKey, ValueBits(kind: bits.kind))
    var child = bits.firstChild
    while child != 0 {
      let source = node(child).pointee
      let copied = deepCopy(source.bits)
      let fresh = makeNode(source.key, copied)
      link(fresh, to: holder)
      child = source.next
    }
    return node(holder).pointee.bits
  }
}
