//  The reference: one page in Markdown for each kind of plugin, for settings and for pipeline files, and a help page for
//  each plugin. Everything is printed from the declarations that the program itself reads options with, so that a page
//  cannot say what the program does not do.

internal import Config
internal import Diagnostics
package import PluginKit

package struct Reference: Sendable {
  let registry: Registry
  /// The page of the commands; the program knows them, this module does not.
  private let commands: @Sendable () -> String

  package init(_ registry: Registry, commands: @escaping @Sendable () -> String) {
    self.registry = registry
    self.commands = commands
  }

  /// Names of the pages, in the order in which they are read.
  package static let pages = ["inputs", "codecs", "filters", "outputs", "pipeline", "settings", "commands"]

  /// A page in Markdown; nil where there is none of this name.
  package func page(_ name: String) -> String? {
    switch name {
    case "inputs": plugins(.input)
    case "codecs": plugins(.codec)
    case "filters": plugins(.filter)
    case "outputs": plugins(.output)
    case "pipeline": pipelinePage
    case "settings": settingsPage
    case "commands": commands()
    default: nil
    }
  }

  // MARK: Plugins

  private func plugins(_ kind: PluginDescription.Kind) -> String {
    let all = registry.descriptions(kind)
    let word = kind.rawValue
    var page = "# \(word.prefix(1).uppercased() + word.dropFirst())s\n\n| \(word) | what it does |\n|---|---|\n"
    for plugin in all { page += "| [\(plugin.manual.name)](#\(plugin.manual.name)) | \(plugin.manual.summary) |\n" }
    for plugin in all { page += "\n" + section(plugin) }
    let common = shared(all)
    if !common.isEmpty {
      page += "\n## Options of every \(word)\n\n" + common.markdownTable()
    }
    return page
  }

  private func section(_ plugin: PluginDescription) -> String {
    let manual = plugin.manual
    var page = "## \(manual.name)\n\n\(manual.summary)\n"
    for paragraph in paragraphs(manual.details) { page += "\n\(paragraph)\n" }
    if plugin.options.isEmpty {
      page += "\nIt has no options of its own.\n"
    } else {
      page += "\n" + plugin.options.markdownTable()
    }
    if !manual.failureTags.isEmpty {
      page += "\nTags of events that it could not handle: "
      page += manual.failureTags.map { "`\($0)`" }.joined(separator: ", ") + ".\n"
    }
    for example in manual.examples {
      page += "\n**\(example.title)**\n"
      page += fenced(configuration(of: plugin, example), as: "yaml")
      let words = Self.words(for: plugin.kind)
      if example.input.isEmpty {
        page += "\nThe event holds:\n"
      } else {
        page += "\n\(words.given):\n" + fenced(example.input, as: Self.language(of: example.input))
        page += "\n\(words.result):\n"
      }
      page += example.output.isEmpty ? "\nnothing.\n" : fenced(example.output, as: Self.language(of: example.output))
    }
    return page
  }

  /// The options that all plugins of a kind have.
  private func shared(_ plugins: [PluginDescription]) -> [OptionDescription] {
    var result: [OptionDescription] = []
    for plugin in plugins {
      for option in plugin.commonOptions where !result.contains(where: { $0.name == option.name }) {
        result.append(option)
      }
    }
    return result
  }

  private func fenced(_ text: String, as language: String) -> String {
    "\n```\(language)\n\(text.hasSuffix("\n") ? String(text.dropLast()) : text)\n```\n"
  }

  /// An example as it stands in a pipeline file.
  func configuration(of plugin: PluginDescription, _ example: Example) -> String {
    if plugin.kind == .codec {
      return "inputs:\n  - tcp: { port: 5001, codec: { \(plugin.manual.name): \(example.config) } }"
    }
    let lines = example.config.split(separator: "\n", omittingEmptySubsequences: false)
    if lines.count == 1 { return "\(plugin.kind.rawValue)s:\n  - \(plugin.manual.name): \(example.config)" }
    let body = lines.map { $0.isEmpty ? "" : "      " + $0 }.joined(separator: "\n")
    return "\(plugin.kind.rawValue)s:\n  - \(plugin.manual.name):\n\(body)"
  }

  private static func language(of text: String) -> String {
    text.hasPrefix("{") || text.hasPrefix("[") ? "json" : "text"
  }

  static func words(for kind: PluginDescription.Kind) -> (given: String, result: String) {
    switch kind {
    case .input, .codec: ("A sender sends", "and the event holds")
    case .filter: ("An event", "becomes")
    case .output: ("An event", "is written as")
    }
  }

  // MARK: Settings and pipeline files

  private var settingsPage: String {
    let names = Set(PipelineSettings.descriptions.map(\.name))
    return """
      # Settings

      The settings file is `config/sluice.yml`, or the file that `-c` names. Names and meanings are those of Logstash; \
      they are written nested or with dots. `--set NAME=VALUE` beats a pipeline's own `pipeline` map, which beats the \
      environment (`SLUICE_QUEUE_MAX_BYTES` is `queue.max_bytes`), which beats the file, which beats the default.

      ## Of the daemon

      \(DaemonSettings.descriptions.filter { !names.contains($0.name) }.markdownTable())
      ## Of each pipeline

      In the settings file they hold for all pipelines; in a pipeline's own `pipeline` map for that one, where \
      `pipeline.` may be left out.

      \(PipelineSettings.descriptions.markdownTable())
      ## Settings of Logstash that have no meaning here

      They are accepted with one line in the log, so that a logstash.yml carries over.

      | setting | why |
      |---|---|
      \(ignoredSettings.map { "| `\($0.name)` | \($0.reason) |" }.joined(separator: "\n"))

      """
  }

  private var pipelinePage: String {
    """
    # Pipeline files

    A file of the folder `path.pipelines` is a pipeline. `sluice schema` prints a JSON Schema of it for editors; \
    `pipeline.schema.json` beside this page is that schema.

    | section | what it holds |
    |---|---|
    | `pipeline` | the pipeline's `id` (the file's name unless it is given) and its [settings](settings.md#of-each-pipeline) |
    | `inputs` | a list of [inputs](inputs.md) |
    | `filters` | a list of [filters](filters.md) and branches, in the order in which events meet them |
    | `outputs` | a list of [outputs](outputs.md); an event goes to each of them whose condition it meets |
    | `tests` | a list of tests, which `sluice test` runs |

    A step is a map of one plugin's name to its options, `- json: { source: message }`, or the name alone. Beside the \
    name may stand `when`, a condition in Logstash's expression language without which the step is left out, and `id`, \
    which names the step in statistics and messages. A branch is a map of `if`, `then` and `else`.

    ## Tests

    \(PipelineTest.descriptions.markdownTable())
    """
  }

  // MARK: Help

  /// The help page of a plugin, or of each plugin that has this name. The name may follow its kind: `filter json`.
  package func help(_ name: String) -> String? {
    if name == "settings" { return settingsHelp }
    let all = PluginDescription.Kind.allCases.flatMap { registry.descriptions($0) }
    let found = all.filter { $0.manual.name == name || $0.title == name }
    return found.isEmpty ? nil : found.map(help).joined(separator: "\n")
  }

  /// Every name that `help` knows.
  package var helpNames: [String] {
    var names = ["settings"]
    for plugin in PluginDescription.Kind.allCases.flatMap({ registry.descriptions($0) })
    where !names.contains(plugin.manual.name) {
      names.append(plugin.manual.name)
    }
    return names
  }

  private var settingsHelp: String {
    let names = Set(PipelineSettings.descriptions.map(\.name))
    return "settings\n\n"
      + wrapped(
        "They stand in config/sluice.yml, or the file that -c names, nested or with dots. --set NAME=VALUE beats a "
          + "pipeline's own map, which beats the environment (SLUICE_QUEUE_MAX_BYTES), which beats the file.")
      + "\n\nOf the daemon:\n" + DaemonSettings.descriptions.filter { !names.contains($0.name) }.helpText()
      + "\nOf each pipeline:\n" + PipelineSettings.descriptions.helpText()
  }

  private func help(_ plugin: PluginDescription) -> String {
    let manual = plugin.manual
    var page = "\(plugin.title)\n\n" + wrapped(manual.summary) + "\n"
    for paragraph in paragraphs(manual.details) { page += "\n" + wrapped(paragraph) + "\n" }
    if !plugin.options.isEmpty { page += "\nOptions:\n" + plugin.options.helpText() }
    let names = plugin.commonOptions.filter { !$0.isObsolete }.map(\.name)
    if !names.isEmpty {
      page += "\n" + wrapped("Every \(plugin.kind.rawValue) also has: \(names.joined(separator: ", ")).") + "\n"
    }
    if !manual.failureTags.isEmpty {
      page += "\n" + wrapped("Tags of events that it could not handle: \(manual.failureTags.joined(separator: ", ")).")
      page += "\n"
    }
    for example in manual.examples {
      let words = Self.words(for: plugin.kind)
      page += "\n\(example.title):\n" + indented(configuration(of: plugin, example))
      if example.input.isEmpty {
        page += "  The event holds:\n"
      } else {
        page += "  \(words.given):\n" + indented(example.input) + "  \(words.result):\n"
      }
      page += indented(example.output.isEmpty ? "nothing" : example.output)
    }
    return page
  }

  private func indented(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: true).map { "    \($0)\n" }.joined()
  }
}
