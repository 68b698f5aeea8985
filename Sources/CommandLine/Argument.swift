//  An argument of a command is declared once, as a plugin's option is: name, place in the command's settings, sentence.
//  Parsing, help, manual pages and completions are made from this declaration.

/// What a command is told. The initial values are the defaults.
public protocol CommandSettings: Sendable {
  init()
  static var arguments: [Argument<Self>] { get }
}

/// A command that is told nothing.
public struct NoArguments: CommandSettings {
  public init() {}
  public static var arguments: [Argument<NoArguments>] { [] }
}

/// What a shell offers in an argument's place.
public enum Completion: Sendable, Hashable { case nothing, files, folders }

/// Everything that help, manual pages and completions say about an argument.
public struct ArgumentDescription: Sendable, Hashable {
  public enum Kind: Sendable { case flag, option, positional }
  public var kind: Kind
  /// `--config`, or `FILE` for a positional argument.
  public var name: String
  /// `-c`
  public var short: String?
  /// What stands for the value in help: `FILE`; empty for flags.
  public var placeholder = ""
  public var sentence: String
  public var isRequired = false
  public var isRepeated = false
  public var choices: [String] = []
  public var defaultText: String?
  public var completion = Completion.nothing
}

/// The declaration of one argument.
public struct Argument<Settings>: Sendable {
  let base: ArgumentDescription
  /// `--config`, or `FILE` for a positional argument.
  public var name: String { base.name }
  /// Takes a text; a complaint where it is no such value.
  let take: @Sendable (_ text: String, _ isFirst: Bool, inout Settings) -> String?
  private let shown: @Sendable (Settings) -> String?

  func describe(_ defaults: Settings) -> ArgumentDescription {
    var description = base
    if !base.isRequired, base.defaultText == nil { description.defaultText = shown(defaults) }
    return description
  }

  /// `--plain`: true where it is given.
  ///
  /// - Parameter names: `--plain`, or `-p, --plain`.
  public static func flag(
    _ names: String, _ path: any WritableKeyPath<Settings, Bool> & Sendable, _ sentence: String
  ) -> Argument {
    let (name, short) = split(names)
    return Argument(
      base: ArgumentDescription(kind: .flag, name: name, short: short, sentence: sentence),
      take: { _, _, settings in
        settings[keyPath: path] = true
        return nil
      }, shown: { _ in nil })
  }

  /// `--config FILE`
  ///
  /// - Parameter names: `--config`, or `-c, --config`.
  /// - Parameter check: Returns what the value must be, such as `1 to 100`, where it is not.
  public static func option<Value: ArgumentValue>(
    _ names: String, _ path: any WritableKeyPath<Settings, Value> & Sendable,
    _ placeholder: String, _ sentence: String, required: Bool = false, defaultText: String? = nil,
    completion: Completion = .nothing, check: (@Sendable (Value) -> String?)? = nil
  ) -> Argument {
    let (name, short) = split(names)
    var base = ArgumentDescription(kind: .option, name: name, short: short, sentence: sentence)
    base.placeholder = placeholder
    base.isRequired = required
    base.defaultText = defaultText
    base.completion = completion
    return valued(base, path, check)
  }

  /// `FILE`. Required unless its type is an optional or a list.
  public static func positional<Value: ArgumentValue>(
    _ name: String, _ path: any WritableKeyPath<Settings, Value> & Sendable, _ sentence: String, required: Bool? = nil,
    completion: Completion = .nothing, check: (@Sendable (Value) -> String?)? = nil
  ) -> Argument {
    var base = ArgumentDescription(kind: .positional, name: name, sentence: sentence)
    base.placeholder = name
    base.isRequired = required ?? !(Value.isRepeated || Value.self is any OptionalType.Type)
    base.completion = completion
    return valued(base, path, check)
  }

  private static func split(_ names: String) -> (name: String, short: String?) {
    let parts = names.split { $0 == "," || $0 == " " }.map(String.init)
    return (parts.last ?? names, parts.count > 1 ? parts[0] : nil)
  }

  private static func valued<Value: ArgumentValue>(
    _ description: ArgumentDescription, _ path: any WritableKeyPath<Settings, Value> & Sendable,
    _ check: (@Sendable (Value) -> String?)?
  ) -> Argument {
    var base = description
    base.isRepeated = Value.isRepeated
    base.choices = Value.choices
    return Argument(
      base: base,
      take: { text, isFirst, settings in
        guard settings[keyPath: path].take(text, isFirst: isFirst) else { return Value.expected }
        return check?(settings[keyPath: path])
      }, shown: { $0[keyPath: path].shown })
  }
}

private protocol OptionalType {}
extension Optional: OptionalType {}
