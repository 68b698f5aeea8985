//  The head of an HTTP/1.1 request (RFC 9112), parsed strictly: what two readers could understand in two ways is
//  refused, since a proxy in front would be the other reader.
//
//  A head is kept as its bytes and ranges in them; a header becomes a `String` only for who asks.

internal import Glibc

public struct HTTPLimits: Sendable {
  /// Request line and headers together; trailers of a chunked body have the same bound.
  public var headBytes = 32 << 10
  public var requestLineBytes = 8 << 10
  public var headers = 100
  /// Bodies above this are answered 413.
  public var bodyBytes = 100 << 20
  /// From the first byte of a head to its last.
  public var headTimeout = Duration.seconds(20)
  /// Between two pieces of a body.
  public var bodyTimeout = Duration.seconds(30)
  /// Average rate of a body that takes longer than `bodyTimeout`, bytes a second.
  public var bodyRateMin = 1024
  /// Between two requests of a connection.
  public var idleTimeout = Duration.seconds(75)
  /// A refused body of at most this is read past, so that the connection can go on.
  public var drainedBytes = 64 << 10

  public init() {}
}

/// Why a request cannot be understood; becomes the answer.
public struct HTTPFailure: Error, Equatable, Sendable {
  public var status: Int
  /// One sentence without a full stop.
  public var reason: String

  public init(_ status: Int, _ reason: String) {
    self.status = status
    self.reason = reason
  }
}

public struct HTTPHead: Sendable {
  public let bytes: [UInt8]
  private let methodEnd: Int
  private let targetEnd: Int
  /// 0 or 1: HTTP/1.0 or HTTP/1.1.
  public let minorVersion: Int
  private struct Field { var nameStart, nameEnd, valueStart, valueEnd: Int32 }
  private var fields: [Field] = []
  public private(set) var contentLength: Int?
  public private(set) var isChunked = false
  public private(set) var keepsAlive: Bool
  public private(set) var expectsContinue = false

  /// - Parameter bytes: A whole head with its closing empty line.
  public init(_ bytes: UnsafeRawBufferPointer, limits: HTTPLimits) throws(HTTPFailure) {
    self.bytes = Array(bytes)
    let text = self.bytes
    guard let lineEnd = text.firstIndex(of: 13) else { throw HTTPFailure(400, "the request line does not end") }
    guard lineEnd <= limits.requestLineBytes else { throw HTTPFailure(414, "the request line is too long") }
    guard let first = text[..<lineEnd].firstIndex(of: 32), first > 0, text[..<first].allSatisfy(isTokenByte) else {
      throw HTTPFailure(400, "the request line has no method")
    }
    guard let second = text[(first + 1)..<lineEnd].firstIndex(of: 32), second > first + 1,
      text[(first + 1)..<second].allSatisfy({ $0 > 32 && $0 != 127 })
    else { throw HTTPFailure(400, "the request line has no target") }
    let version = text[(second + 1)..<lineEnd]
    guard version.count == 8, version.starts(with: "HTTP/".utf8), version[second + 7] == UInt8(ascii: "."),
      isDigit(version[second + 6]), isDigit(version[second + 8])
    else { throw HTTPFailure(400, "the request line has no HTTP version") }
    guard version[second + 6] == UInt8(ascii: "1") else { throw HTTPFailure(505, "only HTTP/1.1 and HTTP/1.0 are spoken here") }
    methodEnd = first
    targetEnd = second
    minorVersion = version[second + 8] == UInt8(ascii: "0") ? 0 : 1
    keepsAlive = minorVersion == 1
    try readFields(from: lineEnd + 2, limits)
    try interpret()
  }

  private mutating func readFields(from start: Int, _ limits: HTTPLimits) throws(HTTPFailure) {
    var i = start
    while i < bytes.count, bytes[i] != 13 {
      guard let end = bytes[i...].firstIndex(of: 13), end + 1 < bytes.count, bytes[end + 1] == 10 else {
        throw HTTPFailure(400, "a header line does not end in CR LF")
      }
      guard fields.count < limits.headers else { throw HTTPFailure(431, "more than \(limits.headers) headers") }
      // A line that begins with a blank continues the one before (obs-fold), which RFC 9112 section 5.2 has refused.
      guard let colon = bytes[i..<end].firstIndex(of: 58), colon > i, bytes[i..<colon].allSatisfy(isTokenByte) else {
        throw HTTPFailure(400, "a header has no valid name")
      }
      var valueStart = colon + 1
      var valueEnd = end
      while valueStart < valueEnd, isBlank(bytes[valueStart]) { valueStart += 1 }
      while valueEnd > valueStart, isBlank(bytes[valueEnd - 1]) { valueEnd -= 1 }
      guard bytes[valueStart..<valueEnd].allSatisfy({ ($0 >= 32 || $0 == 9) && $0 != 127 }) else {
        throw HTTPFailure(400, "a header value holds a control character")
      }
      fields.append(
        Field(
          nameStart: Int32(i), nameEnd: Int32(colon), valueStart: Int32(valueStart), valueEnd: Int32(valueEnd)))
      i = end + 2
    }
  }

  private mutating func interpret() throws(HTTPFailure) {
    for name in ["host", "content-length", "transfer-encoding", "content-type", "content-encoding", "authorization", "expect"]
    where count(of: name) > 1 {
      throw HTTPFailure(400, "the header '\(name)' stands twice")
    }
    if minorVersion == 1, count(of: "host") == 0 { throw HTTPFailure(400, "the header 'host' is missing") }
    if let length = header("content-length") {
      guard !length.isEmpty, length.utf8.count <= 18, length.utf8.allSatisfy(isDigit), let n = Int(length) else {
        throw HTTPFailure(400, "'content-length' is no number")
      }
      contentLength = n
    }
    if let coding = header("transfer-encoding") {
      guard contentLength == nil else {
        throw HTTPFailure(400, "'content-length' and 'transfer-encoding' exclude each other")
      }
      guard minorVersion == 1 else { throw HTTPFailure(400, "HTTP/1.0 has no 'transfer-encoding'") }
      guard coding.lowercased() == "chunked" else { throw HTTPFailure(501, "the only transfer coding here is 'chunked'") }
      isChunked = true
    }
    for field in fields where isName(field, "connection") {
      for token in text(field.valueStart, field.valueEnd).lowercased().split(separator: ",") {
        switch token.drop(while: { $0 == " " || $0 == "\t" }).prefix(while: { $0 != " " && $0 != "\t" }) {
        case "close": keepsAlive = false
        case "keep-alive" where minorVersion == 0: keepsAlive = true
        default: break
        }
      }
    }
    if let expect = header("expect") {
      guard expect.lowercased() == "100-continue" else { throw HTTPFailure(417, "the only expectation here is '100-continue'") }
      expectsContinue = minorVersion == 1
    }
  }

  // MARK: Looking

  public var method: String { text(0, Int32(methodEnd)) }
  /// As sent, with the query.
  public var target: String { text(Int32(methodEnd + 1), Int32(targetEnd)) }
  /// The target up to `?`.
  public var path: String { String(decoding: bytes[(methodEnd + 1)..<targetEnd].prefix { $0 != 63 }, as: UTF8.self) }
  /// What follows `?`; nil where there is none.
  public var query: String? {
    guard let mark = bytes[(methodEnd + 1)..<targetEnd].firstIndex(of: 63) else { return nil }
    return String(decoding: bytes[(mark + 1)..<targetEnd], as: UTF8.self)
  }

  public func isMethod(_ name: String) -> Bool { bytes[..<methodEnd].elementsEqual(name.utf8) }

  /// The value of the first header `name` (in lower case); nil where there is none.
  public func header(_ name: String) -> String? {
    for field in fields where isName(field, name) { return text(field.valueStart, field.valueEnd) }
    return nil
  }

  /// All headers in order, names as sent.
  public func forEachHeader(_ body: (_ name: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>) -> Void) {
    for field in fields {
      body(bytes[Int(field.nameStart)..<Int(field.nameEnd)], bytes[Int(field.valueStart)..<Int(field.valueEnd)])
    }
  }

  private func count(of name: String) -> Int { fields.reduce(0) { $0 + (isName($1, name) ? 1 : 0) } }

  private func isName(_ field: Field, _ name: String) -> Bool {
    let own = bytes[Int(field.nameStart)..<Int(field.nameEnd)]
    guard own.count == name.utf8.count else { return false }
    return zip(own, name.utf8).allSatisfy { lower($0) == $1 }
  }

  private func text(_ start: Int32, _ end: Int32) -> String { String(decoding: bytes[Int(start)..<Int(end)], as: UTF8.self) }
}

private func lower(_ byte: UInt8) -> UInt8 { byte >= 65 && byte <= 90 ? byte | 32 : byte }
private func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }
private func isBlank(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 }

/// RFC 9110 section 5.6.2.
func isTokenByte(_ byte: UInt8) -> Bool {
  switch byte {
  case 48...57, 65...90, 97...122: true
  case 33, 35, 36, 37, 38, 39, 42, 43, 45, 46, 94, 95, 96, 124, 126: true
  default: false
  }
}
