//  The parts of the `elasticsearch` output by themselves: texts cut out of answers, waiting requests, the limit on requests.

import Diagnostics
import Events
import PluginKit
import TestSupport
import Testing

@testable import Outputs

@Suite struct BulkPartsTests {
  @Test func `long texts are cut between characters, however the answer is cut, and all else stays`() throws {
    var random = SeededRandom(7)
    let pieces = ["a", "ä", "漢", "🙂", "\\\"", "\\\\", "\\u00e4", "\\n", "}", "{"]
    for _ in 0..<200 {
      let text = (0..<random.below(60)).map { _ in pieces[random.below(pieces.count)] }.joined()
      let json = Array("{\"short\":[1,\"x\",true],\"long\":\"\(text)\",\"after\":{\"status\":201}}".utf8)
      var cutter = AnswerCutter(limit: 16)
      var out = ByteBuffer()
      var i = 0
      while i < json.count {
        let n = min(json.count - i, 1 + random.below(9))
        json[i..<(i + n)].withUnsafeBytes { cutter.append($0, to: &out) }
        i += n
      }
      let cut = try PlainJSON(out.string())
      #expect(cut["after"]?["status"]?.integer == 201 && cut["short"]?.count == 3)
      let whole = try PlainJSON(String(decoding: json, as: UTF8.self))
      let (kept, full) = (try #require(cut["long"]?.string), try #require(whole["long"]?.string))
      #expect(text.utf8.count < 16 ? kept == full : full.hasPrefix(kept), "\(text)")
      #expect(out.count <= 60 + 16 + 12)
    }
  }

  @Test func `requests leave the waiting list in the order of their times`() {
    var random = SeededRandom(3)
    var waiting = WaitingRequests()
    let delivery = Delivery(source: NumberedRecords(batch: 0)) {}
    let flow = Gate(BulkFlow())
    for _ in 0..<500 {
      let request = BulkRequest(delivery, flow, capacity: 64)
      request.notBefore = Instant(ns: Int64(random.below(300)))
      waiting.add(request)
    }
    #expect(waiting.popDue(Instant(ns: -1)) == nil)
    var last = Instant(ns: 0)
    var count = 0
    while let request = waiting.popDue(Instant(ns: 1000)) {
      #expect(request.notBefore >= last)
      last = request.notBefore
      count += 1
    }
    #expect(count == 500 && waiting.isEmpty)
  }

  @Test func `the limit grows while answers stay as fast, halves on overload and stays where they slow down`() {
    var limit = AdaptiveLimit(most: 16)
    #expect(limit.value == 4)
    for _ in 0..<200 { limit.succeeded(after: .milliseconds(50), bytes: 1000) }
    #expect(limit.value == 16)
    limit.overloaded()
    #expect(limit.value == 8)
    for _ in 0..<20 { limit.succeeded(after: .milliseconds(400), bytes: 1000) }
    #expect(limit.value <= 9)
    for _ in 0..<10 { limit.overloaded() }
    #expect(limit.value == 1)
  }

  @Test func `a Cloud ID names its server`() {
    // example.com:9243$abc$def
    #expect(cloudHost("deployment:ZXhhbXBsZS5jb206OTI0MyRhYmMkZGVm") == "https://abc.example.com:9243")
    // example.com$abc$def
    #expect(cloudHost("deployment:ZXhhbXBsZS5jb20kYWJjJGRlZg==") == "https://abc.example.com:443")
    #expect(cloudHost("deployment:ZXhhbXBsZS5jb20=") == nil && cloudHost("") == nil)
  }

  @Test(arguments: [
    ("localhost", false, "", "http://localhost:9200"), ("localhost", true, "", "https://localhost:9200"),
    ("https://a.b:443/x/", false, "", "https://a.b:443/x"), ("[::1]", false, "", "http://[::1]:9200"),
    ("http://u:p%40@h", false, "/es/", "http://u:p%40@h:9200/es"),
  ])
  func `a host's scheme, port and path are filled in`(host: String, hasTLS: Bool, path: String, base: String) {
    #expect(hostBase(host, hasTLS: hasTLS, path: path) == base)
  }
}
