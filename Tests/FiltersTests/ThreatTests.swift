//  The threat score with the rules that ship: attacks of every type are found in every disguise, ordinary traffic is
//  left alone, and the windows count, forget and stay bounded.

import Diagnostics
import Foundation
import Testing

@testable import Config
@testable import Filters

private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

/// A request whose texts are owned.
private struct Request {
  var texts: [String: String] = [:]
  var status = 0
  var bodyBytes = 0
  var time: Int64 = 1000

  init(_ object: [String: Any]) {
    texts = object.compactMapValues { $0 as? String }
    status = object["status"] as? Int ?? 0
    bodyBytes = object["body_bytes"] as? Int ?? 0
    time = Int64(object["time"] as? Int ?? 1000)
  }

  func add(to scorer: ThreatScorer) {
    let names = ["path", "query", "method", "user_agent", "headers", "message", "event", "user", "country"]
    var bytes: [UInt8] = []
    var ranges: [Range<Int>] = []
    for name in names {
      let start = bytes.count
      bytes += Array((texts[name] ?? "").utf8)
      ranges.append(start..<bytes.count)
    }
    bytes.withUnsafeBytes { whole in
      func text(_ i: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: whole[ranges[i]]) }
      var request = ThreatRequest()
      (request.path, request.query, request.method) = (text(0), text(1), text(2))
      (request.userAgent, request.headers, request.message) = (text(3), text(4), text(5))
      (request.event, request.user, request.country) = (text(6), text(7), text(8))
      request.address = texts["address"].flatMap { IPAddress(text: $0) }
      (request.status, request.bodyBytes, request.time) = (status, bodyBytes, time)
      scorer.add(request)
    }
  }
}

private func read(_ text: String, file: String = "rules.yml") -> (ThreatRules?, [Problem]) {
  let problems = Problems()
  return (ThreatRules.read(Array(text.utf8), file: file, problems: problems), problems.all)
}

private let shipped = Result {
  let (rules, problems) = read(
    try String(contentsOf: root.appendingPathComponent("config/threat-rules.yml"), encoding: .utf8))
  for problem in problems { Issue.record("\(problem)") }
  return try #require(rules)
}

private func score(_ rules: ThreatRules, _ requests: [Request], _ windows: ThreatWindows? = nil) -> [ThreatVerdict] {
  let scorer = ThreatScorer(rules, windows ?? ThreatWindows(rules))
  scorer.begin()
  for request in requests { request.add(to: scorer) }
  scorer.finish()
  return requests.indices.map { scorer.verdict($0) }
}

private func types(_ verdict: ThreatVerdict) -> [ThreatType] {
  ThreatType.allCases.enumerated().filter { verdict.types >> UInt32($0.offset) & 1 == 1 }.map(\.element)
}

private func rule(_ condition: String) -> String {
  "rules:\n  - {name: r, type: scanner, weight: 40, \(condition)}\n"
}

@Suite struct ThreatTests {
  static var attacks: [[String: Any]] {
    let path = root.appendingPathComponent("Tests/Cases/threat/attacks.jsonl")
    return (try? String(contentsOf: path, encoding: .utf8))?.split(separator: "\n").compactMap {
      try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    } ?? []
  }

  @Test func `every attack is named, and all but the told ones are security events`() throws {
    let rules = try shipped.get()
    var seen: Set<String> = []
    let attacks = ThreatTests.attacks
    #expect(attacks.count > 150)
    for attack in attacks {
      let type = try #require(attack["type"] as? String)
      seen.insert(type)
      let steps = attack["repeat"] as? [[String: Any]] ?? [attack]
      let verdicts = score(rules, steps.map { Request($0) })
      let verdict = try #require(verdicts.last)
      let told = attack["path"] ?? steps.last?.description ?? ""
      let text = "\(told) \(attack["query"] ?? "") \(attack["user_agent"] ?? "") \(attack["message"] ?? "")"
      if !types(verdict).contains(where: { $0.rawValue == type }) {
        Issue.record("\(type) is not found in \(text): \(verdict)")
      } else if attack["level"] as? String == "low" {
        if verdict.level != .low { Issue.record("\(text) is \(verdict)") }
      } else if !verdict.isSecurityEvent {
        Issue.record("\(text) is \(verdict)")
      }
      // A window counts with the step that fills it and not before.
      for early in verdicts.dropLast() where early.isSecurityEvent {
        Issue.record("\(early) came early in \(text)")
      }
    }
    #expect(seen == Set(ThreatType.allCases.map(\.rawValue)))
  }

  @Test func `tricky ordinary requests are no security events`() throws {
    let rules = try shipped.get()
    let path = root.appendingPathComponent("Tests/Cases/threat/ordinary.txt")
    let lines = try String(contentsOf: path, encoding: .utf8).split(separator: "\n").map(String.init)
    #expect(lines.count > 150)
    for line in lines {
      let verdict = try #require(score(rules, [Request(["path": line, "method": "GET", "status": 200])]).first)
      if verdict.isSecurityEvent { Issue.record("\(line) is \(verdict)") }
    }
  }

  @Test func `a device's name is no attack`() throws {
    let rules = try shipped.get()
    let folder = "/usr/share/uap-core/test_resources/"
    var agents = ["firefox_user_agent_strings.txt", "pgts_browser_list.txt"].flatMap {
      (try? String(contentsOfFile: folder + $0, encoding: .isoLatin1))?.split(separator: "\n").map(String.init) ?? []
    }
    agents = agents.map { String($0.split(separator: "\t").max { $0.count < $1.count } ?? "") }
    agents += [
      "Mozilla/5.0 (Linux; U; Android 2.3.4; ar-eg; Cat Comet Build/GRI40) AppleWebKit/533.1 Mobile Safari/533.1",
      "Mozilla/5.0 (Linux; Android 4.0.4; ONE TOUCH TAB 8HD Build/IMM76D) AppleWebKit/534.30 Safari/534.30",
    ]
    #expect(agents.count > 5000)
    // The corpus holds two scripts that somebody sent as an agent; they are attacks.
    for agent in agents where !agent.contains("<script") {
      let verdict = try #require(score(rules, [Request(["path": "/", "user_agent": agent])]).first)
      let told = types(verdict).filter { ![.scanner, .badAgent].contains($0) }
      if !told.isEmpty { Issue.record("\(agent) is \(verdict)") }
    }
  }

  @Test(.disabled(if: SharedFolder.isMissing, "the folder of recorded facts is not beside the repository"))
  func `of generated traffic at most one line in a thousand is a security event`() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("threat-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", SharedFolder.file("tools/gendata.py"), folder.path, "6000"]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    let rules = try shipped.get()
    let geo = GeoIPLookup(
      try GeoIPSource(path: SharedFolder.file("fixtures/geoip/GeoLite2-City-Test.mmdb")), fields: [], ecs: false)
    var requests: [Request] = []
    // Lines are 23 ms apart.
    let start: Int = 1_772_431_200
    for (index, line) in try String(contentsOf: folder.appendingPathComponent("django.jsonl"), encoding: .utf8)
      .split(separator: "\n").enumerated()
    {
      var event = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      event["status"] = event["status_code"]
      event["address"] = event["client_ip"]
      if let user = event["user_id"] as? Int { event["user"] = "\(user)" }
      if let address = (event["client_ip"] as? String).flatMap({ IPAddress(text: $0) }),
        let country = geo.countryCode(address)
      {
        event["country"] = "\(country)"
      }
      event["time"] = start + index * 23 / 1000
      requests.append(Request(event))
    }
    let windows = ThreatWindows(rules)
    var verdicts: [ThreatVerdict] = []
    for first in stride(from: 0, to: requests.count, by: 1000) {
      verdicts += score(rules, Array(requests[first..<min(first + 1000, requests.count)]), windows)
    }
    let alarms = zip(requests, verdicts).filter { $0.1.isSecurityEvent }
    #expect(alarms.count <= requests.count / 1000, "\(alarms.prefix(20))")

    let access = try String(contentsOf: folder.appendingPathComponent("access.log"), encoding: .utf8)
    var lines: [Request] = []
    for (index, line) in access.split(separator: "\n").enumerated() {
      // Quotes cut a line into head, request, status, referrer and agent; blanks cut the rest.
      let quoted = line.split(separator: "\"", omittingEmptySubsequences: false)
      try #require(quoted.count == 7)
      let head = quoted[0].split(separator: " ")
      let words = quoted[1].split(separator: " ")
      var request: [String: Any] = [
        "address": String(head[0]), "method": String(words[0]), "path": String(words[1]),
        "status": Int(quoted[2].split(separator: " ")[0]) ?? 0, "user_agent": String(quoted[5]),
        "time": start + index * 23 / 1000,
      ]
      if head[2] != "-" { request["user"] = String(head[2]) }
      if let address = IPAddress(text: String(head[0])), let country = geo.countryCode(address) {
        request["country"] = "\(country)"
      }
      lines.append(Request(request))
    }
    let more = score(rules, lines)
    let alarms2 = zip(lines, more).filter { $0.1.isSecurityEvent }
    #expect(alarms2.count <= lines.count / 1000, "\(alarms2.prefix(20))")
  }

  @Test func `the strongest rule names the threat and the sum ends at 100`() throws {
    let (rules, _) = read(
      """
      rules:
        - {name: a, type: xss, weight: 20, in: path, contains: aaa}
        - {name: b, type: scanner, weight: 50, in: [path, query], contains: bbb}
        - {name: c, type: sql_injection, weight: 50, in: query, match: 'c{3}d'}
      """)
    let verdicts = score(
      try #require(rules),
      [
        Request(["path": "/AAA"]), Request(["path": "/aaabbb?bbb"]), Request(["path": "/aaabbb", "query": "cccd"]),
        Request(["path": "/cccd"]), Request(["query": "aaa"]),
      ])
    #expect(verdicts.map(\.score) == [20, 70, 100, 0, 0])
    #expect(verdicts.map(\.level) == [.low, .high, .critical, .none, .none])
    #expect(verdicts.map(\.type) == [.xss, .scanner, .scanner, nil, nil])
    #expect(types(verdicts[2]) == [.sqlInjection, .xss, .scanner])
  }

  @Test func `levels change at their bounds`() {
    let levels: [(Int, ThreatLevel)] = [
      (0, .none), (1, .low), (29, .low), (30, .medium), (59, .medium), (60, .high), (79, .high), (80, .critical),
      (100, .critical),
    ]
    for (score, level) in levels {
      #expect(ThreatLevel(score: score) == level)
      #expect(ThreatVerdict(score: score).isSecurityEvent == (score >= 30))
    }
  }

  @Test func `who is allowed is never scored`() throws {
    let (rules, _) = read(
      "allow: {networks: [10.0.0.0/8, '2001:db8::/32'], users: [probe]}\n" + rule("in: path, contains: bad"))
    let requests = ["10.1.2.3", "2001:db8::1", "::ffff:10.0.0.1", "11.0.0.1"].map {
      Request(["path": "/bad", "address": $0])
    }
    #expect(score(try #require(rules), requests).map(\.score) == [0, 0, 0, 40])
    #expect(score(try #require(rules), [Request(["path": "/bad", "user": "probe"])]).map(\.score) == [0])
    #expect(score(try #require(rules), [Request(["path": "/bad", "user": "probes"])]).map(\.score) == [40])
  }

  @Test func `a window slides with the events' own time`() throws {
    let (rules, _) = read(rule("status: 401, window: {by: address, count: 3, within: 60s}"))
    func fired(_ times: [Int64]) throws -> [Bool] {
      score(
        try #require(rules),
        times.map {
          var request = Request(["address": "192.0.2.1", "status": 401])
          request.time = $0
          return request
        }
      ).map { $0.score > 0 }
    }
    #expect(try fired([100, 110, 120]) == [false, false, true])
    #expect(try fired([100, 130, 160]) == [false, false, false])
    #expect(try fired([100, 130, 159]) == [false, false, true])
    #expect(try fired([100, 100, 100, 100]) == [false, false, true, true])
    #expect(try fired([120, 100, 110]) == [false, false, true])  // out of order
    #expect(try fired([100, 110, 300, 310, 320]) == [false, false, false, false, true])
    #expect(try fired([100, 9_000_000, 110, 120]) == [false, false, false, true])  // one clock that runs ahead
  }

  @Test func `different values are told apart, and repeated ones are not`() throws {
    let (rules, _) = read(rule("status: 401, window: {by: address, distinct: user, count: 3, within: 60s}"))
    let users = ["a", "a", "b", "b", "a", "c", "a", ""]
    let requests = users.map { Request(["address": "192.0.2.1", "user": $0, "status": 401]) }
    #expect(
      score(try #require(rules), requests).map { $0.score > 0 } == [
        false, false, false, false, false, true, true, false,
      ])
  }

  @Test func `a journey is news when the country changes`() throws {
    let (rules, _) = read(rule("window: {by: user, distinct: country, count: 2, within: 1h}"))
    let steps: [(String, Int64, Bool)] = [
      ("GB", 100, false), ("GB", 200, false), ("CN", 300, true), ("CN", 400, false), ("GB", 500, true),
      ("GB", 600, false), ("FR", 5000, false), ("", 5100, false), ("DE", 5200, true),
    ]
    let requests = steps.map { step in
      var request = Request(["user": "alice", "country": step.0])
      request.time = step.1
      return request
    }
    #expect(score(try #require(rules), requests).map { $0.score > 0 } == steps.map(\.2))
  }

  @Test func `what fires all the time weighs less`() throws {
    let (rules, _) = read(
      rule("window: {by: user, distinct: country, count: 2, within: 1h}, common: {every: 1000, weight: 5}"))
    var requests: [Request] = []
    for user in 0..<100 {
      for country in ["GB", "CN"] { requests.append(Request(["user": "u\(user)", "country": country])) }
    }
    let scores = score(try #require(rules), requests).map(\.score)
    #expect(scores.filter { $0 == 40 }.count == 3)
    #expect(scores.filter { $0 == 5 }.count == 97)
  }

  @Test func `memory is bounded, and an active key outlives the idle ones`() throws {
    let (rules, _) = read(rule("status: 401, window: {by: address, count: 3, within: 60s}"))
    let windows = ThreatWindows(try #require(rules), keysMax: 1024)
    var attacker = Request(["address": "192.0.2.1", "status": 401])
    for round in 0..<100 {
      var requests = (0..<30).map { i -> Request in
        var request = Request(["address": "10.\(round).\(i >> 8).\(i & 255)", "status": 401])
        request.time = Int64(1000 + round)
        return request
      }
      attacker.time = Int64(1000 + round)
      requests.append(attacker)
      let last = score(try #require(rules), requests, windows).last
      if round >= 2 { #expect(last?.score == 40, "round \(round)") }
    }
    #expect(windows.keyCount <= 1024)
    #expect(windows.bytesHeld <= 1024 * 6 * 4 * 2)
  }

  @Test(arguments: [1, 2, 3, 7, 59])
  func `the size of the batches changes nothing`(_ size: Int) throws {
    let rules = try shipped.get()
    // Attacks, failed logins of one address, and ordinary requests, each kind also twice in a row.
    let requests = (0..<120).map { number -> Request in
      switch number % 6 {
      case 0, 1:
        Request(["path": "/search?q=1%27%20UNION%20SELECT%201--", "address": "192.0.2.9", "time": 1000 + number])
      case 2, 3:
        Request([
          "path": "/login", "method": "POST", "status": 401, "address": "192.0.2.7", "user": "root",
          "time": 1000 + number,
        ])
      case 4: Request(["path": "/?q=<script>alert(1)</script>", "address": "192.0.2.8", "time": 1000 + number])
      default: Request(["path": "/products/42", "address": "192.0.2.6", "status": 200, "time": 1000 + number])
      }
    }
    let whole = score(rules, requests)
    #expect(
      whole.count { types($0).contains(.bruteForce) } > 20 && whole.count { types($0).contains(.sqlInjection) } == 40)
    let scorer = ThreatScorer(rules, ThreatWindows(rules))
    var parts: [ThreatVerdict] = []
    for start in stride(from: 0, to: requests.count, by: size) {
      scorer.begin()
      let batch = requests[start..<min(start + size, requests.count)]
      for request in batch { request.add(to: scorer) }
      scorer.finish()
      parts += (0..<batch.count).map { scorer.verdict($0) }
    }
    for (number, (one, other)) in zip(whole, parts).enumerated() {
      #expect(one.score == other.score && one.types == other.types && one.type == other.type, "event \(number)")
    }
  }

  @Test func `workers that share windows see each other's events`() async throws {
    let (rules, _) = read(rule("status: 401, window: {by: address, count: 64, within: 60s}"))
    let shared = try #require(rules)
    let windows = ThreatWindows(shared)
    let fired = Counter()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          for _ in 0..<16 {
            let verdicts = score(
              shared, (0..<10).map { _ in Request(["address": "192.0.2.1", "status": 401]) }, windows)
            fired.add(verdicts.count { $0.score > 0 })
          }
        }
      }
    }
    #expect(fired.value == 4 * 16 * 10 - 63)
  }

  @Test(arguments: [
    ("/a%2e%2e%2fb", "/a../b"), ("%252e", "."), ("a%2525252e", "a%2e"), ("a+b", "a b"), ("100%", "100%"),
    ("%zz", "%zz"),
    ("%u0041%U0042", "AB"), ("a/**/b", "a b"), ("a/*x*/ b", "a b"), ("/*!50000union*/x", " union x"),
    ("/api/*", "/api/*"),
    ("&#60;&#x3C;&lt;", "<<<"), ("a&b=c&lt", "a&b=c&lt"), ("a%09%0A%20 b", "a b"), ("a%00b", "ab"),
    ("%c0%ae%c0%af", "./"), ("\u{FF1C}", "<"), ("%EF%BC%9C", "<"), ("%", "%"), ("%4", "%4"), ("é%41", "éA"),
  ])
  func `text is made plain`(text: String, expected: String) {
    var reader = ThreatText()
    let plain = Array(text.utf8).withUnsafeBytes {
      String(decoding: reader.plain($0, .query), as: UTF8.self)
    }
    #expect(plain == expected)
  }

  @Test func `any bytes can be scored`() throws {
    let rules = try shipped.get()
    let scorer = ThreatScorer(rules, ThreatWindows(rules))
    var random = SystemRandomNumberGenerator()
    let words = [
      "%", "/*", "*/", "&#", "' or ", "union ", "select ", "../", "\0", "${", "<script", "%c0", "é", "(", ";", "+",
    ]
    for _ in 0..<2000 {
      var bytes: [UInt8] = []
      for _ in 0..<Int.random(in: 0...20, using: &random) {
        bytes += Array((words.randomElement(using: &random) ?? "").utf8)
        if Bool.random(using: &random) { bytes.append(UInt8.random(in: 0...255, using: &random)) }
      }
      bytes.withUnsafeBytes {
        var request = ThreatRequest()
        (request.path, request.query, request.userAgent, request.message) = ($0, $0, $0, $0)
        (request.method, request.headers, request.event, request.user) = ($0, $0, $0, $0)
        (request.status, request.bodyBytes, request.time) = (-5, .max, .min)
        scorer.begin()
        scorer.add(request)
        scorer.finish()
        #expect((0...100).contains(scorer.verdict(0).score))
      }
    }
  }

  @Test(arguments: [
    ("rules: []\n", "rules.yml:1:8: error: 'rules' is a list of rules, and there is none [threat.bad-rule]"),
    ("rule: 1\n", "rules.yml:1:1: error: the file has no key 'rule'; did you mean 'rules'? [threat.bad-rule]"),
    (
      rule("in: path"),
      "rules.yml:2:5: error: the rule 'r' needs both 'in' and one of 'contains' and 'match', or neither [threat.bad-rule]"
    ),
    (
      rule("in: paths, contains: x"),
      "rules.yml:2:46: error: 'paths' is none of path, query, user_agent, headers, message, event; "
        + "did you mean 'path'? [threat.bad-rule]"
    ),
    (
      rule("in: path, match: '(x'"),
      "rules.yml:2:59: error: the expression '(x' cannot be used: missing closing parenthesis (at character 3) [threat.bad-rule]"
    ),
    (
      rule("in: path, match: '[a-z]+'"),
      "rules.yml:2:59: error: the expression '[a-z]+' holds no text that every match must contain; every event would pay "
        + "for it; add a word, or write it as alternatives that each have one [threat.bad-rule]"
    ),
    (rule("status: 40x"), "rules.yml:2:50: error: '40x' is no status; write 404 or 500-599 [threat.bad-rule]"),
    (
      rule("status: 404, window: {by: address, count: 1, within: 1m}"),
      "rules.yml:2:84: error: a number from 2 to 64 is asked for, and this is '1' [threat.bad-rule]"
    ),
    (
      rule("status: 404, window: {by: address, count: 5, within: 8d}"),
      "rules.yml:2:95: error: '8d' is no time from 1s to 7d; write 30s, 5m, 2h or 1d [threat.bad-rule]"
    ),
    (
      "allow: {networks: [10.0.0.0/40]}\n" + rule("status: 404"),
      "rules.yml:1:20: error: '10.0.0.0/40' is no network; write 10.0.0.0/8 or 2001:db8::/32 [threat.bad-rule]"
    ),
    ("rules:\n  - {name: r, type: scan, weight: 400, status: 404}\n", "rules.yml:2:21: error: 'scan' is none of"),
  ])
  func `a mistake in the file is told with its place`(text: String, expected: String) {
    let (rules, problems) = read(text)
    #expect(rules == nil)
    #expect(problems.first.map { "\($0)".hasPrefix(expected) } == true, "\(problems)")
  }
}
