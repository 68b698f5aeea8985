//  The contract of filters.
//
//  A filter is two things. Its *plugin* is built once per pipeline from the settings: it compiles patterns, opens
//  databases through `Services`, and owns what all workers must see together (a sharded, bounded, locked object). It is
//  `Sendable`. From it each worker gets a *filter* of its own, with scratch memory and caches that need no lock.
//
//  What a filter holds back belongs to the shared object and never to a worker: a timer of the pipeline asks it every five
//  seconds for the events that are due, and once more at the end, when the workers have stopped.
//
//  The pipeline calls a filter once per batch, and the filter loops inside: one call through an existential per batch,
//  concrete code per event.

public import Config
public import Diagnostics
public import Events

/// What a filter's file declares: manual, settings, and how a configured filter is made.
public protocol FilterPlugin: Sendable {
  associatedtype Settings: PluginSettings
  /// Name, summary and examples; the reference page is printed from it and from the options of `Settings`.
  static var manual: Manual { get }
  /// Compiles the settings. Runs at check time as well, so it must not touch files or names except through
  /// `context.services`.
  ///
  /// - Throws: A `BuildFailure` that says which option is wrong and why.
  init(_ settings: Settings, _ context: FilterContext) throws
  /// Working state for one worker thread.
  func makeFilter() -> any Filter
  /// What time changes in the state that the workers share; nil for filters that wait for nothing.
  var timed: (any TimedState)? { get }
  /// Names what several steps of a pipeline change together. Where more than one step has the same name, events pass from
  /// the first to the last of them one by one, so that a step never sees an event before the others have seen those in
  /// front of it.
  var orderGroup: String? { get }
  /// What the filter counts of its own; nil for most.
  var outcomes: FilterOutcomes? { get }
}

/// How often a filter found what it looks for. Workers add to it once per batch.
public final class FilterOutcomes: Sendable {
  public let matches = Counter()
  public let failures = Counter()
  public init() {}
}

extension FilterPlugin {
  public var outcomes: FilterOutcomes? { nil }
  public var timed: (any TimedState)? { nil }
  public var orderGroup: String? { nil }
}

/// Shared state that a timer looks at. Called by one thread at a time, while workers are at work.
public protocol TimedState: AnyObject, Sendable {
  /// Gives out what is due. Events are made by `batch.makeEvent()` and go on behind the filter, by way of the queue.
  ///
  /// - Parameter isFinal: True for the last call of a run, which no time has passed before; no worker is at work then.
  func flush(_ batch: FlushBatch, isFinal: Bool)
  /// A run of the pipeline begins: what was kept between two runs may be read. `sluice try` and tests skip it.
  func open()
  /// The run has ended, behind the final flush.
  func close()
}

extension TimedState {
  public func open() {}
  public func close() {}
}

/// The part of a filter that one worker owns. Not thread-safe.
public protocol Filter: AnyObject {
  /// Handles the events of `batch` in order. A failure tags the event and goes on; it never throws or traps.
  func process(_ batch: FilterBatch)
}

/// The events that reach a filter in one call.
public struct FilterBatch {
  public let events: EventBatch
  /// Numbers of the events in `events`, in order.
  public let selection: UnsafeBufferPointer<Int32>
  /// What happens to an event that the filter handled well: add_field, add_tag, remove_field, remove_tag.
  public let success: SuccessActions

  public init(events: EventBatch, selection: UnsafeBufferPointer<Int32>, success: SuccessActions) {
    self.events = events
    self.selection = selection
    self.success = success
  }

  public var count: Int { selection.count }

  /// Calls `body` for each event; where it returns true the success actions follow. An event on which one of those
  /// fails is tagged `_decoratefailure`.
  @inlinable @inline(__always)
  public func forEach(_ body: (Event) -> Bool) {
    for i in selection {
      let event = events[i]
      if event.isCancelled { continue }
      if body(event), !success.isEmpty, !success.apply(to: event) { event.addTag("_decoratefailure") }
    }
  }
}

/// Where a flushed filter puts its events.
public struct FlushBatch {
  public let events: EventBatch
  public let success: SuccessActions
  /// The present moment, nanoseconds since 1970.
  public let nowNs: Int64
  private let collect: (Int32) -> Void

  public init(events: EventBatch, success: SuccessActions, nowNs: Int64, collect: @escaping (Int32) -> Void) {
    self.events = events
    self.success = success
    self.nowNs = nowNs
    self.collect = collect
  }

  /// A fresh event that later filters will meet.
  public func makeEvent() -> Event {
    let event = events.add(arrivalNs: nowNs)
    collect(event.index)
    return event
  }
}

/// Which names and places fields have.
public enum ECSMode: String, CaseIterable, Sendable {
  case disabled, v1, v8
  public var isOn: Bool { self != .disabled }
}

/// What a filter is built with.
public struct FilterContext: Sendable {
  public let pipelineID: String
  /// The step's id; names it in statistics, logs and dead letters.
  public let stepID: String
  /// Where the step stands in its file.
  public let position: SourcePosition
  /// The pipeline's mode; a plugin's own `ecs_compatibility` beats it.
  public let ecs: ECSMode
  public let services: Services
  /// What filters of this pipeline own together.
  public let shared: SharedObjects

  public init(
    pipelineID: String, stepID: String, position: SourcePosition, ecs: ECSMode, services: Services,
    shared: SharedObjects = SharedObjects()
  ) {
    self.pipelineID = pipelineID
    self.stepID = stepID
    self.position = position
    self.ecs = ecs
    self.services = services
    self.shared = shared
  }
}

/// A plugin that cannot be built from its settings.
public struct BuildFailure: Error, Sendable {
  /// The option at fault; nil for the plugin as a whole.
  public let option: String?
  public let text: String
  public let code: String
  public let hint: String?
  /// The place within the option; nil for the option's value as a whole.
  public let position: SourcePosition?

  public init(
    _ option: String?, _ text: String, code: String = "config.bad-value", hint: String? = nil,
    at position: SourcePosition? = nil
  ) {
    self.option = option
    self.text = text
    self.code = code
    self.hint = hint
    self.position = position
  }
}
