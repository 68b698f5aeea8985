//  Socket addresses: from a configured host and port, and as the text that events and logs carry.

internal import Diagnostics
internal import Glibc

/// The other end of a connection, as text.
public struct PeerAddress: Hashable, Sendable, CustomStringConvertible {
  /// `192.0.2.1` or `2001:db8::1`; an IPv4 address that came over an IPv6 socket is written as IPv4.
  public var ip: String
  public var port: Int

  public init(ip: String, port: Int) {
    self.ip = ip
    self.port = port
  }

  public var description: String { ip.utf8.contains(UInt8(ascii: ":")) ? "[\(ip)]:\(port)" : "\(ip):\(port)" }
}

/// A socket address as the system calls take it.
struct SocketAddress {
  var storage = sockaddr_storage()
  var length = socklen_t(MemoryLayout<sockaddr_storage>.size)

  init() {}

  /// The addresses of `host`, which may be a name; `port` 0 lets the system choose.
  ///
  /// Asks the resolver when `host` is no address, so it may block: for start-up only.
  static func resolve(host: String, port: Int) throws(ListenError) -> [SocketAddress] {
    var hints = addrinfo()
    hints.ai_flags = AI_PASSIVE
    hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
    hints.ai_protocol = CInt(IPPROTO_TCP)
    var list: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host.isEmpty ? nil : host, String(port), &hints, &list)
    guard status == 0 else { throw ListenError.unknownHost(host, reason: String(cString: gai_strerror(status))) }
    defer { freeaddrinfo(list) }
    var found: [SocketAddress] = []
    var next = list
    while let entry = next {
      if let address = entry.pointee.ai_addr, entry.pointee.ai_addrlen <= socklen_t(MemoryLayout<sockaddr_storage>.size)
      {
        var one = SocketAddress()
        one.length = entry.pointee.ai_addrlen
        withUnsafeMutableBytes(of: &one.storage) {
          $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(entry.pointee.ai_addrlen)))
        }
        found.append(one)
      }
      next = entry.pointee.ai_next
    }
    if found.isEmpty { throw ListenError.unknownHost(host, reason: "no address") }
    return found
  }

  /// A socket that is bound to the first address of `host` that takes it.
  ///
  /// - Parameters:
  ///   - prepare: Called before the socket is bound, for its options.
  ///   - then: Called once it is bound; where it fails, the next address is tried.
  /// - Returns: The socket and the address that it has.
  static func bound(
    _ type: __socket_type, host: String, port: Int, prepare: (CInt) -> Void,
    then: (CInt) throws(SystemError) -> Void = { (_) throws(SystemError) in }
  ) throws(ListenError) -> (CInt, PeerAddress) {
    var last: ListenError = .unknownHost(host, reason: "no address")
    for var address in try resolve(host: host, port: port) {
      do throws(SystemError) {
        let fd = try systemCall("socket") {
          socket(
            address.family, CInt(type.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        }
        do throws(SystemError) {
          if address.family == AF_INET6 { setOption(fd, CInt(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
          prepare(fd)
          try systemCall("bind") { address.withPointer { bind(fd, $0, $1.pointee) } }
          try then(fd)
          var own = SocketAddress()
          try systemCall("getsockname") { own.withPointer { getsockname(fd, $0, $1) } }
          return (fd, own.peer)
        } catch {
          _ = Glibc.close(fd)
          throw error
        }
      } catch {
        last = .system(error, place: PeerAddress(ip: host, port: port).description)
      }
    }
    throw last
  }

  var family: CInt { CInt(storage.ss_family) }

  var peer: PeerAddress {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN) + 1)
    switch family {
    case AF_INET:
      return withUnsafeBytes(of: storage) { raw in
        let address = raw.loadUnaligned(as: sockaddr_in.self)
        var number = address.sin_addr
        inet_ntop(AF_INET, &number, &text, socklen_t(text.count))
        return PeerAddress(ip: decode(text), port: Int(UInt16(bigEndian: address.sin_port)))
      }
    case AF_INET6:
      return withUnsafeBytes(of: storage) { raw in
        let address = raw.loadUnaligned(as: sockaddr_in6.self)
        var number = address.sin6_addr
        let port = Int(UInt16(bigEndian: address.sin6_port))
        let mapped = withUnsafeBytes(of: number) { bytes in
          bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xff && bytes[11] == 0xff
            ? "\(bytes[12]).\(bytes[13]).\(bytes[14]).\(bytes[15])" : nil
        }
        if let mapped { return PeerAddress(ip: mapped, port: port) }
        inet_ntop(AF_INET6, &number, &text, socklen_t(text.count))
        return PeerAddress(ip: decode(text), port: port)
      }
    default: return PeerAddress(ip: "", port: 0)
    }
  }

  /// Calls `body` with the address as the system calls want it.
  mutating func withPointer<Result>(_ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Result)
    -> Result
  {
    var length = self.length
    defer { self.length = length }
    return withUnsafeMutablePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in body(address, &length) }
    }
  }
}

private func decode(_ text: [CChar]) -> String {
  String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

func setOption(_ fd: CInt, _ level: CInt, _ name: CInt, _ value: CInt) {
  var value = value
  setsockopt(fd, level, name, &value, socklen_t(MemoryLayout<CInt>.size))
}
