//  Several filters in a row on lines of JSON, with the clock of their timer in hand, for filters that keep state.

import Config
import Diagnostics
import Events
import Filters
import Pipeline
import PluginKit
import TestSupport

/// Steps as a pipeline file has them. Not thread-safe; `another` gives a worker of its own with the same shared state.
final class StepsHarness {
  let steps: [Step]
  let problems: [String]
  private let runner: StepRunner
  private let batch = EventBatch()

  /// - Parameters:
  ///   - filters: The list below `filters:`, as YAML, without indentation.
  ///   - folder: Where relative paths of options begin.
  init(_ filters: String, folder: String = "/tmp") {
    let problems = Problems()
    let variables = VariableSource(environment: [:])
    let list = filters.split(separator: "\n", omittingEmptySubsequences: false).map { "  " + $0 }.joined(
      separator: "\n")
    let text =
      "pipeline: { id: test, ecs_compatibility: disabled }\nfilters:\n\(list)\noutputs: [{ file: {} }]\n"
    let file = PipelineFile.parse(text, path: "test.yml", variables: variables, problems: problems)
    let environment = CompileEnvironment(
      registry: Registry(inputs: [], filters: allFilters, outputs: []),
      services: Services(resolves: true, folder: folder, dataFolder: "/tmp", configFolder: Fixtures.root + "/config"),
      variables: variables)
    var settings = PipelineSettings()
    settings.ecsCompatibility = .disabled
    let compiled = file.flatMap {
      CompiledPipeline.compile($0, settings: settings, environment: environment, parts: .filters, problems: problems)
    }
    steps = compiled?.steps ?? []
    runner = StepRunner(steps, handler: nil)
    self.problems = problems.sorted.map(\.description)
  }

  private init(sharing other: StepsHarness) {
    steps = other.steps
    problems = []
    runner = StepRunner(steps, handler: nil)
  }

  func another() -> StepsHarness { StepsHarness(sharing: self) }

  /// The resulting events as JSON without `@timestamp` and `@version`, one line each.
  func run(_ lines: String, arrivalNs: Int64 = WallClock.ns) -> [String] {
    batch.removeAll()
    var selection: [Int32] = []
    for line in lines.split(separator: "\n") {
      let event = Array(line.utf8).withUnsafeBytes { try? batch.add(json: $0, arrivalNs: arrivalNs) }
      if let event { selection.append(event.index) }
    }
    runner.run(batch, &selection)
    return selection.map(shown)
  }

  /// What a timer gets, that many seconds from now.
  func flush(afterSeconds: Int64 = 0, isFinal: Bool = false) -> [String] {
    batch.removeAll()
    return runner.flush(batch, nowNs: WallClock.ns + afterSeconds * 1_000_000_000, isFinal: isFinal).map(shown)
  }

  func timed() -> [any TimedState] {
    steps.compactMap { if case .filter(let step) = $0 { step.built.timed } else { nil } }
  }

  private func shown(_ i: Int32) -> String {
    let event = batch[i]
    let copy = event.makeValue(event.fields.copied())
    for name in ["@timestamp", "@version"] { copy[name]?.remove(from: copy) }
    return copy.json
  }
}
