//  What is printed from declarations of options: the table of a help page, the table of a reference page in Markdown,
//  and the JSON Schema that editors read.

internal import Diagnostics

extension [OptionDescription] {
  /// The options of a help page, as wide as `columns`.
  public func helpText(columns: Int = 80) -> String {
    filter { !$0.isObsolete }.map { option in
      "  \(option.name)  (\(option.kindText))\n" + wrapped(option.sentenceWithFacts, columns: columns, indent: 6) + "\n"
        + option.nested.map {
          "      \($0.name)  (\($0.kindText))\n" + wrapped($0.sentenceWithFacts, columns: columns, indent: 10) + "\n"
        }.joined()
    }.joined()
  }

  /// A table for a reference page.
  public func markdownTable() -> String {
    "| option | type | default | meaning |\n|---|---|---|---|\n" + rows(prefix: "")
  }

  private func rows(prefix: String) -> String {
    func cell(_ text: String) -> String {
      text.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
    }
    return filter { !$0.isObsolete }.map { option in
      var value = ""
      if option.isRequired {
        value = "required"
      } else if let text = option.defaultText, option.nested.isEmpty {
        value = option.isDefaultInWords ? text : "`\(text)`"
      }
      let name = prefix + option.name
      let row = "| `\(name)` | \(cell(option.kindText)) | \(cell(value)) | \(cell(option.sentenceOnly)) |\n"
      return row + option.nested.rows(prefix: name + ".")
    }.joined()
  }

  /// The JSON Schema of a map of these options.
  ///
  /// - Parameter others: Further names are allowed, such as those that all plugins share.
  public func jsonSchema(allowingOthers others: Bool = false) -> String {
    let properties = filter { !$0.isObsolete }.map { "\(jsonText($0.name)):\($0.schemaText)" }
    let required = filter(\.isRequired).map { jsonText($0.name) }
    return "{\"type\":\"object\",\"properties\":{\(properties.joined(separator: ","))}"
      + (required.isEmpty ? "" : ",\"required\":[\(required.joined(separator: ","))]")
      + (others ? "}" : ",\"additionalProperties\":false}")
  }
}

extension OptionDescription {
  /// `whole number of events, 1 to 10`
  public var kindText: String {
    var text = typeName
    switch unit {
    case nil, .bytes: break
    case .binaryBytes: text += " (1 kb is 1,024)"
    case .nanoseconds, .microseconds, .milliseconds, .seconds, .minutes, .hours, .days:
      text +=
        typeName == Duration.typeName ? " (a bare number: \(unit?.rawValue ?? ""))" : " of \(unit?.rawValue ?? "")"
    case .some(let unit): text += " of \(unit.rawValue)"
    }
    if let range { text += ", \(range)" }
    return text
  }

  /// Options within this one's value.
  public var nested: [OptionDescription] {
    if case .nested(let options) = schema { options } else { [] }
  }

  fileprivate var sentenceOnly: String {
    var text = sentence
    if let example, defaultText == nil { text += " Example: `\(example)`." }
    if let deprecation { text += " Deprecated: \(deprecation)." }
    return text
  }

  fileprivate var sentenceWithFacts: String {
    sentence + (isRequired ? " Required." : defaultText.map { " Default: \($0)." } ?? "")
      + (example.map { " Example: \($0)" } ?? "") + (deprecation.map { " Deprecated: \($0)." } ?? "")
  }

  /// The JSON Schema of this option's value.
  public var schemaText: String {
    let words = isDefaultInWords ? defaultText.map { " Default: \($0)." } ?? "" : ""
    var text = "{\"description\":\(jsonText(sentence + words))"
    if let defaultText, !isDefaultInWords, let value = schema.json(defaultText) { text += ",\"default\":\(value)" }
    if deprecation != nil { text += ",\"deprecated\":true" }
    let shape = schema.jsonMembers
    return text + (shape.isEmpty ? "" : "," + shape) + "}"
  }
}

extension OptionSchema {
  /// A variable may stand for every scalar, so a number or word may be a text with `${`.
  private static let variable = #"{"type":"string","pattern":"\\$\\{"}"#

  /// The members of a schema object; empty where everything is allowed.
  var jsonMembers: String {
    switch self {
    case .anything: return ""
    case .text, .secret: return #""type":["string","number","boolean"]"#
    case .boolean: return #""anyOf":[{"type":"boolean"},{"enum":["true","false"]},\#(Self.variable)]"#
    case .integer: return #""anyOf":[{"type":"integer"},{"type":"string","pattern":"^-?[0-9]+$"},\#(Self.variable)]"#
    case .number: return #""anyOf":[{"type":"number"},{"type":"string","pattern":"^-?[0-9.]+$"},\#(Self.variable)]"#
    case .choice(let words):
      // `true` and `false` as words are booleans to an editor.
      let values = words.map(jsonText) + words.filter { $0 == "true" || $0 == "false" }
      return #""anyOf":[{"enum":[\#(values.joined(separator: ","))]},\#(Self.variable)]"#
    case .list(let element): return #""type":"array","items":{\#(element.jsonMembers)}"#
    case .map(let value):
      return #""anyOf":[{"type":"object","additionalProperties":{\#(value.jsonMembers)}},{"type":"array"}]"#
    case .nested(let options): return String(options.jsonSchema().dropFirst().dropLast())
    case .oneOf(let shapes):
      return "\"anyOf\":[" + shapes.map { "{\($0.jsonMembers)}" }.joined(separator: ",") + "]"
    }
  }
}

extension OptionSchema {
  /// A default, which is written in YAML, as JSON; nil where the text is no such value.
  fileprivate func json(_ text: String) -> String? {
    let problems = Problems()
    // `%` and `@` may not begin a plain scalar; a text that is none is given in quotes by its type.
    guard let node = YAML.parse(text, file: "default", problems: problems), !problems.hasErrors else { return nil }
    return json(node)
  }

  private func json(_ node: YAMLNode) -> String {
    if let items = node.items { return "[" + items.map { element.json($0) }.joined(separator: ",") + "]" }
    if let entries = node.entries {
      return "{" + entries.map { "\(jsonText($0.key)):\(member($0.key).json($0.value))" }.joined(separator: ",") + "}"
    }
    let text = node.text ?? ""
    if !node.isQuoted, text == "true" || text == "false" || takesNumbers && isNumber(text, fraction: true) {
      return text
    }
    return jsonText(text)
  }

  private var takesNumbers: Bool {
    switch self {
    case .integer, .number, .anything: true
    case .oneOf(let shapes): shapes.contains { $0.takesNumbers }
    default: false
    }
  }

  private var element: OptionSchema {
    switch self {
    case .list(let element): element
    case .oneOf(let shapes): shapes.first { if case .list = $0 { true } else { false } }?.element ?? .anything
    default: .anything
    }
  }

  private func member(_ name: String) -> OptionSchema {
    switch self {
    case .map(let value): value
    case .nested(let options): options.first { $0.name == name }?.schema ?? .anything
    default: .anything
    }
  }
}

/// A text as a JSON string.
public func jsonText(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar.value {
    case 34: result += "\\\""
    case 92: result += "\\\\"
    case 10: result += "\\n"
    case 9: result += "\\t"
    case 0..<32:
      let digits = String(scalar.value, radix: 16)
      result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
