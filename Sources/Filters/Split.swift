//  The `split` filter: one event for each piece of a text or element of a list.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Split: FilterPlugin {
  static let manual = Manual(
    name: "split",
    summary: "Makes one event of each piece of a text or element of a list.",
    details: """
      Each piece gets a copy of the whole event, and the original goes. A text without the terminator stays as it is, \
      without the common options. Empty pieces are left out. At most 100,000 events are made of one.
      """,
    examples: [
      Example(
        "Lines", config: "{}", input: #"{"message": "a\nb", "k": 1}"#,
        output: "{\"message\": \"a\", \"k\": 1}\n{\"message\": \"b\", \"k\": 1}"),
      Example(
        "Elements beside their list", config: "{ field: rows, target: row }", input: #"{"rows": [{"n": 1}, {"n": 2}]}"#,
        output: """
          {"rows": [{"n": 1}, {"n": 2}], "row": {"n": 1}}
          {"rows": [{"n": 1}, {"n": 2}], "row": {"n": 2}}
          """),
    ],
    failureTags: ["_split_type_failure"])

  struct Settings: PluginSettings {
    var field = FieldReference.message
    var terminator = "\n"
    var target: FieldReference?

    static let options: [Option<Settings>] = [
      .option("field", \.field, "The field to split."),
      .option("terminator", \.terminator, "The text between pieces; a blank means any run of white space."),
      .option("target", \.target, "Where each piece goes; without it in place of the field."),
    ]
  }

  private let settings: Settings
  private let terminator: Template

  init(_ settings: Settings, _ context: FilterContext) {
    self.settings = settings
    terminator = Template(settings.terminator)
  }

  func makeFilter() -> any Filter { Worker(settings, terminator) }

  private final class Worker: Filter {
    static let limit = 100_000
    private let field: FieldReference
    private let target: FieldReference?
    private let terminator: Template
    private let isBlankTerminator: Bool
    private var pieces: [ValueBits] = []

    init(_ settings: Settings, _ terminator: Template) {
      field = settings.field
      target = settings.target
      self.terminator = terminator
      isBlankTerminator = terminator.description == " "
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        handle(event, batch.success)
        return false  // the pieces are decorated, not the original
      }
    }

    private func handle(_ event: Event, _ success: SuccessActions) {
      pieces.removeAll(keepingCapacity: true)
      guard let value = event.value(field), collect(value), pieces.count <= Worker.limit else {
        event.addTag("_split_type_failure")
        return
      }
      // A text that is one piece was not split.
      if let text = value.text, pieces.count == 1, let piece = event.makeValue(pieces[0]).text {
        // Blanks in front of the only word separate nothing.
        let isLast = text.baseAddress.map { $0 + text.count } == piece.baseAddress.map { $0 + piece.count }
        if piece.count == text.count || isLast && isBlankTerminator { return }
      }
      // The pieces replace the field, so the copies need not carry it.
      if target == nil { value.replace(with: .null) }
      for piece in pieces {
        let copy = event.spawnClone()
        if !copy.write(target ?? field, piece) {
          copy.addTag("_split_type_failure")
        } else if !success.isEmpty, !success.apply(to: copy) {
          copy.addTag("_decoratefailure")
        }
      }
      event.cancel()
    }

    private func collect(_ value: Value) -> Bool {
      if let text = value.text {
        let isClean = value.isClean
        RubySplit.pieces(of: text, at: terminator.constantBytes) {
          if $0.count > 0, pieces.count <= Worker.limit { pieces.append(.text(staying: $0, isClean: isClean)) }
        }
        return true
      }
      guard value.isList else { return false }
      var child = value.first
      while let element = child, pieces.count <= Worker.limit {
        if !element.isNull, element.text?.count != 0 { pieces.append(element.copied()) }
        child = element.next
      }
      return true
    }
  }
}
