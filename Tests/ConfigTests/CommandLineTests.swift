//  Command lines: what they mean, what is said about wrong ones, and the pages made from the declarations.

import CommandLine
import Diagnostics
import Glibc
import Testing

enum Format: String, ArgumentEnum {
  case pretty, tap, junit
  static var blank: Format { .pretty }
}

struct RunArguments: CommandSettings {
  var config: String?
  var pipelines: [String] = ["./pipelines"]
  var settings: [String] = []
  var window = Duration.seconds(3600)
  var verbose = false
  var dry = false
  init() {}
  static let arguments: [Argument<RunArguments>] = [
    .option(
      "-c, --config", \.config, "FILE", "The settings file.", defaultText: "./config/sluice.yml", completion: .files),
    .option("-p, --pipeline", \.pipelines, "FILE|DIR", "A pipeline file, or a folder of them.", completion: .files),
    .option("--set", \.settings, "KEY=VALUE", "A setting that beats the file and the environment."),
    .option("--time-window", \.window, "DURATION", "How far back to look."),
    .flag("-v, --verbose", \.verbose, "Say more."),
    .flag("-n, --dry-run", \.dry, "Change nothing."),
  ]
}

struct TestArguments: CommandSettings {
  var places: [String] = []
  var format = Format.pretty
  init() {}
  static let arguments: [Argument<TestArguments>] = [
    .positional("FILE|FOLDER", \.places, "What to test.", completion: .files),
    .option("--format", \.format, "FORMAT", "How results are printed."),
  ]
}

struct CleanupArguments: CommandSettings {
  var index = ""
  var days = 0
  init() {}
  static let arguments: [Argument<CleanupArguments>] = [
    .positional("INDEX", \.index, "The index."),
    .option(
      "--days", \.days, "N", "The age from which on indices go.", required: true,
      check: { (1...36_500).contains($0) ? nil : "1 to 36500" }),
  ]
}

/// What a command was told, kept for the test that ran it.
let told = Lock<[String]>([])

let program = Program(
  name: "sluice", version: "1.2.3", summary: "Takes log events in, keeps them safe, and brings them to Elasticsearch",
  commands: [
    Command(
      "run", "Runs the daemon in the foreground",
      details: """
        Settings come from the file, the environment and the command line, the last of which is strongest. The daemon
        ends well when it is asked to.

        A second signal ends it at once.
        """, examples: [("run -c /etc/sluice/sluice.yml", "Runs with the settings of a package.")]
    ) { (arguments: RunArguments) in
      told.withLock { $0.append("\(arguments)") }
      return 0
    },
    Command("test", "Runs the tests of pipelines") { (_: TestArguments) in 1 },
    Command("dlq list", "Lists dead letters") { (_: NoArguments) in 0 },
    Command("dlq show", "Shows a dead letter") { (_: NoArguments) in 0 },
    Command("es cleanup", "Removes old indices") { (_: CleanupArguments) in 0 },
  ], groups: ["dlq": "Dead letters", "es": "Elasticsearch"], topicNames: ["grok", "mutate"],
  topic: { $0 == "grok" ? "about grok\n" : nil })

func answer(_ line: String) -> String {
  switch program.parse(line.split(separator: " ").map(String.init)) {
  case .run(let command): "run \(command())"
  case .print(let text): "print " + text
  case .usage(let text): "usage " + text
  }
}

@Suite struct CommandLineTests {
  @Test(arguments: Block.all("commandline.txt")) func `what is wrong is said with a way on`(block: Block) {
    let line = block.input.split(separator: "\n").first.map(String.init) ?? ""
    #expect(answer(line).split(separator: "\n").map(String.init) == block.expected)
  }

  @Test func `options stand anywhere and in every form`() {
    func run(_ line: String) -> RunArguments? {
      told.withLock { $0.removeAll() }
      guard answer(line) == "run 0" else { return nil }
      var expected = RunArguments()
      expected.config = "f"
      expected.pipelines = ["a", "b"]
      expected.settings = ["x=-1", "y="]
      expected.window = .seconds(5400)
      expected.verbose = true
      expected.dry = true
      #expect(told.withLock { $0 } == ["\(expected)"])
      return expected
    }
    #expect(run("run -c f -p a -p b --set x=-1 --set y= --time-window 1.5h -v -n") != nil)
    #expect(run("run -cf --pipeline=a -vn --pipeline b --set=x=-1 --set=y= --time-window=90m") != nil)
  }

  @Test(arguments: [
    ("help", "help"), ("run --help", "help-run"), ("help es cleanup", "help-es-cleanup"), ("dlq -h", "help-dlq"),
    ("help --man", "sluice.1"), ("help run --man", "sluice-run.1"), ("completions bash", "completions.bash"),
    ("completions zsh", "completions.zsh"), ("completions fish", "completions.fish"),
  ])
  func `pages are as they were looked at`(line: String, file: String) throws {
    try expectGolden("commandline/\(file).txt", String(answer(line).dropFirst("print ".count)))
  }

  @Test func `the reference in Markdown is as it was looked at`() throws {
    try expectGolden("commandline/reference.md", program.markdown())
  }

  @Test func `no line of a page is wider than 80`() {
    for line in ["help", "help run", "help test", "help es cleanup", "help completions"] {
      #expect(answer(line).dropFirst("print ".count).split(separator: "\n").allSatisfy { $0.count <= 80 })
    }
  }

  @Test(arguments: [
    ("sluice r", "run"), ("sluice dlq ''", "--help list show"), ("sluice run --ver", "--verbose"),
    ("sluice test --format ''", "junit pretty tap"), ("sluice completions ''", "--help bash fish zsh"),
    ("sluice es cleanup --d", "--days"), ("sluice run --set ''", ""), ("sluice run -v --pipe", "--pipeline"),
  ])
  func `bash completes from the script`(line: String, expected: String) throws {
    guard case .print(let script) = program.parse(["completions", "bash"]) else {
      Issue.record("no script")
      return
    }
    let folder = try TemporaryFolder()
    try folder.write("completions.bash", script)
    let command = """
      bash -c 'source \(folder.path)/completions.bash; COMP_WORDS=('"\(line)"'); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); \
      _sluice; printf "%s\\n" "${COMPREPLY[@]}" | sort | tr "\\n" " "'
      """
    let pipe = try #require(popen(command, "r"))
    var output: [UInt8] = []
    while case let byte = fgetc(pipe), byte >= 0 { output.append(UInt8(truncatingIfNeeded: byte)) }
    #expect(pclose(pipe) == 0)
    let words = String(decoding: output, as: UTF8.self).split(separator: " ").joined(separator: " ")
    #expect(words == expected)
  }
}

/// Compares with a file below `Tests/Golden`; SLUICE_UPDATE_GOLDEN=1 writes it anew and fails.
func expectGolden(_ name: String, _ text: String) throws {
  let path = casesFolder.dropLast("Cases".count) + "Golden/" + name
  if getenv("SLUICE_UPDATE_GOLDEN") != nil {
    let file = try #require(fopen(String(path), "w"))
    fputs(text, file)
    fclose(file)
    Issue.record("recorded; run again without SLUICE_UPDATE_GOLDEN")
  }
  #expect(contents(of: String(path)) == text)
}
