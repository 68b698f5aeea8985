//  One sender of lines.
//
//  All whole lines of a read make one batch. The rest of a read, a line without its end, is kept here until its end
//  comes; it is a record of its own when the peer closes, and a marked one when we stop.

internal import CSystem
internal import Diagnostics
internal import Glibc
internal import Net
internal import Records

/// Confined to `queue`.
final class TCPLineConnection: ConnectionHandler, StoppableConnection, @unchecked Sendable {
  // unchecked: confined to `queue`
  let queue: IOQueue
  private let connection: Connection
  private let shared: TCPLineShared
  private let whenGone: (TCPLineConnection) -> Void
  private var context: RecordContext?
  private var proxy: PeerAddress?
  private var peer: PeerAddress
  private var peerName: String?
  private var isWaitingForName = false
  private var needsProxyLine: Bool

  /// The line under way; `lineBytes` counts also what was not kept of an oversized one.
  private var line = ByteBuffer()
  private var lineBytes = 0
  private let joiner: MultilineJoiner?
  /// Counts what was joined, so that a timer knows whether its line is still the last.
  private var joinedCount = 0
  private var joinerBytes = 0
  /// Bytes of the frame under way that are still to come; nil within a line.
  private var frameLeft: Int?
  private var isBehindFrame = false
  private var inFlightBytes = 0
  private var inFlightBatches = 0
  private var isHeld = false
  private var isGone = false

  init(_ connection: Connection, _ shared: TCPLineShared, whenGone: @escaping (TCPLineConnection) -> Void) {
    self.connection = connection
    self.shared = shared
    self.whenGone = whenGone
    queue = connection.queue
    peer = connection.peer
    needsProxyLine = shared.configuration.proxyProtocol
    joiner = shared.configuration.multiline.map { MultilineJoiner($0) }
    moveDeadline()
  }

  func ready(_ connection: Connection) {
    context = makeContext(isPartialLine: false)
    guard shared.configuration.looksUpNames, !needsProxyLine else { return }
    if let known = NameLookup.shared.known(peer.ip) {
      peerName = known.name
      context = makeContext(isPartialLine: false)
      return
    }
    // Lines wait in the socket meanwhile.
    isWaitingForName = true
    connection.pauseReading()
    let queue = self.queue
    NameLookup.shared.lookUp(peer.ip) { name in queue.async { self.named(name) } }
    queue.async(after: shared.configuration.nameTimeout) { self.named(nil) }
  }

  private func named(_ name: String?) {
    guard isWaitingForName, connection.isOpen else { return }
    isWaitingForName = false
    peerName = name
    context = makeContext(isPartialLine: false)
    connection.resumeReading()
  }

  private func makeContext(isPartialLine: Bool) -> RecordContext {
    if let local = shared.configuration.local {
      return ContextText.local(host: local.host, path: local.path, isPartialLine: isPartialLine)
    }
    return ContextText.connection(
      peer: peer, name: peerName, tls: connection.tlsIdentity, proxy: proxy, isPartialLine: isPartialLine)
  }

  // MARK: Reading

  func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
    moveDeadline()
    var start = 0
    if needsProxyLine {
      guard let length = takeProxyLine(bytes) else { return connection.isOpen ? 0 : bytes.count }
      start = length
    }
    let batch = RecordBatch(descriptor: shared.descriptor, context: context)
    batch.payloads.reserve(line.count + bytes.count - start)
    let lines = UnsafeRawBufferPointer(rebasing: bytes[start...])
    var done = bytes.count
    if shared.configuration.takesOctetCounts {
      done = start + cutCounted(lines, into: batch)
    } else {
      cut(lines, into: batch)
    }
    if batch.count > 0 { keep(batch) }
    if !mayReadOn {
      isHeld = true
      connection.pauseReading()
    }
    return done
  }

  /// Lines and frames that say their length; returns how much of `bytes` is done with.
  private func cutCounted(_ bytes: UnsafeRawBufferPointer, into batch: RecordBatch) -> Int {
    var start = 0
    while start < bytes.count {
      if let left = frameLeft {
        let n = min(left, bytes.count - start)
        keep(UnsafeRawBufferPointer(rebasing: bytes[start..<(start + n)]))
        start += n
        frameLeft = n == left ? nil : left - n
        if n == left {
          endLine(into: batch, isEnded: false)
          isBehindFrame = true
        }
        continue
      }
      // Some senders end such a frame with a line feed all the same.
      if isBehindFrame, bytes[start] == 10 || bytes[start] == 13 || bytes[start] == 0 {
        start += 1
        continue
      }
      isBehindFrame = false
      if lineBytes == 0 {
        switch OctetCount(bytes, at: start) {
        case .none: break
        case .incomplete: return start
        case .frame(let length, let header):
          frameLeft = length
          start += header
          continue
        }
      }
      let end = lineEnd(bytes, from: start).map { $0 + 1 } ?? bytes.count
      cut(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), into: batch)
      start = end
    }
    return start
  }

  private func cut(_ bytes: UnsafeRawBufferPointer, into batch: RecordBatch) {
    guard let base = bytes.baseAddress else { return }
    let limit = shared.configuration.eventBytes
    let drops = shared.configuration.dropsCarriageReturn
    let keeps = shared.configuration.keepsDelimiter
    let delimiter = shared.configuration.delimiter
    var start = 0
    if delimiter.count > 1 { start = finishSplitDelimiter(bytes, delimiter, into: batch) }
    while start < bytes.count, let end = find(delimiter, base, start, bytes.count) {
      var length = end &- start
      if _slowPath(lineBytes > 0) {
        keep(UnsafeRawBufferPointer(start: base + start, count: length))
        endLine(into: batch)
      } else if _slowPath(length > limit) {
        oversized(
          Array(UnsafeRawBufferPointer(start: base + start, count: min(length, TCPLineConnection.headBytes))), length)
      } else {
        if drops, length > 0, base.load(fromByteOffset: end &- 1, as: UInt8.self) == 13 { length &-= 1 }
        if keeps { length = end &- start &+ delimiter.count }
        batch.append(UnsafeRawBufferPointer(start: base + start, count: length))
      }
      start = end &+ delimiter.count
    }
    if start < bytes.count { keep(UnsafeRawBufferPointer(rebasing: bytes[start...])) }
  }

  @inline(__always)
  private func find(_ delimiter: [UInt8], _ base: UnsafeRawPointer, _ start: Int, _ count: Int) -> Int? {
    if delimiter.count == 1 {
      return memchr(base + start, CInt(delimiter[0]), count &- start).map { UnsafeRawPointer($0) - base }
    }
    return sys_memmem(base + start, count &- start, delimiter, delimiter.count).map { UnsafeRawPointer($0) - base }
  }

  /// A delimiter of several bytes may begin in the line under way and end in `bytes`; returns how many of them it took.
  private func finishSplitDelimiter(_ bytes: UnsafeRawBufferPointer, _ delimiter: [UInt8], into batch: RecordBatch)
    -> Int
  {
    let longest = min(delimiter.count - 1, line.count)
    guard longest > 0, lineBytes == line.count else { return 0 }
    for kept in stride(from: longest, through: 1, by: -1) {
      let missing = delimiter.count - kept
      guard missing <= bytes.count, bytes[..<missing].elementsEqual(delimiter[kept...]),
        line.bytes[(line.count - kept)...].elementsEqual(delimiter[..<kept])
      else { continue }
      line.count -= kept
      lineBytes -= kept
      endLine(into: batch)
      return missing
    }
    return 0
  }

  static let headBytes = 64 << 10

  /// Adds to the line under way, of an oversized one only its head.
  private func keep(_ bytes: UnsafeRawBufferPointer) {
    let before = line.count
    lineBytes += bytes.count
    if lineBytes <= shared.configuration.eventBytes {
      line.append(bytes)
    } else if line.count > TCPLineConnection.headBytes {
      line.count = TCPLineConnection.headBytes
      line.shrink(to: TCPLineConnection.headBytes)
    } else {
      line.append(UnsafeRawBufferPointer(rebasing: bytes.prefix(TCPLineConnection.headBytes - line.count)))
    }
    shared.budget.add(line.count - before)
  }

  /// The line under way is whole.
  ///
  /// - Parameter isEnded: Its delimiter has come.
  private func endLine(into batch: RecordBatch, isEnded: Bool = true) {
    shared.budget.add(-line.count)
    if lineBytes > shared.configuration.eventBytes {
      oversized(line.array(), lineBytes)
    } else {
      if shared.configuration.dropsCarriageReturn, line.count > 0, line.bytes[line.count - 1] == 13 { line.count -= 1 }
      if isEnded, shared.configuration.keepsDelimiter { line.append(contentsOf: shared.configuration.delimiter) }
      batch.append(line.bytes)
    }
    lineBytes = 0
    line.removeAll()
    line.shrink(to: 4096)
  }

  private func oversized(_ head: [UInt8], _ size: Int) {
    shared.metrics.oversized.add()
    Log.error(
      "tcp.event-too-large", "A line is longer than the limit; it was set aside without its end.",
      ["peer": "\(peer)", "bytes": .number(size), "limit_bytes": .number(shared.configuration.eventBytes)])
    shared.onOversized(
      OversizedEvent(
        head: head, sizeBytes: size, limitBytes: shared.configuration.eventBytes, peer: peer.description)
    ) {}
  }

  // MARK: Joined lines

  /// Hands whole lines on, joined where the codec joins.
  private func keep(_ batch: RecordBatch) {
    guard let joiner else { return append(batch) }
    for one in joiner.join(batch) { append(one) }
    countJoiner(joiner)
    guard let wait = shared.configuration.multiline?.rule.autoFlush, !joiner.isEmpty else { return }
    joinedCount += 1
    let count = joinedCount
    queue.async(after: wait) {
      if self.joinedCount == count, self.connection.isOpen { self.flushJoiner(self.context) }
    }
  }

  private func flushJoiner(_ context: RecordContext?) {
    guard let joiner else { return }
    for one in joiner.flush(context) { append(one) }
    countJoiner(joiner)
  }

  private func countJoiner(_ joiner: MultilineJoiner) {
    shared.budget.add(joiner.heldBytes - joinerBytes)
    joinerBytes = joiner.heldBytes
  }

  // MARK: The queue

  private var mayReadOn: Bool {
    inFlightBatches == 0
      || (inFlightBytes < shared.configuration.inFlightBytes && shared.sink.hasRoom && !shared.budget.isSpent)
  }

  private func append(_ batch: RecordBatch) {
    let bytes = batch.byteCount
    inFlightBytes += bytes
    inFlightBatches += 1
    shared.budget.add(bytes)
    let queue = self.queue
    shared.sink.append(batch) { result in
      queue.async { self.kept(result, batch, bytes) }
    }
  }

  private func kept(_ result: Result<Void, AppendFailure>, _ batch: RecordBatch, _ bytes: Int) {
    inFlightBytes -= bytes
    inFlightBatches -= 1
    shared.budget.add(-bytes)
    switch result {
    case .success:
      shared.metrics.events.add(batch.count)
      shared.metrics.bytes.add(bytes)
      shared.metrics.batches.add()
    case .failure(.closed):
      shared.metrics.lost.add(batch.count)
      Log.error(
        "tcp.lost",
        "Lines that had been read could not be kept, since the queue is closing; TCP has no acknowledgement.",
        ["peer": "\(peer)", "events": .number(batch.count)])
    case .failure(.tooLarge(let limit)): divide(batch, limit)
    }
    if isHeld, connection.isOpen, mayReadOn {
      isHeld = false
      connection.resumeReading()
    }
    leaveIfDone()
  }

  /// Sends a batch that is too large for the queue line by line; a line that is too large is oversized.
  private func divide(_ batch: RecordBatch, _ limit: Int) {
    for i in 0..<batch.count {
      batch.withPayload(i) { payload in
        if payload.count > limit || batch.count == 1 {
          return oversized(Array(payload.prefix(TCPLineConnection.headBytes)), payload.count)
        }
        let one = RecordBatch(descriptor: batch.descriptor, context: batch.context, arrivalNs: batch.arrivalNs)
        one.append(payload)
        append(one)
      }
    }
  }

  // MARK: PROXY, version 1

  /// Length of the header line; nil when it has not come, or when the connection was closed for want of one.
  private func takeProxyLine(_ bytes: UnsafeRawBufferPointer) -> Int? {
    // The longest possible header has 107 bytes.
    guard let end = lineEnd(UnsafeRawBufferPointer(rebasing: bytes.prefix(108)), from: 0) else {
      if bytes.count >= 108 { refuseProxyLine() }
      return nil
    }
    let text = String(decoding: bytes[..<end], as: UTF8.self)
    let parts = text.split(separator: " ", omittingEmptySubsequences: false)
    guard parts.count == 6, parts[0] == "PROXY", parts[1] == "TCP4" || parts[1] == "TCP6", text.hasSuffix("\r"),
      let sourcePort = UInt16(parts[4]), let ownPort = UInt16(parts[5].dropLast()),
      isAddress(parts[2]), isAddress(parts[3])
    else {
      refuseProxyLine()
      return nil
    }
    peer = PeerAddress(ip: String(parts[2]), port: Int(sourcePort))
    proxy = PeerAddress(ip: String(parts[3]), port: Int(ownPort))
    // What a balancer says is not looked up.
    peerName = longForm(peer.ip)
    context = makeContext(isPartialLine: false)
    needsProxyLine = false
    return end + 1
  }

  private func isAddress(_ text: Substring) -> Bool {
    !text.isEmpty && text.utf8.allSatisfy { ($0 >= 48 && $0 <= 58) || $0 == 46 || ($0 | 32 >= 97 && $0 | 32 <= 102) }
  }

  private func refuseProxyLine() {
    shared.metrics.errors.add()
    Log.warn(
      "tcp.proxy", "A connection without a valid PROXY line was closed.",
      [
        "peer": "\(connection.peer)",
        "next": "let the balancer send the PROXY protocol, version 1, or turn it off here",
      ])
    connection.finish()
  }

  // MARK: End

  private func moveDeadline() {
    if let timeout = shared.configuration.idleTimeout { connection.deadline = .now + timeout }
  }

  func deadlinePassed(_ connection: Connection, now: Instant) {
    if isHeld { return moveDeadline() }
    peerFinished(connection)
  }

  func peerFinished(_ connection: Connection) {
    endLastLine(isPartial: false)
    connection.finish()
  }

  /// The line under way becomes a record though its end has not come, and what was joined is whole.
  private func endLastLine(isPartial: Bool) {
    let isCut = isPartial && lineBytes > 0
    let ending = isCut ? makeContext(isPartialLine: true) : context
    if lineBytes > 0 {
      let batch = RecordBatch(descriptor: shared.descriptor, context: ending)
      endLine(into: batch, isEnded: false)
      if batch.count > 0 {
        if shared.configuration.dropsRest { dropRest(batch) } else { keep(batch) }
      }
    }
    flushJoiner(ending)
  }

  private func dropRest(_ batch: RecordBatch) {
    shared.metrics.lost.add()
    Log.warn(
      "tcp.rest-dropped", "A connection ended within a line; what had come of it is no event here.",
      ["peer": "\(peer)", "bytes": .number(batch.byteCount)])
  }

  func stop() {
    guard connection.isOpen else { return }
    endLastLine(isPartial: true)
    connection.finish()
  }

  /// Ends the waiting for what the queue has not taken.
  func abort() {
    connection.close()
    if !isGone { leave() }
  }

  func closed(_ connection: Connection, _ reason: CloseReason) {
    if case .tls(let text) = reason {
      shared.metrics.errors.add()
      Log.warn("net.tls", "A connection was closed: TLS failed.", ["peer": "\(peer)", "reason": Log.foreign(text)])
    }
    // A reset ends a line as an orderly close does: its bytes have come.
    endLastLine(isPartial: false)
    leaveIfDone()
  }

  private func leaveIfDone() { if !connection.isOpen, !connection.isClosing, inFlightBatches == 0, !isGone { leave() } }

  private func leave() {
    isGone = true
    whenGone(self)
  }
}
