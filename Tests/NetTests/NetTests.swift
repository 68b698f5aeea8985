//  Listeners and connections: addresses, many clients, slow readers, and an orderly stop.

import Diagnostics
import Foundation
import Glibc
import Net
import TestSupport
import Testing

let queues = IOQueues(count: 2)

/// Sends back what comes; what a test needs to know stands in `state`.
final class Echo: ConnectionHandler, @unchecked Sendable {
  struct State {
    var received = 0
    var closed: CloseReason?
    var identity: TLSIdentity?
    var isReady = false
  }
  let state = Gate(State())
  /// Bytes taken before the handler pauses; nil for never.
  var pauseAfter: Int?
  private(set) var connection: Connection?

  func ready(_ connection: Connection) {
    self.connection = connection
    state.update {
      $0.isReady = true
      $0.identity = connection.tlsIdentity
    }
  }
  func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
    var n = bytes.count
    if let pauseAfter, state.withLock({ $0.received }) + n >= pauseAfter {
      n = max(0, pauseAfter - state.withLock { $0.received })
      self.pauseAfter = nil
      connection.pauseReading()
    }
    state.update { $0.received += n }
    connection.send(UnsafeRawBufferPointer(rebasing: bytes[..<n]))
    return n
  }
  func peerFinished(_ connection: Connection) { connection.finish() }
  func closed(_ connection: Connection, _ reason: CloseReason) { state.update { $0.closed = reason } }
  func waitForClose() -> CloseReason? { state.wait(until: .now + .seconds(10)) { $0.closed } }
}

/// The handlers of a listener in the order of their connections.
final class Handlers: Sendable {
  let all = Gate<[Echo]>([])
  func wait(_ i: Int = 0) -> Echo? { all.wait(until: .now + .seconds(10)) { $0.count > i ? $0[i] : nil } }
}

func listen(_ handlers: Handlers, _ change: (inout ListenerConfiguration) -> Void = { _ in }, pauseAfter: Int? = nil)
  throws
  -> Listener
{
  var configuration = ListenerConfiguration(host: "127.0.0.1", port: 0)
  change(&configuration)
  let listener = try Listener(configuration, queues: queues) { _ in
    let echo = Echo()
    echo.pauseAfter = pauseAfter
    handlers.all.update { $0.append(echo) }
    return echo
  }
  listener.start()
  return listener
}

@Suite struct ListenerTests {
  @Test func `bytes go round, and the end of one side is answered by the end of the other`() throws {
    let handlers = Handlers()
    let listener = try listen(handlers)
    let client = try TestClient(port: listener.port)
    try client.send("hello")
    #expect(client.receive(exactly: 5) == Array("hello".utf8))
    client.finishSending()
    #expect(client.receiveAll() == [])
    #expect(handlers.wait()?.waitForClose() == .finished)
    #expect(waitUntil { listener.current.value == 0 })
    #expect(listener.accepted.value == 1)
    listener.stop()
  }

  @Test func `a client that does not read holds nobody back and loses nothing`() throws {
    let handlers = Handlers()
    let listener = try listen(handlers)
    let slow = try TestClient(port: listener.port, receiveBufferBytes: 4096)
    let bytes = (0..<(6 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    let sent = Gate(false)
    TestThread.run {
      try? slow.send(bytes)
      slow.finishSending()
      sent.update { $0 = true }
    }
    let quick = try TestClient(port: listener.port)
    for _ in 0..<20 {
      try quick.send("ping")
      #expect(quick.receive(exactly: 4) == Array("ping".utf8))
    }
    #expect(slow.receiveAll() == bytes)
    #expect(sent.wait(until: .now + .seconds(10)) { $0 ? true : nil } == true)
    listener.stop()
  }

  @Test func `a paused connection keeps what it has read and goes on with it`() throws {
    let handlers = Handlers()
    let listener = try listen(handlers, pauseAfter: 3)
    let client = try TestClient(port: listener.port)
    try client.send("abcdef")
    #expect(client.receive(exactly: 3) == Array("abc".utf8))
    #expect(client.isSilent(ms: 50))
    let connection = try #require(handlers.wait()?.connection)
    connection.queue.async { connection.resumeReading() }
    #expect(client.receive(exactly: 3) == Array("def".utf8))
    try client.send("ghi")
    #expect(client.receive(exactly: 3) == Array("ghi".utf8))
    listener.stop()
  }

  @Test func `connections above the limit are closed at once`() throws {
    let handlers = Handlers()
    let listener = try listen(handlers, { $0.maxConnections = 2 })
    let clients = try (0..<2).map { _ in try TestClient(port: listener.port) }
    for client in clients {
      try client.send("x")
      #expect(client.receive(exactly: 1) == [120])
    }
    let third = try TestClient(port: listener.port)
    #expect((third.receive() ?? []).isEmpty)
    #expect(listener.refused.value == 1)
    clients[0].finishSending()
    #expect(waitUntil { listener.current.value == 1 })
    let fourth = try TestClient(port: listener.port)
    try fourth.send("y")
    #expect(fourth.receive(exactly: 1) == [121])
    listener.stop()
  }

  @Test func `descriptors stay in reserve`() throws {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    let handlers = Handlers()
    // A reserve as large as the limit leaves nothing for connections.
    let listener = try listen(handlers, { $0.reservedDescriptors = Int(limit.rlim_cur) })
    let client = try TestClient(port: listener.port)
    #expect((client.receive() ?? []).isEmpty)
    #expect(listener.refused.value == 1)
    listener.stop()
  }

  /// Notes that its deadline has passed.
  private final class Waiter: ConnectionHandler, Sendable {
    private let wait: Duration
    private let passed: Gate<Int>
    init(_ wait: Duration, _ passed: Gate<Int>) {
      self.wait = wait
      self.passed = passed
    }
    func ready(_ connection: Connection) { connection.deadline = .now + wait }
    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int { bytes.count }
    func deadlinePassed(_ connection: Connection, now: Instant) { passed.update { $0 += 1 } }
    func peerFinished(_ connection: Connection) { connection.finish() }
    func closed(_ connection: Connection, _ reason: CloseReason) {}
  }

  @Test(arguments: [0, 60, 3600])
  func `deadlines are met after a quiet time of any length`(_ quietSeconds: Int) throws {
    let queues = IOQueues(count: 1, quietSince: .now + .seconds(-quietSeconds))
    let passed = Gate(0)
    let next = Gate(0)
    let listener = try Listener(ListenerConfiguration(host: "127.0.0.1", port: 0), queues: queues) { _ in
      // 0.1, 0.2, … 1 s, the later ones first.
      Waiter(
        .milliseconds(
          next.update {
            $0 += 1
            return 1100 - $0 * 100
          }), passed)
    }
    listener.start()
    let clients = try (0..<10).map { _ in try TestClient(port: listener.port) }
    #expect(passed.wait(until: .now + .seconds(10)) { $0 == 10 ? true : nil } == true, "\(passed.withLock { $0 })")
    withExtendedLifetime(clients) {}
    listener.stop()
  }

  @Test func `a process without descriptors refuses, keeps serving, and recovers`() async {
    await #expect(processExitsWith: .success) {
      let handlers = Handlers()
      let listener = try listen(handlers, { $0.reservedDescriptors = 0 })
      let first = try TestClient(port: listener.port)
      try first.send("a")
      guard first.receive(exactly: 1) == [97] else { exit(2) }
      var limit = rlimit(rlim_cur: 40, rlim_max: 40)
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      var others: [TestClient] = []
      while let one = try? TestClient(port: listener.port) { others.append(one) }
      guard others.count > 3, waitUntil({ listener.refused.value > 0 }) else { exit(3) }
      try first.send("b")
      guard first.receive(exactly: 1) == [98] else { exit(4) }
      others.removeAll()
      guard waitUntil({ listener.current.value == 1 }) else { exit(5) }
      let last = try TestClient(port: listener.port)
      try last.send("c")
      guard last.receive(exactly: 1) == [99] else { exit(6) }
      exit(0)
    }
  }

  @Test func `a port in use, an unknown host and a foreign address are told in words`() throws {
    let handlers = Handlers()
    let listener = try listen(handlers)
    let port = listener.port
    func failure(_ host: String, _ port: Int) -> String {
      do {
        _ = try Listener(ListenerConfiguration(host: host, port: port), queues: queues) { _ in Echo() }
        return ""
      } catch { return error.description }
    }
    #expect(failure("127.0.0.1", port) == "cannot listen on 127.0.0.1:\(port): another program listens there")
    #expect(failure("192.0.2.77", 0) == "cannot listen on 192.0.2.77:0: this machine does not have that address")
    #expect(failure("no such host", 0).hasPrefix("cannot find the address of host 'no such host': "))
    let stopped = Gate(false)
    listener.stop { stopped.update { $0 = true } }
    #expect(stopped.wait(until: .now + .seconds(10)) { $0 ? true : nil } == true)
    #expect(failure("127.0.0.1", port) == "")
  }

  @Test func `an IPv6 listener takes IPv4 peers and writes their address as IPv4`() throws {
    let handlers = Handlers()
    guard let listener = try? listen(handlers, { $0.host = "::" }) else { return }  // a machine without IPv6
    let client = try TestClient(port: listener.port)
    try client.send("x")
    _ = client.receive(exactly: 1)
    #expect(handlers.wait()?.connection?.peer.ip == "127.0.0.1")
    listener.stop()
  }

  @Test func `a client that never reads is given up after the write time-out`() throws {
    final class Flood: ConnectionHandler, @unchecked Sendable {
      let closed = Gate<CloseReason?>(nil)
      func ready(_ connection: Connection) {
        connection.writeTimeout = .milliseconds(300)
        connection.send([UInt8](repeating: 1, count: 16 << 20))
      }
      func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int { bytes.count }
      func peerFinished(_ connection: Connection) { connection.finish() }
      func closed(_ connection: Connection, _ reason: CloseReason) { closed.update { $0 = reason } }
    }
    let flood = Flood()
    let listener = try Listener(ListenerConfiguration(host: "127.0.0.1"), queues: queues) { _ in flood }
    listener.start()
    let client = try TestClient(port: listener.port, receiveBufferBytes: 4096)
    #expect(flood.closed.wait(until: .now + .seconds(10)) { $0 } == .writeStalled)
    _ = client
    listener.stop()
  }
}
