//  Plugins without their types: what the compiler, the checker and the reference pages work with.

public import Config
public import Diagnostics
internal import Events

/// Options that every filter has.
struct CommonFilterSettings: PluginSettings {
  var id: String?
  var addField: OrderedMap<Template, [Template]> = [:]
  var addTag: [Template] = []
  var removeField: [Template] = []
  var removeTag: [Template] = []
  var enableMetric = true
  var periodicFlush = false

  static let options: [Option<CommonFilterSettings>] = [
    .option("id", \.id, "Names the step in statistics and messages; better written beside the step."),
    .option("add_field", \.addField, "Fields to add when the filter succeeds; an existing field becomes a list."),
    .option("add_tag", \.addTag, "Tags to add when the filter succeeds."),
    .option("remove_field", \.removeField, "Fields to remove when the filter succeeds."),
    .option("remove_tag", \.removeTag, "Tags to remove when the filter succeeds."),
    .option("enable_metric", \.enableMetric, "Accepted for Logstash's sake; statistics are always kept."),
    .option("periodic_flush", \.periodicFlush, "Accepted for Logstash's sake; filters that need it flush."),
  ]

  var actions: SuccessActions {
    SuccessActions(
      addField: addField.entries.map { ($0.key, $0.value) }, removeField: removeField, addTag: addTag,
      removeTag: removeTag)
  }
}

/// Options that every output has.
struct CommonOutputSettings: PluginSettings {
  var id: String?
  var enableMetric = true
  var workers: Int?
  static let options: [Option<CommonOutputSettings>] = [
    .option("id", \.id, "Names the output in statistics and messages; better written beside the step."),
    .option("enable_metric", \.enableMetric, "Accepted for Logstash's sake; statistics are always kept."),
    .option("workers", \.workers, "Accepted for Logstash's sake; an output keeps several requests in flight."),
  ]
}

/// Options that the pipeline reads for every plugin, before the plugin sees its own.
private let pipelineOptions: [OptionDescription] = {
  var id = OptionDescription(
    name: "id", typeName: String.typeName, schema: String.schema,
    sentence: "Names the step in statistics and messages; better written beside the step.")
  id.defaultText = "the plugin's name and its number within the section"
  id.isDefaultInWords = true
  var mode = OptionDescription(
    name: "ecs_compatibility", typeName: ECSCompatibility.typeName, schema: ECSCompatibility.schema,
    sentence: "Which names and places fields have, for plugins that know both.")
  mode.defaultText = "the pipeline's"
  mode.isDefaultInWords = true
  return [id, mode]
}()

/// The options that every plugin of a kind has, without those that the plugin declares itself.
private func common(_ declared: [OptionDescription], beside own: [OptionDescription]) -> [OptionDescription] {
  let all = pipelineOptions + declared.filter { option in !pipelineOptions.contains { $0.name == option.name } }
  return all.filter { option in !own.contains { $0.name == option.name } }
}

/// A filter built from its settings.
public struct BuiltFilter: Sendable {
  public let success: SuccessActions
  public let makeFilter: @Sendable () -> any Filter
  /// What a timer looks at; nil for most filters.
  public let timed: (any TimedState)?
  /// What its state has in common with other steps.
  public let orderGroup: String?
  /// What it counts of its own; nil for most filters.
  public let outcomes: FilterOutcomes?
}

/// A kind of filter.
public struct FilterKind: Sendable {
  public let manual: Manual
  public let options: [OptionDescription]
  public let commonOptions: [OptionDescription]
  /// Reads the options and builds the filter; problems are reported at their places.
  public let build: @Sendable (_ node: YAMLNode?, _ position: SourcePosition, FilterContext, Problems) -> BuiltFilter?

  public init<Plugin: FilterPlugin>(_ type: Plugin.Type) {
    manual = Plugin.manual
    options = Plugin.Settings.descriptions
    commonOptions = common(CommonFilterSettings.descriptions, beside: options)
    build = { node, position, context, problems in
      let reader = OptionReader(node, of: .plugin("filter", Plugin.manual.name, at: position), problems: problems)
      let before = problems.all.count
      let settings: Plugin.Settings = reader.read()
      let common: CommonFilterSettings = reader.read()
      reader.finish()
      guard !problems.all[before...].contains(where: { $0.severity == .error }) else { return nil }
      do {
        let plugin = try Plugin(settings, context)
        return BuiltFilter(
          success: common.actions, makeFilter: { plugin.makeFilter() }, timed: plugin.timed,
          orderGroup: plugin.orderGroup, outcomes: plugin.outcomes)
      } catch {
        report(error, "filter '\(Plugin.manual.name)'", reader, position, problems)
        return nil
      }
    }
  }
}

/// A kind of output.
public struct OutputKind: Sendable {
  public let manual: Manual
  public let options: [OptionDescription]
  public let commonOptions: [OptionDescription]
  public let build: @Sendable (_ node: YAMLNode?, _ position: SourcePosition, OutputContext, Problems) -> (any Output)?

  public init<Plugin: OutputPlugin>(_ type: Plugin.Type) {
    manual = Plugin.manual
    options = Plugin.Settings.descriptions
    commonOptions = common(CommonOutputSettings.descriptions, beside: options)
    build = { node, position, context, problems in
      let reader = OptionReader(node, of: .plugin("output", Plugin.manual.name, at: position), problems: problems)
      let before = problems.all.count
      let settings: Plugin.Settings = reader.read()
      let _: CommonOutputSettings = reader.read()
      reader.finish()
      guard !problems.all[before...].contains(where: { $0.severity == .error }) else { return nil }
      do {
        return try Plugin.make(settings, context)
      } catch {
        report(error, "output '\(Plugin.manual.name)'", reader, position, problems)
        return nil
      }
    }
  }
}

/// A kind of input.
public struct InputKind: Sendable {
  public let manual: Manual
  public let options: [OptionDescription]
  public let commonOptions: [OptionDescription]
  public let build: @Sendable (_ node: YAMLNode?, _ position: SourcePosition, InputContext, Problems) -> (any Input)?

  public init<Plugin: InputPlugin>(_ type: Plugin.Type) {
    manual = Plugin.manual
    options = Plugin.Settings.descriptions
    commonOptions = common([], beside: options)
    build = { node, position, context, problems in
      let reader = OptionReader(node, of: .plugin("input", Plugin.manual.name, at: position), problems: problems)
      let before = problems.all.count
      let settings: Plugin.Settings = reader.read()
      reader.finish()
      guard !problems.all[before...].contains(where: { $0.severity == .error }) else { return nil }
      do {
        return try Plugin.make(settings, context)
      } catch {
        report(error, "input '\(Plugin.manual.name)'", reader, position, problems)
        return nil
      }
    }
  }
}

private func report(
  _ error: any Error, _ phrase: String, _ reader: OptionReader, _ position: SourcePosition, _ problems: Problems
) {
  switch error {
  case let failure as BuildFailure:
    if let option = failure.option, reader.holdsUnresolved(option) { return }
    let place = failure.position ?? failure.option.map { reader.position(of: $0) } ?? position
    let subject = failure.option.map { "'\($0)' of \(phrase): " } ?? "\(phrase): "
    problems.error(place, subject + failure.text, code: failure.code, hint: failure.hint)
  case let problem as Problem: problems.add(problem)
  default: problems.error(position, "\(phrase): \(error)", code: "config.bad-value")
  }
}

/// A kind of codec, as the reference describes it; inputs build it themselves.
public struct CodecKind: Sendable {
  public let manual: Manual
  public let options: [OptionDescription]

  public init(_ manual: Manual, _ options: [OptionDescription]) {
    self.manual = manual
    self.options = options
  }
}

/// All plugins that there are, by name.
public struct Registry: Sendable {
  public let inputs: [String: InputKind]
  public let filters: [String: FilterKind]
  public let outputs: [String: OutputKind]
  /// Codecs of inputs.
  public let codecs: [CodecKind]
  /// The library of patterns for plugins that are no filters.
  public let expressions: (any ExpressionCompiler)?

  public init(
    inputs: [InputKind], filters: [FilterKind], outputs: [OutputKind], codecs: [CodecKind] = [],
    expressions: (any ExpressionCompiler)? = nil
  ) {
    self.codecs = codecs
    self.expressions = expressions
    self.inputs = Dictionary(uniqueKeysWithValues: inputs.map { ($0.manual.name, $0) })
    self.filters = Dictionary(uniqueKeysWithValues: filters.map { ($0.manual.name, $0) })
    self.outputs = Dictionary(uniqueKeysWithValues: outputs.map { ($0.manual.name, $0) })
  }
}

/// What the reference says of a plugin, whatever its kind.
public struct PluginDescription: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    case input, codec, filter, output
  }
  public let kind: Kind
  public let manual: Manual
  public let options: [OptionDescription]
  /// Options that all plugins of this kind have.
  public let commonOptions: [OptionDescription]

  /// `filter grok`
  public var title: String { "\(kind.rawValue) \(manual.name)" }
}

extension Registry {
  /// All plugins of a kind, in order of name.
  public func descriptions(_ kind: PluginDescription.Kind) -> [PluginDescription] {
    let all =
      switch kind {
      case .input: inputs.values.map { PluginDescription(kind, $0.manual, $0.options, $0.commonOptions) }
      case .codec: codecs.map { PluginDescription(kind, $0.manual, $0.options, []) }
      case .filter: filters.values.map { PluginDescription(kind, $0.manual, $0.options, $0.commonOptions) }
      case .output: outputs.values.map { PluginDescription(kind, $0.manual, $0.options, $0.commonOptions) }
      }
    return all.sorted { $0.manual.name < $1.manual.name }
  }
}

extension PluginDescription {
  init(_ kind: Kind, _ manual: Manual, _ options: [OptionDescription], _ commonOptions: [OptionDescription]) {
    self.kind = kind
    self.manual = manual
    self.options = options
    self.commonOptions = commonOptions
  }
}
