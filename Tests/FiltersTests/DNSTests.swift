//  The `dns` filter against a name server of the test's own.

import Diagnostics
import Events
import TestSupport
import Testing

@testable import Filters
@testable import PluginKit

@Suite struct DNSTests {
  private func harness(_ servers: [NameResponder], _ options: String) -> StepsHarness {
    let list = servers.map { "\"\($0.address)\"" }.joined(separator: ", ")
    return StepsHarness("- dns: { nameserver: { address: [\(list)] }, \(options) }")
  }

  @Test func `names and addresses are looked up`() throws {
    let server = try NameResponder { name, kind in
      switch (name, kind) {
      case ("web.example.org", 1): .address([203, 0, 113, 80])
      case ("six.example.org", 1): .empty
      case ("six.example.org", 28): .address([0x20, 1, 0xd, 0xb8] + [UInt8](repeating: 0, count: 11) + [7])
      case ("alias.example.org", 1): .alias(to: "web.example.org", [203, 0, 113, 81])
      case ("80.113.0.203.in-addr.arpa", 12): .name("web.example.org")
      case ("7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", 12): .name("six.example.org")
      case ("xn--bcher-kva.example", 1): .address([203, 0, 113, 82])
      case ("82.113.0.203.in-addr.arpa", 12): .name("xn--bcher-kva.example")
      default: .unknown
      }
    }
    defer { server.stop() }
    let steps = harness([server], "resolve: [h], reverse: [ip], action: replace, add_tag: [t]")
    #expect(steps.problems.isEmpty, "\(steps.problems)")
    #expect(
      steps.run(
        #"""
        {"h":"web.example.org"}
        {"h":"six.example.org"}
        {"h":"alias.example.org"}
        {"h":"none.example.org","ip":"203.0.113.80"}
        {"ip":"203.0.113.80"}
        {"ip":"2001:db8::7"}
        {"ip":"::ffff:203.0.113.80"}
        {"h":"Bücher.example","ip":"203.0.113.82"}
        {"h":"web.example.org."}
        {"h":"bad..name"}
        {"h":["web.example.org"]}
        """#) == [
          #"{"h":"203.0.113.80","tags":["t"]}"#, #"{"h":"2001:db8::7","tags":["t"]}"#,
          #"{"h":"203.0.113.81","tags":["t"]}"#, #"{"h":"none.example.org","ip":"203.0.113.80"}"#,
          #"{"ip":"web.example.org","tags":["t"]}"#, #"{"ip":"six.example.org","tags":["t"]}"#,
          #"{"ip":"web.example.org","tags":["t"]}"#, #"{"h":"203.0.113.82","ip":"bücher.example","tags":["t"]}"#,
          #"{"h":"203.0.113.80","tags":["t"]}"#, #"{"h":"bad..name"}"#, #"{"h":["203.0.113.80"],"tags":["t"]}"#,
        ])
  }

  @Test func `an answer that another field needs is looked up as well`() throws {
    let server = try NameResponder { name, kind in
      kind == 1 ? .address([203, 0, 113, 80]) : name.hasPrefix("80.") ? .name("canonical.example") : .unknown
    }
    defer { server.stop() }
    let steps = harness([server], "resolve: [h], reverse: [h], action: replace")
    #expect(steps.run(#"{"h":"alias.example"}"#) == [#"{"h":"canonical.example"}"#])
  }

  @Test func `equal questions of a batch are asked once, all at a time`() throws {
    let server = try NameResponder { _, _ in .address([192, 0, 2, 1]) }
    defer { server.stop() }
    let steps = harness([server], "resolve: [h], action: replace")
    let lines = (0..<1200).map { "{\"h\":\"host-\($0 % 400).example\"}" }.joined(separator: "\n")
    #expect(steps.run(lines).allSatisfy { $0 == #"{"h":"192.0.2.1"}"# })
    #expect(server.questions.count == 400)
  }

  @Test func `search domains stand behind short names`() throws {
    let server = try NameResponder { name, _ in
      name == "db.inside.example" ? .address([10, 0, 0, 1]) : name == "a.b" ? .address([10, 0, 0, 2]) : .unknown
    }
    defer { server.stop() }
    let steps = StepsHarness(
      """
      - dns:
          nameserver: { address: ["\(server.address)"], search: [outside.example, inside.example] }
          resolve: [h]
          action: replace
      """)
    #expect(
      steps.run(#"{"h":"db"}"# + "\n" + #"{"h":"a.b"}"#) == [#"{"h":"10.0.0.1"}"#, #"{"h":"10.0.0.2"}"#])
    #expect(Set(server.questions) == ["db.outside.example 1", "db.inside.example 1", "a.b 1"])
  }

  @Test func `caches remember hits and failures for their time`() throws {
    let server = try NameResponder { name, _ in name.hasPrefix("good") ? .address([192, 0, 2, 1]) : .unknown }
    defer { server.stop() }
    let steps = harness(
      [server], "resolve: [h], action: replace, hit_cache_size: 10, hit_cache_ttl: 60, failed_cache_size: 10")
    for _ in 0..<3 {
      #expect(steps.run(#"{"h":"good.example"}"#) == [#"{"h":"192.0.2.1"}"#])
      #expect(steps.another().run(#"{"h":"bad.example"}"#) == [#"{"h":"bad.example"}"#])
    }
    #expect(server.questions == ["good.example 1", "bad.example 1"])
    let plain = harness([server], "resolve: [h], action: replace")
    _ = plain.run(#"{"h":"good.example"}"#)
    _ = plain.run(#"{"h":"good.example"}"#)
    #expect(server.questions.count == 4)
  }

  @Test func `a silent server is tagged, after its tries`() throws {
    let server = try NameResponder { _, _ in .silence }
    defer { server.stop() }
    let steps = harness([server], "resolve: [a, b], timeout: 0.02, max_retries: 2, add_tag: [t]")
    #expect(
      steps.run(#"{"a":"x.example","b":"y.example"}"#) == [#"{"a":"x.example","b":"y.example","tags":["_dnstimeout"]}"#]
    )
    #expect(server.questions.filter { $0 == "x.example 1" }.count == 3)
    let named = harness([server], "resolve: [a], timeout: 0.01, max_retries: 0, tag_on_timeout: late")
    #expect(named.run(#"{"a":"x.example"}"#) == [#"{"a":"x.example","tags":["late"]}"#])
  }

  @Test func `the next server answers where one is silent, refuses or is not there`() throws {
    let good = try NameResponder { _, _ in .address([192, 0, 2, 1]) }
    let silent = try NameResponder { _, _ in .silence }
    let refusing = try NameResponder { _, _ in .refused }
    let gone = try NameResponder { _, _ in .silence }
    gone.stop()
    defer { for server in [good, silent, refusing] { server.stop() } }
    for other in [silent, refusing, gone] {
      let steps = harness([other, good], "resolve: [h], action: replace, timeout: 0.5")
      #expect(steps.run(#"{"h":"x.example"}"#) == [#"{"h":"192.0.2.1"}"#])
    }
    let alone = harness([refusing], "resolve: [h]")
    #expect(alone.run(#"{"h":"x.example"}"#) == [#"{"h":"x.example"}"#])
  }

  @Test func `answers to other questions do not count`() throws {
    let server = try NameResponder { _, _ in .foreign }
    defer { server.stop() }
    let steps = harness([server], "resolve: [h], action: replace")
    #expect(steps.run(#"{"h":"x.example"}"#) == [#"{"h":"1.2.3.4"}"#])
  }

  @Test func `several workers ask together`() throws {
    let server = try NameResponder { _, _ in .address([192, 0, 2, 1]) }
    defer { server.stop() }
    let steps = harness([server], "resolve: [h], action: replace")
    struct Sent: @unchecked Sendable { let harness: StepsHarness }  // unchecked: each goes to one thread
    let done = Gate((finished: 0, wrong: 0))
    for number in 0..<4 {
      let worker = Sent(harness: steps.another())
      TestThread.run {
        var wrong = 0
        for round in 0..<20 {
          let lines = (0..<20).map { "{\"h\":\"host-\(number)-\(round)-\($0).example\"}" }.joined(separator: "\n")
          wrong += worker.harness.run(lines).filter { $0 != #"{"h":"192.0.2.1"}"# }.count
        }
        done.update { $0 = ($0.finished + 1, $0.wrong + wrong) }
      }
    }
    #expect(done.wait(until: .now + .seconds(30)) { $0.finished == 4 ? $0.wrong : nil } == 0)
  }

  @Test func `damaged messages are no answer and no harm`() {
    let name = Array("x.example".utf8)
    var query = ByteBuffer()
    #expect(DNSMessage.appendQuery(7, name, .address, to: &query))
    let question = Array(query.bytes[12...])
    func read(_ bytes: [UInt8], _ kind: DNSMessage.Kind = .address) -> DNSMessage.Answer {
      bytes.withUnsafeBytes { DNSMessage.read($0, id: 7, name, kind) }
    }
    let head: [UInt8] = [0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]
    let record: [UInt8] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]
    #expect(read(head + question + record) == .found(Array("192.0.2.1".utf8)))
    let whole = head + question + record
    for count in 0..<whole.count {
      let answer = read(Array(whole[..<count]))
      #expect(answer == .foreign || answer == .empty)
    }
    // A name that jumps to itself, one that runs over the end, and a record that is longer than the message.
    #expect(
      read(head + question + [0xc0, UInt8(12 + question.count), 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 1, 1, 1]) == .empty)
    #expect(read(head + question + [63, 1, 2]) == .empty)
    #expect(read(head + question + [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 255, 255, 1]) == .empty)
    #expect(read(head + question + [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 3, 1, 1, 1]) == .empty)
    var random = SeededRandom(5)
    for _ in 0..<20_000 {
      var bytes = whole
      for _ in 0...random.below(4) { bytes[2 + random.below(bytes.count - 2)] = UInt8(random.below(256)) }
      _ = read(bytes)
      _ = read(bytes, .pointer)
    }
  }

  @Test(arguments: [
    ("bücher.example", "xn--bcher-kva.example"), ("münchen.de", "xn--mnchen-3ya.de"), ("日本語.jp", "xn--wgv71a119e.jp"),
    ("España.es", "xn--espaa-rta.es"), ("президент.рф", "xn--d1abbgf6aiiy.xn--p1ai"), ("plain.org", "plain.org"),
  ])
  func `international names go there and back`(_ name: String, _ ascii: String) {
    #expect(InternationalName.ascii(Array(name.utf8)).map { String(decoding: $0, as: UTF8.self) } == ascii)
    #expect(String(decoding: InternationalName.unicode(Array(ascii.utf8)), as: UTF8.self) == name.lowercased())
  }

  @Test func `broken international names stay as they are`() {
    for name in ["xn--", "xn--\u{7f}", "xn--999999999", "xn--a-", "xn--zzzzzzzzzzzzzzzzzzzzzz", "XN--BCHER-kva"] {
      _ = InternationalName.unicode(Array(name.utf8))
    }
    #expect(InternationalName.unicode(Array("xn--99999999".utf8)) == Array("xn--99999999".utf8))
    #expect(InternationalName.ascii(Array(String(repeating: "ü", count: 100).utf8)) == nil)
  }

  @Test func `a cache is bounded and forgets in time`() {
    let cache = NameCache(entriesMax: 3, life: .seconds(10))
    let now = Instant.now
    func key(_ i: Int) -> [UInt8] { Array("k\(i)".utf8) }
    func find(_ i: Int, at time: Instant) -> Bool {
      key(i).withUnsafeBytes { cache.find($0, UInt64(i), now: time) != nil }
    }
    for i in 0..<5000 { cache.insert(key(i), UInt64(i), [1], now: now) }
    #expect(cache.count == 3)
    #expect(find(4999, at: now) && find(4997, at: now) && !find(4996, at: now))
    cache.insert(key(4997), 4997, [2], now: now + .seconds(9))
    cache.insert(key(1), 1, [1], now: now + .seconds(9))
    #expect(find(4997, at: now + .seconds(9)))
    #expect(!find(4998, at: now))
    #expect(find(4997, at: now + .seconds(18)) && !find(4999, at: now + .seconds(18)))
  }

  @Test(arguments: [
    "192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:53", "::1",
  ])
  func `an address of a server is read`(_ text: String) { #expect(NameServer(text) != nil) }

  @Test(arguments: [
    "", "localhost", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:70000", "[::1", "[::1]x", "1.2.3", "[::1]:",
  ])
  func `what is no address of a server is refused`(_ text: String) { #expect(NameServer(text) == nil) }

  @Test func `the system's file gives servers and domains`() {
    var settings = NameResolverSettings()
    let text =
      "# remark\nnameserver 192.0.2.1\nnameserver nonsense\nsearch a.example b.example\noptions ndots:2 edns0\n"
    settings.read(systemFile: Array(text.utf8))
    #expect(settings.servers == [NameServer(host: "192.0.2.1")])
    #expect(settings.search == ["a.example", "b.example"])
    #expect(settings.ndots == 2)
  }
}
