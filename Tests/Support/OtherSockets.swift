//  Senders over Unix sockets and UDP, one call each.

import Glibc

/// Connects to the Unix socket at `path`, writes `bytes` and closes.
public func sendToSocket(_ bytes: [UInt8], _ path: String) throws {
  let fd = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
  defer { close(fd) }
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
  let status = withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
    }
  }
  guard status == 0, write(fd, bytes, bytes.count) == bytes.count else {
    throw SocketFailure(description: "unix socket: \(errno)")
  }
}

/// Sends one datagram to a port of this machine.
public func sendDatagram(_ bytes: [UInt8], _ port: Int) throws {
  let fd = socket(AF_INET, CInt(SOCK_DGRAM.rawValue), 0)
  defer { close(fd) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = in_port_t(port).bigEndian
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  let n = withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      sendto(fd, bytes, bytes.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
  if n != bytes.count { throw SocketFailure(description: "sendto: \(errno)") }
}
