//  The settings of a run: layers from the least to the strongest. Each layer names where a value came from, so that an
//  error shows the file's line, the variable's name or `--set`.

public import Diagnostics

/// All settings of a run, and what is needed to work out those of a pipeline.
public struct Settings: Sendable {
  public let daemon: DaemonSettings
  /// Names in the environment that begin with `SLUICE_` and are no setting; to be told once at info.
  public let unknownEnvironment: [String]
  private let defaults: DaemonSettings
  private let file: SettingLayer
  private let environment: SettingLayer
  private let assignments: SettingLayer

  /// - Parameters:
  ///   - file: The settings file's tree, as `YAML.load` gives it; nil where there is no file.
  ///   - assignments: The `key=value` of `--set`, in order; the last of equal keys wins.
  ///   - systemd: The process is a service of systemd.
  public init(
    file: YAMLNode?, variables: VariableSource, assignments: [String] = [], systemd: Bool = false, problems: Problems
  ) {
    defaults = .defaults(systemd: systemd)
    let tree = file?.expanded(by: variables, problems: problems)
    self.file = tree.map { SettingLayer(file: $0, problems: problems) } ?? SettingLayer()
    (environment, unknownEnvironment) = SettingLayer.environment(variables.environment)
    self.assignments = SettingLayer(assignments: assignments, problems: problems)
    let layers = [self.file, environment, self.assignments]
    var daemon = defaults
    for layer in layers {
      Self.checkNames(layer, allowed: SettingNames.daemon, problems)
      layer.read(into: &daemon, problems: problems)
    }
    daemon.check(at: Self.place(among: layers), written: Self.written(among: layers), problems: problems)
    self.daemon = daemon
  }

  /// The variable of a setting that was meant by a name of `unknownEnvironment`.
  public static func nearestVariable(to name: String) -> String? {
    let prefix = "SLUICE_"
    // The prefix is common to all and must not make distant names near.
    let rests = SettingNames.byEnvironment.keys.map { String($0.dropFirst(prefix.count)) }.sorted()
    return nearest(to: String(name.dropFirst(prefix.count)), among: rests).map { prefix + $0 }
  }

  /// The settings of one pipeline: its own map beats environment and file, and `--set` beats it.
  public func pipeline(_ file: PipelineFile, problems: Problems) -> PipelineSettings {
    for entry in file.settings.entries where entry.key != "pipeline.id" {
      if SettingNames.daemon.contains(entry.key), !SettingNames.pipeline.contains(entry.key) {
        problems.error(
          entry.keyPosition, "'\(entry.key)' is a setting of the whole daemon", code: "config.unknown-setting",
          hint: "it belongs into sluice.yml")
      }
    }
    let own = file.settings.without {
      $0 == "pipeline.id" || SettingNames.daemon.contains($0) && !SettingNames.pipeline.contains($0)
    }
    Self.checkNames(own, allowed: SettingNames.pipeline, problems)
    // The lower layers have told their mistakes already.
    let silent = Problems()
    var settings = defaults.pipeline
    for layer in [self.file, environment] { layer.read(into: &settings, problems: silent) }
    own.read(into: &settings, problems: problems)
    assignments.read(into: &settings, problems: silent)
    settings.check(at: Self.place(among: [self.file, environment, own, assignments]), problems: problems)
    return settings
  }

  /// Where a setting of the daemon is given; nil where it has its default.
  public func position(of name: String) -> SourcePosition? {
    Self.place(among: [file, environment, assignments])(name)
  }

  /// The value that stands for a setting of the daemon, or of a pipeline; nil where it has its default.
  public func written(_ name: String, in pipeline: PipelineFile? = nil) -> YAMLNode? {
    let own = pipeline.map { [$0.settings] } ?? []
    return Self.written(among: [file, environment] + own + [assignments])(name)
  }

  /// Where the strongest layer gives a setting; nil where none does.
  private static func place(among layers: [SettingLayer]) -> (String) -> SourcePosition? {
    { name in
      let entries = layers.reversed().compactMap { $0.entry(name) }
      return entries.first { !$0.value.isEmptied }?.value.position
    }
  }

  /// The value of the strongest layer that gives a setting; where variables emptied it in all of them, what stands there.
  private static func written(among layers: [SettingLayer]) -> (String) -> YAMLNode? {
    { name in
      let values = layers.reversed().compactMap { $0.entry(name)?.value }
      return values.first { !$0.isEmptied } ?? values.first
    }
  }

  private static func checkNames(_ layer: SettingLayer, allowed: Set<String>, _ problems: Problems) {
    let short = allowed.filter { $0.hasPrefix("pipeline.") }.map { String($0.dropFirst("pipeline.".count)) }
    let names = allowed.sorted() + (allowed == SettingNames.pipeline ? short.sorted() : [])
    for entry in layer.entries where !allowed.contains(entry.key) {
      if let reason = SettingNames.ignoredReason(entry.key) {
        problems.warning(
          entry.keyPosition, "the Logstash setting '\(entry.key)' has no meaning here", code: "config.ignored-setting",
          hint: reason)
        continue
      }
      let near = nearestName(to: entry.key, among: names)
      problems.error(
        entry.keyPosition, "there is no setting '\(excerpt(of: entry.key))'", code: "config.unknown-setting",
        hint: near.map { "did you mean '\($0)'?" })
    }
  }
}
