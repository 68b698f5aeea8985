//  Overflow queues: one output that lags must not hold up the others of its pipeline.
//
//  What an output has not taken after `queue.spill_after` of waiting goes, encoded and with its ids, to a queue of its own
//  beside the pipeline's, in the same format; its range of the pipeline's queue is released once that is synced. A thread
//  sends from there in order, and only when the output has answered are the records released. While anything waits there,
//  newer events queue up behind it.
//
//  An output spills only while another destination of the pipeline goes on: if all wait, moving events from one queue to
//  another would only fill the disk, and nothing is taken from the pipeline's queue. Outputs with the same hosts lag
//  together and count as one. The queues share one limit.
//
//  A record holds what a dead letter needs as well:
//
//      u32 version, u32 part, u32 bytes of the id, of the arrived event, of the action and of the event where the body is
//      something else; then these, and the body
//
//  with the descriptor, context and arrival of the record that its event was made of.

package import Diagnostics
internal import Events
internal import Glibc
package import PluginKit
package import Queue
internal import Records
internal import Synchronization

/// The overflow queue of one output.
package final class OutputOverflow: Overflow {
  private struct State {
    var queue: DiskQueue?
    var isSpilling = false
    var beganAt = Instant(ns: 0)
    var isClosed = false
    /// Batches that the output has and has not answered.
    var inFlight = 0
    /// Events on their way to the disk.
    var arriving = 0
    var isFeeding = false
    var nextTry = Instant(ns: 0)
  }

  package let step: OutputStep
  package let folder: String
  private let output: any SpillingOutput
  private let settings: QueueSettings
  private let spillAfter: Duration
  private let fileSystem: any FileSystem
  private let state = Gate(State())
  private let opening = Lock(())
  private let others: Lock<[ProgressWatch]>
  private let own: Lock<ProgressWatch>
  package let spilledEvents = Counter()
  /// Batches that the output may hold at once, each up to `batchBytes`.
  private static let inFlightLimit = 4
  private static let batchBytes = 2 << 20

  /// - Parameter others: The pipeline's outputs by destination, without this output's own.
  package init(
    _ step: OutputStep, _ output: any SpillingOutput, others: [[OutputStep]], folder: String, settings: QueueSettings,
    spillAfter: Duration, fileSystem: any FileSystem = RealFileSystem()
  ) {
    self.step = step
    self.output = output
    self.folder = folder
    self.settings = settings
    self.spillAfter = spillAfter
    self.fileSystem = fileSystem
    self.others = Lock(others.map(ProgressWatch.init))
    own = Lock(ProgressWatch([step]))
    output.spill(to: self)
  }

  /// Takes up what an earlier life left there; a queue that was never needed is not made.
  package func start() throws(QueueOpenError) {
    let names: [String]
    do { names = try fileSystem.list(folder) } catch {
      if error.code == ENOENT { return }
      throw .disk(error, path: folder)
    }
    guard names.contains(where: { $0.hasSuffix(".seg") || $0 == "checkpoint" }) else { return }
    let queue = try open()
    let left = queue.statistics.events
    guard left > 0 else { return }
    state.update { $0.isSpilling = true }
    Log.info(
      "overflow.left", "An output's overflow queue holds events from before; they are sent first.",
      ["output": .text(step.id), "folder": .text(folder), "events": .number(left)])
  }

  package func close() {
    let queue = state.update { state -> DiskQueue? in
      state.isClosed = true
      return state.queue
    }
    _ = state.wait(until: Instant.now + .seconds(2)) { $0.isFeeding ? nil : true }
    queue?.close()
  }

  package var statistics: QueueStatistics? { state.withLock { $0.queue }?.statistics }
  package var isSpilling: Bool { state.withLock { $0.isSpilling } }
  package var isDrained: Bool { state.withLock { $0.queue }?.isDrained ?? true }

  private func open() throws(QueueOpenError) -> DiskQueue {
    try opening.withLock { _ throws(QueueOpenError) in
      if let queue = state.withLock({ $0.queue }) { return queue }
      let queue = try DiskQueue(folder: folder, settings: settings, fileSystem: fileSystem)
      state.update {
        $0.queue = queue
        $0.isFeeding = true
      }
      startThread("overflow") { [self] in
        feed(queue)
        state.update { $0.isFeeding = false }
      }
      return queue
    }
  }

  // MARK: Deciding

  package func decide(waitingSince: Instant, hasRoom: Bool) -> OverflowDecision {
    let now = Instant.now
    let window = max(spillAfter, .seconds(1))
    let othersGoOn = others.withLock { watches in
      // All of them are looked at, so that each sample is fresh.
      var goesOn = false
      for i in watches.indices where watches[i].goesOn(now, window) { goesOn = true }
      return goesOn
    }
    let ownGoesOn = own.withLock { $0.goesOn(now, .seconds(2)) }
    guard isSpilling else {
      if hasRoom { return .send }
      guard othersGoOn, now - waitingSince >= spillAfter else { return .wait }
      return begin(now) ? .spill : .wait
    }
    if hasRoom, ownGoesOn, isTakenUp {
      end()
      return .send
    }
    return othersGoOn ? .spill : .wait
  }

  private func end() {
    let isNews = state.update { state in
      defer { state.isSpilling = false }
      return state.isSpilling
    }
    guard isNews else { return }
    Log.info("overflow.ends", "An output takes events again; its overflow queue is sent.", ["output": .text(step.id)])
  }

  /// Whether the output has been given all that was spilled.
  private var isTakenUp: Bool {
    let (queue, arriving) = state.withLock { ($0.queue, $0.arriving) }
    return arriving == 0 && queue.map { $0.statistics.unreadEvents == 0 } ?? true
  }

  private func begin(_ now: Instant) -> Bool {
    let mayTry = state.withLock { state in
      defer { if now >= state.nextTry { state.nextTry = now + .seconds(1) } }
      return !state.isClosed && (state.queue != nil || now >= state.nextTry)
    }
    guard mayTry else { return false }
    do {
      _ = try open()
    } catch {
      Log.error(
        "overflow.no-queue", "An output lags, and its overflow queue cannot be opened; the other outputs wait for it.",
        [
          "output": .text(step.id), "folder": .text(folder), "reason": .text(error.description),
          "next": "look at the folder's owner and the disk",
        ])
      return false
    }
    let isNews = state.update { state in
      defer { state.isSpilling = true }
      if !state.isSpilling { state.beganAt = now }
      return !state.isSpilling
    }
    if isNews {
      Log.warn(
        "overflow.begins", "An output lags; its events go to an overflow queue, and the other outputs go on.",
        [
          "output": .text(step.id), "folder": .text(folder),
          "reason": Log.foreign(step.output.statistics.trouble ?? "it takes events too slowly"),
          "next": "mend its server; what lies there is sent by itself, in order",
        ])
    }
    return true
  }

  // MARK: To the disk

  package func append(
    _ events: [EncodedEvent], of source: any SourceRecords, completion: @escaping @Sendable (Bool) -> Void
  ) {
    guard !events.isEmpty, let queue = state.withLock({ $0.isClosed ? nil : $0.queue }) else {
      return completion(events.isEmpty)
    }
    let batches = OverflowRecord.batches(events, source)
    let open = AnswerCount(batches.count)
    state.withLock { $0.arriving += events.count }
    for batch in batches {
      queue.append(batch) { [self] result in
        if case .failure = result { open.fail() }
        guard let isKept = open.finish() else { return }
        state.update { $0.arriving -= events.count }
        if isKept { spilledEvents.add(events.count) }
        completion(isKept)
      }
    }
  }

  /// Counts answers, and remembers whether all were good.
  private final class AnswerCount: Sendable {
    private let open: Atomic<Int>
    private let hasFailed = Atomic<Bool>(false)
    init(_ count: Int) { open = Atomic(count) }
    func fail() { hasFailed.store(true, ordering: .releasing) }
    /// The outcome, at the last answer.
    func finish() -> Bool? {
      open.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0
        ? !hasFailed.load(ordering: .acquiring) : nil
    }
  }

  // MARK: From the disk

  private func feed(_ queue: DiskQueue) {
    while true {
      let goesOn = state.wait { state -> Bool? in
        if state.isClosed { return false }
        return state.inFlight < Self.inFlightLimit ? true : nil
      }
      guard goesOn == true else { return }
      guard
        let batch = queue.read(
          maxRecords: 1000, maxBytes: Self.batchBytes, until: Instant.now + .milliseconds(200), gather: .zero)
      else {
        // An idle pipeline shows that all is well again; what has just begun to spill is still on its way.
        let isOld = state.withLock { Instant.now - $0.beganAt > .seconds(2) }
        if isOld, queue.isDrained, isTakenUp { end() }
        continue
      }
      let source = OverflowRecords(batch)
      if source.events.count < batch.count {
        Log.error(
          "overflow.unreadable", "Records of an overflow queue were written by another version; they are left out.",
          [
            "output": .text(step.id), "folder": .text(folder), "events": .number(batch.count - source.events.count),
            "next": "`sluice queue dump --all` prints them",
          ])
      }
      state.update { $0.inFlight += 1 }
      let delivery = Delivery(source: source) { [state] in
        batch.release()
        state.update { $0.inFlight -= 1 }
      }
      output.write(source.events, delivery: delivery)
      delivery.seal()
    }
  }
}

/// Whether a group of outputs goes on: something was answered lately, or nothing waits for an answer.
private struct ProgressWatch {
  private let steps: [OutputStep]
  private var finished = 0
  /// Long ago, until something is answered.
  private var changedAt = Instant(ns: .min / 2)

  init(_ steps: [OutputStep]) { self.steps = steps }

  mutating func goesOn(_ now: Instant, _ window: Duration) -> Bool {
    var count = 0
    var waiting = 0
    for step in steps {
      let figures = step.output.statistics
      count += figures.eventsOut + figures.deadLetters
      waiting += figures.inFlight
    }
    if count != finished {
      finished = count
      changedAt = now
    }
    return waiting == 0 || now - changedAt <= window
  }
}

/// One record of an overflow queue.
private enum OverflowRecord {
  static let headBytes = 24

  /// Neighbours of one origin share a batch.
  static func batches(_ events: [EncodedEvent], _ source: any SourceRecords) -> [RecordBatch] {
    var batches: [RecordBatch] = []
    var id = ByteBuffer()
    for event in events {
      let origin = source.origin(event.record)
      let descriptor = origin?.descriptor ?? .none
      let arrival = source.arrivalNs(event.record)
      let fits = batches.last.map {
        $0.arrivalNs == arrival && $0.context == origin?.context && $0.descriptor == descriptor
      }
      if fits != true {
        batches.append(RecordBatch(descriptor: descriptor, context: origin?.context, arrivalNs: arrival))
      }
      guard let batch = batches.last else { continue }
      id.removeAll()
      source.appendID(event.record, to: &id)
      source.withPayload(event.record) { arrived in
        batch.payloads.append(littleEndian: UInt32(1))
        batch.payloads.append(littleEndian: UInt32(clamping: event.part))
        batch.payloads.append(littleEndian: UInt32(clamping: id.count))
        batch.payloads.append(littleEndian: UInt32(clamping: arrived.count))
        batch.payloads.append(littleEndian: UInt32(clamping: event.action.count))
        batch.payloads.append(littleEndian: UInt32(clamping: event.event.count))
        batch.payloads.append(id.bytes)
        batch.payloads.append(arrived)
        batch.payloads.append(contentsOf: event.action)
        batch.payloads.append(contentsOf: event.event)
        batch.payloads.append(contentsOf: event.body)
      }
      batch.endRecord()
    }
    return batches
  }

  struct Parts {
    var part: Int
    var id: UnsafeRawBufferPointer
    var arrived: UnsafeRawBufferPointer
    var action: UnsafeRawBufferPointer
    var event: UnsafeRawBufferPointer
    var body: UnsafeRawBufferPointer
  }

  /// - Returns: nil for a record of another version.
  static func read(_ payload: UnsafeRawBufferPointer) -> Parts? {
    guard payload.count >= headBytes, let base = payload.baseAddress else { return nil }
    func number(_ i: Int) -> Int {
      Int(UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self)))
    }
    guard number(0) == 1 else { return nil }
    var rest = payload[headBytes...]
    func take(_ count: Int) -> UnsafeRawBufferPointer? {
      guard count <= rest.count else { return nil }
      defer { rest = rest.dropFirst(count) }
      return UnsafeRawBufferPointer(rebasing: rest.prefix(count))
    }
    guard let id = take(number(2)), let arrived = take(number(3)), let action = take(number(4)),
      let event = take(number(5)), let body = take(rest.count)
    else { return nil }
    return Parts(part: number(1), id: id, arrived: arrived, action: action, event: event, body: body)
  }
}

/// The records of a batch of an overflow queue: ids and payloads are those of the events that were spilled.
private final class OverflowRecords: SourceRecords {
  private let batch: QueueBatch
  let events: [EncodedEvent]

  init(_ batch: QueueBatch) {
    self.batch = batch
    events = (0..<batch.count).compactMap { i in
      OverflowRecord.read(batch.payload(i)).map {
        EncodedEvent(record: i, part: $0.part, action: Array($0.action), body: Array($0.body), event: Array($0.event))
      }
    }
  }

  private func parts(_ record: Int) -> OverflowRecord.Parts? {
    record >= 0 && record < batch.count ? OverflowRecord.read(batch.payload(record)) : nil
  }
  func appendID(_ record: Int, to out: inout ByteBuffer) { if let parts = parts(record) { out.append(parts.id) } }
  func withPayload(_ record: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    body(parts(record)?.arrived ?? UnsafeRawBufferPointer(start: nil, count: 0))
  }
  func arrivalNs(_ record: Int) -> Int64 {
    record >= 0 && record < batch.count ? batch.runs[batch.runIndex(of: record)].arrivalNs : 0
  }
  /// What waited for an answer when it was spilled may have been sent.
  func isRecovered(_ record: Int) -> Bool { true }
  func origin(_ record: Int) -> (descriptor: RecordDescriptor, context: RecordContext?)? {
    guard record >= 0, record < batch.count else { return nil }
    let run = batch.runs[batch.runIndex(of: record)]
    return run.descriptor == .none ? nil : (run.descriptor, run.context)
  }
}
