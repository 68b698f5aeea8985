//  A value of an option with its type: `5` and `true` are a number and a boolean unless they are quoted.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

/// Any value, as an option gives it. Immutable; any thread may use it.
struct TypedValue: OptionValue {
  enum Content: Sendable {
    case text(Template)
    case plain(NumberText)
    case boolean(Bool)
    case null
    /// A list or map as JSON.
    case nested(Template, Kind)
  }

  let content: Content
  let optionText: String?

  private init(content: Content, optionText: String?) {
    self.content = content
    self.optionText = optionText
  }

  init(_ node: YAMLNode) { self.init(content: TypedValue.content(of: node), optionText: node.optionText) }

  static var typeName: String { "any value" }
  static var schema: OptionSchema { .anything }

  static func read(_ node: YAMLNode, _ context: OptionContext) -> TypedValue? {
    TypedValue(node)
  }

  static func content(of node: YAMLNode) -> Content {
    guard let text = node.text else {
      var json = ByteBuffer()
      append(node, to: &json)
      return .nested(Template(json.string()), node.items == nil ? .map : .list)
    }
    guard !node.isQuoted else { return .text(Template(text)) }
    switch text {
    case "true": return .boolean(true)
    case "false": return .boolean(false)
    case "null", "~", "": return .null
    default: break
    }
    let number = Array(text.utf8).withUnsafeBytes { parseNumber($0) }
    if let number, number != .bigInteger { return .plain(number) }
    return .text(Template(text))
  }

  private static func append(_ node: YAMLNode, to out: inout ByteBuffer) {
    if let items = node.items {
      out.append(91)
      for (i, item) in items.enumerated() {
        if i > 0 { out.append(44) }
        append(item, to: &out)
      }
      out.append(93)
    } else if let entries = node.entries {
      out.append(123)
      for (i, entry) in entries.enumerated() {
        if i > 0 { out.append(44) }
        out.append(quoted: entry.key)
        out.append(58)
        append(entry.value, to: &out)
      }
      out.append(125)
    } else {
      switch content(of: node) {
      case .text(let text), .nested(let text, _): out.append(quoted: text.description)
      case .plain: out.append(text: node.text ?? "0")
      case .boolean(let value): value ? out.append("true") : out.append("false")
      case .null: out.append("null")
      }
    }
  }

  /// The value for a field; texts are not filled in.
  func bits(_ event: Event) -> ValueBits {
    switch content {
    case .text(let text): .text(staying: text.constantBytes)
    case .plain(.integer(let value)): .integer(value)
    case .plain(.double(let value)): .double(value)
    case .plain(.bigInteger), .null: .null
    case .boolean(let value): .boolean(value)
    case .nested(let json, let kind): event.makeFragment(staying: json.constantBytes, kind: kind)
    }
  }
}
