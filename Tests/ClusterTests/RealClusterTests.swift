//  The care of a cluster against real engines: what is put there, put again, merged, deleted and brought back.

import Foundation
import Outputs
import TestSupport
import Testing

@testable import Cluster

@Suite(.enabled(if: RunningEngine.isThere, Comment(rawValue: RunningEngine.why)))
struct RealClusterTests {
  private func client(_ engine: RunningEngine) throws -> ClusterClient {
    try ClusterClient(hosts: [hostBase(engine.address)], connection: ClusterConnection())
  }

  private func setup(
    _ engine: RunningEngine, isDryRun: Bool = false, force: Bool = false, repository: String? = nil
  ) throws -> [SetupStep] {
    var options = SetupOptions()
    options.isDryRun = isDryRun
    options.force = force
    options.repositoryLocation = repository
    let setup = ClusterSetup(try client(engine), options)
    try setup.run()
    return setup.steps
  }

  /// Outcomes other than `skipped`, and how often each came.
  private func outcomes(_ steps: [SetupStep]) -> [SetupStep.Outcome: Int] {
    Dictionary(steps.filter { $0.outcome != .skipped }.map { ($0.outcome, 1) }) { $0 + $1 }
  }

  @Test(arguments: [RunningEngine.Kind.elasticsearch, .opensearch])
  func `a second setup changes nothing, and a third mends what was changed`(kind: RunningEngine.Kind) throws {
    // A cluster of somebody else is not set up anew.
    let engine = try RunningEngine(kind, settings: kind == .elasticsearch ? ["node.name=setup"] : [])
    let dry = try setup(engine, isDryRun: true)
    let count = Assets.templates(.elasticsearch).count - 1
    #expect(outcomes(dry) == [.created: count], "\(dry)")
    #expect(try engine.request("GET", "/_component_template/aura-settings").status == 404)
    let first = try setup(engine)
    #expect(outcomes(first) == [.created: count], "\(first)")
    let second = try setup(engine)
    #expect(outcomes(second) == [.unchanged: count], "\(second)")

    let changed = try engine.request(
      "PUT", "/_component_template/aura-mappings-security",
      #"{"template":{"mappings":{"properties":{"blocked":{"type":"keyword"}}}},"_meta":{"managed_by":"sluice"}}"#)
    #expect(changed.status == 200)
    let foreign = try engine.request(
      "PUT", "/_component_template/aura-mappings-web", #"{"template":{},"_meta":{"managed_by":"somebody"}}"#)
    #expect(foreign.status == 200)
    let third = try setup(engine)
    #expect(outcomes(third) == [.unchanged: count - 2, .updated: 1, .foreign: 1], "\(third)")
    #expect(try outcomes(setup(engine, force: true)) == [.unchanged: count - 1, .updated: 1])
    #expect(try outcomes(setup(engine)) == [.unchanged: count])

    // The types that count.
    let document = """
      {"@timestamp":"2026-03-01T10:00:00.123Z","client_ip":"203.0.113.7","request_duration":3,"status_code":"503",
      "geoip":{"location":{"lat":65.01,"lon":25.47},"city_name":"Oulu"},"user_agent":{"original":"curl/8"},
      "security_event":true,"threat_types":["xss"],"task_duration":2,"own_ip":"192.0.2.1","odd":"text"}
      """
    let made = try engine.request("PUT", "/aura-logs-2026.03.01/_doc/1?refresh=true", document)
    #expect(made.status == 201, "\(made.text)")
    let mapping = try PlainJSON(engine.request("GET", "/aura-logs-2026.03.01/_mapping").body)
    let properties = mapping["aura-logs-2026.03.01"]?["mappings"]?["properties"]
    for (name, type) in [
      ("@timestamp", "date"), ("client_ip", "ip"), ("request_duration", "float"), ("security_event", "boolean"),
      ("threat_types", "keyword"), ("own_ip", "ip"), ("odd", "keyword"), ("levelname", "keyword"),
    ] { #expect(properties?[name]?["type"]?.string == type, "\(name)") }
    #expect(properties?["geoip"]?["properties"]?["location"]?["type"]?.string == "geo_point")
    #expect(try engine.count("aura-logs-2026.03.01", "client_ip:\"203.0.113.0/24\" AND status_code:[500 TO 599]") == 1)
    #expect(
      try engine.count("aura-all", "@timestamp:[\"2026-03-01T10:00:00.122Z\" TO \"2026-03-01T10:00:00.124Z\"]") == 1)
  }

  @Test func `old days go, past days are merged, snapshots come back beside them`() throws {
    let engine = try RunningEngine(.elasticsearch, settings: ["node.name=care"])
    let client = try client(engine)
    func name(_ family: String, daysAgo: Int) -> String {
      let date = Date(timeIntervalSinceNow: -86_400 * Double(daysAgo))
      let parts = Calendar.utc.dateComponents([.year, .month, .day], from: date)
      return String(format: "%@-%04d.%02d.%02d", family, parts.year ?? 0, parts.month ?? 0, parts.day ?? 0)
    }
    let old = [name("aura-logs", daysAgo: 31), name("aura-metrics", daysAgo: 400)]
    let kept = [name("aura-logs", daysAgo: 30), name("aura-security", daysAgo: 1), name("aura-logs", daysAgo: 0)]
    let strange = ["aura-logs-archive", "aura-other-2020.01.01", "unrelated-2020.01.01"]
    for index in old + kept + strange {
      for number in 0..<3 {
        let made = try engine.request("POST", "/\(index)/_doc?refresh=true", #"{"n":\#(number)}"#)
        #expect(made.status == 201)
      }
    }
    let rows = try client.indices()
    #expect(Set(rows.map(\.name)) == Set(old + kept + strange.dropLast()))
    #expect(rows.allSatisfy { $0.documents == 3 && ($0.bytes ?? 0) > 0 })
    #expect(rows.first { $0.name == old[0] }?.ageDays == 31)
    let health = try client.health()
    #expect(health.status == "yellow" && health.exitStatus == 1 && health.flavour == "elasticsearch")
    #expect(health.troubled.contains { $0.name == kept[0] && $0.status == "yellow" })

    let found = try client.old(days: 30)
    #expect(Set(found.delete.map(\.name)) == Set(old) && Set(found.strange) == Set(strange.dropLast()))
    try client.delete(found.delete.map(\.name)) { _ in }
    #expect(try Set(client.indices().map(\.name)) == Set(kept + strange.dropLast()))

    // Today's index is still written to.
    #expect(try Set(client.unmerged()) == Set(kept.dropLast()))
    for index in try client.unmerged() { try client.merge(index) {} }
    #expect(try client.unmerged().isEmpty)

    let steps = try setup(engine, repository: engine.repositoryFolder)
    #expect(steps.contains { $0.kind == "repository" && $0.outcome == .created })
    #expect(
      try setup(engine, repository: engine.repositoryFolder).contains {
        $0.kind == "repository" && $0.outcome == .unchanged
      })
    let row = try client.takeSnapshot("aura_backup", "aura-test") { _ in }
    #expect(row.state == "SUCCESS" && row.indices == 5)
    #expect(throws: ClusterFailure.self) { try client.takeSnapshot("aura_backup", "aura-test") { _ in } }
    let restored = try client.restore("aura_backup", "aura-test", indices: kept[0])
    #expect(restored == ["restored-" + kept[0]])
    #expect(try engine.count("restored-" + kept[0]) == 3)
    let full = try engine.request("PUT", "/\(kept[0])/_settings", #"{"index.blocks.read_only_allow_delete":true}"#)
    #expect(full.status == 200)
    #expect(try client.health().warnings.contains { $0.contains(kept[0]) })
  }
}

extension Calendar {
  fileprivate static let utc: Calendar = {
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = TimeZone(secondsFromGMT: 0) ?? calendar.timeZone
    return calendar
  }()
}
