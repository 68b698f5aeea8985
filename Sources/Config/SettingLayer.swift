//  Settings come in layers: the defaults, the file, the environment, a pipeline's own map, `--set`. Each layer is a flat
//  list of dotted names with their values and places; they are read one after the other into the same settings, so that
//  the later one wins and every mistake is told, also one that a later layer covers.

public import Diagnostics

/// One layer: dotted names and their values.
public struct SettingLayer: Sendable {
  public var entries: [YAMLEntry] = []

  public init() {}

  public func entry(_ name: String) -> YAMLEntry? { entries.first { $0.key == name } }

  /// The layer of a settings file. Maps are followed as far as they name no setting: `queue: { max_bytes: 1gb }` and
  /// `queue.max_bytes: 1gb` are the same.
  ///
  /// - Parameter root: Variables have been replaced in it.
  public init(file root: YAMLNode, problems: Problems) {
    guard let entries = root.entries else {
      if !root.isEmpty {
        problems.error(root.position, "a settings file is a map, not \(root.phrase)", code: "config.bad-shape")
      }
      return
    }
    flatten(entries, prefix: "", problems) { $0 }
  }

  /// The layer of a pipeline's own `pipeline` map, whose names may leave out `pipeline.`.
  public init(pipelineMap root: YAMLNode, problems: Problems) {
    guard let entries = root.entries else {
      if !root.isEmpty {
        problems.error(root.position, "'pipeline' is a map of settings, not \(root.phrase)", code: "config.bad-shape")
      }
      return
    }
    flatten(entries, prefix: "", problems) { name in
      let long = "pipeline." + name
      return !SettingNames.isKnown(name) && SettingNames.isKnown(long) ? long : name
    }
  }

  /// The layer of `--set key=value`.
  public init(assignments: [String], problems: Problems) {
    let position = SourcePosition(file: "--set")
    for assignment in assignments {
      guard let equals = assignment.firstIndex(of: "="), equals != assignment.startIndex else {
        problems.error(
          position, "'\(excerpt(of: assignment))' is no setting with its value", code: "config.bad-value",
          hint: "write --set pipeline.workers=2")
        continue
      }
      // Like a variable's value: split where a list is wanted, and not given where it is empty.
      let value = YAMLNode(
        .scalar(String(assignment[assignment.index(after: equals)...])), position, heldVariable: true)
      let name = String(assignment[..<equals])
      entries.removeAll { $0.key == name }
      entries.append(YAMLEntry(key: name, keyPosition: position, value: value))
    }
  }

  /// The layer of the environment: `SLUICE_QUEUE_MAX_BYTES` is `queue.max_bytes`.
  ///
  /// - Returns: Also the names that begin with `SLUICE_` and are no setting, sorted.
  public static func environment(_ variables: [String: String]) -> (layer: SettingLayer, unknown: [String]) {
    var layer = SettingLayer()
    var unknown: [String] = []
    for (name, text) in variables.sorted(by: { $0.key < $1.key }) where name.hasPrefix("SLUICE_") {
      guard let setting = SettingNames.byEnvironment[name] else {
        unknown.append(name)
        continue
      }
      let position = SourcePosition(file: name)
      let value = YAMLNode(.scalar(text), position, heldVariable: true)
      layer.entries.append(YAMLEntry(key: setting, keyPosition: position, value: value))
    }
    return (layer, unknown)
  }

  private mutating func flatten(
    _ map: [YAMLEntry], prefix: String, _ problems: Problems, _ resolve: (String) -> String
  ) {
    for entry in map {
      let name = prefix + entry.key
      let resolved = resolve(name)
      if let inner = entry.value.entries, !inner.isEmpty, !SettingNames.takesMap(resolved) {
        flatten(inner, prefix: name + ".", problems, resolve)
        continue
      }
      // A group with nothing below it: the file's settings are all commented out.
      let hasNothing = entry.value.isEmpty || entry.value.entries != nil
      if hasNothing, SettingNames.isGroup(name) || SettingNames.isGroup("pipeline." + name) { continue }
      if let first = self.entry(resolved) {
        problems.error(
          entry.keyPosition, "the setting '\(excerpt(of: resolved))' is given twice", code: "config.duplicate-key",
          hint: "the first is in line \(first.keyPosition.line)")
        continue
      }
      entries.append(YAMLEntry(key: resolved, keyPosition: entry.keyPosition, value: entry.value))
    }
  }

  /// Reads this layer over what earlier layers left in `settings`.
  func read<Settings: PluginSettings>(into settings: inout Settings, problems: Problems) {
    let owner = OptionOwner("", at: SourcePosition(file: ""))
    for option in Settings.options {
      guard let entry = entry(option.name), !entry.value.isEmptied else { continue }
      option.read(entry.value, owner: owner, problems: problems, into: &settings)
    }
  }
}
