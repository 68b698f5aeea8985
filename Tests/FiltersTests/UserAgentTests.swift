//  User agents against the ua-parser project's own corpus, against recorded answers, and the rule file's reader. The
//  corpus belongs to Debian's package uap-core; tests that need it skip where it is not installed.

import Diagnostics
import Foundation
import TestSupport
import Testing

@testable import Filters
@testable import Patterns

private let corpus = "/usr/share/uap-core/"
private let isMissing = !FileManager.default.fileExists(atPath: corpus + "tests/test_ua.yaml")

/// The cases of a corpus file: maps of quoted or plain scalars, an empty one being absent.
private func readCorpus(_ name: String) throws -> [[String: String]] {
  var cases: [[String: String]] = []
  for line in try String(contentsOfFile: corpus + name, encoding: .utf8).split(whereSeparator: \.isNewline) {
    var text = line.drop { $0 == " " }
    if text.hasPrefix("#") || text.hasPrefix("test_cases") { continue }
    if text.hasPrefix("- ") {
      cases.append([:])
      text = text.dropFirst(2).drop { $0 == " " }
    }
    guard let colon = text.firstIndex(of: ":"), !cases.isEmpty else { continue }
    var value = text[text.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    if value.hasPrefix("'"), value.hasSuffix("'"), value.count > 1 {
      value = value.dropFirst().dropLast().replacingOccurrences(of: "''", with: "'")
    } else if value.hasPrefix("\""), value.hasSuffix("\""), value.count > 1 {
      value = value.dropFirst().dropLast().replacingOccurrences(of: "\\\"", with: "\"")
        .replacingOccurrences(of: "\\\\", with: "\\")
    } else if value.isEmpty || value == "null" {
      continue
    }
    cases[cases.count - 1][String(text[..<colon])] = value
  }
  return cases
}

private let rules = Result { try UserAgentRules(path: UserAgentRules.systemPath) }

@Suite(.disabled(if: isMissing, "Debian's package uap-core is not installed"))
struct UserAgentCorpusTests {
  private static let browser: [(String, UserAgentParts.Part)] = [
    ("family", .name), ("major", .major), ("minor", .minor), ("patch", .patch),
  ]
  private static let system: [(String, UserAgentParts.Part)] = [
    ("family", .systemName), ("major", .systemMajor), ("minor", .systemMinor), ("patch", .systemPatch),
    ("patch_minor", .systemFourth),
  ]
  private static let device: [(String, UserAgentParts.Part)] = [
    ("family", .device), ("brand", .brand), ("model", .model),
  ]

  @Test(arguments: [
    ("tests/test_ua.yaml", 0), ("tests/test_os.yaml", 1), ("tests/test_device.yaml", 2),
    ("test_resources/firefox_user_agent_strings.yaml", 0), ("test_resources/pgts_browser_list.yaml", 0),
    ("test_resources/opera_mini_user_agent_strings.yaml", 0), ("test_resources/podcasting_user_agent_strings.yaml", 0),
    ("test_resources/additional_os_tests.yaml", 1),
  ])
  func `every case of the corpus`(file: String, section: Int) throws {
    let keys = [UserAgentCorpusTests.browser, UserAgentCorpusTests.system, UserAgentCorpusTests.device][section]
    let cases = try readCorpus(file)
    #expect(cases.count > 20)
    var parser = UserAgentParser(try rules.get(), scratch: MatchScratch())
    var parts = UserAgentParts()
    for one in cases {
      let text = try #require(one["user_agent_string"])
      Array(text.utf8).withUnsafeBytes { parser.parse($0, &parts) }
      for (key, part) in keys {
        let value = parts[part].map { String(decoding: $0, as: UTF8.self) }
        if value != one[key] { Issue.record("\(text): \(key) is \(value ?? "nil"), expected \(one[key] ?? "nil")") }
      }
    }
  }

  @Test func `the prefilter leaves few expressions and never the one that wins`() throws {
    let rules = try rules.get()
    var parser = UserAgentParser(rules, scratch: MatchScratch())
    let scratch = MatchScratch()
    var total = 0
    let cases = try readCorpus("tests/test_os.yaml")
    for one in cases {
      let text = Array(try #require(one["user_agent_string"]).utf8)
      text.withUnsafeBytes { bytes in
        total += parser.candidateCount(bytes)
        var found = rules.always
        found.withUnsafeMutableBufferPointer { _ = rules.automaton?.mark(bytes, $0.baseAddress.unsafelyUnwrapped) }
        for index in rules.rules.indices where index % 5 == 0 {
          guard let pattern = rules.pattern(index, isASCII: bytes.allSatisfy { $0 < 128 }) else { continue }
          guard case .match = scratch.match(pattern, bytes) else { continue }
          if found[index >> 6] >> UInt64(index & 63) & 1 == 0 {
            Issue.record("rule of line \(rules.rules[index].line)")
          }
        }
      }
    }
    #expect(total / cases.count < 40, "\(total / cases.count) candidates a text")
  }

  @Test(.disabled(if: SharedFolder.isMissing, "the folder of recorded facts is not beside the repository"))
  func `answers as recorded`() throws {
    let source = UserAgentSource()
    var checked = 0
    for one in try SharedFolder.cases("useragent.jsonl") {
      guard one["error"] == nil, let steps = one["steps"] as? [[String: Any]],
        let options = steps[0]["useragent"] as? [String: Any], options["add_field"] == nil,
        let given = (one["given"] as? [[String: Any]])?.first, let expect = (one["expect"] as? [[String: Any]])?.first,
        let text = given["ua"] as? String, !text.isEmpty, given.count == 1
      else { continue }
      let ecs = one["ecs"] as? String != "disabled"
      let lookup = UserAgentLookup(source, style: ecs ? .ecs : .legacy(prefix: options["prefix"] as? String ?? ""))
      for _ in 0..<2 {  // fresh, then from the cache
        let (fields, metadata) = try Array(text.utf8).withUnsafeBytes {
          let answer = try lookup.lookup($0)
          return (try jsonObject(answer.fields), answer.metadata.isEmpty ? nil : try jsonObject(answer.metadata))
        }
        let target = options["target"] as? String ?? (ecs ? "user_agent" : "")
        var wanted: Any? = expect
        for key in target.split(whereSeparator: { $0 == "[" || $0 == "]" }) {
          wanted = (wanted as? [String: Any])?[String(key)]
        }
        guard target != "ua", var wanted = wanted as? [String: Any] else { continue }
        if target.isEmpty { for key in ["ua", "tags"] { wanted[key] = nil } }
        #expect(fields == wanted as NSDictionary, "\(one["id"] ?? "")")
        let filter = (expect["@metadata"] as? [String: Any])?["filter"] as? [String: Any]
        #expect(metadata == filter?["user_agent"] as? NSDictionary, "\(one["id"] ?? "")")
        checked += 1
      }
    }
    #expect(checked > 200, "\(checked)")
  }

  @Test func `the filter answers as recorded`() throws {
    let differences = try CaseRunner(filters: allFilters).differences(in: "Tests/Cases/logstash/useragent.jsonl")
    #expect(differences.isEmpty, "\(differences.count) differ:\n\(differences.prefix(40).joined(separator: "\n"))")
  }

  @Test func `any bytes are answered with sound JSON`() throws {
    let lookup = UserAgentLookup(UserAgentSource(), style: .ecs, cacheEntries: 16)
    var random = SystemRandomNumberGenerator()
    let words = ["Mozilla/5.0 (", "Android 4.0; ", "\"", "\\", "é", "\u{1}", "Build/", "iPhone", "Bot/1.", "日本", "; "]
    for _ in 0..<500 {
      var text: [UInt8] = []
      for _ in 0..<Int.random(in: 1...12, using: &random) {
        text += words.randomElement(using: &random).map { Array($0.utf8) } ?? []
      }
      if Bool.random(using: &random) { text.append(UInt8.random(in: 0...255, using: &random)) }
      try text.withUnsafeBytes { _ = try jsonObject(try lookup.lookup($0).fields) }
    }
    _ = try [UInt8](repeating: 65, count: 1 << 20).withUnsafeBytes { try jsonObject(try lookup.lookup($0).fields) }
  }
}

@Suite struct UserAgentRuleFileTests {
  private func write(_ text: String) throws -> String {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("rules-\(UUID().uuidString).yaml").path
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  @Test(arguments: [
    ("", 0, "it holds no rules"), ("user_agent_parsers:\n", 0, "it holds no rules"),
    ("user_agent_parsers:\n  - family_replacement: 'x'\n", 2, "a rule has no 'regex'"),
    ("user_agent_parsers:\n  - regex: 'x\n", 2, "a quote is not closed"),
    ("user_agent_parsers:\n  - regex: 'x' y\n", 2, "text stands behind the closing quote"),
    ("user_agent_parsers:\n  - regex: 'x'\n    regex_flag: 'm'\n", 3, "'regex_flag' knows 'i' alone"),
    ("user_agent_parsers:\n  regex: 'x'\n", 2, "a key stands before the section's first rule"),
    ("  - regex: 'x'\n", 1, "a rule stands before the first section"),
    ("user_agent_parsers:\n  - regex: |\n", 2, "only plain and quoted values are read"),
    ("nonsense\n", 1, "this line is no 'key: value'"),
  ])
  func `a file that cannot be used names its line`(text: String, line: Int, reason: String) throws {
    let path = try write(text)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let error = #expect(throws: UserAgentRulesError.self) { try UserAgentRules(path: path) }
    #expect(error?.line == line && error?.reason == reason)
  }

  @Test func `a missing file is an error at first use`() {
    let lookup = UserAgentLookup(UserAgentSource(path: "/nowhere/regexes.yaml"), style: .ecs)
    #expect(throws: UserAgentRulesError.self) { try [65].withUnsafeBytes { _ = try lookup.lookup($0) } }
  }

  @Test func `replacements, quotes, comments, and a rule that yields no name`() throws {
    let path = try write(
      """
      # a comment
      user_agent_parsers:
        - regex: '(Nothing)?x'   # yields no name, so the search goes on
        - regex: "(a\\\\.b) it''s"
        - regex: 'it''s (\\d+)\\.(\\d+)'
          family_replacement: 'It $1 and $2'
          v2_replacement: '7'
      os_parsers:
        - regex: (sys)-(\\w+)-(\\w+)   # plain
          os_v1_replacement: 'v$2$3'
      device_parsers:
        - regex: 'DEV ?(\\w*) ?(\\w*)'
          regex_flag: 'i'
          device_replacement: ' $1 $2 '
          brand_replacement: 'B'
      later_parsers:
        - anything: [goes, here]

      """)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let lookup = UserAgentLookup(UserAgentSource(path: path), style: .legacy(prefix: ""))
    let answer = try Array("x it's 4.5 sys-win-xp dev one".utf8).withUnsafeBytes {
      String(decoding: try lookup.lookup($0).fields, as: UTF8.self)
    }
    #expect(
      answer
        == #"{"name":"It 4 and 5","version":"5.7","major":"5","minor":"7","os":"sys","os_name":"sys","#
        + #""os_full":"sys vwinxp xp","os_version":"vwinxp xp","os_major":"vwinxp","os_minor":"xp","device":"one"}"#)
  }

  @Test func `changed rules are taken up, and bad ones are not`() throws {
    let path = try write("user_agent_parsers:\n  - regex: '(one)'\n")
    defer { try? FileManager.default.removeItem(atPath: path) }
    let source = UserAgentSource(path: path)
    let lookup = UserAgentLookup(source, style: .legacy(prefix: ""))
    func name() throws -> String? {
      lookup.refresh()
      return try Array("one two".utf8).withUnsafeBytes {
        try jsonObject(try lookup.lookup($0).fields)["name"] as? String
      }
    }
    #expect(!source.reloadIfChanged())
    #expect(try name() == "one")
    try "user_agent_parsers:\n  - regex: '(two)' # longer\n".write(toFile: path, atomically: true, encoding: .utf8)
    #expect(source.reloadIfChanged())
    #expect(try name() == "two")
    try "broken\n".write(toFile: path, atomically: true, encoding: .utf8)
    #expect(!source.reloadIfChanged())
    #expect(!source.reloadIfChanged())
    #expect(try name() == "two")
  }

  @Test func `an expression that does not compile costs itself alone`() throws {
    let path = try write("user_agent_parsers:\n  - regex: '(a'\n  - regex: '(ab)'\n")
    defer { try? FileManager.default.removeItem(atPath: path) }
    let lookup = UserAgentLookup(UserAgentSource(path: path), style: .legacy(prefix: ""))
    let name = try Array("ab".utf8).withUnsafeBytes { try jsonObject(try lookup.lookup($0).fields)["name"] as? String }
    #expect(name == "ab")
  }
}
