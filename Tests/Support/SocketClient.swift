//  A blocking TCP client for tests of servers, and waiting with an end.

internal import Diagnostics
internal import Glibc

public struct SocketFailure: Error, CustomStringConvertible {
  public var description: String
  public init(description: String) { self.description = description }
}

/// A blocking TCP client; every wait ends after ten seconds.
public final class TestClient: Sendable {
  public let fd: CInt

  public init(port: Int, receiveBufferBytes: CInt? = nil) throws {
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
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard status == 0 else {
      let code = errno
      close(fd)
      throw SocketFailure(description: "connect: \(code)")
    }
  }

  deinit { close(fd) }

  public func send(_ bytes: [UInt8]) throws {
    var offset = 0
    while offset < bytes.count {
      let n = bytes.withUnsafeBytes {
        Glibc.send(fd, $0.baseAddress.map { $0 + offset }, bytes.count - offset, CInt(MSG_NOSIGNAL))
      }
      guard n > 0 else { throw SocketFailure(description: "send: \(errno)") }
      offset += n
    }
  }
  public func send(_ text: String) throws { try send(Array(text.utf8)) }

  /// Sends in pieces of the given sizes, over and over.
  public func send(_ bytes: [UInt8], pieces: () -> Int) throws {
    var offset = 0
    while offset < bytes.count {
      let n = min(bytes.count - offset, max(1, pieces()))
      try send(Array(bytes[offset..<(offset + n)]))
      offset += n
    }
  }

  public func finishSending() { shutdown(fd, CInt(SHUT_WR)) }

  /// Closes with a reset.
  public func reset() {
    var linger = linger(l_onoff: 1, l_linger: 0)
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
  }

  /// Up to `limit` bytes; empty at the end of the stream, nil after ten seconds or a reset.
  public func receive(_ limit: Int = 65_536) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: limit)
    let n = recv(fd, &buffer, limit, 0)
    return n < 0 ? nil : Array(buffer[..<n])
  }

  public func receive(exactly count: Int) -> [UInt8] {
    var all: [UInt8] = []
    while all.count < count, let more = receive(count - all.count), !more.isEmpty { all += more }
    return all
  }

  /// All bytes to the end of the stream.
  public func receiveAll() -> [UInt8] {
    var all: [UInt8] = []
    while let more = receive(), !more.isEmpty { all += more }
    return all
  }

  /// True when nothing comes within `ms`.
  public func isSilent(ms: Int) -> Bool {
    var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, CInt(ms)) == 0
  }
}

/// Waits for a condition that another thread or process brings about; false after `seconds`.
public func waitUntil(seconds: Int = 10, _ condition: () throws -> Bool) rethrows -> Bool {
  let deadline = Instant.now + .seconds(seconds)
  while try !condition() {
    if Instant.now > deadline { return false }
    waitOut(.milliseconds(2))
  }
  return true
}

/// Watches that a condition stays true: what must not happen has this long to happen.
public func stays(for duration: Duration, _ condition: () throws -> Bool) rethrows -> Bool {
  let end = Instant.now + duration
  repeat {
    guard try condition() else { return false }
    waitOut(.milliseconds(2))
  } while Instant.now < end
  return true
}

public enum TestThread {
  /// Runs `body` on a thread of its own.
  public static func run(_ body: @escaping @Sendable () -> Void) {
    let box = Unmanaged.passRetained(Box(body))
    var thread = pthread_t()
    let pointer = SendablePointer(box.toOpaque())
    pthread_create(
      &thread, nil,
      { raw in
        if let raw { Unmanaged<Box>.fromOpaque(raw).takeRetainedValue().body() }
        return nil
      }, pointer.raw)
    pthread_detach(thread)
  }
  private final class Box: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  private struct SendablePointer: @unchecked Sendable {
    let raw: UnsafeMutableRawPointer
    init(_ raw: UnsafeMutableRawPointer) { self.raw = raw }
  }
}
