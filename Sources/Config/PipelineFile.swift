//  A pipeline file as a tree of steps. It knows no plugin: names, options and conditions are kept with their places for
//  whoever compiles them, and everything about the file's own shape is checked here.

public import Diagnostics

/// One file of `pipelines/`, read and checked in its shape.
public struct PipelineFile: Sendable {
  public var path: String
  public var id: String
  /// Where the id is given; the file's first place where it is the file's name.
  public var idPosition: SourcePosition
  /// The `pipeline` map as settings, for `PipelineSettings`.
  public var settings: SettingLayer
  public var inputs: [PluginStep] = []
  public var filters: [PipelineStep] = []
  public var outputs: [PluginStep] = []
  public var tests: [PipelineTest] = []

  /// Every plugin step of the filters, branches included, in written order.
  public var filterSteps: [PluginStep] { filters.flatMap(\.plugins) }
}

/// A plugin at its place in a pipeline.
public struct PluginStep: Sendable {
  public enum Section: String, Sendable, CaseIterable {
    case input, filter, output
    /// The section's key in the file.
    public var key: String { rawValue + "s" }
  }

  public var section: Section
  public var plugin: String
  /// The plugin's name in the file.
  public var position: SourcePosition
  /// The plugin's options with their variables replaced and without `id`; nil where it has none.
  public var options: YAMLNode?
  /// As given, or the plugin's name and its number within the section: `elasticsearch-2`.
  public var id: String
  public var idPosition: SourcePosition
  public var isIDGiven: Bool
  public var condition: ConditionText?

  /// For `OptionReader`.
  public var owner: OptionOwner { .plugin(section.rawValue, plugin, at: position) }
}

/// The text of `when` or `if` as written: variables stand in it still, and only texts within the condition may be
/// replaced, so that a value is never read as a condition.
public struct ConditionText: Sendable {
  public var text: String
  /// The scalar, for places of characters within the text: `node.position(ofCharacter:)`.
  public var node: YAMLNode

  public var position: SourcePosition { node.position }

  public init(text: String, node: YAMLNode) {
    self.text = text
    self.node = node
  }
}

/// A plugin or a branch.
public indirect enum PipelineStep: Sendable {
  case plugin(PluginStep)
  case branch(PipelineBranch)

  var plugins: [PluginStep] {
    switch self {
    case .plugin(let step): [step]
    case .branch(let branch): (branch.then + branch.otherwise).flatMap(\.plugins)
    }
  }
}

/// `if`, `then`, `else`.
public struct PipelineBranch: Sendable {
  public var condition: ConditionText
  public var position: SourcePosition
  public var then: [PipelineStep]
  public var otherwise: [PipelineStep]
}

/// One entry of `tests`.
public struct PipelineTest: PluginSettings {
  public var name = ""
  /// Events, or payloads of `input`.
  public var given: [YAMLNode] = []
  /// A subset of each event that remains; nil where the test does not look at fields.
  public var expect: [YAMLNode]?
  /// Fields that no event may have.
  public var absent: [String] = []
  /// True: no event remains.
  public var dropped: Bool?
  /// Ids of the outputs that the events reach.
  public var outputs: [String]?
  /// The time at which the events arrive.
  public var now: String?
  /// The id of the input that decodes `given`.
  public var input: String?
  public var position = SourcePosition(file: "")

  public init() {}

  public static let options: [Option<PipelineTest>] = [
    .option("name", \.name, "What the test shows.", required: true, example: "a slow request is categorised"),
    .option(
      "given", \.given, "An event, or a list of events.", required: true,
      example: "{ message: '{\"request_duration\": 3.2}' }"),
    .option("expect", \.expect, "What the events must hold, or a list of it."),
    .option("absent", \.absent, "Fields that no event may have."),
    .option("dropped", \.dropped, "Whether no event remains."),
    .option("outputs", \.outputs, "Ids of the outputs that the events reach."),
    .option("now", \.now, "The time at which the events arrive, in ISO 8601."),
    .option("input", \.input, "The id of the input that decodes the given events."),
  ]
}

extension PipelineFile {
  /// Reads a pipeline file.
  ///
  /// - Returns: nil where there is no tree to look at. What is wrong goes to `problems`.
  public static func load(_ path: String, variables: VariableSource, problems: Problems) -> PipelineFile? {
    guard let root = YAML.load(path, problems: problems) else { return nil }
    return read(root, path: path, variables: variables, problems: problems)
  }

  public static func parse(_ text: String, path: String, variables: VariableSource, problems: Problems) -> PipelineFile?
  {
    guard let root = YAML.parse(text, file: path, problems: problems) else { return nil }
    return read(root, path: path, variables: variables, problems: problems)
  }

  /// Refuses equal ids, and names both places.
  public static func checkIDs(of files: [PipelineFile], problems: Problems) {
    var seen: [String: PipelineFile] = [:]
    for file in files {
      if let first = seen[file.id] {
        problems.error(
          file.idPosition, "the pipeline id '\(excerpt(of: file.id))' is taken", code: "config.duplicate-id",
          hint: "the other is at \(first.idPosition)")
      } else {
        seen[file.id] = file
      }
    }
  }

  private static func read(_ root: YAMLNode, path: String, variables: VariableSource, problems: Problems)
    -> PipelineFile?
  {
    if root.isEmpty {
      problems.error(
        SourcePosition(file: path, line: 1, column: 1), "the pipeline file is empty", code: "config.empty",
        hint: "it needs at least 'inputs:' and 'outputs:'")
      return nil
    }
    let reader = PipelineReader(path: path, variables: variables, problems: problems)
    return reader.read(root)
  }
}
