//  Manual pages for man, and the Markdown reference of all commands.

internal import Diagnostics

extension Program {
  /// The manual page of the program.
  public func manualPage() -> String {
    var page = head(name)
    page += section("NAME") + "\(roff(name)) \\- \(roff(summary))\n"
    page += section("SYNOPSIS") + ".B \(roff(name))\n.I COMMAND\n[arguments]\n"
    page += section("COMMANDS")
    for command in commands { page += ".TP\n.B \(roff(command.name))\n\(roff(command.summary + "."))\n" }
    page += exitStatus
    page += section("SEE ALSO")
    let others = commands.map { ".BR \(roff("\(name)-\($0.path.joined(separator: "-"))")) (1)" }
    return page + others.joined(separator: ",\n") + "\n"
  }

  /// The manual page of a command: `sluice-dlq-list(1)`.
  public func manualPage(_ command: Command) -> String {
    let title = ([name] + command.path).joined(separator: "-")
    var page = head(title)
    page += section("NAME") + "\(roff(title)) \\- \(roff(command.summary))\n"
    page += section("SYNOPSIS") + ".B \(roff(([name] + command.path).joined(separator: " ")))\n"
    let rest = synopsis(command).dropFirst(1 + command.path.count)
    if !rest.isEmpty { page += roff(rest.joined(separator: " ")) + "\n" }
    page += section("DESCRIPTION") + roff(command.summary + ".") + "\n"
    for paragraph in paragraphs(command.details) { page += ".PP\n\(roff(paragraph))\n" }
    if !command.arguments.isEmpty {
      page += section("OPTIONS")
      for argument in command.arguments {
        let label = label(of: argument).drop { $0 == " " }
        page +=
          ".TP\n.B \(roff(argument.kind == .positional ? argument.name : String(label)))\n\(roff(text(of: argument)))\n"
      }
    }
    if !command.examples.isEmpty {
      page += section("EXAMPLES")
      for example in command.examples {
        page += ".TP\n.B \(roff("\(name) \(example.line)"))\n\(roff(example.meaning))\n"
      }
    }
    return page + exitStatus + section("SEE ALSO") + ".BR \(roff(name)) (1)\n"
  }

  /// The reference of all commands in Markdown.
  public func markdown() -> String {
    var page =
      "# Commands of `\(name)`\n\n\(summary).\n\nExit status: 0 well, 1 the input or the cluster is at fault, 2 usage.\n"
    for command in commands {
      page +=
        "\n## \(name) \(command.name)\n\n\(command.summary).\n\n```\n\(synopsis(command).joined(separator: " "))\n```\n"
      for paragraph in paragraphs(command.details) { page += "\n\(paragraph)\n" }
      if !command.arguments.isEmpty {
        page += "\n| argument | meaning |\n|---|---|\n"
        for argument in command.arguments {
          let label = argument.kind == .positional ? argument.name : String(label(of: argument).drop { $0 == " " })
          page += "| `\(cell(label))` | \(cell(text(of: argument))) |\n"
        }
      }
      for example in command.examples { page += "\n`\(name) \(example.line)`: \(example.meaning)\n" }
    }
    return page
  }

  private func cell(_ text: String) -> String {
    text.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
  }

  private func head(_ title: String) -> String {
    ".TH \(roff(title.uppercased())) 1 \"\" \"\(roff(name)) \(roff(version))\" \"\(roff(name))\"\n"
  }
  private func section(_ title: String) -> String { ".SH \"\(title)\"\n" }
  private var exitStatus: String {
    section("EXIT STATUS") + "0 well, 1 the input or the cluster is at fault, 2 usage.\n"
  }

  /// Text that roff reads as text.
  private func roff(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "\\": result += "\\e"
      case "-": result += "\\-"
      case "\n": result += "\n"
      default: result.append(character)
      }
    }
    return result.hasPrefix(".") || result.hasPrefix("'") ? "\\&" + result : result
  }
}
