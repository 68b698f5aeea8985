//  A request as a service sees it, and its answer.

public import Diagnostics
internal import Glibc
internal import Synchronization

/// An answer. `Content-Length`, `Date` and `Connection` are added when it is sent.
public struct HTTPResponse: Sendable {
  public var status: Int
  public var headers: [(name: String, value: String)]
  public var body: [UInt8]
  /// Close the connection after this answer.
  public var closes = false

  public init(_ status: Int, headers: [(name: String, value: String)] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  public init(_ status: Int, type: String, text: String) {
    self.init(status, headers: [("Content-Type", type)], body: Array(text.utf8))
  }

  static func reason(_ status: Int) -> String {
    switch status {
    case 100: "Continue"
    case 200: "OK"
    case 201: "Created"
    case 202: "Accepted"
    case 204: "No Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 304: "Not Modified"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 406: "Not Acceptable"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 411: "Length Required"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 415: "Unsupported Media Type"
    case 417: "Expectation Failed"
    case 422: "Unprocessable Content"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 505: "HTTP Version Not Supported"
    default: "Status"
    }
  }

  /// Status line and headers, with the empty line. A line feed in a header's value is written as a blank.
  func appendHead(to out: inout ByteBuffer, length: Int?, isChunked: Bool, closes: Bool, isOld: Bool) {
    out.append("HTTP/1.1 ")
    out.append(decimal: status)
    out.append(text: " \(HTTPResponse.reason(status))\r\nDate: ")
    appendDate(to: &out)
    out.append("\r\n")
    for (name, value) in headers {
      out.append(text: name)
      out.append(": ")
      for byte in value.utf8 { out.append(byte == 13 || byte == 10 || byte == 0 ? 32 : byte) }
      out.append("\r\n")
    }
    if let length, status != 204, status >= 200 {
      out.append("Content-Length: ")
      out.append(decimal: length)
      out.append("\r\n")
    }
    if isChunked { out.append("Transfer-Encoding: chunked\r\n") }
    if closes {
      out.append("Connection: close\r\n")
    } else if isOld {
      out.append("Connection: keep-alive\r\n")
    }
    out.append("\r\n")
  }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
private func appendDate(to out: inout ByteBuffer) {
  var seconds = time_t(WallClock.ns / 1_000_000_000)
  var parts = tm()
  gmtime_r(&seconds, &parts)
  let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
  out.append(text: days[Int(parts.tm_wday) % 7])
  out.append(", ")
  out.append(decimal: Int(parts.tm_mday), width: 2)
  out.append(32)
  out.append(text: months[Int(parts.tm_mon) % 12])
  out.append(32)
  out.append(decimal: Int(parts.tm_year) + 1900, width: 4)
  out.append(32)
  out.append(decimal: Int(parts.tm_hour), width: 2)
  out.append(58)
  out.append(decimal: Int(parts.tm_min), width: 2)
  out.append(58)
  out.append(decimal: Int(parts.tm_sec), width: 2)
  out.append(" GMT")
}

/// A whole request. Handed to the service, which answers it once, from any thread, now or later.
public final class HTTPRequest: @unchecked Sendable {  // unchecked: handed on to the service, not shared
  public let head: HTTPHead
  public let peer: PeerAddress
  public let tlsIdentity: TLSIdentity?
  /// Decoded from chunks, not from `Content-Encoding`.
  public internal(set) var body = ByteBuffer()
  public let startedAt = Instant.now
  /// What the service wants to remember between `begin` and `handle`; it alone uses this.
  public var reservedBytes = 0

  private let connection: HTTPServerConnection
  private let answered = Atomic<Bool>(false)
  /// Its answer was given. Any thread.
  public var isAnswered: Bool { answered.load(ordering: .acquiring) }

  init(head: HTTPHead, connection: HTTPServerConnection, peer: PeerAddress, tlsIdentity: TLSIdentity?) {
    self.head = head
    self.connection = connection
    self.peer = peer
    self.tlsIdentity = tlsIdentity
  }

  /// Takes the body; the request holds an empty one afterwards.
  public func takeBody() -> ByteBuffer {
    var taken = ByteBuffer()
    swap(&taken, &body)
    return taken
  }

  /// Sends the answer. Any thread; a second answer is ignored.
  public func answer(_ response: HTTPResponse) {
    guard !answered.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let connection = self.connection
    connection.queue.async { connection.send(response, for: self) }
  }

  /// Runs `body` on the connection's queue after a while, for an answer that is not there yet. Any thread.
  public func later(after wait: Duration, _ body: @escaping @Sendable () -> Void) {
    connection.queue.async(after: wait, body)
  }

  /// Begins an answer whose length is not known yet. Any thread.
  ///
  /// - Returns: nil when the request was answered already.
  public func beginStream(_ response: HTTPResponse) -> HTTPResponseStream? {
    guard !answered.exchange(true, ordering: .acquiringAndReleasing) else { return nil }
    let connection = self.connection
    let stream = HTTPResponseStream(connection)
    connection.queue.async { connection.begin(stream, response, for: self) }
    return stream
  }
}

/// An answer that goes out in pieces, as long as the client takes them. Any thread.
public final class HTTPResponseStream: Sendable {
  private let connection: HTTPServerConnection
  private let waiting = Atomic<Int>(0)
  private let closedFlag = Atomic<Bool>(false)

  init(_ connection: HTTPServerConnection) { self.connection = connection }

  /// The client has gone or the stream was ended; writing on is useless.
  public var isClosed: Bool { closedFlag.load(ordering: .acquiring) }
  /// Bytes not yet taken by the client. Who writes much drops or waits while this is large.
  public var waitingBytes: Int { waiting.load(ordering: .relaxed) }

  public func write(_ bytes: [UInt8]) {
    guard !isClosed, !bytes.isEmpty else { return }
    waiting.wrappingAdd(bytes.count, ordering: .relaxed)
    connection.queue.async { [self] in
      let unsent = connection.write(bytes, of: self)
      waiting.wrappingSubtract(bytes.count, ordering: .relaxed)
      if unsent > HTTPResponseStream.unsentLimitBytes { connection.abandon(self) }
    }
  }

  /// Waits until the client has taken all but `limit` bytes. For threads that may wait, never on an I/O queue.
  ///
  /// - Returns: False where it has not by `deadline`, or has gone.
  public func waitForRoom(below limit: Int, until deadline: Instant) -> Bool {
    while !isClosed {
      let unsent = Gate<Int?>(nil)
      connection.queue.async { [self] in
        let count = connection.unsentBytes(of: self)
        unsent.update { $0 = count }
      }
      guard let count = unsent.wait(until: deadline, { $0 }) else { return false }
      if count <= limit { return !isClosed }
      _ = unsent.wait(until: min(deadline, Instant.now + .milliseconds(20))) { _ in nil as Bool? }
      if Instant.now >= deadline { return false }
    }
    return false
  }

  /// Breaks the connection off, so that the client sees that the answer is not whole.
  public func abort() {
    guard !closedFlag.exchange(true, ordering: .acquiringAndReleasing) else { return }
    connection.queue.async { [self] in connection.abandon(self) }
  }

  public func end() {
    guard !closedFlag.exchange(true, ordering: .acquiringAndReleasing) else { return }
    connection.queue.async { [self] in connection.end(self) }
  }

  /// A client that lets this much pile up is cut off.
  static let unsentLimitBytes = 8 << 20

  func markClosed() { closedFlag.store(true, ordering: .releasing) }
}
