//  A parsed document that joins the fields of an event: what filters do with JSON they found in a field. Members are
//  moved, not copied, and names with brackets go the way of references.

internal import CScan
internal import Glibc

extension Event {
  /// Parses text that may hold several JSON values one behind the other; the last one counts.
  ///
  /// - Parameter bytes: Copied, so that they may go. A byte-order mark in front is skipped.
  public func parseLastJSON(
    _ bytes: UnsafeRawBufferPointer, limits: JSONLimits = JSONLimits()
  ) throws(JSONError) -> Value {
    var source = arena.pointee.copy(bytes)
    if source.count >= 3, source[0] == 0xef, source[1] == 0xbb, source[2] == 0xbf {
      source = UnsafeRawBufferPointer(rebasing: source[3...])
    }
    var reader = JSONReader(arena, source, limits: limits)
    reader.takesSeveral = true
    return Value(arena, try reader.parseValue())
  }

  /// Moves the members of `map` into the fields, in order; equal names are replaced at their old place.
  ///
  /// `@timestamp` comes first: a text in ISO 8601 form becomes the event's time, null is passed over, and anything else
  /// is set aside as text in `_@timestamp`, with a tag and the arrival as time. `@metadata` replaces the metadata. Names
  /// with brackets are read as references.
  ///
  /// - Parameters:
  ///   - map: A map that stands nowhere; it must not be used afterwards.
  ///   - readsTime: False lets `@timestamp` be written as any field is, which refuses everything but a timestamp.
  /// - Throws: For the first member that cannot be written; those before it stay.
  public func merge(_ map: Value, readsTime: Bool = true) throws(WriteError) {
    guard map.isMap, map.count > 0 else { return }
    if readsTime { settle(timeOf: map) }
    var child = map.bits.firstChild
    while child != 0 {
      let node = arena.pointee.node(child)
      let next = node.pointee.next
      let key = node.pointee.key
      if _slowPath(Event.needsCare(key)) {
        try place(special: key, node.pointee.bits, readsTime)
      } else if case let twin = field(key), twin != 0 {
        arena.pointee.node(twin).pointee.bits = node.pointee.bits
      } else {
        node.pointee.next = 0
        appendField(child)
      }
      child = next
    }
  }

  /// Names with `[`, `]` or `@`, and `tags`.
  @inline(__always)
  private static func needsCare(_ key: Key) -> Bool {
    let count = key.count
    if count == 4, load4(key.start) == 0x7367_6174 { return true }
    if _fastPath(count <= 16) {
      return scan_any3_16(key.start, 91, 93, 64) & ((1 &<< UInt32(truncatingIfNeeded: count)) &- 1) != 0
    }
    if _fastPath(count < 64) {
      // Keys of a parsed document have 64 readable bytes behind them.
      return scan_any3_64(key.start, 91, 93, 64) & ((1 &<< UInt64(truncatingIfNeeded: count)) &- 1) != 0
    }
    return key.bytes.contains { $0 == 91 || $0 == 93 || $0 == 64 }
  }

  private func place(special key: Key, _ bits: ValueBits, _ readsTime: Bool) throws(WriteError) {
    if readsTime, key.equals(FieldReference.timestamp.parts[0].key) { return }
    if key.equals(FieldReference.tags.parts[0].key) { return try set(.tags, bits) }
    guard let reference = try? FieldReference(bytes: Array(key.bytes), isTransient: true) else { throw .badReference }
    try set(reference, bits)
  }

  private func settle(timeOf map: Value) {
    let found = arena.pointee.find(FieldReference.timestamp.parts[0].key, in: map.node)
    guard found != 0 else { return }
    let value = Value(arena, found)
    if value.isNull { return }
    if let text = value.text, let time = Timestamp(arriving: text) {
      try? set(.timestamp, .timestamp(time))
      return
    }
    addTag("_timestampparsefailure")
    try? set(.timestamp, .timestamp(arrival))
    // A list stands there as JSON, not as its elements joined.
    try? set(Event.timestampFallback, makeText { value.isList ? value.appendJSON(to: &$0) : value.appendText(to: &$0) })
  }
}
