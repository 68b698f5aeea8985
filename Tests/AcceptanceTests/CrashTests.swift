//  Power cuts of the process: the daemon is killed at random moments and started again, and the cluster loses answers. What
//  was acknowledged must arrive, and only windows whose acknowledgement was lost may stand twice.

import Diagnostics
import Foundation
import Glibc
import TestSupport
import Testing

/// Lines as `Benchmarks/generate.py` makes them.
func generatedLines(_ name: String, _ count: Int) throws -> [[UInt8]] {
  let folder = TemporaryFolder()
  let made = try run("/usr/bin/env", ["python3", "Benchmarks/generate.py", folder.path, "--events", String(count)])
  try #require(made.status == 0, "\(made.errors)")
  return try Fixtures.read(folder.path + "/" + name).split(separator: 10).map { Array($0) }
}

/// An address database that puts every IPv4 address in one city; nil where its writer could not be installed.
func madeAddressDatabase(in folder: TemporaryFolder) throws -> String? {
  guard let clientPython else { return nil }
  let path = folder.path + "/city.mmdb"
  let made = try run(
    clientPython,
    [
      "-c",
      """
      import sys
      from mmdb_writer import MMDBWriter
      from netaddr import IPSet
      writer = MMDBWriter(4, 'GeoLite2-City', languages=['en'])
      for half in ['0.0.0.0/1', '128.0.0.0/1']:
          writer.insert_network(IPSet([half]), {
              'city': {'names': {'en': 'Oulu'}}, 'country': {'iso_code': 'FI', 'names': {'en': 'Finland'}},
              'location': {'latitude': 65.01, 'longitude': 25.47, 'time_zone': 'Europe/Helsinki'}})
      writer.to_db_file(sys.argv[1])
      """, path,
    ])
  try #require(made.status == 0, "\(made.errors)")
  return path
}

@Suite struct CrashTests {
  /// Events and kills; more by the environment: SLUICE_CRASH_EVENTS, SLUICE_CRASH_KILLS, SLUICE_CRASH_SEED.
  private static func figure(_ name: String, _ usual: Int) -> Int {
    ProcessInfo.processInfo.environment["SLUICE_CRASH_" + name].flatMap { Int($0) } ?? usual
  }

  @Test func `what was acknowledged arrives once through kills and lost answers`() throws {
    let count = CrashTests.figure("EVENTS", 20_000)
    let kills = CrashTests.figure("KILLS", 3)
    let seed = CrashTests.figure("SEED", Int.random(in: 0..<1_000_000))
    var random = SeededRandom(UInt64(seed))
    let lines = try generatedLines("django.jsonl", count).enumerated().map { number, line in
      Array("{\"number\":\(number),".utf8) + line.dropFirst()
    }
    let endpoint = try BulkEndpoint { number, _ in number.isMultiple(of: 7) ? .cut : nil }
    defer { endpoint.stop() }
    let folder = TemporaryFolder()
    let database = try madeAddressDatabase(in: folder)
    var environment = ["ELASTICSEARCH_HOSTS": endpoint.address]
    environment["GEOIP_DATABASE"] = database
    var shipper = BeatsShipper(lines)
    var killed = 0
    while true {
      let daemon = try RunningDaemon(in: folder, environment: environment)
      // A share of what is left to send, so that every kill finds work under way.
      let goal = shipper.acknowledged + random.below(max(1, (count - shipper.acknowledged) * 2 / (kills - killed + 1)))
      let isLast = killed == kills
      try shipper.ship(to: daemon.port("beats-1")) { !isLast && $0 >= goal }
      if isLast {
        #expect(shipper.isDone && shipper.acknowledged == count, "seed \(seed)\n\(daemon.log)")
        let isEmpty = try waitUntil(seconds: 120) { try daemon.eventsInQueue() == 0 }
        #expect(isEmpty, "seed \(seed)\n\(daemon.log)")
        #expect(daemon.stop() == 0)
        break
      }
      daemon.crash()
      killed += 1
    }
    var ids: [Int: Int] = [:]
    for kept in endpoint.documents.values where kept.index.hasPrefix("aura-logs-") {
      let event = try #require(try JSONSerialization.jsonObject(with: Data(kept.source)) as? [String: Any])
      ids[try #require(event["number"] as? Int), default: 0] += 1
      let day = try #require(event["@timestamp"] as? String).prefix(10).replacing("-", with: ".")
      #expect(kept.index == "aura-logs-\(day)")
      #expect(event["threat_level"] is String && event["performance_category"] is String)
      if database != nil, event["client_ip"] != nil {
        #expect((event["geoip"] as? [String: Any])?["city_name"] as? String == "Oulu")
      }
      #expect(event["correlation_id"] is String && (event["user_agent"] as? [String: Any])?["original"] is String)
    }
    #expect(ids.count == count, "seed \(seed): \(count - ids.count) of \(count) acknowledged events are missing")
    let twice = Set(ids.filter { $0.value > 1 }.keys.map { $0 / shipper.windowSize })
    #expect(twice.isSubset(of: shipper.resent), "seed \(seed): \(twice.subtracting(shipper.resent))")
    #expect(endpoint.faults.isEmpty && endpoint.conflicts > 0)
  }

  /// What a cluster does wrong, each in its turn. Requests above half of what a batch makes are always too large for it.
  private static func trouble(_ number: Int, _ body: String) -> BulkEndpoint.Fault? {
    if body.utf8.count > 8000 { return .answer(413, "") }
    return switch number % 23 {
    case 2: .answer(429, #"{"error":{"type":"circuit_breaking_exception"}}"#)
    case 5: .answer(503, #"{"error":{"type":"cluster_block_exception"}}"#)
    case 7: .cut
    case 11: .half
    case 13: .reset
    case 17: .late(50)
    case 19: number % 4 == 0 ? .hang : .answer(502, "<html>bad gateway</html>")
    default: nil
    }
  }

  @Test func `what was acknowledged is indexed once or a dead letter, whatever the cluster does`() throws {
    let count = CrashTests.figure("EVENTS", 20_000)
    let kills = CrashTests.figure("KILLS", 3)
    let seed = CrashTests.figure("SEED", Int.random(in: 0..<1_000_000))
    var random = SeededRandom(UInt64(seed))
    let endpoint = try BulkEndpoint(refusing: "broken") { number, body in CrashTests.trouble(number, body) }
    defer { endpoint.stop() }
    let folder = TemporaryFolder()
    let file = try folder.write(
      """
      pipeline: { id: main, workers: 2, batch: { size: 100, delay: 5ms } }
      inputs:
        - beats: { port: 0 }
        - http: { port: 0 }
      filters:
        - mutate: { convert: { number: integer } }
      outputs:
        - elasticsearch:
            hosts: ['\(endpoint.address)']
            index: 'logs-%{[service]}'
            timeout: 1s
            retry_initial_interval: 20ms
            retry_max_interval: 200ms
            resurrect_delay: 20ms
      """, to: "main.yml")
    func line(_ number: Int) -> String {
      "{\"number\":\(number),\"service\":\"web\",\"state\":\"\(number % 50 == 0 ? "broken" : "fine")\"}"
    }
    // Even numbers come by Beats, odd ones by HTTP.
    var shipper = BeatsShipper(stride(from: 0, to: count, by: 2).map { Array(line($0).utf8) }, windowSize: 100)
    var poster = Poster(stride(from: 1, to: count, by: 2).map { line($0) })
    var killed = 0
    while true {
      let daemon = try RunningDaemon(in: folder, pipeline: file)
      let isLast = killed == kills
      let left = count / 2 - shipper.acknowledged
      let goal = shipper.acknowledged + random.below(max(1, left * 2 / (kills - killed + 1)))
      let ports = try (beats: daemon.port("beats-1"), http: daemon.port("http-1"))
      let posted = Gate<Poster?>(nil)
      TestThread.run { [poster] in
        var mine = poster
        mine.post(to: ports.http)
        posted.update { $0 = mine }
      }
      shipper.ship(to: ports.beats) { !isLast && $0 >= goal }
      if isLast {
        poster = try #require(posted.wait(until: .now + .seconds(120)) { $0 }, "seed \(seed)")
        #expect(shipper.isDone && poster.isDone, "seed \(seed)\n\(daemon.log)")
        let isEmpty = try waitUntil(seconds: 120) { try daemon.eventsInQueue("main") == 0 }
        #expect(isEmpty, "seed \(seed)\n\(daemon.log)")
        #expect(daemon.stop() == 0)
        break
      }
      daemon.crash()
      poster = try #require(posted.wait(until: .now + .seconds(120)) { $0 }, "seed \(seed)")
      killed += 1
    }
    func number(_ event: Any?) throws -> Int { try #require((event as? [String: Any])?["number"] as? Int) }
    var indexed: [Int: Int] = [:]
    for kept in endpoint.documents.values {
      indexed[try number(try JSONSerialization.jsonObject(with: Data(kept.source))), default: 0] += 1
    }
    let exported = try run(
      sluiceProgram, ["dlq", "export", "--folder", folder.path + "/data/dead_letter_queue/main"])
    var letters: [Int: Int] = [:]
    for letter in exported.lines {
      let parsed = try JSONSerialization.jsonObject(with: Data(letter.utf8)) as? [String: Any]
      letters[try number(parsed?["event"]), default: 0] += 1
    }
    let broken = Set(stride(from: 0, to: count, by: 50))
    let missing = (0..<count).filter { broken.contains($0) ? letters[$0] == nil : indexed[$0] == nil }
    #expect(
      missing.isEmpty,
      "seed \(seed): \(missing.count) of \(count) acknowledged events are missing: \(missing.prefix(9))")
    #expect(broken.isDisjoint(with: indexed.keys), "seed \(seed)")
    let twice = indexed.filter { $0.value > 1 }.keys.filter {
      !($0 % 2 == 0 ? shipper.resent.contains($0 / 2 / 100) : poster.resent.contains($0 / 2 / Poster.size))
    }
    #expect(twice.isEmpty, "seed \(seed): \(twice.prefix(9))")
    #expect(endpoint.faults.isEmpty && endpoint.requests > 60, "\(endpoint.faults.prefix(3))")
  }
}

/// Posts arrays of events one after the other, and again those that were not answered.
private struct Poster: Sendable {
  static let size = 100
  let requests: [String]
  private(set) var resent: Set<Int> = []
  private var next = 0
  private var sent: Set<Int> = []

  init(_ lines: [String]) {
    requests = stride(from: 0, to: lines.count, by: Poster.size).map {
      "[" + lines[$0..<min($0 + Poster.size, lines.count)].joined(separator: ",") + "]"
    }
  }

  var isDone: Bool { next == requests.count }

  /// Posts until all are acknowledged or the connection ends.
  mutating func post(to port: Int) {
    guard let client = try? TestClient(port: port) else { return }
    while next < requests.count {
      let body = requests[next]
      let head =
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
      if !sent.insert(next).inserted { resent.insert(next) }
      guard (try? client.send(head + body)) != nil else { return }
      let answer = String(decoding: client.receive(exactly: 12), as: UTF8.self)
      guard answer == "HTTP/1.1 200" else { return }
      var tail: [UInt8] = []
      while !tail.suffix(4).elementsEqual(Array("\r\n\r\n".utf8)) {
        let byte = client.receive(exactly: 1)
        if byte.isEmpty { return }
        tail += byte
      }
      let text = String(decoding: tail, as: UTF8.self).lowercased()
      let length = text.firstRange(of: "content-length: ").flatMap {
        Int(text[$0.upperBound...].prefix { $0.isNumber })
      }
      _ = client.receive(exactly: length ?? 0)
      next += 1
    }
  }
}
