//  Inputs without a socket: threads of their own make records and hand them to the queue, never faster than it takes
//  them.

internal import Diagnostics
internal import Glibc
internal import PluginKit
internal import Records

/// What a source's threads work with; any thread.
final class SourceFeed: Sendable {
  private struct State {
    var inFlight = 0
    var threads = 0
    var isStopping = false
  }
  private let state = Gate(State())
  private let sink: any RecordSink
  private let id: String
  let metrics = InputMetrics()
  private static let inFlightLimit = 2

  init(_ context: InputContext) {
    sink = context.sink
    id = context.stepID
  }

  var isStopping: Bool { state.withLock { $0.isStopping } }

  /// Hands a batch on once there is room. False when the stop has come; the batch was not taken then.
  func append(_ batch: RecordBatch) -> Bool {
    let mayGo = state.wait(until: Instant(ns: .max)) { state -> Bool? in
      if state.isStopping { return false }
      guard state.inFlight < SourceFeed.inFlightLimit else { return nil }
      state.inFlight += 1
      return true
    }
    guard mayGo == true else { return false }
    sink.append(batch) { [self] result in
      switch result {
      case .success:
        metrics.events.add(batch.count)
        metrics.bytes.add(batch.byteCount)
        metrics.batches.add()
      case .failure:
        metrics.lost.add(batch.count)
        Log.error(
          "input.lost", "Events of a local source could not be kept, since the queue is closing or they are too large.",
          ["input": .text(id), "events": .number(batch.count)])
      }
      state.update { $0.inFlight -= 1 }
    }
    return true
  }

  /// Waits until `moment`; false when the stop comes first.
  func pause(until moment: Instant) -> Bool {
    state.wait(until: moment) { $0.isStopping ? true : nil } == nil
  }

  func run(_ name: String, _ body: @escaping @Sendable (SourceFeed) -> Void) {
    state.update { $0.threads += 1 }
    startThread(name) { [self] in
      body(self)
      state.update { $0.threads -= 1 }
    }
  }

  func stop(deadline: Instant) {
    state.update { $0.isStopping = true }
    _ = state.wait(until: deadline) { $0.threads == 0 && $0.inFlight == 0 ? true : nil }
  }
}

/// An input that makes its records itself.
final class SourceInput: Input {
  let ports: [InputPort] = []
  let description: RecordDescription
  private let feed: SourceFeed
  private let name: String
  private let bodies: [@Sendable (SourceFeed) -> Void]

  /// - Parameter bodies: One for each thread.
  init(
    _ name: String, description: RecordDescription, _ context: InputContext,
    _ bodies: [@Sendable (SourceFeed) -> Void]
  ) {
    self.name = name
    self.description = description
    self.bodies = bodies
    feed = SourceFeed(context)
  }

  func start() throws { for body in bodies { feed.run(name, body) } }
  func stop(deadline: Instant) { feed.stop(deadline: deadline) }
  var statistics: InputStatistics { feed.metrics.statistics(port: 0) }
}

/// This machine's name.
func hostName() -> String {
  var name = [CChar](repeating: 0, count: 256)
  guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
  return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
