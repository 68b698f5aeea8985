//  The `truncate` filter: shortens texts. Elasticsearch refuses a keyword above 32,766 bytes, and with it the event.

internal import Config
internal import Events
internal import PluginKit

struct Truncate: FilterPlugin {
  static let manual = Manual(
    name: "truncate",
    summary: "Shortens texts that are longer than a number of bytes.",
    details: """
      A text is cut between characters. Of a list the texts are cut, of a map all texts within. The common options apply \
      only to events on which something was cut.
      """,
    examples: [
      Example(
        "Cut between characters", config: "{ length_bytes: 3 }", input: #"{"a": "äöü", "b": "xy"}"#,
        output: #"{"a": "ä", "b": "xy"}"#),
      Example(
        "One field", config: "{ fields: [b], length_bytes: 2, add_tag: [cut] }",
        input: #"{"a": "abcdef", "b": "abcdef"}"#, output: #"{"a": "abcdef", "b": "ab", "tags": ["cut"]}"#),
    ])

  struct Settings: PluginSettings {
    var fields: [FieldReference]?
    var lengthBytes = 0

    static let options: [Option<Settings>] = [
      .option("fields", \.fields, "The fields to shorten.", defaultText: "all top-level fields"),
      .option(
        "length_bytes", \.lengthBytes, "The longest text that stays; below zero texts become null.", unit: .bytes,
        required: true, example: "32766"),
    ]
  }

  private let fields: [FieldReference]?
  private let limit: Int

  init(_ settings: Settings, _ context: FilterContext) {
    fields = settings.fields
    limit = settings.lengthBytes
  }

  func makeFilter() -> any Filter { Worker(fields, limit) }

  private final class Worker: Filter {
    private let fields: [FieldReference]?
    private let limit: Int

    init(_ fields: [FieldReference]?, _ limit: Int) {
      self.fields = fields
      self.limit = limit
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        var isCut = false
        if let fields {
          for field in fields { if let value = event.value(field) { isCut = cut(value) || isCut } }
        } else {
          var child = event.fields.first
          while let field = child {
            isCut = cut(field) || isCut
            child = field.next
          }
        }
        return isCut
      }
    }

    private func cut(_ value: Value) -> Bool {
      switch value.kind {
      case .text: return cutText(value)
      case .list:
        var isCut = false
        var child = value.first
        while let element = child {
          if element.isText { isCut = cutText(element) || isCut }
          child = element.next
        }
        return isCut
      case .map:
        var isCut = false
        var child = value.first
        while let member = child {
          isCut = cut(member) || isCut
          child = member.next
        }
        return isCut
      default: return false
      }
    }

    private func cutText(_ value: Value) -> Bool {
      guard let text = value.text, text.count > limit || limit <= 0 else { return false }
      guard limit >= 0 else {
        value.replace(with: .null)
        return true
      }
      var end = limit
      if end < text.count { while end > 0, text[end] & 0xc0 == 0x80 { end -= 1 } }
      value.replace(with: .text(staying: text.slice(0, min(end, text.count)), isClean: value.isClean))
      return true
    }
  }
}
