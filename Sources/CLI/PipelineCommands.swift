//  Commands on pipelines: run, check, try, test.

internal import CommandLine
internal import Daemon
internal import Diagnostics
internal import Glibc
internal import Pipeline

/// Which settings, pipelines and data a command works with.
struct Launch: Sendable {
  var config: String?
  var pipelines: [String] = []
  var data: String?
  var set: [String] = []

  var options: LaunchOptions {
    var options = LaunchOptions()
    options.configFile = config
    options.pipelines = pipelines
    options.dataFolder = data
    options.assignments = set
    return options
  }
}

/// Options that every command on pipelines has.
protocol LaunchArguments: CommandSettings {
  var launch: Launch { get set }
}

extension LaunchArguments {
  static var launchArguments: [Argument<Self>] {
    [
      .option(
        "-c, --config", \.launch.config, "FILE", "The settings file.",
        defaultText: "./config/sluice.yml, or /etc/sluice/sluice.yml under systemd", completion: .files),
      .option(
        "-p, --pipelines", \.launch.pipelines, "PATH",
        "A pipeline file or a folder of them; may be given more than once.",
        defaultText: "path.pipelines of the settings", completion: .files),
      .option(
        "--data", \.launch.data, "FOLDER", "Where queue and dead letters lie.",
        defaultText: "path.data of the settings",
        completion: .folders),
      .option(
        "--set", \.launch.set, "KEY=VALUE",
        "A setting that beats file and environment; may be given more than once."),
    ]
  }
}

// MARK: run

struct RunArguments: LaunchArguments {
  var launch = Launch()
  static let arguments: [Argument<RunArguments>] = launchArguments
}

let runCommand = Command(
  "run", "Run the daemon in the foreground",
  details: "TERM and INT stop it: inputs close, what is in flight is finished, the rest stays on disk."
) { (settings: RunArguments) -> Int32 in
  runDaemon(settings.launch.options)
}

// MARK: check

struct CheckArguments: LaunchArguments {
  var launch = Launch()
  var resolve = false
  static let arguments: [Argument<CheckArguments>] =
    launchArguments + [
      .flag("--resolve", \.resolve, "Also open files and resolve names.")
    ]
}

let checkCommand = Command(
  "check", "Check settings and pipelines",
  details: "Every problem is printed with its place: FILE:LINE:COLUMN: error: TEXT [code]."
) { (settings: CheckArguments) -> Int32 in
  let problems = Problems()
  let configuration = Configuration.load(settings.launch.options, opensFiles: settings.resolve, problems: problems)
  let compiled = configuration.compile(resolves: settings.resolve, problems: problems)
  checkRun(configuration, compiled, opensFiles: settings.resolve, problems: problems)
  for problem in problems.sorted { print(problem) }
  if problems.hasErrors { return 1 }
  let names = compiled.map(\.id).joined(separator: ", ")
  print("All is well: \(compiled.count == 1 ? "pipeline" : "pipelines") \(names).")
  return 0
}

// MARK: try

struct TryArguments: LaunchArguments {
  var launch = Launch()
  var input: String?
  var plain = false
  var metadata = false
  static let arguments: [Argument<TryArguments>] =
    launchArguments + [
      .option("--input", \.input, "NAME", "Lines are payloads of this input."),
      .flag("--plain", \.plain, "Every line is a message."),
      .flag("--metadata", \.metadata, "Show @metadata."),
    ]
}

let tryCommand = Command(
  "try", "Run events from standard input through a pipeline's filters",
  details: "Reads a JSON object a line and prints the resulting events, one JSON object a line.",
  examples: [("try -p pipelines/aura.yml < events.jsonl", "prints the events as they would be sent")]
) { (settings: TryArguments) -> Int32 in
  let problems = Problems()
  let configuration = Configuration.load(settings.launch.options, opensFiles: true, problems: problems)
  let compiled = configuration.compile(resolves: true, parts: [.inputs, .filters], problems: problems)
  guard report(problems), let pipeline = compiled.first else { return 1 }
  if compiled.count > 1 {
    writeError("sluice try: \(compiled.count) pipelines are there; name one with -p")
    return 2
  }
  var options = TryOptions()
  options.input = settings.input
  options.isPlain = settings.plain
  options.showsMetadata = settings.metadata
  if let input = settings.input, !pipeline.inputs.contains(where: { $0.id == input || $0.kind == input }) {
    writeError("sluice try: pipeline '\(pipeline.id)' has no input '\(input)'")
    return 2
  }
  tryPipeline(pipeline, options, from: 0, to: 1)
  return 0
}

// MARK: test

enum TestFormat: String, ArgumentEnum {
  case pretty, tap, junit
  static var blank: TestFormat { .pretty }
}

struct TestArguments: CommandSettings {
  var paths: [String] = []
  var config: String?
  var set: [String] = []
  var format = TestFormat.pretty
  static let arguments: [Argument<TestArguments>] = [
    .positional(
      "PATH", \.paths, "Pipeline files, folders of them, or case folders (pipeline.yml, input.jsonl, expected.jsonl).",
      completion: .files),
    .option("-c, --config", \.config, "FILE", "The settings file.", completion: .files),
    .option("--set", \.set, "KEY=VALUE", "A setting that beats file and environment; may be given more than once."),
    .option("--format", \.format, "FORMAT", "How results are printed."),
  ]
}

let testCommand = Command(
  "test", "Run the tests that pipelines carry, and case folders"
) { (settings: TestArguments) -> Int32 in
  var options = LaunchOptions()
  options.configFile = settings.config
  options.pipelines = settings.paths
  options.assignments = settings.set
  let problems = Problems()
  let outcomes = runTests(options, problems: problems)
  guard report(problems) else { return 1 }
  print(testReport(outcomes, format: settings.format.rawValue), terminator: "")
  return outcomes.contains { !$0.passed } ? 1 : 0
}

// MARK: Shared

/// Writes what was collected to standard output.
///
/// - Returns: False where nobody reads it any more.
func flush(_ out: inout ByteBuffer) -> Bool {
  defer { out.removeAll() }
  return writeAll(out.bytes, to: 1)
}

/// Prints problems on standard error; false when there is an error among them.
func report(_ problems: Problems) -> Bool {
  for problem in problems.sorted { writeError(problem.description) }
  return !problems.hasErrors
}
