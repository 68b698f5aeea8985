//  Putting a ready JSON object into an event: as one node where nothing stands there yet, beside the members of a map
//  otherwise, so that what it holds stays.

internal import Events

extension Event {
  /// Merges the JSON object `json` into what stands at `target`.
  ///
  /// - Parameter target: Nil for the event itself.
  /// - Returns: False where a text, number, boolean or list is in the way; nothing is changed then.
  func merge(_ json: UnsafeRawBufferPointer, at target: FieldReference?) -> Bool {
    guard let target else {
      fields.merge(makeValue(fragment(json)))
      return true
    }
    guard let present = value(target), !present.isNull else { return (try? set(target, fragment(json))) != nil }
    guard present.isMap else { return false }
    if !present.join(json) { present.merge(makeValue(fragment(json))) }
    return true
  }

  private func fragment(_ json: UnsafeRawBufferPointer) -> ValueBits { makeFragment(staying: copy(json), kind: .map) }
}

extension Value {
  /// Takes over the members of `other`, which must not be used afterwards; maps on both sides are merged, all else is
  /// replaced. Both are maps.
  func merge(_ other: Value) {
    var next = other.first
    while let member = next {
      next = member.next
      if member.isMap, let present = child(member.key), present.isMap {
        present.merge(member)
      } else {
        set(member.key, member.bits)
      }
    }
  }

  private func child(_ key: Key) -> Value? {
    var next = first
    while let member = next {
      if member.key.count == key.count, equal(member.key.bytes, key.bytes) { return member }
      next = member.next
    }
    return nil
  }

  /// The text of a field that may be a list whose first element counts; nil for everything else.
  var leadingText: UnsafeRawBufferPointer? {
    if let text { return text }
    return isList ? first?.text : nil
  }
}

extension Value {
  /// Puts a value behind those of this list; a value that is none becomes one of both.
  func putBeside(_ bits: ValueBits, _ event: Event) {
    guard !isList else { return append(bits) }
    let list = event.makeList()
    list.append(self.bits)
    list.append(bits)
    replace(with: list.bits)
  }
}
