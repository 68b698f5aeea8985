//  Compiled patterns and matching, limits included.

import Diagnostics
import Patterns
import Testing

/// Runs `pattern` on `text`; nil for no match, else the texts of all groups.
func groups(
  _ pattern: Pattern, _ text: String, from start: Int = 0, options: MatchScratch.Options = .validText
) -> [String?]? {
  let scratch = MatchScratch(groups: 1)
  let bytes = Array(text.utf8)
  return bytes.withUnsafeBytes { raw in
    guard case .match = scratch.match(pattern, raw, from: start, options: options) else { return nil }
    return (0...pattern.captureCount).map { group in
      let from = scratch.start(of: group)
      return from < 0 ? nil : String(decoding: raw[from..<scratch.end(of: group)], as: UTF8.self)
    }
  }
}

@Suite struct PatternTests {
  @Test func `groups come back as byte offsets, absent ones as nil`() throws {
    let pattern = try Pattern("(a)|(?<wide>ü+)(b)?(c)")
    #expect(groups(pattern, "xüüc") == ["üüc", nil, "üü", nil, "c"])
    #expect(groups(pattern, "a") == ["a", "a", nil, nil, nil])
    #expect(groups(pattern, "b") == nil)
    #expect(pattern.groupNumbers("wide") == [2])
    #expect(pattern.groupNumbers("none") == [])
    #expect(pattern.captureCount == 4)
  }

  @Test func `an expression that is broken names the character`() throws {
    let error = try #require(throws: PatternError.self) { try Pattern("üü(") }
    #expect(error.offset == 3)
    #expect(error.message == "missing closing parenthesis")
  }

  @Test func `the empty text and the empty expression are fine`() throws {
    let empty = try Pattern("")
    let scratch = MatchScratch()
    #expect(scratch.match(empty, UnsafeRawBufferPointer(start: nil, count: 0)) == .match(groups: 1))
    #expect(scratch.end(of: 0) == 0)
    #expect(scratch.match(empty, UnsafeRawBufferPointer(start: nil, count: 0), from: 1) == .none)
    #expect(scratch.start(of: 0) == -1)
    #expect(scratch.match(try Pattern("x"), UnsafeRawBufferPointer(start: nil, count: 0)) == .none)
  }

  @Test func `text that is no UTF-8 is told, with its place, and never read past`() throws {
    let pattern = try Pattern(".b")
    let scratch = MatchScratch()
    let bytes: [UInt8] = [0x61, 0x61, 0xff, 0x62]
    bytes.withUnsafeBytes { #expect(scratch.match(pattern, $0) == .badText(offset: 2)) }
    let cut: [UInt8] = [0x61, 0xe2, 0x82]
    cut.withUnsafeBytes { #expect(scratch.match(pattern, $0) == .badText(offset: 1)) }
    let wide = Array("üb".utf8)
    wide.withUnsafeBytes { #expect(scratch.match(pattern, $0, from: 1) == .badText(offset: 1)) }
  }

  @Test func `the twin for plain text and the full pattern agree`() throws {
    for source in [#"\bna\w+ve\b"#, #"[^ä]+ä?x"#, #"[a-ÿ]+"#, #"[[:alpha:]]+"#, #"(?i)straße|x"#, #"\p{Lu}."#] {
      let twin = try Pattern(ruby: source, dialect: .grok)
      let full = try Pattern(ruby: source, dialect: .grok, twin: false)
      for text in ["naive", "naïve", "xx äx", "Ax", "STRAßE", "zz~x", "", "Äb Ab"] {
        #expect(groups(twin, text) == groups(full, text), "\(source) on \(text)")
      }
    }
  }

  @Test func `one scratch serves patterns of any number of groups`() throws {
    let many = try Pattern(String(repeating: "(x?)", count: 200) + "y")
    let one = try Pattern("(y)")
    let scratch = MatchScratch(groups: 2)
    let bytes = Array("xy".utf8)
    bytes.withUnsafeBytes { raw in
      #expect(scratch.match(one, raw) == .match(groups: 2))
      #expect(scratch.match(many, raw) == .match(groups: 201))
      #expect(scratch.end(of: 1) == 1)
      #expect(scratch.start(of: 200) == 1)
      #expect(scratch.match(one, raw) == .match(groups: 2))
      #expect(scratch.start(of: 2) == -1)
    }
  }

  @Test(arguments: ["^(a+)+$", "(?:a|aa)+$", "(a*)*[bc]", "a*a*a*a*a*a*a*a*a*[bc]"])
  func `a match that explodes ends in its time`(source: String) throws {
    let pattern = try Pattern(source)
    #expect(pattern.isJIT)
    let scratch = MatchScratch()
    let bytes = Array((String(repeating: "a", count: 300) + "!").utf8)
    let began = Instant.now
    bytes.withUnsafeBytes { #expect(scratch.match(pattern, $0, options: .validText, timeLimit: 50) == .limit) }
    let took = (Instant.now - began).ns / 1_000_000
    #expect(took < 1_000, "\(took) ms")
    // The scratch works on as before.
    Array("xaaa".utf8).withUnsafeBytes { #expect(scratch.match(pattern, $0) != .limit) }
  }

  @Test func `a long match that is only slow is found under the clock`() throws {
    let pattern = try Pattern("(?s:(.*?),)*?(.*?)needle")
    let scratch = MatchScratch()
    let text = String(repeating: "some, words, ", count: 20_000) + "needle"
    let bytes = Array(text.utf8)
    bytes.withUnsafeBytes {
      let outcome = scratch.match(pattern, $0, options: .validText)
      #expect(outcome == .match(groups: 3))
      #expect(scratch.end(of: 0) == bytes.count)
    }
  }

  @Test func `what PCRE2 knows of a pattern is told`() throws {
    let pattern = try Pattern("GET .{3,}x")
    #expect(pattern.minimumLength == 8)
    #expect(pattern.firstByte == UInt8(ascii: "G"))
    #expect(pattern.lastByte == UInt8(ascii: "x"))
  }

  @Test func `going on after an empty match skips it`() throws {
    let pattern = try Pattern("x*")
    #expect(groups(pattern, "ax", from: 0, options: [.validText, .notEmptyAtStart]) == ["x"])
    #expect(groups(pattern, "a", from: 1, options: .validText) == [""])
    #expect(groups(pattern, "ax", from: 0, options: [.validText, .notEmpty]) == ["x"])
  }
}
