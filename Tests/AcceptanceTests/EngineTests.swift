//  The real program before a real engine: what was acknowledged is in the daily indices once, although the engine was
//  killed in the middle. Without an engine these tests are skipped; with ELASTICSEARCH_URL they run on that cluster, which
//  is not killed, on days that nothing else uses.

import Diagnostics
import Foundation
import TestSupport
import Testing

@Suite(.enabled(if: RunningEngine.isThere, Comment(rawValue: RunningEngine.why)))
struct EngineTests {
  /// Events; more by the environment.
  private static let count =
    ProcessInfo.processInfo.environment["SLUICE_ENGINE_EVENTS"].flatMap { Int($0) } ?? 10_000
  private static let families = ["aura-logs", "aura-security", "aura-performance"]

  @Test func `three days of events stand in their daily indices although the engine was killed`() throws {
    let engine = try RunningEngine()
    let year = engine.isOwn ? 2026 : Int.random(in: 1980...2009)
    let days = (1...3).map { (date: "\(year)-03-0\($0)", index: "\(year).03.0\($0)") }
    let indices = days.flatMap { day in EngineTests.families.map { "\($0)-\(day.index)" } }
    for index in indices {
      try #require(engine.request("HEAD", "/" + index).status == 404, "\(index) is there already")
    }
    defer { if !engine.isOwn { for index in indices { _ = try? engine.request("DELETE", "/" + index) } } }

    let count = EngineTests.count
    var sent = [0, 0, 0]
    let lines = try generatedLines("django.jsonl", count).enumerated().map { number, line in
      var event = try #require(try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any])
      let day = number % 7 % 3  // not in order, and not the same number each
      let time = try #require(event["@timestamp"] as? String)
      event["@timestamp"] = days[day].date + time.dropFirst(10)
      event["number"] = number
      if number % 50 == 0 { event["path"] = "/search?q=1%27%20UNION%20SELECT%20password%20FROM%20users--" }
      sent[day] += 1
      return try Array(JSONSerialization.data(withJSONObject: event))
    }
    let folder = TemporaryFolder()
    var environment = ["ELASTICSEARCH_HOSTS": engine.address]
    environment["GEOIP_DATABASE"] = try madeAddressDatabase(in: folder)
    let daemon = try RunningDaemon(in: folder, environment: environment)
    var shipper = BeatsShipper(lines)
    let port = try daemon.port("beats-1")
    shipper.ship(to: port) { $0 >= count / 3 }
    let hasSome = try waitUntil(seconds: 60) { try daemon.eventsOut("logs") >= count / 10 }
    #expect(hasSome, "\(daemon.log)")
    if engine.isOwn {
      engine.kill()
      shipper.ship(to: port) { $0 >= count * 2 / 3 }
      let isTold = waitUntil { daemon.log.contains("[es.unreachable]") }
      #expect(isTold, "\(daemon.log)")
      try engine.start()
    }
    shipper.ship(to: port) { _ in false }
    #expect(shipper.isDone && shipper.resent.isEmpty)
    let isEmpty = try waitUntil(seconds: 240) { try daemon.eventsInQueue() == 0 }
    #expect(isEmpty, "\(daemon.log)")

    for (day, number) in zip(days, sent) {
      #expect(try engine.count("aura-logs-" + day.index) == number)
      let oneDay = try engine.count("aura-logs-" + day.index, "@timestamp:[\(day.date) TO \(day.date)]")
      #expect(oneDay == number, "events of another day stand in \(day.index)")
    }
    func total(_ family: String, _ query: String = "*:*") throws -> Int {
      try engine.count(days.map { "\(family)-\($0.index)" }.joined(separator: ","), query)
    }
    #expect(try total("aura-logs") == count)
    let security = try total("aura-logs", "security_event:true")
    #expect(try security >= count / 50 && total("aura-security") == security)
    let slow = try total("aura-logs", "slow_request:true OR db_heavy:true")
    #expect(try slow > 0 && total("aura-performance") == slow)
    if environment["GEOIP_DATABASE"] != nil { #expect(try total("aura-logs", "geoip.city_name:Oulu") > 0) }
    #expect(daemon.stop() == 0)
    #expect(!daemon.log.contains("ERROR"), "\(daemon.log)")
  }
}

extension RunningDaemon {
  /// What an output has delivered, as the API says.
  fileprivate func eventsOut(_ id: String, pipeline: String = "aura") throws -> Int {
    let pipelines = try #require(try api("/_node/stats/pipelines")["pipelines"] as? [String: Any])
    let plugins = (pipelines[pipeline] as? [String: Any])?["plugins"] as? [String: Any]
    let outputs = try #require(plugins?["outputs"] as? [[String: Any]])
    let output = try #require(outputs.first { $0["id"] as? String == id })
    return try #require((output["events"] as? [String: Any])?["out"] as? Int)
  }
}
