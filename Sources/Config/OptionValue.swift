//  The types of options. A type says in one place how it is read from YAML, how its values are written in documentation,
//  and what shape the editor's schema gives it. Other modules add types by conforming to `OptionValue`.

public import Diagnostics

/// A type that an option may have.
public protocol OptionValue: Sendable {
  /// The type's name in documentation, without article: `whole number`.
  static var typeName: String { get }
  /// The type's shape in JSON Schema.
  static var schema: OptionSchema { get }
  /// Reads a value. Variables have been replaced in `node`.
  ///
  /// - Returns: nil where `node` is no such value, which `context` has been told by `refuse`.
  static func read(_ node: YAMLNode, _ context: OptionContext) -> Self?
  /// Text that switches an optional value off, such as `-1` for durations.
  static func isOff(_ text: String) -> Bool
  /// The value as it is written in YAML, in documentation and in messages; nil where there is none.
  var optionText: String? { get }
}

extension OptionValue {
  public static var schema: OptionSchema { .text }
  public static func isOff(_ text: String) -> Bool { false }
}

/// The shape of a value, for JSON Schema and documentation.
public indirect enum OptionSchema: Sendable, Hashable {
  case text, secret, boolean
  case integer, number
  case choice([String])
  case list(OptionSchema)
  case map(OptionSchema)
  case nested([OptionDescription])
  case oneOf([OptionSchema])
  case anything
}

/// The unit of a bare number.
public enum OptionUnit: String, Sendable, Hashable, CaseIterable {
  case nanoseconds, microseconds, milliseconds, seconds, minutes, hours, days
  /// `kb` is 1,000 and `kib` 1,024 bytes, as in plugin options of Logstash.
  case bytes
  /// `kb` and `kib` are both 1,024 bytes, as in settings of Logstash.
  case binaryBytes = "bytes (1 kb is 1,024)"
  case events, characters, lines, percent, connections
}

/// Everything that documentation, the schema and `sluice help` say about an option.
public struct OptionDescription: Sendable, Hashable {
  public var name: String
  public var typeName: String
  public var schema: OptionSchema
  public var sentence: String
  /// The default as it is written in YAML; nil where the option has none.
  public var defaultText: String?
  /// `defaultText` is words about a default that is worked out at run time, and no YAML.
  public var isDefaultInWords = false
  public var unit: OptionUnit?
  public var isRequired = false
  /// The smallest and the largest value.
  public var range: String?
  /// A value as it may be written in YAML.
  public var example: String?
  /// What to use instead of a deprecated option.
  public var deprecation: String?
  /// The option is known so that its use can be refused with advice.
  public var isObsolete = false

  public init(name: String, typeName: String, schema: OptionSchema, sentence: String) {
    self.name = name
    self.typeName = typeName
    self.schema = schema
    self.sentence = sentence
  }

  /// The texts that an enumeration or a list of one allows.
  public var allowedValues: [String] {
    switch schema {
    case .choice(let values), .list(.choice(let values)), .map(.choice(let values)): values
    case .oneOf(let shapes): shapes.compactMap { if case .choice(let values) = $0 { values } else { nil } }.first ?? []
    default: []
    }
  }
}

/// Whose options are read: words for messages, and the place of a missing option.
public struct OptionOwner: Sendable {
  /// `input 'beats'`
  public var phrase: String
  /// The plugin's name in the file.
  public var position: SourcePosition
  /// The name that `sluice help` takes; nil where it has no page.
  public var helpName: String?

  public init(_ phrase: String, at position: SourcePosition, helpName: String? = nil) {
    self.phrase = phrase
    self.position = position
    self.helpName = helpName
  }

  /// - Parameter kind: `input`, `filter`, `output` or `codec`.
  public static func plugin(_ kind: String, _ name: String, at position: SourcePosition) -> OptionOwner {
    OptionOwner("\(kind) '\(excerpt(of: name))'", at: position, helpName: name)
  }
}

/// What a type needs to know while it reads an option's value.
public struct OptionContext {
  public let problems: Problems
  /// The option's name, as messages show it.
  public let option: String
  public let owner: OptionOwner
  public let unit: OptionUnit?

  public init(problems: Problems, option: String, owner: OptionOwner, unit: OptionUnit? = nil) {
    self.problems = problems
    self.option = option
    self.owner = owner
    self.unit = unit
  }

  /// For reading one scalar: a text that is not known is never at fault.
  func reading(_ node: YAMLNode) -> OptionContext {
    node.isUnresolved ? OptionContext(problems: Problems(), option: option, owner: owner, unit: unit) : self
  }

  /// `'port' of input 'beats'`
  public var phrase: String { owner.phrase.isEmpty ? "'\(option)'" : "'\(option)' of \(owner.phrase)" }

  /// Tells that a value is of the wrong kind: `'port' of input 'beats' takes EXPECTED, not 'abc'`.
  ///
  /// - Returns: nil, so that a reader can return it.
  public func refuse<Value>(_ node: YAMLNode, expected: String, hint: String? = nil) -> Value? {
    problems.error(
      node.position, "\(phrase) takes \(expected), not \(node.phrase)", code: "config.bad-value",
      hint: hint ?? (node.isEmpty ? "an empty text is written ''" : nil))
    return nil
  }

  /// Tells what is wrong in words of the type's own: `'port' of input 'beats' COMPLAINT`.
  public func complain<Value>(_ node: YAMLNode, _ complaint: String, hint: String? = nil) -> Value? {
    problems.error(node.position, "\(phrase) \(complaint)", code: "config.bad-value", hint: hint)
    return nil
  }

  /// The text of a scalar. A list of exactly one scalar counts as that scalar.
  ///
  /// - Parameter expected: What the option takes, with its article, for the message.
  public func text(_ node: YAMLNode, expected: String) -> String? {
    var scalar = node
    if let items = node.items, items.count == 1 { scalar = items[0] }
    guard let text = scalar.text, !scalar.isEmpty else { return refuse(node, expected: expected) }
    return text
  }
}

/// Text as YAML would need it written: plain where that is safe, else in single quotes.
public func yamlText(_ text: String) -> String {
  let bytes = Array(text.utf8)
  let plain = bytes.allSatisfy { byte in
    switch byte {
    case 48...57, 65...90, 97...122, UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "/"): true
    default: false
    }
  }
  if plain, !bytes.isEmpty, bytes != [UInt8(ascii: "-")] { return text }
  if bytes.contains(where: { $0 < 32 || $0 == 127 }) {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 10: quoted += "\\n"
      case 13: quoted += "\\r"
      case 9: quoted += "\\t"
      case 34, 92: quoted += "\\\(scalar)"
      case 0..<32, 127:
        let digits = String(scalar.value, radix: 16)
        quoted += digits.count == 1 ? "\\x0\(digits)" : "\\x\(digits)"
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
  return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
}
