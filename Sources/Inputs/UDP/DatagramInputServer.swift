//  The engine of inputs over UDP: datagrams become records, those of one sender and one wake-up a batch.
//
//  UDP has neither acknowledgement nor back-pressure. While too much waits for the queue nothing is read, and what then
//  does not fit into the system's buffer is lost before Sluice has seen it.

internal import Diagnostics
internal import Net
internal import PluginKit
internal import Records

/// How a datagram is cut.
enum DatagramCutting: Sendable {
  case whole
  /// One record up to each delimiter; the rest is one too.
  case delimited([UInt8])
}

/// Confined to the socket's queue.
final class DatagramInputServer: DatagramHandler, @unchecked Sendable {  // unchecked: confined to the socket's queue
  let metrics = InputMetrics()
  private let id: String
  private let sink: any RecordSink
  private let descriptor: RecordDescriptor
  private let cutting: DatagramCutting
  private let budget: InFlightBudget
  private let inFlightLimit = 4 << 20
  private var socket: DatagramSocket?

  /// Batches of this wake-up, by sender.
  private var batches: [(peer: PeerAddress, batch: RecordBatch)] = []
  private var contexts: [PeerAddress: RecordContext] = [:]
  private let inFlight = Gate((bytes: 0, batches: 0))

  /// Binds.
  init(
    _ configuration: DatagramConfiguration, id: String, sink: any RecordSink, descriptor: RecordDescriptor,
    cutting: DatagramCutting, queues: IOQueues, budget: InFlightBudget
  ) throws(ListenError) {
    self.id = id
    self.sink = sink
    self.descriptor = descriptor
    self.cutting = cutting
    self.budget = budget
    socket = try DatagramSocket(configuration, queue: queues.leastLoaded(), handler: self)
  }

  var port: Int { socket?.port ?? 0 }

  func start() { socket?.start() }

  /// Stops receiving; `completion` comes once all that was received is kept, or after `limit`.
  func stop(within limit: Duration, completion: @escaping @Sendable () -> Void) {
    guard let socket else { return completion() }
    let deadline = Instant.now + limit
    let inFlight = self.inFlight
    socket.stop {
      startThread("udp-stop") {
        _ = inFlight.wait(until: deadline) { $0.batches == 0 ? true : nil }
        completion()
      }
    }
  }

  // MARK: Receiving

  func received(_ datagram: UnsafeRawBufferPointer, from peer: PeerAddress) {
    guard !datagram.isEmpty else { return }
    let batch = batch(of: peer)
    switch cutting {
    case .whole: batch.append(datagram)
    case .delimited(let delimiter):
      var start = 0
      while start < datagram.count {
        let end = delimiterStart(datagram, delimiter, from: start) ?? datagram.count
        batch.append(UnsafeRawBufferPointer(rebasing: datagram[start..<end]))
        start = end + delimiter.count
      }
    }
  }

  private func batch(of peer: PeerAddress) -> RecordBatch {
    if let last = batches.last, last.peer == peer { return last.batch }
    if let known = batches.first(where: { $0.peer == peer }) { return known.batch }
    if contexts.count > 4096 { contexts.removeAll(keepingCapacity: true) }
    let context = contexts[peer] ?? ContextText.connection(peer: peer, tls: nil)
    contexts[peer] = context
    let batch = RecordBatch(descriptor: descriptor, context: context)
    batches.append((peer, batch))
    return batch
  }

  func pause() {
    let ready = batches
    batches.removeAll(keepingCapacity: true)
    for (_, batch) in ready { append(batch) }
    if !mayReadOn { socket?.suspend() }
  }

  private var mayReadOn: Bool {
    let held = inFlight.withLock { $0 }
    return held.batches == 0 || (held.bytes < inFlightLimit && sink.hasRoom && !budget.isSpent)
  }

  private func append(_ batch: RecordBatch) {
    let bytes = batch.byteCount
    budget.add(bytes)
    inFlight.update { $0 = ($0.bytes + bytes, $0.batches + 1) }
    sink.append(batch) { [self] result in
      budget.add(-bytes)
      switch result {
      case .success:
        metrics.events.add(batch.count)
        metrics.bytes.add(bytes)
        metrics.batches.add()
      case .failure:
        metrics.lost.add(batch.count)
        Log.error(
          "udp.lost", "Datagrams could not be kept; UDP has no acknowledgement.",
          ["input": .text(id), "events": .number(batch.count)])
      }
      inFlight.update { $0 = ($0.bytes - bytes, $0.batches - 1) }
      socket?.queue.async { if self.mayReadOn { self.socket?.resume() } }
    }
  }
}
