//  geoip against recorded answers, damaged databases, and replacement under load. The databases are test data of others
//  and stay beside the repository; without them these tests skip and say so.

import Diagnostics
import Foundation
import TestSupport
import Testing

@testable import Filters

/// The folder of recorded facts: `SLUICE_SHARED`, or `shared` beside the repository.
enum SharedFolder {
  static let path: String? = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let path = ProcessInfo.processInfo.environment["SLUICE_SHARED"] ?? root.appendingPathComponent("shared").path
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }()
  static var isMissing: Bool { path == nil }
  static func file(_ name: String) -> String { (path ?? "") + "/" + name }

  /// The cases of one recorded file, as JSON objects.
  static func cases(_ name: String) throws -> [[String: Any]] {
    try String(contentsOfFile: file("fixtures/logstash/" + name), encoding: .utf8).split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }
}

func jsonObject(_ bytes: UnsafeRawBufferPointer) throws -> NSDictionary {
  try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? NSDictionary)
}

private func value(_ event: [String: Any], _ reference: String) -> Any? {
  let keys = reference.split { $0 == "[" || $0 == "]" }.map(String.init)
  var current: Any? = event
  for key in keys { current = (current as? [String: Any])?[key] }
  return current
}

@Suite(.disabled(if: SharedFolder.isMissing, "the folder of recorded facts is not beside the repository"))
struct GeoIPTests {
  @Test func `answers as recorded`() throws {
    var checked = 0
    var sources: [String: GeoIPSource] = [:]
    for one in try SharedFolder.cases("geoip.jsonl") {
      guard one["error"] == nil, let steps = one["steps"] as? [[String: Any]], steps.count == 1,
        let options = steps[0]["geoip"] as? [String: Any], let reference = options["source"] as? String,
        let name = options["database"] as? String, let given = (one["given"] as? [[String: Any]])?.first,
        let expect = (one["expect"] as? [[String: Any]])?.first
      else { continue }
      let ecs = one["ecs"] as? String != "disabled"
      let fallback = ecs ? String(reference.dropLast("[ip]".count)) : "geoip"
      let target = options["target"] as? String ?? fallback
      // What happens to a target that holds something already is the event's business, not the look-up's.
      guard value(given, target) == nil || ecs, target != reference else { continue }
      if sources[name] == nil { sources[name] = try GeoIPSource(path: SharedFolder.file("fixtures/geoip/" + name)) }
      let fields = try (options["fields"] as? [String] ?? []).map { try #require(GeoIPField(name: $0)) }
      let lookup = GeoIPLookup(try #require(sources[name]), fields: fields, ecs: ecs)
      var text = value(given, reference)
      if let list = text as? [Any] { text = list.first }
      guard let text = text as? String else { continue }
      for _ in 0..<2 {  // fresh, then from the cache
        let (outcome, fragment) = try Array(text.utf8).withUnsafeBytes {
          let answer = lookup.lookup($0)
          return (answer.outcome, try jsonObject(answer.fragment))
        }
        let id = one["id"] as? String ?? ""
        let failureTag = (options["tag_on_failure"] as? [String])?.first ?? "_geoip_lookup_failure"
        let failed = (expect["tags"] as? [String])?.contains(failureTag) ?? false
        if options["tag_on_failure"] as? [String] != [] { #expect((outcome != .found) == failed, "\(id)") }
        let wanted = (value(expect, target) as? [String: Any])?.filter { key, _ in
          (value(given, target) as? [String: Any])?[key] == nil
        }
        if outcome == .blank {
          #expect(wanted == nil, "\(id)")
        } else {
          #expect(fragment == wanted as NSDictionary?, "\(id)")
        }
      }
      checked += 1
    }
    #expect(checked > 250, "\(checked)")
  }

  @Test func `the filter answers as recorded`() throws {
    let differences = try CaseRunner(filters: allFilters).differences(in: "Tests/Cases/logstash/geoip.jsonl")
    #expect(differences.isEmpty, "\(differences.count) differ:\n\(differences.prefix(40).joined(separator: "\n"))")
  }

  @Test func `fields by other names are refused`() {
    for name in ["asn", "as_org", "nonsense", ""] { #expect(GeoIPField(name: name) == nil) }
    #expect(GeoIPField(name: "CITY_Name") == .cityName)
  }

  @Test func `a damaged database ends in an error or in failures, never in a crash`() throws {
    let folder = SharedFolder.file("fixtures/geoip/bad")
    var refused = 0
    for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() where name.hasSuffix(".mmdb") {
      do {
        let lookup = GeoIPLookup(try GeoIPSource(path: folder + "/" + name), fields: GeoIPField.allCases, ecs: false)
        for i in 0..<4096 {
          let texts = ["\(i & 255).\(i >> 4).\(i & 15).1", "\(String(i * 16, radix: 16))::\(i)"]
          for text in texts {
            try Array(text.utf8).withUnsafeBytes { _ = try jsonObject(lookup.lookup($0).fragment) }
          }
        }
      } catch let error as GeoIPError {
        refused += 1
        #expect(error.description.contains(name) && error.description.contains("cannot be used: "))
      }
    }
    #expect(refused > 3)
    #expect(throws: GeoIPError.self) { try GeoIPSource(path: folder + "/none.mmdb") }
    #expect(throws: GeoIPError.self) { try GeoIPSource(path: folder) }
    #expect(throws: GeoIPError.self) { try GeoIPSource(path: "/dev/null") }
  }

  @Test func `every prefix and many bit flips of a database are survived`() throws {
    let whole = try Data(contentsOf: URL(fileURLWithPath: SharedFolder.file("fixtures/geoip/GeoLite2-City-Test.mmdb")))
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("geoip-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    var random = SystemRandomNumberGenerator()
    let path = folder.appendingPathComponent("x.mmdb")
    for round in 0..<200 {
      var data = whole
      if round < 40 {
        data = data.prefix(whole.count * round / 40)
      } else {
        for _ in 0..<(round * 4) { data[Int.random(in: 0..<data.count, using: &random)] = UInt8.random(in: 0...255) }
      }
      try data.write(to: path)
      guard let source = try? GeoIPSource(path: path.path) else { continue }
      let lookup = GeoIPLookup(source, fields: [], ecs: true)
      for text in ["81.2.69.142", "2.125.160.216", "216.160.83.56", "89.160.20.129", "2001:218::1", "67.43.156.4"] {
        try Array(text.utf8).withUnsafeBytes { _ = try jsonObject(lookup.lookup($0).fragment) }
      }
    }
  }

  @Test func `a replaced database is taken up, a bad one is not, and no look-up is lost meanwhile`() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("geoip-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent("db.mmdb").path
    func put(_ name: String) throws {
      try? FileManager.default.removeItem(atPath: path + ".new")
      try FileManager.default.copyItem(atPath: SharedFolder.file("fixtures/geoip/" + name), toPath: path + ".new")
      #expect(rename(path + ".new", path) == 0)
    }
    try put("GeoLite2-City-Test.mmdb")
    let source = try GeoIPSource(path: path)
    #expect(!source.reloadIfChanged())
    let isRunning = Gauge(1)
    async let lookups = Task.detached {
      let lookup = GeoIPLookup(source, fields: [.countryCode2], ecs: false, cacheEntries: 1)
      var lost = 0
      var count = 0
      while isRunning.value == 1 || count < 1000 {
        lookup.refresh()
        for text in ["81.2.69.142", "2.125.160.216", "89.160.20.129"] {
          if Array(text.utf8).withUnsafeBytes({ lookup.lookup($0).outcome }) != .found { lost += 1 }
          count += 1
        }
      }
      return lost
    }.value
    for round in 0..<40 {
      try put(round % 2 == 0 ? "GeoLite2-Country-Test.mmdb" : "GeoLite2-City-Test.mmdb")
      #expect(source.reloadIfChanged())
      #expect(source.database.kind == (round % 2 == 0 ? .country : .city))
    }
    try put("bad/libmaxminddb-libmaxminddb-metadata-marker-only.mmdb")
    #expect(!source.reloadIfChanged())
    #expect(source.database.kind == .city)
    isRunning.set(0)
    #expect(await lookups == 0)
  }

  @Test func `kinds are told by the metadata`() throws {
    for (name, kind) in [
      ("GeoLite2-City-Test", GeoIPKind.city), ("GeoIP2-City-Test", .city), ("GeoLite2-Country-Test", .country),
      ("GeoLite2-ASN-Test", .asn), ("GeoIP2-ISP-Test", .isp), ("GeoIP2-Anonymous-IP-Test", .anonymousIP),
    ] { #expect(try GeoIPDatabase(path: SharedFolder.file("fixtures/geoip/\(name).mmdb")).kind == kind) }
  }
}

@Suite struct GeoIPNumberTests {
  @Test func `a coordinate is written in the fewest digits that give it back`() {
    var numbers = [
      0, -0.0, 1, -1, 51.5142, -0.0931, 0.1, 0.000001, 1e-7, 123456789.123456, 999_999_999.5, 1e9, 1e300,
      .leastNonzeroMagnitude, 139.75309,
    ]
    for i in 0..<2000 { numbers.append(Double(i * 7919 % 3_600_001) / 10_000 - 180) }
    for number in numbers {
      var out = ByteBuffer()
      out.appendJSON(number)
      #expect(out.string() == "\(number)")
    }
    var out = ByteBuffer()
    out.appendJSON(Double.nan)
    #expect(out.string() == "null")
  }
}
