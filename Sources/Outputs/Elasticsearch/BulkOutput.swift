//  The workers' side of the `elasticsearch` output: events become request bodies, which wait for the sender.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

final class BulkOutput: SpillingOutput {
  /// The settings, compiled.
  struct Plan: Sendable {
    var hosts: [(base: String, shown: String)]
    var connection = ClusterConnection()
    var writer: ActionWriter
    /// Behind a host's base: `/_bulk?…`.
    var bulkPath: String
    var healthPath: String
    var sniffPath: String?
    var sniffPause = Duration.seconds(5)
    var compressionLevel = 0
    var firstPause = Duration.seconds(2)
    var longestPause = Duration.seconds(64)
    var resurrectPause = Duration.seconds(5)
    var bulkMaxBytes = 2 << 20
    var concurrentRequests = 16
    /// Statuses of documents that become dead letters at once.
    var letterCodes: Set<Int> = []
    /// Error types of documents that are dropped.
    var dropTypes: Set<String> = []
    var silentTypes: Set<String> = []
    var conflictCure = ConflictCure.deadLetter
  }

  /// More bytes than this in flight make workers wait.
  static let flowLimit = 32 << 20

  let plan: Plan
  let context: OutputContext
  let figures = BulkFigures()
  let flow = Gate(BulkFlow())
  private let sender = Lock<BulkSender?>(nil)

  init(_ plan: Plan, _ context: OutputContext) {
    self.plan = plan
    self.context = context
  }

  func start() throws {
    let made = try BulkSender(plan, context, figures, flow)
    sender.withLock { $0 = made }
    startThread("es-\(context.stepID)") { made.run() }
  }

  func stop(deadline: Instant) {
    guard let sender = sender.withLock({ $0 }) else { return }
    flow.update {
      $0.isStopping = true
      $0.deadline = deadline
    }
    sender.wake()
    // The sender itself minds the deadline; a second is its time to let go.
    _ = flow.wait(until: deadline + .seconds(1)) { $0.hasEnded ? true : nil }
  }

  var statistics: OutputStatistics { figures.statistics }

  func write(_ batch: OutputBatch) {
    let n = batch.selection.count
    guard n > 0 else { return }
    batch.delivery.expect(n)
    figures.eventsIn.add(n)
    figures.inFlight.add(n)
    var request = BulkRequest(batch.delivery, flow, capacity: 64 << 10)
    request.canSpill = true
    var scratch = ByteBuffer(capacity: 1024)
    var letters = 0
    for i in batch.selection {
      let event = batch.events[i]
      let start = request.body.count
      let unsent = request.unsent.count
      if let reason = plan.writer.append(event, batch.delivery, to: request, &scratch) {
        request.body.count = start
        request.unsent.count = unsent
        if keep(reason, event, batch.delivery, &scratch) { letters += 1 }
        continue
      }
      if start > 0, request.body.count > plan.bulkMaxBytes, let last = request.documents.popLast() {
        // It opens the next request.
        let next = BulkRequest(batch.delivery, flow, capacity: 64 << 10)
        next.canSpill = true
        next.take(last, from: request)
        request.body.count = start
        request.unsent.count = unsent
        queue(request)
        request = next
      }
    }
    if !request.documents.isEmpty { queue(request) }
    if letters > 0, waitUntilTrue({ context.deadLetters.sync() }) {
      figures.deadLetters.add(letters)
      figures.inFlight.add(-letters)
      batch.delivery.finish(letters)
    }
  }

  func queue(_ request: BulkRequest) {
    if spilled(request) { return }
    _ = flow.wait { $0.bytes <= Self.flowLimit || $0.isStopping ? true : nil }
    request.count()
    let isLate = flow.withLock { state -> Bool in
      if !state.hasEnded { state.arrivals.append(request) }
      return state.hasEnded
    }
    if !isLate { sender.withLock({ $0 })?.wake() }
  }

  /// Writes a dead letter; waits while it cannot be kept.
  ///
  /// - Returns: False when the output stops before: the event stays unanswered.
  private func keep(
    _ reason: DeadLetterReason, _ event: Event, _ delivery: Delivery, _ scratch: inout ByteBuffer
  ) -> Bool {
    var reason = reason
    reason.part = event.part
    scratch.removeAll()
    if plan.writer.makesIDs {
      delivery.appendID(event, to: &scratch)
      reason.documentID = scratch.string()
      scratch.removeAll()
    }
    event.appendJSON(to: &scratch)
    let document = scratch.bytes
    return waitUntilTrue {
      context.deadLetters.write(reason, source: delivery.source, record: event.record, document: document)
    }
  }

  /// Tries once a second until it works; false when the output stops before.
  private func waitUntilTrue(_ attempt: () -> Bool) -> Bool {
    while !attempt() {
      Log.warn(
        "es.no-dead-letters", "Dead letters cannot be kept; the output waits.", ["output": .text(context.stepID)])
      if flow.wait(until: .now + .seconds(1), { $0.isStopping ? true : nil }) != nil { return attempt() }
    }
    return true
  }
}
