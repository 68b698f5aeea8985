//  The queue in memory: an acknowledgement means "in memory" and nothing survives the process. Same contract as the
//  persisted queue otherwise, back-pressure included: what finds no room waits and is completed later.

public import Diagnostics
public import Records
internal import Synchronization

public final class MemoryQueue: EventQueue, BatchOwner {
  private struct Waiting {
    let batch: RecordBatch
    let completion: @Sendable (Result<Void, AppendFailure>) -> Void
  }

  private struct State {
    /// Batches with room, from the record at `next` of the first on.
    var batches: [RecordBatch?] = []
    var head = 0
    var next = 0
    /// Batches without.
    var waiting: [Waiting] = []
    var waitingBytes = 0
    var unread = 0
    var unreleased = 0
    var bytes = 0
    var inFlight = 0
    var returned: [QueueBatch.Contents] = []
    var identity = SegmentIdentity.draw()
    var nextIndex: UInt32 = 0
    var oldestArrivalNs: Int64 = 0
    var isClosed = false
  }

  private let maxEvents: Int
  private let maxBytes: Int
  private let name: String
  private let gate = Gate(State())
  private let appended = Counter()
  private let appendedBytes = Counter()
  private let released = Counter()
  private let roomFlag = Atomic<Bool>(true)

  /// - Parameters:
  ///   - maxEvents: Records that are not released; 0 is unlimited.
  ///   - maxBytes: Payload bytes that are not released; 0 is unlimited.
  public init(maxEvents: Int, maxBytes: Int = 64 << 20, name: String = "") {
    self.maxEvents = maxEvents
    self.maxBytes = maxBytes
    self.name = name
  }

  // MARK: Appending

  public var hasRoom: Bool { roomFlag.load(ordering: .relaxed) }

  public func append(_ batch: RecordBatch, completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void) {
    if batch.count == 0 { return completion(.success(())) }
    if maxBytes > 0, batch.byteCount > maxBytes { return completion(.failure(.tooLarge(limitBytes: maxBytes))) }
    let result = gate.update { state -> Result<Void, AppendFailure>? in
      if state.isClosed { return .failure(.closed) }
      if state.waiting.isEmpty, hasRoom(for: batch, state) {
        enter(batch, &state)
        return .success(())
      }
      state.waiting.append(Waiting(batch: batch, completion: completion))
      state.waitingBytes += batch.byteCount
      roomFlag.store(false, ordering: .relaxed)
      return nil
    }
    if let result { completion(result) }
  }

  public func withdraw(_ batch: RecordBatch) -> Bool {
    let entered = gate.update { state -> [Waiting]? in
      guard let at = state.waiting.firstIndex(where: { $0.batch === batch }) else { return nil }
      state.waiting.remove(at: at)
      state.waitingBytes -= batch.byteCount
      return enterWaiting(&state)
    }
    entered?.forEach { $0.completion(.success(())) }
    return entered != nil
  }

  /// Lets those in that have room now.
  private func enterWaiting(_ state: inout State) -> [Waiting] {
    var entered: [Waiting] = []
    while let first = state.waiting.first, hasRoom(for: first.batch, state) {
      state.waiting.removeFirst()
      state.waitingBytes -= first.batch.byteCount
      enter(first.batch, &state)
      entered.append(first)
    }
    roomFlag.store(state.waiting.isEmpty && !state.isClosed, ordering: .relaxed)
    return entered
  }

  private func hasRoom(for batch: RecordBatch, _ state: State) -> Bool {
    if state.unreleased == 0 { return true }
    return (maxEvents == 0 || state.unreleased + batch.count <= maxEvents)
      && (maxBytes == 0 || state.bytes + batch.byteCount <= maxBytes)
  }

  private func enter(_ batch: RecordBatch, _ state: inout State) {
    if state.unreleased == 0 { state.oldestArrivalNs = batch.arrivalNs }
    state.batches.append(batch)
    state.unread += batch.count
    state.unreleased += batch.count
    state.bytes += batch.byteCount
    appended.add(batch.count)
    appendedBytes.add(batch.byteCount)
  }

  // MARK: Reading

  public func read(maxRecords: Int, maxBytes: Int, until deadline: Instant, gather: Duration) -> QueueBatch? {
    let maxRecords = max(1, maxRecords)
    var gathersUntil: Instant?
    while true {
      let now = Instant.now
      let limit = gathersUntil.map { $0 > now ? min($0, deadline) : deadline } ?? deadline
      let found = gate.wait(until: limit) { state -> QueueBatch.Contents?? in
        if !state.returned.isEmpty { return state.returned.removeFirst() }
        if state.unread == 0 { return state.isClosed ? .some(nil) : nil }
        if !state.isClosed, gather.ns > 0, maxRecords > state.unread {
          guard let gathersUntil else { return .some(nil) }
          if Instant.now < min(gathersUntil, deadline) { return nil }
        }
        return take(maxRecords, maxBytes, &state)
      }
      switch found {
      case .some(.some(let contents)): return QueueBatch(contents, of: self)
      case .some(.none):
        if gathersUntil != nil || gate.withLock({ $0.isClosed && $0.unread == 0 }) { return nil }
        gathersUntil = Instant.now + gather
      case .none: if Instant.now >= deadline { return nil }
      }
    }
  }

  private func take(_ maxRecords: Int, _ maxBytes: Int, _ state: inout State) -> QueueBatch.Contents {
    var contents = QueueBatch.Contents()
    while contents.payloads.count < maxRecords, state.head < state.batches.count, let batch = state.batches[state.head]
    {
      let first = contents.payloads.count
      let base = UnsafeRawPointer(batch.payloads.pointer)
      var start = state.next == 0 ? 0 : batch.ends[state.next - 1]
      while state.next < batch.count, contents.payloads.count < maxRecords {
        let end = batch.ends[state.next]
        if !contents.payloads.isEmpty, contents.byteCount + end - start > maxBytes { break }
        contents.payloads.append(UnsafeRawBufferPointer(start: base + start, count: end - start))
        contents.byteCount += end - start
        start = end
        state.next += 1
      }
      let count = contents.payloads.count - first
      if count == 0 { break }
      if state.nextIndex > .max - UInt32(count) {
        state.identity = SegmentIdentity.draw()
        state.nextIndex = 0
      }
      contents.owners.append(batch)
      contents.runs.append(
        QueueBatch.Run(
          range: first..<first + count, arrivalNs: batch.arrivalNs, descriptor: batch.descriptor,
          context: batch.context,
          isRecovered: false, firstIdentity: RecordIdentity(segment: state.identity, index: state.nextIndex)))
      state.nextIndex += UInt32(count)
      if state.next < batch.count { break }
      state.batches[state.head] = nil
      state.head += 1
      state.next = 0
    }
    if state.head > 64, state.head * 2 > state.batches.count {
      state.batches.removeFirst(state.head)
      state.head = 0
    }
    state.unread -= contents.payloads.count
    state.inFlight += 1
    return contents
  }

  func finish(_ contents: QueueBatch.Contents) {
    released.add(contents.payloads.count)
    let entered = gate.update { state -> [Waiting] in
      state.inFlight -= 1
      state.unreleased -= contents.payloads.count
      state.bytes -= contents.byteCount
      if state.head < state.batches.count, let first = state.batches[state.head] {
        state.oldestArrivalNs = first.arrivalNs
      }
      return enterWaiting(&state)
    }
    for waiting in entered { waiting.completion(.success(())) }
  }

  func takeBack(_ contents: QueueBatch.Contents) {
    gate.update { $0.returned.append(contents) }
  }

  public var isDrained: Bool { gate.withLock { $0.unreleased == 0 && $0.waiting.isEmpty } }

  /// What is in the queue can still be read; waiting batches are refused.
  public func close() {
    let refused = gate.update { state -> [Waiting] in
      defer {
        state.waiting = []
        state.waitingBytes = 0
      }
      state.isClosed = true
      return state.waiting
    }
    roomFlag.store(false, ordering: .relaxed)
    for waiting in refused { waiting.completion(.failure(.closed)) }
  }

  public var statistics: QueueStatistics {
    var figures = QueueStatistics()
    gate.withLock { state in
      figures.events = state.unreleased
      figures.unreadEvents = state.unread
      figures.batchesInFlight = state.inFlight
      figures.bytes = state.bytes
      figures.waitingBytes = state.waitingBytes
      figures.waitingBatches = state.waiting.count
      figures.oldestArrivalNs = state.unreleased == 0 ? 0 : state.oldestArrivalNs
      if let first = state.waiting.first {
        if maxEvents > 0, state.unreleased + first.batch.count > maxEvents { figures.fullReasons.insert(.maxEvents) }
        if maxBytes > 0, state.bytes + first.batch.byteCount > maxBytes { figures.fullReasons.insert(.maxBytes) }
      }
    }
    figures.maxBytes = maxBytes
    figures.maxEvents = maxEvents
    figures.appendedEvents = appended.value
    figures.appendedBytes = appendedBytes.value
    figures.releasedEvents = released.value
    return figures
  }
}
