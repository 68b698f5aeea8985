//  Commands that print what the program declares: docs and schema, and the help pages of plugins.

internal import CommandLine
internal import Daemon
internal import PluginKit
internal import Reference

let reference: Reference = Reference(.all) { program.markdown() }

struct DocsArguments: CommandSettings {
  var page: String?
  var list = false
  static let arguments: [Argument<DocsArguments>] = [
    .positional(
      "PAGE", \.page, "The page: \(Reference.pages.joined(separator: ", ")). All of them where none is named.",
      check: {
        $0.map { Reference.pages.contains($0) } == false ? "one of \(Reference.pages.joined(separator: ", "))" : nil
      }),
    .flag("--list", \.list, "Print the pages' names and end."),
  ]
}

let docsCommand: Command = Command(
  "docs", "Print the reference of every plugin, setting and command in Markdown",
  details: "It is made from the declarations that options are read with. `sluice help NAME` is the short form for one.",
  examples: [("docs filters", "every filter with its options and examples")]
) { (settings: DocsArguments) -> Int32 in
  if settings.list {
    for page in Reference.pages { print(page) }
    return 0
  }
  let names = settings.page.map { [$0] } ?? Reference.pages
  print(names.compactMap { reference.page($0) }.joined(separator: "\n"), terminator: "")
  return 0
}

struct SchemaArguments: CommandSettings {
  var name = Reference.schemas[0]
  static let arguments: [Argument<SchemaArguments>] = [
    .positional(
      "NAME", \.name, "What it is of: \(Reference.schemas.joined(separator: " or ")).", required: false,
      check: { Reference.schemas.contains($0) ? nil : "one of \(Reference.schemas.joined(separator: ", "))" })
  ]
}

let schemaCommand: Command = Command(
  "schema", "Print the JSON Schema of pipeline files, or of the settings file",
  details: "Editors complete and check YAML with it. It is JSON Schema of draft 2020-12.",
  examples: [
    ("schema > pipeline.schema.json", "a first line `# yaml-language-server: $schema=FILE` names it to an editor")
  ]
) { (settings: SchemaArguments) -> Int32 in
  print(reference.schema(settings.name) ?? "", terminator: "")
  return 0
}
