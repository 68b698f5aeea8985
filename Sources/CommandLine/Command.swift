//  A program and its commands, as data.

/// One command: `run`, or `dlq list` within a group.
public struct Command: Sendable {
  /// The words behind the program's name.
  public let path: [String]
  /// One line without a full stop.
  public let summary: String
  /// Further paragraphs, separated by empty lines.
  public let details: String
  /// Command lines without the program's name, and what they do.
  public let examples: [(line: String, meaning: String)]
  public let arguments: [ArgumentDescription]
  let parse: @Sendable ([String], Command, Program) throws(UsageError) -> @Sendable () -> Int32

  public var name: String { path.joined(separator: " ") }

  /// - Parameters:
  ///   - name: `run`, or `dlq list`.
  ///   - run: Returns the exit status. Called on the thread that calls `Program.run`.
  public init<Settings: CommandSettings>(
    _ name: String, _ summary: String, details: String = "", examples: [(line: String, meaning: String)] = [],
    run: @escaping @Sendable (Settings) -> Int32
  ) {
    path = name.split(separator: " ").map(String.init)
    self.summary = summary
    self.details = details
    self.examples = examples
    let defaults = Settings()
    arguments = Settings.arguments.map { $0.describe(defaults) }
    parse = { (words, command, program) throws(UsageError) in
      let settings = try ArgumentParser<Settings>(command, program).parse(words)
      return { run(settings) }
    }
  }
}

/// A program: its commands, and what it says about itself.
public struct Program: Sendable {
  public let name: String
  public let version: String
  /// One line without a full stop.
  public let summary: String
  public let commands: [Command]
  /// Summaries of groups: `dlq` of `dlq list`.
  public let groups: [String: String]
  /// Help on what is no command, such as a plugin.
  public let topic: @Sendable (String) -> String?
  /// All names that `topic` knows, for hints.
  public let topicNames: [String]

  public init(
    name: String, version: String, summary: String, commands: [Command], groups: [String: String] = [:],
    topicNames: [String] = [], topic: @escaping @Sendable (String) -> String? = { _ in nil }
  ) {
    self.name = name
    self.version = version
    self.summary = summary
    self.groups = groups
    self.topic = topic
    self.topicNames = topicNames
    self.commands = commands + Self.builtIn
  }

  /// Commands that every program has. `Program.parse` answers them itself.
  private static let builtIn = [
    Command("help", "Help on a command or a plugin") { (_: HelpArguments) in 0 },
    Command(
      "completions", "A completion script for a shell",
      details: "Bash reads it from /usr/share/bash-completion/completions."
    ) {
      (_: CompletionArguments) in 0
    },
    Command("version", "The version") { (_: NoArguments) in 0 },
  ]
}

enum Shell: String, ArgumentEnum {
  case bash, zsh, fish
  static var blank: Shell { .bash }
}

struct HelpArguments: CommandSettings {
  var names: [String] = []
  var asManual = false
  static let arguments: [Argument<HelpArguments>] = [
    .positional("NAME", \.names, "The command or plugin."),
    .flag("--man", \.asManual, "Print a manual page, for man."),
  ]
}

struct CompletionArguments: CommandSettings {
  var shell = Shell.bash
  static let arguments: [Argument<CompletionArguments>] = [
    .positional("SHELL", \.shell, "The shell.", required: true)
  ]
}

/// What a command line asks for.
public enum Invocation: Sendable {
  /// Run this; it returns the exit status.
  case run(@Sendable () -> Int32)
  /// Print this on standard output and end well.
  case print(String)
  /// Print this on standard error and end with exit status 2.
  case usage(String)
}

/// A command line that cannot be understood.
struct UsageError: Error {
  /// What is wrong.
  var text: String
  var hint: String?
}
