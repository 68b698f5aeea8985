//  Reads the words of a command line into a command's settings. Options may stand before, between and behind positional
//  arguments; `--` ends them.

internal import Diagnostics

struct ArgumentParser<Settings: CommandSettings> {
  private let command: Command
  private let program: Program
  private var settings = Settings()
  private var seen: [String: Int] = [:]
  private let options: [Argument<Settings>]
  private let positionals: [Argument<Settings>]

  init(_ command: Command, _ program: Program) {
    self.command = command
    self.program = program
    let all = Settings.arguments
    options = all.filter { $0.base.kind != .positional }
    positionals = all.filter { $0.base.kind == .positional }
  }

  consuming func parse(_ words: [String]) throws(UsageError) -> Settings {
    var rest = words[...]
    var index = 0
    var onlyPositionals = false
    while let word = rest.popFirst() {
      if onlyPositionals || word == "-" || !word.hasPrefix("-") {
        try takePositional(word, &index)
      } else if word == "--" {
        onlyPositionals = true
      } else {
        try takeOption(word, &rest)
      }
    }
    for argument in positionals + options where argument.base.isRequired && seen[argument.base.name] == nil {
      let base = argument.base
      let text = base.kind == .positional ? "\(base.name) is missing" : "\(base.name) \(base.placeholder) is missing"
      throw UsageError(text: text, hint: base.choices.isEmpty ? nil : "one of \(base.choices.joined(separator: ", "))")
    }
    return settings
  }

  private mutating func takePositional(_ word: String, _ index: inout Int) throws(UsageError) {
    guard index < positionals.count else {
      throw UsageError(text: "'\(shown(word))' is one argument too many")
    }
    let argument = positionals[index]
    if !argument.base.isRepeated { index += 1 }
    try take(argument, word, name: argument.base.name)
  }

  private mutating func takeOption(_ word: String, _ rest: inout ArraySlice<String>) throws(UsageError) {
    var name = word
    var value: String?
    if word.hasPrefix("--") {
      if let equals = word.firstIndex(of: "=") {
        name = String(word[..<equals])
        value = String(word[word.index(after: equals)...])
      }
    } else if word.count > 2 {  // `-pFILE`
      name = String(word.prefix(2))
      value = String(word.dropFirst(2))
    }
    guard let argument = options.first(where: { $0.base.name == name || $0.base.short == name }) else {
      let names = options.map(\.base.name) + ["--help"]
      let near = nearest(to: name, among: names)
      throw UsageError(text: "there is no option '\(shown(name))'", hint: near.map { "did you mean '\($0)'?" })
    }
    if argument.base.kind == .flag {
      if word.hasPrefix("--"), value != nil { throw UsageError(text: "\(name) takes no value") }
      try take(argument, "", name: name)
      // `-ab` is `-a -b`.
      if let value { try takeOption("-" + value, &rest) }
      return
    }
    if value == nil, let next = rest.first, !options.contains(where: { $0.base.name == next || $0.base.short == next })
    {
      value = next
      rest.removeFirst()
    }
    guard let value else { throw UsageError(text: "\(name) needs a value: \(name) \(argument.base.placeholder)") }
    try take(argument, value, name: name)
  }

  private mutating func take(_ argument: Argument<Settings>, _ text: String, name: String) throws(UsageError) {
    let count = seen[argument.base.name, default: 0]
    if count > 0, !argument.base.isRepeated { throw UsageError(text: "\(name) is given twice") }
    seen[argument.base.name] = count + 1
    if let expected = argument.take(text, count == 0, &settings) {
      let near = nearest(to: text, among: argument.base.choices)
      throw UsageError(
        text: "\(name) takes \(expected), not '\(shown(text))'", hint: near.map { "did you mean '\($0)'?" })
    }
  }
}

/// Foreign text in a message: one line, cut to 80 characters.
func shown(_ text: String) -> String {
  let clean = String(
    String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "\u{FFFD}" : $0 }))
  return clean.count > 80 ? clean.prefix(80) + "…" : clean
}
