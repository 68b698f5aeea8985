//  A dissect pattern, compiled: the literal at the front, and fields with the literal behind each.
//
//  A text is cut in one pass from the left. The pieces' places go into memory of the worker, and only when the whole
//  pattern fits are fields written: plain ones first, then appended ones by their order, then indirect ones.

internal import Diagnostics
internal import Events
internal import Glibc
internal import PluginKit

/// A compiled pattern. Immutable; any thread may use it.
final class DissectPattern: Sendable {
  /// What is done with a piece.
  private enum Action: Sendable {
    case skip
    /// Nil where the name is no field reference, which fails when the piece is written.
    case set(FieldReference?)
    /// `joiner` stands between what is there and the piece.
    case append(FieldReference?, joiner: Template)
    /// The value goes to the field whose name `field`, or piece `piece`, holds.
    case indirect(field: FieldReference?, piece: Int?)
  }

  private struct Part: Sendable {
    /// The literal behind the piece; nil for the last piece of a pattern that ends with a field.
    var delimiter: Template?
    var repeats: Bool
  }

  private let head: Template
  private let parts: [Part]
  /// The pieces to write, in the order in which they are written.
  private let writes: [(piece: Int, action: Action)]
  /// True for the empty pattern, which does nothing.
  var isEmpty: Bool { parts.isEmpty }
  /// How many pieces a text is cut into.
  var count: Int { parts.count }

  struct Fault: Error { let text: String }

  /// - Throws: `Fault` where the pattern cannot be.
  init(_ text: String) throws(Fault) {
    let source = Array(text.utf8)
    var literals: [[UInt8]] = [[]]
    var fields: [DissectField] = []
    var i = 0
    while i < source.count {
      if source[i] == 37, i + 1 < source.count, source[i + 1] == 123,
        let end = source[(i + 2)...].firstIndex(of: 125)
      {
        fields.append(try DissectField(source[(i + 2)..<end]))
        literals.append([])
        i = end + 1
      } else {
        literals[literals.count - 1].append(source[i])
        i += 1
      }
    }
    // Braces at the very end of a pattern count for nothing, upstream as well.
    if literals[literals.count - 1].allSatisfy({ $0 == 125 }) { literals[literals.count - 1] = [] }
    guard source.isEmpty || !fields.isEmpty else { throw Fault(text: "has no field, such as %{name}") }
    func template(_ bytes: [UInt8]) -> Template { Template(String(decoding: bytes, as: UTF8.self)) }
    head = template(literals[0])
    parts = fields.indices.map { i in
      let isLast = i == fields.count - 1
      return Part(
        delimiter: isLast && literals[i + 1].isEmpty ? nil : template(literals[i + 1]), repeats: fields[i].repeats)
    }
    var plain: [(piece: Int, action: Action)] = []
    var appended: [(piece: Int, order: Int, action: Action)] = []
    var indirect: [(piece: Int, action: Action)] = []
    for (i, field) in fields.enumerated() {
      let reference = try? FieldReference(bytes: field.name)
      switch field.kind {
      case .skip: break
      case .set: plain.append((i, .set(reference)))
      case .append:
        let joiner = literals[i].isEmpty ? [32] : literals[i]
        appended.append((i, field.order, .append(reference, joiner: template(joiner))))
      case .indirect:
        let other = fields.firstIndex { $0.kind != .indirect && $0.name == field.name }
        indirect.append((i, .indirect(field: reference, piece: other)))
      }
    }
    // Sorting by the order and the place keeps equal orders as they are written.
    appended.sort { ($0.order, $0.piece) < ($1.order, $1.piece) }
    writes = plain + appended.map { ($0.piece, $0.action) } + indirect
  }

  // MARK: Cutting

  /// Cuts `text` and puts the pieces' places into `pieces`.
  ///
  /// - Parameter pieces: Room for `count` places.
  /// - Returns: False where the text does not fit.
  func cut(_ text: UnsafeRawBufferPointer, into pieces: UnsafeMutablePointer<(start: Int, end: Int)>) -> Bool {
    let head = self.head.constantBytes
    guard head.count <= text.count, equal(text.slice(0, head.count), head) else { return false }
    var position = head.count
    return parts.withUnsafeBufferPointer { parts in
      for i in 0..<parts.count {
        guard let delimiter = parts[i].delimiter?.constantBytes else {
          pieces[i] = (position, text.count)
          return true
        }
        // Fields that touch never fit: nothing says where one ends.
        guard let hit = find(delimiter, in: text, from: position) else { return false }
        pieces[i] = (position, hit)
        if parts[i].repeats {
          position = hit &+ delimiter.count
          while text.count &- position >= delimiter.count,
            equal(text.slice(position, position &+ delimiter.count), delimiter)
          {
            position &+= delimiter.count
          }
        } else if hit > 0 {
          position = hit &+ delimiter.count
        }
        // A delimiter at the very front is not consumed, as upstream has it: `%{a},%{b}` leaves the comma to `b`.
      }
      return true
    }
  }

  // MARK: Writing

  /// Writes the pieces to the event.
  ///
  /// - Returns: False where a field could not be written; those before it are.
  func write(
    _ text: UnsafeRawBufferPointer, isClean: Bool, _ pieces: UnsafePointer<(start: Int, end: Int)>, to event: Event
  ) -> Bool {
    writes.withUnsafeBufferPointer { writes in
      for i in 0..<writes.count {
        let piece = text.slice(pieces[writes[i].piece].start, pieces[writes[i].piece].end)
        switch writes[i].action {
        case .skip: break
        case .set(let reference):
          guard let reference, event.write(reference, .text(staying: piece, isClean: isClean)) else { return false }
        case .append(let reference, let joiner):
          guard let reference, append(piece, of: text, isClean, to: reference, joiner.constantBytes, event) else {
            return false
          }
        case .indirect(let field, let other):
          var name = UnsafeRawBufferPointer(start: nil, count: 0)
          if let field, let value = event.value(field), !value.isNull {
            name = value.text ?? event.makeValue(event.makeText { value.appendText(to: &$0) }).text ?? name
          } else if let other {
            name = text.slice(pieces[other].start, pieces[other].end)
          }
          if name.count > 0, !event.write(named: name, .text(staying: piece, isClean: isClean)) { return false }
        }
      }
      return true
    }
  }

  private func append(
    _ piece: UnsafeRawBufferPointer, of text: UnsafeRawBufferPointer, _ isClean: Bool, to reference: FieldReference,
    _ joiner: UnsafeRawBufferPointer, _ event: Event
  ) -> Bool {
    guard let present = event.value(reference) else {
      return event.write(reference, .text(staying: piece, isClean: isClean))
    }
    if present.isNull { return false }
    // Pieces of a date and the like stand beside each other as they will in the field: then the text is all there.
    if let before = present.text, let start = before.baseAddress, let base = text.baseAddress,
      let added = piece.baseAddress, start >= base, start + before.count + joiner.count == added,
      equal(UnsafeRawBufferPointer(start: start + before.count, count: joiner.count), joiner)
    {
      let joined = UnsafeRawBufferPointer(start: start, count: before.count + joiner.count + piece.count)
      return event.write(reference, .text(staying: joined, isClean: isClean))
    }
    return event.write(
      reference,
      event.makeText { out in
        if present.isList || present.isMap { present.appendBraced(to: &out) } else { present.appendText(to: &out) }
        out.append(joiner)
        out.append(piece)
      })
  }
}

/// What stands between the braces of a field.
private struct DissectField {
  enum Kind { case set, skip, append, indirect }

  var kind = Kind.set
  var name: [UInt8] = []
  /// For appended fields; 0 where none is written.
  var order = 0
  /// The delimiter behind the field may stand several times.
  var repeats = false

  init(_ text: ArraySlice<UInt8>) throws(DissectPattern.Fault) {
    var rest = text
    func refuse(_ reason: String) -> DissectPattern.Fault {
      DissectPattern.Fault(text: "has the field '%{\(String(decoding: text, as: UTF8.self))}', \(reason)")
    }
    switch rest.first {
    case UInt8(ascii: "?"): kind = .skip
    case UInt8(ascii: "+"): kind = .append
    case UInt8(ascii: "&"): kind = .indirect
    default: break
    }
    if kind != .set { rest = rest.dropFirst() }
    if kind == .append, rest.first == UInt8(ascii: "&") { throw refuse("which cannot both append and be indirect") }
    if kind == .indirect, rest.first == UInt8(ascii: "+") { throw refuse("which cannot both append and be indirect") }
    takeArrow(&rest)
    takeOrder(&rest)
    if !repeats { takeArrow(&rest) }
    name = Array(rest)
    if name.isEmpty {
      if kind == .append || kind == .indirect { throw refuse("which needs a name") }
      kind = .skip
    }
  }

  private mutating func takeArrow(_ rest: inout ArraySlice<UInt8>) {
    guard rest.suffix(2).elementsEqual([45, 62]) else { return }
    rest = rest.dropLast(2)
    repeats = true
  }

  /// One or two digits behind a slash.
  private mutating func takeOrder(_ rest: inout ArraySlice<UInt8>) {
    for digits in 1...2 where rest.count > digits {
      let number = rest.suffix(digits)
      guard number.allSatisfy({ $0 &- 48 < 10 }) else { return }
      if rest.dropLast(digits).last == UInt8(ascii: "/") {
        order = number.reduce(0) { $0 * 10 + Int($1 - 48) }
        rest = rest.dropLast(digits + 1)
        return
      }
    }
  }
}

extension Event {
  /// Sets the field that a text of the event names.
  ///
  /// - Returns: False where the text is no field reference or the field cannot be written.
  func write(named name: UnsafeRawBufferPointer, _ bits: ValueBits) -> Bool {
    // A name without brackets is a field at the top; `@timestamp`, `@metadata` and `tags` have rules of their own.
    if name.count <= Key.limitBytes, name.count > 0, name[0] != UInt8(ascii: "@"), name[0] != UInt8(ascii: "t"),
      !name.contains(where: { $0 == 91 || $0 == 93 })
    {
      fields.set(name: name, bits)
      return true
    }
    guard let reference = try? FieldReference(bytes: Array(name), isTransient: true) else { return false }
    return write(reference, bits)
  }
}
