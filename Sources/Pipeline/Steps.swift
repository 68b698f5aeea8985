//  Compiled steps, and the walk of a batch through them.
//
//  Each filter sees the whole batch before the next one does, but for filters with state in common: between the first and
//  the last of them events pass one by one. A branch splits the batch in two, runs both sides and
//  joins them again in order. Events that a filter makes follow directly behind the event they came from and meet only
//  the later steps.

package import Diagnostics
package import Events
package import Patterns
package import PluginKit

/// A step of a compiled pipeline; shared by its workers.
package indirect enum Step: Sendable {
  case filter(FilterStep)
  case branch(BranchStep)
}

/// A filter in its place, with its figures.
package final class FilterStep: Sendable {
  package let id: String
  package let kind: String
  package let position: SourcePosition
  package let condition: Condition?
  package let built: BuiltFilter
  package let statistics = StepStatistics()

  package init(id: String, kind: String, position: SourcePosition, condition: Condition?, built: BuiltFilter) {
    self.id = id
    self.kind = kind
    self.position = position
    self.condition = condition
    self.built = built
  }
}

package final class BranchStep: Sendable {
  package let condition: Condition
  package let position: SourcePosition
  package let then: [Step]
  package let otherwise: [Step]

  package init(condition: Condition, position: SourcePosition, then: [Step], otherwise: [Step]) {
    self.condition = condition
    self.position = position
    self.then = then
    self.otherwise = otherwise
  }
}

/// The filters of a pipeline in the order of their places.
package func filterSteps(_ steps: [Step]) -> [FilterStep] {
  steps.flatMap { step in
    switch step {
    case .filter(let step): [step]
    case .branch(let step): filterSteps(step.then) + filterSteps(step.otherwise)
    }
  }
}

/// Figures of one step, over all workers.
package final class StepStatistics: Sendable {
  package let eventsIn = Counter()
  package let eventsOut = Counter()
  package let durationNs = Counter()
  package let conditionFailures = Counter()
  package init() {}
}

/// Told of events whose condition has no answer; they have left the pipeline.
package protocol ConditionFailureHandler: AnyObject {
  func conditionFailed(_ event: Event, _ condition: Condition, _ failure: ConditionFailure, at position: SourcePosition)
}

/// One worker's copy of the steps, with filters and scratch memory of its own. Not thread-safe.
package final class StepRunner {
  private enum Run {
    case filter(FilterStep, any Filter)
    case branch(BranchStep, [Run], [Run])
  }

  private let steps: [Run]
  package let scratch = MatchScratch()
  private weak var handler: (any ConditionFailureHandler)?
  /// The outermost steps that events pass one by one.
  private let singly: Range<Int>
  /// The clock by which steps are measured.
  private let clock: @Sendable () -> Instant

  package init(
    _ steps: [Step], handler: (any ConditionFailureHandler)?, clock: @escaping @Sendable () -> Instant = { Instant.now }
  ) {
    self.clock = clock
    self.steps = steps.map(StepRunner.instantiate)
    self.handler = handler
    singly = StepRunner.singly(steps)
  }

  private static func singly(_ steps: [Step]) -> Range<Int> {
    var places: [String: [Int]] = [:]
    func note(_ step: Step, at place: Int) {
      switch step {
      case .filter(let step): if let group = step.built.orderGroup { places[group, default: []].append(place) }
      case .branch(let branch): for step in branch.then + branch.otherwise { note(step, at: place) }
      }
    }
    for (place, step) in steps.enumerated() { note(step, at: place) }
    let common = places.values.filter { $0.count > 1 }.joined()
    guard let first = common.min(), let last = common.max() else { return 0..<0 }
    return first..<last + 1
  }

  private static func instantiate(_ step: Step) -> Run {
    switch step {
    case .filter(let step): .filter(step, step.built.makeFilter())
    case .branch(let step): .branch(step, step.then.map(instantiate), step.otherwise.map(instantiate))
    }
  }

  /// Runs the steps over `selection`, which then holds the events that remain, new ones included.
  package func run(_ batch: EventBatch, _ selection: inout [Int32]) {
    runOutermost(from: 0, batch, &selection)
    selection.removeAll { batch[$0].isCancelled }
  }

  private func runOutermost(from start: Int, _ batch: EventBatch, _ selection: inout [Int32]) {
    guard start < singly.upperBound else { return run(steps[start...], batch, &selection) }
    run(steps[start..<max(start, singly.lowerBound)], batch, &selection)
    var result: [Int32] = []
    result.reserveCapacity(selection.count)
    var one: [Int32] = []
    for i in selection where !batch[i].isCancelled {
      one.removeAll(keepingCapacity: true)
      one.append(i)
      run(steps[max(start, singly.lowerBound)..<singly.upperBound], batch, &one)
      result += one
    }
    selection = result
    run(steps[singly.upperBound...], batch, &selection)
  }

  /// Runs only the steps behind the one with that id: the rest of its branch, then what follows the branch. Where there
  /// is no such step any more the events have passed all filters.
  package func run(_ batch: EventBatch, _ selection: inout [Int32], behind stepID: String) {
    if let next = run(steps, batch, &selection, behind: stepID) { runOutermost(from: next, batch, &selection) }
    selection.removeAll { batch[$0].isCancelled }
  }

  /// Runs what lies behind the step within its branch.
  ///
  /// - Returns: The place of what follows in `runs`; nil where the step is not among them.
  private func run(
    _ runs: [Run], _ batch: EventBatch, _ selection: inout [Int32], behind stepID: String
  ) -> Int? {
    for (i, run) in runs.enumerated() {
      switch run {
      case .filter(let step, _): if step.id == stepID { return i + 1 }
      case .branch(_, let then, let otherwise):
        for side in [then, otherwise] {
          guard let next = self.run(side, batch, &selection, behind: stepID) else { continue }
          self.run(side[next...], batch, &selection)
          return i + 1
        }
      }
    }
    return nil
  }

  /// Lets filters give out what they hold, at the end of a run without a queue; the events run through the steps behind
  /// their filter.
  package func flush(_ batch: EventBatch, nowNs: Int64, isFinal: Bool) -> [Int32] {
    var made = flush(steps, batch, nowNs, isFinal)
    made.removeAll { batch[$0].isCancelled }
    return made
  }

  private func run(_ runs: ArraySlice<Run>, _ batch: EventBatch, _ selection: inout [Int32]) {
    for run in runs where !selection.isEmpty {
      switch run {
      case .filter(let step, let filter): self.run(step, filter, batch, &selection)
      case .branch(let step, let then, let otherwise):
        split(step.condition, step.position, batch, &selection) { side, part in
          self.run(side ? then[...] : otherwise[...], batch, &part)
        }
      }
    }
  }

  private func run(_ step: FilterStep, _ filter: any Filter, _ batch: EventBatch, _ selection: inout [Int32]) {
    guard let condition = step.condition else {
      process(step, filter, batch, &selection)
      return
    }
    split(condition, step.position, batch, &selection, step.statistics.conditionFailures) { side, part in
      if side { process(step, filter, batch, &part) }
    }
  }

  private func process(_ step: FilterStep, _ filter: any Filter, _ batch: EventBatch, _ selection: inout [Int32]) {
    let start = clock()
    let before = selection.count
    selection.withUnsafeBufferPointer {
      filter.process(FilterBatch(events: batch, selection: $0, success: step.built.success))
    }
    if batch.hasSpawned { insertSpawned(batch, &selection) }
    step.statistics.eventsIn.add(before)
    step.statistics.eventsOut.add(remaining(batch, selection))
    step.statistics.durationNs.add(Int((clock() - start).ns))
  }

  private func remaining(_ batch: EventBatch, _ selection: [Int32]) -> Int {
    var n = 0
    for i in selection where !batch[i].isCancelled { n += 1 }
    return n
  }

  /// New events stand behind the event that they came from, in the order in which they were made.
  private func insertSpawned(_ batch: EventBatch, _ selection: inout [Int32]) {
    var followers: [Int32: [Int32]] = [:]
    batch.takeSpawned { event, after in followers[after, default: []].append(event) }
    var result: [Int32] = []
    result.reserveCapacity(selection.count + followers.count)
    func append(_ i: Int32) {
      result.append(i)
      if let behind = followers[i] { behind.forEach(append) }
    }
    selection.forEach(append)
    selection = result
  }

  /// Splits the batch by a condition, runs `body` over each side, and joins them in order.
  private func split(
    _ condition: Condition, _ position: SourcePosition, _ batch: EventBatch, _ selection: inout [Int32],
    _ failures: Counter? = nil, _ body: (Bool, inout [Int32]) -> Void
  ) {
    var yes: [Int32] = []
    var no: [Int32] = []
    var sides: [Bool] = []
    sides.reserveCapacity(selection.count)
    var kept: [Int32] = []
    kept.reserveCapacity(selection.count)
    for i in selection {
      let event = batch[i]
      if event.isCancelled { continue }
      do {
        let side = try condition.evaluate(event, scratch)
        sides.append(side)
        kept.append(i)
        if side { yes.append(i) } else { no.append(i) }
      } catch {
        failures?.add()
        handler?.conditionFailed(event, condition, error, at: position)
        event.cancel()
      }
    }
    let firstNew = Int32(batch.count)
    if !yes.isEmpty { body(true, &yes) }
    if !no.isEmpty { body(false, &no) }
    if yes.isEmpty || no.isEmpty {
      selection = yes.isEmpty ? no : yes
      return
    }
    selection.removeAll(keepingCapacity: true)
    var (y, n) = (0, 0)
    for (event, side) in zip(kept, sides) {
      if side {
        StepRunner.move(event, &y, yes, firstNew, &selection)
      } else {
        StepRunner.move(event, &n, no, firstNew, &selection)
      }
    }
  }

  /// Moves the event and the new ones behind it. A nested branch may have taken the event itself out.
  private static func move(
    _ event: Int32, _ i: inout Int, _ from: [Int32], _ firstNew: Int32, _ to: inout [Int32]
  ) {
    if i < from.count, from[i] == event {
      to.append(event)
      i += 1
    }
    while i < from.count, from[i] >= firstNew {
      to.append(from[i])
      i += 1
    }
  }

  private func flush(_ runs: [Run], _ batch: EventBatch, _ nowNs: Int64, _ isFinal: Bool) -> [Int32] {
    var carried: [Int32] = []
    for run in runs {
      if !carried.isEmpty { self.run([run][...], batch, &carried) }
      switch run {
      case .filter(let step, _):
        guard let timed = step.built.timed else { continue }
        var made: [Int32] = []
        timed.flush(
          FlushBatch(events: batch, success: step.built.success, nowNs: nowNs) { made.append($0) }, isFinal: isFinal)
        step.statistics.eventsOut.add(made.count)
        carried += made
      case .branch(_, let then, let otherwise):
        carried += flush(then, batch, nowNs, isFinal)
        carried += flush(otherwise, batch, nowNs, isFinal)
      }
    }
    return carried
  }
}
