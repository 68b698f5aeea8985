//  The `beats` input over sockets: windows, acknowledgements, keep-alives, limits and closing.

import Codecs
import Diagnostics
import Glibc
import Inputs
import Net
import Records
import TestSupport
import Testing

/// Builds frames.
enum Lumber {
  static func word(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
  static func window(_ count: Int, version: Character = "2") -> [UInt8] {
    [version.asciiValue ?? 0, 0x57] + word(count)
  }
  static func json(_ sequence: Int, _ text: String) -> [UInt8] { json(sequence, Array(text.utf8)) }
  static func json(_ sequence: Int, _ bytes: [UInt8]) -> [UInt8] {
    Array("2J".utf8) + word(sequence) + word(bytes.count) + bytes
  }
  static func pairs(_ sequence: Int, _ pairs: [(String, String)]) -> [UInt8] {
    var frame = Array("1D".utf8) + word(sequence) + word(pairs.count)
    for (key, value) in pairs {
      frame += word(key.utf8.count) + Array(key.utf8) + word(value.utf8.count) + Array(value.utf8)
    }
    return frame
  }
  static func compressed(_ content: [UInt8], version: Character = "2") -> [UInt8] {
    var output = ByteBuffer()
    content.withUnsafeBytes { Deflater(level: 3).zlib($0, into: &output) }
    return [version.asciiValue ?? 0, 0x43] + word(output.count) + output.array()
  }
  static func ack(_ sequence: Int, version: Character = "2") -> [UInt8] {
    [version.asciiValue ?? 0, 0x41] + word(sequence)
  }
  static func events(_ count: Int, _ prefix: String = "e", from: Int = 1) -> [UInt8] {
    (from..<(from + count)).flatMap { json($0, #"{"message":"\#(prefix)\#($0)"}"#) }
  }
}

@Suite struct BeatsTests {
  @Test func `the worked examples of the protocol are answered as they must be`() throws {
    let sink = TestSink()
    let server = try makeBeats(sink)
    let client = try TestClient(port: server.port)
    try client.send([
      0x32, 0x57, 0, 0, 0, 2, 0x32, 0x43, 0, 0, 0, 0x31, 0x78, 0x5e, 0x33, 0xf2, 0x62, 0x60, 0x60, 0x60, 0x04, 0x62,
      0xe1,
      0x6a, 0xa5, 0xdc, 0xd4, 0xe2, 0xe2, 0xc4, 0xf4, 0x54, 0x25, 0x2b, 0xa5, 0x8c, 0xd4, 0x9c, 0x9c, 0x7c, 0xa5, 0x5a,
      0x23, 0x90, 0x24, 0x13, 0x10, 0x0b, 0x22, 0x4b, 0x26, 0x55, 0xa6, 0x2a, 0xd5, 0x02, 0x00, 0x5b, 0xe2, 0x0d, 0xb2,
    ])
    #expect(client.receive(exactly: 6) == Lumber.ack(2))
    try client.send([
      0x31, 0x57, 0, 0, 0, 2, 0x31, 0x43, 0, 0, 0, 0x38, 0x78, 0x5e, 0x33, 0x74, 0x61, 0x60, 0x60, 0x60, 0x04, 0x62,
      0x26,
      0x20, 0x66, 0xc9, 0xc9, 0xcc, 0x4b, 0x05, 0xd2, 0xac, 0x19, 0xa9, 0x39, 0x39, 0xf9, 0x20, 0x81, 0x8c, 0xfc, 0xe2,
      0x12, 0x10, 0x5d, 0x9e, 0x9a, 0x64, 0x68, 0x08, 0x52, 0x0a, 0x52, 0x86, 0xac, 0x94, 0x39, 0xa9, 0x12, 0xa4, 0x03,
      0x45, 0x21, 0x00, 0x1c, 0xce, 0x0e, 0x10,
    ])
    #expect(client.receive(exactly: 6) == Lumber.ack(2, version: "1"))
    try client.send(Lumber.window(0) + Lumber.window(0, version: "1"))
    #expect(client.receive(exactly: 12) == Lumber.ack(0) + Lumber.ack(0, version: "1"))
    #expect(
      sink.texts == [
        #"{"message":"hello"}"#, #"{"message":"bye"}"#, #"{"line":"hello","host":"web1"}"#,
        #"{"line":"bye","host":"web1"}"#,
      ])
    #expect(sink.batches.first?.context.hasPrefix(#"{"peer":{"ip":"127.0.0.1","port":"#) == true)
    server.stop(within: .zero) {}
  }

  @Test func `several windows wait for the queue and are acknowledged in their order`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink)
    let client = try TestClient(port: server.port)
    try client.send(
      Lumber.window(2) + Lumber.events(2, "a") + Lumber.window(3) + Lumber.compressed(Lumber.events(3, "b")))
    #expect(sink.waitForHeld(2))
    sink.release(1)  // the later one first: nothing may be acknowledged yet
    #expect(client.isSilent(ms: 50))
    sink.release(0)
    #expect(client.receive(exactly: 12) == Lumber.ack(2) + Lumber.ack(3))
    server.stop(within: .zero) {}
  }

  @Test func `a mixed window of bare and compressed frames is one batch`() throws {
    let sink = TestSink()
    let server = try makeBeats(sink)
    let client = try TestClient(port: server.port)
    try client.send(
      Lumber.window(7) + Lumber.events(2) + Lumber.compressed(Lumber.events(3, from: 3))
        + Lumber.compressed(Lumber.events(1, from: 6)) + Lumber.events(1, from: 7))
    #expect(client.receive(exactly: 6) == Lumber.ack(7))
    #expect(sink.batches.count == 1)
    #expect(sink.texts == (1...7).map { #"{"message":"e\#($0)"}"# })
    server.stop(within: .zero) {}
  }

  static let broken: [(name: String, bytes: [UInt8])] = [
    ("version 3", Array("3W".utf8) + Lumber.word(1)),
    ("unknown type", Array("2X".utf8) + Lumber.word(1)),
    ("empty data frame", Lumber.window(1) + Lumber.json(1, "")),
    ("length of four gigabytes", Lumber.window(1) + Array("2J".utf8) + Lumber.word(1) + [255, 255, 255, 255]),
    ("no pairs", Lumber.window(1, version: "1") + Lumber.pairs(1, [])),
    ("pairs in protocol 2", Lumber.window(1) + Lumber.pairs(1, [("a", "b")])),
    ("window within a window", Lumber.window(2) + Lumber.events(1) + Lumber.window(1)),
    ("data before a window", Lumber.events(1)),
    ("bad zlib header", Lumber.window(1) + Array("2C".utf8) + Lumber.word(4) + [0xde, 0xad, 0xbe, 0xef]),
    (
      "wrong checksum",
      {
        var bytes = Lumber.window(1) + Lumber.compressed(Lumber.events(1))
        bytes[bytes.count - 1] ^= 1
        return bytes
      }()
    ),
    ("compressed within compressed", Lumber.window(1) + Lumber.compressed(Lumber.compressed(Lumber.events(1)))),
    ("window within compressed", Lumber.window(1) + Lumber.compressed(Lumber.window(1) + Lumber.events(1))),
    ("half a frame within compressed", Lumber.window(1) + Lumber.compressed(Lumber.events(1).dropLast(1))),
    ("half a header within compressed", Lumber.window(2) + Lumber.compressed(Lumber.events(1) + [0x32, 0x4a, 0])),
    ("more frames than announced within compressed", Lumber.window(1) + Lumber.compressed(Lumber.events(2))),
    ("a window above the limit", Lumber.window(70_000)),
    ("a compressed frame above the limit", Lumber.window(1) + Array("2C".utf8) + Lumber.word(0x7fff_ffff)),
    (
      "a key above the limit",
      Lumber.window(1, version: "1") + Lumber.pairs(1, [(String(repeating: "k", count: 70_000), "v")])
    ),
    ("TLS", [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]),
    ("HTTP", Array("GET / HTTP/1.1\r\n\r\n".utf8)),
  ]

  @Test(arguments: BeatsTests.broken.indices)
  func `what breaks the protocol closes the connection without acknowledgement`(i: Int) throws {
    let sink = TestSink()
    let server = try makeBeats(sink)
    let client = try TestClient(port: server.port)
    try client.send(BeatsTests.broken[i].bytes)
    #expect(client.receiveAll() == [], "\(BeatsTests.broken[i].name)")
    #expect(waitUntil { server.metrics.errors.value == 1 }, "\(BeatsTests.broken[i].name)")
    #expect(sink.payloads.isEmpty)
    client.finishSending()
    #expect(waitUntil { server.connectionCount == 0 })
    server.stop(within: .zero) {}
  }

  @Test func `a surplus frame closes after the window before it was acknowledged`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink)
    let client = try TestClient(port: server.port)
    try client.send(Lumber.window(1) + Lumber.events(2))
    #expect(sink.waitForHeld(1))
    sink.release()
    #expect(client.receiveAll() == Lumber.ack(1))
    server.stop(within: .zero) {}
  }

  @Test func `a bomb is stopped at the limit with flat memory`() throws {
    let sink = TestSink()
    let budget = InFlightBudget()
    let server = try makeBeats(sink, budget: budget) {
      $0.limits.inflatedBytes = 4 << 20
      $0.limits.eventBytes = 1 << 20
    }
    let client = try TestClient(port: server.port)
    var content = Array("2J".utf8) + Lumber.word(1) + Lumber.word(1 << 30)
    content += [UInt8](repeating: 0x20, count: 16 << 20)
    try client.send(Lumber.window(1) + Lumber.compressed(content))
    #expect(client.receiveAll() == [])
    #expect(waitUntil { server.metrics.errors.value == 1 && budget.used == 0 })
    server.stop(within: .zero) {}
  }

  @Test func `a window above 16 MiB goes in parts and is acknowledged once`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink) { $0.limits.partBytes = 64 << 10 }
    let client = try TestClient(port: server.port)
    let body = String(repeating: "x", count: 1000)
    let count = 500
    let frames = (1...count).flatMap { Lumber.json($0, #"{"m":"\#(body)","n":\#($0)}"#) }
    let bytes = Lumber.window(count) + Lumber.compressed(frames) + Lumber.window(1) + Lumber.events(1, "last")
    let sender = Gate(false)
    TestThread.run {
      try? client.send(bytes); sender.update { $0 = true }
    }
    var released = 0
    while sink.payloads.count < count, sink.waitForHeld(1) {
      // Two parts at most wait at a time: memory is bounded though the whole window has arrived.
      #expect(sink.heldCount <= 2)
      sink.release()
      released += 1
    }
    #expect(released >= 500 * 1000 / (128 << 10))
    #expect(client.receive(exactly: 6) == Lumber.ack(count))
    #expect(sink.waitForHeld(1))
    sink.release()
    #expect(client.receive(exactly: 6) == Lumber.ack(1))
    #expect(sink.payloads.count == count + 1)
    #expect(sender.wait(until: .now + .seconds(10)) { $0 ? true : nil } == true)
    server.stop(within: .zero) {}
  }

  @Test(arguments: [false, true])
  func `an event above the limit is read past, set aside and acknowledged`(compressed: Bool) throws {
    let sink = TestSink()
    let found = Lock<[OversizedEvent]>([])
    let later = Lock<[@Sendable () -> Void]>([])
    let server = try makeBeats(
      sink,
      onOversized: { event, done in
        found.withLock { $0.append(event) }
        later.withLock { $0.append(done) }
      }
    ) { $0.limits.eventBytes = 100_000 }
    let client = try TestClient(port: server.port)
    let large = [UInt8](repeating: 0x61, count: 300_000)
    let frames = Lumber.events(1) + Lumber.json(2, large) + Lumber.events(1, from: 3)
    try client.send(Lumber.window(3) + (compressed ? Lumber.compressed(frames) : frames))
    #expect(sink.waitForRecords(2))
    #expect(waitUntil { found.withLock { $0.count == 1 } })
    #expect(client.isSilent(ms: 50))  // the acknowledgement waits until the head is kept
    for done in later.withLock({ $0 }) { done() }
    #expect(client.receive(exactly: 6) == Lumber.ack(3))
    let event = try #require(found.withLock { $0.first })
    #expect(event.head == Array(large.prefix(64 << 10)))
    #expect(event.sizeBytes == 300_000)
    #expect(sink.texts == [#"{"message":"e1"}"#, #"{"message":"e3"}"#])
    #expect(server.metrics.oversized.value == 1)
    server.stop(within: .zero) {}
  }

  @Test func `a batch too large for the queue is divided, and its largest record set aside`() throws {
    let sink = TestSink(.hold)
    let found = Lock<[Int]>([])
    let server = try makeBeats(
      sink,
      onOversized: { event, done in
        found.withLock { $0.append(event.sizeBytes) }
        done()
      })
    let client = try TestClient(port: server.port)
    let big = [UInt8](repeating: 0x62, count: 5000)
    try client.send(Lumber.window(4) + Lumber.events(1) + Lumber.json(2, big) + Lumber.events(2, from: 3))
    #expect(sink.waitForHeld(1))
    sink.setMode(.keep)
    sink.release(0, .failure(.tooLarge(limitBytes: 50)))
    #expect(client.receive(exactly: 6) == Lumber.ack(4))
    #expect(sink.texts == [#"{"message":"e1"}"#, #"{"message":"e3"}"#, #"{"message":"e4"}"#])
    #expect(found.withLock { $0 } == [5000])
    server.stop(within: .zero) {}
  }

  @Test func `a window that cannot be kept closes the connection`() throws {
    let sink = TestSink(.fail(.closed))
    let server = try makeBeats(sink)
    let client = try TestClient(port: server.port)
    try client.send(Lumber.window(1) + Lumber.events(1))
    #expect(client.receiveAll() == [])
    server.stop(within: .zero) {}
  }

  @Test func `keep-alives flow while a window is unfinished, and stop with it`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink) { $0.keepAliveInterval = .milliseconds(200) }
    let client = try TestClient(port: server.port)
    #expect(client.isSilent(ms: 450))  // idle
    try client.send(Lumber.window(2) + Lumber.events(1))
    #expect(client.receive(exactly: 6) == Lumber.ack(0))  // half received
    try client.send(Lumber.events(1, from: 2))
    #expect(sink.waitForHeld(1))
    #expect(client.receive(exactly: 12) == Lumber.ack(0) + Lumber.ack(0))  // waiting for the queue
    sink.release()
    #expect(client.receive(exactly: 6) == Lumber.ack(2))
    #expect(client.isSilent(ms: 450))
    server.stop(within: .zero) {}
  }

  @Test func `protocol 1 gets no keep-alive`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink) { $0.keepAliveInterval = .milliseconds(100) }
    let client = try TestClient(port: server.port)
    try client.send(Lumber.window(1, version: "1") + Lumber.pairs(9, [("line", "a\"\u{1}é"), ("host", "")]))
    #expect(sink.waitForHeld(1))
    #expect(client.isSilent(ms: 450))
    sink.release()
    #expect(client.receive(exactly: 6) == Lumber.ack(9, version: "1"))
    #expect(sink.texts == [#"{"line":"a\"\u0001é","host":""}"#])
    server.stop(within: .zero) {}
  }

  @Test func `silence and a stalled window close the connection`() throws {
    let server = try makeBeats(TestSink()) {
      $0.clientInactivityTimeout = .milliseconds(400)
      $0.keepAliveInterval = .milliseconds(150)
    }
    let idle = try TestClient(port: server.port)
    let stalled = try TestClient(port: server.port)
    try stalled.send(Lumber.window(2) + Lumber.events(1))
    #expect(idle.receiveAll() == [])
    let answers = stalled.receiveAll()
    #expect(!answers.isEmpty && answers.count % 6 == 0 && answers.prefix(6).elementsEqual(Lumber.ack(0)))
    server.stop(within: .zero) {}
  }

  @Test func `a waiting window outlasts the inactivity time-out`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink) {
      $0.clientInactivityTimeout = .milliseconds(300)
      $0.keepAliveInterval = .milliseconds(5000)
    }
    let client = try TestClient(port: server.port)
    try client.send(Lumber.window(1) + Lumber.events(1))
    #expect(sink.waitForHeld(1))
    #expect(client.isSilent(ms: 800))
    sink.release()
    #expect(client.receive(exactly: 6) == Lumber.ack(1))
    server.stop(within: .zero) {}
  }

  @Test func `an old connection is closed between two windows`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink) { $0.maxConnectionAge = .milliseconds(300) }
    let idle = try TestClient(port: server.port)
    let busy = try TestClient(port: server.port)
    try busy.send(Lumber.window(1) + Lumber.events(1))
    #expect(sink.waitForHeld(1))
    #expect(idle.receiveAll() == [])
    #expect(busy.isSilent(ms: 100))
    sink.release()
    #expect(busy.receiveAll() == Lumber.ack(1))
    server.stop(within: .zero) {}
  }

  @Test func `a spent budget leaves every connection one window`() throws {
    let sink = TestSink(.hold)
    let budget = InFlightBudget(limitBytes: 10)
    let server = try makeBeats(sink, budget: budget)
    let clients = try (0..<3).map { _ in try TestClient(port: server.port) }
    for client in clients {
      try client.send(Lumber.window(1) + Lumber.events(1) + Lumber.window(1) + Lumber.events(1, "second"))
    }
    #expect(sink.waitForHeld(3))
    #expect(stays(for: .milliseconds(50)) { sink.heldCount == 3 })
    for _ in 0..<3 { sink.release() }
    #expect(sink.waitForHeld(3))
    for _ in 0..<3 { sink.release() }
    for client in clients { #expect(client.receive(exactly: 12) == Lumber.ack(1) + Lumber.ack(1)) }
    #expect(waitUntil { budget.used == 0 })
    server.stop(within: .zero) {}
  }

  @Test func `windows are kept though the client has closed without waiting`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink)
    let client = try TestClient(port: server.port)
    try client.send(Lumber.window(1) + Lumber.events(1) + Lumber.window(2) + Lumber.events(1, "half"))
    client.finishSending()
    #expect(sink.waitForHeld(1))
    sink.release()
    #expect(client.receiveAll() == Lumber.ack(1))
    #expect(sink.texts == [#"{"message":"e1"}"#])
    server.stop(within: .zero) {}
  }

  @Test func `a stop acknowledges whole windows and drops half ones`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink)
    let whole = try TestClient(port: server.port)
    let half = try TestClient(port: server.port)
    let idle = try TestClient(port: server.port)
    try whole.send(Lumber.window(1) + Lumber.events(1))
    try half.send(Lumber.window(2) + Lumber.events(1))
    #expect(sink.waitForHeld(1))
    #expect(waitUntil { server.connectionCount == 3 })
    let done = Gate(false)
    server.stop(within: .seconds(10)) { done.update { $0 = true } }
    #expect(half.receiveAll() == [])
    #expect(idle.receiveAll() == [])
    sink.release()
    #expect(whole.receiveAll() == Lumber.ack(1))
    #expect((try? TestClient(port: server.port)) == nil)
    for client in [whole, half, idle] { client.finishSending() }
    #expect(done.wait(until: .now + .seconds(10)) { $0 ? true : nil } == true)
  }

  @Test func `a stop with a sink that never answers ends at its limit`() throws {
    let sink = TestSink(.hold)
    let server = try makeBeats(sink)
    let client = try TestClient(port: server.port)
    try client.send(Lumber.window(1) + Lumber.events(1))
    #expect(sink.waitForHeld(1))
    #expect(waitForStop { server.stop(within: .milliseconds(200), completion: $0) })
    #expect(client.receiveAll() == [])
    sink.release()  // late: nothing may break
  }
}
