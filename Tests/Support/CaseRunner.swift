//  Runs recorded filter cases through real steps: one batch, one worker, the final flush at the end.

import Config
import Diagnostics
import Events
import Glibc
import Pipeline
public import PluginKit

public struct CaseRunner {
  private let registry: Registry
  /// Relative paths of `patterns_dir` start here.
  private let casesFolder = Fixtures.root + "/Tests/Cases/logstash"

  public init(filters: [FilterKind]) { registry = Registry(inputs: [], filters: filters, outputs: []) }

  /// Runs the cases of a file and returns what differs, one line a case.
  ///
  /// - Parameters:
  ///   - known: Ids of cases that may differ; each must differ, so that the list stays short.
  ///   - accepts: Which cases are run; all by default.
  public func differences(
    in file: String, known: Set<String> = [], accepts: (Case) -> Bool = { _ in true }
  ) throws -> [String] {
    var result: [String] = []
    for item in try Fixtures.cases(file) where accepts(item) {
      let difference = run(item)
      if known.contains(item.id) {
        if difference == nil { result.append("\(item.id): passes now; take it off the list of known differences") }
      } else if let difference {
        result.append("\(item.id) (\(item["about"]?.string ?? "")): \(difference)")
      }
    }
    return result
  }

  /// Whether every filter of the case is there, and the databases that it asks for.
  public func hasFilters(of item: Case) -> Bool { hasFilters(item["steps"]) }

  private func hasFilters(_ list: Value?) -> Bool {
    let steps = list.map { $0.isMap ? [$0] : $0.elements } ?? []
    return steps.allSatisfy { step in
      if step["if"] != nil { return hasFilters(step["then"]) && hasFilters(step["else"]) }
      return step.elements.allSatisfy { member in
        let name = String(decoding: member.key.bytes, as: UTF8.self)
        // MaxMind's test databases are not part of the project.
        if name == "geoip", Fixtures.shared == nil { return false }
        return name == "when" || name == "id" || registry.filters[name] != nil
      }
    }
  }

  /// Why the case differs from what was recorded; nil when it passes.
  public func run(_ item: Case) -> String? {
    let problems = Problems()
    let folder = makeFiles(item["files"])
    defer { if let folder { removeFolder(folder) } }
    let ecs = ECSMode(rawValue: item["ecs"]?.string ?? "disabled") ?? .disabled
    let services = Services(
      resolves: true, folder: casesFolder, dataFolder: "/tmp", configFolder: Fixtures.root + "/config")
    let builder = StepBuilder(registry: registry, pipelineID: "test", ecs: ecs, services: services, problems: problems)
    let steps = compile(item["steps"], builder, folder)
    let isRefused = item["error"]?.string == "config"
    if problems.hasErrors {
      return isRefused ? nil : "refused: \(problems.sorted.map(\.description).joined(separator: "; "))"
    }
    if isRefused { return "was accepted, recorded a configuration error" }
    return compare(item, steps)
  }

  private func compare(_ item: Case, _ steps: [Step]) -> String? {
    let batch = EventBatch()
    var now = WallClock.ns
    if let text = item["now"]?.text, let fixed = Timestamp(arriving: text) {
      now = fixed.seconds * 1_000_000_000 + Int64(fixed.nanos)
    }
    var selection: [Int32] = []
    for given in item["given"]?.elements ?? [] {
      var json = ByteBuffer()
      given.appendJSON(to: &json)
      guard let event = try? batch.add(json: json.bytes, arrivalNs: now) else { return "broken case" }
      selection.append(event.index)
    }
    let runner = StepRunner(steps, handler: nil)
    runner.run(batch, &selection)
    selection += runner.flush(batch, nowNs: now, isFinal: true)
    let expected = item["expect"]?.elements ?? []
    guard selection.count == expected.count else {
      return "\(selection.count) events, recorded \(expected.count): \(selection.map { batch[$0].fields.json })"
    }
    let shown = (item["given"]?.elements ?? []) + (item["expect"]?.elements ?? [])
    let mentioned = ["@timestamp", "@version"].filter { name in shown.contains { $0[name] != nil } }
    let documents = selection.map { document(batch[$0], mentioned) }
    if item["unordered"]?.boolean == true {
      var left = documents
      for wanted in expected {
        guard let i = left.firstIndex(where: { difference($0, wanted) == nil }) else {
          return "no event is \(wanted.json) among \(left.map(\.json))"
        }
        left.remove(at: i)
      }
      return nil
    }
    for (actual, wanted) in zip(documents, expected) {
      if let difference = difference(actual, wanted) { return "\(difference); got \(actual.json.prefix(600))" }
    }
    return nil
  }

  /// The event's fields and metadata; time and version only where the case has them.
  private func document(_ event: Event, _ mentioned: [String]) -> Value {
    let copy = event.makeValue(event.fields.copied())
    if event.hasMetadata { copy.set(name: utf8("@metadata"), event.metadata.copied()) }
    for name in ["@timestamp", "@version"] where !mentioned.contains(name) { copy[name]?.remove(from: copy) }
    return copy
    func utf8(_ text: StaticString) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    }
  }

  // MARK: Steps

  private func compile(_ list: Value?, _ builder: StepBuilder, _ folder: String?) -> [Step] {
    var steps: [Step] = []
    let entries = list.map { $0.isMap ? [$0] : $0.elements } ?? []
    for step in entries {
      if let condition = step["if"]?.string {
        steps += builder.branch(
          conditionText(condition), then: compile(step["then"], builder, folder),
          otherwise: compile(step["else"], builder, folder))
      } else {
        steps += compileOne(step, builder, folder)
      }
    }
    return steps
  }

  private func compileOne(_ step: Value, _ builder: StepBuilder, _ folder: String?) -> [Step] {
    let when = step["when"]?.string.map { conditionText($0) }
    let id = step["id"]?.string
    for member in step.elements {
      let name = String(decoding: member.key.bytes, as: UTF8.self)
      if name == "when" || name == "id" { continue }
      // A step without options: its name and nothing behind it.
      let options = member.isNull ? YAMLNode(.scalar(""), place) : yaml(member, folder)
      let built = builder.filter(name, options: options, position: place, when: when, id: id)
      return built.map { [$0] } ?? []
    }
    return []
  }

  private func conditionText(_ text: String) -> ConditionText {
    ConditionText(text: text, node: YAMLNode(.scalar(text), place))
  }

  private let place = SourcePosition(file: "case", line: 1, column: 1)

  private func yaml(_ value: Value, _ folder: String?) -> YAMLNode {
    switch value.kind {
    case .map:
      return YAMLNode(
        .map(
          value.elements.map {
            YAMLEntry(key: String(decoding: $0.key.bytes, as: UTF8.self), keyPosition: place, value: yaml($0, folder))
          }), place)
    case .list: return YAMLNode(.list(value.elements.map { yaml($0, folder) }), place)
    case .text:
      var text = value.string ?? ""
      if let folder { text = replace("{{files}}", in: text, with: folder) }
      if text.hasPrefix("../geoip/"), let shared = Fixtures.shared { text = shared + "/fixtures/" + text.dropFirst(3) }
      if text.hasSuffix(".mmdb"), !text.hasPrefix("/"), let shared = Fixtures.shared {
        text = shared + "/fixtures/geoip/" + text
      }
      if text == "regexes.yaml" { text = "/usr/share/uap-core/regexes.yaml" }
      return YAMLNode(.scalar(text), place, style: .doubleQuoted)
    default: return YAMLNode(.scalar(value.json), place)
    }
  }

  private func replace(_ part: String, in text: String, with other: String) -> String {
    var rest = text[...]
    var result = ""
    while let range = rest.firstRange(of: part) {
      result += rest[..<range.lowerBound] + other
      rest = rest[range.upperBound...]
    }
    return result + rest
  }

  private func makeFiles(_ files: Value?) -> String? {
    guard let files, files.isMap else { return nil }
    var template = Array("/tmp/sluice-case-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { return nil }
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    for file in files.elements {
      let name = String(decoding: file.key.bytes, as: UTF8.self)
      var content = Array((file.string ?? "").utf8)
      let descriptor = open(folder + "/" + name, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
      _ = write(descriptor, &content, content.count)
      close(descriptor)
    }
    return folder
  }
}

/// Removes a folder and the files in it.
public func removeFolder(_ folder: String) {
  guard let listing = opendir(folder) else { return }
  while let entry = readdir(listing) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if name != ".", name != ".." { unlink(folder + "/" + name) }
  }
  closedir(listing)
  rmdir(folder)
}
