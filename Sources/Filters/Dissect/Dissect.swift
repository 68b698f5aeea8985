//  The `dissect` filter: cuts texts at fixed delimiters. It needs no expression, and is the fastest way to take apart
//  lines whose shape does not change.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Dissect: FilterPlugin {
  static let manual = Manual(
    name: "dissect",
    summary: "Cuts texts at fixed delimiters.",
    details: """
      A pattern is text with fields: `%{name}` takes what stands up to the text behind it, the last field all that is \
      left. `%{}` and `%{?name}` are passed over, `%{+name}` appends, `%{+name/2}` appends in an order, `%{&name}` is \
      stored under the name that field `name` holds, and `->` at the end of a field lets the delimiter behind it stand \
      several times. A text that does not fit is tagged and nothing of its pattern is written. The common options apply \
      once for each entry of `mapping` that fits. `convert_datatype` comes last, whether a pattern fitted or not.
      """,
    examples: [
      Example(
        "A line of a log",
        config: #"{ mapping: { message: "%{ts} %{+ts} %{level->} %{module}: %{text}" } }"#,
        input: #"{"message": "2025-03-09 07:12:44 WARN   cart: stock low: 2 left"}"#,
        output: """
          {"message": "2025-03-09 07:12:44 WARN   cart: stock low: 2 left", "ts": "2025-03-09 07:12:44", \
          "level": "WARN", "module": "cart", "text": "stock low: 2 left"}
          """),
      Example(
        "A number, and a name from the text",
        config: #"{ mapping: { message: "%{?key}=%{&key} took %{ms}" }, convert_datatype: { ms: int } }"#,
        input: #"{"message": "user=lena took 43"}"#,
        output: #"{"message": "user=lena took 43", "user": "lena", "ms": 43}"#),
      Example(
        "A text that does not fit", config: #"{ mapping: { message: "%{a} %{b}" } }"#, input: #"{"message": "one"}"#,
        output: #"{"message": "one", "tags": ["_dissectfailure"]}"#),
    ],
    failureTags: ["_dissectfailure", "_dataconversionnullvalue_FIELD_TYPE", "_dataconversionuncoercible_FIELD_TYPE"])

  /// The types of `convert_datatype`, in letters of any case.
  enum Datatype: String, OptionEnum {
    case int, float

    static func read(_ node: YAMLNode, _ context: OptionContext) -> Datatype? {
      let text = context.text(node, expected: "'int' or 'float'")
      return text.flatMap { Datatype(rawValue: $0.lowercased()) ?? context.refuse(node, expected: "'int' or 'float'") }
    }
  }

  struct Settings: PluginSettings {
    var mapping: OrderedMap<FieldReference, String> = [:]
    var convertDatatype: OrderedMap<FieldReference, Datatype> = [:]
    var tagOnFailure = ["_dissectfailure"]

    static let options: [Option<Settings>] = [
      .option(
        "mapping", \.mapping, "Fields and the patterns that cut them.", example: "{ message: '%{level} %{text}' }"),
      .option("convert_datatype", \.convertDatatype, "Fields that become numbers afterwards."),
      .option("tag_on_failure", \.tagOnFailure, "Tags of events with a text that does not fit."),
    ]
  }

  private struct Conversion: Sendable {
    var field: FieldReference
    var type: Datatype
    var missing: FailureTags
    var unfit: FailureTags
  }

  private let patterns: [(source: FieldReference, pattern: DissectPattern)]
  private let conversions: [Conversion]
  private let tags: FailureTags

  init(_ settings: Settings, _ context: FilterContext) throws {
    tags = FailureTags(settings.tagOnFailure)
    patterns = try settings.mapping.entries.map { entry in
      do {
        return (entry.key, try DissectPattern(entry.value))
      } catch {
        throw BuildFailure("mapping", "the pattern of '\(entry.key)' \((error as? DissectPattern.Fault)?.text ?? "")")
      }
    }
    conversions = settings.convertDatatype.entries.map { entry in
      let end = "\(entry.key)_\(entry.value.rawValue)"
      return Conversion(
        field: entry.key, type: entry.value, missing: FailureTags(["_dataconversionnullvalue_\(end)"]),
        unfit: FailureTags(["_dataconversionuncoercible_\(end)"]))
    }
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: Dissect
    private let pieces: UnsafeMutableBufferPointer<(start: Int, end: Int)>

    init(_ plugin: Dissect) {
      self.plugin = plugin
      pieces = .allocate(capacity: max(1, plugin.patterns.map(\.pattern.count).max() ?? 1))
      pieces.initialize(repeating: (0, 0))
    }

    deinit { pieces.deallocate() }

    func process(_ batch: FilterBatch) {
      plugin.patterns.withUnsafeBufferPointer { patterns in
        batch.forEach { event in
          for i in 0..<patterns.count where cut(patterns[i].source, patterns[i].pattern, event) {
            // Each entry that fits is a success of its own.
            if !batch.success.isEmpty, !batch.success.apply(to: event) { event.addTag("_decoratefailure") }
          }
          for conversion in plugin.conversions { convert(conversion, event) }
          return false
        }
      }
    }

    private func cut(_ source: FieldReference, _ pattern: DissectPattern, _ event: Event) -> Bool {
      guard let value = event.value(source), !pattern.isEmpty, let places = pieces.baseAddress else { return false }
      if let text = value.text ?? event.rubyText(value), text.count > 0, pattern.cut(text, into: places),
        pattern.write(text, isClean: value.isClean, places, to: event)
      {
        return true
      }
      plugin.tags.apply(to: event)
      return false
    }

    private func convert(_ conversion: Conversion, _ event: Event) {
      guard let value = event.value(conversion.field), !value.isNull else {
        return conversion.missing.apply(to: event)
      }
      let bits = conversion.type == .int ? integer(value, event) : float(value)
      guard let bits, event.write(conversion.field, bits) else { return conversion.unfit.apply(to: event) }
    }

    private func integer(_ value: Value, _ event: Event) -> ValueBits? {
      switch value.kind {
      case .integer, .bigInteger: value.bits
      case .double: event.wholeNumber(value.double ?? .nan)
      case .text: value.text.flatMap { DecimalText.integer($0, event) }
      default: nil
      }
    }

    private func float(_ value: Value) -> ValueBits? {
      switch value.kind {
      case .double: value.bits
      case .integer, .bigInteger: value.number.map { .double($0) }
      case .text: value.text.flatMap { DecimalText.double($0) }.map { .double($0) }
      default: nil
      }
    }
  }
}
