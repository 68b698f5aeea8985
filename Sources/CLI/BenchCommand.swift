//  The command bench: a table for people, one JSON object for scripts.

internal import CommandLine
internal import Daemon
internal import Diagnostics
internal import Events
internal import Pipeline
internal import PluginKit

enum BenchFormat: String, ArgumentEnum {
  case table, json
  static var blank: BenchFormat { .table }
}

struct BenchArguments: CommandSettings {
  var pipeline = ""
  var events = ""
  var config: String?
  var set: [String] = []
  var input: String?
  var plain = false
  var workers = 1
  var count = 200_000
  var format = BenchFormat.table
  static let arguments: [Argument<BenchArguments>] = [
    .positional("PIPELINE", \.pipeline, "The pipeline file.", completion: .files),
    .option("--events", \.events, "FILE", "The lines that are run.", completion: .files),
    .option("-c, --config", \.config, "FILE", "The settings file.", completion: .files),
    .option("--set", \.set, "KEY=VALUE", "A setting that beats file and environment; may be given more than once."),
    .option("--input", \.input, "NAME", "Lines are payloads of this input."),
    .flag("--plain", \.plain, "Every line is a message."),
    .option("--workers", \.workers, "N", "Threads that work at the same time."),
    .option("--count", \.count, "N", "Events that are measured; a shorter file is begun again."),
    .option("--format", \.format, "FORMAT", "A table, or one JSON object."),
  ]
}

let benchCommand = Command(
  "bench", "Measure what a pipeline costs an event",
  details: """
    Lines are decoded (a JSON object each, unless --plain or --input says otherwise), run through the filters and encoded, \
    without queue, input and output. Times are the threads' CPU time.
    """,
  examples: [("bench pipelines/aura.yml --events events.jsonl", "costs of decode, each filter, encode")]
) { (settings: BenchArguments) -> Int32 in
  guard !settings.events.isEmpty, settings.workers > 0, settings.workers <= 256, settings.count > 0 else {
    writeError("sluice bench: needs --events FILE, and --workers (up to 256) and --count above 0")
    return 2
  }
  let file: [UInt8]
  do throws(SystemError) {
    file = try readFile(settings.events, limitBytes: 4 << 30)
  } catch {
    writeError("sluice bench: \(settings.events) cannot be read: \(error.reason)")
    return 1
  }
  var launch = LaunchOptions()
  launch.configFile = settings.config
  launch.pipelines = [settings.pipeline]
  launch.assignments = settings.set
  let problems = Problems()
  let configuration = Configuration.load(launch, opensFiles: true, problems: problems)
  let compiled = configuration.compile(
    resolves: true, parts: settings.input == nil ? [.filters] : [.inputs, .filters], problems: problems)
  guard report(problems), let pipeline = compiled.first else { return 1 }
  if compiled.count > 1 {
    writeError("sluice bench: \(settings.pipeline) holds \(compiled.count) pipelines; name one file")
    return 2
  }
  if let input = settings.input, !pipeline.inputs.contains(where: { $0.id == input || $0.kind == input }) {
    writeError("sluice bench: pipeline '\(pipeline.id)' has no input '\(input)'")
    return 2
  }
  var options = BenchOptions()
  options.isPlain = settings.plain
  options.input = settings.input
  options.workers = settings.workers
  options.events = settings.count
  guard let measured = benchPipeline(pipeline, options, file: file) else {
    writeError("sluice bench: \(settings.events) has no line")
    return 1
  }
  print(settings.format == .json ? json(measured) : table(measured))
  return 0
}

private func table(_ report: BenchReport) -> String {
  var rows: [(String, String, String)] = [("decode", micros(report.decodeNs), "")]
  for part in report.filters {
    rows.append(
      (part.id, micros(part.nsPerEvent), part.share < 0.9995 ? "\(decimals(part.share * 100, 1)) % of events" : ""))
  }
  rows.append(("conditions", micros(report.stepsNs), ""))
  rows.append(("encode", micros(report.encodeNs), ""))
  rows.append(("total", micros(report.totalNs), ""))
  let width = rows.reduce(0) { max($0, $1.0.count) }
  var text = "pipeline \(report.pipeline): \(report.events) events, \(Int(report.eventsPerSecond)) events/s "
  text += "with \(report.workers) \(report.workers == 1 ? "worker" : "workers"); CPU µs an event:\n"
  for (name, cost, note) in rows {
    text += "  \(name)\(String(repeating: " ", count: width - name.count))  "
    text += "\(String(repeating: " ", count: max(0, 8 - cost.count)))\(cost)\(note.isEmpty ? "" : "  \(note)")\n"
  }
  return String(text.dropLast())
}

private func json(_ report: BenchReport) -> String {
  let filters = report.filters.map {
    "{\"id\":\(quoted($0.id)),\"name\":\(quoted($0.kind)),\"cpu_us_per_event\":\(micros($0.nsPerEvent)),"
      + "\"share\":\(decimals($0.share, 4))}"
  }
  return "{\"pipeline\":\(quoted(report.pipeline)),\"workers\":\(report.workers),\"events\":\(report.events),"
    + "\"bytes_out\":\(report.bytesOut),\"events_per_second\":\(Int(report.eventsPerSecond)),"
    + "\"cpu_us_per_event\":{\"decode\":\(micros(report.decodeNs)),\"conditions\":\(micros(report.stepsNs)),"
    + "\"encode\":\(micros(report.encodeNs)),\"total\":\(micros(report.totalNs))},"
    + "\"filters\":[\(filters.joined(separator: ","))]}"
}

private func micros(_ nanoseconds: Double) -> String { decimals(nanoseconds / 1000, 3) }

/// `value` with `places` digits behind the point.
func decimals(_ value: Double, _ places: Int) -> String {
  if places == 0 { return String(Int(value.rounded())) }
  let scale = (0..<places).reduce(1) { scale, _ in scale * 10 }
  let scaled = Int((value * Double(scale)).rounded())
  let rest = String(scaled % scale)
  return "\(scaled / scale).\(String(repeating: "0", count: max(0, places - rest.count)))\(rest)"
}

private func quoted(_ text: String) -> String {
  var out = ByteBuffer()
  var copy = text
  copy.withUTF8 { appendQuoted(UnsafeRawBufferPointer($0), to: &out) }
  return String(decoding: out.bytes, as: UTF8.self)
}
