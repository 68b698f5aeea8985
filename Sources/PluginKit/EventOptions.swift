//  Option types that need to know of events: field references and templates.

public import Config
public import Events

extension FieldReference: OptionValue {
  public static var typeName: String { "field reference" }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Self? {
    guard let text = context.text(node, expected: "a field reference") else { return nil }
    do {
      return try FieldReference(text) as? Self
    } catch {
      return context.complain(node, "takes a field reference: \(error)")
    }
  }
  public var optionText: String? { yamlText(description) }
}

extension Template: OptionValue {
  public static var typeName: String { "text with placeholders" }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Self? {
    guard let text = context.text(node, expected: "a text") else { return nil }
    return Template(text) as? Self
  }
  public var optionText: String? { yamlText(description) }
}
