//  The `xml` filter: XML text becomes maps and lists, and XPath expressions pick parts of it.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct XMLFilter: FilterPlugin {
  static let manual = Manual(
    name: "xml",
    summary: "Converts XML text, and picks parts of it by XPath.",
    details: """
      An element becomes a map of its attributes and children; children stand in lists unless `force_array` is off, and \
      an element of text alone becomes that text. Text beside attributes or children goes to `content`. The name of the \
      root element is not kept. Expressions give lists of texts: an element with its tags, an attribute's value, a text, \
      or what a function returns. Parts of a malformed document can be picked unless `parse_options` has `strict`; it is \
      not converted. No other document is ever loaded, and one that declares entities is refused.
      """,
    examples: [
      Example(
        "The whole document", config: "{ source: x, target: doc, force_array: false }",
        input: #"{"x": "<o id=\"7\"><i>A</i><i>B</i></o>"}"#,
        output: #"{"x": "<o id=\"7\"><i>A</i><i>B</i></o>", "doc": {"id": "7", "i": ["A", "B"]}}"#),
      Example(
        "Parts of it",
        config: #"{ source: x, store_xml: false, xpath: { "/o/i/text()": item, "/o/@id": oid, "count(/o/i)": n } }"#,
        input: #"{"x": "<o id=\"7\"><i>A</i></o>"}"#,
        output: #"{"x": "<o id=\"7\"><i>A</i></o>", "item": ["A"], "oid": ["7"], "n": ["1.0"]}"#),
      Example(
        "A malformed document", config: "{ source: x, target: doc }", input: #"{"x": "<o><i>"}"#,
        output: #"{"x": "<o><i>", "tags": ["_xmlparsefailure"]}"#),
    ],
    failureTags: ["_xmlparsefailure"])

  struct Settings: PluginSettings {
    var source = FieldReference.message
    var target: FieldReference?
    var storeXML = true
    var xpath: OrderedMap<String, FieldReference> = [:]
    var forceArray = true
    var forceContent = false
    var suppressEmpty = true
    var namespaces: OrderedMap<String, String> = [:]
    var removeNamespaces = false
    var parseOptions: String?

    static let options: [Option<Settings>] = [
      .option("source", \.source, "The field with the XML text.", required: true, example: "message"),
      .option("target", \.target, "Where the converted document goes; needed unless `store_xml` is off."),
      .option("store_xml", \.storeXML, "Converts the document."),
      .option("xpath", \.xpath, "XPath expressions, and the fields for what they find."),
      .option(
        "force_array", \.forceArray, "Puts children, and what an expression finds, into lists even where they are one."),
      .option("force_content", \.forceContent, "Puts every text into a map, as `content`."),
      .option("suppress_empty", \.suppressEmpty, "Leaves empty elements out; otherwise they are empty maps."),
      .option(
        "namespaces", \.namespaces, "Prefixes for the expressions, and their namespaces.",
        defaultText: "those that the root element declares"),
      .option("remove_namespaces", \.removeNamespaces, "Lets expressions ignore namespaces."),
      .option(
        "parse_options", \.parseOptions,
        "`strict` refuses malformed documents; `no_error` and `no_warning` are accepted."),
    ]
  }

  private let settings: Settings
  private let isStrict: Bool

  init(_ settings: Settings, _ context: FilterContext) throws {
    self.settings = settings
    if settings.storeXML, settings.target == nil {
      throw BuildFailure("target", "is needed unless 'store_xml' is off", code: "config.missing-option")
    }
    let words = (settings.parseOptions ?? "").split { $0 == "," || $0 == "|" }
      .map { $0.lowercased().filter { $0 != "_" && !$0.isWhitespace } }
    for word in words where !["strict", "noerror", "nowarning"].contains(word) {
      throw BuildFailure("parse_options", "knows strict, no_error and no_warning, not '\(word)'")
    }
    isStrict = words.contains("strict")
    for entry in settings.xpath.entries where !XPathSet.isSound(entry.key) {
      Log.warn(
        "xml.expression", "An XPath expression cannot be read; every event of its step is tagged.",
        ["step": .text(context.stepID), "expression": .text(entry.key)])
    }
  }

  func makeFilter() -> any Filter { Worker(settings, isStrict: isStrict) }

  private final class Worker: Filter {
    private let settings: Settings
    private let isStrict: Bool
    private let conversion: XMLConversion
    private let fields: [FieldReference]
    private let parser = XMLParser()
    private let paths: XPathSet
    private var room = ByteBuffer()

    init(_ settings: Settings, isStrict: Bool) {
      self.settings = settings
      self.isStrict = isStrict
      conversion = XMLConversion(
        forcesLists: settings.forceArray, forcesContent: settings.forceContent, suppressesEmpty: settings.suppressEmpty)
      fields = settings.xpath.entries.map(\.value)
      paths = XPathSet(
        settings.xpath.entries.map(\.key), namespaces: settings.namespaces.entries.map { ($0.key, $0.value) })
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        guard var value = event.value(settings.source), !value.isNull else { return false }
        if value.isList, value.count == 1, let only = value.first { value = only }
        guard let text = value.text else { return fail(event) }
        if text.allSatisfy(isSpace) || !settings.storeXML && fields.isEmpty { return false }
        guard let document = parser.parse(text, repairs: !isStrict && !fields.isEmpty) else { return fail(event) }
        defer { document.free() }
        return handle(document, event)
      }
    }

    private func fail(_ event: Event) -> Bool {
      event.addTag("_xmlparsefailure")
      return false
    }

    private func handle(_ document: XMLDocument, _ event: Event) -> Bool {
      // Converted first, since removing namespaces changes the document; stored last.
      var converted: ValueBits?
      if settings.storeXML, document.isWellFormed {
        let (bits, isEmpty) = conversion.convert(document.root, event, &room)
        converted = isEmpty ? (settings.suppressEmpty ? .null : event.makeMap().bits) : bits
      }
      var isMatched = false
      if !fields.isEmpty {
        if settings.removeNamespaces { document.removeNamespaces() }
        guard let evaluation = paths.begin(document) else { return fail(event) }
        defer { evaluation.end() }
        for i in 0..<fields.count {
          let list = event.makeList()
          guard paths.evaluate(i, evaluation, document, &room, { list.append(event.makeText($0)) }) else {
            return fail(event)
          }
          guard let first = list.first else { continue }
          isMatched = true
          let bits = list.count == 1 && !settings.forceArray ? first.bits : list.bits
          guard event.write(fields[i], bits) else { return fail(event) }
        }
      }
      guard settings.storeXML, let target = settings.target else { return isMatched }
      guard let converted, event.write(target, converted) else { return fail(event) }
      return true
    }
  }
}
