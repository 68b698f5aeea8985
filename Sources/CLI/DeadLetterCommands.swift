//  Commands on dead letters: list, show, export, purge, replay. All of them work beside a running daemon and without one:
//  reading needs no lock, and what changes letters is handed to the daemon, or waits for it in a folder.

internal import CommandLine
internal import Daemon
internal import Diagnostics
internal import Events
internal import Glibc
internal import Pipeline
internal import Queue
internal import Records

/// Which letters a command is about.
struct LetterChoice: Sendable {
  var id: String?
  var folder: String?
  var condition: String?
  var letters: [String] = []
}

private protocol ChoosesLetters: LaunchArguments {
  var choice: LetterChoice { get set }
}

extension ChoosesLetters {
  fileprivate static var letterArguments: [Argument<Self>] {
    launchArguments + [
      .option("--id", \.choice.id, "ID", "The pipeline whose letters are meant.", defaultText: "all pipelines"),
      .option(
        "--folder", \.choice.folder, "FOLDER",
        "The folder of one pipeline's letters; settings are not read then.", completion: .folders),
      .option(
        "--where", \.choice.condition, "CONDITION",
        "Only letters whose event meets this, such as '[@metadata][dead_letter][type] == \"mapper_parsing_exception\"'."
      ),
      .positional("LETTER", \.choice.letters, "Letters by their names, as `dlq list` prints them: 17-3."),
    ]
  }

  /// The folders of letters and which of them are meant; nil after a message.
  fileprivate func chosen(_ command: String) -> (places: [QueueLocation], selection: LetterSelection)? {
    var selection = LetterSelection()
    for name in choice.letters {
      guard let position = DeadLetterPosition(name) else {
        writeError("sluice \(command): '\(name)' is no letter; `sluice dlq list` names them, such as 17-3")
        return nil
      }
      selection.positions.insert(position)
    }
    if let condition = choice.condition {
      do { selection.condition = try Condition(condition) } catch {
        writeError("sluice \(command): broken condition at character \(error.offset): \(error.text)")
        return nil
      }
    }
    guard let places = places(command) else { return nil }
    if !choice.letters.isEmpty, places.count > 1 {
      writeError("sluice \(command): \(places.count) pipelines have letters; name one with --id")
      return nil
    }
    return (places, selection)
  }

  private func places(_ command: String) -> [QueueLocation]? {
    if let folder = choice.folder { return [QueueLocation(id: folder, folder: folder)] }
    let problems = Problems()
    let configuration = Configuration.load(launch.options, opensFiles: true, problems: problems)
    guard report(problems) else { return nil }
    let all = deadLetterLocations(configuration, problems: problems)
    let found = choice.id.map { id in all.filter { $0.id == id } } ?? all
    if found.isEmpty {
      let what = choice.id.map { "pipeline '\($0)' has no dead letters" } ?? "there are no dead letters"
      writeError("sluice \(command): \(what) below \(configuration.dataFolder); --data names another folder")
      return nil
    }
    return found
  }

  /// Calls `body` for each letter that is meant, oldest first, until it returns false.
  fileprivate func each(_ command: String, _ body: (QueueLocation, LetterView) -> Bool) -> Int32 {
    guard let chosen = chosen(command) else { return 1 }
    let places = chosen.places
    var selection = chosen.selection
    var status: Int32 = 0
    for place in places {
      do {
        var goesOn = true
        try DeadLetterReader(folder: place.folder, keys: place.keys).read { entry in
          let view = LetterView(entry)
          if selection.holds(view) { goesOn = body(place, view) }
          return goesOn
        }
        if !goesOn { break }
      } catch {
        writeError("sluice \(command): \(place.id): \(error)")
        status = 1
      }
    }
    if selection.undecided > 0 {
      writeError("sluice \(command): the condition has no answer for \(selection.undecided) letters; they are left out")
    }
    return status
  }
}

// MARK: list

enum LetterGrouping: String, ArgumentEnum {
  case cause, index, day
  static var blank: LetterGrouping { .cause }
}

struct LetterListArguments: ChoosesLetters {
  var launch = Launch()
  var choice = LetterChoice()
  var by: LetterGrouping?
  static let arguments: [Argument<LetterListArguments>] =
    letterArguments + [.option("--by", \.by, "GROUP", "Count letters by this instead of naming each.")]
}

/// Letters that have something in common.
private struct LetterGroup {
  var name: String
  var count = 0
  var firstNs = Int64.max
  var lastNs = Int64.min
  var example: String
}

let letterListCommand = Command(
  "dlq list", "List dead letters, or count them by cause, index or day",
  details: "Reads only, so it may run beside the daemon.",
  examples: [("dlq list --by cause", "how many letters each reason has, the most frequent first")]
) { (settings: LetterListArguments) -> Int32 in
  var groups: [String: LetterGroup] = [:]
  var count = 0
  let status = settings.each("dlq list") { place, view in
    count += 1
    guard let by = settings.by else {
      print(line(place, view))
      return true
    }
    let name = groupName(place, view, by)
    var group = groups[name] ?? LetterGroup(name: name, example: view.entry.position.description)
    group.count += 1
    group.firstNs = min(group.firstNs, view.entry.writtenNs)
    group.lastNs = max(group.lastNs, view.entry.writtenNs)
    groups[name] = group
    return true
  }
  for group in groups.values.sorted(by: { ($1.count, $0.name) < ($0.count, $1.name) }) {
    let times = "\(Timestamp(ns: group.firstNs).iso8601) to \(Timestamp(ns: group.lastNs).iso8601)"
    print("\(group.count)  \(group.name)  \(times)  such as \(group.example)")
  }
  if status == 0, count == 0 { writeError("sluice dlq list: no letters") }
  return status
}

private func groupName(_ place: QueueLocation, _ view: LetterView, _ by: LetterGrouping) -> String {
  switch by {
  case .cause: "\(place.id)  \(cause(view.facts))"
  case .index: "\(place.id)  \(view.facts.index ?? "without an index")"
  case .day: "\(place.id)  \(Timestamp(ns: view.entry.writtenNs).iso8601.prefix(10))"
  }
}

private func cause(_ facts: DeadLetterFacts) -> String {
  facts.stage + "  " + (facts.status.map { "\($0) " } ?? "") + facts.type
}

private func line(_ place: QueueLocation, _ view: LetterView) -> String {
  let facts = view.facts
  let words = [
    view.entry.position.description, Timestamp(ns: view.entry.writtenNs).iso8601, place.id, cause(facts),
    facts.index ?? "-", facts.eventID, "attempts \(facts.attempts)", shortened(facts.message),
  ]
  return words.joined(separator: "  ")
}

/// One line of at most 120 characters.
private func shortened(_ text: String) -> String {
  let line = String(text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? " " : Character($0) })
  return line.count > 120 ? line.prefix(119) + "…" : line
}

// MARK: show and export

struct LetterArguments: ChoosesLetters {
  var launch = Launch()
  var choice = LetterChoice()
  static let arguments: [Argument<LetterArguments>] = letterArguments
}

let letterShowCommand = Command(
  "dlq show", "Show dead letters: the reason, the event as it was sent, and as it arrived",
  examples: [("dlq show --id aura 17-3", "one letter as people read it")]
) { (settings: LetterArguments) -> Int32 in
  var count = 0
  let status = settings.each("dlq show") { place, view in
    if count > 0 { print("") }
    count += 1
    show(place, view)
    return true
  }
  if status == 0, count == 0 {
    writeError("sluice dlq show: no such letter; it may have been delivered since")
    return 1
  }
  return status
}

private func show(_ place: QueueLocation, _ view: LetterView) {
  let facts = view.facts
  let letter = view.entry.letter
  print("letter       \(view.entry.position) of pipeline \(place.id)")
  print("refused      \(Timestamp(ns: view.entry.writtenNs).iso8601), attempts: \(facts.attempts)")
  print("arrived      \(Timestamp(ns: facts.arrivalNs).iso8601)")
  print("by           \(facts.stage)" + (facts.status.map { ", status \($0)" } ?? ""))
  print("reason       \(facts.type): \(facts.message)")
  if let index = facts.index { print("index        \(index)") }
  if let document = facts.documentID { print("document id  \(document)") }
  print("event id     \(facts.eventID)")
  if letter.descriptor != .none { print("input        \(String(decoding: letter.descriptor.bytes, as: UTF8.self))") }
  if let context = letter.context { print("context      \(String(decoding: context.bytes, as: UTF8.self))") }
  print("as sent      \(letter.sent.isEmpty ? "never" : String(decoding: letter.sent, as: UTF8.self))")
  print("as arrived   \(String(decoding: letter.arrived, as: UTF8.self))")
}

let letterExportCommand = Command(
  "dlq export", "Print dead letters, a JSON object a line",
  details: "Each has the reason, the event as it was sent (`event`) and the payload as it arrived (`arrived`).",
  examples: [("dlq export --id aura > letters.jsonl", "everything that was refused, to keep or to look through")]
) { (settings: LetterArguments) -> Int32 in
  var out = ByteBuffer()
  var isClosed = false
  let status = settings.each("dlq export") { place, view in
    view.append(place.id, to: &out)
    out.append("\n")
    if out.count >= 1 << 16 { isClosed = !flush(&out) }
    return !isClosed
  }
  if !isClosed { isClosed = !flush(&out) }
  return isClosed ? 1 : status
}

// MARK: purge

struct LetterPurgeArguments: ChoosesLetters {
  var launch = Launch()
  var choice = LetterChoice()
  var all = false
  static let arguments: [Argument<LetterPurgeArguments>] =
    letterArguments + [.flag("--all", \.all, "Every letter; needed where neither letters nor a condition are given.")]
}

let letterPurgeCommand = Command(
  "dlq purge", "Remove dead letters for good",
  details: "Beside a running daemon the order is handed to it; without one it is done at once.",
  examples: [("dlq purge --id aura --where '[level] == \"DEBUG\"'", "removes what nobody will miss")]
) { (settings: LetterPurgeArguments) -> Int32 in
  guard settings.all || !settings.choice.letters.isEmpty || settings.choice.condition != nil else {
    writeError("sluice dlq purge: name letters, a --where condition, or --all")
    return 2
  }
  return settings.hand("dlq purge", ReplayRequest(.purge)) { place, request in
    let count = request.positions.count
    if hasDaemon(place.folder) {
      try request.hand(to: place.folder)
      print("\(place.id): \(count) letters; the running daemon removes them now")
      return
    }
    let letters = try DeadLetterQueue(folder: place.folder, settings: settingsOf(place))
    defer { letters.close() }
    print("\(place.id): \(try letters.remove(request.positions)) letters were removed")
  }
}

private func settingsOf(_ place: QueueLocation) -> DeadLetterSettings {
  var settings = DeadLetterSettings()
  settings.keys = place.keys
  settings.name = place.id
  return settings
}

// MARK: replay

struct LetterReplayArguments: ChoosesLetters {
  var launch = Launch()
  var choice = LetterChoice()
  var set: [String] = []
  var pipeline: String?
  var remove: [String] = []
  var isDryRun = false
  // `--set` mends letters here; settings come from file and environment.
  static let arguments: [Argument<LetterReplayArguments>] =
    letterArguments.filter { $0.name != "--set" } + [
      .option(
        "--pipeline", \.pipeline, "ID", "Send the events as they arrived through this pipeline, from its start."),
      .option(
        "--set", \.set, "FIELD=VALUE",
        "Set a field before sending; JSON where the value is such, else text. May be given more than once."),
      .option(
        "--remove", \.remove, "FIELD", "Remove a field before sending; may be given more than once."),
      .flag("--dry-run", \.isDryRun, "Print the events as they would be sent, a JSON object a line, and send nothing."),
    ]
}

let letterReplayCommand = Command(
  "dlq replay", "Send dead letters once more, mended or as they are",
  details: """
    What an output refused goes to that output again, as it was sent, with --set and --remove applied; what a filter or \
    a condition stopped goes through its pipeline from the start. Each event keeps its id. A letter is gone once its \
    event is delivered; one that is refused again stays, with one attempt more.

    The order waits in a folder beside the letters: a running daemon takes it within a second, a stopped one at its start.
    """,
  examples: [
    ("dlq replay --id aura 17-3 --set 'status=500'", "mends one letter and sends it"),
    (
      "dlq replay --where '[@metadata][dead_letter][status] == 403'",
      "sends again what a missing right had kept from the cluster"
    ),
  ]
) { (settings: LetterReplayArguments) -> Int32 in
  var request = ReplayRequest(.replay)
  request.pipeline = settings.pipeline
  for text in settings.set {
    if let complaint = request.mending.take(set: text) { return misused("dlq replay", "--set: \(complaint)") }
  }
  for name in settings.remove {
    if let complaint = request.mending.take(remove: name) { return misused("dlq replay", "--remove: \(complaint)") }
  }
  if settings.isDryRun { return dryRun(settings, request) }
  return settings.hand("dlq replay", request) { place, request in
    try request.hand(to: place.folder)
    let who =
      hasDaemon(place.folder)
      ? "the running daemon sends them now; `sluice dlq list --id \(place.id)` shows what is left"
      : "no daemon runs on them; they are sent when it starts"
    print("\(place.id): \(request.positions.count) letters are handed over; \(who)")
  }
}

private func misused(_ command: String, _ complaint: String) -> Int32 {
  writeError("sluice \(command): \(complaint)")
  return 2
}

private func dryRun(_ settings: LetterReplayArguments, _ request: ReplayRequest) -> Int32 {
  let batch = EventBatch()
  let decoders = RecordDecoders()
  var out = ByteBuffer()
  var failed: Int32 = 0
  let status = settings.each("dlq replay") { place, view in
    batch.removeAll()
    decoders.startBatch()
    let event = view.event(in: batch, decoders)
    if let complaint = request.mending.apply(to: event) {
      writeError("sluice dlq replay: letter \(view.entry.position) of \(place.id): \(complaint)")
      failed = 1
      return true
    }
    event.appendJSON(to: &out)
    out.append("\n")
    return flush(&out)
  }
  return max(status, failed)
}

// MARK: Shared

extension ChoosesLetters {
  /// Collects the letters of each folder and calls `body` with a request that names them.
  fileprivate func hand(
    _ command: String, _ request: ReplayRequest, _ body: (QueueLocation, ReplayRequest) throws -> Void
  ) -> Int32 {
    var found: [(place: QueueLocation, positions: [DeadLetterPosition])] = []
    var status = each(command) { place, view in
      if found.last?.place.folder != place.folder { found.append((place, [])) }
      found[found.count - 1].positions.append(view.entry.position)
      return true
    }
    if found.isEmpty, status == 0 {
      print("no letters are meant; `sluice dlq list` shows what is there")
    }
    for (place, positions) in found {
      var request = request
      request.positions = positions
      do { try body(place, request) } catch {
        writeError("sluice \(command): \(place.id): \(error)")
        status = 1
      }
    }
    return status
  }
}

/// Whether a daemon has the folder open.
private func hasDaemon(_ folder: String) -> Bool {
  do {
    _ = try RealFileSystem().lock(folder + "/lock")
    return false
  } catch {
    return error.code == EWOULDBLOCK
  }
}
