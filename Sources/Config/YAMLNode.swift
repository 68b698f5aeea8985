//  One value of a YAML file and the place where it stands. Every error about a configuration points at a place, so the
//  tree keeps one for each key and value; what a scalar means is decided by the option that reads it, never by YAML.

public import Diagnostics

/// A scalar, list or map of a YAML file. Immutable, so any thread may read it.
public final class YAMLNode: Sendable {
  public enum Content: Sendable {
    /// Text as YAML gives it; numbers and booleans are text too.
    case scalar(String)
    case list([YAMLNode])
    /// Entries in written order; no key occurs twice.
    case map([YAMLEntry])
  }

  /// How a scalar is written; lists and maps are plain.
  public enum Style: Sendable { case plain, singleQuoted, doubleQuoted, block }

  public let content: Content
  public let position: SourcePosition
  public let style: Style
  /// Characters from the scalar's first to its last, quotes included; 0 where it spans lines.
  let width: Int
  /// Some of the scalar's text came from a variable.
  public let heldVariable: Bool
  /// Some of the scalar's text is a secret: from a file or a systemd credential. Messages show it as `***`.
  public let isSecret: Bool
  /// The scalar's text is not known: a variable has no value, which was reported, or files are not opened in this run.
  public let isUnresolved: Bool
  /// The scalar as it is written in the file, before variables were replaced.
  public let writtenText: String?
  /// Nodes of this tree with itself, aliases counted as often as they are used.
  let nodeCount: Int
  /// Some scalar of this tree holds a `$`.
  let mayHoldVariables: Bool

  public init(
    _ content: Content, _ position: SourcePosition, style: Style = .plain, width: Int = 0, heldVariable: Bool = false,
    isSecret: Bool = false, isUnresolved: Bool = false, writtenText: String? = nil
  ) {
    self.content = content
    self.position = position
    self.style = style
    self.width = width
    self.heldVariable = heldVariable
    self.isSecret = isSecret
    self.isUnresolved = isUnresolved
    self.writtenText = writtenText
    switch content {
    case .scalar(let text):
      nodeCount = 1
      mayHoldVariables = text.utf8.contains(UInt8(ascii: "$"))
    case .list(let items):
      nodeCount = items.reduce(1) { $0 + $1.nodeCount }
      mayHoldVariables = items.contains { $0.mayHoldVariables }
    case .map(let entries):
      nodeCount = entries.reduce(1) { $0 + $1.value.nodeCount }
      mayHoldVariables = entries.contains { $0.value.mayHoldVariables }
    }
  }

  /// The scalar's text; nil for lists and maps.
  public var text: String? { if case .scalar(let text) = content { text } else { nil } }
  public var items: [YAMLNode]? { if case .list(let items) = content { items } else { nil } }
  public var entries: [YAMLEntry]? { if case .map(let entries) = content { entries } else { nil } }

  /// A scalar in quotes or in a block, which no reader may take for a number.
  public var isQuoted: Bool { style != .plain }

  /// The place of a character of the scalar's text, for errors inside patterns and conditions. Where it cannot be known
  /// (several lines, escapes, variables) it is the scalar's own place.
  ///
  /// - Parameter index: Counts the text's Unicode scalars from 0.
  public func position(ofCharacter index: Int) -> SourcePosition {
    guard let text, !heldVariable, width > 0 else { return position }
    let scalars = text.unicodeScalars
    var result = position
    switch style {
    case .plain where width == scalars.count: result.column += index
    case .singleQuoted where width == scalars.count + 2 + scalars.count(where: { $0 == "'" }):
      result.column += 1 + index + scalars.prefix(index).count { $0 == "'" }
    case .doubleQuoted where width == scalars.count + 2: result.column += 1 + index
    default: break
    }
    return result
  }

  /// Nothing was written: the value of `key:` alone.
  public var isEmpty: Bool {
    if case .scalar(let text) = content { text.isEmpty && style == .plain && !heldVariable } else { false }
  }

  /// A variable emptied the whole text, which counts as not given.
  public var isEmptied: Bool {
    if case .scalar(let text) = content { text.isEmpty && heldVariable } else { false }
  }

  /// Some scalar of this tree has a text that is not known.
  public var holdsUnresolved: Bool {
    switch content {
    case .scalar: isUnresolved
    case .list(let items): items.contains { $0.holdsUnresolved }
    case .map(let entries): entries.contains { $0.value.holdsUnresolved }
    }
  }

  /// The entry of `key`, if this is a map that holds it.
  public func entry(_ key: String) -> YAMLEntry? { entries?.first { $0.key == key } }
  /// The value of `key`, if this is a map that holds it.
  public subscript(_ key: String) -> YAMLNode? { entry(key)?.value }

  /// A few words for messages: `'text'`, `***`, `a list`, `a map`.
  public var phrase: String {
    switch content {
    case .scalar(let text):
      if isSecret { return "***" }
      if isEmpty { return "nothing" }
      return "'\(excerpt(of: text))'"
    case .list(let items):
      return items.isEmpty ? "an empty list" : items.count == 1 ? "a list" : "a list of \(items.count)"
    case .map: return "a map"
    }
  }
}

/// One key of a map and its value.
public struct YAMLEntry: Sendable {
  public var key: String
  public var keyPosition: SourcePosition
  public var value: YAMLNode
  /// The key stands in quotes, so that no reader may take it for a number.
  public var isKeyQuoted: Bool

  public init(key: String, keyPosition: SourcePosition, value: YAMLNode, isKeyQuoted: Bool = false) {
    self.key = key
    self.keyPosition = keyPosition
    self.value = value
    self.isKeyQuoted = isKeyQuoted
  }
}

/// Foreign text in a message: one line, cut to 80 characters.
func excerpt(of text: String) -> String {
  var shown = ""
  var count = 0
  for scalar in text.unicodeScalars {
    if count == 80 { return shown + "…" }
    count += 1
    switch scalar.value {
    case 10: shown += "\\n"
    case 13: shown += "\\r"
    case 9: shown += "\\t"
    case 0..<32, 127: shown += "\u{FFFD}"
    default: shown.unicodeScalars.append(scalar)
    }
  }
  return shown
}

/// The name that a misspelt key may mean. A key longer than any name is not compared, so that a hostile file costs
/// no time.
func nearestName(to key: String, among names: some Sequence<String>) -> String? {
  key.utf8.count > 64 ? nil : nearest(to: key, among: names)
}
