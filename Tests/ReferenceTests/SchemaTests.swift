//  The schemas against files that the program accepts and files that it refuses.

import Config
import Daemon
import Diagnostics
import Foundation
import Pipeline
import PluginKit
import Reference
import TestSupport
import Testing

@Suite struct SchemaTests {
  private func problems(_ yaml: String, _ name: String = "pipeline") throws -> [String] {
    let problems = Problems()
    let node = try #require(YAML.parse(yaml, file: "test", problems: problems), "\(problems.sorted)")
    return try SchemaValidator(try #require(reference.schema(name))).problems(editorValue(node))
  }

  static let shipped: [String] = ["pipelines", "Benchmarks/cases"].flatMap { folder in
    let names = (try? FileManager.default.contentsOfDirectory(atPath: Fixtures.root + "/" + folder)) ?? []
    return names.filter { $0.hasSuffix(".yml") }.sorted().map { folder + "/" + $0 }
  }

  /// An editor and `sluice check` say the same of a file.
  @Test(arguments: shipped)
  func `the schema and the check agree on the pipelines of this tree`(_ path: String) throws {
    let text = String(decoding: try Fixtures.read(path), as: UTF8.self)
    let found = Problems()
    let services = Services(resolves: false, folder: ".", dataFolder: ".", configFolder: ".")
    let variables = VariableSource(
      environment: [
        "BEATS_PORT": "0", "HTTP_PORT": "0", "TCP_PORT": "0", "ELASTICSEARCH_HOSTS": "http://localhost:9200",
        "GEOIP_DATABASE": "city.mmdb",
      ])
    let file = try #require(PipelineFile.parse(text, path: path, variables: variables, problems: found))
    let settings = Settings(file: nil, variables: variables, problems: found).pipeline(file, problems: found)
    _ = CompiledPipeline.compile(
      file, settings: settings,
      environment: CompileEnvironment(registry: .all, services: services, variables: variables), problems: found)
    let schemaProblems = try problems(text)
    #expect(schemaProblems.isEmpty == !found.hasErrors, "\(schemaProblems), check: \(found.sorted)")
  }

  @Test func `the settings file of this tree is sound`() throws {
    #expect(try problems(String(decoding: Fixtures.read("config/sluice.yml"), as: UTF8.self), "settings") == [])
  }

  @Test(arguments: ManualTests.subjects)
  func `the examples of the manuals are sound`(_ subject: Subject) throws {
    let plugin = subject.plugin
    for example in plugin.manual.examples {
      let body = example.config.split(separator: "\n").map { "      \($0)\n" }.joined()
      var file = "\(plugin.kind.rawValue)s:\n  - \(plugin.manual.name):\n\(body)"
      if plugin.kind == .codec {
        file = "inputs:\n  - tcp: { port: 5001, codec: { \(plugin.manual.name): \(example.config) } }\n"
      }
      #expect(try problems(file) == [], "the example '\(example.title)' of \(plugin.title)")
    }
  }

  /// A default stands in the schema as a value, so it must be one.
  @Test(arguments: ManualTests.subjects)
  func `defaults are values of their options`(_ subject: Subject) throws {
    let plugin = subject.plugin
    for option in plugin.options where option.defaultText != nil && !option.isDefaultInWords {
      let schema = try JSONSerialization.jsonObject(with: Data(option.schemaText.utf8)) as? [String: Any]
      guard let value = schema?["default"] else {
        Issue.record("'\(option.name)' of \(plugin.title): no default from \(option.defaultText ?? "")")
        continue
      }
      #expect(try SchemaValidator(option.schemaText).problems(value) == [], "'\(option.name)' of \(plugin.title)")
    }
  }

  @Test(arguments: [
    "inputs:\n  - beats\n  - http: { port: 5000 }\n    id: web\n",
    "filters:\n  - drop:\n    when: '[a]'\n",
    "filters:\n  - if: '[a]'\n    then:\n      - drop\n    else:\n      if: '[b]'\n      then: [drop]\n",
    "pipeline: { id: a, workers: 2, batch: { size: 10, delay: 50ms }, queue.max_bytes: 1gb, pipeline.ordered: auto }\n",
    "pipeline:\n  pipeline: { batch.size: '${SIZE}' }\n  dead_letter_queue: { retain.age: 7d }\n",
    "pipeline: { queue: { checkpoint: { writes: 1 } } }\n",
    "outputs:\n  - elasticsearch: { hosts: '${HOSTS}', index: 'a-%{+yyyy}', concurrent_requests: '4' }\n",
    "tests:\n  - { name: a, given: { message: x }, expect: [{ a: 1 }] }\n", "filters:\n",
  ])
  func `what the program reads is sound`(_ yaml: String) throws {
    let problems = Problems()
    _ = PipelineFile.parse(
      yaml, path: "test.yml", variables: VariableSource(environment: ["SIZE": "5", "HOSTS": "a,b"]),
      problems: problems)
    #expect(!problems.hasErrors, "\(problems.sorted)")
    #expect(try self.problems(yaml) == [])
  }

  @Test(arguments: [
    "input:\n  - beats\n",
    "inputs:\n  - beets\n",
    "inputs:\n  - beats: { prot: 5044 }\n",
    "inputs:\n  - beats: { port: abc }\n",
    "inputs:\n  - tcp\n",
    "inputs:\n  - beats: {}\n    http: {}\n",
    "inputs:\n  - tcp: { port: 1, codec: jason }\n",
    "inputs:\n  - tcp: { port: 1, codec: { line: { charsets: UTF-8 } } }\n",
    "inputs:\n  - id: a\n",
    "inputs: { beats: {} }\n",
    "inputs:\n  - if: '[a]'\n    then: [beats]\n",
    "filters:\n  - grok: { match: { message: 'x' }, break_on_match: perhaps }\n",
    "filters:\n  - json: { target: a }\n",
    "filters:\n  - then: [drop]\n",
    "filters:\n  - if: '[a]'\n",
    "filters:\n  - if: '[a]'\n    then: { drop: {} }\n",
    "filters:\n  - performance: { thresholds: { quick: 1 } }\n",
    "outputs:\n  - elasticsearch: { hosts: http://a, version_type: newest }\n",
    "pipeline: { batch: { sizes: 10 } }\n",
    "pipeline: { queue.type: disk }\n",
    "tests:\n  - { name: a }\n", "tests:\n  - { name: a, given: {}, expects: {} }\n",
  ])
  func `what the program refuses is refused`(_ yaml: String) throws {
    #expect(try problems(yaml) != [])
  }

  @Test func `settings are nested or dotted, and misspelt ones are refused`() throws {
    for sound in [
      "queue: { max_bytes: 1gb }\n", "api.http.port: 9600-9700\n", "api: { http: { port: 9600 } }\n",
      "xpack.monitoring.enabled: true\n", "xpack: { monitoring: 1 }\n",
    ] {
      #expect(try problems(sound, "settings") == [], "\(sound)")
    }
    for broken in ["queue: { max_byte: 1gb }\n", "api.http.prot: 9600\n", "log.level: loud\n", "xpacks: 1\n"] {
      #expect(try problems(broken, "settings") != [], "\(broken)")
    }
  }
}
