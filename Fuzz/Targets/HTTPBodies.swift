//  The framing of HTTP requests on a connection: lengths, chunks, trailers, requests one behind the other. However the
//  bytes are cut into pieces, the same requests with the same bodies come out and get the same answers; no body is larger
//  than its limit; and what is broken ends the connection with one answer that says so.
//
//  The connection is the real one, over a pair of sockets, without its sources: the bytes are handed to it here.

import Diagnostics
@preconcurrency import Dispatch
import Glibc

@testable import Net

/// Takes every request and remembers it.
private final class Recorder: HTTPService {
  struct Reading {
    /// Method, target and body of each request that came whole.
    var requests: [String] = []
    /// Statuses of those that could not be understood.
    var refusals: [Int] = []
    var abandoned = 0
    var begun = 0
  }
  private let state = Lock(Reading())
  static let limits: HTTPLimits = {
    var limits = HTTPLimits()
    limits.headBytes = 2048
    limits.requestLineBytes = 512
    limits.headers = 20
    limits.bodyBytes = 4096
    limits.drainedBytes = 256
    return limits
  }()

  var reading: Reading { state.withLock { $0 } }

  func begin(_ request: HTTPRequest) -> HTTPResponse? {
    state.withLock { $0.begun += 1 }
    guard request.head.isMethod("REFUSE") else { return nil }
    state.withLock { $0.requests.append("refused \(request.head.target)") }
    return HTTPResponse(405, type: "text/plain", text: "no")
  }

  func handle(_ request: HTTPRequest) {
    let body = request.takeBody()
    if body.count > Recorder.limits.bodyBytes { finding("a body above the limit was taken: \(body.count) bytes") }
    if !request.head.isChunked, body.count != request.head.contentLength ?? 0 {
      finding("a body of \(body.count) bytes was taken for one of \(request.head.contentLength ?? 0)")
    }
    let text = "\(request.head.method) \(request.head.target) \(body.array())"
    state.withLock { $0.requests.append(text) }
    request.answer(HTTPResponse(200, type: "text/plain", text: "ok"))
  }

  func abandoned(_ request: HTTPRequest) { state.withLock { $0.abandoned += 1 } }

  func answer(to failure: HTTPFailure, peer: PeerAddress) -> HTTPResponse {
    if !(400...599).contains(failure.status) || failure.reason.isEmpty {
      finding("refused without a reason: \(failure)")
    }
    state.withLock { $0.refusals.append(failure.status) }
    return HTTPResponse(failure.status, type: "text/plain", text: failure.reason)
  }
}

/// One queue for all runs.
private let queues = IOQueues(count: 1)
private let connections = Gauge()

@Sendable func fuzzHTTPBodies(_ bytes: UnsafeRawBufferPointer) {
  guard let seed = bytes.first else { return }
  let session = Array(bytes.dropFirst().prefix(64 << 10))
  let whole = read(session) { session.count }
  var state = UInt32(seed) | 0x100
  let pieces = read(session) {
    state = state &* 1_664_525 &+ 1_013_904_223
    return 1 + Int(state >> 24) % (1 + Int(seed))
  }
  // Which of two faults is seen first may depend on the pieces; that there is one does not.
  let isSame =
    whole.reading.requests == pieces.reading.requests
    && whole.reading.refusals.count == pieces.reading.refusals.count && whole.reading.begun == pieces.reading.begun
    && whole.reading.abandoned == pieces.reading.abandoned
  if !isSame {
    finding("cut into pieces it is read otherwise: \(whole.reading) \(pieces.reading)")
  }
  // Each request, and each that was refused, has one answer; only 100 Continue comes beside it.
  for run in [whole, pieces] {
    let answers = run.statuses.filter { $0 != 100 }
    let refused = run.reading.refusals.count
    if answers.count != run.reading.requests.count + refused {
      finding("\(run.reading.requests.count) requests and \(refused) refusals, and answers \(answers)")
    }
    if refused > 1 { finding("the connection went on behind a request that was not understood") }
  }
}

private func read(_ session: [UInt8], _ pieceCount: () -> Int) -> (reading: Recorder.Reading, statuses: [Int]) {
  var ends: [CInt] = [-1, -1]
  let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
  guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { finding("no sockets: \(errno)") }
  let (server, client) = (ends[0], ends[1])
  defer { close(client) }
  let recorder = Recorder()
  let queue = queues.all[0]
  let nobody = PeerAddress(ip: "", port: 0)
  connections.add(1)
  let connection = Connection(fd: server, peer: nobody, local: nobody, queue: queue, current: connections)
  let handler = queue.dispatch.sync {
    connection.state = .open
    let made = HTTPServerConnection(connection, service: recorder, limits: Recorder.limits)
    connection.handler = made
    return made
  }
  var held: [UInt8] = []
  var position = 0
  var received: [UInt8] = []
  var isOpen = true
  func drain() {
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let n = recv(client, &buffer, buffer.count, 0)
      if n <= 0 { return }
      received += buffer[..<n]
    }
  }
  while isOpen, position < session.count {
    let count = min(max(1, pieceCount()), session.count - position)
    held += session[position..<position + count]
    position += count
    while isOpen, !held.isEmpty {
      let used = held.withUnsafeBytes { bytes in
        queue.dispatch.sync { handler.received(bytes, on: connection) }
      }
      held.removeFirst(used)
      // What the service has answered is sent behind what stands on the queue already.
      isOpen = queue.dispatch.sync { connection.isOpen }
      drain()
      if used == 0 { break }
    }
  }
  queue.dispatch.sync { connection.close() }
  drain()
  return (recorder.reading, statuses(received))
}

/// The statuses of answers that stand one behind the other.
private func statuses(_ bytes: [UInt8]) -> [Int] {
  var result: [Int] = []
  for line in String(decoding: bytes, as: UTF8.self).split(separator: "\r\n") {
    // Bodies here hold no line of their own, so the next status line may follow one directly.
    guard let at = line.firstRange(of: "HTTP/1.1 "), let status = Int(line[at.upperBound...].prefix(3)) else {
      continue
    }
    result.append(status)
  }
  return result
}
