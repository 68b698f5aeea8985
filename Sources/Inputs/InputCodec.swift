//  The codecs of inputs: how bytes become records, and how a record's text becomes an event. Cutting is done here, by
//  the input; the rest is written into the records' descriptor and done when they are decoded.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

/// A codec with its options, as an input's option `codec` names it.
struct InputCodec: Sendable {
  enum Kind: String, CaseIterable, Sendable { case plain, line, json, jsonLines = "json_lines" }

  var kind: Kind
  var charset = "UTF-8"
  /// Where a JSON document goes; nil for the event itself.
  var target: FieldReference?
  /// What ends a line.
  var delimiter: [UInt8] = [10]
  /// The longest line, where the codec bounds it.
  var lineBytes: Int?

  /// - Throws: A `Problem` at the place of what is wrong.
  init(_ choice: PluginChoice) throws {
    guard let kind = Kind(rawValue: choice.name) else {
      let names = Kind.allCases.map(\.rawValue)
      throw Problem(
        choice.position, "there is no codec '\(choice.name.prefix(64))'", code: "config.unknown-plugin",
        hint: nearest(to: choice.name, among: names).map { "did you mean '\($0)'?" }
          ?? "codecs are \(names.joined(separator: ", "))")
    }
    self.kind = kind
    let problems = Problems()
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
    }
    if let first = problems.sorted.first(where: { $0.severity == .error }) { throw first }
  }

  /// Where the bytes are a stream, a whole text or document is a line of it.
  var forStream: InputCodec {
    var codec = self
    switch kind {
    case .plain: codec.kind = .line
    case .json: codec.kind = .jsonLines
    case .line, .jsonLines: break
    }
    return codec
  }

  var isJSON: Bool { kind == .json || kind == .jsonLines }

  /// What decoding needs to know.
  var settings: [RecordDescription.Setting] { target.map { [.init("target", $0.description)] } ?? [] }
}

private let charsetCheck: @Sendable (String) -> String? = { name in
  if Charset.names.contains(name) { return nil }
  let near = nearest(to: name, among: Charset.names)
  return "is no known character set" + (near.map { "; did you mean '\($0)'?" } ?? "")
}

private struct PlainCodec: PluginSettings {
  var charset = "UTF-8"
  var format: String?
  static let options: [Option<PlainCodec>] = [
    .option("charset", \.charset, "The character set of the text.", check: charsetCheck),
    .option("format", \.format, "Accepted for Logstash's sake; inputs write nothing."),
  ]
}

private struct LineCodec: PluginSettings {
  var charset = "UTF-8"
  var delimiter = "\n"
  var format: String?
  static let options: [Option<LineCodec>] = [
    .option("charset", \.charset, "The character set of the text.", check: charsetCheck),
    .option("delimiter", \.delimiter, "What ends a line.", check: { $0.isEmpty ? "must not be empty" : nil }),
    .option("format", \.format, "Accepted for Logstash's sake; inputs write nothing."),
  ]
}

private struct JSONCodec: PluginSettings {
  var charset = "UTF-8"
  var target: FieldReference?
  static let options: [Option<JSONCodec>] = [
    .option("charset", \.charset, "The character set of the document.", check: charsetCheck),
    .option("target", \.target, "The field that takes the document; without it the event itself."),
  ]
}

private struct JSONLinesCodec: PluginSettings {
  var charset = "UTF-8"
  var target: FieldReference?
  var delimiter = "\n"
  var lineSize: ByteCount?
  static let options: [Option<JSONLinesCodec>] = [
    .option("charset", \.charset, "The character set of the documents.", check: charsetCheck),
    .option("target", \.target, "The field that takes a document; without it the event itself."),
    .option("delimiter", \.delimiter, "What ends a document.", check: { $0.isEmpty ? "must not be empty" : nil }),
    .option(
      "decode_size_limit_bytes", \.lineSize,
      "The longest line; of a longer one the head becomes a dead letter.", defaultText: "max_event_bytes"),
  ]
}
