//  The `mutate` filter: renames, sets, converts and rewrites fields.
//
//  Whatever the order in the file, the operations run in Logstash's order, each over its entries as written. The
//  settings are compiled into one flat list of changes; an event walks it until a change fails, which tags the event and
//  leaves what was done before. To force another order, use several mutate filters.

internal import Config
internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit

struct Mutate: FilterPlugin {
  static let manual = Manual(
    name: "mutate",
    summary: "Renames, sets, converts and rewrites fields.",
    details: """
      The operations run in this order, whatever the order in the file: coerce, rename, update, replace, convert, gsub, \
      uppercase, capitalize, lowercase, strip, split, join, merge, copy. An operation that fails ends the filter for \
      that event: what was done before stays, and the event gets the tag of `tag_on_failure`.
      """,
    examples: [
      Example(
        "Rename and convert", config: "{ rename: { took: duration }, convert: { duration: float } }",
        input: #"{"took": "0.25"}"#, output: #"{"duration": 0.25}"#),
      Example(
        "Rewrite a date", config: #"{ gsub: [d, '(\d+)\.(\d+)\.(\d+)', '\3-\2-\1'] }"#,
        input: #"{"d": "09.03.2025"}"#, output: #"{"d": "2025-03-09"}"#),
      Example(
        "Cut a text, then copy it", config: "{ split: { t: ',' }, copy: { t: u } }",
        input: #"{"t": "a,b,,c,,"}"#, output: #"{"t": ["a", "b", "", "c"], "u": ["a", "b", "", "c"]}"#),
    ],
    failureTags: ["_mutate_error"])

  struct Settings: PluginSettings {
    var coerce: OrderedMap<FieldReference, TextValue> = [:]
    var rename: OrderedMap<Template, Template> = [:]
    var update: OrderedMap<FieldReference, TextValue> = [:]
    var replace: OrderedMap<FieldReference, TextValue> = [:]
    var convert: OrderedMap<FieldReference, NumberType> = [:]
    var gsub: [String] = []
    var uppercase: [FieldReference] = []
    var capitalize: [FieldReference] = []
    var lowercase: [FieldReference] = []
    var strip: [FieldReference] = []
    var split: OrderedMap<FieldReference, String> = [:]
    var join: OrderedMap<FieldReference, String> = [:]
    var merge: OrderedMap<FieldReference, [FieldReference]> = [:]
    var copy: OrderedMap<FieldReference, FieldReference> = [:]
    var tagOnFailure = "_mutate_error"

    static let options: [Option<Settings>] = [
      .option("coerce", \.coerce, "Texts for fields that are there but null."),
      .option("rename", \.rename, "Old names and new ones; what stood under the new name is replaced."),
      .option("update", \.update, "Texts for fields that are there."),
      .option("replace", \.replace, "Texts for fields, whether they are there or not."),
      .option("convert", \.convert, "Types to turn fields into; lists are converted element by element."),
      .option("gsub", \.gsub, "Triples of field, regular expression and replacement.") {
        $0.count.isMultiple(of: 3) ? nil : "takes triples of field, expression and replacement; the last is incomplete"
      },
      .option("uppercase", \.uppercase, "Fields whose letters become large."),
      .option("capitalize", \.capitalize, "Fields whose first letter becomes large and all others small."),
      .option("lowercase", \.lowercase, "Fields whose letters become small."),
      .option("strip", \.strip, "Fields that lose white space at both ends."),
      .option("split", \.split, "Fields to cut into lists, and their separators."),
      .option("join", \.join, "Lists to put together into texts, and their separators."),
      .option("merge", \.merge, "Lists or maps, and the fields that are added to them."),
      .option("copy", \.copy, "Fields, and where their copies go."),
      .option("tag_on_failure", \.tagOnFailure, "The tag of events on which an operation failed."),
      .obsolete("remove", "use 'remove_field'"),
    ]
  }

  private let changes: [Change]
  private let tag: FailureTags

  init(_ settings: Settings, _ context: FilterContext) throws {
    tag = FailureTags([settings.tagOnFailure])
    var changes: [Change] = []
    changes += settings.coerce.entries.map { Coerce($0.key, $0.value.template) }
    changes += settings.rename.entries.map { Rename($0.key, $0.value) }
    changes += settings.update.entries.map { Update($0.key, $0.value.template) }
    changes += settings.replace.entries.map { Replace($0.key, $0.value.template) }
    changes += settings.convert.entries.map { Convert($0.key, $0.value) }
    for i in stride(from: 0, to: settings.gsub.count - 2, by: 3) {
      changes.append(try Substitute(settings.gsub[i], settings.gsub[i + 1], settings.gsub[i + 2]))
    }
    changes += settings.uppercase.map { ChangeCase($0, .uppercase) }
    changes += settings.capitalize.map { ChangeCase($0, .capitalize) }
    changes += settings.lowercase.map { ChangeCase($0, .lowercase) }
    changes += settings.strip.map { Strip($0) }
    changes += settings.split.entries.map { SplitText($0.key, $0.value) }
    changes += settings.join.entries.map { Join($0.key, $0.value) }
    changes += settings.merge.entries.map { Merge($0.key, $0.value) }
    changes += settings.copy.entries.map { Copy($0.key, $0.value) }
    self.changes = changes
  }

  func makeFilter() -> any Filter { Worker(changes, tag) }

  private final class Worker: Filter {
    private let changes: [Change]
    private let tag: FailureTags
    private let room = MutateRoom()

    init(_ changes: [Change], _ tag: FailureTags) {
      self.changes = changes
      self.tag = tag
    }

    func process(_ batch: FilterBatch) {
      changes.withUnsafeBufferPointer { changes in
        batch.forEach { event in
          for i in 0..<changes.count where !changes[i].apply(to: event, room) {
            tag.apply(to: event)
            return false
          }
          // Adding and removing count as operations of mutate: they fail with its tag.
          if !batch.success.isEmpty, !batch.success.apply(to: event) { tag.apply(to: event) }
          return false
        }
      }
    }
  }
}

/// One operation on one field, compiled.
class Change: @unchecked Sendable {  // unchecked: subclasses hold constants alone
  /// Changes the event.
  ///
  /// - Returns: False where the operation failed; the event is then as it was before this change.
  func apply(to event: Event, _ room: MutateRoom) -> Bool { true }
}

/// Working memory of one worker.
final class MutateRoom {
  let scratch = MatchScratch()
  /// The expression made last from an event's fields, since events in a row often make the same one.
  var madeExpression: (text: [UInt8], pattern: Pattern?) = ([], nil)
}

/// The text of an option: a template, or a list that stands as Ruby prints it.
struct TextValue: OptionValue {
  let template: Template

  static var typeName: String { "text with placeholders" }
  static func read(_ node: YAMLNode, _ context: OptionContext) -> TextValue? {
    if let items = node.items {
      var text = ByteBuffer()
      text.append(91)
      for (i, item) in items.enumerated() {
        guard let element = context.text(item, expected: "a text") else { return nil }
        if i > 0 { text.append(", ") }
        Array(element.utf8).withUnsafeBytes { appendInspectedText($0, to: &text) }
      }
      text.append(93)
      return TextValue(template: Template(text.string()))
    }
    return context.text(node, expected: "a text").map { TextValue(template: Template($0)) }
  }
  var optionText: String? { yamlText(template.description) }
}
