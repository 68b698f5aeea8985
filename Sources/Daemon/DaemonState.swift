//  What the daemon's parts see of its pipelines: those that run, and what was counted over all their lives.

internal import Codecs
internal import Diagnostics
internal import Pipeline
internal import PluginKit
internal import Queue

/// One pipeline at work, with what was opened for it.
final class RunningPipeline: Sendable {
  let compiled: CompiledPipeline
  let runtime: PipelineRuntime
  let deadLetters: DeadLetterStore
  let overflows: Overflows?
  /// Names this run of the pipeline.
  let identity = makeUUID()
  /// Digest of the pipeline's file, so that a changed configuration shows.
  let hash: String
  let flow: FlowRecorder
  private let down = Gauge()

  init(
    compiled: CompiledPipeline, hash: String, runtime: PipelineRuntime, deadLetters: DeadLetterStore,
    overflows: Overflows?
  ) {
    self.hash = hash
    self.compiled = compiled
    self.runtime = runtime
    self.deadLetters = deadLetters
    self.overflows = overflows
    flow = FlowRecorder()
    flow.add(flowValues(of: self))
  }

  /// It was stopped for a reload and could not be started again.
  var isDown: Bool { down.value != 0 }
  func markDown() { down.set(1) }

  var eventTotals: EventTotals {
    EventTotals(
      taken: compiled.inputs.reduce(0) { $0 + $1.push.records.value }, filtered: runtime.eventsFiltered.value,
      out: runtime.eventsOut.value, workerNs: runtime.workerBusyNs.value,
      pushNs: compiled.inputs.reduce(0) { $0 + $1.push.waitedNs })
  }
}

/// Events of pipelines: what inputs took, what left the filters, what outputs finished, and the time of it.
struct EventTotals: Sendable {
  var taken = 0
  var filtered = 0
  var out = 0
  var workerNs = 0
  var pushNs = 0

  static func + (left: EventTotals, right: EventTotals) -> EventTotals {
    EventTotals(
      taken: left.taken + right.taken, filtered: left.filtered + right.filtered, out: left.out + right.out,
      workerNs: left.workerNs + right.workerNs, pushNs: left.pushNs + right.pushNs)
  }
}

/// How often a pipeline's file was taken over, and how often not.
struct ReloadFigures: Sendable {
  var successes = 0
  var failures = 0
  var lastSuccessNs: Int64?
  var lastFailureNs: Int64?
  var lastError: String?
}

/// Shared by the daemon, its API and its replays. Any thread.
final class DaemonState: Sendable {
  private struct State {
    var pipelines: [RunningPipeline] = []
    /// By pipeline id.
    var reloads: [String: ReloadFigures] = [:]
    /// Of runs of pipelines that have ended.
    var ended = EventTotals()
  }
  private let state = Lock(State())
  let startedAt = Instant.now
  let startedAtNs = WallClock.ns

  var pipelines: [RunningPipeline] { state.withLock { $0.pipelines } }
  func set(_ pipelines: [RunningPipeline]) { state.withLock { $0.pipelines = pipelines } }

  /// The node's events since the process began, whatever was reloaded.
  var eventTotals: EventTotals {
    let (pipelines, ended) = state.withLock { ($0.pipelines, $0.ended) }
    return pipelines.reduce(ended) { $0 + $1.eventTotals }
  }

  /// Puts one run of a pipeline in another's place; its counts stay in those of the node.
  func replace(_ old: RunningPipeline, by new: RunningPipeline?) {
    state.withLock { state in
      guard let place = state.pipelines.firstIndex(where: { $0 === old }) else { return }
      state.ended = state.ended + old.eventTotals
      if let new { state.pipelines[place] = new } else { state.pipelines.remove(at: place) }
    }
  }

  func add(_ pipeline: RunningPipeline) { state.withLock { $0.pipelines.append(pipeline) } }

  func reloads(of id: String) -> ReloadFigures { state.withLock { $0.reloads[id] ?? ReloadFigures() } }

  var reloadTotals: (successes: Int, failures: Int) {
    state.withLock { state in
      state.reloads.values.reduce((0, 0)) { ($0.0 + $1.successes, $0.1 + $1.failures) }
    }
  }

  func countReload(of id: String, failure: String? = nil) {
    let now = WallClock.ns
    state.withLock { state in
      var figures = state.reloads[id] ?? ReloadFigures()
      if let failure {
        figures.failures += 1
        figures.lastFailureNs = now
        figures.lastError = failure
      } else {
        figures.successes += 1
        figures.lastSuccessNs = now
      }
      state.reloads[id] = figures
    }
  }
}
