//  Options that name places in the world: ports, files, addresses; and secrets.

/// A port number; 0 lets the system choose.
public struct Port: OptionValue, Hashable, Comparable, ExpressibleByIntegerLiteral {
  public var number: Int

  public init(_ number: Int) { self.number = number }
  public init(integerLiteral value: Int) { number = value }
  public static func < (left: Port, right: Port) -> Bool { left.number < right.number }

  public static var typeName: String { "port" }
  public static var schema: OptionSchema { .integer }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Port? {
    let expected = "a port from 0 to 65535"
    guard let text = context.text(node, expected: expected) else { return nil }
    guard isNumber(text, fraction: false), let number = Int(text), (0...65535).contains(number) else {
      return context.refuse(node, expected: expected)
    }
    return Port(number)
  }
  public var optionText: String? { String(number) }
}

/// A port, or a range of which the first free one is taken: `9600`, `9600-9700`.
public struct PortRange: OptionValue, Hashable, ExpressibleByIntegerLiteral {
  public var ports: ClosedRange<Int>

  public init(_ ports: ClosedRange<Int>) { self.ports = ports }
  public init(integerLiteral value: Int) { ports = value...value }

  public static var typeName: String { "port or range of ports" }
  public static var schema: OptionSchema { .oneOf([.integer, .text]) }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> PortRange? {
    let expected = "a port from 0 to 65535, or a range such as 9600-9700"
    guard let text = context.text(node, expected: expected) else { return nil }
    let parts = text.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
    let numbers = parts.compactMap { isNumber($0, fraction: false) ? Int($0) : nil }
    guard numbers.count == parts.count, (1...2).contains(numbers.count), let first = numbers.first,
      let last = numbers.last, first <= last, first >= 0, last <= 65535
    else { return context.refuse(node, expected: expected) }
    return PortRange(first...last)
  }
  public var optionText: String? {
    ports.count == 1 ? String(ports.lowerBound) : "\(ports.lowerBound)-\(ports.upperBound)"
  }
}

/// The path of a file or folder. Only its form is checked; whether it is there is for whoever opens it.
public struct FilePath: OptionValue, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
  public var text: String

  public init(_ text: String) { self.text = text }
  public init(stringLiteral value: String) { text = value }
  public var description: String { text }

  public static var typeName: String { "path" }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> FilePath? {
    guard let text = context.text(node, expected: "a path") else { return nil }
    guard !text.isEmpty else { return context.complain(node, "must not be empty") }
    guard !text.utf8.contains(0), text.utf8.count <= 4096 else { return context.refuse(node, expected: "a path") }
    return FilePath(text)
  }
  public var optionText: String? { yamlText(text) }

  /// This path, or below `folder` where it is relative.
  public func resolved(in folder: String) -> String {
    text.hasPrefix("/") || folder.isEmpty ? text : folder.hasSuffix("/") ? folder + text : folder + "/" + text
  }
}

/// A text that is never shown.
public struct Secret: OptionValue, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  private let text: String

  public init(_ text: String) { self.text = text }
  /// The text itself, for whoever must send it.
  public var revealed: String { text }
  public var isEmpty: Bool { text.isEmpty }
  public var description: String { "***" }
  public var debugDescription: String { "***" }
  public var customMirror: Mirror { Mirror(self, children: []) }

  public static var typeName: String { "secret text" }
  public static var schema: OptionSchema { .secret }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Secret? {
    var scalar = node
    if let items = node.items, items.count == 1 { scalar = items[0] }
    guard let text = scalar.text, !scalar.isEmpty else { return context.refuse(node, expected: "a secret text") }
    return Secret(text)
  }
  public var optionText: String? { text.isEmpty ? nil : "***" }
}

/// An address of the web: `http://host:9200/path`, or `host:9200` where the reader allows a missing scheme.
/// User and password within it are hidden where it is shown.
public struct WebAddress: OptionValue, Hashable, CustomStringConvertible, ExpressibleByStringLiteral {
  public var text: String

  public init(_ text: String) { self.text = text }
  public init(stringLiteral value: String) { text = value }

  public var description: String { Self.masked(text) }
  public static var typeName: String { "URL" }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> WebAddress? {
    let expected = "a URL such as http://localhost:9200"
    var scalar = node
    if let items = node.items, items.count == 1 { scalar = items[0] }
    guard let text = scalar.text, !scalar.isEmpty else { return context.refuse(node, expected: expected) }
    guard isSound(text) else {
      return context.complain(
        node, "takes \(expected), not \(scalar.isSecret ? "***" : "'\(excerpt(of: masked(text)))'")")
    }
    return WebAddress(text)
  }
  public var optionText: String? { yamlText(Self.masked(text)) }

  /// No blanks or control characters, a host, and a scheme of letters where there is one.
  private static func isSound(_ text: String) -> Bool {
    guard text.utf8.count <= 4096, text.utf8.allSatisfy({ $0 > 32 && $0 != 127 }) else { return false }
    var rest = text[...]
    if let marker = text.firstRange(of: "://") {
      let scheme = text[..<marker.lowerBound]
      guard let first = scheme.first, first.isASCII, first.isLetter,
        scheme.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "+" || $0 == "-" || $0 == ".") })
      else { return false }
      rest = text[marker.upperBound...]
    }
    var authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    if let at = authority.lastIndex(of: "@") { authority = authority[authority.index(after: at)...] }
    guard let first = authority.first, first != ":" else { return false }
    if first == "[" { return authority.contains("]") }
    guard let colon = authority.lastIndex(of: ":") else { return true }
    let port = String(authority[authority.index(after: colon)...])
    return isNumber(port, fraction: false) && Int(port).map { (1...65535).contains($0) } == true
  }

  static func masked(_ text: String) -> String {
    let start = text.firstRange(of: "://")?.upperBound ?? text.startIndex
    let authority = text[start...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    guard let at = authority.lastIndex(of: "@") else { return text }
    return String(text[..<start]) + "***" + String(text[at...])
  }
}
