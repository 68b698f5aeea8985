//  Completion scripts for shells. Each works out which command stands on the line, then offers its next words, its
//  options, or what fits the option before the cursor.

extension Program {
  func completions(_ shell: Shell) -> String {
    switch shell {
    case .bash: bashCompletions()
    case .zsh: zshCompletions()
    case .fish: fishCompletions()
    }
  }

  /// Every sequence of words that leads to a command, the empty one first.
  private var paths: [[String]] {
    var seen = Set<[String]>()
    return [[]]
      + commands.flatMap { command in (1...command.path.count).map { Array(command.path.prefix($0)) } }
      .filter { seen.insert($0).inserted }
  }

  private func command(at path: [String]) -> Command? { commands.first { $0.path == path } }

  private func names(_ argument: ArgumentDescription) -> [String] {
    [argument.name] + (argument.short.map { [$0] } ?? [])
  }

  /// A text in single quotes for a POSIX shell.
  private func quote(_ text: String) -> String {
    "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
  }

  // MARK: bash

  private func bashCompletions() -> String {
    var values = ""
    var words = ""
    for path in paths {
      let label = path.joined(separator: " ")
      let command = command(at: path)
      for argument in command?.arguments ?? [] where argument.kind == .option {
        let patterns = names(argument).map { quote("\(label):\($0)") }.joined(separator: "|")
        values += "    \(patterns)) \(bashAction(argument)); return ;;\n"
      }
      let options = command?.arguments.filter { $0.kind != .positional }.map(\.name) ?? []
      let positionals = command?.arguments.filter { $0.kind == .positional } ?? []
      let offered = nextWords(path) + positionals.flatMap(\.choices) + options + ["--help"]
      words += "    \(quote(label))) words=\(quote(offered.joined(separator: " ")))"
      if let completion = positionals.map(\.completion).first(where: { $0 != .nothing }) {
        words += "; extra=\(completion == .files ? "-f" : "-d")"
      }
      words += " ;;\n"
    }
    let known = paths.dropFirst().map { quote($0.joined(separator: " ")) }.joined(separator: "|")
    return """
      # Completions of \(name) for bash.
      _\(name)() {
        local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
        local path= words= extra= word
        for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
          case "${path:+$path }$word" in
            \(known)) path="${path:+$path }$word" ;;
          esac
        done
        case "$path:$previous" in
      \(values)  esac
        case "$path" in
      \(words)  esac
        COMPREPLY=($(compgen $extra -W "$words" -- "$current"))
      }
      complete -o filenames -F _\(name) \(name)

      """
  }

  private func bashAction(_ argument: ArgumentDescription) -> String {
    if !argument.choices.isEmpty {
      return "COMPREPLY=($(compgen -W \(quote(argument.choices.joined(separator: " "))) -- \"$current\"))"
    }
    switch argument.completion {
    case .nothing: return "COMPREPLY=()"
    case .files: return "COMPREPLY=($(compgen -f -- \"$current\"))"
    case .folders: return "COMPREPLY=($(compgen -d -- \"$current\"))"
    }
  }

  // MARK: zsh

  private func zshCompletions() -> String {
    var cases = ""
    for path in paths {
      cases += "    \(quote(path.joined(separator: " "))))\n"
      if !path.isEmpty { cases += "      shift \(path.count) words; (( CURRENT -= \(path.count) ))\n" }
      let next = nextWords(path)
      if !next.isEmpty {
        let described = next.map { word in
          let summary = command(at: path + [word])?.summary ?? groups[(path + [word]).joined(separator: " ")] ?? ""
          return quote("\(word):\(summary)")
        }
        cases += "      offered=(\(described.joined(separator: " ")))\n      _describe command offered\n"
      } else {
        let specifications = (command(at: path)?.arguments ?? []).map { zshSpecification($0) + " " }
        cases += "      _arguments \(specifications.joined())'(-h --help)'{-h,--help}'[Print help]'\n"
      }
      cases += "      ;;\n"
    }
    let known = paths.dropFirst().map { quote($0.joined(separator: " ")) }.joined(separator: "|")
    return """
      #compdef \(name)
      # Completions of \(name) for zsh.
      _\(name)() {
        local line_path= word
        local -a offered
        for word in "${(@)words[2,CURRENT-1]}"; do
          case "${line_path:+$line_path }$word" in
            \(known)) line_path="${line_path:+$line_path }$word" ;;
          esac
        done
        case "$line_path" in
      \(cases)  esac
      }
      _\(name) "$@"

      """
  }

  private func zshSpecification(_ argument: ArgumentDescription) -> String {
    func escape(_ text: String) -> String {
      var result = ""
      for character in text {
        if "[]:\\".contains(character) { result += "\\" }
        result.append(character)
      }
      return result
    }
    var action = ""
    if !argument.choices.isEmpty { action = "(\(argument.choices.joined(separator: " ")))" }
    if argument.completion == .files { action = "_files" }
    if argument.completion == .folders { action = "_files -/" }
    let value = ":\(escape(argument.placeholder)):\(action)"
    switch argument.kind {
    case .positional: return quote((argument.isRepeated ? "*" : "") + value)
    case .flag, .option:
      let suffix = "[\(escape(argument.sentence))]" + (argument.kind == .option ? value : "")
      let star = argument.isRepeated ? "*" : ""
      guard let short = argument.short else { return quote(star + argument.name + suffix) }
      let group = argument.isRepeated ? quote("*") : quote("(\(short) \(argument.name))")
      return "\(group){\(short),\(argument.name)}\(quote(suffix))"
    }
  }

  // MARK: fish

  private func fishCompletions() -> String {
    var lines = ["# Completions of \(name) for fish.", "complete -c \(name) -f"]
    for path in paths {
      var condition = path.map { "__fish_seen_subcommand_from \($0)" }.joined(separator: "; and ")
      if path.isEmpty { condition = "__fish_use_subcommand" }
      let next = nextWords(path)
      let noneYet =
        path.isEmpty || next.isEmpty ? "" : "; and not __fish_seen_subcommand_from \(next.joined(separator: " "))"
      for word in next {
        let summary = command(at: path + [word])?.summary ?? groups[(path + [word]).joined(separator: " ")] ?? ""
        lines.append("complete -c \(name) -n \(fishQuote(condition + noneYet)) -a \(word) -d \(fishQuote(summary))")
      }
      for argument in command(at: path)?.arguments ?? [] {
        var line = "complete -c \(name) -n \(fishQuote(condition))"
        if argument.kind != .positional {
          line += " -l \(argument.name.drop { $0 == "-" })"
          if let short = argument.short { line += " -s \(short.drop { $0 == "-" })" }
          if argument.kind == .option { line += " -r" }
          line += " -d \(fishQuote(argument.sentence))"
        }
        if !argument.choices.isEmpty { line += " -a \(fishQuote(argument.choices.joined(separator: " ")))" }
        if argument.completion == .files { line += " -F" }
        if argument.completion == .folders { line += " -a \(fishQuote("(__fish_complete_directories)"))" }
        if argument.kind != .positional || line.contains(" -a ") || line.contains(" -F") { lines.append(line) }
      }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private func fishQuote(_ text: String) -> String {
    var result = "'"
    for character in text {
      if character == "'" || character == "\\" { result += "\\" }
      result.append(character)
    }
    return result + "'"
  }
}
