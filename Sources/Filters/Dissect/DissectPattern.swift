//  A dissect pattern, compiled: the literal at the front, and fields with the literal behind each.
//
//  A text is cut in one pass from the left. The pieces' places go into memory of the worker, and only when the whole
//  pattern fits are fields written: plain ones first, then appended ones by their order, then indirect ones.

internal import Diagnostics
internal import Events
internal import Glibc
internal import PluginKit

/// A compiled pattern. Immutable; any thread may use it.
final class DissectPattern: @unchecked Sendable {  // unchecked: written in `init` alone
  /// What is done with a piece.
  private enum Action { case set, append, indirect }

  private struct Part {
    /// The literal behind the piece.
    var delimiter: UnsafeRawBufferPointer
    /// The piece takes all that is left.
    var isLast: Bool
    var repeats: Bool
  }

  /// A piece to write. References are not counted on the way of an event: `kept` holds them.
  private struct Write {
    var piece: Int
    var action: Action
    /// Nil where the name is no field reference, which fails when the piece is written.
    var reference: Unmanaged<FieldReference>?
    /// What stands between a present value and an appended piece.
    var joiner = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The piece that holds the name of an indirect field, unless the event does.
    var namePiece: Int?
  }

  private let head: Template
  private let parts: UnsafeMutableBufferPointer<Part>
  /// In the order in which they are written.
  private let writes: UnsafeMutableBufferPointer<Write>
  private let kept: [AnyObject]
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
    var kept: [AnyObject] = []
    func lasting(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
      let template = Template(String(decoding: bytes, as: UTF8.self))
      kept.append(template)
      return template.constantBytes
    }
    head = Template(String(decoding: literals[0], as: UTF8.self))
    parts = .allocate(capacity: fields.count)
    for (i, field) in fields.enumerated() {
      let isLast = i == fields.count - 1 && literals[i + 1].isEmpty
      parts.initializeElement(
        at: i, to: Part(delimiter: lasting(literals[i + 1]), isLast: isLast, repeats: field.repeats))
    }
    var plain: [Write] = []
    var appended: [(order: Int, write: Write)] = []
    var indirect: [Write] = []
    for (i, field) in fields.enumerated() where field.kind != .skip {
      let reference = try? FieldReference(bytes: field.name)
      if let reference { kept.append(reference) }
      var write = Write(piece: i, action: .set, reference: reference.map { Unmanaged.passUnretained($0) })
      switch field.kind {
      case .skip, .set: plain.append(write)
      case .append:
        write.action = .append
        write.joiner = lasting(literals[i].isEmpty ? [32] : literals[i])
        appended.append((field.order, write))
      case .indirect:
        write.action = .indirect
        write.namePiece = fields.firstIndex { $0.kind != .indirect && $0.name == field.name }
        indirect.append(write)
      }
    }
    // Sorting by the order and the place keeps equal orders as they are written.
    appended.sort { ($0.order, $0.write.piece) < ($1.order, $1.write.piece) }
    let ordered = plain + appended.map(\.write) + indirect
    writes = .allocate(capacity: ordered.count)
    _ = writes.initialize(from: ordered)
    self.kept = kept
  }

  deinit {
    parts.deallocate()
    writes.deallocate()
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
    for i in 0..<parts.count {
      let delimiter = parts[i].delimiter
      if parts[i].isLast {
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

  // MARK: Writing

  /// Writes the pieces to the event.
  ///
  /// - Returns: False where a field could not be written; those before it are.
  func write(
    _ text: UnsafeRawBufferPointer, isClean: Bool, _ pieces: UnsafePointer<(start: Int, end: Int)>, to event: Event
  ) -> Bool {
    for i in 0..<writes.count {
      let write = writes[i]
      let piece = text.slice(pieces[write.piece].start, pieces[write.piece].end)
      switch write.action {
      case .set:
        guard let reference = write.reference else { return false }
        let bits = ValueBits.text(staying: piece, isClean: isClean)
        guard reference._withUnsafeGuaranteedRef({ event.write($0, bits) }) else { return false }
      case .append:
        guard let reference = write.reference,
          reference._withUnsafeGuaranteedRef({ append(piece, of: text, isClean, to: $0, write.joiner, event) })
        else { return false }
      case .indirect:
        var name = UnsafeRawBufferPointer(start: nil, count: 0)
        if let field = write.reference?.takeUnretainedValue(), let value = event.value(field), !value.isNull {
          name = value.text ?? event.makeValue(event.makeText { value.appendText(to: &$0) }).text ?? name
        } else if let other = write.namePiece {
          name = text.slice(pieces[other].start, pieces[other].end)
        }
        if name.count > 0, !event.write(named: name, .text(staying: piece, isClean: isClean)) { return false }
      }
    }
    return true
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
