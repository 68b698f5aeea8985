//  What time does to a pipeline's filters: every five seconds, and once at the end, those with timed state give out what is
//  due, and it is appended to the pipeline's own queue as records. One thread per pipeline, and none where no filter
//  needs it; it never waits on an output, so that metrics go on while a cluster is away.
//
//  As long as a full queue has not taken what was made, nothing more is asked for: filters keep what they hold, within
//  their bounds.

internal import Diagnostics
internal import Events
internal import PluginKit
internal import Queue
internal import Records

/// The timer of one pipeline. `start` and `stop` once; `finish` behind them.
final class FlushTimer: Sendable {
  static let interval = Duration.seconds(5)
  /// Payload bytes of one append at most, but for the event that goes beyond.
  private static let batchBytes = 1 << 20

  private struct State {
    var isRunning = false
    var isStopping = false
    /// Appends that the queue has not answered.
    var waiting = 0
  }

  private let pipelineID: String
  private let steps: [(step: FilterStep, descriptor: RecordDescriptor)]
  private let queue: any EventQueue
  private let state = Gate(State())
  private let interval: Duration

  /// - Parameter steps: All steps of the pipeline.
  init(pipelineID: String, steps: [Step], queue: any EventQueue, interval: Duration) {
    self.pipelineID = pipelineID
    self.steps = FlushTimer.timed(steps).map { ($0, MadeEvents.descriptor(behind: $0.id)) }
    self.queue = queue
    self.interval = interval
  }

  private static func timed(_ steps: [Step]) -> [FilterStep] {
    steps.flatMap { step -> [FilterStep] in
      switch step {
      case .filter(let step): step.built.timed == nil ? [] : [step]
      case .branch(let branch): timed(branch.then) + timed(branch.otherwise)
      }
    }
  }

  /// Before the workers start: what filters kept between two runs is read.
  func open() { for (step, _) in steps { step.built.timed?.open() } }

  func start() {
    if steps.isEmpty { return }
    state.update { $0.isRunning = true }
    startThread("timer") { [self] in
      run()
      state.update { $0.isRunning = false }
    }
  }

  private func run() {
    let batch = EventBatch()
    var next = Instant.now + interval
    while true {
      if state.wait(until: next, { $0.isStopping ? true : nil }) != nil { return }
      next = Instant.now + interval
      if state.withLock({ $0.waiting }) == 0 { flush(batch, isFinal: false) }
    }
  }

  /// Ends the thread.
  func stop() {
    if steps.isEmpty { return }
    state.update { $0.isStopping = true }
    _ = state.wait(until: Instant.now + .seconds(10)) { $0.isRunning ? nil : true }
  }

  /// The last flush, once the workers have stopped or have nothing left to do; waits until the queue has what it made.
  func finish(deadline: Instant) {
    if steps.isEmpty { return }
    flush(EventBatch(), isFinal: true)
    for (step, _) in steps { step.built.timed?.close() }
    if state.wait(until: deadline, { $0.waiting == 0 ? true : nil }) == nil {
      Log.error(
        "pipeline.made-events-waiting", "The queue has not taken the events that filters gave out at the stop.",
        ["pipeline": .text(pipelineID), "next": "Make room on the disk or raise queue.max_bytes before the next stop."])
    }
  }

  private func flush(_ batch: EventBatch, isFinal: Bool) {
    let now = WallClock.ns
    for (step, descriptor) in steps {
      batch.removeAll()
      var made: [Int32] = []
      step.built.timed?.flush(
        FlushBatch(events: batch, success: step.built.success, nowNs: now) { made.append($0) }, isFinal: isFinal)
      made.removeAll { batch[$0].isCancelled }
      if made.isEmpty { continue }
      step.statistics.eventsOut.add(made.count)
      var records = RecordBatch(descriptor: descriptor, context: nil, arrivalNs: now)
      for i in made {
        MadeEvents.append(batch[i], to: &records.payloads)
        records.endRecord()
        if records.byteCount >= FlushTimer.batchBytes {
          append(records, of: step)
          records = RecordBatch(descriptor: descriptor, context: nil, arrivalNs: now)
        }
      }
      if records.count > 0 { append(records, of: step) }
    }
  }

  private func append(_ records: RecordBatch, of step: FilterStep) {
    let count = records.count
    let stepID = step.id
    state.update { $0.waiting += 1 }
    queue.append(records) { [self] result in
      if case .failure(let failure) = result {
        Log.error(
          "pipeline.made-events-lost", "The queue refused events that a filter made; they are lost.",
          [
            "pipeline": .text(pipelineID), "filter": .text(stepID), "events_lost": .number(count),
            "reason": .text(failure == .closed ? "the queue is closed" : "they are larger than the queue takes"),
          ])
      }
      state.update { $0.waiting -= 1 }
    }
  }
}
