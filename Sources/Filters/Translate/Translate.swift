//  The `translate` filter: looks values up in a dictionary.

internal import Config
internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit

struct Translate: FilterPlugin {
  static let manual = Manual(
    name: "translate",
    summary: "Looks values up in a dictionary.",
    details: """
      The source is looked up as a text; of a list its first element. With `regex` the keys are regular expressions, of \
      which the first that is found decides; with `exact: false` every key that occurs in the text is replaced by its \
      value, from the left. Values keep their type. Without a match and without `fallback` nothing happens. A target \
      that is there stays unless `override` is on, as it is where source and target are the same; there the common \
      options apply whether something was found or not. `iterate_on` takes a list: of texts, when it is the source \
      itself, or of maps, in which source and target lie. Where ECS names are on the target is the source.
      """,
    examples: [
      Example(
        "The meaning of a code", config: #"{ source: code, dictionary: { "200": OK, "404": Not Found } }"#,
        input: #"{"code": 404}"#, output: #"{"code": 404, "translation": "Not Found"}"#),
      Example(
        "Expressions, and a fallback",
        config: #"{ source: code, target: class, regex: true, dictionary: { "^5": fault }, fallback: "%{code}?" }"#,
        input: "{\"code\": \"503\"}\n{\"code\": \"200\"}",
        output: "{\"code\": \"503\", \"class\": \"fault\"}\n{\"code\": \"200\", \"class\": \"200?\"}"),
      Example(
        "Within the maps of a list",
        config: #"{ iterate_on: rows, source: c, target: t, dictionary: { a: 1, b: { deep: true } } }"#,
        input: #"{"rows": [{"c": "a"}, {"c": "b"}, {"c": "z"}]}"#,
        output: #"{"rows": [{"c": "a", "t": 1}, {"c": "b", "t": {"deep": true}}, {"c": "z"}]}"#),
    ])

  enum RefreshBehaviour: String, OptionEnum { case merge, replace }
  enum LoadStrategy: String, OptionEnum {
    case oneShot = "one_shot"
    case streaming
  }

  struct Settings: PluginSettings {
    var source: FieldReference?
    var field: FieldReference?
    var target: FieldReference?
    var destination: FieldReference?
    var dictionary: OrderedMap<String, TypedValue>?
    var dictionaryPath: String?
    var exact = true
    var regex = false
    var fallback: Template?
    var override: Bool?
    var iterateOn: FieldReference?
    var refreshInterval = 300
    var refreshBehaviour = RefreshBehaviour.merge
    var loadStrategy = LoadStrategy.oneShot
    var characterLimit: Int?

    static let options: [Option<Settings>] = [
      .option("source", \.source, "The field to look up."),
      .option("field", \.field, "The old name of `source`.", deprecated: "source"),
      .option(
        "target", \.target, "Where the value goes.", defaultText: "translation; the source where ECS names are on"),
      .option("destination", \.destination, "The old name of `target`.", deprecated: "target"),
      .option("dictionary", \.dictionary, "Keys and their values."),
      .option("dictionary_path", \.dictionaryPath, "A file of keys and values: .yml, .yaml, .json or .csv."),
      .option("exact", \.exact, "Looks the whole text up; otherwise keys within it are replaced."),
      .option("regex", \.regex, "The keys are regular expressions."),
      .option("fallback", \.fallback, "The value where no key fits."),
      .option(
        "override", \.override, "Replaces a target that is there.",
        defaultText: "false; true where source and target are the same"),
      .option("iterate_on", \.iterateOn, "A list whose elements are looked up one by one."),
      .option(
        "refresh_interval", \.refreshInterval, "How often a changed file is looked for; 0 for never.", unit: .seconds),
      .option("refresh_behaviour", \.refreshBehaviour, "Whether keys that vanish from the file stay."),
      .option("yaml_load_strategy", \.loadStrategy, "Accepted for Logstash's sake; files are read in one pass."),
      .option(
        "yaml_dictionary_code_point_limit", \.characterLimit, "The most characters of a YAML file.", unit: .characters,
        in: 1...Int.max, defaultText: "134217728"),
    ]
  }

  private enum Shape: Sendable { case single, texts, maps }

  private let source: FieldReference
  private let target: FieldReference
  private let list: FieldReference?
  private let shape: Shape
  private let mode: TranslateTable.Mode
  private let overrides: Bool
  private let isInPlace: Bool
  private let fallback: Template?
  private let constant: TranslateTable?
  private let file: DictionaryFile?
  private let check: PeriodicCheck?

  init(_ settings: Settings, _ context: FilterContext) throws {
    if settings.source != nil, settings.field != nil { throw BuildFailure("field", "is the old name of 'source'") }
    if settings.target != nil, settings.destination != nil {
      throw BuildFailure("destination", "is the old name of 'target'")
    }
    guard let source = settings.source ?? settings.field else {
      throw BuildFailure("source", "is required", code: "config.missing-option")
    }
    self.source = source
    target =
      settings.target ?? settings.destination ?? (context.ecs.isOn ? source : FieldReference.known("translation"))
    // As written: `v` and `[v]` are two names, upstream as well.
    isInPlace = source.description == target.description
    if isInPlace, settings.override == false {
      throw BuildFailure("override", "cannot be off where source and target are the same")
    }
    overrides = settings.override ?? isInPlace
    list = settings.iterateOn
    shape = settings.iterateOn.map { $0.description == source.description ? .texts : .maps } ?? .single
    mode = !settings.exact ? .within : settings.regex ? .expression : .exact
    fallback = settings.fallback
    if let fault = settings.fallback?.fault { throw BuildFailure("fallback", "\(fault)") }
    guard let path = settings.dictionaryPath else {
      if settings.characterLimit != nil {
        throw BuildFailure("yaml_dictionary_code_point_limit", "goes with a YAML file in 'dictionary_path'")
      }
      var entries = TranslateEntries()
      for entry in settings.dictionary?.entries ?? [] {
        entries.set(Array(entry.key.utf8), TranslateValue(entry.value))
      }
      do { constant = try TranslateTable(entries, mode) } catch { throw BuildFailure("dictionary", "\(error)") }
      file = nil
      check = nil
      return
    }
    if settings.dictionary != nil { throw BuildFailure("dictionary_path", "cannot stand beside 'dictionary'") }
    guard let format = DictionaryFormat(path: path) else {
      throw BuildFailure("dictionary_path", "names a file that ends in .yml, .yaml, .json or .csv")
    }
    if settings.characterLimit != nil, format != .yaml {
      throw BuildFailure("yaml_dictionary_code_point_limit", "goes with a YAML file in 'dictionary_path'")
    }
    constant = nil
    let file: DictionaryFile
    do {
      file = try DictionaryFile(
        DictionaryFile.Settings(
          path: path, format: format, mode: mode, merges: settings.refreshBehaviour == .merge,
          characterLimit: settings.characterLimit ?? 134_217_728), services: context.services)
    } catch {
      throw BuildFailure("dictionary_path", "the dictionary cannot be used: \(error)", code: "config.file")
    }
    self.file = file
    let interval = Duration.seconds(min(settings.refreshInterval, 86_400_000))
    check = settings.refreshInterval > 0 ? PeriodicCheck(every: interval) { file.reloadIfChanged() } : nil
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: Translate
    private let scratch = MatchScratch()
    private var table: TranslateTable?
    /// Source and target in the elements of a list of maps, as far as they were needed.
    private var elements: [(source: FieldReference, target: FieldReference)] = []
    /// What expressions answered to texts before.
    private var memo = TextMemo()
    private var hasWarned = false

    init(_ plugin: Translate) {
      self.plugin = plugin
      table = plugin.constant
    }

    func process(_ batch: FilterBatch) {
      if let file = plugin.file {
        plugin.check?.poll()
        let fresh = file.table
        if fresh !== table {
          table = fresh
          memo.removeAll()
        }
      }
      guard let table else { return }
      batch.forEach { event in
        switch plugin.shape {
        case .single: one(event, table)
        case .texts: texts(event, table)
        case .maps: maps(event, table)
        }
      }
    }

    private func one(_ event: Event, _ table: TranslateTable) -> Bool {
      guard let value = event.value(plugin.source), plugin.overrides || !event.contains(plugin.target) else {
        return false
      }
      guard let bits = answer(value, event, table) else { return plugin.isInPlace }
      return store(bits, at: plugin.target, event)
    }

    /// A list of texts becomes a list of their translations.
    private func texts(_ event: Event, _ table: TranslateTable) -> Bool {
      guard let value = event.value(plugin.source), plugin.overrides || !event.contains(plugin.target) else {
        return false
      }
      let made = event.makeList()
      var isFound = false
      func add(_ element: Value) {
        let bits = answer(element, event, table) ?? .null
        isFound = isFound || bits.kind != .null
        made.append(bits)
      }
      if value.isList {
        var child = value.first
        while let element = child {
          child = element.next
          add(element)
        }
      } else if !value.isNull {
        add(value)
      }
      return store(made.bits, at: plugin.target, event) && isFound
    }

    /// Source and target lie in each map of a list.
    private func maps(_ event: Event, _ table: TranslateTable) -> Bool {
      guard let name = plugin.list, let list = event.value(name), list.isList else { return false }
      var isFound = false
      for i in 0..<list.count {
        guard let (source, target) = element(i) else { return isFound }
        guard let value = event.value(source), let bits = answer(value, event, table) else { continue }
        isFound = store(bits, at: target, event) || isFound
      }
      return isFound
    }

    private static let keptElements = 1024

    private func element(_ i: Int) -> (source: FieldReference, target: FieldReference)? {
      if i < elements.count { return elements[i] }
      guard let list = plugin.list else { return nil }
      func reference(_ inner: FieldReference) -> FieldReference? {
        let text = (list.path + ["\(i)"] + inner.path).map { "[\($0)]" }.joined()
        return try? FieldReference(text, isTransient: i >= Worker.keptElements)
      }
      guard let source = reference(plugin.source), let target = reference(plugin.target) else { return nil }
      if i == elements.count, i < Worker.keptElements { elements.append((source, target)) }
      return (source, target)
    }

    private func store(_ bits: ValueBits, at target: FieldReference, _ event: Event) -> Bool {
      if event.write(target, bits) { return true }
      if bits.kind == .list || bits.kind == .map {
        // Some fields look into what they are given, so it has to be parsed.
        let value = event.makeValue(bits)
        _ = value.count
        if event.write(target, value.bits) { return true }
      }
      if !hasWarned {
        hasWarned = true
        Log.warn(
          "translate.unwritable", "A translation cannot be stored in its target; such events stay as they are.",
          ["target": .text(target.description)])
      }
      return false
    }

    /// The translation or the fallback; nil where there is neither.
    private func answer(_ value: Value, _ event: Event, _ table: TranslateTable) -> ValueBits? {
      let text = text(of: value, event)
      let found: ValueBits?
      switch plugin.mode {
      case .exact: found = table.exact(text).map { table.values[$0].bits(event) }
      case .expression:
        if let known = memo[text] {
          found = known < 0 ? nil : table.values[Int(known)].bits(event)
        } else {
          let entry = table.expression(text, scratch)
          memo[text] = Int32(clamping: entry ?? -1)
          found = entry.map { table.values[$0].bits(event) }
        }
      case .within: found = table.within(text, event)
      }
      if let found { return found }
      return plugin.fallback.flatMap { try? $0.bits(event) }
    }

    /// The text that stands for a value: for a list that of its first element, for null and an empty list nothing.
    private func text(of value: Value, _ event: Event) -> UnsafeRawBufferPointer {
      let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
      if let text = value.text { return text }
      if value.isList {
        guard let first = value.first else { return nothing }
        return first.text ?? event.rubyText(first) ?? nothing
      }
      return event.rubyText(value) ?? nothing
    }
  }
}

/// Answers to texts that were asked before, one place for each hash: the values of a field are mostly few. One worker
/// owns it.
private struct TextMemo {
  private static let size = 1024
  /// Longer texts are not remembered.
  private static let limitBytes = 64
  private var texts = [[UInt8]](repeating: [], count: TextMemo.size)
  /// What was answered; `Int32.min` where nothing is known.
  private var answers = [Int32](repeating: .min, count: TextMemo.size)

  private func place(_ text: UnsafeRawBufferPointer) -> Int {
    var hash: UInt32 = 2_166_136_261
    for byte in text { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    return Int((hash ^ hash >> 15) & UInt32(TextMemo.size - 1))
  }

  mutating func removeAll() {
    for i in answers.indices { answers[i] = .min }
  }

  subscript(text: UnsafeRawBufferPointer) -> Int32? {
    get {
      guard text.count <= TextMemo.limitBytes else { return nil }
      let i = place(text)
      guard answers[i] != .min, texts[i].withUnsafeBytes({ equal($0, text) }) else { return nil }
      return answers[i]
    }
    set {
      guard text.count <= TextMemo.limitBytes, let newValue else { return }
      let i = place(text)
      texts[i].removeAll(keepingCapacity: true)
      texts[i].append(contentsOf: text)
      answers[i] = newValue
    }
  }
}
