//  An event: a handle to its slot in a batch, lent to a filter for the time of one call.

public import Diagnostics
internal import Glibc

/// What a batch knows of an event beside its fields.
@usableFromInline
struct EventSlot {
  @usableFromInline var root: UInt32
  /// The map of `@metadata`; 0 until something is written there.
  @usableFromInline var metadata: UInt32
  /// The queue record it was decoded from, counted within its batch; -1 for an event without one.
  @usableFromInline var record: Int32
  /// Which of the events made from its record it is; 0 is the first.
  @usableFromInline var part: UInt32
  /// The slot of the record's first event, and how many further ones were made so far (kept in that slot).
  @usableFromInline var origin: Int32
  @usableFromInline var made: UInt32
  @usableFromInline var isCancelled: Bool
  @usableFromInline var arrivalNs: Int64
  /// The root's count and last member when its table was right; `.max` where there is none (FieldIndex.swift).
  @usableFromInline var indexedCount: UInt32 = .max
  @usableFromInline var indexedLast: UInt32 = 0
  @usableFromInline var indexHoles: UInt32 = 0
  /// The document as JSON, where `keepJSON` was called; the count is 0 where it was not.
  @usableFromInline var json = UnsafePointer<UInt8>(emptyText)
  @usableFromInline var jsonCount = 0
}

/// Why a field could not be written.
public enum WriteError: Error, Equatable, Sendable {
  /// The reference leads below a text, number, boolean or null.
  case belowScalar
  /// A negative index beyond the start of the list, or one far behind its end.
  case badIndex
  /// `@timestamp` takes a timestamp alone.
  case notATimestamp
  /// `tags` takes a text or a list of texts.
  case illegalTags
  /// A name that is no field reference.
  case badReference
}

/// One event of a batch. Not thread-safe; good until the batch is emptied.
public struct Event {
  @usableFromInline let arena: UnsafeMutablePointer<Arena>
  /// The event's number in its batch.
  public let index: Int32

  @usableFromInline @inline(__always)
  init(_ arena: UnsafeMutablePointer<Arena>, _ index: Int32) {
    self.arena = arena
    self.index = index
  }

  /// The longest list that writing to an index fills up with nulls.
  public static let listIndexLimit = 100_000

  @usableFromInline var slot: UnsafeMutablePointer<EventSlot> {
    @inline(__always) get { arena.pointee.slots + Int(index) }
  }

  public var isCancelled: Bool { @inline(__always) get { slot.pointee.isCancelled } }
  /// Takes the event out of the pipeline: later filters and all outputs skip it.
  public func cancel() { slot.pointee.isCancelled = true }
  /// Puts a cancelled event back.
  public func uncancel() { slot.pointee.isCancelled = false }

  /// The queue record that the event came from, counted within the batch; -1 for none.
  public var record: Int { Int(slot.pointee.record) }
  /// Which of the events of its record this is, 0 for the first.
  public var part: Int { Int(slot.pointee.part) }
  /// When the record arrived: what "now" means to filters.
  public var arrival: Timestamp { Timestamp(ns: slot.pointee.arrivalNs) }

  /// All fields, as a map.
  public var fields: Value { @inline(__always) get { Value(arena, slot.pointee.root) } }
  /// `@metadata`, as a map.
  public var metadata: Value { Value(arena, metadataNode()) }
  public var hasMetadata: Bool {
    slot.pointee.metadata != 0 && arena.pointee.node(slot.pointee.metadata).pointee.bits.a > 0
  }

  @usableFromInline
  func metadataNode() -> UInt32 {
    if slot.pointee.metadata == 0 {
      let made = arena.pointee.makeNode(noKey, ValueBits(kind: .map))
      slot.pointee.metadata = made
    }
    return slot.pointee.metadata
  }

  // MARK: Reading

  /// The value at `reference`, null included; nil when there is none.
  @inline(__always)
  public func value(_ reference: FieldReference) -> Value? {
    let node = find(reference)
    return node == 0 ? nil : Value(arena, node)
  }

  public func contains(_ reference: FieldReference) -> Bool { find(reference) != 0 }

  @usableFromInline
  func find(_ reference: FieldReference) -> UInt32 {
    var node: UInt32
    var i = 0
    if reference.root == .data {
      node = field(reference.parts.pointee.key)
      if node == 0 { return 0 }
      i = 1
    } else {
      if reference.count == 0 { return metadataNode() }
      node = slot.pointee.metadata
      if node == 0 { return 0 }
    }
    while i < reference.count {
      node = child(of: node, reference.parts + i)
      if node == 0 { return 0 }
      i &+= 1
    }
    return node
  }

  @usableFromInline @inline(__always)
  func child(of node: UInt32, _ part: UnsafeMutablePointer<FieldReference.Part>) -> UInt32 {
    switch arena.pointee.node(node).pointee.bits.kind {
    case .map:
      arena.pointee.materialize(node)
      return arena.pointee.find(part.pointee.key, in: node)
    case .list:
      arena.pointee.materialize(node)
      return part.pointee.index == .min ? 0 : arena.pointee.element(part.pointee.index, of: node)
    default: return 0
    }
  }

  // MARK: Writing

  /// Puts a value at `reference`; maps on the way are made.
  public func set(_ reference: FieldReference, _ bits: ValueBits) throws(WriteError) {
    if _slowPath(reference.special != .none) { try check(reference, bits) }
    var node: UInt32
    var i = 0
    if reference.root == .data {
      let key = reference.parts.pointee.key
      node = field(key)
      if reference.count == 1 {
        if node != 0 {
          arena.pointee.node(node).pointee.bits = bits
        } else {
          let made = arena.pointee.makeNode(arena.pointee.lasting(key, reference), bits)
          appendField(made)
        }
        return
      }
      if node == 0 {
        node = arena.pointee.makeNode(arena.pointee.lasting(key, reference), ValueBits(kind: .map))
        appendField(node)
      }
      i = 1
    } else {
      node = metadataNode()
      if reference.count == 0 {
        guard bits.kind == .map else { throw .belowScalar }
        arena.pointee.node(node).pointee.bits = bits
        return
      }
    }
    while i < reference.count &- 1 {
      guard let next = try childForWriting(node, reference.parts + i, reference) else { return }
      node = next
      i &+= 1
    }
    let part = reference.parts + i
    switch arena.pointee.node(node).pointee.bits.kind {
    case .map:
      arena.pointee.materialize(node)
      let found = arena.pointee.find(part.pointee.key, in: node)
      if found != 0 {
        arena.pointee.node(found).pointee.bits = bits
      } else {
        let made = arena.pointee.makeNode(arena.pointee.lasting(part.pointee.key, reference), bits)
        arena.pointee.link(made, to: node)
      }
    case .list:
      arena.pointee.materialize(node)
      guard let element = try element(of: node, part.pointee.index) else { return }
      arena.pointee.node(element).pointee.bits = bits
    default: throw .belowScalar
    }
  }

  /// Puts a value at `reference` where there is none, null included.
  ///
  /// - Returns: What is there already; nil when `bits` was put.
  public func setUnlessPresent(_ reference: FieldReference, _ bits: ValueBits) throws(WriteError) -> Value? {
    if let name = reference.plainName { return setUnlessPresent(name, bits) }
    if let present = value(reference) { return present }
    try set(reference, bits)
    return nil
  }

  /// The same for a field of the event itself.
  ///
  /// - Parameter name: A reference's `plainName`; its bytes stay until the batch is emptied.
  public func setUnlessPresent(_ name: Key, _ bits: ValueBits) -> Value? {
    let node = field(name)
    if node != 0 { return Value(arena, node) }
    let made = arena.pointee.makeNode(name, bits)
    appendField(made)
    return nil
  }

  private func childForWriting(
    _ node: UInt32, _ part: UnsafeMutablePointer<FieldReference.Part>, _ reference: FieldReference
  ) throws(WriteError) -> UInt32? {
    switch arena.pointee.node(node).pointee.bits.kind {
    case .map:
      arena.pointee.materialize(node)
      let found = arena.pointee.find(part.pointee.key, in: node)
      if found != 0 { return found }
      let made = arena.pointee.makeNode(arena.pointee.lasting(part.pointee.key, reference), ValueBits(kind: .map))
      arena.pointee.link(made, to: node)
      return made
    case .list:
      arena.pointee.materialize(node)
      let isNew = part.pointee.index >= Int(arena.pointee.node(node).pointee.bits.a)
      guard let element = try element(of: node, part.pointee.index) else { return nil }
      if isNew { arena.pointee.node(element).pointee.bits = ValueBits(kind: .map) }
      return element
    default: throw .belowScalar
    }
  }

  /// The element to write to; the list grows with nulls up to it. Nil when the index is no number.
  private func element(of list: UInt32, _ index: Int) throws(WriteError) -> UInt32? {
    if index == .min { return nil }
    let count = Int(arena.pointee.node(list).pointee.bits.a)
    guard index >= -count, index <= Event.listIndexLimit else { throw .badIndex }
    if index >= count {
      for _ in count...index {
        let made = arena.pointee.makeNode(noKey, .null)
        arena.pointee.link(made, to: list)
      }
    }
    return arena.pointee.element(index, of: list)
  }

  private func check(_ reference: FieldReference, _ bits: ValueBits) throws(WriteError) {
    switch reference.special {
    case .none: break
    case .timestamp: if bits.kind != .timestamp { throw .notATimestamp }
    case .belowTags:
      // Writing `[tags][0]` of a list is allowed as long as it stays a list of texts.
      guard reference.count == 2, reference.parts[1].index != .min, bits.kind == .text,
        field(reference.parts[0].key) != 0,
        value(.tags)?.isList == true
      else { throw .illegalTags }
    case .tags: if !areLegalTags(bits) { throw .illegalTags }
    }
  }

  func areLegalTags(_ bits: ValueBits) -> Bool {
    switch bits.kind {
    case .text: return true
    case .list:
      if bits.has(ValueBits.unparsed) { return false }
      var child = bits.a == 0 ? 0 : bits.firstChild
      while child != 0 {
        if arena.pointee.node(child).pointee.bits.kind != .text { return false }
        child = arena.pointee.node(child).pointee.next
      }
      return true
    default: return false
    }
  }

  /// Removes what `reference` names and returns it; `[@metadata]` is emptied.
  @discardableResult
  public func remove(_ reference: FieldReference) -> ValueBits? {
    if reference.root == .metadata, reference.count == 0 {
      slot.pointee.metadata = 0
      return .null
    }
    var node: UInt32
    var i = 0
    if reference.root == .data {
      node = field(reference.parts.pointee.key)
      if node == 0 { return nil }
      if reference.count == 1 {
        removeField(node)
        return arena.pointee.node(node).pointee.bits
      }
      i = 1
    } else {
      node = slot.pointee.metadata
      if node == 0 { return nil }
    }
    while i < reference.count &- 1 {
      node = child(of: node, reference.parts + i)
      if node == 0 { return nil }
      i &+= 1
    }
    let found = child(of: node, reference.parts + i)
    if found == 0 { return nil }
    arena.pointee.unlink(found, from: node)
    return arena.pointee.node(found).pointee.bits
  }

  // MARK: Tags and time

  /// Adds a tag that stands for a failure or a fact: not twice, and beside whatever `tags` is.
  ///
  /// - Parameter tag: Bytes that stay until the batch is emptied, or a constant.
  public func addTag(_ tag: StaticString) {
    addTag(UnsafeRawBufferPointer(start: tag.utf8Start, count: tag.utf8CodeUnitCount), unlessPresent: true)
  }

  /// - Parameters:
  ///   - tag: UTF-8; copied.
  ///   - unlessPresent: False for the option `add_tag`, which appends without looking.
  public func addTag(_ tag: UnsafeRawBufferPointer, unlessPresent: Bool) {
    let bits = ValueBits.text(staying: arena.pointee.copy(tag))
    let found = find(.tags)
    if found == 0 || arena.pointee.node(found).pointee.bits.kind == .null {
      let list = makeList()
      list.append(bits)
      store(tags: list.bits, at: found)
      return
    }
    let tags = Value(arena, found)
    if tags.isList {
      if unlessPresent {
        var child = tags.first
        while let element = child {
          if let text = element.text, equal(text, tag) { return }
          child = element.next
        }
      }
      tags.append(bits)
    } else {
      if unlessPresent, let text = tags.text, equal(text, tag) { return }
      let list = makeList()
      list.append(tags.bits)
      list.append(bits)
      store(tags: list.bits, at: found)
    }
  }

  private func store(tags bits: ValueBits, at found: UInt32) {
    if found != 0 {
      arena.pointee.node(found).pointee.bits = bits
    } else {
      let made = arena.pointee.makeNode(FieldReference.tags.parts[0].key, bits)
      appendField(made)
    }
  }

  /// Removes every tag equal to `tag`; a single text becomes a list.
  public func removeTag(_ tag: UnsafeRawBufferPointer) {
    guard let tags = value(.tags) else { return }
    if let text = tags.text {
      let list = makeList()
      if !equal(text, tag) { list.append(tags.bits) }
      tags.replace(with: list.bits)
      return
    }
    guard tags.isList else { return }
    var child = tags.first
    while let element = child {
      child = element.next
      if let text = element.text, equal(text, tag) { element.remove(from: tags) }
    }
  }

  public var timestamp: Timestamp? { @inline(__always) get { value(.timestamp)?.timestamp } }

  // MARK: Making values of this batch

  /// A text of this batch; the bytes (valid UTF-8) are copied.
  public func makeText(_ bytes: UnsafeRawBufferPointer, isClean: Bool = false) -> ValueBits {
    .text(staying: arena.pointee.copy(bytes), isClean: isClean)
  }
  public func makeText(_ text: String) -> ValueBits {
    var text = text
    return text.withUTF8 { makeText(UnsafeRawBufferPointer($0)) }
  }
  /// A key of this batch; the bytes are copied, and cut at `Key.limitBytes`.
  public func makeKey(_ name: UnsafeRawBufferPointer) -> Key { arena.pointee.makeKey(name) }
  /// A text made by `body` writing into working memory.
  public func makeText(_ body: (inout ByteBuffer) throws -> Void) rethrows -> ValueBits {
    let scratch = arena.pointee.scratch
    scratch.pointee.removeAll()
    try body(&scratch.pointee)
    return .text(staying: arena.pointee.copy(scratch.pointee.bytes))
  }
  /// An empty list, not yet standing anywhere; fill it, then set its `bits`.
  public func makeList() -> Value { Value(arena, arena.pointee.makeNode(noKey, ValueBits(kind: .list))) }
  /// An empty map, not yet standing anywhere; fill it, then set its `bits`.
  public func makeMap() -> Value { Value(arena, arena.pointee.makeNode(noKey, ValueBits(kind: .map))) }
  /// A node of its own for `bits`.
  public func makeValue(_ bits: ValueBits) -> Value { Value(arena, arena.pointee.makeNode(noKey, bits)) }
  /// A map or list that is JSON source, parsed only if somebody looks inside. The bytes must be sound JSON of that
  /// kind and stay until the batch is emptied.
  public func makeFragment(staying json: UnsafeRawBufferPointer, kind: Kind) -> ValueBits {
    ValueBits(
      kind: kind, flags: ValueBits.unparsed, a: UInt32(truncatingIfNeeded: json.count),
      b: UInt64(UInt(bitPattern: json.baseAddress)))
  }
  /// Memory of this batch, `count` bytes, with 64 readable bytes behind them.
  public func allocate(_ count: Int) -> UnsafeMutablePointer<UInt8> { arena.pointee.allocate(count) }
  /// Copies bytes into memory of this batch.
  public func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer { arena.pointee.copy(bytes) }

  /// Parses JSON text into a value that stands nowhere yet.
  ///
  /// - Parameter bytes: Copied, so that they may go.
  public func parseJSON(_ bytes: UnsafeRawBufferPointer, limits: JSONLimits = JSONLimits()) throws(JSONError) -> Value {
    var reader = JSONReader(arena, arena.pointee.copy(bytes), limits: limits)
    return Value(arena, try reader.parseValue())
  }

  // MARK: Further events

  /// A new event behind this one, without fields but `@timestamp` (now) and `@version`; later filters meet it.
  public func spawn() -> Event {
    let event = spawnBare()
    event.setFresh()
    return event
  }

  /// A deep copy, metadata included, behind this event; later filters meet it.
  public func spawnClone() -> Event {
    let event = spawnBare()
    let root = arena.pointee.deepCopy(fields.bits)
    arena.pointee.node(event.slot.pointee.root).pointee.bits = root
    if slot.pointee.metadata != 0 {
      let copied = arena.pointee.deepCopy(metadata.bits)
      arena.pointee.node(event.metadataNode()).pointee.bits = copied
    }
    return event
  }

  private func spawnBare() -> Event {
    let origin = slot.pointee.origin
    let made = arena.pointee.makeSlot(record: slot.pointee.record, arrivalNs: slot.pointee.arrivalNs)
    let first = arena.pointee.slots + Int(origin)
    first.pointee.made += 1
    let fresh = arena.pointee.slots + Int(made)
    fresh.pointee.origin = origin
    fresh.pointee.part = first.pointee.made
    arena.pointee.spawned.append((made, index))
    return Event(arena, made)
  }

  func setFresh() {
    let root = slot.pointee.root
    let time = arena.pointee.makeNode(FieldReference.timestamp.parts[0].key, .timestamp(arrival))
    arena.pointee.link(time, to: root)
    let version = arena.pointee.makeNode(FieldReference.version.parts[0].key, .text("1"))
    arena.pointee.link(version, to: root)
  }

  /// The document: all fields without `@metadata`.
  public func appendJSON(to out: inout ByteBuffer) {
    if slot.pointee.jsonCount > 0 {
      out.append(slot.pointee.json, slot.pointee.jsonCount)
    } else {
      arena.pointee.appendJSON(slot.pointee.root, to: &out)
    }
  }

  /// Makes the document once for several outputs. The fields must not be changed from here on.
  public func keepJSON() {
    let scratch = arena.pointee.scratch
    scratch.pointee.removeAll()
    arena.pointee.appendJSON(slot.pointee.root, to: &scratch.pointee)
    let copied = arena.pointee.copy(scratch.pointee.bytes)
    guard let start = copied.baseAddress else { return }
    slot.pointee.json = start.assumingMemoryBound(to: UInt8.self)
    slot.pointee.jsonCount = copied.count
  }
}

@inline(__always)
public func equal(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
  guard left.count == right.count, let a = left.baseAddress, let b = right.baseAddress else {
    return left.count == right.count
  }
  return memcmp(a, b, left.count) == 0
}

/// Whether two keys of equal length hold the same bytes. Keys are readable for 8 bytes beyond their end, so the usual
/// ones are compared in one or two words.
@usableFromInline @inline(never)
func sameBytes(_ left: UnsafePointer<UInt8>, _ right: UnsafePointer<UInt8>, _ count: Int) -> Bool {
  if count <= 8 {
    let unused = UInt64(truncatingIfNeeded: 64 &- count &* 8)
    return count == 0 || (load8(left) ^ load8(right)) &<< unused == 0
  }
  if count <= 16 {
    return load8(left) == load8(right) && load8(left + (count &- 8)) == load8(right + (count &- 8))
  }
  return memcmp(left, right, count) == 0
}

extension Arena {
  mutating func makeSlot(record: Int32, arrivalNs: Int64) -> Int32 {
    if slotCount == slotCapacity {
      let larger = UnsafeMutablePointer<EventSlot>.allocate(capacity: slotCapacity * 2)
      larger.update(from: slots, count: slotCount)
      slots.deallocate()
      slots = larger
      let tables = UnsafeMutablePointer<UInt32>.allocate(capacity: slotCapacity * 2 * Event.indexSize)
      tables.update(from: indexes, count: slotCount * Event.indexSize)
      indexes.deallocate()
      indexes = tables
      slotCapacity *= 2
    }
    let i = Int32(slotCount)
    let root = makeNode(Key(word: rootKeyWord, hash: UInt32(slotCount)), ValueBits(kind: .map))
    (slots + slotCount).initialize(
      to: EventSlot(
        root: root, metadata: 0, record: record, part: 0, origin: i, made: 0, isCancelled: false, arrivalNs: arrivalNs))
    slotCount += 1
    return i
  }

  /// The key of a compiled reference outlives every batch of its pipeline; those made for one call do not, so they
  /// are marked and copied.
  @inline(__always)
  mutating func lasting(_ key: Key, _ reference: FieldReference) -> Key {
    reference.isTransient ? makeKey(key.bytes) : key
  }
}
