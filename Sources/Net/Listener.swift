//  A listening socket: takes connections, bounds them, and gives each to an I/O queue.
//
//  Two bounds. Connections above `maxConnections` are closed at once, so that a balancing sender goes elsewhere. And
//  descriptors are kept in reserve: the kernel gives the lowest free number, so a number near the process's limit means
//  that few are left, and the connection is closed again; queue, outputs and API never starve because of inputs. Should
//  the table be full all the same, one spare descriptor is given up for a moment to take and close the waiting peer;
//  otherwise the level-triggered source would spin.

internal import CSystem
public import Diagnostics
@preconcurrency internal import Dispatch
internal import Glibc

/// Why listening did not start.
public enum ListenError: Error, Equatable, CustomStringConvertible {
  case unknownHost(String, reason: String)
  case system(SystemError, place: String)

  public var description: String {
    switch self {
    case .unknownHost(let host, let reason): "cannot find the address of host '\(host)': \(reason)"
    case .system(let error, let place):
      switch error.code {
      case EADDRINUSE: "cannot listen on \(place): another program listens there"
      case EACCES: "cannot listen on \(place): permission denied; ports below 1024 need CAP_NET_BIND_SERVICE"
      case EADDRNOTAVAIL: "cannot listen on \(place): this machine does not have that address"
      default: "cannot listen on \(place): \(error)"
      }
    }
  }
}

public struct ListenerConfiguration: Sendable {
  public var host = "0.0.0.0"
  /// 0 lets the system choose; `Listener.port` tells.
  public var port = 0
  /// The path of a Unix socket that is listened on instead of host and port. It is removed at the stop.
  public var path: String?
  /// What lies at `path` is removed first.
  public var replacesPath = false
  public var backlog = 1024
  /// Connections of this listener above which new ones are closed at once.
  public var maxConnections = 10_000
  /// Descriptors that stay free for the rest of the process.
  public var reservedDescriptors = 64
  /// Probes by the system of idle connections (SO_KEEPALIVE).
  public var keepAlive = true
  public var tls: TLSServerContext?

  public init(host: String = "0.0.0.0", port: Int = 0) {
    self.host = host
    self.port = port
  }

  /// Looks the host up as listening does; blocks.
  public func resolve() throws(ListenError) { _ = try SocketAddress.resolve(host: host, port: port) }
}

/// A listening socket. `init` binds and listens; connections are taken from `start` on.
public final class Listener: @unchecked Sendable {  // unchecked: mutable state is behind `state` or on `queue`
  public let configuration: ListenerConfiguration
  public let address: PeerAddress
  public var port: Int { address.port }
  /// Connections taken, connections refused for lack of room, and those open now.
  public let accepted = Counter()
  public let refused = Counter()
  public let current = Gauge()
  public let peak = Gauge()

  private let queues: IOQueues
  private let queue: DispatchQueue
  private let descriptor: CInt
  private let descriptorLimit: Int
  private let makeHandler: @Sendable (Connection) -> any ConnectionHandler
  private var spare: CInt
  private struct State {
    var source: (any DispatchSourceRead)?
    var isStopped = false
    var isClosed = false
    /// To be called once the socket is closed.
    var waiting: [@Sendable () -> Void] = []
  }
  private let state = Lock(State())

  /// - Parameter makeHandler: Called on the connection's queue for every new connection, before its first byte.
  public init(
    _ configuration: ListenerConfiguration, queues: IOQueues,
    makeHandler: @escaping @Sendable (Connection) -> any ConnectionHandler
  ) throws(ListenError) {
    self.configuration = configuration
    self.queues = queues
    self.makeHandler = makeHandler
    queue = queues.all[0].dispatch
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    descriptorLimit = Int(min(limit.rlim_cur, 1 << 30)) - configuration.reservedDescriptors
    (descriptor, address) =
      if let path = configuration.path { try Listener.open(path, configuration) } else {
        try Listener.open(configuration)
      }
    spare = Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC)
  }

  deinit {
    // The cancellation closes the socket; without a source there is nobody else to do it.
    let (source, isStopped) = state.withLock { ($0.source, $0.isStopped) }
    if let source { source.cancel() } else if !isStopped { _ = Glibc.close(descriptor) }
    if spare >= 0 { _ = Glibc.close(spare) }
  }

  private static func open(
    _ path: String, _ configuration: ListenerConfiguration
  ) throws(ListenError) -> (CInt, PeerAddress) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    do throws(SystemError) {
      guard !bytes.isEmpty, bytes.count < room else { throw SystemError(ENAMETOOLONG, call: "bind") }
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
      if configuration.replacesPath { unlink(path) }
      let fd = try systemCall("socket") {
        socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
      }
      do throws(SystemError) {
        try systemCall("bind") {
          withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
              bind(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
          }
        }
        try systemCall("listen") { listen(fd, CInt(clamping: max(1, configuration.backlog))) }
        return (fd, PeerAddress(ip: path, port: 0))
      } catch {
        _ = Glibc.close(fd)
        throw error
      }
    } catch {
      throw .system(error, place: path)
    }
  }

  private static func open(_ configuration: ListenerConfiguration) throws(ListenError) -> (CInt, PeerAddress) {
    try SocketAddress.bound(SOCK_STREAM, host: configuration.host, port: configuration.port) { fd in
      setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    } then: { (fd) throws(SystemError) in
      try systemCall("listen") { listen(fd, CInt(clamping: max(1, configuration.backlog))) }
    }
  }

  /// Begins to take connections. At most once.
  public func start() {
    let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
    let descriptor = self.descriptor
    source.setEventHandler { [weak self] in self?.acceptWaiting() }
    let state = self.state
    let path = configuration.path
    source.setCancelHandler {
      _ = Glibc.close(descriptor)
      if let path { unlink(path) }
      let waiting = state.withLock { state in
        state.isClosed = true
        defer { state.waiting = [] }
        return state.waiting
      }
      for completion in waiting { completion() }
    }
    let begins = state.withLock { state -> Bool in
      guard state.source == nil, !state.isStopped else { return false }
      state.source = source
      return true
    }
    if begins { source.activate() }
  }

  /// Stops listening; open connections stay. Any thread, also twice. The port is free once `completion` ran.
  public func stop(completion: @escaping @Sendable () -> Void = {}) {
    enum Step { case cancel(any DispatchSourceRead), close, wait, done }
    let step = state.withLock { state -> Step in
      let wasStopped = state.isStopped
      state.isStopped = true
      if let source = state.source {
        state.source = nil
        state.waiting.append(completion)
        return .cancel(source)
      }
      if !wasStopped {
        state.isClosed = true
        return .close
      }
      if state.isClosed { return .done }
      state.waiting.append(completion)
      return .wait
    }
    switch step {
    case .cancel(let source): source.cancel()
    case .wait: break
    case .close:
      _ = Glibc.close(descriptor)
      queue.async(execute: completion)
    case .done: queue.async(execute: completion)
    }
  }

  // MARK: On `queue`

  private func acceptWaiting() {
    for _ in 0..<64 {
      if state.withLock({ $0.isStopped }) { return }
      var address = SocketAddress()
      let fd = address.withPointer {
        sys_accept4(descriptor, $0, $1, CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue))
      }
      guard fd >= 0 else {
        switch errno {
        case EAGAIN: return
        case EINTR, ECONNABORTED, EPROTO, ENETDOWN, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH: continue
        case EMFILE, ENFILE:
          refuseWithSpare()
          continue
        default:
          Log.warn(
            "net.accept", "A connection could not be taken; the listener tries again.",
            ["listen": "\(self.address)", "error": .text(SystemError(errno, call: "accept4").description)])
          holdBack()
          return
        }
      }
      take(fd, from: address.peer)
    }
  }

  private func take(_ fd: CInt, from peer: PeerAddress) {
    if Int(fd) >= descriptorLimit || current.value >= configuration.maxConnections {
      refused.add()
      _ = Glibc.close(fd)
      Log.warn(
        "net.too-many-connections",
        "A connection was closed at once: the limit of connections or open files is reached.",
        [
          "listen": "\(address)", "peer": "\(peer)", "open": .number(current.value),
          "limit": .number(configuration.maxConnections), "descriptors": .number(descriptorLimit),
        ])
      return
    }
    accepted.add()
    let open = current.add(1)
    if open > peak.value { peak.set(open) }
    setOption(fd, CInt(IPPROTO_TCP), TCP_NODELAY, 1)
    if configuration.keepAlive { setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1) }
    let home = queues.leastLoaded()
    home.reserve()
    let connection = Connection(fd: fd, peer: peer, local: address, queue: home, current: current)
    let makeHandler = self.makeHandler
    let tls = configuration.tls
    home.async { connection.start(tls: tls, makeHandler) }
  }

  /// The descriptor table is full: gives the spare one up, takes the peer and closes it.
  private func refuseWithSpare() {
    refused.add()
    Log.error(
      "net.no-descriptors", "A connection was closed at once: the process has no file descriptor left.",
      ["listen": "\(address)", "next": "raise the limit of open files (LimitNOFILE of the service)"])
    if spare >= 0 {
      _ = Glibc.close(spare)
      let fd = sys_accept4(descriptor, nil, nil, CInt(SOCK_CLOEXEC.rawValue))
      if fd >= 0 { _ = Glibc.close(fd) }
    }
    spare = Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC)
    if spare < 0 { holdBack() }
  }

  /// Leaves the listener alone for a tenth of a second, so that a lasting fault does not spin.
  private func holdBack() {
    guard let source = state.withLock({ $0.source }) else { return }
    source.suspend()
    queue.asyncAfter(deadline: .now() + .milliseconds(100)) { source.resume() }
  }
}
