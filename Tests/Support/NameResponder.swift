//  A name server of a test's own: UDP on 127.0.0.1, answers by script, and a count of the questions.

import Diagnostics
import Glibc

public final class NameResponder: Sendable {
  public enum Reply: Sendable {
    /// Records of the question's kind: the bytes of an address, or a name with dots.
    case address([UInt8])
    case name(String)
    /// An alias in front of an address, with a compressed name.
    case alias(to: String, [UInt8])
    case empty
    case unknown
    case refused
    case silence
    /// The answer to another question: wrong id, then wrong name.
    case foreign
    case bytes([UInt8])
  }

  /// - Parameters:
  ///   - name: As asked, with dots.
  ///   - kind: 1 for A, 28 for AAAA, 12 for PTR.
  public typealias Script = @Sendable (_ name: String, _ kind: Int) -> Reply

  public let port: Int
  private let descriptor: CInt
  private let asked = Lock<[String]>([])
  private let script: Script

  public init(_ script: @escaping Script) throws {
    self.script = script
    descriptor = socket(AF_INET, CInt(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let fd = descriptor
    let port: UInt16? = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        guard bind(fd, $0, length) == 0, getsockname(fd, $0, &length) == 0 else { return nil }
        return $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
      }
    }
    guard let port else { throw SocketFailure(description: "no port for the responder") }
    self.port = Int(port)
    TestThread.run { [self] in serve() }
  }

  public var address: String { "127.0.0.1:\(port)" }
  /// Questions so far, `name kind` each.
  public var questions: [String] { asked.withLock { $0 } }
  public func stop() { shutdown(descriptor, CInt(SHUT_RDWR)) }

  private func serve() {
    var buffer = [UInt8](repeating: 0, count: 2048)
    while true {
      var peer = sockaddr_storage()
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let n = withUnsafeMutablePointer(to: &peer) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(descriptor, &buffer, 2048, 0, $0, &length) }
      }
      if n <= 0 {
        close(descriptor)
        return
      }
      for reply in replies(Array(buffer[..<n])) {
        _ = withUnsafePointer(to: &peer) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(descriptor, reply, reply.count, 0, $0, length) }
        }
      }
    }
  }

  private func replies(_ query: [UInt8]) -> [[UInt8]] {
    var labels: [String] = []
    var i = 12
    while i < query.count, query[i] != 0 {
      let end = min(i + 1 + Int(query[i]), query.count)
      labels.append(String(decoding: query[i + 1..<end], as: UTF8.self))
      i = end
    }
    guard i + 5 <= query.count else { return [] }
    let kind = Int(query[i + 1]) << 8 | Int(query[i + 2])
    let name = labels.joined(separator: ".")
    asked.withLock { $0.append("\(name) \(kind)") }
    let question = Array(query[12..<i + 5])
    func message(_ code: UInt8, _ records: [[UInt8]], id: [UInt8] = Array(query[..<2]), asked: [UInt8]) -> [UInt8] {
      id + [0x81, 0x80 | code, 0, 1, 0, UInt8(records.count), 0, 0, 0, 0] + asked + records.joined()
    }
    func record(_ owner: [UInt8], _ kind: Int, _ data: [UInt8]) -> [UInt8] {
      owner + [0, UInt8(kind), 0, 1, 0, 0, 0, 60, 0, UInt8(data.count)] + data
    }
    func wire(_ name: String) -> [UInt8] {
      name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }
    let owner: [UInt8] = [0xc0, 12]
    switch script(name, kind) {
    case .address(let bytes): return [message(0, [record(owner, kind, bytes)], asked: question)]
    case .name(let name): return [message(0, [record(owner, kind, wire(name))], asked: question)]
    case .alias(let alias, let bytes):
      return [message(0, [record(owner, 5, wire(alias)), record(wire(alias), kind, bytes)], asked: question)]
    case .empty: return [message(0, [], asked: question)]
    case .unknown: return [message(3, [], asked: question)]
    case .refused: return [message(5, [], asked: question)]
    case .silence: return []
    case .foreign:
      let other = wire("other.example") + [0, UInt8(kind), 0, 1]
      return [
        message(0, [record(owner, kind, [9, 9, 9, 9])], id: [query[0] ^ 1, query[1]], asked: question),
        message(0, [record(owner, kind, [9, 9, 9, 9])], asked: other),
        message(0, [record(owner, kind, [1, 2, 3, 4])], asked: question),
      ]
    case .bytes(let bytes): return [Array(query[..<2]) + bytes]
    }
  }
}
