//  Reads the tree of a pipeline file into steps.

import Diagnostics

/// One run over one file. Confined to the caller's thread.
final class PipelineReader {
  private let path: String
  private let variables: VariableSource
  private let problems: Problems
  private var counts: [String: Int] = [:]
  private var givenIDs: [String: SourcePosition] = [:]
  private var reserved: [PluginStep.Section: Set<String>] = [:]

  init(path: String, variables: VariableSource, problems: Problems) {
    self.path = path
    self.variables = variables
    self.problems = problems
  }

  static let sections = ["pipeline", "inputs", "filters", "outputs", "tests"]

  func read(_ root: YAMLNode) -> PipelineFile? {
    guard let entries = root.entries else {
      problems.error(
        root.position,
        "a pipeline file is a map with \(Self.sections.map { "'\($0)'" }.joined(separator: ", ")), not \(root.phrase)",
        code: "config.bad-shape")
      return nil
    }
    for entry in entries where !Self.sections.contains(entry.key) {
      let near = nearestName(to: entry.key, among: Self.sections)
      problems.error(
        entry.keyPosition, "a pipeline file has no section '\(excerpt(of: entry.key))'", code: "config.unknown-section",
        hint: near.map { "did you mean '\($0)'?" } ?? "the sections are \(Self.sections.joined(separator: ", "))")
    }
    let start = SourcePosition(file: path, line: 1, column: 1)
    let layer = root["pipeline"].map { SettingLayer(pipelineMap: expanded($0), problems: problems) } ?? SettingLayer()
    var file = PipelineFile(path: path, id: Self.name(of: path), idPosition: start, settings: layer)
    readID(into: &file)
    collectIDs(root)
    file.inputs = items(root, "inputs").compactMap { plugin($0, .input) }
    file.filters = items(root, "filters").compactMap(filterStep)
    file.outputs = items(root, "outputs").compactMap { plugin($0, .output) }
    file.tests = items(root, "tests").map(test)
    return file
  }

  private func expanded(_ node: YAMLNode) -> YAMLNode { node.expanded(by: variables, problems: problems) }

  // MARK: The pipeline's id

  /// The file's name without folder and extension.
  private static func name(of path: String) -> String {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    for ending in [".yaml", ".yml"] where name.hasSuffix(ending) { return String(name.dropLast(ending.count)) }
    return name
  }

  private func readID(into file: inout PipelineFile) {
    let given = file.settings.entry("pipeline.id")
    if given?.value.isUnresolved == true { return }
    if let entry = given, !entry.value.isEmptied {
      file.idPosition = entry.value.position
      let context = OptionContext(
        problems: problems, option: "id", owner: OptionOwner("the pipeline", at: entry.value.position))
      if let id = String.read(entry.value, context) { file.id = id } else { return }
    }
    let isSound =
      (1...64).contains(file.id.utf8.count)
      && file.id.utf8.allSatisfy { byte in
        switch byte {
        case 48...57, 65...90, 97...122, UInt8(ascii: "_"), UInt8(ascii: "-"): true
        default: false
        }
      }
    if !isSound {
      problems.error(
        file.idPosition, "'\(excerpt(of: file.id))' is no pipeline id", code: "config.bad-id",
        hint: "an id is 1 to 64 of A-Z, a-z, 0-9, '_' and '-'; give one:  pipeline: { id: NAME }")
    }
  }

  // MARK: Steps

  private func items(_ root: YAMLNode, _ section: String) -> [YAMLNode] {
    guard let node = root[section], !node.isEmpty else { return [] }
    if let items = node.items { return items }
    problems.error(node.position, "'\(section)' is a list of steps, not \(node.phrase)", code: "config.bad-shape")
    return []
  }

  /// What a step may hold beside its plugin.
  private static let stepKeys = ["when", "id"]
  private static let branchKeys = ["if", "then", "else"]

  private func filterStep(_ node: YAMLNode) -> PipelineStep? {
    if let entries = node.entries, entries.contains(where: { Self.branchKeys.contains($0.key) }) {
      return branch(node, entries).map(PipelineStep.branch)
    }
    return plugin(node, .filter).map(PipelineStep.plugin)
  }

  private func plugin(_ node: YAMLNode, _ section: PluginStep.Section) -> PluginStep? {
    if let name = node.text, !node.isEmpty {  // `- drop`: a plugin without options
      return step(
        YAMLEntry(key: name, keyPosition: node.position, value: YAMLNode(.scalar(""), node.position)), node, section)
    }
    guard let entries = node.entries else {
      problems.error(
        node.position, "a step is a map of one plugin name to its options, not \(node.phrase)", code: "config.bad-shape"
      )
      return nil
    }
    if let entry = entries.first(where: { Self.branchKeys.contains($0.key) }) {
      problems.error(
        entry.keyPosition, "'\(entry.key)' is allowed in filters alone", code: "config.bad-shape",
        hint: "a step of '\(section.key)' takes 'when'")
      return nil
    }
    var names = entries.filter { !Self.stepKeys.contains($0.key) }
    if names.count > 1, let i = names.firstIndex(where: { nearestName(to: $0.key, among: Self.stepKeys) != nil }) {
      let misspelt = names.remove(at: i)
      problems.error(
        misspelt.keyPosition, "a step has no '\(excerpt(of: misspelt.key))' beside its plugin",
        code: "config.bad-shape",
        hint: nearestName(to: misspelt.key, among: Self.stepKeys).map { "did you mean '\($0)'?" })
    }
    guard let name = names.first else {
      problems.error(node.position, "this step names no plugin", code: "config.bad-shape")
      return nil
    }
    if names.count > 1 {
      problems.error(
        names[1].keyPosition,
        "this step names two plugins, '\(excerpt(of: name.key))' and '\(excerpt(of: names[1].key))'",
        code: "config.bad-shape",
        hint: "begin the second with '- '; options of '\(excerpt(of: name.key))' are indented below it")
    }
    return step(name, node, section)
  }

  private func step(_ name: YAMLEntry, _ node: YAMLNode, _ section: PluginStep.Section) -> PluginStep {
    var options: YAMLNode? = name.value.isEmpty ? nil : expanded(name.value)
    var id = node["id"].map(expanded)
    if let all = options?.entries, let entry = all.first(where: { $0.key == "id" }) {
      if let id {
        problems.error(
          entry.value.position, "this step has two ids", code: "config.duplicate-id",
          hint: "the other is at \(id.position)")
      }
      id = id ?? entry.value
      options = YAMLNode(.map(all.filter { $0.key != "id" }), name.value.position)
    }
    if let node = options, node.entries == nil {
      problems.error(
        node.position, "the options of \(section.rawValue) '\(excerpt(of: name.key))' are a map, not \(node.phrase)",
        code: "config.bad-value")
      options = nil
    }
    let given = id.flatMap { readStepID($0, name, section) }
    return PluginStep(
      section: section, plugin: name.key, position: name.keyPosition, options: options,
      id: given ?? nextID(name.key, section), idPosition: id?.position ?? name.keyPosition, isIDGiven: given != nil,
      condition: node["when"].flatMap { condition($0, "when") })
  }

  private func branch(_ node: YAMLNode, _ entries: [YAMLEntry]) -> PipelineBranch? {
    for entry in entries where !Self.branchKeys.contains(entry.key) {
      let hint =
        Self.stepKeys.contains(entry.key)
        ? "the condition of a branch is its 'if'" : "a plugin inside the branch stands in the list of 'then' or 'else'"
      problems.error(
        entry.keyPosition, "a branch has 'if', 'then' and 'else', and no '\(excerpt(of: entry.key))'",
        code: "config.bad-shape", hint: hint)
    }
    guard let test = node.entry("if") else {
      problems.error(node.position, "this branch has no 'if'", code: "config.bad-shape")
      return nil
    }
    if node["then"] == nil, node["else"] == nil {
      problems.error(test.keyPosition, "this branch has neither 'then' nor 'else'", code: "config.bad-shape")
    }
    let condition = condition(test.value, "if")
    let then = node["then"].map { steps($0, "then") } ?? []
    let otherwise = node["else"].map { steps($0, "else") } ?? []
    guard let condition else { return nil }
    return PipelineBranch(condition: condition, position: test.keyPosition, then: then, otherwise: otherwise)
  }

  /// A list of steps; for `else` also one more branch.
  private func steps(_ node: YAMLNode, _ key: String) -> [PipelineStep] {
    if node.isEmpty { return [] }
    if let items = node.items { return items.compactMap(filterStep) }
    if key == "else", node.entry("if") != nil { return filterStep(node).map { [$0] } ?? [] }
    problems.error(
      node.position, "'\(key)' is a list of steps\(key == "else" ? " or one more 'if'" : ""), not \(node.phrase)",
      code: "config.bad-shape", hint: node.entries == nil ? nil : "begin each step with '- '")
    return []
  }

  private func condition(_ node: YAMLNode, _ key: String) -> ConditionText? {
    guard let text = node.text, !text.allSatisfy(\.isWhitespace) else {
      problems.error(
        node.position, "'\(key)' takes a condition, not \(node.phrase)", code: "config.bad-value",
        hint: node.items == nil ? nil : "write the whole condition in quotes, such as '[message] == \"x\"'")
      return nil
    }
    return ConditionText(text: text, node: node)
  }

  // MARK: Ids of steps

  /// Collects the ids that are given in each section, so that no default takes one of them.
  private func collectIDs(_ root: YAMLNode) {
    for section in PluginStep.Section.allCases { root[section.key].map { collectIDs($0, section) } }
  }

  private func collectIDs(_ node: YAMLNode, _ section: PluginStep.Section) {
    for item in node.items ?? [node] {
      for entry in item.entries ?? [] {
        switch entry.key {
        case "then", "else": collectIDs(entry.value, section)
        case "if", "when": break
        default:
          guard let id = entry.key == "id" ? entry.value : entry.value["id"] else { break }
          // Quietly: the same text is read again, with its problems told, where the step is.
          if let text = id.expanded(by: variables, problems: Problems()).text {
            reserved[section, default: []].insert(text)
          }
        }
      }
    }
  }

  private func readStepID(_ node: YAMLNode, _ name: YAMLEntry, _ section: PluginStep.Section) -> String? {
    if node.isEmptied || node.isUnresolved { return nil }
    let owner = OptionOwner.plugin(section.rawValue, name.key, at: name.keyPosition)
    let context = OptionContext(problems: problems, option: "id", owner: owner)
    guard let id = String.read(node, context) else { return nil }
    guard (1...128).contains(id.utf8.count), id.utf8.allSatisfy({ $0 >= 32 && $0 != 127 && $0 != UInt8(ascii: "/") })
    else {
      return context.complain(node, "must be 1 to 128 bytes without '/' and control characters")
    }
    if let first = givenIDs[id] {
      problems.error(
        node.position, "the id '\(excerpt(of: id))' is used twice in this pipeline", code: "config.duplicate-id",
        hint: "the other is at \(first)")
    }
    givenIDs[id] = givenIDs[id] ?? node.position
    return id
  }

  private func nextID(_ plugin: String, _ section: PluginStep.Section) -> String {
    while true {
      let number = counts["\(section) \(plugin)", default: 0] + 1
      counts["\(section) \(plugin)"] = number
      let id = "\(plugin)-\(number)"
      if reserved[section]?.contains(id) != true { return id }
    }
  }

  // MARK: Tests

  private func test(_ node: YAMLNode) -> PipelineTest {
    let name = node["name"]?.text.map { "test '\(excerpt(of: $0))'" } ?? "this test"
    guard node.entries != nil else {
      problems.error(
        node.position, "a test is a map with 'name', 'given' and 'expect', not \(node.phrase)", code: "config.bad-shape"
      )
      return PipelineTest()
    }
    var test = PipelineTest.read(expanded(node), of: OptionOwner(name, at: node.position), problems: problems)
    test.position = node.position
    return test
  }
}
