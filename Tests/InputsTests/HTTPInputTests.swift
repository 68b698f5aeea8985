//  The `http` input over sockets: bodies, answers, authentication, back-pressure and limits.

import Codecs
import Diagnostics
import Foundation
import Inputs
import Net
import Records
import TestSupport
import Testing

private let jsonDescriptor = RecordDescriptor(Array("json".utf8))
private let plainDescriptor = RecordDescriptor(Array("plain".utf8))

private func serve(
  _ sink: TestSink, other: BodyCutting = .whole, budget: InFlightBudget = InFlightBudget(),
  _ change: (inout HTTPInputConfiguration) -> Void = { _ in }
) throws -> HTTPInputServer {
  var configuration = HTTPInputConfiguration(host: "127.0.0.1", port: 0)
  change(&configuration)
  let server = try HTTPInputServer(
    configuration, queues: testQueues, sink: sink, json: BodyRule(.json, jsonDescriptor),
    other: BodyRule(other, plainDescriptor),
    rules: ["text/csv": BodyRule(.lines, plainDescriptor)], budget: budget)
  server.start()
  return server
}

private struct Reply {
  var status: Int
  var head: String
  var body: String
}

/// One request over a connection of its own.
private func ask(
  _ server: HTTPInputServer, _ method: String = "POST", _ path: String = "/", _ body: [UInt8] = [],
  _ headers: [String] = ["Content-Type: application/json"]
) throws -> Reply {
  let client = try TestClient(port: server.port)
  return try ask(client, method, path, body, headers + ["Connection: close"])
}

private func ask(
  _ client: TestClient, _ method: String, _ path: String, _ body: [UInt8], _ headers: [String]
) throws -> Reply {
  var head = "\(method) \(path) HTTP/1.1\r\nHost: web:5000\r\n"
  for header in headers { head += header + "\r\n" }
  if !body.isEmpty { head += "Content-Length: \(body.count)\r\n" }
  try client.send(Array((head + "\r\n").utf8) + body)
  let text = String(decoding: client.receiveAll(), as: UTF8.self)
  guard let end = text.range(of: "\r\n\r\n") else { return Reply(status: 0, head: "", body: "") }
  return Reply(
    status: Int(text.split(separator: " ").dropFirst().first ?? "") ?? 0, head: text[..<end.lowerBound].lowercased(),
    body: String(text[end.upperBound...]))
}

private func post(_ server: HTTPInputServer, _ body: String, type: String = "application/json") throws -> Reply {
  try ask(server, "POST", "/", Array(body.utf8), ["Content-Type: \(type)"])
}

private func gzip(_ text: String) -> [UInt8] {
  var output = ByteBuffer()
  Array(text.utf8).withUnsafeBytes { Deflater(level: 1).gzip($0, into: &output) }
  return output.array()
}

@Suite struct HTTPInputTests {
  @Test(arguments: [
    (#"{"a":1}"#, "application/json", [#"{"a":1}"#]),
    (
      #" [{"a":1}, {"b":[1,{"c":null}]}] "#, "application/json; charset=utf-8", [#"{"a":1}"#, #"{"b":[1,{"c":null}]}"#]
    ),
    ("{\"a\":1}\n{\"b\":2}\r\n\n", "application/x-ndjson", [#"{"a":1}"#, #"{"b":2}"#]),
    (#"{"a":1}{"b":2}[{"c":3}]"#, "Application/JSON", [#"{"a":1}"#, #"{"b":2}"#, #"{"c":3}"#]),
    ("[]", "application/json", []), (" \n", "application/json", []),
    (#"{"x":"\ud83d\ude00 é"}"#, "application/cloudevents+json", [#"{"x":"\ud83d\ude00 é"}"#]),
    ("a line\nand another", "text/plain", ["a line\nand another"]),
    ("a,b\nc,d\n", "text/csv", ["a,b", "c,d"]),
  ])
  func `a body becomes records by its type`(body: String, type: String, expected: [String]) throws {
    let sink = TestSink()
    let server = try serve(sink)
    let reply = try post(server, body, type: type)
    #expect(reply.status == 200)
    #expect(reply.body == "ok")
    #expect(reply.head.contains("content-type: text/plain"))
    #expect(sink.texts == expected)
    #expect(sink.batches.count == (expected.isEmpty ? 0 : 1))
    #expect(sink.batches.allSatisfy { $0.descriptor == (type.hasPrefix("text") ? "plain" : "json") })
    server.stop(within: .zero) {}
  }

  @Test(arguments: [
    (#"{"a":1"#, 6), (#"{"a":1},"#, 7), (#"[{"a":1},3]"#, 9), ("17", 0), (#""text""#, 0), (#"{"a":01}"#, 6),
    (#"{"a":+1}"#, 5),
    (#"{"a":.5}"#, 5), (#"{"a":1.}"#, 7), (#"{"a":1e}"#, 7), (#"{'a':1}"#, 1), (#"{"a":1,}"#, 7), (#"{"a" 1}"#, 5),
    (#"{"a":NaN}"#, 5), (#"{"a":tru}"#, 8), (#"{"a":"\x"}"#, 6), (#"{"a":"\u12g4"}"#, 6), ("{\"a\":\"\u{1}\"}", 6),
    ("{\"a\":\"tab\there, long enough for a block of sixteen\"}", 9), (#"{"a":1}]"#, 7), (#"{"a":[1}"#, 7),
    (#"{"a":{"b":1]"#, 11), ("{\"a\":1}\u{FEFF}", 7), (#"{"a":1} x"#, 8), ("// comment", 0),
  ])
  func `a body that does not parse is refused whole with its place`(body: String, offset: Int) throws {
    let sink = TestSink()
    let server = try serve(sink)
    let good = #"{"good":true}"#
    let reply = try post(server, good + body)
    #expect(reply.status == 400)
    #expect(reply.body.contains("\"offset\":\(good.utf8.count + offset)}"), "\(reply.body)")
    #expect(reply.head.contains("content-type: application/json"))
    let parsed = try JSONSerialization.jsonObject(with: Data(reply.body.utf8)) as? [String: [String: Any]]
    #expect(parsed?["error"]?["code"] as? String == "http.bad-json")
    #expect(sink.payloads.isEmpty)
    server.stop(within: .zero) {}
  }

  static let badUTF8: [[UInt8]] = [
    [0x80], [0xc0, 0xaf], [0xc1, 0xbf], [0xe0, 0x9f, 0x80], [0xed, 0xa0, 0x80], [0xf0, 0x8f, 0x80, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0xf5, 0x80, 0x80, 0x80], [0xc3], [0xe2, 0x82], [0xff],
  ]
  @Test(arguments: badUTF8) func `bytes that are no UTF-8 are replaced`(bytes: [UInt8]) throws {
    let sink = TestSink()
    let server = try serve(sink)
    #expect(try ask(server, "POST", "/", Array("{\"a\":\"é".utf8) + bytes + Array("\"}".utf8)).status == 200)
    #expect(try ask(server, "POST", "/", Array("é".utf8) + bytes, ["Content-Type: text/plain"]).status == 200)
    #expect(sink.texts.allSatisfy { $0.contains("é\u{FFFD}") })
    #expect(sink.payloads.allSatisfy { String(validating: $0, as: UTF8.self) != nil })
    server.stop(within: .zero) {}
  }

  @Test func `a fault beside bytes that are no UTF-8 is still a fault`() throws {
    let sink = TestSink()
    let server = try serve(sink)
    let reply = try ask(server, "POST", "/", Array("{\"a\":\"".utf8) + [0xff] + Array("\",}".utf8))
    #expect(reply.status == 400 && reply.body.contains("\"offset\":11}"))
    #expect(sink.payloads.isEmpty)
    server.stop(within: .zero) {}
  }

  @Test func `depth has a limit, and tagging keeps a bad body whole`() throws {
    let sink = TestSink()
    let server = try serve(sink) {
      $0.jsonDepth = 100
      $0.onParseFailure = .tag
    }
    func nested(_ n: Int) -> String { String(repeating: #"{"a":"#, count: n) + "1" + String(repeating: "}", count: n) }
    let mixed = String(repeating: #"{"a":["#, count: 50) + String(repeating: "]}", count: 50)
    for body in [nested(100), mixed, nested(101), "{bad"] { #expect(try post(server, body).status == 200) }
    #expect(sink.texts == [nested(100), mixed, nested(101), "{bad"])
    #expect(sink.batches.allSatisfy { $0.descriptor == "json" })
    server.stop(within: .zero) {}
    let strict = try serve(sink) { $0.jsonDepth = 100 }
    #expect(try post(strict, nested(101)).body.contains("more than 100 levels"))
    strict.stop(within: .zero) {}
  }

  @Test func `compressed bodies are unpacked within their bound`() throws {
    let sink = TestSink()
    let server = try serve(sink) { $0.limits.bodyBytes = 10_000 }
    let event = #"{"message":"packed"}"#
    func send(_ body: [UInt8], _ encoding: String) throws -> Int {
      try ask(server, "POST", "/", body, ["Content-Type: application/json", "Content-Encoding: \(encoding)"]).status
    }
    #expect(try send(gzip(event), "gzip") == 200)
    #expect(try send(gzip(event) + gzip(event), "x-gzip") == 200)
    #expect(try send(Array(event.utf8), "identity") == 200)
    #expect(sink.texts == [event, event, event, event])
    #expect(sink.batches[0].context.contains("\"content_length\":\"\(event.utf8.count)\""))
    #expect(!sink.batches[0].context.contains("content_encoding"))
    #expect(try send(Array(gzip(event).dropLast(3)), "gzip") == 400)
    #expect(try send(Array(event.utf8), "gzip") == 400)
    #expect(try send(Array(event.utf8), "br") == 415)
    #expect(try send(gzip("{\"a\":\"" + String(repeating: "x", count: 20_000) + "\"}"), "gzip") == 413)
    #expect(try send([UInt8](repeating: 32, count: 10_001), "identity") == 413)
    #expect(sink.payloads.count == 4)
    server.stop(within: .zero) {}
  }

  @Test func `the answer comes when the queue has kept the body`() throws {
    let sink = TestSink(.hold)
    let server = try serve(sink)
    let client = try TestClient(port: server.port)
    try client.send(
      "POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}")
    #expect(sink.waitForHeld(1))
    #expect(client.isSilent(ms: 50))
    sink.release()
    #expect(client.receive()?.starts(with: "HTTP/1.1 200 OK\r\n".utf8) == true)
    server.stop(within: .zero) {}
  }

  @Test func `what the queue refuses is told`() throws {
    let sink = TestSink(.fail(.closed))
    let server = try serve(sink)
    let closed = try post(server, "{}")
    #expect(closed.status == 503 && closed.head.contains("retry-after: "))
    sink.setMode(.fail(.tooLarge(limitBytes: 1)))
    #expect(try post(server, "{}").status == 413)
    server.stop(within: .zero) {}
  }

  @Test func `GET and HEAD make no event, other methods are refused`() throws {
    let sink = TestSink()
    let server = try serve(sink) {
      $0.user = "u"
      $0.password = "p"
    }
    let credentials = "Authorization: Basic " + Base64.encode(Array("u:p".utf8))
    #expect(try ask(server, "GET", "/health").status == 200)
    #expect(try ask(server, "HEAD", "/health", [], []).body == "")
    #expect(try ask(server, "GET", "/").status == 401)
    #expect(try ask(server, "GET", "/", [], [credentials]).status == 200)
    #expect(try ask(server, "GET", "/other", [], [credentials]).status == 404)
    let method = try ask(server, "DELETE", "/x", [], [credentials])
    #expect(method.status == 405 && method.head.contains("allow: get, head, post, put"))
    #expect(
      try ask(server, "PUT", "/any/path?q", Array("{}".utf8), [credentials, "Content-Type: application/json"]).status
        == 200)
    #expect(sink.texts == ["{}"])
    server.stop(within: .zero) {}
  }

  @Test func `only the right credentials pass, and they never reach the context`() throws {
    let sink = TestSink()
    let server = try serve(sink) {
      $0.user = "user"
      $0.password = "pässword:1"
    }
    func status(_ header: String?) throws -> Reply {
      try ask(server, "POST", "/", Array("{}".utf8), ["Content-Type: application/json"] + (header.map { [$0] } ?? []))
    }
    let right = Base64.encode(Array("user:pässword:1".utf8))
    #expect(try status(nil).head.contains("www-authenticate: basic realm="))
    #expect(try status("Authorization: Basic \(Base64.encode(Array("user:wrong".utf8)))").status == 401)
    #expect(try status("Authorization: Bearer \(right)").status == 401)
    #expect(try status("Authorization: Basic ***").status == 401)
    #expect(try status("Authorization: basic \(right)").status == 200)
    #expect(sink.batches.count == 1)
    #expect(sink.batches.first.map { !$0.context.lowercased().contains("authorization") } == true)
    server.stop(within: .zero) {}
  }

  @Test func `the context holds peer and head of the request`() throws {
    let sink = TestSink()
    let server = try serve(sink)
    _ = try ask(
      server, "POST", "/in?x=1", Array("{}".utf8),
      ["Content-Type: application/json", "X-Request-Id: a\"b", "X-Two: 1", "x-two: 2", "User-Agent: probe/1.0"])
    let context = try #require(sink.batches.first?.context)
    let object = try JSONSerialization.jsonObject(with: Data(context.utf8)) as? [String: Any]
    let http = try #require(object?["http"] as? [String: Any])
    #expect(http["method"] as? String == "POST")
    #expect(http["target"] as? String == "/in?x=1")
    #expect(http["version"] as? String == "HTTP/1.1")
    #expect(
      http["headers"] as? [String: String] == [
        "content_type": "application/json", "content_length": "2", "x_request_id": "a\"b", "x_two": "2",
        "user_agent": "probe/1.0", "host": "web:5000", "connection": "close",
      ])
    #expect((object?["peer"] as? [String: Any])?["ip"] as? String == "127.0.0.1")
    server.stop(within: .zero) {}
  }

  @Test func `a blocked queue and a full waiting room answer 429`() throws {
    let sink = TestSink(.hold)
    let server = try serve(sink) {
      $0.blockedAfter = .milliseconds(100)
      $0.maxPendingRequests = 2
      $0.retryAfter = .seconds(7)
    }
    let first = try TestClient(port: server.port)
    let request = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    try first.send(request)
    #expect(sink.waitForHeld(1))
    #expect(waitUntil { (try? post(server, "[]").status) == 429 })
    let blocked = try post(server, "{}")
    #expect(blocked.status == 429 && blocked.head.contains("retry-after: 7"))
    sink.release()
    #expect(waitUntil { (try? post(server, "[]").status) == 200 })
    let others = try (0..<2).map { _ in try TestClient(port: server.port) }
    for other in others { try other.send(request) }
    #expect(sink.waitForHeld(2))
    #expect(try post(server, "{}").status == 429)
    sink.release()
    sink.release()
    #expect(waitUntil { (try? post(server, "[]").status) == 200 })
    server.stop(within: .zero) {}
  }

  private static let small =
    "POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

  @Test func `a request that waits too long for a full queue is answered, and nothing of it is kept`() throws {
    let sink = TestSink(.full)
    let budget = InFlightBudget()
    let server = try serve(sink, budget: budget) {
      $0.blockedAfter = .milliseconds(100)
      $0.retryAfter = .seconds(7)
    }
    let clients = try (0..<3).map { _ in try TestClient(port: server.port) }
    for client in clients { try client.send(HTTPInputTests.small) }
    for client in clients {
      let answer = String(decoding: client.receive() ?? [], as: UTF8.self)
      #expect(answer.hasPrefix("HTTP/1.1 429 ") && answer.contains("Retry-After: 7\r\n"), "\(answer)")
      #expect(answer.contains("\"code\":\"http.busy\"") && answer.contains("none of it was kept"), "\(answer)")
    }
    #expect(waitUntil { budget.used == 0 && sink.heldCount == 0 })
    // A connection goes on, and one request at a time asks whether the queue is still full.
    try clients[0].send(HTTPInputTests.small)
    #expect(sink.waitForHeld(1))
    #expect(try post(server, "{}").status == 429)
    sink.release()
    #expect(String(decoding: clients[0].receive() ?? [], as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
    sink.setMode(.keep)
    #expect(try post(server, "{}").status == 200)
    #expect(sink.batches.count == 2)
    server.stop(within: .zero) {}
  }

  @Test func `events that the queue is writing are not denied`() throws {
    let sink = TestSink(.hold)
    let server = try serve(sink) { $0.blockedAfter = .milliseconds(50) }
    let client = try TestClient(port: server.port)
    try client.send(HTTPInputTests.small)
    let answer = String(decoding: client.receive() ?? [], as: UTF8.self)
    #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("http.unknown"), "\(answer)")
    #expect(answer.contains("Retry-After"))
    sink.release()
    sink.setMode(.keep)
    #expect(waitUntil { (try? post(server, "{}").status) == 200 })
    server.stop(within: .zero) {}
  }

  @Test func `a stop answers those whose events the queue has not taken`() throws {
    let sink = TestSink(.full)
    let server = try serve(sink)
    let client = try TestClient(port: server.port)
    try client.send(HTTPInputTests.small)
    #expect(sink.waitForHeld(1))
    let done = Gate(false)
    server.stop(within: .milliseconds(10)) { done.update { $0 = true } }
    let answer = String(decoding: client.receiveAll(), as: UTF8.self)
    #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("http.stopping"), "\(answer)")
    #expect(done.wait(until: .now + .seconds(10)) { $0 ? true : nil } == true)
    #expect(sink.batches.isEmpty)
  }

  @Test func `a client that goes away while it waits holds nothing for longer than the limit`() throws {
    let sink = TestSink(.full)
    let budget = InFlightBudget()
    let server = try serve(sink, budget: budget) { $0.blockedAfter = .milliseconds(100) }
    do {
      let client = try TestClient(port: server.port)
      try client.send(HTTPInputTests.small)
      #expect(sink.waitForHeld(1))
      client.finishSending()
    }
    #expect(waitUntil { server.connectionCount == 0 && sink.heldCount == 0 && budget.used == 0 })
    server.stop(within: .zero) {}
  }

  @Test func `a body that unpacks to too much is refused in plain words`() throws {
    let server = try serve(TestSink()) { $0.limits.bodyBytes = 100 }
    let reply = try ask(
      server, "POST", "/", gzip(String(repeating: " ", count: 1000)),
      ["Content-Type: application/json", "Content-Encoding: gzip"])
    #expect(reply.status == 413)
    #expect(reply.body.contains("\"the body unpacks to more than 100 bytes\""), "\(reply.body)")
    server.stop(within: .zero) {}
  }

  @Test func `a spent memory budget refuses large bodies and takes small ones`() throws {
    let sink = TestSink()
    let budget = InFlightBudget(limitBytes: 1000)
    let server = try serve(sink, budget: budget) { $0.freeBodyBytes = 1 << 10 }
    budget.add(1000)
    let large = Array(("[" + String(repeating: " ", count: 5000) + "{}]").utf8)
    #expect(try ask(server, "POST", "/", large).status == 429)
    #expect(try post(server, "{}").status == 200)
    budget.add(-1000)
    #expect(try ask(server, "POST", "/", large).status == 200)
    #expect(waitUntil { budget.used == 0 })
    server.stop(within: .zero) {}
  }

  @Test(arguments: [201, 202, 204]) func `the configured code and headers are answered`(code: Int) throws {
    let server = try serve(TestSink()) {
      $0.responseCode = code
      $0.responseHeaders = [("X-Own", "yes"), ("Content-Type", "text/html")]
    }
    let reply = try post(server, "{}")
    #expect(reply.status == code)
    #expect(reply.head.contains("x-own: yes"))
    #expect(reply.body == (code == 204 ? "" : "ok"))
    #expect(code == 204 || reply.head.contains("content-type: text/plain"))
    server.stop(within: .zero) {}
  }

  @Test func `a stop answers what waits and refuses what comes`() throws {
    let sink = TestSink(.hold)
    let server = try serve(sink)
    let waiting = try TestClient(port: server.port)
    let idle = try TestClient(port: server.port)
    try waiting.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    #expect(sink.waitForHeld(1))
    #expect(waitUntil { server.connectionCount == 2 })
    let done = Gate(false)
    server.stop(within: .seconds(10)) { done.update { $0 = true } }
    #expect(idle.receiveAll() == [])
    idle.finishSending()
    sink.release()
    let answer = String(decoding: waiting.receiveAll(), as: UTF8.self)
    #expect(answer.hasPrefix("HTTP/1.1 200 OK") && answer.contains("Connection: close"))
    waiting.finishSending()
    #expect(done.wait(until: .now + .seconds(10)) { $0 ? true : nil } == true)
  }

  @Test func `whatever is accepted is JSON for another reader too, also after changes`() throws {
    let sink = TestSink()
    let server = try serve(sink)
    let sample = Array(
      #"[{"a":[1,-2.5e+3,true,null,"x\n\u00e9é€😀"],"b":{"c":{},"d":[]}},{"long":"0123456789abcdef0123456789"}]"#.utf8)
    var random = SeededRandom(5)
    var accepted = 0
    for _ in 0..<300 {
      var bytes = sample
      for _ in 0..<Int.random(in: 0...2, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: at)
        default: bytes.insert(sample[Int.random(in: 0..<sample.count, using: &random)], at: at)
        }
      }
      let status = try ask(server, "POST", "/", bytes).status
      #expect(status == 200 || status == 400)
      if status == 200 { accepted += 1 }
    }
    #expect(accepted > 50)
    for payload in sink.payloads {
      #expect(String(validating: payload, as: UTF8.self) != nil)
      #expect(
        (try? JSONSerialization.jsonObject(with: Data(payload))) is [String: Any],
        "\(String(decoding: payload, as: UTF8.self))")
    }
    server.stop(within: .zero) {}
  }
}
