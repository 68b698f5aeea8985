//  The `aggregate` filter: collects over the events of a task, and gives out what it collected with the last of them, with
//  the first of the next task, or when the time is up.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Aggregate: FilterPlugin {
  static let manual = Manual(
    name: "aggregate",
    summary: "Collects information over several events of a task.",
    details: """
      Each task has a map that `code` reads and changes at every event of the task. What was collected goes into an event \
      by `event.set`, or becomes an event of its own when a new task begins (`push_previous_map_as_event`) or when the time \
      is up (`push_map_as_event_on_timeout`). All filters of a pipeline with the same `task_id` share its tasks, and one of \
      them may give timeouts and what belongs to them. An event whose task id stays unresolved is passed over, as is one \
      that `map_action` does not fit. Scripts of one task never run at once, but with several workers events of one task \
      may come out of order.

      Scripts are a small language of Sluice's own, written as the Ruby that configurations from Logstash hold; what it \
      does not know is refused at start. Values are nil, true and false, numbers, texts in '…' and "… #{…}", lists, maps \
      and timestamps. There are variables, `=`, `+=`, `||=` and the like, the operators of Ruby with `<<` for lists, \
      `if`/`elsif`/`else`/`end` and `unless`, also behind a statement, `? :`, `&.`, `return`, `raise`, and blocks for `each`, \
      `map`, `select`, `reject`, `find`, `any?`, `all?`, `count` and `sum`. The event is reached by event.get, set, remove, \
      include?, tag, cancel, sprintf, timestamp and to_hash; `map` is the task's map, `map_meta.timeout` and \
      `map_meta.inactivity_timeout` its own limits in seconds (0 ends it at once), and `new_event_block.call(map)` makes an \
      event behind the present one. `Time.now` is the clock. A script takes at most 200,000 steps, a list or map 100,000 \
      elements and a text 1 MiB.

      Open tasks live in memory: a crash loses their maps, a stop keeps them only with `aggregate_maps_path`. Beyond \
      200,000 tasks the oldest end early.
      """,
    examples: [
      Example(
        "Count the events of a session, also in the event",
        config: #"{ task_id: "%{session}", code: "map['n'] ||= 0; map['n'] += 1; event.set('n', map['n'])" }"#,
        input: """
          {"session": "a"}
          {"session": "b"}
          {"session": "a"}
          """,
        output: """
          {"session": "a", "n": 1}
          {"session": "b", "n": 1}
          {"session": "a", "n": 2}
          """),
      Example(
        "Rows of a sorted list become one event for each country",
        config: """
          task_id: "%{country}"
          code: |
            map['country'] = event.get('country')
            map['towns'] ||= []
            map['towns'] << event.get('town')
            event.cancel
          push_previous_map_as_event: true
          """,
        input: """
          {"country": "DE", "town": "Ulm"}
          {"country": "DE", "town": "Bonn"}
          {"country": "FR", "town": "Metz"}
          """,
        output: """
          {"country": "DE", "towns": ["Ulm", "Bonn"]}
          {"country": "FR", "towns": ["Metz"], "tags": ["_aggregatefinalflush"]}
          """),
    ],
    failureTags: ["_aggregateexception"])

  enum MapAction: String, OptionEnum {
    case create, update
    case createOrUpdate = "create_or_update"
  }

  struct Settings: PluginSettings {
    var taskID = Template("")
    var code = ""
    var mapAction = MapAction.createOrUpdate
    var endOfTask = false
    var timeout: Double?
    var inactivityTimeout: Double?
    var timeoutCode: String?
    var pushOnTimeout: Bool?
    var pushPrevious: Bool?
    var timestampField: FieldReference?
    var idField: FieldReference?
    var timeoutTags: [String]?
    var mapsPath: FilePath?
    var countWarning = 5000

    static let options: [Option<Settings>] = [
      .option(
        "task_id", \.taskID, "Events with equal texts belong to one task; must hold a placeholder.", required: true,
        example: "'%{session}'"),
      .option(
        "code", \.code, "The script that runs for each event of a task.", required: true,
        example: "map['n'] = (map['n'] || 0) + 1"),
      .option(
        "map_action", \.mapAction,
        "Run the script only for the first event of a task, only for further ones, or for all."),
      .option("end_of_task", \.endOfTask, "The task ends with the event, behind its script."),
      .option(
        "timeout", \.timeout, "How long a task lasts since its first event.", unit: .seconds, in: 0...31_536_000,
        defaultText: "1800"),
      .option(
        "inactivity_timeout", \.inactivityTimeout, "How long a task lasts since its last event, at most `timeout`.",
        unit: .seconds, in: 0...31_536_000, defaultText: "as timeout"),
      .option("timeout_code", \.timeoutCode, "A script that runs on each event made of a task that ended."),
      .option(
        "push_map_as_event_on_timeout", \.pushOnTimeout, "A task whose time is up becomes an event.",
        defaultText: "false"),
      .option(
        "push_previous_map_as_event", \.pushPrevious, "A new task ends the oldest one, which becomes an event.",
        defaultText: "false"),
      .option(
        "timeout_timestamp_field", \.timestampField,
        "Tasks also end by the time in this field of their events, not by the clock alone."),
      .option("timeout_task_id_field", \.idField, "Where the task id goes in an event made of a task."),
      .option("timeout_tags", \.timeoutTags, "Tags of an event made of a task.", defaultText: "[]"),
      .option("aggregate_maps_path", \.mapsPath, "A file that keeps open tasks from a stop to the next start."),
      .option(
        "map_count_warning_threshold", \.countWarning, "The log warns of more open tasks than this.",
        in: 1...AggregateTasks.tasksMax),
    ]

    var givesTiming: Bool {
      timeout != nil || inactivityTimeout != nil || timeoutCode != nil || pushOnTimeout != nil || pushPrevious != nil
        || timestampField != nil || idField != nil || timeoutTags != nil
    }
  }

  fileprivate let settings: Settings
  fileprivate let code: Script
  fileprivate let tasks: AggregateTasks
  fileprivate let store: AggregateStore
  /// Its number among the filters of the set.
  fileprivate let number: Int
  fileprivate let place: AggregatePlace

  init(_ settings: Settings, _ context: FilterContext) throws {
    self.settings = settings
    if let fault = settings.taskID.fault { throw BuildFailure("task_id", fault.description) }
    guard !settings.taskID.isConstant else {
      throw BuildFailure(
        "task_id", "'\(settings.taskID.description)' is the same for every event",
        hint: "name a field that tells tasks apart, such as '%{session}'")
    }
    code = try Aggregate.script(settings.code, "code")
    let timeout = settings.timeout ?? 1800
    if let inactivity = settings.inactivityTimeout, inactivity > timeout {
      throw BuildFailure("inactivity_timeout", "it must not exceed 'timeout'")
    }
    let name = settings.taskID.description
    tasks = context.shared.object("aggregate.tasks." + name) { AggregateTasks(idTemplate: name) }
    store = context.shared.object("aggregate.store") { AggregateStore(services: context.services) }
    store.add(tasks)
    number = tasks.join()
    place = AggregatePlace(pipelineID: context.pipelineID, stepID: context.stepID)
    if settings.givesTiming {
      var timing = AggregateTiming()
      timing.owner = number
      timing.isGiven = true
      timing.timeout = timeout
      timing.inactivityTimeout = settings.inactivityTimeout
      timing.pushOnTimeout = settings.pushOnTimeout ?? false
      timing.pushPrevious = settings.pushPrevious ?? false
      timing.timestampField = settings.timestampField
      timing.idField = settings.idField
      timing.tags = (settings.timeoutTags ?? []).map { Template($0) }
      timing.code = try settings.timeoutCode.map { try Aggregate.script($0, "timeout_code") }
      guard tasks.give(timing) else {
        throw BuildFailure(
          nil, "another aggregate filter with the task_id '\(name)' gives timeout options already",
          hint: "keep timeout, inactivity_timeout, push_… and timeout_… in one of them")
      }
    }
    if let path = settings.mapsPath, !store.use(path.text) {
      throw BuildFailure("aggregate_maps_path", "another aggregate filter of the pipeline has it already")
    }
  }

  private static func script(_ source: String, _ option: String) throws -> Script {
    do {
      return try Script(source)
    } catch {
      let before = Array(source.utf8.prefix(error.offset))
      let line = before.reduce(1) { $0 + ($1 == 10 ? 1 : 0) }
      let column =
        String(decoding: before.split(separator: 10, omittingEmptySubsequences: false).last ?? [], as: UTF8.self)
        .count + 1
      throw BuildFailure(
        option, "line \(line), column \(column) of the script: \(error.text)", code: "config.script",
        hint: "`sluice help aggregate` tells what scripts may hold")
    }
  }

  func makeFilter() -> any Filter { AggregateWorker(self) }
  var orderGroup: String? { "aggregate." + tasks.idTemplate }
  var timed: (any TimedState)? { AggregateTimer(tasks, store, number, place) }
}

/// Names a filter in the log.
struct AggregatePlace: Sendable {
  let pipelineID: String
  let stepID: String
}

/// What the log is to be told once no lock is held.
struct AggregateNotes {
  var failure: String?
  var ended = 0
  var hasMany = false

  mutating func log(_ place: AggregatePlace, threshold: Int) {
    if let failure {
      Log.warn(
        "aggregate.script-failed", "A script of an aggregate filter failed; the event is tagged.",
        ["pipeline": .text(place.pipelineID), "filter": .text(place.stepID), "reason": Log.foreign(failure)])
    }
    if ended > 0 {
      Log.warn(
        "aggregate.too-many-tasks", "There are too many open tasks; the oldest ended before their time.",
        [
          "pipeline": .text(place.pipelineID), "filter": .text(place.stepID), "tasks": .number(ended),
          "next": "Shorten 'timeout', or end tasks with 'end_of_task'.",
        ])
    }
    if hasMany {
      Log.warn(
        "aggregate.many-tasks", "There are more open tasks than map_count_warning_threshold.",
        [
          "pipeline": .text(place.pipelineID), "filter": .text(place.stepID), "threshold": .number(threshold),
          "next": "End tasks with 'end_of_task', or shorten 'timeout'.",
        ])
    }
    self = AggregateNotes()
  }
}

/// Makes events of tasks that have ended. One thread.
struct AggregateEvents {
  let runner = ScriptRunner()

  /// Fills a fresh event with what the task collected.
  func fill(_ event: Event, _ task: AggregateTask, _ timing: AggregateTiming, _ notes: inout AggregateNotes) {
    var isSound = true
    do {
      try task.script.map.fill(event)
    } catch {
      isSound = false
    }
    if let field = timing.idField, !event.write(field, task.id.withUnsafeBytes { event.makeText($0) }) {
      isSound = false
    }
    for tag in timing.tags { event.addTag(tag.constantBytes, unlessPresent: false) }
    if let code = timing.code {
      runner.task = task.script
      let failure = runner.run(code, event) { _ in
        throw ScriptFailure.error("'new_event_block' is for 'code', not for 'timeout_code'")
      }
      if let failure {
        notes.failure = failure
        isSound = false
      }
    }
    if !isSound { event.addTag("_aggregateexception") }
  }
}

/// Gives out the tasks of a set whose time is up; the filter that gave the timing does it for all.
private final class AggregateTimer: TimedState {
  private let tasks: AggregateTasks
  private let store: AggregateStore
  private let number: Int
  private let place: AggregatePlace

  init(_ tasks: AggregateTasks, _ store: AggregateStore, _ number: Int, _ place: AggregatePlace) {
    self.tasks = tasks
    self.store = store
    self.number = number
    self.place = place
  }

  func open() { store.open() }
  func close() { store.close() }

  func flush(_ batch: FlushBatch, isFinal: Bool) {
    let timing = tasks.timing
    guard timing.owner == number else { return }
    let due = tasks.takeDue(nowNs: batch.nowNs, isFinal: isFinal)
    guard timing.pushes, !due.isEmpty else { return }
    let events = AggregateEvents()
    var notes = AggregateNotes()
    for task in due {
      let event = batch.makeEvent()
      events.fill(event, task, timing, &notes)
      if isFinal { event.addTag("_aggregatefinalflush") }
    }
    notes.log(place, threshold: 0)
  }
}

private final class AggregateWorker: Filter {
  private struct Update {
    var event: Int32
    /// Place in the selection.
    var place: Int
    var hash: UInt64
    /// Where the id stands in `ids`.
    var start: Int
    var end: Int
  }

  private let settings: Aggregate.Settings
  private let code: Script
  private let tasks: AggregateTasks
  private let number: Int
  private let place: AggregatePlace
  private let events = AggregateEvents()
  private var notes = AggregateNotes()
  private let runner = ScriptRunner()
  private let unresolved: UnsafeRawBufferPointer
  private lazy var timing = tasks.timing
  private var updates: [Update] = []
  private var results: [Bool] = []
  private var groups = ShardGroups()
  private var ids = ByteBuffer(capacity: 4096)

  init(_ plugin: Aggregate) {
    settings = plugin.settings
    code = plugin.code
    tasks = plugin.tasks
    number = plugin.number
    place = plugin.place
    unresolved = plugin.settings.taskID.constantBytes
  }

  func process(_ batch: FilterBatch) {
    updates.removeAll(keepingCapacity: true)
    results.removeAll(keepingCapacity: true)
    ids.removeAll()
    for (place, i) in batch.selection.enumerated() {
      results.append(false)
      let event = batch.events[i]
      if event.isCancelled { continue }
      let start = ids.count
      _ = try? settings.taskID.append(event, to: &ids)
      let id = UnsafeRawBufferPointer(rebasing: ids.bytes[start...])
      if equal(id, unresolved) { continue }
      updates.append(Update(event: i, place: place, hash: SeededHash.of(id), start: start, end: ids.count))
    }
    let timing = self.timing
    groups.group(updates.count) { timing.pushPrevious ? 0 : updates[$0].hash }
    let nowNs = WallClock.ns
    for shard in 0..<ShardGroups.count {
      let range = groups.range(shard)
      if range.isEmpty { continue }
      tasks.shards[shard].withLock { shard in
        for place in range {
          let update = updates[Int(groups.order[place])]
          results[update.place] = handle(batch.events[update.event], update, &shard, nowNs)
        }
      }
    }
    ids.shrink(to: 1 << 16)
    notes.log(place, threshold: settings.countWarning)
    for (place, i) in batch.selection.enumerated() where results[place] && !batch.success.isEmpty {
      let event = batch.events[i]
      if !event.isCancelled, !batch.success.apply(to: event) { event.addTag("_decoratefailure") }
    }
  }

  /// One event under the lock of its task's shard.
  ///
  /// - Returns: Whether its script ran to the end.
  private func handle(_ event: Event, _ update: Update, _ shard: inout AggregateShard, _ nowNs: Int64) -> Bool {
    let id = UnsafeRawBufferPointer(rebasing: ids.bytes[update.start..<update.end])
    let time = timing.timestampField.map { event.value($0)?.timestamp ?? event.arrival }
    var found = shard.find(update.hash, id)
    if let task = found, let time, task.isOver(at: time, timing) {
      end(task, &shard)
      if timing.pushes { events.fill(event.spawn(), task, timing, &notes) }
      found = nil
    }
    var previous: [AggregateTask] = []
    let task: AggregateTask
    if let found {
      if settings.mapAction == .create { return false }
      task = found
    } else {
      if settings.mapAction == .update { return false }
      previous = makeRoom(&shard)
      task = AggregateTask(id: Array(id), nowNs: nowNs, time: time)
      shard.insert(update.hash, task)
      if tasks.change(by: 1) > settings.countWarning { notes.hasMany = true }
    }
    task.lastNs = nowNs
    if let time { task.lastTime = time }
    runner.task = task.script
    let failure = runner.run(code, event) { map in try map.fill(event.spawn()) }
    task.script = runner.task
    if settings.endOfTask {
      end(task, &shard)
    } else if task.isEnded {
      end(task, &shard)
      if timing.pushes { previous.append(task) }
    }
    for task in previous { events.fill(event.spawn(), task, timing, &notes) }
    guard let failure else { return true }
    event.addTag("_aggregateexception")
    notes.failure = failure
    return false
  }

  private func end(_ task: AggregateTask, _ shard: inout AggregateShard) {
    shard.remove(task)
    tasks.change(by: -1)
  }

  /// Takes out the tasks that a new one ends.
  private func makeRoom(_ shard: inout AggregateShard) -> [AggregateTask] {
    let shardMax = tasks.shardMax(timing)
    if shard.count >= shardMax {
      let oldest = shard.takeOldest(max(1, shardMax / 8))
      tasks.change(by: -oldest.count)
      notes.ended += oldest.count
      return timing.pushes ? oldest : []
    }
    guard timing.pushPrevious, timing.owner == number, shard.count > 0 else { return [] }
    let oldest = shard.takeOldest(1)
    tasks.change(by: -oldest.count)
    return oldest
  }
}
