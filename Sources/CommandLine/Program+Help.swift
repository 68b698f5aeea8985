//  Help pages, from the declarations. Pages are 80 columns wide.

internal import Diagnostics

extension Program {
  /// The page of the program.
  public func help() -> String {
    var names: [(String, String)] = []
    for word in nextWords([]) {
      if let command = commands.first(where: { $0.path == [word] }) {
        names.append((word, command.summary))
      } else {
        let parts = nextWords([word]).joined(separator: ", ")
        names.append((word, (groups[word].map { $0 + ": " } ?? "") + parts))
      }
    }
    return "Usage: \(name) COMMAND [arguments]\n\n\(wrapped(summary + ".", indent: 0))\n\nCommands:\n" + table(names)
      + "\n`\(name) help NAME` tells more about a command or a plugin.\n"
      + "Exit status: 0 well, 1 the input or the cluster is at fault, 2 usage.\n"
  }

  /// The page of a group of commands.
  func help(group path: [String]) -> String {
    let names = commands.filter { $0.path.starts(with: path) }.map {
      ($0.path.dropFirst(path.count).joined(separator: " "), $0.summary)
    }
    let prefix = ([name] + path).joined(separator: " ")
    let summary = groups[path.joined(separator: " ")].map { $0 + ".\n\n" } ?? ""
    return "Usage: \(prefix) COMMAND [arguments]\n\n\(summary)Commands:\n" + table(names)
      + "\n`\(name) help \(path.joined(separator: " ")) NAME` tells more about one of them.\n"
  }

  /// The page of a command.
  public func help(_ command: Command) -> String {
    var page = usage(command) + "\n\n" + wrapped(command.summary + ".", indent: 0) + "\n"
    for paragraph in paragraphs(command.details) { page += "\n" + wrapped(paragraph, indent: 0) + "\n" }
    let positionals = command.arguments.filter { $0.kind == .positional }
    if !positionals.isEmpty { page += "\nArguments:\n" + table(positionals.map { ($0.name, text(of: $0)) }) }
    let options = command.arguments.filter { $0.kind != .positional }.map { (label(of: $0), text(of: $0)) }
    page += "\nOptions:\n" + table(options + [("-h, --help", "Print this page.")])
    if !command.examples.isEmpty {
      page += "\nExamples:\n"
      for example in command.examples {
        page += "  \(name) \(example.line)\n" + wrapped(example.meaning, indent: 6) + "\n"
      }
    }
    return page
  }

  /// `Usage: sluice try -p FILE [options]`; an argument and its value stay on one line.
  private func usage(_ command: Command) -> String {
    let words = synopsis(command).map { String($0.map { $0 == " " ? Self.joint : $0 }) }
    let lines = wrapped("Usage: " + words.joined(separator: " "), indent: 0, hanging: 4)
    return String(lines.map { $0 == Self.joint ? " " : $0 })
  }
  private static let joint: Character = "\u{A0}"

  /// The words of a command line, with what may be left out in brackets.
  func synopsis(_ command: Command) -> [String] {
    var words = [name] + command.path
    for argument in command.arguments {
      var word = argument.name
      if argument.kind == .option { word = (argument.short ?? argument.name) + " " + argument.placeholder }
      if argument.kind == .flag { word = argument.short ?? argument.name }
      if !argument.isRequired { word = "[\(word)]" }
      words.append(word + (argument.isRepeated ? "..." : ""))
    }
    return words
  }

  func label(of argument: ArgumentDescription) -> String {
    let value = argument.placeholder.isEmpty ? "" : " " + argument.placeholder
    return (argument.short.map { $0 + ", " } ?? "    ") + argument.name + value
  }

  func text(of argument: ArgumentDescription) -> String {
    var text = argument.sentence
    if !argument.choices.isEmpty, !argument.placeholder.contains("|") {
      text += " One of \(argument.choices.joined(separator: ", "))."
    }
    if argument.isRequired { text += " Required." }
    if argument.isRepeated { text += " May be repeated." }
    if let value = argument.defaultText { text += " Default: \(value)." }
    return text
  }

  /// Two columns; the second is wrapped.
  private func table(_ rows: [(String, String)]) -> String {
    let width = min(rows.map { $0.0.count }.max() ?? 0, 28)
    return rows.map { left, right in
      let text = wrapped(right, indent: width + 4)
      if left.count > width { return "  \(left)\n\(text)\n" }
      return "  " + left + String(repeating: " ", count: width - left.count + 2) + text.drop { $0 == " " } + "\n"
    }.joined()
  }
}
