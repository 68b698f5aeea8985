//  The `csv` filter: a row of comma-separated values becomes fields.
//
//  The names of columns become references once: given ones at start, those of a header row when it is seen, generated
//  ones when a worker first needs them. All workers share the header row, so that it is taken from one event alone.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit
internal import Synchronization

struct CSVFilter: FilterPlugin {
  static let manual = Manual(
    name: "csv",
    summary: "Takes rows of comma-separated values apart.",
    details: """
      The first line of the source is read as RFC 4180 has it: a value may stand in quotes, and a quote within is \
      doubled. Values without a name become `column1`, `column2` and so on. A value between two separators is null, a \
      value of two quotes an empty text. A text that does not convert stays; a null value cannot be converted, which \
      fails unless `skip_empty_columns` leaves it out. Columns before a failure stay set.
      """,
    examples: [
      Example(
        "Names and a number", config: "{ columns: [name, town, age], convert: { age: integer } }",
        input: #"{"message": "lena,\"Ulm, DE\",42"}"#,
        output: #"{"message": "lena,\"Ulm, DE\",42", "name": "lena", "town": "Ulm, DE", "age": 42}"#),
      Example(
        "A header names the columns",
        config: "{ autodetect_column_names: true, separator: ';', remove_field: [message] }",
        input: "{\"message\": \"name;age\"}\n{\"message\": \"lena;42\"}", output: #"{"name": "lena", "age": "42"}"#),
      Example(
        "A broken row", config: "{}", input: #"{"message": "\"a"}"#,
        output: #"{"message": "\"a", "tags": ["_csvparsefailure"]}"#),
    ],
    failureTags: ["_csvparsefailure", "_csvskippedemptyfield"])

  struct Settings: PluginSettings {
    var source = FieldReference.message
    var target: FieldReference?
    var columns: [String] = []
    var separator = ","
    var quoteChar = "\""
    var autogenerateColumnNames = true
    var autodetectColumnNames = false
    var skipHeader = false
    var skipEmptyColumns = false
    var skipEmptyRows = false
    var convert: OrderedMap<String, CSVType> = [:]

    static let options: [Option<Settings>] = [
      .option("source", \.source, "The field with the row."),
      .option("target", \.target, "Where the columns go; without it they become fields of the event."),
      .option("columns", \.columns, "The columns' names, in order."),
      .option("separator", \.separator, "The text between two values."),
      .option("quote_char", \.quoteChar, "The quote, one character; `\\x00` for no quoting."),
      .option(
        "autogenerate_column_names", \.autogenerateColumnNames,
        "Whether values without a name become `column1`, `column2` and so on; else they are left out."),
      .option(
        "autodetect_column_names", \.autodetectColumnNames,
        "Takes the names from the first event, which is dropped. Only sensible with one worker."),
      .option("skip_header", \.skipHeader, "Drops events whose values are the columns' names."),
      .option("skip_empty_columns", \.skipEmptyColumns, "Leaves out values that are empty."),
      .option("skip_empty_rows", \.skipEmptyRows, "Tags an empty text `_csvskippedemptyfield` and does nothing else."),
      .option("convert", \.convert, "Columns that become numbers, booleans or timestamps."),
    ]
  }

  private let settings: Settings
  private let shared: Header

  init(_ settings: Settings, _ context: FilterContext) {
    self.settings = settings
    shared = Header()
  }

  func makeFilter() -> any Filter { Worker(settings, shared) }

  /// The names that the first event gave.
  private final class Header: Sendable {
    private let names = Lock<[String]?>(nil)

    /// The names, or those of `fresh` where none are known yet.
    func adopt(_ fresh: () -> [String]) -> (names: [String], isFresh: Bool) {
      names.withLock { known in
        if let known { return (known, false) }
        let made = fresh()
        known = made
        return (made, true)
      }
    }
  }

  private struct Column {
    var name: String
    /// Nil where the name is no reference.
    var reference: FieldReference?
    var type: CSVType?
  }

  private final class Worker: Filter {
    private let settings: Settings
    private let shared: Header
    private let types: [String: CSVType]
    private var row: CSVRow?
    /// The named columns, and behind them generated ones as they are needed.
    private var columns: [Column] = []
    private var namedCount = 0
    private var awaitsHeader: Bool

    init(_ settings: Settings, _ shared: Header) {
      self.settings = settings
      self.shared = shared
      types = Dictionary(settings.convert.entries.map { ($0.key, $0.value) }) { _, last in last }
      awaitsHeader = settings.autodetectColumnNames && settings.columns.isEmpty
      if !settings.separator.isEmpty {
        if settings.quoteChar == "\\x00" {
          row = CSVRow(separator: Array(settings.separator.utf8), quote: [])
        } else if settings.quoteChar.unicodeScalars.count == 1 {
          row = CSVRow(separator: Array(settings.separator.utf8), quote: Array(settings.quoteChar.utf8))
        }
      }
      name(settings.columns)
    }

    private func name(_ names: [String]) {
      columns = names.map { column($0) }
      namedCount = names.count
    }

    private func column(_ name: String) -> Column {
      var text = name
      if let target = settings.target {
        let inner = name.utf8.contains(UInt8(ascii: "[")) ? name : "[\(name)]"
        text = target.path.map { "[\($0)]" }.joined() + inner
      }
      return Column(name: name, reference: name.isEmpty ? nil : try? FieldReference(text), type: types[name])
    }

    func process(_ batch: FilterBatch) { batch.forEach { handle($0) } }

    private func handle(_ event: Event) -> Bool {
      guard let value = event.value(settings.source), !value.isNull, value.boolean != false else { return false }
      guard let text = value.text else { return fail(event) }
      if text.count == 0 {
        guard settings.skipEmptyRows else { return fail(event) }
        event.addTag("_csvskippedemptyfield")
        return false
      }
      guard row?.read(text) == true, let row else { return fail(event) }
      if awaitsHeader, takesHeader(row, text, event) {
        event.cancel()
        return false
      }
      if settings.skipHeader, namedCount > 0, isHeader(row, text, event) {
        event.cancel()
        return false
      }
      return store(row, text, isClean: value.isClean, event) ? true : fail(event)
    }

    private func fail(_ event: Event) -> Bool {
      event.addTag("_csvparsefailure")
      return false
    }

    /// - Returns: True where this row became the header.
    private func takesHeader(_ row: CSVRow, _ text: UnsafeRawBufferPointer, _ event: Event) -> Bool {
      let (names, isFresh) = shared.adopt {
        row.cells.enumerated().map { i, cell in
          let bits = row.bits(cell, of: text, isClean: false, event)
          let name = event.makeValue(bits).string ?? ""
          return name.isEmpty ? "column\(i + 1)" : name
        }
      }
      name(names)
      awaitsHeader = false
      return isFresh
    }

    private func isHeader(_ row: CSVRow, _ text: UnsafeRawBufferPointer, _ event: Event) -> Bool {
      guard row.cells.count == namedCount else { return false }
      for (i, cell) in row.cells.enumerated() {
        let name = columns[i].name.utf8
        // A doubled quote makes the text longer than the value, never shorter.
        if cell.isNull || cell.end - cell.start < name.count { return false }
        guard let value = event.makeValue(row.bits(cell, of: text, isClean: false, event)).text,
          value.elementsEqual(name)
        else { return false }
      }
      return true
    }

    private func store(_ row: CSVRow, _ text: UnsafeRawBufferPointer, isClean: Bool, _ event: Event) -> Bool {
      let cells = row.cells
      for i in 0..<cells.count {
        if i >= namedCount {
          if !settings.autogenerateColumnNames { return true }
          if i >= columns.count { columns.append(column("column\(i + 1)")) }
        }
        if settings.skipEmptyColumns, cells[i].start == cells[i].end { continue }
        var bits = ValueBits.null
        if cells[i].isNull {
          if columns[i].type != nil { return false }
        } else {
          bits = row.bits(cells[i], of: text, isClean: isClean, event)
          if let type = columns[i].type, let value = event.makeValue(bits).text, let made = type.convert(value, event) {
            bits = made
          }
        }
        guard let reference = columns[i].reference, event.write(reference, bits) else { return false }
      }
      return true
    }
  }
}
