//  One filter on one event, for tests that a table cannot say.

import Config
import Diagnostics
import Events
import Filters
import Pipeline
import PluginKit
import TestSupport

/// A filter built from options as YAML, with a batch of its own.
struct FilterHarness {
  let batch = EventBatch()
  let problems = Problems()
  private let runner: StepRunner

  /// Batches and filters (whose names the fields use) stay, so that a test can look at values of a harness that is gone.
  private final class Keeper: @unchecked Sendable {  // unchecked: `kept` is touched under the lock alone
    private let lock = Lock(())
    private var kept: [AnyObject] = []
    func keep(_ objects: AnyObject...) { lock.withLock { _ in kept += objects } }
  }
  private static let keeper = Keeper()

  init(_ name: String, _ config: String, ecs: ECSMode = .disabled) {
    let node = YAML.parse(config, file: "test", problems: problems)
    let services = Services(
      resolves: true, folder: Fixtures.root, dataFolder: "/tmp", configFolder: Fixtures.root + "/config")
    let builder = StepBuilder(
      registry: Registry(inputs: [], filters: allFilters, outputs: []), pipelineID: "test", ecs: ecs,
      services: services, problems: problems)
    let step = builder.filter(name, options: node, position: SourcePosition(file: "test"))
    runner = StepRunner(step.map { [$0] } ?? [], handler: nil)
    FilterHarness.keeper.keep(batch, runner)
  }

  func add(_ json: String, record: Int = -1, arrivalNs: Int64 = WallClock.ns) throws -> Event {
    let event = try Array(json.utf8).withUnsafeBytes { try batch.add(json: $0, record: record, arrivalNs: arrivalNs) }
    return event ?? batch.add(record: record, arrivalNs: arrivalNs)
  }

  func run(_ events: Event...) -> [Event] {
    var selection = events.map(\.index)
    runner.run(batch, &selection)
    return selection.map { batch[$0] }
  }

  /// The fields of the only event after the filter.
  func result(_ json: String) throws -> Value {
    let event = try add(json)
    return run(event).first?.fields ?? event.makeMap()
  }
}
