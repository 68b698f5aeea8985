//  Every example of a filter's manual, run through the steps that a pipeline would have.

import Config
import Daemon
import Diagnostics
import Events
import Pipeline
import PluginKit
import TestSupport
import Testing

@Suite struct FilterExamples {
  struct Claim: Sendable, CustomTestStringConvertible {
    var filter: String
    var example: Example
    var testDescription: String { "\(filter): \(example.title)" }
  }

  static let claims: [Claim] = Registry.all.descriptions(.filter).flatMap { plugin in
    plugin.manual.examples.map { Claim(filter: plugin.manual.name, example: $0) }
  }

  @Test(arguments: claims)
  func `an example gives what it shows`(_ claim: Claim) throws {
    let name = "the example '\(claim.example.title)' of filter '\(claim.filter)'"
    let problems = Problems()
    // Files of examples lie where an operator has them; their counterparts here are small.
    let config = claim.example.config.replacing(
      "/var/lib/GeoIP/GeoLite2-City.mmdb", with: Fixtures.root + "/Tests/Cases/geoip/city.mmdb")
    let node = YAML.parse(config, file: "example", problems: problems)
    let services = Services(
      resolves: true, folder: Fixtures.root, dataFolder: "/tmp", configFolder: Fixtures.root + "/config")
    let builder = StepBuilder(
      registry: .all, pipelineID: "test", ecs: .disabled, services: services, problems: problems)
    let step = builder.filter(claim.filter, options: node, position: SourcePosition(file: "example"))
    try #require(!problems.hasErrors, "\(name) does not compile: \(problems.sorted)")
    let batch = EventBatch()
    let runner = StepRunner(step.map { [$0] } ?? [], handler: nil)
    var selection: [Int32] = []
    for line in claim.example.input.split(separator: "\n") {
      let event = try Array(line.utf8).withUnsafeBytes { try batch.add(json: $0, arrivalNs: WallClock.ns) }
      selection.append(try #require(event, "the input of \(name) is no event").index)
    }
    runner.run(batch, &selection)
    selection += runner.flush(batch, nowNs: WallClock.ns, isFinal: true)
    let lines = claim.example.output.split(separator: "\n")
    try #require(lines.count == selection.count, "\(name) shows \(lines.count) events, \(selection.count) came out")
    for (line, index) in zip(lines, selection) {
      let wanted = try Array(line.utf8).withUnsafeBytes { try batch.add(arrivalNs: 0).parseJSON($0) }
      let event = batch[index]
      let shown = event.makeValue(event.fields.copied())
      if event.hasMetadata { shown.set(event.makeKey(text("@metadata")), event.metadata.copied()) }
      for name in ["@timestamp", "@version"] where wanted[name] == nil { shown[name]?.remove(from: shown) }
      let difference = difference(shown, wanted)
      #expect(difference == nil, "\(name): \(difference ?? ""); got \(shown.json)")
    }
  }

  private func text(_ constant: StaticString) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: constant.utf8Start, count: constant.utf8CodeUnitCount)
  }
}
