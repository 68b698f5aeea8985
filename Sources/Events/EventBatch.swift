//  The events that a worker has in hand, and their arrival from raw payloads.

internal import Diagnostics
internal import Glibc

/// A batch of events with its memory. One worker owns it, fills it, runs the filters and empties it again.
public final class EventBatch {
  @usableFromInline let arena: UnsafeMutablePointer<Arena>

  public init() {
    arena = .allocate(capacity: 1)
    arena.initialize(to: Arena())
  }

  deinit {
    arena.pointee.deallocate()
    arena.deinitialize(count: 1)
    arena.deallocate()
  }

  /// Events made so far, cancelled ones included.
  public var count: Int { arena.pointee.slotCount }

  public subscript(i: Int32) -> Event { @inline(__always) get { Event(arena, i) } }

  /// Forgets all events. Memory stays for the next ones, up to a bound.
  public func removeAll() { arena.pointee.removeAll() }

  /// A fresh event with `@timestamp` (its arrival) and `@version`.
  ///
  /// - Parameters:
  ///   - record: Its queue record, counted within the batch; -1 for none.
  ///   - arrivalNs: Wall clock of its arrival, nanoseconds since 1970.
  public func add(record: Int = -1, arrivalNs: Int64) -> Event {
    let event = Event(arena, arena.pointee.makeSlot(record: Int32(record), arrivalNs: arrivalNs))
    event.setFresh()
    return event
  }

  /// An event from a JSON document: its `@timestamp` is parsed, `@metadata` moved aside, illegal tags set apart.
  ///
  /// - Parameters:
  ///   - payload: Copied.
  ///   - isEnvelope: The document is what a shipper wrapped around a text: where it has a `message` or a `line`, a
  ///     broken `@timestamp` is passed over without a word.
  /// - Returns: Nil when the outermost value is no map, or its `@metadata` none; no event is left behind.
  /// - Throws: Where the text is no JSON; no event is left behind.
  public func add(
    json payload: UnsafeRawBufferPointer, record: Int = -1, arrivalNs: Int64, limits: JSONLimits = JSONLimits(),
    isEnvelope: Bool = false
  ) throws(JSONError) -> Event? {
    let event = add(record: record, arrivalNs: arrivalNs)
    var reader = JSONReader(arena, arena.pointee.copy(payload), limits: limits)
    do {
      guard try reader.parseMap(into: event.slot.pointee.root) else {
        arena.pointee.slotCount -= 1
        return nil
      }
    } catch {
      arena.pointee.slotCount -= 1
      throw error
    }
    if reader.sawSpecialKey, !event.settleArrival(isEnvelope: isEnvelope) {
      arena.pointee.slotCount -= 1
      return nil
    }
    return event
  }

  /// The events that filters made since the last call, each with the event it follows.
  public func takeSpawned(_ body: (_ event: Int32, _ after: Int32) -> Void) {
    for (event, after) in arena.pointee.spawned { body(event, after) }
    arena.pointee.spawned.removeAll(keepingCapacity: true)
  }

  public var hasSpawned: Bool { !arena.pointee.spawned.isEmpty }
}

extension Event {
  static let timestampFallback = FieldReference.known("_@timestamp")
  private static let tagsFallback = FieldReference.known("_tags")
  private static let metadataField = Key(padded: metadataName, count: 9)

  private static let lineField = FieldReference.known("line")

  /// Brings `@timestamp`, `tags` and `@metadata` of a decoded document into their form.
  ///
  /// - Parameter isEnvelope: As for `EventBatch.add(json:)`.
  /// - Returns: False where `@metadata` is there and no map: this is no document.
  @discardableResult
  public func settleArrival(isEnvelope: Bool = false) -> Bool {
    let root = slot.pointee.root
    let found = arena.pointee.find(Event.metadataField, in: root)
    if found != 0 {
      guard arena.pointee.node(found).pointee.bits.kind == .map else { return false }
      arena.pointee.unlink(found, from: root)
      slot.pointee.metadata = found
    }
    settleTimestamp(isEnvelope)
    if let tags = value(.tags) { settleTags(tags) }
    return true
  }

  private func settleTimestamp(_ isEnvelope: Bool) {
    guard let present = value(.timestamp) else { return }
    switch present.kind {
    case .timestamp: return
    case .null:
      present.replace(with: .timestamp(arrival))
      return
    case .text:
      if let text = present.text, let parsed = Timestamp(arriving: text) {
        present.replace(with: .timestamp(parsed))
        return
      }
    default: break
    }
    let original = present.bits
    present.replace(with: .timestamp(arrival))
    if isEnvelope, let text = value(.message) ?? value(Event.lineField), !text.isNull { return }
    try? set(Event.timestampFallback, original)
    if let tags = value(.tags) { settleTags(tags) }
    addTag("_timestampparsefailure")
  }

  private func settleTags(_ tags: Value) {
    if tags.isList { _ = tags.count }  // parsed, so that the elements can be seen
    if areLegalTags(tags.bits) { return }
    let original = tags.bits
    let kept = makeList()
    kept.append(original)
    try? set(Event.tagsFallback, kept.bits)
    let list = makeList()
    list.append(.text("_tagsparsefailure"))
    tags.replace(with: list.bits)
  }
}

private nonisolated(unsafe) let metadataName: UnsafePointer<UInt8> = {
  let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: 80)
  memory.initialize(repeating: 0, count: 80)
  for (i, byte) in "@metadata".utf8.enumerated() { memory[i] = byte }
  return UnsafePointer(memory)
}()
