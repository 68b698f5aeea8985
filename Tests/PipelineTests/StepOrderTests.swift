//  The order of events behind branches, with events that go and events that come within them.

import Config
import Diagnostics
import Events
import Filters
import Pipeline
import PluginKit
import TestSupport
import Testing

@Suite struct StepOrderTests {
  private static let letter = FieldReference.known("k")
  private static let type = FieldReference.known("type")

  /// The letters of the events that remain, in order.
  private func run(_ filters: String, _ letters: String) throws -> String {
    let problems = Problems()
    let variables = VariableSource(environment: [:])
    let text = "pipeline: { id: test, ecs_compatibility: disabled }\nfilters:\n\(filters)\noutputs: [{ file: {} }]\n"
    let file = try #require(
      PipelineFile.parse(text, path: "test.yml", variables: variables, problems: problems), "\(problems.sorted)")
    let services = Services(resolves: true, folder: "/tmp", dataFolder: "/tmp", configFolder: "/tmp")
    let environment = CompileEnvironment(
      registry: Registry(inputs: [], filters: allFilters, outputs: []), services: services, variables: variables)
    var settings = PipelineSettings()
    settings.ecsCompatibility = .disabled
    let compiled = try #require(
      CompiledPipeline.compile(
        file, settings: settings, environment: environment, parts: .filters, problems: problems),
      "\(problems.sorted)")
    let batch = EventBatch()
    var selection: [Int32] = []
    for letter in letters {
      let event = batch.add(arrivalNs: 0)
      try event.set(StepOrderTests.letter, event.makeText(String(letter)))
      selection.append(event.index)
    }
    let runner = StepRunner(compiled.steps, handler: nil)
    runner.run(batch, &selection)
    // Texts of the filters are in the events, so the filters stay until these are read.
    return withExtendedLifetime((compiled, runner)) {
      selection.map { i in
        [StepOrderTests.letter, StepOrderTests.type].map { batch[i].value($0)?.string ?? "" }.joined()
      }.joined()
    }
  }

  @Test func `an event that a nested branch drops leaves the order of the others`() throws {
    let filters = """
        - if: '[k] in ["a", "b", "c"]'
          then:
            - if: '[k] == "a"'
              then: [{ drop: {} }]
              else: [{ mutate: { add_tag: [x] } }]
            - mutate: { add_tag: [y] }
          else:
            - mutate: { add_tag: [z] }
      """
    #expect(try run(filters, "1a2b3c4a5b") == "12b3c45b")
    #expect(try run(filters, "ab1") == "b1")
    #expect(try run(filters, "a1a") == "1")
  }

  @Test func `copies of a dropped event stand where it stood`() throws {
    let filters = """
        - if: '[k] in ["a", "b"]'
          then:
            - clone: { clones: ["+"] }
            - if: '[k] == "a" and ![type]'
              then: [{ drop: {} }]
              else: [{ mutate: { add_tag: [x] } }]
            - mutate: { add_tag: [y] }
          else:
            - mutate: { add_tag: [z] }
      """
    let order = try run(filters, "1a2b3a")
    #expect(order == "1a+2bb+3a+")
  }
}
