//  The HTTP server over sockets: framing, limits, time-outs and what a request head may look like.

import Diagnostics
import Foundation
import Net
import TestSupport
import Testing

/// Answers with what it understood of the request; some paths do special things.
final class Mirror: HTTPService {
  let held = Gate<[HTTPRequest]>([])
  let abandonedCount = Counter()

  func begin(_ request: HTTPRequest) -> HTTPResponse? {
    request.head.path == "/refused" ? HTTPResponse(403, type: "text/plain", text: "no") : nil
  }
  func handle(_ request: HTTPRequest) {
    switch request.head.path {
    case "/held": held.update { $0.append(request) }
    case "/stream":
      guard let stream = request.beginStream(HTTPResponse(200, headers: [("Content-Type", "text/plain")])) else {
        return
      }
      for word in ["one ", "two ", "three"] { stream.write(Array(word.utf8)) }
      stream.end()
    default:
      let body = String(decoding: request.body.bytes, as: UTF8.self)
      request.answer(
        HTTPResponse(
          200, type: "text/plain",
          text: "\(request.head.method) \(request.head.path)?\(request.head.query ?? "-") [\(body)]"))
    }
  }
  func abandoned(_ request: HTTPRequest) { abandonedCount.add() }
}

private func serve(_ service: Mirror, _ change: (inout HTTPLimits) -> Void = { _ in }) throws -> Listener {
  var limits = HTTPLimits()
  change(&limits)
  let made = limits
  let listener = try Listener(ListenerConfiguration(host: "127.0.0.1"), queues: queues) {
    HTTPServerConnection($0, service: service, limits: made)
  }
  listener.start()
  return listener
}

/// A response taken apart.
struct Answer {
  var status: Int
  var head: String
  var body: String

  /// Reads one response with a `Content-Length` or chunks; nil at the end of the stream.
  static func read(_ client: TestClient, isHead: Bool = false) -> Answer? {
    var text: [UInt8] = []
    while !text.suffix(4).elementsEqual([13, 10, 13, 10]) {
      guard let byte = client.receive(1), !byte.isEmpty else { return nil }
      text += byte
    }
    let head = String(decoding: text, as: UTF8.self)
    var answer = Answer(status: Int(head.split(separator: " ")[1]) ?? 0, head: head.lowercased(), body: "")
    if isHead || answer.status == 100 || answer.status == 204 { return answer }
    if let range = answer.head.range(of: "content-length: ") {
      let count = Int(answer.head[range.upperBound...].prefix { $0.isNumber }) ?? 0
      answer.body = String(decoding: client.receive(exactly: count), as: UTF8.self)
    } else if answer.head.contains("transfer-encoding: chunked") {
      var raw: [UInt8] = []
      while !raw.suffix(5).elementsEqual("0\r\n\r\n".utf8) {
        guard let byte = client.receive(1), !byte.isEmpty else { return nil }
        raw += byte
      }
      answer.body = String(decoding: raw, as: UTF8.self)
    }
    return answer
  }
}

@Suite struct HTTPTests {
  @Test func `requests are answered over one connection, whole, in pieces and pipelined`() throws {
    let listener = try serve(Mirror())
    let client = try TestClient(port: listener.port)
    let requests =
      "GET /a?x=1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nhost:h\r\nContent-Length: 5\r\n\r\nhello"
      + "\r\nPOST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      + "3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nT: t\r\n\r\n"
    let expected = ["GET /a?x=1 [] ", "POST /b?- [hello] ", "POST /c?- [abc0123456789] "].map { String($0.dropLast()) }
    try client.send(requests)
    for body in expected {
      let answer = Answer.read(client)
      #expect(answer?.status == 200)
      #expect(answer?.body == body)
    }
    for byte in requests.utf8 { try client.send([byte]) }
    for body in expected { #expect(Answer.read(client)?.body == body) }
    listener.stop()
  }

  @Test func `a later answer keeps its place, and the next request waits for it`() throws {
    let service = Mirror()
    let listener = try serve(service)
    let client = try TestClient(port: listener.port)
    try client.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n")
    let request = try #require(service.held.wait(until: .now + .seconds(10)) { $0.first })
    #expect(client.isSilent(ms: 50))
    request.answer(HTTPResponse(202, type: "text/plain", text: "late"))
    request.answer(HTTPResponse(500))  // a second answer is nothing
    #expect(Answer.read(client)?.body == "late")
    #expect(Answer.read(client)?.body == "GET /next?- []")
    listener.stop()
  }

  @Test func `connections end as HTTP says`() throws {
    let listener = try serve(Mirror())
    func ends(_ request: String) throws -> Bool {
      let client = try TestClient(port: listener.port)
      try client.send(request)
      guard Answer.read(client) != nil else { return false }
      return (client.isSilent(ms: 30) ? [1] : client.receive() ?? [1]).isEmpty
    }
    #expect(try ends("GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n"))
    #expect(try ends("GET / HTTP/1.0\r\n\r\n"))
    #expect(try !ends("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
    #expect(try !ends("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
    listener.stop()
  }

  @Test func `a half-closed client still gets its answer`() throws {
    let service = Mirror()
    let listener = try serve(service)
    let client = try TestClient(port: listener.port)
    try client.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n")
    client.finishSending()
    let request = try #require(service.held.wait(until: .now + .seconds(10)) { $0.first })
    request.answer(HTTPResponse(200, type: "text/plain", text: "still here"))
    #expect(Answer.read(client)?.body == "still here")
    #expect(client.receiveAll() == [])
    listener.stop()
  }

  @Test func `HEAD has no body but its length, and 100-continue is sent`() throws {
    let listener = try serve(Mirror())
    let client = try TestClient(port: listener.port)
    try client.send("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n")
    #expect(Answer.read(client, isHead: true)?.head.contains("content-length: 12\r\n") == true)
    try client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    #expect(Answer.read(client)?.status == 100)
    try client.send("ok")
    #expect(Answer.read(client)?.body == "POST /x?- [ok]")
    listener.stop()
  }

  @Test func `a refused small body is read past and the connection goes on`() throws {
    let listener = try serve(Mirror())
    let client = try TestClient(port: listener.port)
    try client.send(
      "POST /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" + "GET /y HTTP/1.1\r\nHost: h\r\n\r\n")
    #expect(Answer.read(client)?.status == 403)
    #expect(Answer.read(client)?.body == "GET /y?- []")
    listener.stop()
  }

  @Test func `a stream comes in chunks and the connection goes on`() throws {
    let listener = try serve(Mirror())
    let client = try TestClient(port: listener.port)
    try client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /z HTTP/1.1\r\nHost: h\r\n\r\n")
    #expect(Answer.read(client)?.body == "4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n")
    #expect(Answer.read(client)?.body == "GET /z?- []")
    try client.send("GET /stream HTTP/1.0\r\n\r\n")
    #expect(String(decoding: client.receiveAll(), as: UTF8.self).hasSuffix("\r\n\r\none two three"))
    listener.stop()
  }

  static let refused: [(String, Int)] = [
    ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    ("GET / HTTP/1.1\nHost: h\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: h\r\nX: a\u{0}b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999\r\n\r\n", 413),
    ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n", 413),
    ("GET / HTTP/1.1\r\nHost: h\r\nExpect: a-miracle\r\n\r\n", 417),
    ("\u{16}\u{3}\u{1}\u{0}", 400),
    ("GET /" + String(repeating: "a", count: 9000) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    ("GET / HTTP/1.1\r\nHost: h\r\nX: " + String(repeating: "a", count: 40_000) + "\r\n\r\n", 431),
    ("GET / HTTP/1.1\r\nHost: h\r\n" + String(repeating: "a: b\r\n", count: 200) + "\r\n", 431),
  ]

  @Test(arguments: HTTPTests.refused.indices)
  func `what could be read in two ways is refused and ends the connection`(i: Int) throws {
    let (request, status) = HTTPTests.refused[i]
    let listener = try serve(Mirror())
    let client = try TestClient(port: listener.port)
    try? client.send(request)
    let answer = Answer.read(client)
    #expect(answer?.status == status, "\(request.prefix(60))")
    #expect(answer?.head.contains("connection: close") == true)
    #expect(client.receiveAll() == [])
    listener.stop()
  }

  @Test func `slow heads, slow bodies and idle connections are ended`() throws {
    let service = Mirror()
    let listener = try serve(service) {
      $0.headTimeout = .milliseconds(250)
      $0.bodyTimeout = .milliseconds(250)
      $0.idleTimeout = .milliseconds(250)
    }
    let (head, body, idle) = (
      try TestClient(port: listener.port), try TestClient(port: listener.port), try TestClient(port: listener.port)
    )
    try head.send("GET / HT")
    try body.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
    try idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    #expect(Answer.read(idle)?.status == 200)
    #expect(Answer.read(head)?.status == 408)
    #expect(Answer.read(body)?.status == 408)
    #expect(idle.receiveAll() == [])
    #expect(service.abandonedCount.value == 1)
    listener.stop()
  }

  @Test(arguments: 0..<4) func `changed requests never harm the server`(seed: UInt64) throws {
    let listener = try serve(Mirror())
    var state = seed &* 1_000_003 &+ 17
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let sample = Array(
      ("POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        + "POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").utf8)
    for _ in 0..<60 {
      var bytes = sample
      for _ in 0...random(4) {
        let at = random(bytes.count)
        switch random(3) {
        case 0: bytes[at] = UInt8(random(256))
        case 1: bytes.remove(at: at)
        default: bytes.insert(UInt8(random(256)), at: at)
        }
      }
      let client = try TestClient(port: listener.port)
      try? client.send(bytes)
      client.finishSending()
      _ = client.receiveAll()
    }
    let client = try TestClient(port: listener.port)
    try client.send("GET /alive HTTP/1.1\r\nHost: h\r\n\r\n")
    #expect(Answer.read(client)?.body == "GET /alive?- []")
    #expect(waitUntil { listener.current.value == 1 })
    listener.stop()
  }
}
