//  Walks a map of options and fills settings. The reader walks the YAML and never the plugin, so unknown names are
//  refused everywhere, and in the same words.

public import Diagnostics

/// Reads the options of one plugin, from one or more declarations (its own and those that all plugins share).
/// Confined to the thread that reads the configuration.
public final class OptionReader {
  public let owner: OptionOwner
  private let problems: Problems
  private let entries: [YAMLEntry]
  private var known: [String] = []
  private var obsolete: [String: String] = [:]

  /// - Parameter node: The plugin's options; nil or an empty scalar where it has none.
  public init(_ node: YAMLNode?, of owner: OptionOwner, problems: Problems) {
    self.owner = owner
    self.problems = problems
    if let node, node.entries == nil, !node.isEmpty {
      problems.error(
        node.position, "the options of \(owner.phrase) are a map, not \(node.phrase)", code: "config.bad-value")
    }
    entries = node?.entries ?? []
  }

  /// Reads the options that `Settings` declares. What is wrong goes to the problems and leaves the default.
  public func read<Settings: PluginSettings>(_ type: Settings.Type = Settings.self) -> Settings {
    var settings = Settings()
    for option in Settings.options { read(option, into: &settings) }
    return settings
  }

  private func read<Settings>(_ option: Option<Settings>, into settings: inout Settings) {
    known.append(option.name)
    if option.base.isObsolete { obsolete[option.name] = option.base.sentence }
    guard let entry = given(option.name) else {
      if option.isRequired, !holdsUnresolved(option.name) { missing(option.base) }
      return
    }
    if option.base.isObsolete {
      problems.error(
        entry.keyPosition, "the option '\(option.name)' of \(owner.phrase) is obsolete", code: "config.obsolete-option",
        hint: option.base.sentence)
      return
    }
    if let advice = option.base.deprecation {
      problems.warning(
        entry.keyPosition, "the option '\(option.name)' of \(owner.phrase) is deprecated",
        code: "config.deprecated-option", hint: advice)
    }
    option.read(entry.value, owner: owner, problems: problems, into: &settings)
  }

  private func missing(_ option: OptionDescription) {
    let hint = option.example.map { "add it, for example:  \(option.name): \($0)" }
    problems.error(
      owner.position, "'\(option.name)' is required in \(owner.phrase)", code: "config.missing-option", hint: hint)
  }

  /// The entry of an option; nil also where a variable emptied its whole text.
  private func given(_ name: String) -> YAMLEntry? {
    guard let entry = entries.first(where: { $0.key == name }), !entry.value.isEmptied else { return nil }
    return entry
  }

  /// The option's value cannot be judged: part of it is not known, and that was said where it had to be.
  public func holdsUnresolved(_ name: String) -> Bool {
    entries.first { $0.key == name }?.value.holdsUnresolved ?? false
  }

  public func isGiven(_ name: String) -> Bool { given(name) != nil }

  /// The place of an option's value; the owner's where it is not given.
  public func position(of name: String) -> SourcePosition { given(name)?.value.position ?? owner.position }

  /// Refuses every option that no declaration knew.
  public func finish() {
    let names = Set(known)
    for entry in entries where !names.contains(entry.key) {
      let near = nearestName(to: entry.key, among: known.filter { obsolete[$0] == nil })
      let hints = [
        near.map { "did you mean '\($0)'?" }, owner.helpName.map { "`sluice help \($0)` lists the options" },
      ]
      let hint = hints.compactMap { $0 }.joined(separator: " ")
      problems.error(
        entry.keyPosition, "\(owner.phrase) has no option '\(excerpt(of: entry.key))'", code: "config.unknown-option",
        hint: hint.isEmpty ? nil : hint)
    }
  }
}

extension PluginSettings {
  /// Reads all options of a map that has no others.
  public static func read(_ node: YAMLNode?, of owner: OptionOwner, problems: Problems) -> Self {
    let reader = OptionReader(node, of: owner, problems: problems)
    let settings = reader.read(Self.self)
    reader.finish()
    return settings
  }
}

extension Option {
  /// Reads a value.
  func read(_ node: YAMLNode, owner: OptionOwner, problems: Problems, into settings: inout Settings) {
    let context = OptionContext(problems: problems, option: name, owner: owner, unit: base.unit)
    read(node, context.reading(node), &settings)
  }
}

/// Options within an option, such as the bounds of a filter. Declared as a plugin's are.
public protocol NestedSettings: PluginSettings, OptionValue {}

extension NestedSettings {
  public static var typeName: String { "map of options" }
  public static var schema: OptionSchema { .nested(descriptions) }
  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Self? {
    guard node.entries != nil else { return context.refuse(node, expected: "a map of options") }
    let owner = OptionOwner(context.phrase, at: node.position, helpName: context.owner.helpName)
    return read(node, of: owner, problems: context.problems)
  }
  public var optionText: String? {
    let given = Self.options.compactMap { option in option.describe(self).defaultText.map { "\(option.name): \($0)" } }
    return given.isEmpty ? "{}" : "{ " + given.joined(separator: ", ") + " }"
  }
}
