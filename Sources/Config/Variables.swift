//  Variables in scalar values: `${VAR}`, `${VAR:default}`, `${file:PATH}`, `${credential:NAME}`, and `$${VAR}` for the
//  literal. They are replaced after YAML is read, so a value never changes the structure of a file, whatever it holds.
//
//  A default reaches to its closing brace and may hold further variables: `${FIRST:${SECOND:}}`. `${!VAR:text}` is the text
//  where VAR is not set or empty, and nothing otherwise: a second choice that gives way to another variable.

public import Diagnostics
internal import Glibc

/// Where variables come from.
public struct VariableSource: Sendable {
  public var environment: [String: String]
  /// False for runs that must not touch the world: texts from files then stay unknown.
  public var opensFiles: Bool

  public init(environment: [String: String], opensFiles: Bool = true) {
    self.environment = environment
    self.opensFiles = opensFiles
  }

  /// This process's environment.
  public static func process(opensFiles: Bool = true) -> VariableSource {
    var values: [String: String] = [:]
    var next = environ
    while let pointer = next.pointee {
      let text = String(cString: pointer)
      if let equals = text.firstIndex(of: "=") {
        let name = String(text[..<equals])
        if values[name] == nil { values[name] = String(text[text.index(after: equals)...]) }
      }
      next += 1
    }
    return VariableSource(environment: values, opensFiles: opensFiles)
  }

  /// A text after replacement.
  public struct Expansion: Sendable {
    public var text: String
    public var heldVariable = false
    public var isSecret = false
    /// Something has no value here: it was reported, or stands in a file that this run does not open.
    public var isUnresolved = false
  }

  /// Largest text from a file, and largest text after replacement, in bytes.
  public static let fileLimitBytes = 64 << 10
  public static let textLimitBytes = 1 << 20

  /// Replaces the variables of `text`. Errors go to `problems` at `position`; what has no value becomes nothing.
  public func expand(_ text: String, at position: SourcePosition, problems: Problems) -> Expansion {
    var result = Expansion(text: "")
    guard text.utf8.contains(UInt8(ascii: "$")) else {
      result.text = text
      return result
    }
    var out: [UInt8] = []
    expand(Array(text.utf8)[...], &out, &result, depth: 0, position, problems)
    if out.count > Self.textLimitBytes {
      problems.error(
        position, "the text with its variables is longer than \(Self.textLimitBytes) bytes", code: "config.too-large")
      out = []
    }
    result.text = String(decoding: out, as: UTF8.self)
    return result
  }

  private func expand(
    _ text: ArraySlice<UInt8>, _ out: inout [UInt8], _ result: inout Expansion, depth: Int, _ position: SourcePosition,
    _ problems: Problems
  ) {
    var index = text.startIndex
    while index < text.endIndex {
      guard text[index] == UInt8(ascii: "$"), index + 1 < text.endIndex else {
        out.append(text[index])
        index += 1
        continue
      }
      if text[index + 1] == UInt8(ascii: "$"), let end = Variable(text, at: index + 1)?.end {
        out += text[(index + 1)..<end]  // the literal: one dollar less, and nothing inside it is replaced
        index = end
      } else if let variable = Variable(text, at: index) {
        result.heldVariable = true
        if out.count <= Self.textLimitBytes { value(of: variable, &out, &result, depth, position, problems) }
        index = variable.end
      } else {
        out.append(text[index])
        index += 1
      }
    }
  }

  private func value(
    of variable: Variable, _ out: inout [UInt8], _ result: inout Expansion, _ depth: Int, _ position: SourcePosition,
    _ problems: Problems
  ) {
    let name = String(decoding: variable.name, as: UTF8.self)
    if variable.isNegated, environment[name]?.isEmpty == false { return }
    if !variable.isNegated, let rest = variable.rest, name == "file" || name == "credential" {
      result.isSecret = true
      guard opensFiles else {
        result.isUnresolved = true
        out += "***".utf8
        return
      }
      if let bytes = secret(name, String(decoding: rest, as: UTF8.self), position, problems) {
        out += bytes
      } else {
        result.isUnresolved = true
      }
    } else if !variable.isNegated, let value = environment[name] {
      out += value.utf8
    } else if let rest = variable.rest {
      if depth < 16 {
        expand(rest, &out, &result, depth: depth + 1, position, problems)
      } else {
        problems.error(position, "variables are nested deeper than 16 levels", code: "config.too-deep")
      }
    } else {
      result.isUnresolved = true
      problems.error(
        position, "the variable '\(name)' is not set", code: "config.unset-variable",
        hint: "set it, or give a default: ${\(name):…}; the literal is written $${\(name)}")
    }
  }

  /// - Returns: nil after a problem.
  private func secret(_ kind: String, _ name: String, _ position: SourcePosition, _ problems: Problems) -> [UInt8]? {
    var path = name
    if kind == "credential" {
      guard let folder = environment["CREDENTIALS_DIRECTORY"], !folder.isEmpty else {
        problems.error(
          position, "there are no systemd credentials here for '\(excerpt(of: name))'", code: "config.unset-variable",
          hint: "the service needs LoadCredential=\(excerpt(of: name)):PATH")
        return nil
      }
      guard !name.isEmpty, name != ".", name != "..", !name.utf8.contains(UInt8(ascii: "/")) else {
        problems.error(
          position, "'\(excerpt(of: name))' is no name of a systemd credential", code: "config.unset-variable")
        return nil
      }
      path = folder + "/" + name
    }
    do {
      var bytes = try readFile(path, limit: Self.fileLimitBytes)
      if bytes.last == 10 { bytes.removeLast() }
      if bytes.last == 13 { bytes.removeLast() }
      if YAML.firstInvalidByte(in: bytes) != nil {
        problems.error(position, "'\(excerpt(of: path))' holds no valid UTF-8", code: "config.encoding")
        return nil
      }
      return bytes
    } catch {
      problems.error(
        position, "'\(excerpt(of: path))' cannot be read: \(error.reason)", code: "config.unreadable-file")
      return nil
    }
  }

  /// `${NAME}`, `${NAME:rest}` or `${!NAME:rest}` at an index.
  private struct Variable {
    var isNegated = false
    var name: ArraySlice<UInt8>
    var rest: ArraySlice<UInt8>?
    var end: Int

    init?(_ text: ArraySlice<UInt8>, at start: Int) {
      guard start + 2 < text.endIndex, text[start] == UInt8(ascii: "$"), text[start + 1] == UInt8(ascii: "{") else {
        return nil
      }
      var index = start + 2
      if text[index] == UInt8(ascii: "!") {
        isNegated = true
        index += 1
      }
      let nameStart = index
      while index < text.endIndex, Self.isNameByte(text[index]) { index += 1 }
      name = text[nameStart..<index]
      guard let first = name.first, !(48...57).contains(first), index < text.endIndex else { return nil }
      if text[index] == UInt8(ascii: "}"), !isNegated {
        end = index + 1
        return
      }
      guard text[index] == UInt8(ascii: ":") else { return nil }
      let restStart = index + 1
      var open = 0
      index = restStart
      while index < text.endIndex {
        if text[index] == UInt8(ascii: "{"), text[index - 1] == UInt8(ascii: "$") { open += 1 }
        if text[index] == UInt8(ascii: "}") {
          if open == 0 {
            rest = text[restStart..<index]
            end = index + 1
            return
          }
          open -= 1
        }
        index += 1
      }
      return nil
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
      switch byte {
      case 48...57, 65...90, 97...122, UInt8(ascii: "_"), UInt8(ascii: "."): true
      default: false
      }
    }
  }
}

extension YAMLNode {
  /// This tree with the variables of its scalars replaced; keys stay as they are.
  public func expanded(by source: VariableSource, problems: Problems) -> YAMLNode {
    guard mayHoldVariables else { return self }
    switch content {
    case .scalar(let text):
      let expansion = source.expand(text, at: position, problems: problems)
      return YAMLNode(
        .scalar(expansion.text), position, style: style, width: expansion.text == text ? width : 0,
        heldVariable: expansion.heldVariable,
        isSecret: expansion.isSecret, isUnresolved: expansion.isUnresolved, writtenText: text)
    case .list(let items): return YAMLNode(.list(items.map { $0.expanded(by: source, problems: problems) }), position)
    case .map(let entries):
      let entries = entries.map {
        YAMLEntry(key: $0.key, keyPosition: $0.keyPosition, value: $0.value.expanded(by: source, problems: problems))
      }
      return YAMLNode(.map(entries), position)
    }
  }
}
