//  Lists, maps and values that may be absent.

public import Diagnostics

extension Optional: OptionValue where Wrapped: OptionValue {
  public static var typeName: String { Wrapped.typeName }
  public static var schema: OptionSchema { Wrapped.schema }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Wrapped?? {
    if let text = node.text, Wrapped.isOff(text) { return .some(nil) }
    return Wrapped.read(node, context).map { .some($0) }
  }
  public var optionText: String? { self.flatMap(\.optionText) }
}

/// A single value counts as a list of one. A scalar that held a variable is split at commas and blanks.
extension Array: OptionValue where Element: OptionValue {
  public static var typeName: String { "list of \(Element.typeName)" }
  public static var schema: OptionSchema { .oneOf([.list(Element.schema), Element.schema]) }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> [Element]? {
    var items = node.items ?? [node]
    if node.heldVariable, let text = node.text {
      items = text.split { $0 == "," || $0.isWhitespace }.map {
        YAMLNode(
          .scalar(String($0)), node.position, style: node.style, isSecret: node.isSecret,
          isUnresolved: node.isUnresolved)
      }
    }
    let values = items.map { Element.read($0, context.reading($0)) }
    return values.contains { $0 == nil } ? nil : values.compactMap { $0 }
  }
  public var optionText: String? { "[" + compactMap(\.optionText).joined(separator: ", ") + "]" }
}

/// A map in written order. Also read from a list of even length, `[key, value, key, value]`, where the values of a key
/// that occurs more than once become a list.
public struct OrderedMap<Key: OptionValue, Value: OptionValue>: OptionValue, ExpressibleByDictionaryLiteral {
  public struct Entry: Sendable {
    public var key: Key
    public var value: Value
    public var keyPosition: SourcePosition
    public var valuePosition: SourcePosition
  }

  public var entries: [Entry]

  public init(_ entries: [Entry] = []) { self.entries = entries }
  public init(dictionaryLiteral elements: (Key, Value)...) {
    let nowhere = SourcePosition(file: "")
    entries = elements.map { Entry(key: $0.0, value: $0.1, keyPosition: nowhere, valuePosition: nowhere) }
  }

  public var isEmpty: Bool { entries.isEmpty }
  public var count: Int { entries.count }

  public static var typeName: String { "map of \(Key.typeName) to \(Value.typeName)" }
  public static var schema: OptionSchema { .map(Value.schema) }

  public static func read(_ node: YAMLNode, _ context: OptionContext) -> OrderedMap? {
    var pairs: [YAMLEntry]
    switch node.content {
    case .map(let entries): pairs = entries
    case .list(let items):
      guard items.count.isMultiple(of: 2) else {
        return context.refuse(node, expected: "a map, or a list of keys and values in turn")
      }
      guard let collected = Self.pairs(items, context) else { return nil }
      pairs = collected
    case .scalar: return context.refuse(node, expected: "a map")
    }
    var result = OrderedMap()
    var isSound = true
    for pair in pairs {
      let key = Key.read(YAMLNode(.scalar(pair.key), pair.keyPosition, style: .block), context)
      let inner = OptionContext(
        problems: context.problems, option: "\(context.option): \(excerpt(of: pair.key))", owner: context.owner,
        unit: context.unit)
      let value = Value.read(pair.value, inner.reading(pair.value))
      if let key, let value {
        result.entries.append(
          Entry(key: key, value: value, keyPosition: pair.keyPosition, valuePosition: pair.value.position))
      } else {
        isSound = false
      }
    }
    return isSound ? result : nil
  }

  private static func pairs(_ items: [YAMLNode], _ context: OptionContext) -> [YAMLEntry]? {
    var places: [String: Int] = [:]
    var collected: [(key: YAMLNode, name: String, values: [YAMLNode])] = []
    for index in stride(from: 0, to: items.count - 1, by: 2) {
      guard let name = items[index].text else {
        return context.refuse(items[index], expected: "text as a key")
      }
      if let place = places[name] {
        collected[place].values.append(items[index + 1])
      } else {
        places[name] = collected.count
        collected.append((items[index], name, [items[index + 1]]))
      }
    }
    return collected.map { pair in
      let value = pair.values.count == 1 ? pair.values[0] : YAMLNode(.list(pair.values), pair.values[0].position)
      return YAMLEntry(key: pair.name, keyPosition: pair.key.position, value: value)
    }
  }

  public var optionText: String? {
    if entries.isEmpty { return "{}" }
    let texts = entries.map { "\($0.key.optionText ?? "''"): \($0.value.optionText ?? "''")" }
    return "{ " + texts.joined(separator: ", ") + " }"
  }
}

extension OrderedMap where Key: Equatable {
  public subscript(_ key: Key) -> Value? { entries.first { $0.key == key }?.value }
}

/// The name of a plugin within an option, with its own options: `json`, or `{ json: { charset: UTF-8 } }`.
public struct PluginChoice: OptionValue {
  public var name: String
  public var position: SourcePosition
  /// The plugin's options; nil where it has none.
  public var options: YAMLNode?

  public init(_ name: String, at position: SourcePosition = SourcePosition(file: ""), options: YAMLNode? = nil) {
    self.name = name
    self.position = position
    self.options = options
  }

  public static var typeName: String { "plugin name, or a map of one to its options" }
  public static var schema: OptionSchema { .oneOf([.text, .map(.anything)]) }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> PluginChoice? {
    let expected = "a name, or a map of one name to its options"
    if let entries = node.entries {
      guard entries.count == 1 else { return context.refuse(node, expected: expected) }
      return PluginChoice(entries[0].key, at: entries[0].keyPosition, options: entries[0].value)
    }
    return context.text(node, expected: expected).map { PluginChoice($0, at: node.position) }
  }
  public var optionText: String? { yamlText(name) }
}
