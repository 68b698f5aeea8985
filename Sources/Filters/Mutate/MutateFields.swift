//  Changes of mutate that move and set whole fields: coerce, rename, update, replace, merge, copy.

internal import Events

/// Gives a field that is null a text.
final class Coerce: Change, @unchecked Sendable {
  private let field: FieldReference
  private let text: Template

  init(_ field: FieldReference, _ text: Template) {
    self.field = field
    self.text = text
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let value = event.value(field), value.isNull else { return true }
    guard let bits = try? text.bits(event) else { return false }
    return event.write(field, bits)
  }
}

final class Rename: Change, @unchecked Sendable {
  private let old: Template
  private let new: Template
  /// The names as references where they hold no placeholders and are sound.
  private let oldReference: FieldReference?
  private let newReference: FieldReference?

  init(_ old: Template, _ new: Template) {
    self.old = old
    self.new = new
    oldReference = old.isConstant ? try? FieldReference(old.description) : nil
    newReference = new.isConstant ? try? FieldReference(new.description) : nil
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let from = oldReference ?? reference(old, event) else { return false }
    // The value leaves its old place first, so that `a` can become `[a][b]`; a new name that is none loses it.
    guard let bits = event.remove(from) else { return true }
    guard let to = newReference ?? reference(new, event) else { return false }
    return event.write(to, bits)
  }

  private func reference(_ name: Template, _ event: Event) -> FieldReference? {
    guard !name.isConstant, let text = try? name.string(event) else { return nil }
    return try? FieldReference(text, isTransient: true)
  }
}

/// Sets the text of a field that is there.
final class Update: Change, @unchecked Sendable {
  private let field: FieldReference
  private let text: Template

  init(_ field: FieldReference, _ text: Template) {
    self.field = field
    self.text = text
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard event.contains(field) else { return true }
    guard let bits = try? text.bits(event) else { return false }
    return event.write(field, bits)
  }
}

/// Sets the text of a field.
final class Replace: Change, @unchecked Sendable {
  private let field: FieldReference
  private let text: Template

  init(_ field: FieldReference, _ text: Template) {
    self.field = field
    self.text = text
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let bits = try? text.bits(event) else { return false }
    return event.write(field, bits)
  }
}

/// Adds fields to a list, or members to a map.
final class Merge: Change, @unchecked Sendable {
  private let destination: FieldReference
  private let sources: [FieldReference]

  init(_ destination: FieldReference, _ sources: [FieldReference]) {
    self.destination = destination
    self.sources = sources
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    sources.allSatisfy { add($0, event) }
  }

  private func add(_ source: FieldReference, _ event: Event) -> Bool {
    let added = event.value(source)
    let present = event.value(destination)
    // A map and anything else do not go together: nothing is done, and that is no failure.
    guard (added?.isMap ?? false) == (present?.isMap ?? false) else { return true }
    if let present, let added, present.isMap {
      var member = added.first
      while let next = member {
        present.set(next.key, next.copied())
        member = next.next
      }
      return true
    }
    let list = event.makeList()
    if let present { append(present, to: list, copying: false) }
    if let added { append(added, to: list, copying: true) }
    return event.write(destination, list.bits)
  }

  private func append(_ value: Value, to list: Value, copying: Bool) {
    if value.isNull { return }
    guard value.isList else { return list.append(copying ? value.copied() : value.bits) }
    var child = value.first
    while let element = child {
      list.append(copying ? element.copied() : element.bits)
      child = element.next
    }
  }
}

final class Copy: Change, @unchecked Sendable {
  private let source: FieldReference
  private let destination: FieldReference

  init(_ source: FieldReference, _ destination: FieldReference) {
    self.source = source
    self.destination = destination
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let value = event.value(source), !value.isNull else { return true }
    return event.write(destination, value.copied())
  }
}
