//  Beats sessions with changed bytes, random bytes and many idle connections against a listening server.

import Diagnostics
import Glibc
import Inputs
import Net
import TestSupport
import Testing

@Suite struct BeatsFuzzTests {
  /// Whatever comes, the server stays up, holds nothing afterwards, and serves the next client.
  @Test(arguments: 0..<8) func `changed sessions never harm the server`(seed: Int) throws {
    let sink = TestSink()
    let budget = InFlightBudget()
    let server = try makeBeats(sink, budget: budget) {
      $0.limits.eventBytes = 200_000
      $0.limits.inflatedBytes = 8 << 20
    }
    var random = SeededRandom(UInt64(seed) &* 7919)
    let small = BeatsRecording.all.filter { $0.client.count < 30_000 }
    for _ in 0..<25 {
      guard let session = small.randomElement(using: &random) else { break }
      var bytes = session.client
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 2: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...9, using: &random)))
        default: bytes.insert(contentsOf: (0..<5).map { _ in UInt8.random(in: 0...255, using: &random) }, at: at)
        }
        if bytes.isEmpty { bytes = [0] }
      }
      let client = try TestClient(port: server.port)
      try? client.send(bytes)  // the server may have closed already
      client.finishSending()
      let answers = client.receiveAll()
      // Of the server only whole acknowledgements ever come.
      #expect(answers.count % 6 == 0, "seed \(seed)")
      for i in stride(from: 0, to: answers.count, by: 6) { #expect(answers[i + 1] == 0x41) }
    }
    #expect(waitUntil { server.connectionCount == 0 && budget.used == 0 })
    let client = try TestClient(port: server.port)
    try client.send(Lumber.window(1) + Lumber.events(1))
    #expect(client.receive(exactly: 6) == Lumber.ack(1))
    server.stop(within: .zero) {}
  }

  @Test func `random bytes never harm the server`() throws {
    let server = try makeBeats(TestSink())
    var random = SeededRandom(11)
    for _ in 0..<50 {
      let client = try TestClient(port: server.port)
      var bytes = (0..<Int.random(in: 1...400, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
      if Bool.random(using: &random) { bytes = Lumber.window(3) + Array("2".utf8) + bytes }
      try? client.send(bytes)
      client.finishSending()
      _ = client.receiveAll()
    }
    #expect(waitUntil { server.connectionCount == 0 })
    server.stop(within: .zero) {}
  }

  @Test func `a thousand idle connections do not disturb others`() throws {
    let sink = TestSink()
    let server = try makeBeats(sink)
    var idle: [TestClient] = []
    for _ in 0..<1000 { idle.append(try TestClient(port: server.port)) }
    #expect(waitUntil { server.connectionCount == 1000 })
    let client = try TestClient(port: server.port)
    try client.send(Lumber.window(1) + Lumber.events(1))
    #expect(client.receive(exactly: 6) == Lumber.ack(1))
    for one in [idle[0], idle[500], idle[999]] {
      try one.send(Lumber.window(1) + Lumber.events(1))
      #expect(one.receive(exactly: 6) == Lumber.ack(1))
    }
    #expect(server.listener.peak.value == 1001)
    #expect(waitForStop { server.stop(within: .milliseconds(100), completion: $0) })
  }

  @Test func `an idle connection costs less than 8 KiB with its client`() async {
    await #expect(processExitsWith: .success) {
      let server = try makeBeats(TestSink())
      var idle = try (0..<100).map { _ in try TestClient(port: server.port) }  // what is paid once
      guard waitUntil({ server.connectionCount == 100 }) else { exit(2) }
      let before = residentBytes()
      for _ in 0..<1000 { idle.append(try TestClient(port: server.port)) }
      guard waitUntil({ server.connectionCount == 1100 }) else { exit(2) }
      let each = (residentBytes() - before) / 1000
      // A sanitizer's shadow memory is not ours to count.
      let isSanitized = dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
      if each >= 8 << 10, !isSanitized { exit(3) }
      exit(0)
    }
  }
}

private func residentBytes() -> Int {
  var buffer = [UInt8](repeating: 0, count: 256)
  let fd = open("/proc/self/statm", O_RDONLY)
  defer { close(fd) }
  let n = read(fd, &buffer, buffer.count)
  let parts = String(decoding: buffer.prefix(max(0, n)), as: UTF8.self).split(separator: " ")
  return parts.count > 1 ? (Int(parts[1]) ?? 0) * 4096 : 0
}
