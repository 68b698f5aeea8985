//  A UDP socket that receives: one wake-up reads what waits, up to a bound, and gives it on datagram by datagram.
//
//  There is no back-pressure in UDP. While reading is paused the system's buffer fills, and then the system drops; the
//  socket does not keep what it has no place for.

internal import Diagnostics
@preconcurrency internal import Dispatch
internal import Glibc

public struct DatagramConfiguration: Sendable {
  public var host = "0.0.0.0"
  /// 0 lets the system choose.
  public var port = 0
  /// Longer datagrams are cut.
  public var datagramBytes = 65_536
  /// The system's buffer; nil for its default.
  public var receiveBufferBytes: Int?

  public init(host: String = "0.0.0.0", port: Int = 0) {
    self.host = host
    self.port = port
  }
}

/// Takes what a socket receives. All calls come on the socket's queue, one at a time.
public protocol DatagramHandler: AnyObject, Sendable {
  func received(_ datagram: UnsafeRawBufferPointer, from peer: PeerAddress)
  /// What came with one wake-up is through.
  func pause()
}

/// A bound UDP socket. `init` binds; `start` receives.
public final class DatagramSocket: @unchecked Sendable {  // unchecked: mutable state is on `queue`, or behind `state`
  public let queue: IOQueue
  public let address: PeerAddress
  public var port: Int { address.port }
  private let descriptor: CInt
  private let limit: Int
  private let handler: any DatagramHandler
  private struct State {
    var source: (any DispatchSourceRead)?
    var isStopped = false
  }
  private let state = Lock(State())
  private var isSuspended = false
  /// The sender of the datagram before, since most come in rows.
  private var lastAddress = SocketAddress()
  private var lastPeer = PeerAddress(ip: "", port: 0)

  public init(
    _ configuration: DatagramConfiguration, queue: IOQueue, handler: any DatagramHandler
  ) throws(ListenError) {
    self.queue = queue
    self.handler = handler
    limit = min(max(1, configuration.datagramBytes), IOQueue.readCapacity)
    let size = configuration.receiveBufferBytes
    (descriptor, address) = try SocketAddress.bound(
      SOCK_DGRAM, host: configuration.host, port: configuration.port
    ) { fd in
      if let size { setOption(fd, SOL_SOCKET, SO_RCVBUF, CInt(clamping: size)) }
    }
  }

  deinit {
    let (source, isStopped) = state.withLock { ($0.source, $0.isStopped) }
    if let source { source.cancel() } else if !isStopped { _ = Glibc.close(descriptor) }
  }

  /// Begins to receive. At most once.
  public func start() {
    let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue.dispatch)
    let descriptor = self.descriptor
    source.setEventHandler { [weak self] in self?.receive() }
    source.setCancelHandler { _ = Glibc.close(descriptor) }
    let begins = state.withLock { state -> Bool in
      guard state.source == nil, !state.isStopped else { return false }
      state.source = source
      return true
    }
    if begins { source.activate() }
  }

  /// Reads what waits once more, and stops. Any thread, also twice.
  ///
  /// - Parameter completion: Called on the queue behind the last datagram.
  public func stop(completion: @escaping @Sendable () -> Void) {
    queue.async { [self] in
      let source = state.withLock { state -> (any DispatchSourceRead)? in
        state.isStopped = true
        defer { state.source = nil }
        return state.source
      }
      if let source {
        receive()
        if isSuspended { source.resume() }
        isSuspended = false
        source.cancel()
      }
      completion()
    }
  }

  // MARK: On the queue

  /// Stops reading until `resume`.
  public func suspend() {
    guard !isSuspended, let source = state.withLock({ $0.source }) else { return }
    isSuspended = true
    source.suspend()
  }

  public func resume() {
    guard isSuspended, let source = state.withLock({ $0.source }) else { return }
    isSuspended = false
    source.resume()
  }

  private func receive() {
    for _ in 0..<1024 {
      if isSuspended { break }
      var address = SocketAddress()
      let n = address.withPointer { recvfrom(descriptor, queue.readBuffer, limit, 0, $0, $1) }
      if n < 0 {
        if errno == EINTR || errno == ECONNREFUSED { continue }
        break
      }
      if !address.isSame(as: lastAddress) {
        lastAddress = address
        lastPeer = address.peer
      }
      handler.received(UnsafeRawBufferPointer(start: queue.readBuffer, count: n), from: lastPeer)
    }
    handler.pause()
  }
}

extension SocketAddress {
  fileprivate func isSame(as other: SocketAddress) -> Bool {
    guard length == other.length else { return false }
    return withUnsafeBytes(of: storage) { own in
      withUnsafeBytes(of: other.storage) { $0.prefix(Int(length)).elementsEqual(own.prefix(Int(length))) }
    }
  }
}
