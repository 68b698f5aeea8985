//  The workers' side of the `elasticsearch` output: events become request bodies, which wait for the sender.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

final class BulkOutput: SpillingOutput {
  /// The settings, compiled.
  struct Plan: Sendable {
    let hosts: [(address: String, shown: String)]
    let index: Template
    let documentID: Template?
    let makesIDs: Bool
    let isCreate: Bool
    let user: String?
    let password: Secret?
    let authorization: Secret?
    let authorities: String?
    let verifies: Bool
    let compressionLevel: Int
    let timeout: Duration
    let firstPause: Duration
    let longestPause: Duration
    let bulkMaxBytes: Int
    let concurrentRequests: Int
  }

  /// Figures that workers and the sender raise.
  final class Figures: Sendable {
    let eventsIn = Counter()
    let eventsOut = Counter()
    let deadLetters = Counter()
    let duplicates = Counter()
    let retries = Counter()
    let requests = Counter()
    let failures = Counter()
    let bytes = Counter()
    let inFlight = Gauge()
    let trouble = Lock<String?>(nil)
  }

  static let longestIndexName = 255
  static let longestID = 512
  /// More bytes than this in flight make workers wait.
  static let flowLimit = 32 << 20

  let plan: Plan
  let context: OutputContext
  let figures = Figures()
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

  var statistics: OutputStatistics {
    var all = OutputStatistics()
    all.eventsIn = figures.eventsIn.value
    all.eventsOut = figures.eventsOut.value
    all.deadLetters = figures.deadLetters.value
    all.duplicates = figures.duplicates.value
    all.retries = figures.retries.value
    all.requests = figures.requests.value
    all.failures = figures.failures.value
    all.bytes = figures.bytes.value
    all.inFlight = figures.inFlight.value
    all.trouble = figures.trouble.withLock { $0 }
    return all
  }

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
      if let reason = appendAction(event, batch.delivery, to: &request.body, &scratch) {
        request.body.count = start
        guard keep(reason, event, batch.delivery, &scratch) else { continue }
        letters += 1
        continue
      }
      let documentStart = request.body.count
      event.appendJSON(to: &request.body)
      request.body.append(10)
      let document = BulkRequest.Document(
        start: start, documentStart: documentStart, end: request.body.count, record: event.record,
        part: event.part)
      if start == 0 || document.end <= plan.bulkMaxBytes {
        request.documents.append(document)
      } else {  // it opens the next request
        let next = BulkRequest(batch.delivery, flow, capacity: 64 << 10)
        next.canSpill = true
        next.body.append(UnsafeRawPointer(request.body.pointer + start), document.end - start)
        next.documents.append(
          BulkRequest.Document(
            start: 0, documentStart: documentStart - start, end: document.end - start, record: event.record,
            part: event.part))
        request.body.count = start
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
    enter(request)
  }

  /// Hands the request to the sender.
  func enter(_ request: BulkRequest) {
    request.count()
    let isLate = flow.withLock { state -> Bool in
      if !state.hasEnded { state.arrivals.append(request) }
      return state.hasEnded
    }
    if !isLate { sender.withLock({ $0 })?.wake() }
  }

  /// Appends the action line of `event`; returns why there can be none.
  private func appendAction(
    _ event: Event, _ delivery: Delivery, to body: inout ByteBuffer, _ scratch: inout ByteBuffer
  ) -> DeadLetterReason? {
    body.append(plan.isCreate ? "{\"create\":{\"_index\":\"" : "{\"index\":{\"_index\":\"")
    let nameStart = body.count
    let isWhole = (try? plan.index.append(event, to: &body)) ?? false
    let name = UnsafeRawBufferPointer(start: body.pointer + nameStart, count: body.count - nameStart)
    guard isWhole, Self.isIndexName(name) else {
      let shown = String(decoding: name.prefix(Self.longestIndexName), as: UTF8.self)
      let why = isWhole ? "is no legal name of an index" : "lacks the value of a field or its date"
      return DeadLetterReason(
        stage: context.stepID, type: "index-name", message: "The index '\(shown)' \(why).", index: shown)
    }
    body.append(34)
    guard plan.makesIDs || plan.documentID != nil else {
      body.append("}}\n")
      return nil
    }
    scratch.removeAll()
    var hasID = true
    if let template = plan.documentID {
      hasID = (try? template.append(event, to: &scratch)) ?? false
    } else {
      delivery.appendID(event, to: &scratch)
    }
    guard hasID, (1...Self.longestID).contains(scratch.count) else {
      let why = hasID ? "is empty or longer than 512 bytes" : "lacks the value of a field or its date"
      return DeadLetterReason(
        stage: context.stepID, type: "document-id", message: "The document's id \(why).",
        index: String(
          decoding: UnsafeRawBufferPointer(start: body.pointer + nameStart, count: body.count - 1 - nameStart),
          as: UTF8.self))
    }
    body.append(",\"_id\":")
    appendQuoted(scratch.bytes, to: &body)
    body.append("}}\n")
    return nil
  }

  /// `^[a-z0-9][a-z0-9._-]*$`, at most 255 bytes.
  static func isIndexName(_ name: UnsafeRawBufferPointer) -> Bool {
    guard let first = name.first, name.count <= longestIndexName, first != 46, first != 95, first != 45 else {
      return false
    }
    return name.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 46 || $0 == 95 || $0 == 45 }
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
    if plan.makesIDs {
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
