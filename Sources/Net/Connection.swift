//  One TCP connection, with or without TLS, on its I/O queue.
//
//  Design. A read source tells that bytes wait; one wake-up reads up to 256 KiB into the queue's buffer and gives them
//  to the handler, which says how much it took. Only what it left is kept by the connection, and stands in front of the
//  next read. Handlers keep big things (a payload, a body) themselves as they come, so the rest stays small; while
//  reading is paused it can be as large as one read. Writes go to the socket at once; a write source exists only while
//  the socket is full (Connection+Writing.swift).
//
//  States: open → finishing (our last bytes go out, then FIN) → lingering (what still comes is thrown away, so that the
//  peer reads our last bytes and no reset destroys them) → closed. `close` goes straight to the end from anywhere. The
//  descriptor is closed when the last source's cancellation has run, never before, so that its number cannot be given
//  to another connection while a source still watches it.

public import Diagnostics
@preconcurrency internal import Dispatch
internal import Glibc

/// What a connection tells its owner. All calls come on the connection's queue, one at a time.
public protocol ConnectionHandler: AnyObject {
  /// The connection is usable; with TLS, the handshake is done and `connection.tlsIdentity` is set.
  func ready(_ connection: Connection)

  /// Bytes have come. Returns how many of them, from the front, are done with; the rest comes again, with more behind it.
  ///
  /// A handler that reads on leaves at most 64 KiB; after `pauseReading` it may leave everything.
  func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int

  /// The peer has sent its last byte; it may still read. Nothing more will be received.
  func peerFinished(_ connection: Connection)

  /// The moment set by `connection.deadline` has passed; it has been cleared.
  func deadlinePassed(_ connection: Connection, now: Instant)

  /// Everything sent has left for the socket, after a while in which it had not.
  func drained(_ connection: Connection)

  /// The connection is gone. The last call.
  func closed(_ connection: Connection, _ reason: CloseReason)
}

extension ConnectionHandler {
  public func ready(_ connection: Connection) {}
  public func deadlinePassed(_ connection: Connection, now: Instant) {}
  public func drained(_ connection: Connection) {}
}

public enum CloseReason: Equatable, Sendable {
  /// We closed it.
  case finished
  /// The peer reset it, or the system gave up on it.
  case failed(SystemError)
  /// TLS did not come about or broke.
  case tls(String)
  /// What was sent was not taken for too long.
  case writeStalled
}

/// Confined to `queue`: every method must be called there unless it says otherwise.
public final class Connection: @unchecked Sendable {  // unchecked: all state is reached on `queue` alone
  public let queue: IOQueue
  public let peer: PeerAddress
  /// Where the peer connected to.
  public let local: PeerAddress
  public let openedAt = Instant.now
  public private(set) var lastReadAt = Instant.now
  public internal(set) var lastWriteAt = Instant.now
  public private(set) var tlsIdentity: TLSIdentity?
  /// How long the socket may refuse our bytes before the connection is given up.
  public var writeTimeout = Duration.seconds(30)

  enum State { case starting, open, finishing, lingering, closed }
  var state = State.starting
  let fd: CInt
  var handler: (any ConnectionHandler)?
  var tls: TLSSession?
  private var handshakeDeadline: Instant?

  private var readSource: (any DispatchSourceRead)?
  private var isReadSuspended = false
  public private(set) var isPaused = false
  /// The peer's end of file has been seen.
  public private(set) var isPeerFinished = false
  private var isDelivering = false
  private var rest = ByteBuffer()

  var writeSource: (any DispatchSourceWrite)?
  var outgoing = ByteBuffer()
  var outgoingOffset = 0
  var writeDeadline: Instant?
  var lingerDeadline: Instant?
  private var lingerBudget = 4 << 20
  var uncancelledSources = 0

  var number = 0
  var checkTick: Int64 = 0
  private let current: Gauge

  init(fd: CInt, peer: PeerAddress, local: PeerAddress, queue: IOQueue, current: Gauge) {
    self.fd = fd
    self.peer = peer
    self.local = local
    self.queue = queue
    self.current = current
  }

  public var isOpen: Bool { state == .open }
  /// `finish` was called and the end has not come yet.
  public var isClosing: Bool { state == .finishing || state == .lingering }

  // MARK: Start

  func start(tls context: TLSServerContext?, _ makeHandler: (Connection) -> any ConnectionHandler) {
    dispatchPrecondition(condition: .onQueue(queue.dispatch))
    number = queue.add(self)
    state = .open
    if let context {
      tls = TLSSession(context)
      handshakeDeadline = .now + context.handshakeTimeout
      scheduleCheck()
    }
    handler = makeHandler(self)
    let source = DispatchSource.makeReadSource(fileDescriptor: fd, queue: queue.dispatch)
    source.setEventHandler { self.readReady() }  // the cycle is broken by the cancellation in `end`
    source.setCancelHandler { self.sourceCancelled() }
    uncancelledSources += 1
    readSource = source
    source.activate()
    if context == nil {
      handler?.ready(self)
    } else if tls == nil {
      end(.tls("out of memory"))
    }
  }

  // MARK: Reading

  /// Stops reading; what has been read and not consumed is kept.
  public func pauseReading() {
    dispatchPrecondition(condition: .onQueue(queue.dispatch))
    isPaused = true
    if !isReadSuspended, let readSource {
      readSource.suspend()
      isReadSuspended = true
    }
  }

  /// Goes on reading, first with what was kept. The handler is called later, not from within this call.
  public func resumeReading() {
    dispatchPrecondition(condition: .onQueue(queue.dispatch))
    guard isPaused, state == .open else { return }
    isPaused = false
    queue.async { self.continueReading() }
  }

  private func continueReading() {
    guard state == .open, !isPaused, !isDelivering else { return }
    if !rest.isEmpty { deliverRest() }
    if state == .open, !isPaused, tls != nil { readPlain() }
    guard state == .open, !isPaused else { return }
    if isPeerFinished {
      handler?.peerFinished(self)
    } else if isReadSuspended {
      readSource?.resume()
      isReadSuspended = false
    }
  }

  private func readReady() {
    if state == .finishing || state == .lingering { return discard() }
    guard state == .open, !isPaused else { return }
    lastReadAt = .now
    if tls != nil { return readCipher() }
    // A second read only after a full first one: the source is level-triggered and comes back by itself.
    for _ in 0..<4 {
      let kept = rest.count
      let base = queue.readBuffer
      if kept > 0 { base.copyMemory(from: rest.pointer, byteCount: kept) }
      let n = recv(fd, base + kept, IOQueue.readCapacity, 0)
      guard n > 0 else { return readEnded(n) }
      rest.removeAll()
      deliver(UnsafeRawBufferPointer(start: base, count: kept + n))
      if n < IOQueue.readCapacity || isPaused || state != .open { return }
    }
  }

  /// End of file or an error of `recv`.
  private func readEnded(_ n: Int) {
    if n == 0 { return endOfFile() }
    let code = errno
    if code != EAGAIN, code != EINTR { end(.failed(SystemError(code, call: "recv"))) }
  }

  private func endOfFile() {
    guard !isPeerFinished else { return }
    isPeerFinished = true
    if !isReadSuspended, let readSource {
      readSource.suspend()  // or the end would be reported again and again
      isReadSuspended = true
    }
    if let tls, !tls.isEstablished { return end(.tls("the peer closed during the handshake")) }
    if !isPaused { handler?.peerFinished(self) }
  }

  private func deliver(_ bytes: UnsafeRawBufferPointer) {
    guard let handler else { return }
    isDelivering = true
    let consumed = min(bytes.count, max(0, handler.received(bytes, on: self)))
    isDelivering = false
    guard state == .open else { return }
    if consumed < bytes.count { rest.append(UnsafeRawBufferPointer(rebasing: bytes[consumed...])) }
    checkRest()
  }

  private func deliverRest() {
    guard let handler else { return }
    var bytes = ByteBuffer()
    swap(&bytes, &rest)
    isDelivering = true
    let consumed = min(bytes.count, max(0, handler.received(bytes.bytes, on: self)))
    isDelivering = false
    guard state == .open else { return }
    bytes.removeFirst(consumed)
    swap(&bytes, &rest)
    checkRest()
  }

  private func checkRest() {
    rest.shrink(to: max(rest.count, 512))
    if rest.count > IOQueue.restCapacity, !isPaused {
      end(.failed(SystemError(EMSGSIZE, call: "the protocol left \(rest.count) bytes unread")))
    }
  }

  // MARK: TLS

  private func readCipher() {
    for _ in 0..<4 {
      let buffer = queue.cipherBuffer
      let n = recv(fd, buffer, IOQueue.readCapacity, 0)
      guard n > 0 else { return readEnded(n) }
      guard tls?.feed(UnsafeRawBufferPointer(start: buffer, count: n)) == true else { return end(.tls("out of memory")) }
      readPlain()
      if n < IOQueue.readCapacity || isPaused || state != .open { return }
    }
  }

  /// Decrypts and delivers what TLS holds, after the handshake if that is still to come.
  private func readPlain() {
    guard let tls else { return }
    if !tls.isEstablished {
      let step = tls.shakeHands()
      sendCipher()
      switch step {
      case .starved: return
      case .ended: return end(.tls("the peer closed during the handshake"))
      case .failed(let reason): return end(.tls(reason))
      case .done:
        handshakeDeadline = nil
        tlsIdentity = tls.identity
        handler?.ready(self)
      }
    }
    while state == .open, !isPaused {
      let kept = rest.count
      let base = queue.readBuffer
      let (n, step) = tls.read(into: base + IOQueue.restCapacity, capacity: IOQueue.readCapacity)
      if n > 0 {
        // `kept` is at most the rest's capacity, so it fits in front.
        let start = base + (IOQueue.restCapacity - kept)
        if kept > 0 { start.copyMemory(from: rest.pointer, byteCount: kept) }
        rest.removeAll()
        deliver(UnsafeRawBufferPointer(start: start, count: kept + n))
      }
      switch step {
      case .done: continue
      case .starved: return sendCipher()
      case .ended:
        if state == .open { endOfFile() }
        return
      case .failed(let reason):
        sendCipher()
        return end(.tls(reason))
      }
    }
  }

  // MARK: Deadlines

  /// When to call `deadlinePassed`; nil for never. Moving it is cheap.
  public var deadline: Instant? {
    didSet { if let deadline, deadline != oldValue { queue.check(self, by: deadline) } }
  }

  func scheduleCheck() {
    var first: Instant?
    for moment in [deadline, handshakeDeadline, writeDeadline, lingerDeadline] {
      if let moment, first.map({ moment < $0 }) ?? true { first = moment }
    }
    if let first { queue.check(self, by: first) }
  }

  func checkDeadlines(_ now: Instant) {
    guard state != .closed else { return }
    if let handshakeDeadline, handshakeDeadline <= now { return end(.tls("the handshake took too long")) }
    if let writeDeadline, writeDeadline <= now { return end(.writeStalled) }
    if let lingerDeadline, lingerDeadline <= now { return end(.finished) }
    if let due = deadline, due <= now {
      deadline = nil
      if state == .open { handler?.deadlinePassed(self, now: now) }
    }
    if state != .closed { scheduleCheck() }
  }

  // MARK: End

  /// Sends what is still to be sent, then FIN, and closes once the peer has closed too or two seconds have passed.
  public func finish() {
    dispatchPrecondition(condition: .onQueue(queue.dispatch))
    guard state == .open else { return }
    state = .finishing
    deadline = nil
    if let tls {
      tls.shutDown()
      sendCipher()
    }
    rest.removeAll()
    if outgoingIsEmpty { linger() }
  }

  /// Closes at once; what is not sent is lost.
  public func close() {
    dispatchPrecondition(condition: .onQueue(queue.dispatch))
    end(.finished)
  }

  func linger() {
    guard state == .finishing else { return }
    state = .lingering
    if isPeerFinished || shutdown(fd, CInt(SHUT_WR)) != 0 { return end(.finished) }
    lingerDeadline = .now + .seconds(2)
    scheduleCheck()
    if isReadSuspended {
      readSource?.resume()
      isReadSuspended = false
    }
  }

  /// Reads and throws away, within bounds, what the peer still sends.
  private func discard() {
    for _ in 0..<4 {
      let n = recv(fd, queue.readBuffer, IOQueue.readCapacity, 0)
      if n < 0, errno == EAGAIN || errno == EINTR { return }
      lingerBudget -= n
      if n <= 0 || lingerBudget < 0 {
        isPeerFinished = true
        if state == .lingering || n < 0 { return end(.finished) }
        if !isReadSuspended {
          readSource?.suspend()
          isReadSuspended = true
        }
        return
      }
    }
  }

  func end(_ reason: CloseReason) {
    guard state != .closed else { return }
    state = .closed
    deadline = nil
    if isReadSuspended {
      readSource?.resume()  // a suspended source would never report its cancellation
      isReadSuspended = false
    }
    readSource?.cancel()
    writeSource?.cancel()
    readSource = nil
    writeSource = nil
    if uncancelledSources == 0 { _ = Glibc.close(fd) }
    tls = nil
    rest = ByteBuffer()
    outgoing = ByteBuffer()
    queue.remove(number)
    current.add(-1)
    let handler = self.handler
    self.handler = nil
    handler?.closed(self, reason)
  }

  func sourceCancelled() {
    uncancelledSources -= 1
    if uncancelledSources == 0, state == .closed { _ = Glibc.close(fd) }
  }
}
