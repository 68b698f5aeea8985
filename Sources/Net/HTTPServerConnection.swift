//  The server's side of one HTTP/1.1 connection: heads, bodies, chunks, keep-alive, time limits.
//
//  Design. One request at a time: while a service works on one, further bytes wait, so answers leave in the order of
//  the requests without any bookkeeping, and a client that pipelines without reading holds back itself. A request that
//  cannot be understood is answered and the connection closed, since nothing after it can be trusted.

public import Diagnostics
internal import Glibc

/// What answers requests. Called on the connection's queue; must not block.
public protocol HTTPService: AnyObject, Sendable {
  /// The head has come. Returns an answer that refuses the request before its body is read, or nil to go on.
  func begin(_ request: HTTPRequest) -> HTTPResponse?
  /// The body has grown by `count` bytes. Returns an answer that refuses the request, or nil to go on.
  func grow(_ request: HTTPRequest, by count: Int) -> HTTPResponse?
  /// The request is whole. Answer it once with `request.answer`, now or later, from any thread.
  func handle(_ request: HTTPRequest)
  /// A request that had begun will not come to `handle`.
  func abandoned(_ request: HTTPRequest)
  /// The answer to a request that could not be understood.
  func answer(to failure: HTTPFailure, peer: PeerAddress) -> HTTPResponse
  /// The connection has closed.
  func closed(_ connection: HTTPServerConnection, _ reason: CloseReason)
}

extension HTTPService {
  public func grow(_ request: HTTPRequest, by count: Int) -> HTTPResponse? { nil }
  public func abandoned(_ request: HTTPRequest) {}
  public func answer(to failure: HTTPFailure, peer: PeerAddress) -> HTTPResponse {
    HTTPResponse(failure.status, type: "text/plain", text: failure.reason + "\n")
  }
  public func closed(_ connection: HTTPServerConnection, _ reason: CloseReason) {}
}

/// Confined to `queue`.
public final class HTTPServerConnection: ConnectionHandler, StoppableConnection, @unchecked Sendable {
  // unchecked: confined to `queue`
  public let queue: IOQueue
  public var peer: PeerAddress { connection.peer }
  private let connection: Connection
  private let service: any HTTPService
  private let limits: HTTPLimits

  private enum Phase: Equatable {
    case head
    case body(left: Int)
    case chunkSize
    case chunk(left: Int)
    case chunkEnd
    case trailers(read: Int)
    /// A refused body is read past.
    case draining(left: Int)
    case handling
    case dead
  }
  private var phase = Phase.head
  private var scanned = 0
  private var request: HTTPRequest?
  private var stream: HTTPResponseStream?
  private var isStopping = false

  public init(_ connection: Connection, service: any HTTPService, limits: HTTPLimits = HTTPLimits()) {
    self.connection = connection
    self.service = service
    self.limits = limits
    queue = connection.queue
    connection.deadline = .now + limits.headTimeout
  }

  /// Closes now if nothing is under way, else after the present answer.
  public func stop() {
    isStopping = true
    if phase == .head { connection.finish() }
  }

  /// Closes at once, also with an answer outstanding.
  public func abort() { connection.close() }

  // MARK: Bytes

  public func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
    var used = 0
    while used < bytes.count {
      let left = UnsafeRawBufferPointer(rebasing: bytes[used...])
      let step: Int
      do throws(HTTPFailure) {
        step = try take(left)
      } catch {
        fail(error)
        return bytes.count
      }
      used += step
      if phase == .dead { return bytes.count }
      if phase == .handling {
        if used < bytes.count { connection.pauseReading() }
        return used
      }
      if step == 0 { return used }
    }
    return used
  }

  /// Takes what the present phase can use from the front; 0 when more is needed.
  private func take(_ bytes: UnsafeRawBufferPointer) throws(HTTPFailure) -> Int {
    switch phase {
    case .head: return try takeHead(bytes)
    case .body(let left):
      let n = min(left, bytes.count)
      guard grow(UnsafeRawBufferPointer(rebasing: bytes[..<n])) else { return n }
      phase = .body(left: left - n)
      if n == left { complete() }
      return n
    case .chunkSize: return try takeChunkSize(bytes)
    case .chunk(let left):
      let n = min(left, bytes.count)
      guard grow(UnsafeRawBufferPointer(rebasing: bytes[..<n])) else { return n }
      phase = n == left ? .chunkEnd : .chunk(left: left - n)
      return n
    case .chunkEnd:
      guard bytes.count >= 2 else { return 0 }
      guard bytes[0] == 13, bytes[1] == 10 else { throw HTTPFailure(400, "a chunk does not end in CR LF") }
      phase = .chunkSize
      return 2
    case .trailers(let read):
      guard let line = try lineLength(bytes, limit: limits.headBytes - read) else { return 0 }
      if line == 0 { complete() } else { phase = .trailers(read: read + line + 2) }
      return line + 2
    case .draining(let left):
      let n = min(left, bytes.count)
      phase = n == left ? .head : .draining(left: left - n)
      if n == left { awaitRequest() }
      return n
    case .handling, .dead: return 0
    }
  }

  private func takeHead(_ bytes: UnsafeRawBufferPointer) throws(HTTPFailure) -> Int {
    // An empty line before a request is skipped (RFC 9112 section 2.2).
    if bytes[0] == 13 {
      if bytes.count < 2 { return 0 }
      guard bytes[1] == 10 else { throw HTTPFailure(400, "a line does not end in CR LF") }
      return 2
    }
    if scanned == 0 { connection.deadline = .now + limits.headTimeout }
    let first = bytes[0]
    guard isTokenByte(first) else {
      throw HTTPFailure(400, first == 0x16 ? "this port does not speak TLS" : "this is not HTTP")
    }
    guard let length = try headLength(bytes) else { return 0 }
    scanned = 0
    let head = try HTTPHead(UnsafeRawBufferPointer(rebasing: bytes[..<length]), limits: limits)
    try begin(head)
    return length
  }

  /// Length of the head with its empty line; nil when that has not come. Looks at each byte once over all calls.
  private func headLength(_ bytes: UnsafeRawBufferPointer) throws(HTTPFailure) -> Int? {
    guard let base = bytes.baseAddress else { return nil }
    var i = scanned
    while i < bytes.count, let hit = memchr(base + i, 10, bytes.count - i) {
      let at = UnsafeRawPointer(hit) - base
      guard at > 0, bytes[at - 1] == 13 else { throw HTTPFailure(400, "a line does not end in CR LF") }
      i = at + 1
      if at >= 3, bytes[at - 2] == 10 {
        guard i <= limits.headBytes else { break }
        return i
      }
    }
    scanned = bytes.count
    guard bytes.count < limits.headBytes else {
      let isLine = memchr(base, 10, min(bytes.count, limits.requestLineBytes)) == nil
      throw isLine
        ? HTTPFailure(414, "the request line is too long")
        : HTTPFailure(431, "the head is larger than \(limits.headBytes) bytes")
    }
    return nil
  }

  private func begin(_ head: HTTPHead) throws(HTTPFailure) {
    let request = HTTPRequest(
      head: head, connection: self, peer: connection.peer, tlsIdentity: connection.tlsIdentity)
    let length = head.contentLength ?? 0
    self.request = request
    if let refusal = service.begin(request) {
      return refuse(refusal, unread: head.isChunked || head.expectsContinue ? .max : length)
    }
    if length > limits.bodyBytes {
      service.abandoned(request)
      return refuse(service.answer(to: tooLarge, peer: connection.peer), unread: length)
    }
    if head.expectsContinue, head.isChunked || length > 0 {
      connection.send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
    }
    connection.deadline = .now + limits.bodyTimeout
    if head.isChunked {
      phase = .chunkSize
    } else if length > 0 {
      phase = .body(left: length)
    } else {
      complete()
    }
  }

  private var tooLarge: HTTPFailure { HTTPFailure(413, "the body is larger than \(limits.bodyBytes) bytes") }

  private func takeChunkSize(_ bytes: UnsafeRawBufferPointer) throws(HTTPFailure) -> Int {
    guard let line = try lineLength(bytes, limit: 1024) else { return 0 }
    var size = 0
    var digits = 0
    for byte in bytes[..<line] {
      guard let digit = hexDigit(byte) else { break }
      digits += 1
      guard digits <= 15 else { throw HTTPFailure(400, "a chunk size is too long") }
      size = size << 4 | digit
    }
    guard digits > 0, digits == line || [59, 32, 9].contains(bytes[digits]) else {
      throw HTTPFailure(400, "a chunk size is no hexadecimal number")
    }
    guard let request, size <= limits.bodyBytes - request.body.count else { throw tooLarge }
    phase = size == 0 ? .trailers(read: 0) : .chunk(left: size)
    return line + 2
  }

  /// Length of the line at the front without its CR LF; nil when its end has not come.
  private func lineLength(_ bytes: UnsafeRawBufferPointer, limit: Int) throws(HTTPFailure) -> Int? {
    guard let base = bytes.baseAddress, let hit = memchr(base, 10, min(bytes.count, max(0, limit))) else {
      guard bytes.count < limit else { throw HTTPFailure(431, "a chunk's line or the trailers are too long") }
      return nil
    }
    let at = UnsafeRawPointer(hit) - base
    guard at > 0, bytes[at - 1] == 13 else { throw HTTPFailure(400, "a line does not end in CR LF") }
    return at - 1
  }

  /// Adds to the body; false when the service refused.
  private func grow(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let request else { return false }
    if let refusal = service.grow(request, by: bytes.count) {
      refuse(refusal, unread: .max)
      return false
    }
    request.body.append(bytes)
    let sinceStart = (Instant.now - request.startedAt).ns
    let allowed = limits.bodyTimeout.ns / 1_000_000_000 + Int64(request.body.count / max(1, limits.bodyRateMin))
    let left = max(0, allowed * 1_000_000_000 - sinceStart)
    connection.deadline = .now + min(limits.bodyTimeout, .nanoseconds(left))
    return true
  }

  private func complete() {
    guard let request else { return }
    phase = .handling
    connection.deadline = nil
    service.handle(request)
  }

  // MARK: Answers

  /// Answers before the body was read, and reads past it if it is small.
  private func refuse(_ response: HTTPResponse, unread: Int) {
    let canGoOn = unread <= limits.drainedBytes && request?.head.keepsAlive == true && !response.closes && !isStopping
    write(response, head: request?.head, closes: !canGoOn)
    request = nil
    if !canGoOn {
      phase = .dead
      connection.finish()
    } else if unread > 0 {
      phase = .draining(left: unread)
      connection.deadline = .now + limits.bodyTimeout
    } else {
      awaitRequest()
    }
  }

  private func fail(_ failure: HTTPFailure) {
    if let request { service.abandoned(request) }
    write(service.answer(to: failure, peer: connection.peer), head: request?.head, closes: true)
    request = nil
    phase = .dead
    connection.finish()
  }

  func send(_ response: HTTPResponse, for request: HTTPRequest) {
    guard self.request === request, phase == .handling else { return }
    let closes = !request.head.keepsAlive || response.closes || isStopping || connection.isPeerFinished
    write(response, head: request.head, closes: closes)
    finishAnswer(closes: closes)
  }

  private func finishAnswer(closes: Bool) {
    request = nil
    stream = nil
    if closes {
      phase = .dead
      connection.finish()
    } else {
      awaitRequest()
    }
  }

  private func awaitRequest() {
    phase = .head
    scanned = 0
    connection.deadline = .now + limits.idleTimeout
    if connection.isPaused { connection.resumeReading() }
  }

  private func write(_ response: HTTPResponse, head: HTTPHead?, closes: Bool) {
    var out = ByteBuffer(capacity: 256 + response.body.count)
    response.appendHead(
      to: &out, length: response.body.count, isChunked: false, closes: closes, isOld: head?.minorVersion == 0)
    if head?.isMethod("HEAD") != true, response.status != 204, response.status != 304 {
      out.append(contentsOf: response.body)
    }
    connection.send(out.bytes)
  }

  // MARK: Streams

  func begin(_ stream: HTTPResponseStream, _ response: HTTPResponse, for request: HTTPRequest) {
    guard self.request === request, phase == .handling else { return stream.markClosed() }
    self.stream = stream
    var out = ByteBuffer(capacity: 256)
    // HTTP/1.0 knows no chunks: its answer ends with the connection.
    let isOld = request.head.minorVersion == 0
    response.appendHead(
      to: &out, length: nil, isChunked: !isOld, closes: isOld || !request.head.keepsAlive, isOld: isOld)
    connection.send(out.bytes)
  }

  /// - Returns: Bytes that the socket has not taken.
  func write(_ bytes: [UInt8], of stream: HTTPResponseStream) -> Int {
    guard self.stream === stream, let request, !request.head.isMethod("HEAD") else { return 0 }
    if request.head.minorVersion == 0 {
      connection.send(bytes)
    } else {
      var out = ByteBuffer(capacity: bytes.count + 32)
      out.append(text: String(bytes.count, radix: 16))
      out.append("\r\n")
      out.append(contentsOf: bytes)
      out.append("\r\n")
      connection.send(out.bytes)
    }
    return connection.unsentBytes
  }

  func end(_ stream: HTTPResponseStream) {
    guard self.stream === stream, let request else { return }
    let isOld = request.head.minorVersion == 0
    if !isOld, !request.head.isMethod("HEAD") { connection.send(Array("0\r\n\r\n".utf8)) }
    finishAnswer(closes: isOld || !request.head.keepsAlive || isStopping || connection.isPeerFinished)
  }

  func abandon(_ stream: HTTPResponseStream) {
    guard self.stream === stream else { return }
    connection.close()
  }

  // MARK: The rest of the connection's life

  public func peerFinished(_ connection: Connection) {
    if phase != .handling { connection.finish() }
  }

  public func deadlinePassed(_ connection: Connection, now: Instant) {
    switch phase {
    case .handling, .dead: return
    case .head where scanned == 0: connection.finish()
    case .draining: connection.finish()
    default: fail(HTTPFailure(408, "the request took too long to come"))
    }
  }

  public func closed(_ connection: Connection, _ reason: CloseReason) {
    if let request, phase != .handling { service.abandoned(request) }
    request = nil
    stream?.markClosed()
    stream = nil
    phase = .dead
    service.closed(self, reason)
  }
}

private func hexDigit(_ byte: UInt8) -> Int? {
  switch byte {
  case 48...57: Int(byte) - 48
  case 65...70: Int(byte) - 55
  case 97...102: Int(byte) - 87
  default: nil
  }
}
