//  Sending: straight to the socket; what it does not take waits in `outgoing`, and a write source exists until that has
//  gone.

internal import Diagnostics
@preconcurrency internal import Dispatch
internal import Glibc

extension Connection {
  /// Bytes that the socket has not taken yet. Who sends much waits for `drained` while this is large.
  public var unsentBytes: Int { outgoing.count - outgoingOffset }

  var outgoingIsEmpty: Bool { outgoing.count == outgoingOffset }

  /// Sends `bytes` in order behind what was sent before. Copies what the socket does not take at once.
  public func send(_ bytes: UnsafeRawBufferPointer) {
    dispatchPrecondition(condition: .onQueue(queue.dispatch))
    guard state == .open, !bytes.isEmpty else { return }
    guard let tls else { return sendRaw(bytes) }
    guard tls.isEstablished, tls.write(bytes) else { return end(.tls("writing failed")) }
    sendCipher()
  }

  public func send(_ bytes: [UInt8]) { bytes.withUnsafeBytes { send($0) } }

  func sendCipher() {
    tls?.drain { sendRaw($0) }
  }

  private func sendRaw(_ bytes: UnsafeRawBufferPointer) {
    guard state == .open || state == .finishing else { return }
    var offset = 0
    if outgoingIsEmpty {
      lastWriteAt = .now
      guard let sent = write(bytes) else { return }
      offset = sent
    }
    if offset < bytes.count {
      outgoing.append(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
      if writeSource == nil { watchWriting() }
    }
  }

  /// Bytes taken by the socket; nil after the connection broke.
  private func write(_ bytes: UnsafeRawBufferPointer) -> Int? {
    var offset = 0
    while offset < bytes.count, let start = bytes.baseAddress {
      let n = Glibc.send(fd, start + offset, bytes.count - offset, CInt(MSG_NOSIGNAL))
      if n >= 0 {
        offset += n
        continue
      }
      let code = errno
      if code == EINTR { continue }
      if code == EAGAIN { break }
      end(.failed(SystemError(code, call: "send")))
      return nil
    }
    return offset
  }

  private func watchWriting() {
    writeDeadline = .now + writeTimeout
    scheduleCheck()
    let source = DispatchSource.makeWriteSource(fileDescriptor: fd, queue: queue.dispatch)
    source.setEventHandler { self.writeReady() }
    source.setCancelHandler { self.sourceCancelled() }
    uncancelledSources += 1
    writeSource = source
    source.activate()
  }

  private func writeReady() {
    guard state == .open || state == .finishing else { return }
    let waiting = UnsafeRawBufferPointer(rebasing: outgoing.bytes[outgoingOffset...])
    guard let sent = write(waiting) else { return }
    outgoingOffset += sent
    if sent > 0 {
      lastWriteAt = .now
      writeDeadline = lastWriteAt + writeTimeout
    }
    if outgoingOffset > 1 << 20 {
      outgoing.removeFirst(outgoingOffset)
      outgoingOffset = 0
    }
    guard outgoingIsEmpty else { return }
    outgoing = ByteBuffer()
    outgoingOffset = 0
    writeDeadline = nil
    writeSource?.cancel()
    writeSource = nil
    if state == .finishing { linger() } else { handler?.drained(self) }
  }
}
