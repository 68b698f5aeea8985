//  Further commands on the cluster: snapshots, users, a test of the whole way, a live screen.

internal import Cluster
internal import CommandLine
internal import Diagnostics
internal import Glibc
internal import PluginKit

// MARK: snapshot

struct SnapshotArguments: ClusterArguments {
  var place = ClusterPlace()
  var repository = "aura_backup"
  var name: String?
  var format = ReportFormat.text
  static let arguments: [Argument<Self>] =
    clusterArguments + [
      .option("--repository", \.repository, "NAME", "Where snapshots are kept."),
      .option("--format", \.format, "FORMAT", "How it is printed."),
      .positional("SNAPSHOT", \.name, "The snapshot."),
    ]
}

struct RestoreArguments: ClusterArguments {
  var place = ClusterPlace()
  var repository = "aura_backup"
  var name = ""
  var indices = "aura-*"
  static let arguments: [Argument<Self>] =
    clusterArguments + [
      .option("--repository", \.repository, "NAME", "Where snapshots are kept."),
      .option("--indices", \.indices, "NAMES", "What is brought back."),
      .positional("SNAPSHOT", \.name, "The snapshot.", required: true),
    ]
}

let snapshotCreateCommand = Command(
  "es snapshot create", "Take a snapshot of the aura indices and wait for its end"
) { (settings: SnapshotArguments) -> Int32 in
  withCluster("snapshot create", settings.place) { client in
    let name = settings.name ?? "aura-\(WallClock.ns / 1_000_000_000)"
    let row = try client.takeSnapshot(settings.repository, name) { showProgress("\(name): \(Int($0 * 100)) %") }
    showProgress("")
    print(settings.format == .json ? row.json.text : "\(row.name): \(row.state), \(row.indices) indices")
    return 0
  }
}

let snapshotListCommand = Command("es snapshot list", "The snapshots of a repository") {
  (settings: SnapshotArguments) -> Int32 in
  withCluster("snapshot list", settings.place) { client in
    let rows = try client.snapshots(settings.repository).filter { settings.name == nil || $0.name == settings.name }
    if settings.format == .json {
      print(JSONValue.list(rows.map(\.json)).text)
    } else {
      print(
        table(
          [["SNAPSHOT", "STATE", "INDICES", "FAILED SHARDS", "START"]]
            + rows.map { [$0.name, $0.state, String($0.indices), String($0.failures), $0.start] }))
    }
    return 0
  }
}

let snapshotStatusCommand = Command(
  "es snapshot status", "Whether the last snapshot, or a named one, is good",
  details: "The exit status is 1 where it failed or there is none."
) { (settings: SnapshotArguments) -> Int32 in
  withCluster("snapshot status", settings.place) { client in
    let rows = try client.snapshots(settings.repository)
    guard
      let row = settings.name.map({ name in rows.first { $0.name == name } }) ?? rows.max(by: { $0.start < $1.start })
    else {
      print("There is no such snapshot.")
      return 1
    }
    print(settings.format == .json ? row.json.text : "\(row.name): \(row.state), started \(row.start)")
    return row.state == "SUCCESS" || row.state == "IN_PROGRESS" ? 0 : 1
  }
}

let snapshotRestoreCommand = Command(
  "es snapshot restore", "Bring indices back under names that begin with restored-",
  details: "Nothing that is there is touched; the copies have no life cycle, so that they stay."
) { (settings: RestoreArguments) -> Int32 in
  withCluster("snapshot restore", settings.place) { client in
    let names = try client.restore(settings.repository, settings.name, indices: settings.indices)
    for name in names { print("restored: \(name)") }
    print("\(names.count) indices restored")
    return 0
  }
}

// MARK: users

enum UserRole: String, ArgumentEnum {
  case writer, reader, admin
  static var blank: UserRole { .reader }
  var role: String { self == .writer ? "aura_writer" : self == .reader ? "aura_logs_reader" : "aura_admin" }
}

struct UsersArguments: ClusterArguments {
  var place = ClusterPlace()
  var add: String?
  var role = UserRole.reader
  var newPasswordFile: String?
  var apiKey: String?
  var days = 365
  static let arguments: [Argument<Self>] =
    clusterArguments + [
      .option("--add", \.add, "NAME", "Make this user, or give it the role."),
      .option("--role", \.role, "ROLE", "Its role."),
      .option(
        "--new-password-file", \.newPasswordFile, "FILE", "A file with its password.", completion: .files),
      .option("--api-key", \.apiKey, "NAME", "Make a key that may write events and nothing else, and print it."),
      .option("--days", \.days, "COUNT", "How long the key is good.", check: { $0 > 0 ? nil : "1 or more" }),
    ]
}

let usersCommand = Command(
  "es users", "The cluster's users; makes users with Sluice's roles, and keys for the daemon",
  details: "'sluice es setup --roles' makes the roles.",
  examples: [
    ("es users --add aura_readonly --new-password-file secret", "makes a user who may read"),
    ("es users --api-key sluice-host1", "makes a key for the daemon on a host"),
  ]
) { (settings: UsersArguments) -> Int32 in
  withCluster("users", settings.place) { client in
    if let name = settings.add {
      guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != 47 && $0 != 63 && $0 != 35 && $0 != 37 })
      else { throw ClusterFailure("'\(name)' is no name of a user") }
      var password: String?
      if let file = settings.newPasswordFile {
        var text = String(decoding: try readFile(file, limitBytes: 1 << 12), as: UTF8.self)
        while text.hasSuffix("\n") { text.removeLast() }
        password = text
      }
      let isNew = try client.putUser(name, role: settings.role.role, password: password)
      print("\(isNew ? "created" : "updated"): user \(name) with role \(settings.role.role)")
      return 0
    }
    if let name = settings.apiKey {
      print(try client.makeWriterKey(name, days: settings.days))
      return 0
    }
    print(table([["USER", "ROLES"]] + (try client.users()).map { [$0.name, $0.roles.joined(separator: " ")] }))
    return 0
  }
}

// MARK: test

struct EndToEndArguments: ClusterArguments {
  var place = ClusterPlace()
  var input = "http://localhost:5000"
  var wait = Duration.seconds(30)
  static let arguments: [Argument<Self>] =
    clusterArguments + [
      .option("--to", \.input, "URL", "The daemon's HTTP input."),
      .option("--wait", \.wait, "DURATION", "How long the event is looked for."),
    ]
}

let endToEndCommand = Command(
  "es test", "Send a marked event through a running daemon and wait until a search finds it"
) { (settings: EndToEndArguments) -> Int32 in
  withCluster("test", settings.place) { client in
    let times = try client.sendThrough(settings.input, timeout: settings.wait)
    print("accepted by the daemon after \(times.accepted.ns / 1_000_000) ms")
    print("found in \(times.index) after \(times.found.ns / 1_000_000) ms (correlation_id \(times.mark))")
    return 0
  }
}

// MARK: monitor

struct MonitorArguments: ClusterArguments {
  var place = ClusterPlace()
  var daemon = "http://localhost:9600"
  var interval = Duration.seconds(2)
  var count: Int?
  static let arguments: [Argument<Self>] =
    clusterArguments + [
      .option("--daemon", \.daemon, "URL", "The daemon's monitoring API."),
      .option(
        "--interval", \.interval, "DURATION", "The time between two looks.",
        check: { $0 >= .milliseconds(100) ? nil : "100ms or more" }),
      .option("--count", \.count, "COUNT", "So many looks.", defaultText: "until it is ended"),
    ]
}

let monitorCommand = Command(
  "es monitor", "A live screen of the cluster, its indexing rate, the daemon's queue and dead letters",
  details: "Where standard output is no terminal, each look is one line."
) { (settings: MonitorArguments) -> Int32 in
  withCluster("monitor", settings.place) { client in
    var last: ClusterGlance?
    var looks = 0
    let isScreen = isatty(1) == 1
    while settings.count.map({ looks < $0 }) ?? true {
      if looks > 0 { waitOut(settings.interval) }
      looks += 1
      var now = ClusterGlance()
      var trouble: String?
      do { now = try client.glance(daemon: settings.daemon) } catch { trouble = "\(error)" }
      /// A counter that fell has begun anew.
      func rate(_ value: Int?, _ before: Int?) -> String {
        guard let value, let before, let last, value >= before else { return "-" }
        let seconds = Double((now.when - last.when).ns) / 1_000_000_000
        return seconds > 0 ? "\(Int(Double(value - before) / seconds))/s" : "-"
      }
      let queue = now.queueEvents.map { String($0) } ?? "no daemon"
      let letters = now.deadLetters.map { String($0) } ?? "-"
      let cells: [(String, String)] = [
        ("cluster", trouble ?? now.status), ("nodes", String(now.nodes)), ("shards", String(now.shards)),
        ("unassigned", String(now.unassigned)), ("documents", String(now.documents)), ("size", shownBytes(now.bytes)),
        ("indexing", rate(now.indexed, last?.indexed)), ("queries", rate(now.queries, last?.queries)),
        ("rejected", String(now.rejected)), ("heap", "\(now.heapPercent) %"), ("disk", "\(now.diskPercent) %"),
        ("daemon out", rate(now.eventsOut, last?.eventsOut)),
        ("queue", queue), ("dead letters", letters),
      ]
      if isScreen {
        let rows: [[String]] = cells.map { [$0.0, $0.1] }
        print("\u{1b}[H\u{1b}[2J" + table(rows))
      } else {
        let words: [String] = cells.map { "\($0.0)=\($0.1)" }
        print(words.joined(separator: "  "))
      }
      fflush(nil)
      if trouble == nil { last = now }
    }
    return 0
  }
}
