//  Commands on the cluster: how it is, what Sluice puts into it, its daily indices.

internal import Cluster
internal import CommandLine
internal import Config
internal import Diagnostics
internal import Glibc
internal import Outputs
internal import PluginKit

/// Options that every command on the cluster has.
protocol ClusterArguments: CommandSettings {
  var place: ClusterPlace { get set }
}

/// Where the cluster is, and who asks. What is not given comes from the environment, as for the shipped pipelines.
struct ClusterPlace: Sendable {
  var hosts: [String] = []
  var user: String?
  var passwordFile: String?
  var apiKeyFile: String?
  var authorities: String?
  var fingerprint: String?
  var insecure = false
  var timeout = Duration.seconds(60)

  /// - Throws: A sentence.
  func client() throws -> ClusterClient {
    let named =
      hosts.isEmpty
      ? (variable("ELASTICSEARCH_HOSTS", "ELK_ELASTICSEARCH_HOST") ?? "http://localhost:9200")
      : hosts.joined(separator: ",")
    let all = named.split { $0 == "," || $0 == " " }.map { hostBase(String($0)) }
    return try ClusterClient(hosts: all, connection: connection())
  }

  private func variable(_ names: String...) -> String? {
    names.lazy.compactMap { getenv($0).map { String(cString: $0) } }.first { !$0.isEmpty }
  }

  /// Credentials and TLS.
  func connection() throws -> ClusterConnection {
    func secret(_ file: String?) throws -> String? {
      guard let file else { return nil }
      do {
        var text = String(decoding: try readFile(file, limitBytes: 1 << 16), as: UTF8.self)
        while text.hasSuffix("\n") { text.removeLast() }
        return text
      } catch {
        throw ClusterFailure("\(file) cannot be read: \(error.reason)")
      }
    }
    var connection = ClusterConnection()
    connection.user = user ?? variable("ELASTICSEARCH_USER", "ELK_USERNAME")
    if connection.user != nil {
      let password = try secret(passwordFile) ?? variable("ELASTICSEARCH_PASSWORD", "ELK_PASSWORD")
      connection.password = password.map { Secret($0) }
    }
    if let key = try secret(apiKeyFile) ?? (connection.user == nil ? variable("ELASTICSEARCH_API_KEY") : nil) {
      connection.authorization = Secret(apiKeyHeader(key))
    }
    connection.authorities = authorities
    if let fingerprint {
      guard let pin = CertificateFingerprint(fingerprint) else {
        throw ClusterFailure("--fingerprint takes 64 hexadecimal digits")
      }
      connection.fingerprint = pin
    }
    if insecure { connection.check = .none }
    connection.timeout = timeout
    return connection
  }
}

extension ClusterArguments {
  static var clusterArguments: [Argument<Self>] {
    [
      .option(
        "--hosts", \.place.hosts, "URL", "A server of the cluster; may be given more than once.",
        defaultText: "ELASTICSEARCH_HOSTS, else http://localhost:9200"),
      .option("--user", \.place.user, "NAME", "Who asks.", defaultText: "ELASTICSEARCH_USER"),
      .option(
        "--password-file", \.place.passwordFile, "FILE", "A file with the password.",
        defaultText: "ELASTICSEARCH_PASSWORD holds it", completion: .files),
      .option(
        "--api-key-file", \.place.apiKeyFile, "FILE", "A file with an API key.",
        defaultText: "ELASTICSEARCH_API_KEY holds it", completion: .files),
      .option("--ca", \.place.authorities, "FILE", "A PEM file of trusted authorities.", completion: .files),
      .option("--fingerprint", \.place.fingerprint, "DIGITS", "SHA-256 of a certificate that is trusted."),
      .flag("--insecure", \.place.insecure, "Do not check the server's certificate."),
      .option("--timeout", \.place.timeout, "DURATION", "How long an answer may take."),
    ]
  }
}

/// Runs `body` with the cluster and turns what goes wrong into a message and a status.
func withCluster(
  _ command: String, _ place: ClusterPlace, failure: Int32 = 1, _ body: (ClusterClient) throws -> Int32
) -> Int32 {
  do { return try body(try place.client()) } catch {
    writeError("sluice es \(command): \(error)")
    return failure
  }
}

/// Text in columns as wide as their widest cell.
func table(_ rows: [[String]]) -> String {
  let columns = rows.map(\.count).max() ?? 0
  let widths = (0..<columns).map { i in rows.map { $0.count > i ? $0[i].count : 0 }.max() ?? 0 }
  return rows.map { row in
    var line = ""
    for (i, cell) in row.enumerated() {
      line += cell
      if i + 1 < row.count { line += String(repeating: " ", count: widths[i] - cell.count + 2) }
    }
    return line
  }.joined(separator: "\n")
}

func shownBytes(_ count: Int) -> String {
  var value = Double(count)
  for unit in ["B", "KiB", "MiB", "GiB"] {
    if value < 1024 { return unit == "B" ? "\(count) B" : "\(Double(Int(value * 10)) / 10) \(unit)" }
    value /= 1024
  }
  return "\(Double(Int(value * 10)) / 10) TiB"
}

/// Progress on standard error, where that is a terminal.
func showProgress(_ text: String) {
  guard isatty(2) == 1 else { return }
  var line = "\r\u{1b}[K" + text
  line.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
}

// MARK: health

enum ReportFormat: String, ArgumentEnum {
  case text, json
  static var blank: ReportFormat { .text }
}

struct ClusterHealthArguments: ClusterArguments {
  var place = ClusterPlace()
  var format = ReportFormat.text
  static let arguments: [Argument<Self>] =
    clusterArguments + [.option("--format", \.format, "FORMAT", "How it is printed.")]
}

let clusterHealthCommand = Command(
  "es health", "How the cluster is",
  details: "The exit status is 0 for green, 1 for yellow, 2 for red and 3 when the cluster cannot be asked."
) { (settings: ClusterHealthArguments) -> Int32 in
  withCluster("health", settings.place, failure: 3) { client in
    let health = try client.health()
    if settings.format == .json {
      print(health.json.text)
    } else {
      let body = health.body
      func figure(_ name: String) -> String { body[name]?.text ?? "0" }
      print("\(health.status): \(body["cluster_name"]?.string ?? "") is \(health.flavour) \(health.version)")
      print(
        "\(figure("number_of_nodes")) nodes, \(figure("active_shards")) shards active, "
          + "\(figure("unassigned_shards")) unassigned, \(figure("relocating_shards")) moving")
      for index in health.troubled { print("\(index.status): \(index.name)") }
      for warning in health.warnings { print("warning: \(warning)") }
    }
    return health.exitStatus
  }
}

// MARK: setup, templates

struct ClusterSetupArguments: ClusterArguments {
  var place = ClusterPlace()
  var dryRun = false
  var force = false
  var roles = false
  var snapshots: String?
  var kibana: String?
  var replicas = 1
  var shards = 1
  var warm = 7
  var cold = 30
  var delete = 90
  var format = ReportFormat.text
  static let arguments: [Argument<Self>] =
    clusterArguments + [
      .flag("--dry-run", \.dryRun, "Print the requests and change nothing."),
      .flag("--force", \.force, "Replace what somebody else manages too."),
      .flag("--roles", \.roles, "Also the roles of the writer, the reader and the administrator."),
      .option("--snapshots", \.snapshots, "FOLDER", "Also a snapshot repository there, and a nightly policy."),
      .option("--kibana", \.kibana, "URL", "Also the data views, searches and dashboards of this Kibana."),
      .option("--replicas", \.replicas, "COUNT", "Copies of each shard of a new index."),
      .option("--shards", \.shards, "COUNT", "Shards of a new index."),
      .option("--warm", \.warm, "DAYS", "The age from which an index has no copies and one segment."),
      .option("--cold", \.cold, "DAYS", "The age from which an index takes no more writes."),
      .option("--delete", \.delete, "DAYS", "The age at which an index goes."),
      .option("--format", \.format, "FORMAT", "How it is printed."),
    ]

  var options: SetupOptions {
    var options = SetupOptions()
    options.isDryRun = dryRun
    options.force = force
    options.withRoles = roles
    options.repositoryLocation = snapshots
    options.assets.replicas = replicas
    options.assets.shards = shards
    options.assets.warmDays = warm
    options.assets.coldDays = cold
    options.assets.deleteDays = delete
    return options
  }
}

let clusterSetupCommand = Command(
  "es setup", "Bring the cluster to what Sluice wants of it",
  details: """
    Component templates, index templates and the life cycle of the daily indices; with options also roles and snapshots. \
    Each thing is compared first: a second run changes nothing and says so.
    """,
  examples: [("es setup --dry-run", "prints every request that would be sent")]
) { (settings: ClusterSetupArguments) -> Int32 in
  withCluster("setup", settings.place) { client in
    guard settings.warm <= settings.cold, settings.cold <= settings.delete, settings.warm >= 0, settings.replicas >= 0,
      settings.shards > 0
    else {
      writeError(
        "sluice es setup: the ages must not fall from --warm over --cold to --delete, and no count be negative")
      return 2
    }
    let setup = ClusterSetup(client, settings.options) { method, path, body in
      if settings.dryRun, settings.format == .text { print("\(method) \(path)\n\(body.pretty)", terminator: "") }
    }
    try setup.run()
    var steps = setup.steps
    if let kibana = settings.kibana {
      steps.append(
        try KibanaImport(kibana, settings.place.connection()).run(isDryRun: settings.dryRun, force: settings.force))
    }
    return report(steps, settings.format, isDryRun: settings.dryRun)
  }
}

private func report(_ steps: [SetupStep], _ format: ReportFormat, isDryRun: Bool) -> Int32 {
  if format == .json {
    let all: [JSONValue] = steps.map {
      ["kind": .text($0.kind), "name": .text($0.name), "outcome": .text($0.outcome.rawValue), "note": .text($0.note)]
    }
    print(JSONValue.object([.init(name: "steps", value: .list(all))]).text)
  } else {
    for step in steps {
      print("\(step.outcome.rawValue): \(step.kind) \(step.name)\(step.note.isEmpty ? "" : " (\(step.note))")")
    }
    func count(_ outcome: SetupStep.Outcome) -> Int { steps.filter { $0.outcome == outcome }.count }
    print(
      "\(isDryRun ? "would be " : "")\(count(.created)) created, \(count(.updated)) updated, "
        + "\(count(.unchanged)) unchanged, \(count(.skipped)) skipped, \(count(.foreign)) left to others, "
        + "\(count(.failed)) failed")
  }
  return steps.contains { $0.outcome == .failed || $0.outcome == .foreign } ? 1 : 0
}

struct ClusterTemplatesArguments: ClusterArguments {
  var place = ClusterPlace()
  var update = false
  var force = false
  var printed = false
  var format = ReportFormat.text
  static let arguments: [Argument<Self>] =
    clusterArguments + [
      .flag("--update", \.update, "Put what is missing or different."),
      .flag("--force", \.force, "Replace what somebody else manages too."),
      .flag("--print", \.printed, "Print all bodies and ask no cluster."),
      .option("--format", \.format, "FORMAT", "How it is printed."),
    ]
}

let clusterTemplatesCommand = Command(
  "es templates", "Compare the cluster's templates with Sluice's, and update them",
  details: "Without --update nothing is changed; the exit status is 1 where something is missing or different."
) { (settings: ClusterTemplatesArguments) -> Int32 in
  if settings.printed {
    for asset in Assets.templates(.elasticsearch) {
      print("PUT \(Asset.path(of: asset))\n\(asset.body.pretty)", terminator: "")
    }
    return 0
  }
  return withCluster("templates", settings.place) { client in
    var options = SetupOptions()
    options.isDryRun = !settings.update
    options.force = settings.force
    let setup = ClusterSetup(client, options)
    try setup.putTemplates(try client.identity().flavour)
    let status = report(setup.steps, settings.format, isDryRun: !settings.update)
    let differs = setup.steps.contains { $0.outcome == .created || $0.outcome == .updated }
    return !settings.update && differs ? 1 : status
  }
}

// MARK: indices, cleanup, optimize

struct ClusterIndicesArguments: ClusterArguments {
  var place = ClusterPlace()
  var format = ReportFormat.text
  static let arguments: [Argument<Self>] =
    clusterArguments + [.option("--format", \.format, "FORMAT", "How it is printed.")]
}

let clusterIndicesCommand = Command(
  "es indices", "The aura indices with documents, size, health, age and phase"
) { (settings: ClusterIndicesArguments) -> Int32 in
  withCluster("indices", settings.place) { client in
    let rows = try client.indices()
    if settings.format == .json {
      print(JSONValue.list(rows.map(\.json)).text)
      return 0
    }
    if rows.isEmpty {
      print("There are no indices aura-*.")
      return 0
    }
    var lines = [["INDEX", "HEALTH", "STATUS", "SHARDS", "DOCUMENTS", "SIZE", "AGE", "PHASE"]]
    for row in rows {
      lines.append([
        row.name, row.health, row.status, "\(row.primaries)x\(row.replicas + 1)", row.documents.map(String.init) ?? "-",
        row.bytes.map(shownBytes) ?? "-", row.ageDays.map { "\($0)d" } ?? "-", row.phase ?? "-",
      ])
    }
    print(table(lines))
    return 0
  }
}

struct ClusterCleanupArguments: ClusterArguments {
  var place = ClusterPlace()
  var days = 0
  var yes = false
  static let arguments: [Argument<Self>] =
    clusterArguments + [
      .option(
        "--days", \.days, "COUNT", "Whole days, UTC, that are kept beside today.", required: true,
        check: { $0 >= 0 && $0 <= 36_500 ? nil : "0 to 36500" }),
      .flag("--yes", \.yes, "Delete; without it the names are printed alone."),
    ]
}

let clusterCleanupCommand = Command(
  "es cleanup", "Delete daily indices that are older than so many days",
  details: """
    Only aura-logs, aura-security, aura-performance and aura-metrics with a date in the name are deleted; the date counts, \
    not when the index was made. Other names are shown and left alone. Without --yes nothing is deleted.
    """
) { (settings: ClusterCleanupArguments) -> Int32 in
  withCluster("cleanup", settings.place) { client in
    let found = try client.old(days: settings.days)
    for name in found.strange { print("left alone: \(name) (its name is no day of a family)") }
    for row in found.delete {
      print(
        "\(settings.yes ? "deletes" : "would delete"): \(row.name) (\(row.ageDays ?? 0) days, \(shownBytes(row.bytes ?? 0)))"
      )
    }
    if settings.yes, !found.delete.isEmpty {
      try client.delete(found.delete.map(\.name)) { showProgress("\($0) of \(found.delete.count) deleted") }
      showProgress("")
    }
    print(
      "\(found.delete.count) indices \(settings.yes ? "deleted" : "would be deleted, with --yes"), "
        + "\(found.keep.count) kept, \(found.strange.count) left alone")
    return 0
  }
}

struct ClusterOptimizeArguments: ClusterArguments {
  var place = ClusterPlace()
  var dryRun = false
  static let arguments: [Argument<Self>] =
    clusterArguments + [.flag("--dry-run", \.dryRun, "Print the names alone.")]
}

let clusterOptimizeCommand = Command(
  "es optimize", "Merge the daily indices of past days to one segment a shard",
  details: "One index after another, since merging needs room and time; those that are merged already are left out."
) { (settings: ClusterOptimizeArguments) -> Int32 in
  withCluster("optimize", settings.place) { client in
    let names = try client.unmerged()
    for (i, name) in names.enumerated() where !settings.dryRun {
      let start = Instant.now
      showProgress("\(i + 1) of \(names.count): \(name)")
      try client.merge(name) {
        showProgress("\(i + 1) of \(names.count): \(name), \((Instant.now - start).ns / 1_000_000_000) s")
      }
      showProgress("")
      print("merged: \(name)")
    }
    if settings.dryRun { for name in names { print("would merge: \(name)") } }
    print("\(names.count) indices \(settings.dryRun ? "would be merged" : "merged")")
    return 0
  }
}
