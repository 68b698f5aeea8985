//  JSON as a value that can be built, compared and printed: requests to a cluster, and what it has already.

internal import Diagnostics
internal import Events

public indirect enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  /// As it is written.
  case number(String)
  case text(String)
  case list([JSONValue])
  /// In order; a name stands once.
  case object([Member])

  public struct Member: Sendable, Equatable {
    public var name: String
    public var value: JSONValue

    public init(name: String, value: JSONValue) {
      self.name = name
      self.value = value
    }
  }

  /// nil where `bytes` is no JSON.
  public init?(_ bytes: UnsafeRawBufferPointer) {
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    guard let value = try? batch.add(arrivalNs: 0).parseJSON(bytes) else { return nil }
    self.init(value)
  }

  public init?(_ text: String) {
    var text = text
    guard let value = text.withUTF8({ JSONValue(UnsafeRawBufferPointer($0)) }) else { return nil }
    self = value
  }

  private init(_ value: Events.Value) {
    if value.isMap {
      var members: [Member] = []
      var child = value.first
      while let present = child {
        members.append(Member(name: String(decoding: present.key.bytes, as: UTF8.self), value: JSONValue(present)))
        child = present.next
      }
      self = .object(members)
    } else if value.isList {
      var elements: [JSONValue] = []
      var child = value.first
      while let present = child {
        elements.append(JSONValue(present))
        child = present.next
      }
      self = .list(elements)
    } else if let text = value.string {
      self = .text(text)
    } else if let flag = value.boolean {
      self = .bool(flag)
    } else if value.isNull {
      self = .null
    } else {
      var out = ByteBuffer()
      value.appendJSON(to: &out)
      self = .number(out.string())
    }
  }

  public subscript(name: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.name == name }?.value
  }

  /// The value behind names separated by dots.
  public func at(_ path: String) -> JSONValue? {
    var value: JSONValue? = self
    for name in path.split(separator: ".") { value = value?[String(name)] }
    return value
  }

  public var members: [Member] { if case .object(let members) = self { members } else { [] } }
  public var elements: [JSONValue] { if case .list(let elements) = self { elements } else { [] } }
  public var string: String? { if case .text(let text) = self { text } else { nil } }
  public var flag: Bool? { if case .bool(let flag) = self { flag } else { nil } }
  public var integer: Int? {
    switch self {
    case .number(let text), .text(let text): Int(text) ?? Double(text).flatMap { Int(exactly: $0.rounded()) }
    default: nil
    }
  }
  public var double: Double? {
    switch self {
    case .number(let text), .text(let text): Double(text)
    default: nil
    }
  }

  /// This object with `other` laid over it: objects are merged, all else is replaced.
  public func merged(_ other: JSONValue) -> JSONValue {
    guard case .object(var mine) = self, case .object(let theirs) = other else { return other }
    for member in theirs {
      if let i = mine.firstIndex(where: { $0.name == member.name }) {
        mine[i].value = mine[i].value.merged(member.value)
      } else {
        mine.append(member)
      }
    }
    return .object(mine)
  }

  /// Without the members that `isLeftOut` names, at any depth.
  public func without(_ isLeftOut: (String) -> Bool) -> JSONValue {
    switch self {
    case .object(let members):
      .object(
        members.filter { !isLeftOut($0.name) }.map { Member(name: $0.name, value: $0.value.without(isLeftOut)) })
    case .list(let elements): .list(elements.map { $0.without(isLeftOut) })
    default: self
    }
  }

  // MARK: Printing

  /// On one line.
  public var text: String {
    var out = ByteBuffer()
    write(&out, indent: nil)
    return out.string()
  }

  /// With line feeds and two blanks a level; what is short stays on its line.
  public var pretty: String {
    var out = ByteBuffer()
    write(&out, indent: 0)
    out.append(10)
    return out.string()
  }

  private func write(_ out: inout ByteBuffer, indent: Int?) {
    func lineFeed(_ depth: Int) {
      out.append(10)
      for _ in 0..<depth { out.append("  ") }
    }
    switch self {
    case .null: out.append("null")
    case .bool(let flag): out.append(flag ? "true" : "false")
    case .number(let text): out.append(text: text)
    case .text(let text): out.append(quoted: text)
    case .list, .object:
      guard let indent else { return writeOnOneLine(&out, blanks: false) }
      var line = ByteBuffer()
      writeOnOneLine(&line, blanks: true)
      if line.count + indent * 2 <= 110 { return out.append(line.bytes) }
      if case .list(let elements) = self {
        out.append(91)
        for (i, element) in elements.enumerated() {
          if i > 0 { out.append(44) }
          lineFeed(indent + 1)
          element.write(&out, indent: indent + 1)
        }
        lineFeed(indent)
        out.append(93)
      } else {
        out.append(123)
        for (i, member) in members.enumerated() {
          if i > 0 { out.append(44) }
          lineFeed(indent + 1)
          out.append(quoted: member.name)
          out.append(": ")
          member.value.write(&out, indent: indent + 1)
        }
        lineFeed(indent)
        out.append(125)
      }
    }
  }

  private func writeOnOneLine(_ out: inout ByteBuffer, blanks: Bool) {
    switch self {
    case .list(let elements):
      out.append(91)
      for (i, element) in elements.enumerated() {
        if i > 0 { out.append(blanks ? ", " : ",") }
        element.writeOnOneLine(&out, blanks: blanks)
      }
      out.append(93)
    case .object(let members):
      out.append(blanks && !members.isEmpty ? "{ " : "{")
      for (i, member) in members.enumerated() {
        if i > 0 { out.append(blanks ? ", " : ",") }
        out.append(quoted: member.name)
        out.append(blanks ? ": " : ":")
        member.value.writeOnOneLine(&out, blanks: blanks)
      }
      out.append(blanks && !members.isEmpty ? " }" : "}")
    default: write(&out, indent: nil)
    }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .text(value) }
  public init(integerLiteral value: Int) { self = .number(String(value)) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .list(elements) }
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(elements.map { Member(name: $0.0, value: $0.1) })
  }
}
