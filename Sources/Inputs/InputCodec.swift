//  The codecs of inputs: how bytes become records, and how a record's text becomes an event. Cutting is done here, by
//  the input; the rest is written into the records' descriptor and done when they are decoded.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

/// A codec with its options, as an input's option `codec` names it.
struct InputCodec: Sendable {
  enum Kind: String, CaseIterable, Sendable { case plain, line, json, jsonLines = "json_lines", multiline }

  var kind: Kind
  var charset = "UTF-8"
  /// Where a JSON document goes; nil for the event itself.
  var target: FieldReference?
  /// What ends a line.
  var delimiter: [UInt8] = [10]
  /// The longest line, where the codec bounds it.
  var lineBytes: Int?
  /// How lines are joined.
  var multiline: MultilineRule?

  /// - Throws: A `Problem` at the place of what is wrong.
  init(_ choice: PluginChoice, _ context: InputContext) throws {
    guard let kind = Kind(rawValue: choice.name) else {
      let names = Kind.allCases.map(\.rawValue)
      throw Problem(
        choice.position, "there is no codec '\(choice.name.prefix(64))'", code: "config.unknown-plugin",
        hint: nearest(to: choice.name, among: names).map { "did you mean '\($0)'?" }
          ?? "codecs are \(names.joined(separator: ", "))")
    }
    self.kind = kind
    let problems = Problems()
    var joining: MultilineSettings?
    let owner = OptionOwner.plugin("codec", choice.name, at: choice.position)
    switch kind {
    case .plain: charset = PlainCodec.read(choice.options, of: owner, problems: problems).charset
    case .line:
      let settings = LineCodec.read(choice.options, of: owner, problems: problems)
      charset = settings.charset
      delimiter = Array(settings.delimiter.utf8)
    case .json:
      let settings = JSONCodec.read(choice.options, of: owner, problems: problems)
      charset = settings.charset
      target = settings.target
    case .jsonLines:
      let settings = JSONLinesCodec.read(choice.options, of: owner, problems: problems)
      charset = settings.charset
      target = settings.target
      delimiter = Array(settings.delimiter.utf8)
      lineBytes = settings.lineSize?.bytes
    case .multiline:
      let settings = MultilineSettings.read(choice.options, of: owner, problems: problems)
      charset = settings.charset
      joining = settings
    }
    if let first = problems.sorted.first(where: { $0.severity == .error }) { throw first }
    multiline = try joining.map { try MultilineRule($0, context) }
  }

  /// Where the bytes are a stream, a whole text or document is a line of it.
  var forStream: InputCodec {
    var codec = self
    switch kind {
    case .plain: codec.kind = .line
    case .json: codec.kind = .jsonLines
    case .line, .jsonLines, .multiline: break
    }
    return codec
  }

  var isJSON: Bool { kind == .json || kind == .jsonLines }

  /// What decoding needs to know.
  var settings: [RecordDescription.Setting] {
    var settings: [RecordDescription.Setting] = []
    if let target { settings.append(.init("target", target.description)) }
    if let multiline { settings.append(.init("multiline_tag", multiline.tag)) }
    return settings
  }
}

let charsetComplaint: @Sendable (String) -> String? = { name in
  if Charset.names.contains(name) { return nil }
  let near = nearest(to: name, among: Charset.names)
  return "is no known character set" + (near.map { "; did you mean '\($0)'?" } ?? "")
}

struct PlainCodec: PluginSettings {
  static let manual = Manual(
    name: "plain", summary: "Takes a payload as the text of an event.",
    details: "Where the bytes are a stream, as with `tcp`, each line is a payload.",
    examples: [
      Example(
        "Text in Latin-1", config: "{ charset: ISO-8859-1 }", input: "order placed",
        output: #"{"message": "order placed"}"#)
    ])

  var charset = "UTF-8"
  var format: String?
  static let options: [Option<PlainCodec>] = [
    .option("charset", \.charset, "The character set of the text.", check: charsetComplaint),
    .option("format", \.format, "Accepted for Logstash's sake; inputs write nothing."),
  ]
}

struct LineCodec: PluginSettings {
  static let manual = Manual(
    name: "line", summary: "Cuts a stream into lines, each of them the text of an event.",
    examples: [
      Example(
        "Another end of lines", config: "{ delimiter: '|' }", input: "order placed|order paid|",
        output: "{\"message\": \"order placed\"}\n{\"message\": \"order paid\"}")
    ])

  var charset = "UTF-8"
  var delimiter = "\n"
  var format: String?
  static let options: [Option<LineCodec>] = [
    .option("charset", \.charset, "The character set of the text.", check: charsetComplaint),
    .option("delimiter", \.delimiter, "What ends a line.", check: { $0.isEmpty ? "must not be empty" : nil }),
    .option("format", \.format, "Accepted for Logstash's sake; inputs write nothing."),
  ]
}

struct JSONCodec: PluginSettings {
  static let manual = Manual(
    name: "json", summary: "Reads a payload as a JSON object; an array of objects is several events.",
    details: "A payload that is no JSON becomes the text of an event with the tag `_jsonparsefailure`.",
    examples: [
      Example(
        "The document below a field", config: "{ target: document }", input: #"{"message": "order placed"}"#,
        output: #"{"document": {"message": "order placed"}}"#)
    ], failureTags: ["_jsonparsefailure"])

  var charset = "UTF-8"
  var target: FieldReference?
  static let options: [Option<JSONCodec>] = [
    .option("charset", \.charset, "The character set of the document.", check: charsetComplaint),
    .option("target", \.target, "The field that takes the document; without it the event itself."),
  ]
}

struct JSONLinesCodec: PluginSettings {
  static let manual = Manual(
    name: "json_lines", summary: "Reads a JSON object a line.",
    examples: [
      Example(
        "Two documents", config: "{}", input: "{\"n\": 1}\n{\"n\": 2}\n", output: "{\"n\": 1}\n{\"n\": 2}")
    ], failureTags: ["_jsonparsefailure"])

  var charset = "UTF-8"
  var target: FieldReference?
  var delimiter = "\n"
  var lineSize: ByteCount?
  static let options: [Option<JSONLinesCodec>] = [
    .option("charset", \.charset, "The character set of the documents.", check: charsetComplaint),
    .option("target", \.target, "The field that takes a document; without it the event itself."),
    .option("delimiter", \.delimiter, "What ends a document.", check: { $0.isEmpty ? "must not be empty" : nil }),
    .option(
      "decode_size_limit_bytes", \.lineSize,
      "The longest line; of a longer one the head becomes a dead letter.", defaultText: "max_event_bytes"),
  ]
}
