//  A running pipeline: workers between its queue and its outputs.
//
//  Each worker is one thread with everything of its own. It takes a batch of records, decodes them, runs the steps, and
//  hands what remains to the outputs, which encode it at once. A batch's range of the queue is released when every
//  output has answered for every event; until then the records stay in the queue, on disk, and come again after a
//  crash. What bounds the memory of all this is the outputs: `write` waits while too much is in flight.

package import Diagnostics
package import Events
internal import Glibc
package import PluginKit
package import Queue
internal import Records
internal import Synchronization

/// An output in its place.
package final class OutputStep: Sendable {
  package let id: String
  package let kind: String
  package let position: SourcePosition
  package let condition: Condition?
  package let output: any Output
  package let statistics = StepStatistics()

  package init(id: String, kind: String, position: SourcePosition, condition: Condition?, output: any Output) {
    self.id = id
    self.kind = kind
    self.position = position
    self.condition = condition
    self.output = output
  }
}

/// How a pipeline runs.
package struct RuntimeSettings: Sendable {
  package var workers = 2
  package var batchSize = 1000
  package var batchDelay = Duration.milliseconds(50)
  /// Payload bytes of one batch at most.
  package var batchBytes = 4 << 20
  /// How often filters with timed state are asked.
  package var flushInterval = Duration.seconds(5)
  package init() {}
}

/// A pipeline at work. `start` once, `stop` once.
package final class PipelineRuntime: Sendable {
  package let id: String
  package let steps: [Step]
  package let outputs: [OutputStep]
  package let queue: any EventQueue
  package let deadLetters: any DeadLetterSink
  package let settings: RuntimeSettings
  private let overflows: [OutputOverflow]
  /// The kinds of filters that there are, for decoding that parses.
  let filters: [String: FilterKind]

  package let eventsIn = Counter()
  package let eventsFiltered = Counter()
  /// Events that every output has finished with: delivered, dead-lettered, or passed by its condition.
  package let eventsOut = Counter()
  package let workerBusyNs = Counter()
  /// Batches that workers took, the bytes of their payloads, and the last one's figures.
  package let batches = Counter()
  package let batchBytes = Counter()
  package let lastBatchEvents = Gauge()
  package let lastBatchBytes = Gauge()

  private struct Threads {
    var running = 0
    var isStopping = false
  }
  private let threads = Gate(Threads())
  private let timer: FlushTimer
  private let isStopping = Atomic<Bool>(false)

  package init(
    id: String, steps: [Step], outputs: [OutputStep], queue: any EventQueue, deadLetters: any DeadLetterSink,
    settings: RuntimeSettings, filters: [String: FilterKind] = [:], overflows: [OutputOverflow] = []
  ) {
    self.overflows = overflows
    self.filters = filters
    self.id = id
    self.steps = steps
    self.outputs = outputs
    self.queue = queue
    self.deadLetters = deadLetters
    self.settings = settings
    timer = FlushTimer(pipelineID: id, steps: steps, queue: queue, interval: settings.flushInterval)
  }

  package var stopRequested: Bool { isStopping.load(ordering: .relaxed) }

  /// Waits a moment before something is tried again, unless the stop comes.
  fileprivate func pauseBeforeRetry() {
    _ = threads.wait(until: Instant.now + .milliseconds(200)) { $0.isStopping ? true : nil }
  }

  /// Starts outputs, then workers.
  package func start() throws {
    for step in outputs { try step.output.start() }
    for overflow in overflows { try overflow.start() }
    timer.open()
    for number in 0..<max(1, settings.workers) {
      threads.update { $0.running += 1 }
      startThread("worker-\(number)") { [self] in
        Worker(self, number: number).run()
        threads.update { $0.running -= 1 }
      }
    }
    timer.start()
  }

  /// Ends the workers, lets outputs finish what is in flight until `deadline`, and leaves the rest in the queue. What
  /// filters hold back is asked for once, when the workers have nothing left to do, and goes to the queue as well.
  ///
  /// - Parameter drain: Works until the queue is empty first, within the same deadline.
  package func stop(deadline: Instant, drain: Bool) {
    timer.stop()
    if drain {
      waitUntilDrained(deadline)
      timer.finish(deadline: deadline)
      waitUntilDrained(deadline)
    }
    isStopping.store(true, ordering: .releasing)
    threads.update { $0.isStopping = true }
    // A worker may wait in an output that is stuck; stopping the outputs frees it.
    let ended = threads.wait(until: min(deadline, Instant.now + .seconds(1))) { $0.running == 0 ? true : nil }
    for step in outputs { step.output.stop(deadline: deadline) }
    if ended == nil { _ = threads.wait(until: Instant.now + .seconds(2)) { $0.running == 0 ? true : nil } }
    if !drain { timer.finish(deadline: Instant.now + .seconds(1)) }
    for overflow in overflows { overflow.close() }
  }

  private func waitUntilDrained(_ deadline: Instant) {
    while !queue.isDrained || !overflows.allSatisfy(\.isDrained), Instant.now < deadline {
      _ = threads.wait(until: Instant.now + .milliseconds(20)) { _ in nil as Int? }
    }
  }
}

/// The records of a queue batch, for ids and dead letters.
final class QueueSource: SourceRecords {
  let batch: QueueBatch
  init(_ batch: QueueBatch) { self.batch = batch }

  func appendID(_ record: Int, to out: inout ByteBuffer) {
    guard record >= 0, record < batch.count else { return }
    out.reserve(RecordIdentity.textByteCount)
    batch.identity(record).writeText(to: out.pointer + out.count)
    out.count += RecordIdentity.textByteCount
  }
  func withPayload(_ record: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    guard record >= 0, record < batch.count else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
    body(batch.payload(record))
  }
  func arrivalNs(_ record: Int) -> Int64 {
    record >= 0 && record < batch.count ? batch.runs[batch.runIndex(of: record)].arrivalNs : 0
  }
  func isRecovered(_ record: Int) -> Bool {
    record >= 0 && record < batch.count && batch.runs[batch.runIndex(of: record)].isRecovered
  }
  func origin(_ record: Int) -> (descriptor: RecordDescriptor, context: RecordContext?)? {
    guard record >= 0, record < batch.count else { return nil }
    let run = batch.runs[batch.runIndex(of: record)]
    return (run.descriptor, run.context)
  }
}

/// One worker thread's loop and memory.
final class Worker: ConditionFailureHandler {
  let runtime: PipelineRuntime
  private let number: Int
  let batch = EventBatch()
  private(set) var runner: StepRunner!
  let decoders: RecordDecoders
  var selection: [Int32] = []
  private var part: [Int32] = []
  /// How many outputs an event goes to.
  private var uses: [UInt8] = []
  /// Events that a timer made, by the step behind which they go on.
  private var continued: [String: [Int32]] = [:]
  private var document = ByteBuffer()
  var source: (any SourceRecords)?
  /// Letters were written since the last sync; a letter could not be written before the stop.
  private var hasUnsyncedLetters = false
  private var hasLostLetter = false

  init(_ runtime: PipelineRuntime, number: Int) {
    self.runtime = runtime
    self.number = number
    decoders = RecordDecoders(filters: runtime.filters)
    runner = StepRunner(runtime.steps, handler: self)
  }

  func run() {
    while !runtime.stopRequested {
      let wait = Instant.now + .milliseconds(200)
      if let records = runtime.queue.read(
        maxRecords: runtime.settings.batchSize, maxBytes: runtime.settings.batchBytes, until: wait,
        gather: runtime.settings.batchDelay)
      {
        let start = Instant.now
        process(records)
        runtime.workerBusyNs.add(Int((Instant.now - start).ns))
      }
    }
  }

  private func process(_ records: QueueBatch) {
    let source = QueueSource(records)
    self.source = source
    defer { self.source = nil }
    batch.removeAll()
    decoders.startBatch()
    batch.recordIDs = source
    selection.removeAll(keepingCapacity: true)
    for run in records.runs {
      let decoder = decoders.decoder(run.descriptor)
      for i in run.range {
        decoder.decode(
          records.payload(i), context: run.context, record: i, arrivalNs: run.arrivalNs, into: batch
        ) { enter($0, decoder) }
      }
    }
    runtime.eventsIn.add(selection.count)
    runtime.batches.add()
    runtime.batchBytes.add(records.byteCount)
    runtime.lastBatchEvents.set(records.count)
    runtime.lastBatchBytes.set(records.byteCount)
    runner.run(batch, &selection)
    if !continued.isEmpty { runContinued() }
    runtime.eventsFiltered.add(selection.count)
    deliver(
      Delivery(source: source) { [runtime, count = selection.count] in
        records.release()
        runtime.eventsOut.add(count)
      })
  }

  /// An event of the batch, which meets all steps, or those behind the one that made it.
  func enter(_ event: Event, _ decoder: RecordDecoder) {
    if let step = decoder.continuesBehind {
      continued[step, default: []].append(event.index)
    } else {
      selection.append(event.index)
    }
  }

  func runContinued() {
    for (step, events) in continued.sorted(by: { $0.key < $1.key }) {
      var part = events
      runner.run(batch, &part, behind: step)
      selection += part
    }
    continued.removeAll()
  }

  func deliver(_ delivery: Delivery) {
    let choices = runtime.outputs.map { step in step.condition.map { choose($0, step) } ?? selection }
    keepShared(choices)
    for (step, chosen) in zip(runtime.outputs, choices) where !chosen.isEmpty {
      step.statistics.eventsIn.add(chosen.count)
      let start = Instant.now
      chosen.withUnsafeBufferPointer {
        step.output.write(OutputBatch(events: batch, selection: $0, delivery: delivery))
      }
      step.statistics.durationNs.add(Int((Instant.now - start).ns))
    }
    // Letters of undecided conditions are on disk before their records are released; where they cannot be kept, the
    // batch is never answered and comes again.
    while hasUnsyncedLetters {
      if runtime.deadLetters.sync() { hasUnsyncedLetters = false } else if runtime.stopRequested { return }
      if hasUnsyncedLetters { runtime.pauseBeforeRetry() }
    }
    if hasLostLetter {
      hasLostLetter = false
      return
    }
    delivery.seal()
  }

  /// What goes to several outputs is encoded once.
  private func keepShared(_ choices: [[Int32]]) {
    guard choices.count(where: { !$0.isEmpty }) > 1 else { return }
    uses.removeAll(keepingCapacity: true)
    uses.append(contentsOf: repeatElement(0, count: batch.count))
    for chosen in choices {
      for i in chosen {
        uses[Int(i)] &+= 1
        if uses[Int(i)] == 2 { batch[i].keepJSON() }
      }
    }
  }

  /// The events that an output's condition lets through; one that cannot be decided is lost to this output alone.
  private func choose(_ condition: Condition, _ step: OutputStep) -> [Int32] {
    part.removeAll(keepingCapacity: true)
    for i in selection {
      do {
        if try condition.evaluate(batch[i], runner.scratch) { part.append(i) }
      } catch {
        step.statistics.conditionFailures.add()
        writeLetter(batch[i], stage: step.id, condition, error, at: step.position)
      }
    }
    return part
  }

  // MARK: Conditions without an answer

  func conditionFailed(_ event: Event, _ condition: Condition, _ failure: ConditionFailure, at position: SourcePosition)
  {
    writeLetter(event, stage: "condition", condition, failure, at: position)
  }

  private func writeLetter(
    _ event: Event, stage: String, _ condition: Condition, _ failure: ConditionFailure, at position: SourcePosition
  ) {
    Log.warn(
      "pipeline.condition-undecided", "A condition has no answer for an event; the event became a dead letter.",
      [
        "pipeline": .text(runtime.id), "at": .text(position.description), "reason": .text(failure.reason.rawValue),
        "condition": Log.foreign(condition.description),
        "next": "`sluice dlq list` shows the letters; test the field's presence and type first.",
      ])
    document.removeAll()
    event.appendJSON(to: &document)
    let reason = DeadLetterReason(
      stage: stage, type: "condition",
      message: "\(failure.reason.rawValue): \(condition.description) at \(position)", part: event.part)
    let source = self.source ?? NoRecords()
    while !runtime.deadLetters.write(reason, source: source, record: event.record, document: document.bytes) {
      if runtime.stopRequested {
        hasLostLetter = true
        return
      }
      runtime.pauseBeforeRetry()
    }
    hasUnsyncedLetters = true
  }
}

/// Stands for records where there are none.
private final class NoRecords: SourceRecords {
  func appendID(_ record: Int, to out: inout ByteBuffer) {}
  func withPayload(_ record: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    body(UnsafeRawBufferPointer(start: nil, count: 0))
  }
  func arrivalNs(_ record: Int) -> Int64 { 0 }
  func isRecovered(_ record: Int) -> Bool { false }
}
