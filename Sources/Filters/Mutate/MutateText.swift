//  Changes of mutate to texts: letters, white space, cutting and joining.

internal import Diagnostics
internal import Events

/// Changes the letters of a text, or of the texts of a list.
final class ChangeCase: Change, @unchecked Sendable {
  private let field: FieldReference
  private let letterCase: LetterCase

  init(_ field: FieldReference, _ letterCase: LetterCase) {
    self.field = field
    self.letterCase = letterCase
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let value = event.value(field) else { return true }
    if value.isText {
      if let bits = event.changing(caseOf: value, to: letterCase) { value.replace(with: bits) }
    } else if value.isList {
      var child = value.first
      while let element = child {
        if let bits = event.changing(caseOf: element, to: letterCase) { element.replace(with: bits) }
        child = element.next
      }
    }
    return true
  }
}

/// Takes white space off both ends.
final class Strip: Change, @unchecked Sendable {
  private let field: FieldReference

  init(_ field: FieldReference) { self.field = field }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let value = event.value(field) else { return true }
    if value.isText {
      strip(value)
    } else if value.isList {
      var child = value.first
      while let element = child {
        guard element.isText else { return false }
        child = element.next
      }
      child = value.first
      while let element = child {
        strip(element)
        child = element.next
      }
    }
    return true
  }

  private func strip(_ value: Value) {
    guard let text = value.text else { return }
    var start = 0
    var end = text.count
    while start < end, isStripped(text[start]) { start &+= 1 }
    while end > start, isStripped(text[end &- 1]) { end &-= 1 }
    if end &- start < text.count { value.replace(with: .text(staying: text.slice(start, end), isClean: value.isClean)) }
  }

  private func isStripped(_ byte: UInt8) -> Bool { isSpace(byte) || byte == 0 }
}

/// Cuts a text into a list.
final class SplitText: Change, @unchecked Sendable {
  private let field: FieldReference
  private let separator: Template

  init(_ field: FieldReference, _ separator: String) {
    self.field = field
    self.separator = Template(separator)
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let value = event.value(field), let text = value.text else { return true }
    let isClean = value.isClean
    let list = event.makeList()
    RubySplit.pieces(of: text, at: separator.constantBytes) { list.append(.text(staying: $0, isClean: isClean)) }
    return event.write(field, list.bits)
  }
}

/// Puts the elements of a list together into a text.
final class Join: Change, @unchecked Sendable {
  private let field: FieldReference
  private let separator: Template

  init(_ field: FieldReference, _ separator: String) {
    self.field = field
    self.separator = Template(separator)
  }

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let value = event.value(field), value.isList else { return true }
    let bits = event.makeText { out in
      var isFirst = true
      append(value, to: &out, &isFirst)
    }
    return event.write(field, bits)
  }

  /// Elements of nested lists stand in one row.
  private func append(_ list: Value, to out: inout ByteBuffer, _ isFirst: inout Bool) {
    var child = list.first
    while let element = child {
      if element.isList {
        append(element, to: &out, &isFirst)
      } else {
        if !isFirst { out.append(separator.constantBytes) }
        isFirst = false
        element.appendRubyText(to: &out)
      }
      child = element.next
    }
  }
}
