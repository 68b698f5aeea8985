//  What the tests of the network inputs share: a sink that can be held back, and a blocking client.

import Diagnostics
import Glibc
import Inputs
import Net
import Records

/// One set of I/O queues for all tests of this target.
let testQueues = IOQueues(count: 2)

/// Keeps payloads in memory; answers at once, or when told to.
final class TestSink: RecordSink {
  enum Mode { case keep, hold, fail(AppendFailure) }
  struct Batch: Sendable { var payloads: [[UInt8]]; var context: String; var descriptor: String }
  private struct State {
    var mode = Mode.keep
    var batches: [Batch] = []
    var held: [(Batch, @Sendable (Result<Void, AppendFailure>) -> Void)] = []
    var room = true
  }
  private let state = Gate(State())

  init(_ mode: Mode = .keep) { state.update { $0.mode = mode } }

  func append(_ batch: RecordBatch, completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void) {
    let copy = Batch(
      payloads: (0..<batch.count).map { batch.withPayload($0) { Array($0) } },
      context: batch.context.map { String(decoding: $0.bytes, as: UTF8.self) } ?? "",
      descriptor: String(decoding: batch.descriptor.bytes, as: UTF8.self))
    let result = state.update { state -> Result<Void, AppendFailure>? in
      switch state.mode {
      case .keep:
        state.batches.append(copy)
        return .success(())
      case .hold:
        state.held.append((copy, completion))
        return nil
      case .fail(let failure): return .failure(failure)
      }
    }
    if let result { completion(result) }
  }

  var hasRoom: Bool { state.withLock { $0.room } }
  func setRoom(_ room: Bool) { state.update { $0.room = room } }
  func setMode(_ mode: Mode) { state.update { $0.mode = mode } }

  var batches: [Batch] { state.withLock { $0.batches } }
  var payloads: [[UInt8]] { batches.flatMap(\.payloads) }
  var texts: [String] { payloads.map { String(decoding: $0, as: UTF8.self) } }
  var heldCount: Int { state.withLock { $0.held.count } }

  /// Waits until `count` records are kept; false after ten seconds.
  func waitForRecords(_ count: Int) -> Bool {
    state.wait(until: .now + .seconds(10)) { state in
      state.batches.reduce(0) { $0 + $1.payloads.count } >= count ? true : nil
    } ?? false
  }

  func waitForHeld(_ count: Int) -> Bool {
    state.wait(until: .now + .seconds(10)) { $0.held.count >= count ? true : nil } ?? false
  }

  /// Answers the held batch number `i`, counted among those still held.
  func release(_ i: Int = 0, _ result: Result<Void, AppendFailure> = .success(())) {
    let completion = state.update { state -> (@Sendable (Result<Void, AppendFailure>) -> Void)? in
      guard state.held.indices.contains(i) else { return nil }
      let (batch, completion) = state.held.remove(at: i)
      if case .success = result { state.batches.append(batch) }
      return completion
    }
    completion?(result)
  }
}

/// Lines that the log wrote while a test ran are not collected: the log is the process's. Tests look at metrics.
struct SocketFailure: Error, CustomStringConvertible {
  var description: String
}

/// A blocking TCP client; every wait ends after ten seconds.
final class TestClient {
  let fd: CInt

  init(port: Int, receiveBufferBytes: CInt? = nil) throws {
    fd = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    guard fd >= 0 else { throw SocketFailure(description: "socket") }
    var one: CInt = 1
    setsockopt(fd, CInt(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(4))
    if var size = receiveBufferBytes { setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(4)) }
    var wait = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
    guard status == 0 else {
      let code = errno
      close(fd)
      throw SocketFailure(description: "connect: \(code)")
    }
  }

  deinit { close(fd) }

  func send(_ bytes: [UInt8]) throws {
    var offset = 0
    while offset < bytes.count {
      let n = bytes.withUnsafeBytes {
        Glibc.send(fd, $0.baseAddress.map { $0 + offset }, bytes.count - offset, CInt(MSG_NOSIGNAL))
      }
      guard n > 0 else { throw SocketFailure(description: "send: \(errno)") }
      offset += n
    }
  }
  func send(_ text: String) throws { try send(Array(text.utf8)) }

  /// Sends in pieces of the given sizes, over and over.
  func send(_ bytes: [UInt8], pieces: () -> Int) throws {
    var offset = 0
    while offset < bytes.count {
      let n = min(bytes.count - offset, max(1, pieces()))
      try send(Array(bytes[offset..<(offset + n)]))
      offset += n
    }
  }

  func finishSending() { shutdown(fd, CInt(SHUT_WR)) }

  /// Closes with a reset.
  func reset() {
    var linger = linger(l_onoff: 1, l_linger: 0)
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
  }

  /// Up to `limit` bytes; empty at the end of the stream, nil after ten seconds or a reset.
  func receive(_ limit: Int = 65_536) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: limit)
    let n = recv(fd, &buffer, limit, 0)
    return n < 0 ? nil : Array(buffer[..<n])
  }

  func receive(exactly count: Int) -> [UInt8] {
    var all: [UInt8] = []
    while all.count < count, let more = receive(count - all.count), !more.isEmpty { all += more }
    return all
  }

  /// All bytes to the end of the stream.
  func receiveAll() -> [UInt8] {
    var all: [UInt8] = []
    while let more = receive(), !more.isEmpty { all += more }
    return all
  }

  /// True when nothing comes within `ms`.
  func isSilent(ms: Int) -> Bool {
    var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, CInt(ms)) == 0
  }
}

/// A small deterministic generator (SplitMix64), so that a failing seed can be run again.
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// Waits for a condition that another thread brings about; false after ten seconds.
func waitUntil(_ condition: () -> Bool) -> Bool {
  let deadline = Instant.now + .seconds(10)
  while !condition() {
    if Instant.now > deadline { return false }
    usleep(2000)
  }
  return true
}

/// Runs a server's stop and waits for its completion.
func waitForStop(_ stop: (@escaping @Sendable () -> Void) -> Void) -> Bool {
  let gate = Gate(false)
  stop { gate.update { $0 = true } }
  return gate.wait(until: .now + .seconds(10)) { $0 ? true : nil } ?? false
}

let testDescriptor = RecordDescriptor(Array("{\"codec\":\"plain\"}".utf8))
