//  The commands on the cluster as an operator calls them, and whether what the pipelines write has its place in the index
//  templates.

import Cluster
import Diagnostics
import Foundation
import TestSupport
import Testing

@Suite struct ClusterCommandTests {
  /// The names of all fields of a document: `geoip.city_name`.
  private func paths(_ value: Any, below path: String = "") -> Set<String> {
    guard let map = value as? [String: Any] else { return path.isEmpty ? [] : [path] }
    return map.reduce(into: []) { $0.formUnion(paths($1.value, below: path.isEmpty ? $1.key : "\(path).\($1.key)")) }
  }

  private func events(_ text: String) throws -> [[String: Any]] {
    try text.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  @Test func `every field that the pipeline writes stands in the list that the templates are made from`() throws {
    let folder = TemporaryFolder()
    let database = try madeAddressDatabase(in: folder)
    var environment: [String: String] = [:]
    environment["GEOIP_DATABASE"] = database
    func through(_ input: String, _ flags: String...) throws -> [[String: Any]] {
      let outcome = try run(
        sluiceProgram, ["try", "-p", "pipelines/aura.yml"] + flags, input: input, environment: environment)
      #expect(outcome.status == 0, "\(outcome.errors)")
      return try events(outcome.output)
    }
    let access = try generatedLines("access.log", 400).map { String(decoding: $0, as: UTF8.self) }
    let django = try generatedLines("django.jsonl", 400).map { String(decoding: $0, as: UTF8.self) }
    // Error logs, syslog and Celery, as the pipeline's own tests have them.
    let told = String(decoding: try Fixtures.read("pipelines/aura.yml"), as: UTF8.self)
    let other = told.matches(of: /message: '((?:''|[^'\n])+)'/).map {
      String($0.output.1).replacingOccurrences(of: "''", with: "'")
    }
    #expect(other.count > 30)
    let attack = #"{"path":"/a?q=1%27%20UNION%20SELECT%20password%20FROM%20users--","client_ip":"192.0.2.1"}"#
    let plain =
      try through((access + other).joined(separator: "\n"), "--plain")
      + through((django + [attack]).joined(separator: "\n"))
    var unknown: Set<String> = []
    for event in plain { unknown.formUnion(paths(event).filter { !FieldList.knows($0) }) }
    #expect(unknown.isEmpty, "these fields have no place in the templates: \(unknown.sorted())")
    if database != nil { #expect(plain.contains { ($0["geoip"] as? [String: Any])?["location"] != nil }) }
    // Shippers have fields of their own; what the filters add to them must be known.
    for session in ["filebeat-default", "metricbeat-system", "filebeat7-nginx-module"] {
      let text = String(
        decoding: try Fixtures.read("Tests/Cases/inputs/beats/\(session)/expected.jsonl"), as: UTF8.self)
      let sent = try events(text)
      let own = sent.reduce(into: Set<String>()) { $0.formUnion(paths($1)) }
      for event in try through(text) {
        let made = paths(event).subtracting(own).filter { !FieldList.knows($0) }
        #expect(made.isEmpty, "\(session): \(made.sorted())")
      }
    }
  }

  @Test(.enabled(if: RunningEngine.isThere, Comment(rawValue: RunningEngine.why)))
  func `a cluster is set up, events of every shipper find their place in it, and a marked one is found`() throws {
    let engine = try RunningEngine(settings: ["node.name=commands"])
    func es(_ words: String...) throws -> Outcome {
      try run(sluiceProgram, ["es"] + words + ["--hosts", engine.address])
    }
    let dry = try es("setup", "--dry-run")
    #expect(dry.status == 0 && dry.output.contains("PUT /_index_template/aura-logs"), "\(dry)")
    #expect(try es("templates").status == 1)
    let first = try es("setup")
    #expect(first.status == 0 && first.output.contains(" 0 failed"), "\(first)")
    let second = try es("setup")
    #expect(second.status == 0 && second.output.contains("\n0 created, 0 updated, "), "\(second)")
    #expect(try es("templates").status == 0)
    #expect(try es("health").status == 0)

    let folder = TemporaryFolder()
    var environment = ["ELASTICSEARCH_HOSTS": engine.address]
    environment["GEOIP_DATABASE"] = try madeAddressDatabase(in: folder)
    let daemon = try RunningDaemon(in: folder, environment: environment)
    var lines = try generatedLines("django.jsonl", 500)
    lines += try generatedLines("access.log", 500).map { line in
      try Array(JSONSerialization.data(withJSONObject: ["message": String(decoding: line, as: UTF8.self)]))
    }
    for session in ["filebeat-default", "metricbeat-system"] {
      lines += try Fixtures.read("Tests/Cases/inputs/beats/\(session)/expected.jsonl").split(separator: 10).map {
        Array($0)
      }
    }
    var shipper = BeatsShipper(lines)
    try shipper.ship(to: daemon.port("beats-1")) { _ in false }
    #expect(shipper.isDone)
    let isEmpty = try waitUntil(seconds: 60) { try daemon.eventsInQueue() == 0 }
    #expect(isEmpty, "\(daemon.log)")
    // Its own figures are not the question here: what counts is what a search finds.
    let isWhole = try waitUntil(seconds: 30) {
      try engine.count("aura-logs-*,aura-metrics-*") == lines.count
    }
    let logs = try engine.count("aura-logs-*")
    let metrics = try engine.count("aura-metrics-*")
    #expect(isWhole, "\(logs), \(metrics) of \(lines.count)\n\(daemon.log)")
    #expect(!daemon.log.contains("dead"), "\(daemon.log)")

    let marked = try es("test", "--to", "http://127.0.0.1:\(daemon.port("http-1"))")
    #expect(marked.status == 0 && marked.output.contains("found in aura-logs-"), "\(marked)")
    let screen = try es(
      "monitor", "--count", "2", "--interval", "100ms", "--daemon", "http://127.0.0.1:\(daemon.port("api"))")
    #expect(screen.lines.count == 2 && screen.lines[1].contains("queue=0"), "\(screen)")
    #expect(screen.lines[1].contains("cluster=yellow"))
    let table = try es("indices")
    #expect(table.status == 0 && table.output.contains("aura-logs-"), "\(table)")
    let cleanup = try es("cleanup", "--days", "1")
    #expect(cleanup.status == 0 && cleanup.output.contains("would delete"), "\(cleanup)")
    #expect(try engine.count("aura-logs-*") == logs + 1)
    #expect(daemon.stop() == 0)
  }

  @Test func `a cluster that is not there is told with a status of its own`() throws {
    let gone = try BulkEndpoint(listens: false, other: nil)
    defer { gone.stop() }
    for (words, status) in [(["health"], Int32(3)), (["setup"], 1), (["cleanup", "--days", "3"], 1), (["cleanup"], 2)] {
      let outcome = try run(sluiceProgram, ["es"] + words + ["--hosts", gone.address])
      #expect(outcome.status == status && !outcome.errors.isEmpty, "\(outcome)")
    }
  }

  @Test func `every figure that Prometheus's rules and Grafana's panels name is exported`() throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder)
    let exported = try String(decoding: daemon.fetch("/metrics"), as: UTF8.self)
    let figure = /sluice_[a-z_]+/
    var count = 0
    for file in ["config/prometheus/sluice-rules.yml", "config/grafana/dashboards/sluice.json"] {
      let text = String(decoding: try Fixtures.read(file), as: UTF8.self)
      for match in text.matches(of: figure) {
        count += 1
        #expect(exported.contains("\n\(match.output){"), "\(file) names \(match.output)")
      }
    }
    #expect(count > 10)
    let board = try PlainJSON(Data(Fixtures.read("config/grafana/dashboards/sluice.json")))
    let ids = board["panels"]?.items.compactMap { $0["id"]?.integer } ?? []
    #expect(ids.count == Set(ids).count && ids.count == 6)
    #expect(daemon.stop() == 0)
  }
}
