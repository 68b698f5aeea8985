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
}
