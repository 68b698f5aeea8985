//  The command `replay`: delivered events that the queue has kept (`queue.retain.*`), sent once more.

internal import CommandLine
internal import Daemon
internal import Diagnostics
internal import Events
internal import Glibc
internal import Queue

/// A moment on the command line: ISO 8601, a day, or how long ago.
struct MomentText: ArgumentValue {
  var ns: Int64
  private var text: String

  static let expected = "a time such as 2026-02-25T10:00:00Z, a day such as 2026-02-25, or how long ago such as 2h"
  static var blank: MomentText { MomentText(ns: 0, text: "") }
  var shown: String? { text.isEmpty ? nil : text }

  mutating func take(_ text: String, isFirst: Bool) -> Bool {
    let whole = text.utf8.count == 10 ? text + "T00:00:00Z" : text
    if let time = Array(whole.utf8).withUnsafeBytes({ Timestamp(arriving: $0) }) {
      ns = time.seconds * 1_000_000_000 + Int64(time.nanos)
    } else if let ago = try? Duration(text: text) {
      ns = WallClock.ns - ago.ns
    } else {
      return false
    }
    self.text = text
    return true
  }
}

struct ReplayArguments: LaunchArguments {
  var launch = Launch()
  var id: String?
  var from: MomentText?
  var to: MomentText?
  var condition: String?
  static let arguments: [Argument<ReplayArguments>] =
    launchArguments + [
      .option("--id", \.id, "ID", "The pipeline whose events are meant.", defaultText: "all pipelines"),
      .option("--from", \.from, "TIME", "Events that arrived at or after this.", required: true),
      .option("--to", \.to, "TIME", "Events that arrived before this.", defaultText: "now"),
      .option("--where", \.condition, "CONDITION", "Only events that meet this, as they arrived."),
    ]
}

let replayCommand = Command(
  "replay", "Send delivered events once more that the queue has kept",
  details: """
    With queue.retain.age or queue.retain.max_bytes the queue keeps what was delivered. Those events go through their \
    pipeline from the start and keep their ids, so that a cluster that still has them indexes none twice. Events that \
    are not delivered yet are left out: they come by themselves.

    The order waits beside the queue: a running daemon takes it within a second, a stopped one at its start.
    """,
  examples: [
    ("replay --id aura --from 2026-02-25T10:00:00Z --to 2026-02-25T12:00:00Z", "fills an index that was deleted")
  ]
) { (settings: ReplayArguments) -> Int32 in
  var request = ReplayRequest(.retained)
  request.fromNs = settings.from?.ns ?? 0
  request.toNs = settings.to?.ns ?? WallClock.ns
  request.condition = settings.condition
  if let condition = settings.condition {
    do throws(ConditionError) { _ = try Condition(condition) } catch {
      writeError("sluice replay: broken condition at character \(error.offset): \(error.text)")
      return 2
    }
  }
  guard request.fromNs < request.toNs else {
    writeError("sluice replay: --from is not before --to")
    return 2
  }
  let problems = Problems()
  let configuration = Configuration.load(settings.launch.options, opensFiles: true, problems: problems)
  guard report(problems) else { return 1 }
  let queues = queueLocations(configuration, problems: problems).filter {
    // What lies in overflow queues is not delivered.
    !$0.id.contains("/") && (settings.id == nil || $0.id == settings.id)
  }
  if queues.isEmpty {
    writeError("sluice replay: there is no such queue below \(configuration.dataFolder); --data names another folder")
    return 1
  }
  var status: Int32 = 0
  for queue in queues {
    do { try hand(request, queue) } catch {
      writeError("sluice replay: \(queue.id): \(error)")
      status = 1
    }
  }
  return status
}

private func hand(_ request: ReplayRequest, _ queue: QueueLocation) throws {
  var kept = 0
  var meant = 0
  try QueueInspector(folder: queue.folder, keys: queue.keys).dump(includesReleased: true) { record in
    guard record.isReleased else { return true }
    kept += 1
    if record.arrivalNs >= request.fromNs, record.arrivalNs < request.toNs { meant += 1 }
    return true
  }
  guard meant > 0 else {
    print(
      "\(queue.id): none of the \(kept) delivered events that are still on disk arrived in that time; "
        + "queue.retain.age and queue.retain.max_bytes say how long they are kept")
    return
  }
  try request.hand(to: queue.folder)
  let what = request.condition == nil ? "" : ", as far as they meet the condition"
  print("\(queue.id): \(meant) of \(kept) kept events are handed over\(what); the daemon sends them")
}
