//  Builds steps one by one from what a pipeline file says; problems are reported at their places.

package import Config
package import Diagnostics
package import Events
package import PluginKit

/// Builds the filter steps of one pipeline. Used by one thread while a configuration is read.
package final class StepBuilder {
  private let registry: Registry
  private let pipelineID: String
  private let ecs: ECSMode
  private let services: Services
  private let problems: Problems
  private let variables: VariableSource
  private let shared = SharedObjects()
  private var counts: [String: Int] = [:]

  package init(
    registry: Registry, pipelineID: String, ecs: ECSMode, services: Services,
    variables: VariableSource = VariableSource(environment: [:]), problems: Problems
  ) {
    self.registry = registry
    self.variables = variables
    self.pipelineID = pipelineID
    self.ecs = ecs
    self.services = services
    self.problems = problems
  }

  /// One filter.
  ///
  /// - Parameters:
  ///   - options: The value beside the plugin's name.
  ///   - position: The plugin's name.
  ///   - id: As given; nil for the kind and its number.
  /// - Returns: Nil when something is wrong, which was reported, or when the condition can never hold.
  package func filter(
    _ name: String, options: YAMLNode?, position: SourcePosition, when: ConditionText? = nil, id: String? = nil
  ) -> Step? {
    guard let kind = registry.filters[name] else {
      unknown("filter", name, position, among: registry.filters.keys)
      return nil
    }
    counts[name, default: 0] += 1
    let stepID = id ?? "\(name)-\(counts[name] ?? 0)"
    let condition = when.flatMap(self.condition)
    if when != nil, condition == nil { return nil }
    if condition?.constantValue == false { return nil }
    let context = FilterContext(
      pipelineID: pipelineID, stepID: stepID, position: position, ecs: mode(options), services: services,
      shared: shared)
    guard
      let built = kind.build(
        without("ecs_compatibility", in: options, unless: kind.options), position, context, problems)
    else { return nil }
    return .filter(
      FilterStep(
        id: stepID, kind: name, position: position, condition: condition?.constantValue == true ? nil : condition,
        built: built))
  }

  /// A condition with the steps of its two sides.
  package func branch(_ condition: ConditionText, then: [Step], otherwise: [Step]) -> [Step] {
    guard let compiled = self.condition(condition) else { return [] }
    switch compiled.constantValue {
    case true: return then
    case false: return otherwise
    case nil:
      return [.branch(BranchStep(condition: compiled, position: condition.position, then: then, otherwise: otherwise))]
    }
  }

  /// Compiles a condition; a broken one is reported at its character.
  package func condition(_ written: ConditionText) -> Condition? {
    do {
      return try Condition(written.text) { [variables, problems] text in
        variables.expand(text, at: written.position, problems: problems).text
      }
    } catch {
      problems.error(
        written.node.position(ofCharacter: error.offset), "broken condition: \(error.text)", code: "config.condition")
      return nil
    }
  }

  package func unknown(_ what: String, _ name: String, _ position: SourcePosition, among names: some Sequence<String>) {
    let near = nearest(to: name, among: names.sorted())
    problems.error(
      position, "there is no \(what) '\(name)'", code: "config.unknown-plugin",
      hint: near.map { "did you mean '\($0)'?" } ?? "`sluice docs` lists the \(what)s")
  }

  /// The plugin's own mode, else the pipeline's.
  package func mode(_ options: YAMLNode?) -> ECSMode {
    guard let node = options?["ecs_compatibility"] else { return ecs }
    guard let text = node.text, let mode = ECSMode(rawValue: text) else {
      problems.error(node.position, "'ecs_compatibility' takes disabled, v1 or v8", code: "config.bad-value")
      return ecs
    }
    return mode
  }

  /// `ecs_compatibility` is known to every plugin and read here.
  package func without(_ name: String, in options: YAMLNode?, unless own: [OptionDescription]) -> YAMLNode? {
    guard let options, let entries = options.entries, !own.contains(where: { $0.name == name }) else { return options }
    return YAMLNode(.map(entries.filter { $0.key != name }), options.position)
  }
}
