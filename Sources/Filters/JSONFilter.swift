//  The `json` filter: JSON text in a field becomes fields.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct JSONFilter: FilterPlugin {
  static let manual = Manual(
    name: "json",
    summary: "Parses JSON text from a field.",
    details: """
      Without `target` the text must be an object, whose members become fields of the event: equal names are replaced, \
      `@timestamp` becomes the event's time, `@metadata` replaces the metadata, and a name such as `[a][b]` is read as a \
      reference. With `target` any JSON value is put there. A missing source, null and `false` are passed over.
      """,
    examples: [
      Example(
        "An object becomes fields", config: "{ source: message, remove_field: [message] }",
        input: #"{"message": "{\"user\": {\"id\": 7}, \"ok\": true}"}"#, output: #"{"user": {"id": 7}, "ok": true}"#),
      Example(
        "Any value goes to a target", config: "{ source: message, target: doc }", input: #"{"message": "[1, 2]"}"#,
        output: #"{"message": "[1, 2]", "doc": [1, 2]}"#),
      Example(
        "Broken text is tagged", config: "{ source: message }", input: #"{"message": "{broken"}"#,
        output: #"{"message": "{broken", "tags": ["_jsonparsefailure"]}"#),
    ],
    failureTags: ["_jsonparsefailure", "_timestampparsefailure"])

  struct Settings: PluginSettings {
    var source = FieldReference.message
    var target: FieldReference?
    var tagOnFailure = ["_jsonparsefailure"]
    var skipOnInvalidJSON = false

    static let options: [Option<Settings>] = [
      .option("source", \.source, "The field with the JSON text.", required: true, example: "message"),
      .option("target", \.target, "Where the value goes; without it the members become fields of the event."),
      .option("tag_on_failure", \.tagOnFailure, "Tags of events whose text could not be parsed."),
      .option("skip_on_invalid_json", \.skipOnInvalidJSON, "Leaves events with broken text alone, without a tag."),
    ]
  }

  private let settings: Settings
  private let tags: FailureTags

  init(_ settings: Settings, _ context: FilterContext) {
    self.settings = settings
    tags = FailureTags(settings.tagOnFailure)
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let source: FieldReference
    private let target: FieldReference?
    private let skips: Bool
    private let tags: FailureTags

    init(_ plugin: JSONFilter) {
      source = plugin.settings.source
      target = plugin.settings.target
      skips = plugin.settings.skipOnInvalidJSON
      tags = plugin.tags
    }

    func process(_ batch: FilterBatch) { batch.forEach { handle($0) } }

    private func handle(_ event: Event) -> Bool {
      guard let value = event.value(source), !value.isNull, value.boolean != false else { return false }
      guard let text = value.text else {
        if !skips { tags.apply(to: event) }
        return false
      }
      let parsed: Value
      do {
        parsed = try event.parseLastJSON(text)
      } catch {
        if isBlank(text) {
          // A blank text holds no value: that is null for a target and no object for the event.
          if let target, event.write(target, .null) { return true }
        } else if skips {
          return false
        }
        tags.apply(to: event)
        return false
      }
      if store(parsed, event) { return true }
      tags.apply(to: event)
      return false
    }

    private func store(_ parsed: Value, _ event: Event) -> Bool {
      if let target { return event.write(target, parsed.bits) }
      guard parsed.isMap else { return false }
      do {
        try event.merge(parsed)
        return true
      } catch {
        return false
      }
    }

    private func isBlank(_ text: UnsafeRawBufferPointer) -> Bool {
      text.allSatisfy { $0 == 32 || $0 == 9 || $0 == 10 || $0 == 13 }
    }
  }
}
