//  The `grok` filter: matches text against expressions with named patterns and stores what they captured.
//
//  The plugin compiles every expression once; all workers share the result. What a capture stores is a slice of the
//  source text where that text is in the batch already, so storing copies nothing.

internal import Config
internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit

struct Grok: FilterPlugin {
  static let manual = Manual(
    name: "grok",
    summary: "Takes text apart with expressions made of named patterns.",
    details: """
      `match` names fields and, for each, one or more expressions, which are tried in order. `%{NAME:field}` inserts \
      the pattern NAME and stores what it matched in `field`; `%{NAME:field:int}` stores a number; `(?<field>…)` \
      captures with an expression written on the spot. Everything else is a regular expression in Ruby's dialect, \
      where `.` matches a newline too and `^` and `$` stand for the ends of lines. A field that is there already \
      becomes a list, unless `overwrite` names it. An event that nothing matches is tagged and left as it is.
      """,
    examples: [
      Example(
        "A line of an application",
        config: #"{match: {message: "%{IP:client} %{WORD:method} %{URIPATHPARAM:path} %{INT:status:int}"}}"#,
        input: #"{"message": "10.0.4.8 GET /cart 200"}"#,
        output:
          #"{"message": "10.0.4.8 GET /cart 200", "client": "10.0.4.8", "method": "GET", "path": "/cart", "status": 200}"#
      ),
      Example(
        "A pattern of one's own",
        config: #"{match: {message: "order %{ORDER:order_id}"}, pattern_definitions: {ORDER: '[A-Z]-\d+'}}"#,
        input: #"{"message": "order A-17 shipped"}"#,
        output: #"{"message": "order A-17 shipped", "order_id": "A-17"}"#),
    ],
    failureTags: ["_grokparsefailure", "_groktimeout"])

  enum TimeoutScope: String, OptionEnum { case pattern, event }

  struct Settings: PluginSettings {
    var match: OrderedMap<String, [PlacedText]> = [:]
    var patternsDir: [String] = []
    var patternsFilesGlob = "*"
    var patternDefinitions: OrderedMap<String, PlacedText> = [:]
    var breakOnMatch = true
    var namedCapturesOnly = true
    var keepEmptyCaptures = false
    var target: FieldReference?
    var overwrite: [String] = []
    var tagOnFailure = ["_grokparsefailure"]
    var timeout = Duration.seconds(30)
    var timeoutScope = TimeoutScope.pattern
    var tagOnTimeout = "_groktimeout"

    static let options: [Option<Settings>] = [
      .option(
        "match", \.match, "Fields, and for each the expressions that are tried in order.",
        example: #"{ message: "%{COMBINEDAPACHELOG}" }"#),
      .option(
        "patterns_dir", \.patternsDir, "Files with patterns of your own, or folders of such files, read in order."),
      .option("patterns_files_glob", \.patternsFilesGlob, "Which files of a folder are read."),
      .option(
        "pattern_definitions", \.patternDefinitions,
        "Patterns by name; they replace those of files and the built-in ones."),
      .option("break_on_match", \.breakOnMatch, "Stop at the first expression that matches."),
      .option("named_captures_only", \.namedCapturesOnly, "Store only captures that have a field."),
      .option("keep_empty_captures", \.keepEmptyCaptures, "Store empty captures, and null for absent ones."),
      .option("target", \.target, "The field under which all captures are stored."),
      .option("overwrite", \.overwrite, "Captured fields whose present value is replaced."),
      .option("tag_on_failure", \.tagOnFailure, "Tags for events that no expression matches."),
      .option(
        "timeout_millis", \.timeout,
        "How long one match may take before it is given up; 0 is no limit. Ends within about twice that time.",
        unit: .milliseconds),
      .option(
        "timeout_scope", \.timeoutScope,
        "Whether the time holds for each expression, or for all expressions on one text together."),
      .option("tag_on_timeout", \.tagOnTimeout, "The tag for events whose match was given up."),
    ]
  }

  /// A group and what becomes of it.
  struct Slot: Sendable {
    var group: Int
    var type: GrokType
    var isOverwritten: Bool
    /// Number of the field among all fields of this filter.
    var field: Int
    /// nil for a name that is no field reference: the match then counts as none.
    var reference: FieldReference?
    /// The name of a plain field of the event, which is stored without a look at the reference.
    var name: Key?
  }

  struct Entry: Sendable {
    var source: FieldReference
    var list: GrokList
    /// Of each expression, in the order in which they are stored.
    var slots: [[Slot]]
  }

  let entries: [Entry]
  let fieldCount: Int
  let breakOnMatch: Bool
  let keepEmpty: Bool
  let timeLimit: Int
  let timeoutScope: TimeoutScope
  let failureTags: [[UInt8]]
  let timeoutTag: [UInt8]
  let stepID: String
  let outcomes: FilterOutcomes? = FilterOutcomes()

  init(_ settings: Settings, _ context: FilterContext) throws {
    var library = GrokLibrary(context.ecs.isOn ? .ecs : .legacy)
    for path in settings.patternsDir where context.services.resolves {
      do throws(SystemError) {
        try library.load(context.services.path(path), glob: settings.patternsFilesGlob)
      } catch {
        throw BuildFailure(
          "patterns_dir", "'\(path)' cannot be read: \(error.reason)", code: "grok.patterns-unreadable")
      }
    }
    for entry in settings.patternDefinitions.entries {
      library.define(entry.key, entry.value.text, at: entry.value.position)
    }
    // A check that may not read files cannot know the names in them.
    let isBlind = !context.services.resolves && !settings.patternsDir.isEmpty

    var fields: [String: Int] = [:]
    var entries: [Entry] = []
    for entry in settings.match.entries {
      let source: FieldReference
      do { source = try FieldReference(entry.key) } catch { throw BuildFailure("match", "\(error)") }
      var expressions: [GrokExpression] = []
      var slots: [[Slot]] = []
      for written in entry.value {
        let text = written.text
        let expression: GrokExpression
        do throws(GrokError) {
          expression = try GrokExpression(text, library: library, namedCapturesOnly: settings.namedCapturesOnly)
        } catch {
          if isBlind { continue }
          throw BuildFailure(
            "match", Grok.sentence(error, of: text), code: "grok.bad-expression", hint: error.hint,
            at: settings.place(of: error, in: written))
        }
        for warning in expression.warnings {
          Log.warn(
            "grok.slow-expression", "An expression can get slow; make the repetition possessive or narrow it.",
            ["step": .text(context.stepID), "reason": .text(Grok.sentence(warning, of: text))])
        }
        expressions.append(expression)
        slots.append(
          expression.captures.flatMap { capture in
            let field = fields[capture.field] ?? fields.count
            fields[capture.field] = field
            let reference = Grok.reference(capture.field, under: settings.target)
            return capture.places.map {
              Slot(
                group: $0.group, type: $0.type, isOverwritten: settings.overwrite.contains(capture.field), field: field,
                reference: reference, name: reference?.plainName)
            }
          })
      }
      entries.append(Entry(source: source, list: GrokList(expressions), slots: slots))
    }
    self.entries = entries
    fieldCount = fields.count
    breakOnMatch = settings.breakOnMatch
    keepEmpty = settings.keepEmptyCaptures
    timeLimit = Int(max(0, settings.timeout.ns / 1_000_000))
    timeoutScope = settings.timeoutScope
    failureTags = settings.tagOnFailure.map { Array($0.utf8) }
    timeoutTag = Array(settings.tagOnTimeout.utf8)
    stepID = context.stepID
  }

  func makeFilter() -> any Filter { GrokWorker(self) }

  private static func sentence(_ error: GrokError, of text: String) -> String {
    let start = text.unicodeScalars.prefix(80)
    let shown = String(String.UnicodeScalarView(start)) + (text.unicodeScalars.count > 80 ? "…" : "")
    if error.origin.name.isEmpty { return "'\(shown)': \(error.message), at character \(error.offset + 1)" }
    var place = "pattern \(error.origin.name)"
    if let position = error.origin.position, position.line > 0 { place += " (\(position.file):\(position.line))" }
    return "'\(shown)': \(error.message), at character \(error.offset + 1) of \(place)"
  }

  private static func reference(_ field: String, under target: FieldReference?) -> FieldReference? {
    guard let target else { return try? FieldReference(field) }
    let outer = target.path.map { "[\($0)]" }.joined()
    return try? FieldReference(outer + (field.hasPrefix("[") ? field : "[\(field)]"))
  }
}

extension Grok.Settings {
  /// The character at fault in the pipeline's file: in the expression, or in the definition beside it that the expression
  /// uses. A fault in a file of patterns is told at the expression.
  fileprivate func place(of error: GrokError, in expression: PlacedText) -> SourcePosition {
    if error.origin.name.isEmpty { return expression.position(ofCharacter: error.offset) }
    let definition = patternDefinitions.entries.last { $0.key == error.origin.name }
    guard let text = definition?.value, text.position == error.origin.position else { return expression.position }
    return text.position(ofCharacter: error.offset)
  }
}
