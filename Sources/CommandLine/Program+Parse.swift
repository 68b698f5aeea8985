//  Which command a command line names, and the three that every program answers itself.

internal import Diagnostics
internal import Glibc

extension Program {
  /// Works out what the words behind the program's name ask for. Runs nothing.
  public func parse(_ words: [String]) -> Invocation {
    if words.isEmpty { return .usage(help()) }
    if words[0] == "--version" { return .print("\(name) \(version)\n") }
    let isHelpWanted = words.prefix { $0 != "--" }.contains { $0 == "--help" || $0 == "-h" }
    guard let command = command(in: words) else {
      let path = group(in: words)
      if isHelpWanted { return .print(path.isEmpty ? help() : help(group: path)) }
      return .usage(unknownCommand(words, path))
    }
    if isHelpWanted { return .print(help(command)) }
    do {
      let rest = Array(words.dropFirst(command.path.count))
      let run = try command.parse(rest, command, self)
      switch command.name {
      case "version": return .print("\(name) \(version)\n")
      case "completions":
        return .print(completions(try ArgumentParser<CompletionArguments>(command, self).parse(rest).shell))
      case "help": return help(try ArgumentParser<HelpArguments>(command, self).parse(rest))
      default: return .run(run)
      }
    } catch {
      return .usage(
        "\(name) \(command.name): \(error.text)\(error.hint.map { "; \($0)" } ?? "")\n"
          + "`\(name) help \(command.name)` shows what it takes.\n")
    }
  }

  /// Parses, prints and runs.
  ///
  /// - Parameter words: The arguments without the program's name.
  /// - Returns: The exit status: 2 for a command line that cannot be understood, else what the command says.
  public func run(_ words: [String]) -> Int32 {
    switch parse(words) {
    case .run(let command): return command()
    case .print(let text):
      write(text, to: 1)
      return 0
    case .usage(let text):
      write(text, to: 2)
      return 2
    }
  }

  private func write(_ text: String, to file: CInt) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      guard
        let count = try? systemCall("write", { bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) } })
      else { return }
      bytes = bytes.dropFirst(count)
    }
  }

  /// The command whose words stand at the front; of several the longest.
  func command(in words: [String]) -> Command? {
    commands.filter { words.starts(with: $0.path) }.max { $0.path.count < $1.path.count }
  }

  /// The words at the front that begin some command without being one.
  private func group(in words: [String]) -> [String] {
    var path: [String] = []
    for word in words {
      let longer = path + [word]
      guard commands.contains(where: { $0.path.starts(with: longer) }) else { break }
      path = longer
    }
    return path
  }

  private func unknownCommand(_ words: [String], _ path: [String]) -> String {
    let names = nextWords(path)
    let prefix = ([name] + path).joined(separator: " ")
    guard words.count > path.count else {
      return "\(prefix) needs one of \(names.joined(separator: ", "))\n`\(prefix) --help` shows what they do.\n"
    }
    let word = words[path.count]
    if word.hasPrefix("-") {
      return "\(prefix): the command comes first, then '\(shown(word))'\n`\(prefix) --help` lists the commands.\n"
    }
    let near = nearest(to: word, among: names).map { "; did you mean '\($0)'?" } ?? ""
    return "\(prefix): there is no command '\(shown(word))'\(near)\n`\(prefix) --help` lists the commands.\n"
  }

  /// The words that may follow `path`, in the order of declaration.
  func nextWords(_ path: [String]) -> [String] {
    var seen = Set<String>()
    return commands.filter { $0.path.count > path.count && $0.path.starts(with: path) }.map { $0.path[path.count] }
      .filter { seen.insert($0).inserted }
  }

  private func help(_ arguments: HelpArguments) -> Invocation {
    if arguments.names.isEmpty { return .print(arguments.asManual ? manualPage() : help()) }
    if let command = command(in: arguments.names), command.path.count == arguments.names.count {
      return .print(arguments.asManual ? manualPage(command) : help(command))
    }
    if group(in: arguments.names) == arguments.names { return .print(help(group: arguments.names)) }
    let wanted = arguments.names.joined(separator: " ")
    if !arguments.asManual, let text = topic(wanted) { return .print(text) }
    let near = nearest(to: wanted, among: commands.map(\.name) + groups.keys.sorted() + topicNames)
    return .usage(
      "\(name) help: there is nothing about '\(shown(wanted))'\(near.map { "; did you mean '\($0)'?" } ?? "")\n"
        + "`\(name) help` lists the commands.\n")
  }
}
