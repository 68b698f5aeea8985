//  The `tcp` input over sockets: lines however they are cut, long ones, and the rest at the end.

import Diagnostics
import Glibc
import Inputs
import Net
import Records
import TestSupport
import Testing

private func serve(
  _ sink: TestSink, budget: InFlightBudget = InFlightBudget(), onOversized: @escaping OversizedHandler = { $1() },
  configure change: (inout TCPLineConfiguration) -> Void = { _ in }
) throws -> TCPLineServer {
  var configuration = TCPLineConfiguration(host: "127.0.0.1", port: 0)
  change(&configuration)
  let server = try TCPLineServer(
    configuration, queues: testQueues, sink: sink, descriptor: testDescriptor, budget: budget, onOversized: onOversized)
  server.start()
  return server
}

@Suite struct TCPLineTests {
  @Test(arguments: [1, 3, 7, 1000]) func `lines are cut wherever reads fall, and the rest counts when the peer closes`(
    piece: Int
  ) throws {
    let sink = TestSink()
    let budget = InFlightBudget()
    let server = try serve(sink, budget: budget)
    let client = try TestClient(port: server.port)
    try client.send(Array("one\ntwo\r\n\nfour and more\nlast".utf8)) { piece }
    client.finishSending()
    #expect(client.receiveAll() == [])
    #expect(sink.waitForRecords(5))
    #expect(sink.texts == ["one", "two\r", "", "four and more", "last"])
    #expect(sink.batches.allSatisfy { !$0.context.contains("partial") && $0.context.contains("127.0.0.1") })
    #expect(waitUntil { budget.used == 0 && server.connectionCount == 0 })
    #expect(server.metrics.events.value == 5)
  }

  @Test func `a carriage return can be dropped, and a delimiter can have several bytes`() throws {
    let sink = TestSink()
    let dropping = try serve(sink, configure: { $0.dropsCarriageReturn = true })
    let client = try TestClient(port: dropping.port)
    try client.send(Array("a\r\nb\n\r\nc\r\r\n".utf8)) { 1 }
    #expect(sink.waitForRecords(4))
    #expect(sink.texts == ["a", "b", "", "c\r"])
    for piece in [1, 2, 100] {
      let sink = TestSink()
      let server = try serve(sink, configure: { $0.delimiter = Array("|~|".utf8) })
      let client = try TestClient(port: server.port)
      try client.send(Array("a|~|b|~c|~||~|d||~|e|~".utf8)) { piece }
      client.finishSending()
      #expect(sink.waitForRecords(5))
      #expect(sink.texts == ["a", "b|~c", "", "d|", "e|~"])
    }
  }

  @Test func `many random lines arrive byte for byte in order`() throws {
    let sink = TestSink()
    let server = try serve(sink)
    var random = SeededRandom(3)
    let lines = (0..<3000).map { _ in
      (0..<Int.random(in: 0...400, using: &random)).map { _ in UInt8.random(in: 11...255, using: &random) }
    }
    let client = try TestClient(port: server.port)
    try client.send(lines.flatMap { $0 + [10] }) { Int.random(in: 1...20_000, using: &random) }
    #expect(sink.waitForRecords(lines.count))
    #expect(sink.payloads == lines)
  }

  @Test(arguments: [1000, 1 << 20]) func `a line above the limit is read past and set aside`(piece: Int) throws {
    let sink = TestSink()
    let found = Lock<[OversizedEvent]>([])
    let budget = InFlightBudget()
    let server = try serve(
      sink, budget: budget,
      onOversized: { event, done in
        found.withLock { $0.append(event) }
        done()
      }, configure: { $0.eventBytes = 100_000 })
    let client = try TestClient(port: server.port)
    let large = [UInt8](repeating: 0x78, count: 250_000)
    try client.send(Array("before\n".utf8) + large + Array("\nafter\n".utf8)) { piece }
    #expect(sink.waitForRecords(2))
    #expect(sink.texts == ["before", "after"])
    let event = try #require(found.withLock { $0.first })
    #expect(event.sizeBytes == 250_000)
    #expect(event.head == Array(large.prefix(64 << 10)))
    #expect(waitUntil { budget.used == 0 })
    #expect(server.metrics.oversized.value == 1)
  }

  @Test func `a full queue stops the reading and the sender`() throws {
    let sink = TestSink(.hold)
    let server = try serve(sink)
    sink.setRoom(false)
    let client = try TestClient(port: server.port)
    try client.send("first\n")
    #expect(sink.waitForHeld(1))
    let line = String(repeating: "y", count: 999) + "\n"
    let count = 20_000
    let sent = Gate(false)
    TestThread.run {
      try? client.send(Array(String(repeating: line, count: count).utf8))
      client.finishSending()
      sent.update { $0 = true }
    }
    #expect(sent.wait(until: .now + .milliseconds(300)) { $0 ? true : nil } == nil)
    #expect(sink.heldCount == 1)
    sink.setMode(.keep)
    sink.setRoom(true)
    sink.release()
    #expect(sink.waitForRecords(count + 1))
    #expect(sink.payloads.dropFirst().allSatisfy { $0.count == 999 })
  }

  @Test func `our own stop keeps the rest of a line as a marked record`() throws {
    let sink = TestSink(.hold)
    let server = try serve(sink)
    let client = try TestClient(port: server.port)
    try client.send("whole\nhalf a li")
    #expect(sink.waitForHeld(1))
    let done = Gate(false)
    server.stop(within: .seconds(10)) { done.update { $0 = true } }
    #expect(client.receiveAll() == [])
    client.finishSending()
    #expect(sink.waitForHeld(2))
    #expect(done.withLock { $0 } == false)  // the stop waits until the queue has both
    sink.release()
    sink.release()
    #expect(done.wait(until: .now + .seconds(10)) { $0 ? true : nil } == true)
    #expect(sink.texts == ["whole", "half a li"])
    #expect(sink.batches.map { $0.context.contains(#""partial_line":true"#) } == [false, true])
  }

  @Test func `a closing queue is counted as loss`() throws {
    let sink = TestSink(.fail(.closed))
    let server = try serve(sink)
    let client = try TestClient(port: server.port)
    try client.send("a\nb\n")
    #expect(waitUntil { server.metrics.lost.value == 2 })
  }

  @Test func `a PROXY line names the peer, and its absence closes`() throws {
    let sink = TestSink()
    let server = try serve(sink, configure: { $0.proxyProtocol = true })
    let client = try TestClient(port: server.port)
    try client.send(Array("PROXY TCP4 192.0.2.1 198.51.100.7 40123 5001\r\nhello\n".utf8)) { 5 }
    #expect(sink.waitForRecords(1))
    #expect(
      sink.batches.first?.context
        == #"{"peer":{"ip":"192.0.2.1","port":40123,"name":"192.0.2.1"},"proxy":{"ip":"198.51.100.7","port":5001}}"#)
    for bad in ["hello\n", "PROXY UNKNOWN\r\n", "PROXY TCP4 a b c d\r\n", String(repeating: "P", count: 200)] {
      let client = try TestClient(port: server.port)
      try client.send(bad)
      #expect(client.receiveAll() == [])
    }
    #expect(server.metrics.errors.value == 4)
    #expect(sink.payloads.count == 1)
  }

  @Test func `silence ends a connection only where that is wanted`() throws {
    let sink = TestSink()
    let server = try serve(sink, configure: { $0.idleTimeout = .milliseconds(200) })
    let client = try TestClient(port: server.port)
    try client.send("no end")
    #expect(client.receiveAll() == [])
    #expect(sink.waitForRecords(1))
    #expect(sink.texts == ["no end"])
  }
}
