//  The types that arguments of a command may have.

internal import Diagnostics

/// A type that an argument may have. Other modules add types by conforming.
public protocol ArgumentValue: Sendable {
  /// What the argument takes, with its article, for messages: `a whole number`.
  static var expected: String { get }
  /// The words that it takes, if these are few.
  static var choices: [String] { get }
  /// The argument may be given more than once.
  static var isRepeated: Bool { get }
  /// Takes the text of one argument.
  ///
  /// - Parameter isFirst: It is the first of this run, so that a list drops its default.
  /// - Returns: False where `text` is no such value.
  mutating func take(_ text: String, isFirst: Bool) -> Bool
  /// The value as text, for the default in help pages; nil where there is none.
  var shown: String? { get }
  /// A value that every text can be taken into.
  static var blank: Self { get }
}

extension ArgumentValue {
  public static var choices: [String] { [] }
  public static var isRepeated: Bool { false }
}

extension String: ArgumentValue {
  public static var expected: String { "a text" }
  public mutating func take(_ text: String, isFirst: Bool) -> Bool {
    self = text
    return true
  }
  public var shown: String? { isEmpty ? nil : self }
  public static var blank: String { "" }
}

extension Int: ArgumentValue {
  public static var expected: String { "a whole number" }
  public mutating func take(_ text: String, isFirst: Bool) -> Bool {
    guard let value = Int(text) else { return false }
    self = value
    return true
  }
  public var shown: String? { String(self) }
  public static var blank: Int { 0 }
}

extension Double: ArgumentValue {
  public static var expected: String { "a number" }
  public mutating func take(_ text: String, isFirst: Bool) -> Bool {
    guard let value = Double(text), value.isFinite else { return false }
    self = value
    return true
  }
  public var shown: String? { Int(exactly: self).map { String($0) } ?? String(self) }
  public static var blank: Double { 0 }
}

extension Duration: ArgumentValue {
  public static var expected: String { "a duration such as 30s, 15m or 1h" }
  public mutating func take(_ text: String, isFirst: Bool) -> Bool {
    guard let value = try? Duration(text: text) else { return false }
    self = value
    return true
  }
  public var shown: String? { text }
  public static var blank: Duration { .zero }
}

extension Optional: ArgumentValue where Wrapped: ArgumentValue {
  public static var expected: String { Wrapped.expected }
  public static var choices: [String] { Wrapped.choices }
  public static var isRepeated: Bool { Wrapped.isRepeated }
  public mutating func take(_ text: String, isFirst: Bool) -> Bool {
    var value = isFirst ? Wrapped.blank : self ?? Wrapped.blank
    guard value.take(text, isFirst: isFirst) else { return false }
    self = value
    return true
  }
  public var shown: String? { self.flatMap(\.shown) }
  public static var blank: Wrapped? { nil }
}

extension Array: ArgumentValue where Element: ArgumentValue {
  public static var expected: String { Element.expected }
  public static var choices: [String] { Element.choices }
  public static var isRepeated: Bool { true }
  public mutating func take(_ text: String, isFirst: Bool) -> Bool {
    var value = Element.blank
    guard value.take(text, isFirst: true) else { return false }
    if isFirst { removeAll() }
    append(value)
    return true
  }
  public var shown: String? { isEmpty ? nil : compactMap(\.shown).joined(separator: " ") }
  public static var blank: [Element] { [] }
}

/// An argument that takes one of a few words.
public protocol ArgumentEnum: ArgumentValue, CaseIterable, RawRepresentable where RawValue == String {}

extension ArgumentEnum {
  public static var choices: [String] { allCases.map(\.rawValue) }
  public static var expected: String {
    let quoted = choices.map { "'\($0)'" }
    return quoted.count < 2
      ? quoted.joined() : quoted.dropLast().joined(separator: ", ") + " or " + quoted[quoted.count - 1]
  }
  public mutating func take(_ text: String, isFirst: Bool) -> Bool {
    guard let value = Self(rawValue: text) else { return false }
    self = value
    return true
  }
  public var shown: String? { rawValue }
}
