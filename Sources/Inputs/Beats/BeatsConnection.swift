//  One shipper's connection: windows in, acknowledgements out.
//
//  Design. A window is whole when the parser says so; its batch goes to the sink, and the window waits in `windows`
//  until every part of it is kept. Windows are acknowledged strictly in the order received, once each, with the
//  sequence number of their last data frame. The sink answers on any thread; the answer hops to this queue.
//
//  Reading goes on while windows wait, since clients write up to three ahead and break off when a write stalls. It
//  stops when this connection has its share in flight, or when the inputs' common budget is spent and this connection
//  already has something in it: so everybody always has one window.
//
//  Time. While a window is unfinished (half received, or waiting for the queue) a client of protocol 2 gets an
//  acknowledgement of 0 every five seconds, which keeps it waiting; protocol 1 would take it for a success and gets
//  none. A window that stops coming in closes the connection, and so does a long silence without a window.

internal import Diagnostics
internal import Net
internal import Records

/// Confined to `queue`.
final class BeatsConnection: ConnectionHandler, StoppableConnection, @unchecked Sendable {
  // unchecked: confined to `queue`
  let queue: IOQueue
  private let connection: Connection
  private let shared: BeatsShared
  private var parser: BeatsParser
  private let context: ContextBox
  private let whenClosed: (BeatsConnection) -> Void

  /// The context is made once, when TLS has told who the peer is.
  private final class ContextBox {
    var value: RecordContext?
  }

  /// A window on its way into the queue.
  private struct Window {
    var version: UInt8
    var sequence: UInt32 = 0
    /// Parts and oversized heads that are not kept yet.
    var waiting = 0
    var isWhole = false
    var hasFailed = false
  }
  private var windows: [Window] = []
  private var firstWindow = 0
  /// The last of `windows` is the one being received, in parts.
  private var isWindowOpen = false
  private var receivedBytes = 0
  private var inFlightBytes = 0
  private var isHeld = false
  private var isStopping = false
  private var unfinishedSince: Instant?

  init(
    _ connection: Connection, _ shared: BeatsShared, _ scratch: BeatsScratch,
    whenClosed: @escaping (BeatsConnection) -> Void
  ) {
    self.connection = connection
    self.shared = shared
    self.whenClosed = whenClosed
    queue = connection.queue
    let context = ContextBox()
    let descriptor = shared.descriptor
    parser = BeatsParser(limits: shared.configuration.limits, scratch: scratch) {
      RecordBatch(descriptor: descriptor, context: context.value)
    }
    self.context = context
    connection.deadline = nextDeadline()
  }

  func ready(_ connection: Connection) {
    context.value = ContextText.connection(peer: connection.peer, tls: connection.tlsIdentity)
  }

  // MARK: Reading

  func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
    let used = take(bytes)
    touch()
    return used
  }

  /// Parses until more bytes are needed or reading has to stop.
  private func take(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while true {
      let outcome: BeatsParser.Outcome
      do throws(BeatsFault) {
        let step = try parser.parse(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
        offset += step.used
        outcome = step.outcome
      } catch {
        fail(error)
        return bytes.count
      }
      switch outcome {
      case .more:
        count(parser.batch?.byteCount ?? 0)
        return offset
      case .part: submit(isWhole: false)
      case .window: submit(isWhole: true)
      case .emptyWindow:
        windows.append(Window(version: parser.version, isWhole: true))
        acknowledge()
      }
      guard connection.isOpen else { return bytes.count }
      if !mayReadOn {
        isHeld = true
        connection.pauseReading()
        return offset
      }
    }
  }

  private var mayReadOn: Bool {
    if isStopping || isOverAge { return false }
    if windows.isEmpty { return true }
    let configuration = shared.configuration
    if windows.count >= configuration.windowsInFlight { return false }
    if isWindowOpen, let last = windows.last, last.waiting >= configuration.partsInFlight { return false }
    return !shared.budget.isSpent || inFlightBytes == 0
  }

  /// Old enough to go, and between two windows.
  private var isOverAge: Bool {
    guard let age = shared.configuration.maxConnectionAge, !parser.isWithinWindow, !isWindowOpen else { return false }
    return Instant.now - connection.openedAt >= age
  }

  private func readOn() {
    guard isHeld, connection.isOpen, mayReadOn else { return }
    isHeld = false
    // The parser may hold something for which no byte has to come.
    if parser.isPending { _ = take(UnsafeRawBufferPointer(start: nil, count: 0)) }
    if !isHeld, connection.isOpen { connection.resumeReading() }
  }

  // MARK: Windows

  /// Hands what the parser has to the sink, as the window under way or its last part.
  private func submit(isWhole: Bool) {
    if !isWindowOpen { windows.append(Window(version: parser.version)) }
    isWindowOpen = !isWhole
    let number = firstWindow + windows.count - 1
    let last = windows.count - 1
    windows[last].sequence = parser.sequence
    windows[last].isWhole = isWhole
    for event in parser.takeOversized() {
      keepOversized(event.head, event.sizeBytes, shared.configuration.limits.eventBytes, number)
    }
    count(0)
    if let batch = parser.takeBatch(), batch.count > 0 { append(batch, number) }
    acknowledge()
  }

  private func append(_ batch: RecordBatch, _ number: Int) {
    let bytes = batch.byteCount
    inFlightBytes += bytes
    shared.budget.add(bytes)
    windows[number - firstWindow].waiting += 1
    let queue = self.queue
    shared.sink.append(batch) { result in
      queue.async { self.kept(result, batch, bytes, number) }
    }
  }

  private func kept(_ result: Result<Void, AppendFailure>, _ batch: RecordBatch, _ bytes: Int, _ number: Int) {
    inFlightBytes -= bytes
    shared.budget.add(-bytes)
    if case .success = result {
      shared.metrics.events.add(batch.count)
      shared.metrics.bytes.add(bytes)
      shared.metrics.batches.add()
    }
    let index = number - firstWindow
    guard connection.isOpen, windows.indices.contains(index) else { return }
    windows[index].waiting -= 1
    switch result {
    case .success: break
    case .failure(.closed): windows[index].hasFailed = true
    case .failure(.tooLarge(let limit)): divide(batch, limit, number)
    }
    acknowledge()
    readOn()
    touch()
  }

  /// Sends a batch that is too large for the queue in smaller ones; a single record that is too large is oversized.
  private func divide(_ batch: RecordBatch, _ limit: Int, _ number: Int) {
    let goal = batch.byteCount > limit ? limit / 2 : batch.byteCount / 2
    func fresh() -> RecordBatch {
      RecordBatch(descriptor: batch.descriptor, context: batch.context, arrivalNs: batch.arrivalNs)
    }
    var part = fresh()
    for i in 0..<batch.count {
      batch.withPayload(i) { payload in
        if payload.count > limit || batch.count == 1 {
          keepOversized(
            Array(payload.prefix(shared.configuration.limits.oversizedHeadBytes)), payload.count, limit, number)
          return
        }
        if part.count > 0, part.byteCount + payload.count > goal {
          append(part, number)
          part = fresh()
        }
        part.append(payload)
      }
    }
    if part.count > 0 { append(part, number) }
  }

  private func keepOversized(_ head: [UInt8], _ size: Int, _ limit: Int, _ number: Int) {
    shared.metrics.oversized.add()
    Log.error(
      "beats.event-too-large", "An event is larger than the limit; it was set aside without its end and acknowledged.",
      ["peer": "\(connection.peer)", "bytes": .number(size), "limit_bytes": .number(limit)])
    windows[number - firstWindow].waiting += 1
    let event = OversizedEvent(head: head, sizeBytes: size, limitBytes: limit, peer: connection.peer.description)
    let queue = self.queue
    shared.onOversized(event) {
      queue.async {
        let index = number - self.firstWindow
        guard self.connection.isOpen, self.windows.indices.contains(index) else { return }
        self.windows[index].waiting -= 1
        self.acknowledge()
        self.readOn()
        self.touch()
      }
    }
  }

  /// Acknowledges the windows at the front that are whole and kept, in order.
  private func acknowledge() {
    while let window = windows.first, window.isWhole, window.waiting == 0 || window.hasFailed {
      if window.hasFailed {
        Log.warn(
          "beats.not-kept", "A window could not be kept and is not acknowledged; its sender will come again.",
          ["peer": "\(connection.peer)"])
        return connection.finish()
      }
      send(window.version, window.sequence)
      windows.removeFirst()
      firstWindow += 1
    }
    if windows.isEmpty, isStopping || isOverAge { connection.finish() }
  }

  private func send(_ version: UInt8, _ sequence: UInt32) {
    withUnsafeTemporaryAllocation(byteCount: 6, alignment: 4) { frame in
      frame[0] = version
      frame[1] = UInt8(ascii: "A")
      frame.storeBytes(of: sequence.bigEndian, toByteOffset: 2, as: UInt32.self)
      connection.send(UnsafeRawBufferPointer(frame))
    }
  }

  /// Tells the common budget how much of the window under way is held.
  private func count(_ bytes: Int) {
    shared.budget.add(bytes - receivedBytes)
    receivedBytes = bytes
  }

  // MARK: Time

  private var isUnfinished: Bool { !windows.isEmpty || parser.isWithinWindow }

  private func touch() {
    guard connection.isOpen else { return }
    if !isUnfinished {
      unfinishedSince = nil
    } else if unfinishedSince == nil {
      unfinishedSince = .now
    }
    let next = nextDeadline()
    if connection.deadline.map({ next < $0 }) ?? true { connection.deadline = next }
  }

  private func nextDeadline() -> Instant {
    let configuration = shared.configuration
    var next = max(connection.lastReadAt, connection.lastWriteAt) + configuration.clientInactivityTimeout
    if isUnfinished {
      next = keepAliveDue
      if isWaitingForPeer { next = min(next, connection.lastReadAt + configuration.clientInactivityTimeout) }
    }
    if let age = configuration.maxConnectionAge {
      let old = connection.openedAt + age
      // Past that age the look at each window's end does it.
      if old > .now { next = min(next, old) }
    }
    return next
  }

  private var keepAliveDue: Instant {
    max(connection.lastWriteAt, unfinishedSince ?? connection.openedAt) + shared.configuration.keepAliveInterval
  }

  /// Half a window is here and the next byte is the peer's to send.
  private var isWaitingForPeer: Bool { parser.isWithinWindow && !isHeld }

  func deadlinePassed(_ connection: Connection, now: Instant) {
    let timeout = shared.configuration.clientInactivityTimeout
    if windows.isEmpty, isOverAge { return connection.finish() }
    if isWaitingForPeer, connection.lastReadAt + timeout <= now {
      Log.warn(
        "beats.stalled", "A connection stopped within a window and was closed; the window is not acknowledged.",
        ["peer": "\(connection.peer)", "offset": .number(parser.position)])
      return connection.finish()
    }
    if isUnfinished {
      let version = windows.first?.version ?? parser.version
      if keepAliveDue <= now {
        if version == UInt8(ascii: "2") { send(version, 0) } else { unfinishedSince = now }
      }
    } else if max(connection.lastReadAt, connection.lastWriteAt) + timeout <= now {
      return connection.finish()
    }
    connection.deadline = nextDeadline()
  }

  // MARK: End

  private func fail(_ fault: BeatsFault) {
    shared.metrics.errors.add()
    if let inner = fault.inflatedOffset {
      Log.warn(
        "beats.protocol", "A connection broke the Beats protocol and was closed; its window is not acknowledged.",
        [
          "peer": "\(connection.peer)", "reason": Log.foreign(fault.reason), "offset": .number(fault.offset),
          "inflated_offset": .number(inner),
        ])
    } else {
      Log.warn(
        "beats.protocol", "A connection broke the Beats protocol and was closed; its window is not acknowledged.",
        ["peer": "\(connection.peer)", "reason": Log.foreign(fault.reason), "offset": .number(fault.offset)])
    }
    dropReceived()
    // Windows before the fault may still be acknowledged; then the connection goes.
    isStopping = true
    if isWindowOpen { windows.removeLast() }
    isWindowOpen = false
    connection.pauseReading()
    isHeld = true
    if windows.isEmpty { connection.finish() }
  }

  /// Stops reading; closes once the windows that are whole have been acknowledged.
  func stop() {
    guard connection.isOpen else { return }
    isStopping = true
    isHeld = true
    connection.pauseReading()
    dropReceived()
    if isWindowOpen { windows.removeLast() }
    isWindowOpen = false
    if windows.isEmpty { connection.finish() }
  }

  /// Closes at once, for the end of the stop's time.
  func abort() { connection.close() }

  private func dropReceived() {
    count(0)
    parser.abandon()
  }

  func peerFinished(_ connection: Connection) {
    // Whole windows are kept all the same, and acknowledged in case the peer still reads.
    isStopping = true
    isHeld = true
    dropReceived()
    if isWindowOpen { windows.removeLast() }
    isWindowOpen = false
    if windows.isEmpty { connection.finish() }
  }

  func closed(_ connection: Connection, _ reason: CloseReason) {
    dropReceived()
    if case .tls(let text) = reason {
      shared.metrics.errors.add()
      Log.warn(
        "net.tls", "A connection was closed: TLS failed.", ["peer": "\(connection.peer)", "reason": Log.foreign(text)])
    }
    whenClosed(self)
  }
}
