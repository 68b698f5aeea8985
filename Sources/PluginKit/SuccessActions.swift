//  The common options that every filter has: add_field, add_tag, remove_field and remove_tag, applied to events that
//  the filter handled well, in Logstash's order: add_field, remove_field, add_tag, remove_tag.

internal import Diagnostics
public import Events

/// What happens to an event after a filter's success. Immutable; any thread may apply it.
public final class SuccessActions: Sendable {
  public let addField: [(name: Template, values: [FieldValue])]
  public let removeField: [Template]
  public let addTag: [Template]
  public let removeTag: [Template]
  public let isEmpty: Bool
  /// Constant names, parsed at start.
  private let addReferences: [FieldReference?]
  private let removeReferences: [FieldReference?]

  /// A value of add_field: text with placeholders.
  public typealias FieldValue = Template

  public init(
    addField: [(name: Template, values: [FieldValue])] = [], removeField: [Template] = [], addTag: [Template] = [],
    removeTag: [Template] = []
  ) {
    self.addField = addField
    self.removeField = removeField
    self.addTag = addTag
    self.removeTag = removeTag
    isEmpty = addField.isEmpty && removeField.isEmpty && addTag.isEmpty && removeTag.isEmpty
    func constant(_ template: Template) -> FieldReference? {
      template.isConstant ? try? FieldReference(template.description) : nil
    }
    addReferences = addField.map { constant($0.name) }
    removeReferences = removeField.map(constant)
  }

  public static let none = SuccessActions()

  public func apply(to event: Event) {
    for (i, field) in addField.enumerated() {
      guard let reference = addReferences[i] ?? reference(field.name, event) else { continue }
      for value in field.values { add(value, at: reference, event) }
    }
    for (i, name) in removeField.enumerated() {
      guard let reference = removeReferences[i] ?? reference(name, event) else { continue }
      event.remove(reference)
    }
    for tag in addTag {
      guard let bits = try? tag.bits(event) else { continue }
      event.addTag(event.makeValue(bits).text ?? UnsafeRawBufferPointer(start: nil, count: 0), unlessPresent: false)
    }
    for tag in removeTag {
      guard let bits = try? tag.bits(event), let text = event.makeValue(bits).text else { continue }
      event.removeTag(text)
    }
  }

  private func reference(_ name: Template, _ event: Event) -> FieldReference? {
    guard let text = try? name.string(event) else { return nil }
    return try? FieldReference(text, isTransient: true)
  }

  /// A field that is there already becomes a list with the new value behind the old.
  private func add(_ template: Template, at reference: FieldReference, _ event: Event) {
    guard let bits = try? template.bits(event) else { return }
    guard let present = event.value(reference) else {
      try? event.set(reference, bits)
      return
    }
    if present.isList {
      present.append(bits)
    } else {
      let list = event.makeList()
      list.append(present.bits)
      list.append(bits)
      try? event.set(reference, list.bits)
    }
  }
}
