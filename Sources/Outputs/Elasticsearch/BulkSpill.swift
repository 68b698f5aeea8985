//  Documents that are sent once more as they were encoded: dead letters that are replayed, and what the overflow queue
//  kept while the cluster took nothing; and the way of requests into that queue.

internal import Diagnostics
internal import Events
internal import PluginKit

extension BulkOutput {
  /// Outputs to the same servers lag together, whatever their options.
  var destination: String { plan.hosts.map(\.base).sorted().joined(separator: " ") }

  func spill(to overflow: any Overflow) { flow.update { $0.overflow = overflow } }

  func write(_ events: [EncodedEvent], delivery: Delivery) {
    guard !events.isEmpty else { return }
    delivery.expect(events.count)
    figures.eventsIn.add(events.count)
    figures.inFlight.add(events.count)
    var request = BulkRequest(delivery, flow, capacity: 64 << 10)
    for event in events {
      if !request.documents.isEmpty, request.body.count + event.action.count + event.body.count > plan.bulkMaxBytes {
        queue(request)
        request = BulkRequest(delivery, flow, capacity: 64 << 10)
      }
      append(event, to: request)
    }
    queue(request)
  }

  private func append(_ event: EncodedEvent, to request: BulkRequest) {
    let start = request.body.count
    request.body.append(contentsOf: event.action)
    request.body.append(10)
    let bodyStart = request.body.count
    let isDeletion = event.body.isEmpty
    if !isDeletion {
      request.body.append(contentsOf: event.body)
      request.body.append(10)
    }
    var document = BulkRequest.Document(
      action: Self.kind(event.action), start: start, end: request.body.count, eventStart: bodyStart,
      eventEnd: bodyStart + event.body.count, record: event.record, part: event.part)
    if isDeletion {
      document.eventStart = request.unsent.count
      request.unsent.append(contentsOf: event.event)
      document.eventEnd = request.unsent.count
    } else if !event.event.isEmpty, let place = event.body.firstRange(of: event.event) {
      document.eventStart = bodyStart + place.lowerBound
      document.eventEnd = bodyStart + place.upperBound
    }
    request.documents.append(document)
  }

  /// The action that a line names: `{"create":…`.
  private static func kind(_ line: [UInt8]) -> BulkAction {
    let name = line.dropFirst(2).prefix { $0 != UInt8(ascii: "\"") }
    return BulkAction(rawValue: String(decoding: name, as: UTF8.self)) ?? .create
  }

  /// Puts the request into the overflow queue where that is decided; waits for the decision and the disk.
  ///
  /// - Returns: False where the request is to be sent.
  func spilled(_ request: BulkRequest) -> Bool {
    guard request.canSpill, let overflow = flow.withLock({ $0.overflow }) else { return false }
    let since = Instant.now
    while true {
      let (hasRoom, isStopping) = flow.withLock { ($0.bytes <= Self.flowLimit, $0.isStopping) }
      if isStopping { return false }
      switch overflow.decide(waitingSince: since, hasRoom: hasRoom) {
      case .send: return false
      case .wait:
        _ = flow.wait(until: .now + .milliseconds(100)) { $0.bytes <= Self.flowLimit || $0.isStopping ? true : nil }
      case .spill:
        let answer = Lock<Bool?>(nil)
        BulkOutput.spill(request, to: overflow, figures) { [flow] isKept in
          answer.withLock { $0 = isKept }
          flow.update { _ in }
        }
        // At a stop the disk may still answer; the worker is let go before.
        let isKept = flow.wait { state in answer.withLock { $0 } ?? (state.isStopping ? true : nil) }
        return isKept ?? true
      }
    }
  }

  /// Hands the request's documents to the overflow queue and answers for them once they are on disk.
  static func spill(
    _ request: BulkRequest, to overflow: any Overflow, _ figures: BulkFigures,
    completion: @escaping @Sendable (Bool) -> Void
  ) {
    let n = request.documents.count
    let events = request.documents.map { document in
      let isWhole = document.action == .create || document.action == .index
      return EncodedEvent(
        record: document.record, part: document.part, action: Array(request.action(document)),
        body: Array(request.line(document)), event: isWhole ? [] : Array(request.json(document)))
    }
    // They are counted again when they come back.
    figures.eventsIn.add(-n)
    figures.inFlight.add(-n)
    overflow.append(events, of: request.delivery.source) { isKept in
      if isKept {
        request.delivery.finish(n)
      } else {
        request.canSpill = false
        figures.eventsIn.add(n)
        figures.inFlight.add(n)
      }
      completion(isKept)
    }
  }
}
