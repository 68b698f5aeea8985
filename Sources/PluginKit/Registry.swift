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

/// A filter built from its settings.
public struct BuiltFilter: Sendable {
  public let success: SuccessActions
  public let makeFilter: @Sendable () -> any Filter
  /// What a timer looks at; nil for most filters.
  public let timed: (any TimedState)?
  /// What its state has in common with other steps.
  public let orderGroup: String?
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
    commonOptions = CommonFilterSettings.descriptions
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
          orderGroup: plugin.orderGroup)
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
  public let build: @Sendable (_ node: YAMLNode?, _ position: SourcePosition, OutputContext, Problems) -> (any Output)?

  public init<Plugin: OutputPlugin>(_ type: Plugin.Type) {
    manual = Plugin.manual
    options = Plugin.Settings.descriptions
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
  public let build: @Sendable (_ node: YAMLNode?, _ position: SourcePosition, InputContext, Problems) -> (any Input)?

  public init<Plugin: InputPlugin>(_ type: Plugin.Type) {
    manual = Plugin.manual
    options = Plugin.Settings.descriptions
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
    let place = failure.option.map { reader.position(of: $0) } ?? position
    let subject = failure.option.map { "'\($0)' of \(phrase): " } ?? "\(phrase): "
    problems.error(place, subject + failure.text, code: failure.code, hint: failure.hint)
  case let problem as Problem: problems.add(problem)
  default: problems.error(position, "\(phrase): \(error)", code: "config.bad-value")
  }
}

/// All plugins that there are, by name.
public struct Registry: Sendable {
  public let inputs: [String: InputKind]
  public let filters: [String: FilterKind]
  public let outputs: [String: OutputKind]

  public init(inputs: [InputKind], filters: [FilterKind], outputs: [OutputKind]) {
    self.inputs = Dictionary(uniqueKeysWithValues: inputs.map { ($0.manual.name, $0) })
    self.filters = Dictionary(uniqueKeysWithValues: filters.map { ($0.manual.name, $0) })
    self.outputs = Dictionary(uniqueKeysWithValues: outputs.map { ($0.manual.name, $0) })
  }
}
