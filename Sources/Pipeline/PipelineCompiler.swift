//  A pipeline file, its settings and the registry of plugins to a pipeline that can run. The checker, the tests of
//  pipelines and the daemon all compile the same way; they differ in the sinks that they pass.

package import Config
package import Diagnostics
internal import Events
package import PluginKit
package import Records

/// A compiled pipeline; nothing is open or bound yet.
package struct CompiledPipeline: Sendable {
  package let id: String
  package let file: PipelineFile
  package let settings: PipelineSettings
  package let ecs: ECSMode
  package let steps: [Step]
  package let inputs: [CompiledInput]
  package let outputs: [OutputStep]
  /// No output stands in the file, or their conditions are never true.
  package let lacksOutputs: Bool
  /// The kinds of filters that there are, for decoding that parses.
  package let filters: [String: FilterKind]
}

/// An input in its place.
package struct CompiledInput: Sendable {
  package let id: String
  package let kind: String
  package let position: SourcePosition
  package let input: any Input
  /// What it hands to the queue, counted.
  package let push: MeasuredSink
}

/// What pipelines are compiled with.
package struct CompileEnvironment: Sendable {
  package var registry: Registry
  package var services: Services
  package var variables: VariableSource
  package var sink: any RecordSink
  package var deadLetters: any DeadLetterSink

  package init(
    registry: Registry, services: Services, variables: VariableSource, sink: any RecordSink = NoSink(),
    deadLetters: any DeadLetterSink = NoDeadLetters()
  ) {
    self.registry = registry
    self.services = services
    self.variables = variables
    self.sink = sink
    self.deadLetters = deadLetters
  }
}

/// Which parts of a pipeline are compiled.
package struct PipelineParts: OptionSet, Sendable {
  package let rawValue: Int
  package init(rawValue: Int) { self.rawValue = rawValue }
  package static let inputs = PipelineParts(rawValue: 1)
  package static let filters = PipelineParts(rawValue: 2)
  package static let outputs = PipelineParts(rawValue: 4)
  package static let all: PipelineParts = [.inputs, .filters, .outputs]
}

extension CompiledPipeline {
  /// Compiles `file`; every problem is reported, and nil returned where there is an error among them.
  package static func compile(
    _ file: PipelineFile, settings: PipelineSettings, environment: CompileEnvironment, parts: PipelineParts = .all,
    problems: Problems
  ) -> CompiledPipeline? {
    let before = problems.all.count
    let ecs = ECSMode(rawValue: settings.ecsCompatibility.rawValue) ?? .v8
    let builder = StepBuilder(
      registry: environment.registry, pipelineID: file.id, ecs: ecs, services: environment.services,
      variables: environment.variables, problems: problems)
    let steps = parts.contains(.filters) ? compile(file.filters, builder) : []
    var unreachable = 0
    let outputs =
      parts.contains(.outputs)
      ? file.outputs.compactMap { output($0, file, builder, environment, problems, unreachable: &unreachable) } : []
    let inputs =
      parts.contains(.inputs) ? file.inputs.compactMap { input($0, file, builder, environment, problems) } : []
    guard !problems.all[before...].contains(where: { $0.severity == .error }) else { return nil }
    return CompiledPipeline(
      id: file.id, file: file, settings: settings, ecs: ecs, steps: steps, inputs: inputs, outputs: outputs,
      lacksOutputs: unreachable == file.outputs.count, filters: environment.registry.filters)
  }

  private static func compile(_ steps: [PipelineStep], _ builder: StepBuilder) -> [Step] {
    steps.flatMap { step -> [Step] in
      switch step {
      case .plugin(let plugin):
        builder.filter(
          plugin.plugin, options: plugin.options, position: plugin.position, when: plugin.condition, id: plugin.id
        ).map { [$0] } ?? []
      case .branch(let branch):
        builder.branch(
          branch.condition, then: compile(branch.then, builder), otherwise: compile(branch.otherwise, builder))
      }
    }
  }

  private static func output(
    _ step: PluginStep, _ file: PipelineFile, _ builder: StepBuilder, _ environment: CompileEnvironment,
    _ problems: Problems, unreachable: inout Int
  ) -> OutputStep? {
    guard let kind = environment.registry.outputs[step.plugin] else {
      builder.unknown("output", step.plugin, step.position, among: environment.registry.outputs.keys)
      return nil
    }
    let condition = step.condition.flatMap(builder.condition)
    if condition?.constantValue == false { unreachable += 1 }
    if step.condition != nil, condition == nil || condition?.constantValue == false { return nil }
    let context = OutputContext(
      pipelineID: file.id, stepID: step.id, position: step.position, ecs: builder.mode(step.options),
      services: environment.services, deadLetters: environment.deadLetters)
    let options = builder.without("ecs_compatibility", in: step.options, unless: kind.options)
    guard let output = kind.build(options, step.position, context, problems) else { return nil }
    return OutputStep(
      id: step.id, kind: step.plugin, position: step.position,
      condition: condition?.constantValue == true ? nil : condition, output: output)
  }

  private static func input(
    _ step: PluginStep, _ file: PipelineFile, _ builder: StepBuilder, _ environment: CompileEnvironment,
    _ problems: Problems
  ) -> CompiledInput? {
    guard let kind = environment.registry.inputs[step.plugin] else {
      builder.unknown("input", step.plugin, step.position, among: environment.registry.inputs.keys)
      return nil
    }
    if let written = step.condition {
      // An input has no event to test: its condition may only speak of constants.
      guard let condition = builder.condition(written) else { return nil }
      switch condition.constantValue {
      case false: return nil
      case true: break
      case nil:
        problems.error(
          written.position, "the condition of an input cannot look at fields", code: "config.condition",
          hint: "only constants and variables stand in it")
        return nil
      }
    }
    let push = MeasuredSink(environment.sink)
    let context = InputContext(
      pipelineID: file.id, stepID: step.id, position: step.position, ecs: builder.mode(step.options),
      services: environment.services, sink: push, deadLetters: environment.deadLetters,
      expressions: environment.registry.expressions)
    let options = builder.without("ecs_compatibility", in: step.options, unless: kind.options)
    return kind.build(options, step.position, context, problems).map {
      CompiledInput(id: step.id, kind: step.plugin, position: step.position, input: $0, push: push)
    }
  }
}

/// Refuses records; for pipelines that are only checked.
package final class NoSink: RecordSink {
  package init() {}
  package func append(_ batch: RecordBatch, completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void) {
    completion(.failure(.closed))
  }
  package var hasRoom: Bool { false }
}

/// Keeps nothing; for pipelines that are only checked or tried.
package final class NoDeadLetters: DeadLetterSink {
  package init() {}
  package func write(
    _ reason: DeadLetterReason, source: any SourceRecords, record: Int, document: UnsafeRawBufferPointer
  ) -> Bool { true }
  package func sync() -> Bool { true }
}
