//  What redact finds, what it leaves, and that it gives up on the safe side.

import Diagnostics
import Events
import Filters
import Glibc
import Pipeline
import TestSupport
import Testing

@Suite struct RedactTests {
  private func redacted(_ text: String, _ config: String) throws -> String? {
    let harness = FilterHarness("redact", config)
    #expect(!harness.problems.hasErrors, "\(harness.problems.sorted)")
    let event = harness.batch.add(arrivalNs: 0)
    try event.set(.message, event.makeText(text))
    return harness.run(event).first?.fields["message"]?.string
  }

  private let everything = "{ detect: [address, email, card, ssn, medical_record, token] }"

  @Test(arguments: [
    ("client 10.0.4.8 asked", "client [address] asked"),
    ("10.0.4.8:443, [10.0.4.9]", "[address]:443, [[address]]"),
    ("port:10.0.0.1 http://10.0.0.2/x", "port:[address] http://[address]/x"),
    ("10.0.0.1-10.0.0.9", "[address]-[address]"),
    ("peer 2001:db8::1: closed", "peer [address]: closed"),
    ("fe80::1%eth0 ::ffff:10.0.0.1 ::1", "[address]%eth0 [address] [address]"),
    ("mail to lena.ott+x@mail.example.org.", "mail to [email]."),
    ("<ü@exämple.de>", "<[email]>"),
    ("card 4111111111111111 ok", "card [card] ok"),
    ("4111-1111-1111-1111, 3782 822463 10005", "[card], [card]"),
    ("1234 4111 1111 1111 1111", "1234 [card]"),
    ("ssn 123-45-6789.", "ssn [ssn]."),
    ("SSN: 123456789", "SSN: [ssn]"),
    ("MRN#00123456", "MRN#[medical_record]"),
    ("patient_mrn=A-123456,", "patient_mrn=[medical_record],"),
    ("Medical Record Number is 44-55-667", "Medical Record Number is [medical_record]"),
    ("password=hunter2&user=x", "password=[token]&user=x"),
    (#"{"api_key": "a\"b", "n": 1}"#, #"{"api_key": "[token]", "n": 1}"#),
    ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [token]"),
    ("authorization=abc123", "authorization=[token]"),
    ("with Bearer abc.def-123 sent", "with Bearer [token] sent"),
    ("key AKIAIOSFODNN7EXAMPLE used", "key [token] used"),
    ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "[token]"),
    ("t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_9 end", "t=[token] end"),
    ("a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- b", "a [token] b"),
    ("a -----BEGIN PRIVATE KEY-----\nMII", "a [token]"),
    ("secret: x 10.0.0.1", "secret: [token] [address]"),
  ])
  func `what must not be kept is found`(_ text: String, _ wanted: String) throws {
    #expect(try redacted(text, everything) == wanted)
  }

  @Test(arguments: [
    "2026-11-25T13:44:04.127Z took 12:34:56.789",
    "Chrome/120.0.0.0 Safari/537.36 v1.2.3.4.5 300.1.1.1 1.2.3",
    "order 4111111111111112 and 1111111111111117 of 20251109120000",
    "std::cout << a; MAC 00:1a:2b:3c:4d:5e at ::",
    "user@localhost @example.org x@1.2",
    "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000 123-45-67890 1123-45-6789",
    "mRNA 123456 and MRN unknown; the record of 12345678",
    "token: expired, tokens=, the password was wrong, basic authentication failed, bearer of news",
    "task-0123456789abcdefghijklmnop risk-assessment eyjafjallajokull.x.y",
    "id 123456789 and 3782822463100051",
    "", "@", ":", "1", "::", "a@b", "4111 1111 1111", "-----BEGIN CERTIFICATE-----",
  ])
  func `what is ordinary stays`(_ text: String) throws {
    #expect(try redacted(text, everything) == text)
  }

  @Test func `equal values have equal hashes however they are written`() throws {
    let config = "{ detect: [card, email], action: hash, key: k }"
    let plain = try #require(try redacted("4111111111111111 A@B.example", config))
    #expect(try redacted("4111 1111 1111 1111 a@b.EXAMPLE", config) == plain)
    #expect(plain.hasPrefix("[card:") && plain.utf8.count == 2 * 34 + "card:email:".utf8.count + 1)
    #expect(try redacted("4111111111111111 A@B.example", "{ detect: [card, email], action: hash, key: l }") != plain)
  }

  @Test func `removing leaves the rest`() throws {
    #expect(try redacted("a 10.0.0.1 b", "{ detect: [address], action: remove }") == "a  b")
  }

  @Test func `texts at any depth are looked through, and exceptions stay`() throws {
    let config = #"{ detect: [address, card], except: ["[a][keep]", raw], whole_fields: [name] }"#
    let given =
      #"{"a": {"keep": "10.0.0.1", "l": ["10.0.0.1", {"m": "x"}]}, "raw": ["10.0.0.1"], "#
      + #""n": 4111111111111111, "i": 7, "name": {"first": "L", "n": 1, "z": null}}"#
    let fields = try FilterHarness("redact", config).result(given)
    #expect(fields["a"]?.json == #"{"keep":"10.0.0.1","l":["[address]",{"m":"x"}]}"#)
    #expect(fields["raw"]?.json == #"["10.0.0.1"]"#)
    #expect(fields["n"]?.string == "[card]")
    #expect(fields["i"]?.integer == 7)
    #expect(fields["name"]?.json == #"{"first":"[field]","n":"[field]","z":null}"#)
  }

  @Test func `only the named fields are looked through`() throws {
    let fields = try FilterHarness("redact", "{ detect: [address], fields: [a], add_tag: [r] }").result(
      #"{"a": "10.0.0.1", "b": "10.0.0.1"}"#)
    #expect(fields["a"]?.string == "[address]")
    #expect(fields["b"]?.string == "10.0.0.1")
    #expect(fields["tags"]?.json == #"["r"]"#)
    let other = try FilterHarness("redact", "{ detect: [address], fields: [a], add_tag: [r] }").result(#"{"a": "x"}"#)
    #expect(other["tags"] == nil)
  }

  @Test func `a text on which an expression takes too long is redacted whole`() throws {
    let fields = try FilterHarness("redact", #"{ detect: [], patterns: { slow: '(x+x+)+(x+x+)+(x+x+)+[yz]' } }"#)
      .result(
        #"{"message": "\#(String(repeating: "x", count: 4000))"}"#)
    #expect(fields["message"]?.string == "[field]")
    #expect(fields["tags"]?.json == #"["_redactfailure"]"#)
  }

  @Test func `no text makes the detectors leave their bounds`() throws {
    let harness = FilterHarness("redact", everything)
    var random = SeededRandom(20)
    let pieces = [
      "4111", "1111", " ", "-", ".", ":", "::", "@", "a", "example.org", "10.0.0.1", "mrn", "ssn", "token=",
      "password: ",
      "eyJ", "Bearer ", "-----BEGIN ", "PRIVATE KEY-----", "AKIA", "\"", "'", "ü", "\n", "authorization", "2001:db8",
      "=", "\\",
    ]
    for _ in 0..<3000 {
      var text = ""
      for _ in 0..<random.below(12) { text += pieces[random.below(pieces.count)] }
      let event = harness.batch.add(arrivalNs: 0)
      try event.set(.message, event.makeText(text))
      _ = harness.run(event)
    }
    harness.batch.removeAll()
  }

  @Test(arguments: [
    ("{ action: hash }", "key"), ("{ replacement: '{hash}' }", "replacement"), ("{ detect: [] }", "detect"),
    ("{ action: remove, replacement: x }", "replacement"), ("{ patterns: { a: '(' } }", "patterns"),
    ("{ action: hash, key: k, replacement: x }", "replacement"), ("{ detect: [mail] }", "detect"),
  ])
  func `settings that cannot be meant are refused`(_ config: String, _ option: String) {
    let problems = FilterHarness("redact", config).problems
    #expect(problems.sorted.contains { $0.severity == .error && $0.text.contains("'\(option)'") })
  }
}
