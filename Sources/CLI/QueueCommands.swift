//  Commands on the queue's folder: stats, check, dump, repair. All but `repair` only read, beside a running daemon too.

internal import CommandLine
internal import Daemon
internal import Diagnostics
internal import Events
internal import Glibc
internal import Queue

/// Which queues a command is about.
struct QueueChoice: Sendable {
  var id: String?
  var folder: String?
}

private protocol ChoosesQueues: LaunchArguments {
  var choice: QueueChoice { get set }
}

struct QueueArguments: ChoosesQueues {
  var launch = Launch()
  var choice = QueueChoice()
  static let arguments: [Argument<QueueArguments>] = queueArguments
}

struct QueueDumpArguments: ChoosesQueues {
  var launch = Launch()
  var choice = QueueChoice()
  var payload = false
  var all = false
  static let arguments: [Argument<QueueDumpArguments>] =
    queueArguments + [
      .flag(
        "--payload", \.payload,
        "Print the payloads alone, byte for byte as they arrived, a line feed behind each; one may hold line feeds itself."
      ),
      .flag("--all", \.all, "Also records that every output has, as long as they are on disk."),
    ]
}

extension ChoosesQueues {
  fileprivate static var queueArguments: [Argument<Self>] {
    launchArguments + [
      .option("--id", \.choice.id, "ID", "The pipeline whose queue is meant.", defaultText: "all pipelines"),
      .option(
        "--folder", \.choice.folder, "FOLDER", "The folder of one queue; settings are not read then.",
        completion: .folders),
    ]
  }

  /// The queues that are meant, by their names; nil after a message.
  fileprivate func queues(for command: String) -> [QueueLocation]? {
    if let folder = choice.folder { return [QueueLocation(id: folder, folder: folder)] }
    let problems = Problems()
    let configuration = Configuration.load(launch.options, opensFiles: true, problems: problems)
    guard report(problems) else { return nil }
    var found = queueLocations(configuration, problems: problems)
    if let id = choice.id {
      found = found.filter { $0.id == id || $0.id.hasPrefix(id + "/overflow/") }
      if found.isEmpty {
        writeError("sluice \(command): pipeline '\(id)' has no queue below \(configuration.dataFolder)")
        return nil
      }
    }
    if found.isEmpty {
      writeError("sluice \(command): there is no queue below \(configuration.dataFolder); --data names another folder")
      return nil
    }
    return found
  }
}

// MARK: stats and check

let queueStatsCommand = Command(
  "queue stats", "Figures of the queues on disk",
  details: "Reads only, so it may run beside the daemon.",
  examples: [("queue stats --data /var/lib/sluice", "events, bytes and segments of each pipeline's queue")]
) { (settings: QueueArguments) -> Int32 in
  each(settings.queues(for: "queue stats"), "queue stats") { location, inspector throws(QueueOpenError) in
    let report = try inspector.stats()
    print(summary(location, report))
    for segment in report.segments { print(line(segment)) }
    printSurroundings(report)
    return 0
  }
}

let queueCheckCommand = Command(
  "queue check", "Compare every checksum of the queues on disk",
  details: """
    Reads only, so it may run beside the daemon. The exit status is 1 where something is damaged, unless its bytes are \
    set aside already.
    """
) { (settings: QueueArguments) -> Int32 in
  each(settings.queues(for: "queue check"), "queue check") { location, inspector throws(QueueOpenError) in
    let report = try inspector.check()
    print(summary(location, report))
    for segment in report.segments {
      if segment.isLocked { print("  \(segment.name): encrypted, and its key is not among the settings") }
      for damage in segment.damage {
        print("  \(sentence(segment.name, damage))\(damage.isSetAside ? "; known, and set aside" : "")")
      }
    }
    for name in report.damagedHeaders { print("  \(name): the header is damaged") }
    printSurroundings(report)
    if report.isSound {
      print(report.segments.allSatisfy(\.damage.isEmpty) ? "  all is well" : "  all else is well")
      return 0
    }
    if report.isRepairable {
      print("  the daemon skips what is damaged and sets it aside; 'sluice queue repair' does it at once")
    }
    return 1
  }
}

let queueRepairCommand = Command(
  "queue repair", "Set damaged bytes of the queues aside",
  details: """
    The daemon must not run. What is damaged is copied to a .bad file beside its segment, and nothing that can be read \
    is removed.
    """
) { (settings: QueueArguments) -> Int32 in
  each(settings.queues(for: "queue repair"), "queue repair") { location, inspector throws(QueueOpenError) in
    let report = try inspector.repair()
    print(summary(location, report))
    for action in report.actions { print("  \(action)") }
    if report.actions.isEmpty { print("  nothing to repair") }
    return 0
  }
}

// MARK: dump

let queueDumpCommand = Command(
  "queue dump", "Print the records of the queues",
  details: """
    Each record is a JSON object a line, with its id, place, arrival and input; a payload that is no UTF-8 text is \
    given in hexadecimal as payload_hex. Records that all outputs have are left out unless --all is given. What is \
    damaged is named on standard error, and the exit status is 1.
    """,
  examples: [("queue dump --payload", "what shippers sent and no output has yet")]
) { (settings: QueueDumpArguments) -> Int32 in
  each(settings.queues(for: "queue dump"), "queue dump") { location, inspector throws(QueueOpenError) in
    var out = ByteBuffer()
    var isClosed = false
    var status: Int32 = 0
    try inspector.dump(
      includesReleased: settings.all,
      damage: { segment, damage in
        writeError("sluice queue dump: \(location.id): \(sentence(segment, damage))")
        status = 1
      }
    ) { record in
      if settings.payload {
        out.append(record.payload)
        out.append("\n")
      } else {
        append(record, to: &out)
      }
      if out.count >= 1 << 16 { isClosed = !flush(&out) }
      return !isClosed
    }
    if !isClosed { isClosed = !flush(&out) }
    return isClosed ? 1 : status
  }
}

private func append(_ record: QueueDumpRecord, to out: inout ByteBuffer) {
  out.append("{\"id\":\"")
  out.append(text: record.identity.description)
  out.append("\",\"segment\":")
  out.append(text: String(record.segment))
  out.append(",\"index\":")
  out.append(decimal: Int(record.index))
  out.append(record.isReleased ? ",\"released\":true" : ",\"released\":false")
  out.append(",\"arrival\":\"")
  Timestamp(ns: record.arrivalNs).appendISO8601(to: &out)
  out.append("\",\"descriptor\":")
  appendText(record.descriptor, to: &out)
  if let context = record.context {
    out.append(",\"context\":")
    appendText(context, to: &out)
  }
  if firstInvalidUTF8(record.payload) == nil {
    out.append(",\"payload\":")
    appendQuoted(record.payload, to: &out)
  } else {
    out.append(",\"payload_hex\":\"")
    out.append(hexadecimal: record.payload)
    out.append("\"")
  }
  out.append("}\n")
}

/// Descriptors and contexts are JSON already, and are given as text where another version wrote something else.
private func appendText(_ bytes: [UInt8], to out: inout ByteBuffer) {
  bytes.withUnsafeBytes { text in
    if bytes.first == UInt8(ascii: "{") { out.append(text) } else { appendQuoted(text, to: &out) }
  }
}

// MARK: bench

struct QueueBenchArguments: CommandSettings {
  var folder = "."
  var writers = 16
  var recordBytes = 600
  var batch = 500
  var seconds = 6
  var backlog = 1024
  var format = BenchFormat.table
  static let arguments: [Argument<QueueBenchArguments>] = [
    .option(
      "--folder", \.folder, "FOLDER", "Where on the disk; a folder is made there and removed.", completion: .folders),
    .option("--writers", \.writers, "N", "Connections that append, each waiting for its acknowledgement."),
    .option("--record-bytes", \.recordBytes, "N", "Bytes of a record."),
    .option("--batch", \.batch, "N", "Records of an append."),
    .option("--seconds", \.seconds, "N", "How long the queue is under full load, and how long under half."),
    .option("--backlog", \.backlog, "MIB", "Backlog whose opening is measured."),
    .option("--format", \.format, "FORMAT", "A table, or one JSON object."),
  ]
}

let queueBenchCommand = Command(
  "queue bench", "Measure what the queue makes of a disk",
  details: """
    The disk's own speed (1 MiB written and synced, again and again), what the queue acknowledges beside it with every \
    record on the disk, how long acknowledgements take under full and under half that load, and how long a backlog takes \
    to open. Needs free space of twice the backlog.
    """,
  examples: [("queue bench --folder /var/lib/sluice", "what to expect of the disk that the daemon will use")]
) { (settings: QueueBenchArguments) -> Int32 in
  let limits = [
    ("--writers", settings.writers, 1...1024), ("--record-bytes", settings.recordBytes, 1...1 << 20),
    ("--batch", settings.batch, 1...100_000), ("--seconds", settings.seconds, 1...3600),
    ("--backlog", settings.backlog, 1...1 << 20),
  ]
  for (name, value, range) in limits where !range.contains(value) {
    writeError("sluice queue bench: \(name) must be from \(range.lowerBound) to \(range.upperBound)")
    return 2
  }
  var options = QueueBenchOptions()
  options.folder = settings.folder
  options.writers = settings.writers
  options.recordBytes = settings.recordBytes
  options.batchRecords = settings.batch
  options.seconds = settings.seconds
  options.backlogBytes = settings.backlog << 20
  Log.configure(level: .warn, format: .plain)
  do throws(QueueOpenError) {
    print(shown(try benchQueue(options), settings.format))
    return 0
  } catch {
    writeError("sluice queue bench: \(error)")
    return 1
  }
}

private func shown(_ report: QueueBenchReport, _ format: BenchFormat) -> String {
  let share = report.diskSpeed > 0 ? 100 * report.queueSpeed / report.diskSpeed : 0
  let figures: [(name: String, key: String, value: Double, places: Int, unit: String)] = [
    ("disk, 1 MiB appended and synced", "disk_mib_per_second", report.diskSpeed, 0, "MiB/s"),
    ("disk, the same over a file that is there", "overwrite_mib_per_second", report.overwriteSpeed, 0, "MiB/s"),
    ("queue, acknowledged", "queue_mib_per_second", report.queueSpeed, 0, "MiB/s"),
    ("share of the disk", "share_percent", share, 1, "%"),
    ("records", "records_per_second", report.recordsPerSecond, 0, "/s"),
    ("syncs", "syncs_per_second", report.syncsPerSecond, 0, "/s"),
    ("acknowledgement, full load, half within", "full_p50_ms", report.full.p50, 2, "ms"),
    ("acknowledgement, full load, 99 % within", "full_p99_ms", report.full.p99, 2, "ms"),
    ("acknowledgement, half load, half within", "half_p50_ms", report.half.p50, 2, "ms"),
    ("acknowledgement, half load, 99 % within", "half_p99_ms", report.half.p99, 2, "ms"),
    ("backlog", "backlog_mib", Double(report.backlogBytes >> 20), 0, "MiB"),
    ("opening it", "open_ms", report.openMilliseconds, 1, "ms"),
  ]
  if format == .json {
    return "{" + figures.map { "\"\($0.key)\":\(decimals($0.value, $0.places))" }.joined(separator: ",") + "}"
  }
  let width = figures.reduce(0) { max($0, $1.name.count) }
  return figures.map { figure in
    let value = decimals(figure.value, figure.places)
    let indent = String(repeating: " ", count: width - figure.name.count + max(0, 10 - value.count))
    return "\(figure.name)\(indent)\(value) \(figure.unit)"
  }.joined(separator: "\n")
}

// MARK: Shared

private func each(
  _ queues: [QueueLocation]?, _ command: String,
  _ body: (QueueLocation, QueueInspector) throws(QueueOpenError) -> Int32
) -> Int32 {
  guard let queues else { return 1 }
  var status: Int32 = 0
  for location in queues {
    do throws(QueueOpenError) {
      status = max(status, try body(location, QueueInspector(folder: location.folder, keys: location.keys)))
    } catch {
      writeError("sluice \(command): \(location.id): \(error)")
      status = 1
    }
  }
  return status
}

private func summary(_ location: QueueLocation, _ report: QueueFolderReport) -> String {
  let state =
    !report.hasCheckpoint
    ? "without a checkpoint" : report.wasClosed ? "closed in order" : "open, or ended by a crash"
  return
    "\(location.id): \(report.events) events wait, \(report.records) records in \(report.segments.count) segments, "
    + "\(report.bytes) bytes, \(state)"
}

private func sentence(_ segment: String, _ damage: QueueDamage) -> String {
  "\(segment): \(damage.bytes) bytes at \(damage.offset) are damaged, \(damage.lostRecords) records lost"
}

private func line(_ segment: QueueSegmentReport) -> String {
  var text =
    "  \(segment.name): \(segment.records) records, \(segment.releasedRecords) released, \(segment.bytes) bytes"
  if segment.isEncrypted { text += segment.isLocked ? ", encrypted, key missing" : ", encrypted" }
  return text
}

private func printSurroundings(_ report: QueueFolderReport) {
  if !report.setAside.isEmpty { print("  set aside: \(report.setAside.joined(separator: ", "))") }
  if !report.foreign.isEmpty { print("  foreign files: \(report.foreign.joined(separator: ", "))") }
}
