//  The `kv` filter: pairs such as `user=lena role="shop admin"` become fields.

internal import Config
internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit

struct KeyValue: FilterPlugin {
  static let manual = Manual(
    name: "kv",
    summary: "Finds key–value pairs in text and makes fields of them.",
    details: """
      `field_split` and `value_split` are sets of characters, as they stand between the brackets of a regular expression; \
      the options that end in `_pattern` take a whole expression instead. A value may stand in quotes, and in brackets \
      unless `include_brackets` is off. A key that occurs several times becomes a list. An event without pairs is left alone.
      """,
    examples: [
      Example(
        "Pairs of a line", config: "{}", input: #"{"message": "user=lena role=\"shop admin\" ip=10.0.4.8"}"#,
        output: """
          {"message": "user=lena role=\\"shop admin\\" ip=10.0.4.8", "user": "lena", "role": "shop admin", "ip": "10.0.4.8"}
          """),
      Example(
        "A query string, under a target", config: #"{ source: query, field_split: "&?", target: args }"#,
        input: #"{"query": "?q=shoes&page=2&sort="}"#,
        output: #"{"query": "?q=shoes&page=2&sort=", "args": {"q": "shoes", "page": "2"}}"#),
      Example(
        "Chosen keys with a prefix", config: "{ include_keys: [u], prefix: q_, default_keys: { from: kv } }",
        input: #"{"message": "u=1 v=2"}"#, output: #"{"message": "u=1 v=2", "q_u": "1", "from": "kv"}"#),
    ],
    failureTags: ["_kv_filter_error", "_kv_filter_timeout"])

  enum WhiteSpace: String, OptionEnum { case lenient, strict }

  struct Settings: PluginSettings {
    var source = FieldReference.message
    var target: FieldReference?
    var prefix = Template("")
    var fieldSplit = " "
    var fieldSplitPattern: String?
    var valueSplit = "="
    var valueSplitPattern: String?
    var whitespace = WhiteSpace.lenient
    var includeBrackets = true
    var trimKey: String?
    var trimValue: String?
    var removeCharKey: String?
    var removeCharValue: String?
    var transformKey: LetterCase?
    var transformValue: LetterCase?
    var includeKeys: [Template] = []
    var excludeKeys: [Template] = []
    var defaultKeys: OrderedMap<String, TypedValue> = [:]
    var allowDuplicateValues = true
    var allowEmptyValues = false
    var recursive = false
    var timeoutMillis = 30_000
    var tagOnTimeout = "_kv_filter_timeout"
    var tagOnFailure = ["_kv_filter_error"]

    private static func notEmpty(_ text: String?) -> String? { text == "" ? "must not be empty" : nil }

    static let options: [Option<Settings>] = [
      .option("source", \.source, "The field with the text, or a list of texts."),
      .option("target", \.target, "Where the pairs go as a map; without it each becomes a field of the event."),
      .option("prefix", \.prefix, "Put before every key."),
      .option("field_split", \.fieldSplit, "The characters that separate pairs.", check: { notEmpty($0) }),
      .option(
        "field_split_pattern", \.fieldSplitPattern, "An expression that separates pairs.", check: { notEmpty($0) }),
      .option("value_split", \.valueSplit, "The characters between key and value.", check: { notEmpty($0) }),
      .option(
        "value_split_pattern", \.valueSplitPattern, "An expression between key and value.", check: { notEmpty($0) }),
      .option("whitespace", \.whitespace, "Whether blanks around the value's splitter are passed over."),
      .option("include_brackets", \.includeBrackets, "Whether `(…)`, `[…]` and `<…>` quote a value."),
      .option("trim_key", \.trimKey, "Characters taken off both ends of keys.", check: { notEmpty($0) }),
      .option("trim_value", \.trimValue, "Characters taken off both ends of values.", check: { notEmpty($0) }),
      .option("remove_char_key", \.removeCharKey, "Characters taken out of keys.", check: { notEmpty($0) }),
      .option("remove_char_value", \.removeCharValue, "Characters taken out of values.", check: { notEmpty($0) }),
      .option("transform_key", \.transformKey, "What happens to the letters of keys."),
      .option("transform_value", \.transformValue, "What happens to the letters of values."),
      .option("include_keys", \.includeKeys, "Only these keys are kept, as they are before the prefix."),
      .option("exclude_keys", \.excludeKeys, "Keys that are dropped, as they are before the prefix."),
      .option("default_keys", \.defaultKeys, "Pairs for keys that were not found."),
      .option("allow_duplicate_values", \.allowDuplicateValues, "Whether a key may take a value twice."),
      .option("allow_empty_values", \.allowEmptyValues, "Whether a key without a value is kept."),
      .option("recursive", \.recursive, "Whether pairs within a value become a map."),
      .option("timeout_millis", \.timeoutMillis, "How long one text may take.", unit: .milliseconds, in: 0...3_600_000),
      .option("tag_on_timeout", \.tagOnTimeout, "The tag of events whose text took too long."),
      .option("tag_on_failure", \.tagOnFailure, "Tags of events with a key that cannot be written."),
    ]
  }

  fileprivate let settings: Settings
  fileprivate let syntax: PairSyntax
  fileprivate let trimKey, trimValue, removeKey, removeValue: CharacterRemoval?
  fileprivate let failureTags: FailureTags
  fileprivate let timeoutTags: FailureTags

  init(_ settings: Settings, _ context: FilterContext) throws {
    self.settings = settings
    func removal(_ option: String, _ text: String?) throws -> CharacterRemoval? {
      guard let text else { return nil }
      do {
        return try CharacterRemoval(text)
      } catch {
        throw BuildFailure(option, "'\(text)' is no set of characters: \(error)", code: "config.regex")
      }
    }
    trimKey = try removal("trim_key", settings.trimKey)
    trimValue = try removal("trim_value", settings.trimValue)
    removeKey = try removal("remove_char_key", settings.removeCharKey)
    removeValue = try removal("remove_char_value", settings.removeCharValue)
    do {
      syntax = try PairSyntax(
        .init(
          fieldSplit: settings.fieldSplit, fieldPattern: settings.fieldSplitPattern, valueSplit: settings.valueSplit,
          valuePattern: settings.valueSplitPattern, isLenient: settings.whitespace == .lenient,
          hasBrackets: settings.includeBrackets))
    } catch {
      throw BuildFailure(nil, "the splitters make no expression: \(error)", code: "config.regex")
    }
    failureTags = FailureTags(settings.tagOnFailure)
    timeoutTags = FailureTags([settings.tagOnTimeout])
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: KeyValue
    private let source: FieldReference
    private let target: FieldReference?
    private let prefix: Template?
    private let include: KeyList
    private let exclude: KeyList
    private let defaults: [(Template, TypedValue)]
    private let hasKeyChanges: Bool
    private let hasValueChanges: Bool
    private let scratch = MatchScratch()
    private var timedOut = false

    init(_ plugin: KeyValue) {
      let settings = plugin.settings
      self.plugin = plugin
      source = settings.source
      target = settings.target
      prefix = settings.prefix.description.isEmpty ? nil : settings.prefix
      include = KeyList(settings.includeKeys)
      exclude = KeyList(settings.excludeKeys)
      defaults = settings.defaultKeys.entries.map { (Template($0.key), $0.value) }
      hasKeyChanges = plugin.trimKey != nil || plugin.removeKey != nil || settings.transformKey != nil
      hasValueChanges = plugin.trimValue != nil || plugin.removeValue != nil || settings.transformValue != nil
    }

    func process(_ batch: FilterBatch) { batch.forEach { handle($0) } }

    private func handle(_ event: Event) -> Bool {
      timedOut = false
      let pairs = event.makeMap()
      if let value = event.value(source) {
        if value.isList {
          var child = value.first
          while let element = child {
            collect(element, into: pairs, event)
            child = element.next
          }
        } else {
          collect(value, into: pairs, event)
        }
      }
      if timedOut {
        plugin.timeoutTags.apply(to: event)
        return false
      }
      for (name, value) in defaults {
        let key = event.makeKey(name.constantBytes)
        if pairs.member(key) == nil { pairs.set(key, value.bits(event)) }
      }
      guard pairs.count > 0 else { return false }
      if store(pairs, event) { return true }
      plugin.failureTags.apply(to: event)
      return false
    }

    private func store(_ pairs: Value, _ event: Event) -> Bool {
      if let target { return event.write(target, pairs.bits) }
      do {
        try event.merge(pairs, readsTime: false)
        return true
      } catch {
        return false
      }
    }

    private func collect(_ value: Value, into pairs: Value, _ event: Event) {
      guard let text = value.text else { return }
      collect(text, isClean: value.isClean, into: pairs, event, depth: 0)
    }

    private func collect(
      _ text: UnsafeRawBufferPointer, isClean: Bool, into pairs: Value, _ event: Event, depth: Int
    ) {
      var scanner = PairScanner(plugin.syntax, text)
      while let pair = scanner.next(scratch, timeLimit: plugin.settings.timeoutMillis) {
        if pair.value.isEmpty, !plugin.settings.allowEmptyValues { continue }
        add(
          text.slice(pair.key.lowerBound, pair.key.upperBound),
          text.slice(pair.value.lowerBound, pair.value.upperBound), isClean, pairs, event, depth)
      }
      if scanner.timedOut { timedOut = true }
    }

    private func add(
      _ keyText: UnsafeRawBufferPointer, _ valueText: UnsafeRawBufferPointer, _ isClean: Bool, _ pairs: Value,
      _ event: Event, _ depth: Int
    ) {
      var keyText = keyText
      if hasKeyChanges {
        keyText = changed(
          keyText, isClean, plugin.trimKey, plugin.removeKey, plugin.settings.transformKey, event)
      }
      guard include.isEmpty || include.contains(keyText, event), !exclude.contains(keyText, event) else { return }
      if let prefix {
        let joined = event.makeText { out in
          if prefix.isConstant { out.append(prefix.constantBytes) } else { out.append(prefixText(prefix, event)) }
          out.append(keyText)
        }
        keyText = event.makeValue(joined).text ?? keyText
      }
      var text = valueText
      if hasValueChanges {
        text = changed(
          text, isClean, plugin.trimValue, plugin.removeValue, plugin.settings.transformValue, event)
      }
      var bits = ValueBits.text(staying: text, isClean: isClean)
      let key = event.makeKey(keyText)
      let present = pairs.member(key)
      if !plugin.settings.allowDuplicateValues, let present, holds(present, text) { return }
      if plugin.settings.recursive, depth < 32 {
        let inner = event.makeMap()
        collect(text, isClean: isClean, into: inner, event, depth: depth + 1)
        if inner.count > 0 { bits = inner.bits }
      }
      guard let present else { return pairs.set(key, bits) }
      present.putBeside(bits, event)
    }

    /// The prefix, filled in. It lies in the batch, since the working memory of text making is in use.
    private func prefixText(_ prefix: Template, _ event: Event) -> UnsafeRawBufferPointer {
      let text = (try? prefix.string(event)) ?? ""
      return Array(text.utf8).withUnsafeBytes { event.copy($0) }
    }

    private func changed(
      _ text: UnsafeRawBufferPointer, _ isClean: Bool, _ trim: CharacterRemoval?, _ remove: CharacterRemoval?,
      _ letterCase: LetterCase?, _ event: Event
    ) -> UnsafeRawBufferPointer {
      var text = text
      if let trim { text = trim.trimmed(text, scratch) }
      if let remove, remove.occurs(in: text, scratch) {
        let out = event.allocate(text.count)
        text = UnsafeRawBufferPointer(start: out, count: remove.remove(from: text, to: out, scratch))
      }
      if let letterCase {
        let value = event.makeValue(.text(staying: text, isClean: isClean))
        if let bits = event.changing(caseOf: value, to: letterCase) {
          value.replace(with: bits)
          text = value.text ?? text
        }
      }
      return text
    }

    /// Whether a stored value holds the new one: a list as an element, a text anywhere within it.
    private func holds(_ present: Value, _ text: UnsafeRawBufferPointer) -> Bool {
      if let stored = present.text { return text.count == 0 || find(text, in: stored, from: 0) != nil }
      var child = present.isList ? present.first : nil
      while let element = child {
        if let stored = element.text, equal(stored, text) { return true }
        child = element.next
      }
      return false
    }
  }
}

/// Keys of an option, with placeholders or without.
private struct KeyList {
  private let keys: [Template]
  let isEmpty: Bool

  init(_ keys: [Template]) {
    self.keys = keys
    isEmpty = keys.isEmpty
  }

  func contains(_ key: UnsafeRawBufferPointer, _ event: Event) -> Bool {
    for wanted in keys {
      if wanted.isConstant {
        if equal(wanted.constantBytes, key) { return true }
      } else if let text = try? wanted.string(event), text.utf8.elementsEqual(key) {
        return true
      }
    }
    return false
  }
}
