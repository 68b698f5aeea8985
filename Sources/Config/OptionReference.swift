//  What is printed from declarations of options: the table of a help page, the table of a reference page in Markdown,
//  and the JSON Schema that editors read.

extension [OptionDescription] {
  /// The options of a help page, as wide as `columns`.
  public func helpText(columns: Int = 80) -> String {
    filter { !$0.isObsolete }.map { option in
      let head = "  \(option.name)  (\(option.kindText))\n"
      var lines: [String] = []
      var line = ""
      for word in option.sentenceWithFacts.split(separator: " ") {
        if !line.isEmpty, line.count + 1 + word.count > columns - 6 {
          lines.append(line)
          line = ""
        }
        line += (line.isEmpty ? "" : " ") + word
      }
      lines.append(line)
      return head + lines.map { "      \($0)\n" }.joined()
    }.joined()
  }

  /// A table for a reference page.
  public func markdownTable() -> String {
    func cell(_ text: String) -> String {
      text.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
    }
    var table = "| option | type | default | meaning |\n|---|---|---|---|\n"
    for option in self where !option.isObsolete {
      let value = option.isRequired ? "required" : option.defaultText.map { "`\($0)`" } ?? ""
      table += "| `\(option.name)` | \(cell(option.kindText)) | \(cell(value)) | \(cell(option.sentenceOnly)) |\n"
    }
    return table
  }

  /// The JSON Schema of a map of these options.
  ///
  /// - Parameter others: Further names are allowed, such as those that all plugins share.
  public func jsonSchema(allowingOthers others: Bool = false) -> String {
    let properties = filter { !$0.isObsolete }.map { "\(jsonText($0.name)):\($0.jsonSchema())" }
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

  func jsonSchema() -> String {
    var text = "{\"description\":\(jsonText(sentence))"
    if let defaultText { text += ",\"default\":\(jsonText(defaultText))" }
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
