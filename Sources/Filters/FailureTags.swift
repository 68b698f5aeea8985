//  The tags that a filter puts on events it could not handle: each once, their texts as they are written.

internal import Events

/// The tags of an option such as `tag_on_failure`. Immutable; any thread may use it.
struct FailureTags: Sendable {
  private let tags: [Template]

  init(_ names: [String]) { tags = names.map { Template($0) } }

  func apply(to event: Event) {
    // The bytes of a template are its text as written, placeholders included: these tags are not filled in.
    for tag in tags { event.addTag(tag.constantBytes, unlessPresent: true) }
  }
}

extension Event {
  /// Sets a field and tells whether that was possible.
  @inline(__always)
  func write(_ reference: FieldReference, _ bits: ValueBits) -> Bool {
    do {
      try set(reference, bits)
      return true
    } catch {
      return false
    }
  }
}
