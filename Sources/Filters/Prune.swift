//  The `prune` filter: keeps or removes top-level fields by expressions for their names and values.

internal import Config
internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit

struct Prune: FilterPlugin {
  static let manual = Manual(
    name: "prune",
    summary: "Removes top-level fields by their names or values.",
    details: """
      The lists are applied in this order: `whitelist_names`, `blacklist_names`, `whitelist_values`, `blacklist_values`. \
      Expressions are found anywhere in a name or value. A whitelist of names also removes `@timestamp`, `@version` and \
      `tags` unless it names them. Of a list the elements are looked at one by one.
      """,
    examples: [
      Example(
        "Only what is named stays", config: #"{ whitelist_names: ["^msg$", "^@timestamp$"] }"#,
        input: #"{"@timestamp": "2025-03-09T07:12:44.120Z", "msg": "a", "msg_id": "7", "x": "1"}"#,
        output: #"{"@timestamp": "2025-03-09T07:12:44.120Z", "msg": "a"}"#),
      Example(
        "Elements of a list", config: #"{ whitelist_values: { l: "^a" } }"#, input: #"{"l": ["a1", "b2"], "k": "x"}"#,
        output: #"{"l": ["a1"], "k": "x"}"#),
    ])

  struct Settings: PluginSettings {
    var whitelistNames: [String] = []
    var blacklistNames = [#"%\{[^}]+\}"#]
    var whitelistValues: OrderedMap<String, String> = [:]
    var blacklistValues: OrderedMap<String, String> = [:]
    var interpolate = false

    static let options: [Option<Settings>] = [
      .option("whitelist_names", \.whitelistNames, "Expressions; only fields with such a name are kept."),
      .option("blacklist_names", \.blacklistNames, "Expressions; fields with such a name are removed."),
      .option(
        "whitelist_values", \.whitelistValues, "Fields that are kept only with a value that their expression finds."),
      .option(
        "blacklist_values", \.blacklistValues, "Fields that are removed with a value that their expression finds."),
      .option(
        "interpolate", \.interpolate, "Whether placeholders in expressions and names are filled in for each event."),
    ]
  }

  private let whitelistNames, blacklistNames: [PruneExpression]
  private let whitelistValues, blacklistValues: [(name: Template, expression: PruneExpression)]
  private let interpolates: Bool

  init(_ settings: Settings, _ context: FilterContext) throws {
    let interpolates = settings.interpolate
    func compiled(_ option: String, _ text: String) throws -> PruneExpression {
      do {
        return try PruneExpression(text, interpolates)
      } catch {
        throw BuildFailure(option, "the expression '\(text)' cannot be read: \(error)", code: "config.regex")
      }
    }
    self.interpolates = interpolates
    whitelistNames = try settings.whitelistNames.map { try compiled("whitelist_names", $0) }
    blacklistNames = try settings.blacklistNames.map { try compiled("blacklist_names", $0) }
    whitelistValues = try settings.whitelistValues.entries.map {
      (Template($0.key), try compiled("whitelist_values", $0.value))
    }
    blacklistValues = try settings.blacklistValues.entries.map {
      (Template($0.key), try compiled("blacklist_values", $0.value))
    }
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: Prune
    private let scratch = MatchScratch()
    private var made = MadePatterns()
    /// What was found of names before, since the events of a pipeline have few.
    private var verdicts = NameVerdicts()

    init(_ plugin: Prune) { self.plugin = plugin }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        removeNames(event)
        for entry in plugin.whitelistValues { removeValues(event, entry, keepsMatching: true) }
        for entry in plugin.blacklistValues { removeValues(event, entry, keepsMatching: false) }
        return true
      }
    }

    private func removeNames(_ event: Event) {
      if plugin.interpolates {
        // What is removed first may be a field that a later expression names, so the lists go one after the other.
        remove(event) { plugin.whitelistNames.isEmpty || isFound(plugin.whitelistNames, $0, event) }
        remove(event) { !isFound(plugin.blacklistNames, $0, event) }
      } else if !plugin.whitelistNames.isEmpty || !plugin.blacklistNames.isEmpty {
        remove(event) { name in
          if let known = verdicts[name] { return known }
          let isKept =
            (plugin.whitelistNames.isEmpty || isFound(plugin.whitelistNames, name, event))
            && !isFound(plugin.blacklistNames, name, event)
          verdicts[name] = isKept
          return isKept
        }
      }
    }

    private func remove(_ event: Event, unless isKept: (UnsafeRawBufferPointer) -> Bool) {
      let fields = event.fields
      var child = fields.first
      while let field = child {
        child = field.next
        if !isKept(field.key.bytes) { field.remove(from: fields) }
      }
    }

    private func isFound(_ expressions: [PruneExpression], _ name: UnsafeRawBufferPointer, _ event: Event) -> Bool {
      for expression in expressions where isFound(expression, name, event) { return true }
      return false
    }

    private func removeValues(
      _ event: Event, _ entry: (name: Template, expression: PruneExpression), keepsMatching: Bool
    ) {
      var name = entry.name.constantBytes
      if plugin.interpolates, !entry.name.isConstant {
        guard let bits = try? entry.name.bits(event), let text = event.makeValue(bits).text else { return }
        name = text
      }
      // Names are plain ones; what looks like a reference finds nothing.
      guard !name.contains(where: { $0 == 91 || $0 == 93 }) else { return }
      let fields = event.fields
      guard let value = fields.member(event.makeKey(name)), !value.isNull, value.boolean != false else { return }
      if value.isList {
        if value.count == 0, !keepsMatching { return }
        var child = value.first
        while let element = child {
          child = element.next
          if isFound(entry.expression, in: element, event) != keepsMatching { element.remove(from: value) }
        }
        if value.count == 0 { value.remove(from: fields) }
      } else if isFound(entry.expression, in: value, event) != keepsMatching {
        value.remove(from: fields)
      }
    }

    /// Numbers and booleans by their text; null, lists and maps hold nothing that an expression finds.
    private func isFound(_ expression: PruneExpression, in value: Value, _ event: Event) -> Bool {
      switch value.kind {
      case .null, .list, .map: return false
      case .text: return value.text.map { isFound(expression, $0, event) } ?? false
      default:
        let printed = event.makeValue(event.makeText { value.appendText(to: &$0) })
        return printed.text.map { isFound(expression, $0, event) } ?? false
      }
    }

    private func isFound(_ expression: PruneExpression, _ text: UnsafeRawBufferPointer, _ event: Event) -> Bool {
      guard let pattern = expression.pattern ?? made.pattern(expression.template, event) else { return false }
      if case .match = scratch.match(pattern, text, options: .validText) { return true }
      return false
    }
  }
}

/// An expression of prune; with placeholders it is made for each event.
private struct PruneExpression: Sendable {
  let template: Template
  let pattern: Pattern?

  init(_ text: String, _ interpolates: Bool) throws(PatternError) {
    template = Template(text)
    pattern = interpolates && !template.isConstant ? nil : try Pattern(ruby: text, dialect: .condition)
  }
}

/// Names and whether their fields stay: a table with one place for each hash. One worker owns it.
private struct NameVerdicts {
  private var slots: [(name: [UInt8], isKept: Bool)?] = Array(repeating: nil, count: 512)

  private func slot(_ name: UnsafeRawBufferPointer) -> Int {
    var hash: UInt32 = 2_166_136_261
    for byte in name { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    return Int((hash ^ hash >> 15) & 511)
  }

  subscript(name: UnsafeRawBufferPointer) -> Bool? {
    get {
      guard let known = slots[slot(name)], known.name.count == name.count, known.name.elementsEqual(name) else {
        return nil
      }
      return known.isKept
    }
    set { slots[slot(name)] = newValue.map { (Array(name), $0) } }
  }
}

/// Expressions made from fields of events, kept as long as few are in use. One worker owns it.
private struct MadePatterns {
  private var patterns: [[UInt8]: Pattern?] = [:]

  mutating func pattern(_ template: Template, _ event: Event) -> Pattern? {
    guard let bits = try? template.bits(event), let text = event.makeValue(bits).text else { return nil }
    let key = Array(text)
    if let known = patterns[key] { return known }
    if patterns.count >= 256 { patterns.removeAll(keepingCapacity: true) }
    let made = try? Pattern(ruby: String(decoding: text, as: UTF8.self), dialect: .condition)
    patterns[key] = .some(made)
    return made
  }
}
