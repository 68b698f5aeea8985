//  The plain types of options: texts, numbers, booleans, enumerations. The rules are those of Logstash, so that a
//  configuration carries over, and strict, so that a slip is found before the first event.

public import Diagnostics

extension String: OptionValue {
  public static var typeName: String { "text" }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> String? {
    context.text(node, expected: "text")
  }
  public var optionText: String? { yamlText(self) }
}

/// Text that knows where its characters stand in the file, for errors inside it.
public struct PlacedText: OptionValue {
  public let text: String
  private let node: YAMLNode

  public static var typeName: String { String.typeName }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> PlacedText? {
    context.text(node, expected: "text").map { PlacedText(text: $0, node: node) }
  }
  public var optionText: String? { text.optionText }

  public var position: SourcePosition { node.position }
  /// - Parameter index: Counts Unicode scalars from 0.
  public func position(ofCharacter index: Int) -> SourcePosition { node.position(ofCharacter: index) }
}

extension Bool: OptionValue {
  public static var typeName: String { "true or false" }
  public static var schema: OptionSchema { .boolean }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Bool? {
    switch context.text(node, expected: "true or false") {
    case nil: return nil
    case "true": return true
    case "false": return false
    default: return context.refuse(node, expected: "true or false")
    }
  }
  public var optionText: String? { self ? "true" : "false" }
}

/// `text` reads exactly as a number: digits without leading zeros, a sign or a fraction, no blanks, no exponent.
func isNumber(_ text: String, fraction: Bool) -> Bool {
  var rest = text.utf8[...]
  if rest.first == UInt8(ascii: "-") { rest.removeFirst() }
  let whole = rest.prefix { (48...57).contains($0) }
  guard let first = whole.first, first != 48 || whole.count == 1 else { return false }
  rest = rest.dropFirst(whole.count)
  if rest.isEmpty { return true }
  guard fraction, rest.first == UInt8(ascii: ".") else { return false }
  let digits = rest.dropFirst()
  return !digits.isEmpty && digits.allSatisfy { (48...57).contains($0) }
}

extension Int: OptionValue {
  public static var typeName: String { "whole number" }
  public static var schema: OptionSchema { .integer }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Int? {
    guard let text = context.text(node, expected: "a whole number") else { return nil }
    guard isNumber(text, fraction: false), let value = Int(text) else {
      return context.refuse(node, expected: "a whole number")
    }
    return value
  }
  public var optionText: String? { String(self) }
}

extension Double: OptionValue {
  public static var typeName: String { "number" }
  public static var schema: OptionSchema { .number }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Double? {
    guard let text = context.text(node, expected: "a number") else { return nil }
    guard isNumber(text, fraction: true), let value = Double(text), value.isFinite else {
      return context.refuse(node, expected: "a number")
    }
    return value
  }
  public var optionText: String? {
    if let whole = Int(exactly: self) { return String(whole) }
    return String(self)
  }
}

/// An option that takes one of a few words, in exact case.
public protocol OptionEnum: OptionValue, CaseIterable, RawRepresentable where RawValue == String {}

extension OptionEnum {
  public static var typeName: String { "one of " + allCases.map(\.rawValue).joined(separator: ", ") }
  public static var schema: OptionSchema { .choice(allCases.map(\.rawValue)) }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Self? {
    let names = allCases.map(\.rawValue)
    let quoted = names.map { "'\($0)'" }
    let expected =
      quoted.count > 1
      ? quoted.dropLast().joined(separator: ", ") + " or " + (quoted.last ?? "") : quoted.joined()
    guard let text = context.text(node, expected: expected) else { return nil }
    if let value = Self(rawValue: text) { return value }
    let sameLetters = names.first { $0.lowercased() == text.lowercased() }
    let near = node.isSecret ? nil : sameLetters ?? nearestName(to: text, among: names)
    return context.refuse(node, expected: expected, hint: near.map { "did you mean '\($0)'?" })
  }
  public var optionText: String? { yamlText(rawValue) }
}

/// Any YAML, for options whose shape depends on something else.
extension YAMLNode: OptionValue {
  public static var typeName: String { "any value" }
  public static var schema: OptionSchema { .anything }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Self? { node as? Self }
  public var optionText: String? {
    switch content {
    case .scalar(let text): isSecret ? "***" : yamlText(text)
    case .list(let items): "[" + items.map { $0.optionText ?? "" }.joined(separator: ", ") + "]"
    case .map(let entries):
      entries.isEmpty
        ? "{}"
        : "{ " + entries.map { "\(yamlText($0.key)): \($0.value.optionText ?? "")" }.joined(separator: ", ") + " }"
    }
  }
}
