//  Every example of a filter's manual, run.

import Config
import Diagnostics
import Events
import Filters
import Pipeline
import PluginKit
import TestSupport
import Testing

@Suite struct ManualExamples {
  struct Claim: Sendable, CustomTestStringConvertible {
    var filter: String
    var example: Example
    var testDescription: String { "\(filter): \(example.title)" }
  }

  static let claims: [Claim] = allFilters.flatMap { kind in
    kind.manual.examples.map { Claim(filter: kind.manual.name, example: $0) }
  }

  @Test(arguments: claims)
  func `an example gives what it shows`(_ claim: Claim) throws {
    let problems = Problems()
    let node = YAML.parse(claim.example.config, file: "example", problems: problems)
    let services = Services(
      resolves: true, folder: Fixtures.root, dataFolder: "/tmp", configFolder: Fixtures.root + "/config")
    let builder = StepBuilder(
      registry: Registry(inputs: [], filters: allFilters, outputs: []), pipelineID: "test", ecs: .disabled,
      services: services, problems: problems)
    let step = builder.filter(claim.filter, options: node, position: SourcePosition(file: "example"))
    try #require(!problems.hasErrors, "\(problems.sorted)")
    let batch = EventBatch()
    let runner = StepRunner(step.map { [$0] } ?? [], handler: nil)
    var selection: [Int32] = []
    for line in claim.example.input.split(separator: "\n") {
      let event = try Array(line.utf8).withUnsafeBytes { try batch.add(json: $0, arrivalNs: WallClock.ns) }
      selection.append(try #require(event).index)
    }
    runner.run(batch, &selection)
    selection += runner.flush(batch, nowNs: WallClock.ns, isFinal: true)
    let lines = claim.example.output.split(separator: "\n")
    try #require(lines.count == selection.count)
    for (line, index) in zip(lines, selection) {
      let wanted = try Array(line.utf8).withUnsafeBytes { try batch.add(arrivalNs: 0).parseJSON($0) }
      let event = batch[index]
      let shown = event.makeValue(event.fields.copied())
      if event.hasMetadata { shown.set(event.makeKey(text("@metadata")), event.metadata.copied()) }
      for name in ["@timestamp", "@version"] where wanted[name] == nil { shown[name]?.remove(from: shown) }
      let difference = difference(shown, wanted)
      #expect(difference == nil, "\(difference ?? "")")
    }
  }

  private func text(_ constant: StaticString) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: constant.utf8Start, count: constant.utf8CodeUnitCount)
  }
}
