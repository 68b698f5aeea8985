//  Dictionaries in files: YAML, JSON or CSV by the file's ending. A file that changed is read again, on a queue of its own;
//  until it has been read, and where it is broken, the dictionary before stays in use.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

/// What a dictionary file is written in.
enum DictionaryFormat: Sendable {
  case yaml, json, csv

  init?(path: String) {
    switch path.split(separator: ".").last?.lowercased() {
    case "yml", "yaml": self = .yaml
    case "json": self = .json
    case "csv": self = .csv
    default: return nil
    }
  }

  /// Reads entries into `entries`.
  func read(_ bytes: [UInt8], path: String, into entries: inout TranslateEntries) throws(TranslateTable.Fault) {
    switch self {
    case .yaml: try readYAML(bytes, path, &entries)
    case .json: try readJSON(bytes, &entries)
    case .csv: try readCSV(bytes, &entries)
    }
  }

  private func readYAML(
    _ bytes: [UInt8], _ path: String, _ entries: inout TranslateEntries
  ) throws(TranslateTable.Fault) {
    let problems = Problems()
    var limits = YAML.Limits()
    limits.bytes = DictionaryFile.limitBytes
    limits.nodes = 50_000_000
    limits.keepsDuplicateKeys = true
    let node = YAML.parse(bytes, file: path, problems: problems, limits: limits)
    if let problem = problems.sorted.first(where: { $0.severity == .error }) {
      throw TranslateTable.Fault(description: "\(problem)")
    }
    guard let node, !node.isEmpty else { return }
    guard let list = node.entries else { throw TranslateTable.Fault(description: "it holds \(node.phrase), no map") }
    var numbers = 0
    for entry in list {
      if !entry.isKeyQuoted, isNoText(entry.key) {
        // Keys are texts: what YAML reads as a number is none, upstream as well.
        numbers += 1
        continue
      }
      entries.set(Array(entry.key.utf8), TranslateValue(TypedValue(entry.value)))
    }
    if numbers > 0 {
      Log.warn(
        "translate.keys", "Keys of a dictionary that are numbers without quotes match nothing; put them in quotes.",
        ["path": .text(path), "count": .number(numbers)])
    }
  }

  private func isNoText(_ key: String) -> Bool {
    ["true", "false", "null", "~", ""].contains(key) || Array(key.utf8).withUnsafeBytes { parseNumber($0) } != nil
  }

  private func readJSON(_ bytes: [UInt8], _ entries: inout TranslateEntries) throws(TranslateTable.Fault) {
    let batch = EventBatch()
    defer { extendLifetime(batch) }
    let event = batch.add(arrivalNs: 0)
    let document: Value
    do {
      var limits = JSONLimits()
      limits.values = 50_000_000
      document = try bytes.withUnsafeBytes { bytes throws(JSONError) in try event.parseJSON(bytes, limits: limits) }
    } catch {
      throw TranslateTable.Fault(description: "it is no JSON: \(error)")
    }
    guard document.isMap else { throw TranslateTable.Fault(description: "it holds no JSON object") }
    var child = document.first
    while let member = child {
      entries.set(Array(member.key.bytes), value(member))
      child = member.next
    }
  }

  private func value(_ member: Value) -> TranslateValue {
    shortenWholeNumbers(member)
    switch member.kind {
    case .boolean: return .boolean(member.boolean == true)
    case .integer: return .integer(member.integer ?? 0)
    case .double: return .double(member.double ?? 0)
    case .text: return TranslateValue(text: member.text.map { Array($0) } ?? [])
    case .null, .timestamp: return .null
    case .bigInteger, .list, .map:
      var json = ByteBuffer()
      member.appendJSON(to: &json)
      return member.kind == .bigInteger ? .bigInteger(json.array()) : .nested(json.array(), member.kind)
    }
  }

  /// A number such as `1.0` is a whole number in a JSON dictionary, upstream as well.
  private func shortenWholeNumbers(_ value: Value) {
    if let double = value.double, let whole = Int64(exactly: double) { value.replace(with: .integer(whole)) }
    var child = value.first
    while let member = child {
      shortenWholeNumbers(member)
      child = member.next
    }
  }

  private func readCSV(_ bytes: [UInt8], _ entries: inout TranslateEntries) throws(TranslateTable.Fault) {
    var row = CSVRow(separator: [44], quote: [34])
    let batch = EventBatch()
    defer { extendLifetime(batch) }
    let event = batch.add(arrivalNs: 0)
    var isSound = true
    var line = 0
    bytes.withUnsafeBytes { all in
      var start = 0
      while start < all.count {
        let text = all.slice(start, all.count)
        line += 1
        guard row.read(text) else {
          isSound = false
          return
        }
        if let key = row.cells.first, !key.isNull {
          let name = event.makeValue(row.bits(key, of: text, isClean: false, event)).text.map { Array($0) } ?? []
          var value = TranslateValue.null
          if row.cells.count > 1, !row.cells[1].isNull {
            let bits = row.bits(row.cells[1], of: text, isClean: false, event)
            value = TranslateValue(text: event.makeValue(bits).text.map { Array($0) } ?? [])
          }
          entries.set(name, value)
        }
        start += row.end
        if start + 1 < all.count, all[start] == 13, all[start + 1] == 10 { start += 1 }
        start += 1
      }
    }
    if !isSound { throw TranslateTable.Fault(description: "row \(line) is malformed") }
  }
}

/// A dictionary file and the table made of it. All workers share one.
final class DictionaryFile: Sendable {
  /// Larger files are refused.
  static let limitBytes = 256 << 20

  struct Settings: Sendable {
    var path: String
    var format: DictionaryFormat
    var mode: TranslateTable.Mode
    /// Keys that vanish from the file stay.
    var merges: Bool
    /// Most characters of a YAML file.
    var characterLimit: Int
  }

  private struct State {
    var table: TranslateTable
    var modifiedNs: Int64
    var bytes: Int64
  }

  private let settings: Settings
  private let services: Services
  private let state: Lock<State>

  /// - Throws: `SystemError` or `TranslateTable.Fault`. A configuration that is only checked reads nothing.
  init(_ settings: Settings, services: Services) throws {
    self.settings = settings
    self.services = services
    var entries = TranslateEntries()
    var stamp: (modifiedNs: Int64, bytes: Int64) = (0, 0)
    if services.resolves {
      stamp = services.stamp(settings.path) ?? stamp
      try DictionaryFile.read(settings, services, &entries)
    }
    state = Lock(
      State(
        table: try TranslateTable(entries, settings.mode), modifiedNs: stamp.modifiedNs, bytes: stamp.bytes))
  }

  private static func read(_ settings: Settings, _ services: Services, _ entries: inout TranslateEntries) throws {
    let bytes = try services.read(settings.path, limitBytes: limitBytes)
    if settings.format == .yaml, bytes.count > settings.characterLimit,
      bytes.count(where: { $0 & 0xc0 != 0x80 }) > settings.characterLimit
    {
      throw TranslateTable.Fault(description: "it has more than \(settings.characterLimit) characters")
    }
    if let bad = bytes.withUnsafeBytes({ firstInvalidUTF8($0) }) {
      throw TranslateTable.Fault(description: "byte \(bad + 1) is no UTF-8")
    }
    try settings.format.read(bytes, path: settings.path, into: &entries)
  }

  /// The table as it is now.
  var table: TranslateTable { state.withLock { $0.table } }

  func reloadIfChanged() {
    let known = state.withLock { $0 }
    guard let stamp = services.stamp(settings.path),
      stamp.modifiedNs != known.modifiedNs || stamp.bytes != known.bytes
    else { return }
    do {
      var entries = TranslateEntries()
      if settings.merges {
        for (key, value) in zip(known.table.keys, known.table.values) { entries.set(key, value) }
      }
      try DictionaryFile.read(settings, services, &entries)
      let fresh = State(
        table: try TranslateTable(entries, settings.mode), modifiedNs: stamp.modifiedNs, bytes: stamp.bytes)
      state.withLock { $0 = fresh }
      Log.info(
        "translate.reloaded", "A changed dictionary is in use.",
        ["path": .text(settings.path), "entries": .number(fresh.table.keys.count)])
    } catch {
      // The stamp is kept, so that the same broken file is not read and told of again.
      state.withLock {
        $0.modifiedNs = stamp.modifiedNs
        $0.bytes = stamp.bytes
      }
      Log.warn(
        "translate.reload-failed", "A changed dictionary cannot be read; the one before stays in use.",
        ["path": .text(settings.path), "reason": .text("\(error)")])
    }
  }
}
