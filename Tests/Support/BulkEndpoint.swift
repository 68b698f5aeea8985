//  A bulk endpoint that remembers: every document's id and index, and the documents themselves. It answers a `create` for
//  an id that it has with 409, as the real engine does, and counts it. A script puts faults in: no state of a cluster is
//  easier to have than one that a test makes.

import Diagnostics
import Foundation
import Glibc

public final class BulkEndpoint: Sendable {
  public struct Kept: Sendable {
    public var index: String
    public var source: [UInt8]
  }

  /// What happens to one request instead of a good answer.
  public enum Fault: Sendable {
    /// Nothing is indexed, and this is the answer.
    case answer(Int, String)
    /// All is indexed, and the connection ends without an answer.
    case cut
    /// Documents whose text holds `text` are answered with this status and type; the others are indexed.
    case refuse(status: Int, type: String, text: String, reason: String = "as scripted")
    /// All is indexed, and the connection ends in the middle of the answer.
    case half
    /// Nothing is indexed, and the connection is reset.
    case reset
    /// Nothing is indexed, and no answer ever comes.
    case hang
    /// All is indexed, and the answer comes after so many milliseconds.
    case late(Int)
  }

  /// A request as it came.
  public struct Request: Sendable {
    public var method: String
    public var target: String
    /// Names in lower case.
    public var headers: [String: String]
    public var body: String
  }

  /// - Parameters:
  ///   - number: Of the request, from 1.
  ///   - body: Its body.
  public typealias Script = @Sendable (_ number: Int, _ body: String) -> Fault?

  private struct State {
    var documents: [String: Kept] = [:]
    var conflicts = 0
    var requests = 0
    /// Requests that no right output sends.
    public var faults: [String] = []
    var all: [Request] = []
    var nextID = 0
    var connections: Set<CInt> = []
    var isListening = false
    var hasStopped = false
  }

  public let port: Int
  private let listener: CInt
  private let state = Lock(State())
  private let script: Script
  private let takesAll: Bool
  private let refusing: String?
  private let other: @Sendable (Request) -> (Int, String)?

  public convenience init(
    takesAll: Bool = false, refusing: String? = nil, _ script: @escaping Script = { _, _ in nil }
  ) throws {
    try self.init(takesAll: takesAll, refusing: refusing, other: nil, script)
  }

  /// - Parameters:
  ///   - listens: Else it keeps its port, refuses connections and waits for `listen`.
  ///   - takesAll: Any action is taken, with an id or without; else all but `create` with an id is a fault.
  ///   - refusing: Documents whose text holds this are never indexed, but refused as a mapping conflict.
  ///   - other: Answers requests that are not bulk requests; 200 and the version where it gives nothing.
  ///   - script: What goes wrong with bulk requests.
  public init(
    takesAll: Bool = false, listens: Bool = true, refusing: String? = nil,
    other: (@Sendable (Request) -> (Int, String)?)?,
    _ script: @escaping Script = { _, _ in nil }
  ) throws {
    self.script = script
    self.takesAll = takesAll
    self.refusing = refusing
    self.other = other ?? { _ in nil }
    listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let fd = listener
    let port: UInt16? = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        guard bind(fd, $0, length) == 0, getsockname(fd, $0, &length) == 0 else { return nil }
        return $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
      }
    }
    guard let port else { throw SocketFailure(description: "no port for the endpoint") }
    self.port = Int(port)
    if listens { listen() }
  }

  /// Takes connections from now on.
  public func listen() {
    state.withLock { $0.isListening = true }
    Glibc.listen(listener, 64)
    TestThread.run { [self] in
      while true {
        let connection = accept(listener, nil, nil)
        if connection < 0, [EINTR, ECONNABORTED, EMFILE, ENFILE].contains(errno) { continue }
        let isTaken = state.withLock { state in
          if connection >= 0, !state.hasStopped { state.connections.insert(connection) }
          return connection >= 0 && !state.hasStopped
        }
        if isTaken {
          TestThread.run { [self] in serve(connection) }
          continue
        }
        if connection >= 0 { close(connection) }
        // Closed by nobody else: a number that is free again may be another endpoint's listener, whose connections this
        // thread would then take.
        close(listener)
        return
      }
    }
  }

  public func stop() {
    let isOurs = state.withLock { state in
      defer { state.hasStopped = true }
      for connection in state.connections { shutdown(connection, CInt(SHUT_RDWR)) }
      if state.isListening, !state.hasStopped { shutdown(listener, CInt(SHUT_RDWR)) }
      return !state.isListening && !state.hasStopped
    }
    if isOurs { close(listener) }
  }

  /// By index and id: `logs-2026.02.25/b0r1`.
  public var documents: [String: Kept] { state.withLock { $0.documents } }
  public var count: Int { state.withLock { $0.documents.count } }
  /// Bulk requests so far.
  public var requests: Int { state.withLock { $0.requests } }
  public var conflicts: Int { state.withLock { $0.conflicts } }
  public var faults: [String] { state.withLock { $0.faults } }
  /// Every request so far, of any kind.
  public var all: [Request] { state.withLock { $0.all } }
  public var bulks: [Request] { all.filter { $0.target.contains("_bulk") } }
  public var address: String { "http://127.0.0.1:\(port)" }

  private func serve(_ connection: CInt) {
    defer {
      state.withLock { _ = $0.connections.remove(connection) }
      close(connection)
    }
    var buffer: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 18)
    let end = Array("\r\n\r\n".utf8)
    while true {
      var head = buffer.firstRange(of: end)
      while head == nil {
        let n = recv(connection, &block, block.count, 0)
        if n <= 0 { return }
        buffer += block[..<n]
        head = buffer.firstRange(of: end)
      }
      guard let head else { return }
      let lines = String(decoding: buffer[..<head.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
      var length = 0
      for line in lines where line.lowercased().hasPrefix("content-length:") {
        length = Int(line.dropFirst(15).trimmingCharacters(in: .whitespaces)) ?? 0
      }
      if lines.contains(where: { $0.lowercased() == "expect: 100-continue" }) {
        reply(connection, "HTTP/1.1 100 Continue\r\n\r\n")
      }
      while buffer.count < head.upperBound + length {
        let n = recv(connection, &block, block.count, 0)
        if n <= 0 { return }
        buffer += block[..<n]
      }
      let body = Array(buffer[head.upperBound..<head.upperBound + length])
      buffer.removeFirst(head.upperBound + length)
      let words = lines[0].split(separator: " ").map(String.init)
      var headers: [String: String] = [:]
      for line in lines.dropFirst() {
        guard let colon = line.firstIndex(of: ":") else { continue }
        headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
      }
      let isPacked = headers["content-encoding"] == "gzip"
      let request = Request(
        method: words.first ?? "", target: words.dropFirst().first ?? "", headers: headers,
        body: isPacked ? "" : String(decoding: body, as: UTF8.self))
      let isBulk = request.target.contains("/_bulk")
      let number = state.withLock { state in
        state.all.append(request)
        if isBulk { state.requests += 1 }
        return state.requests
      }
      var status = 200
      var answer = "{\"version\":{\"number\":\"8.14.3\"}}"
      if !isBulk {
        if let scripted = other(request) { (status, answer) = scripted }
      } else {
        let fault = script(number, request.body)
        switch fault {
        case .answer(let code, let text): (status, answer) = (code, text)
        case .hang:
          _ = recv(connection, &block, 1, 0)
          return
        case .cut:
          _ = take(body, fault)
          return
        case .half:
          answer = take(body, fault)
          let whole =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: \(answer.utf8.count)\r\n\r\n"
          reply(connection, whole + answer.prefix(answer.count / 2))
          return
        case .reset:
          var option = linger(l_onoff: 1, l_linger: 0)
          setsockopt(connection, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
          return
        case .late(let milliseconds):
          // The delay itself is the fault: nothing else is waited for.
          waitOut(.milliseconds(milliseconds))
          answer = take(body, fault)
        default: answer = take(body, fault)
        }
      }
      let location = (300..<400).contains(status) ? "Location: http://127.0.0.1:1/\r\n" : ""
      reply(
        connection,
        "HTTP/1.1 \(status) Status\r\nContent-Type: application/json\r\nX-elastic-product: Elasticsearch\r\n\(location)"
          + "Content-Length: \(answer.utf8.count)\r\n\r\n\(request.method == "HEAD" ? "" : answer)")
    }
  }

  private func reply(_ connection: CInt, _ text: String) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let n = rest.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
      if n <= 0 { return }
      rest = rest.dropFirst(n)
    }
  }

  private func take(_ body: [UInt8], _ fault: Fault?) -> String {
    let lines = body.split(separator: 10, omittingEmptySubsequences: true)
    let always = refusing.map { Fault.refuse(status: 400, type: "mapper_parsing_exception", text: $0) }
    var items: [String] = []
    var hasErrors = false
    state.withLock { state in
      var i = 0
      while i < lines.count {
        let parsed = try? JSONSerialization.jsonObject(with: Data(lines[i])) as? [String: [String: Any]]
        guard let action = parsed?.keys.first, let target = parsed?[action], let index = target["_index"] as? String,
          takesAll || (action == "create" && target["_id"] is String), action == "delete" || i + 1 < lines.count
        else {
          state.faults.append("no create with an id and an index: " + String(decoding: lines[i], as: UTF8.self))
          return
        }
        state.nextID += 1
        let key = index + "/" + ((target["_id"] as? String) ?? "made\(state.nextID)")
        let source = action == "delete" ? [] : Array(lines[i + 1])
        if case .refuse(let status, let type, let text, let reason) = always ?? fault,
          String(decoding: source, as: UTF8.self).contains(text)
        {
          hasErrors = true
          items.append(
            "{\"\(action)\":{\"status\":\(status),\"error\":{\"type\":\"\(type)\",\"reason\":\"\(reason)\"}}}")
        } else if action == "delete" {
          let isThere = state.documents.removeValue(forKey: key) != nil
          items.append("{\"delete\":{\"status\":\(isThere ? 200 : 404)}}")
        } else if action == "create", state.documents[key] != nil {
          state.conflicts += 1
          hasErrors = true
          items.append(
            "{\"create\":{\"status\":409,\"error\":{\"type\":\"version_conflict_engine_exception\",\"reason\":\"\"}}}")
        } else {
          state.documents[key] = Kept(index: index, source: source)
          items.append("{\"\(action)\":{\"status\":201}}")
        }
        i += action == "delete" ? 1 : 2
      }
    }
    return "{\"errors\":\(hasErrors),\"items\":[\(items.joined(separator: ","))]}"
  }
}
