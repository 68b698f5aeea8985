//  The maps of a pipeline's tasks between two runs: a file that is written when the pipeline has stopped, and read and
//  removed when it starts.
//
//  A line is a JSON object: `task_id` (the template), `id`, `created` and `last` (nanoseconds since 1970), and `map`.

internal import Diagnostics
internal import Events
internal import PluginKit

/// The sets of one pipeline, and the file where one of its filters asks for it. Any thread.
final class AggregateStore: Sendable {
  private struct State {
    var sets: [AggregateTasks] = []
    var path: String?
    var isOpen = false
  }
  private let state = Lock(State())
  private let services: Services

  init(services: Services) { self.services = services }

  func add(_ tasks: AggregateTasks) {
    state.withLock { state in
      if !state.sets.contains(where: { $0 === tasks }) { state.sets.append(tasks) }
    }
  }

  /// - Returns: False where another filter has named a file already.
  func use(_ path: String) -> Bool {
    state.withLock { state in
      if state.path != nil { return false }
      state.path = path
      return true
    }
  }

  /// Reads the file and removes it; once for each run.
  func open() {
    let (path, sets) = state.withLock { state -> (String?, [AggregateTasks]) in
      defer { state.isOpen = true }
      return (state.isOpen ? nil : state.path, state.sets)
    }
    guard let path, services.stamp(path) != nil else { return }
    do {
      let bytes = try services.read(path, limitBytes: 1 << 30)
      let batch = EventBatch()
      var kept = 0
      var lost = 0
      for line in bytes.split(separator: 10) {
        batch.removeAll()
        let event = batch.add(arrivalNs: 0)
        guard let map = line.withUnsafeBytes({ try? event.parseJSON($0) }), let name = map["task_id"]?.string,
          let tasks = sets.first(where: { $0.idTemplate == name }), let id = map["id"]?.text,
          let created = map["created"]?.integer, let last = map["last"]?.integer, let stored = map["map"]
        else {
          lost += 1
          continue
        }
        let task = AggregateTask(id: Array(id), nowNs: created, time: time(map["created_time"]))
        task.lastNs = last
        task.lastTime = time(map["last_time"])
        task.script.timeout = map["timeout"]?.number
        task.script.inactivityTimeout = map["inactivity_timeout"]?.number
        if case .map(let entries) = ScriptValue(stored: stored) { task.script.map = entries }
        tasks.restore(task)
        kept += 1
      }
      try services.remove(path)
      Log.info(
        "aggregate.maps-read", "Maps of an earlier run go on.", ["file": .text(path), "maps": .number(kept)])
      if lost > 0 {
        Log.error(
          "aggregate.maps-lost", "Maps of an earlier run are damaged, or no filter has their task_id; they are lost.",
          ["file": .text(path), "maps_lost": .number(lost), "next": "keep the task_id as it was over a restart"])
      }
    } catch {
      Log.error(
        "aggregate.maps-unreadable", "The maps of an earlier run cannot be read; their tasks begin anew.",
        ["file": .text(path), "reason": .text(error.reason)])
    }
  }

  private func time(_ value: Value?) -> Timestamp? { value?.text.flatMap { Timestamp(arriving: $0) } }

  /// Writes what is left. Every set of the pipeline calls it at its end, and the last one writes the whole.
  func close() {
    // A run that never began has nothing to say of what an earlier one kept.
    let (path, sets) = state.withLock { ($0.isOpen ? $0.path : nil, $0.sets) }
    guard let path else { return }
    var out = ByteBuffer(capacity: 1 << 16)
    var lost = 0
    var kept = 0
    for tasks in sets {
      for task in tasks.all {
        let start = out.count
        do {
          try append(task, of: tasks, to: &out)
          kept += 1
        } catch {
          out.count = start
          lost += 1
        }
      }
    }
    do {
      if kept > 0 {
        try services.write(path, out.bytes)
      } else if services.stamp(path) != nil {
        try services.remove(path)
      }
    } catch {
      Log.error(
        "aggregate.maps-unwritten", "The maps of open tasks cannot be kept for the next run; they are lost.",
        ["file": .text(path), "maps_lost": .number(kept + lost), "reason": .text(error.reason)])
      return
    }
    if lost > 0 {
      Log.error(
        "aggregate.maps-unwritten", "The maps of open tasks cannot be kept for the next run; they are lost.",
        ["file": .text(path), "maps_lost": .number(lost), "reason": .text("they are nested too deep")])
    }
  }

  private func append(
    _ task: AggregateTask, of tasks: AggregateTasks, to out: inout ByteBuffer
  ) throws(ScriptFailure) {
    out.append("{\"task_id\":")
    out.append(quoted: tasks.idTemplate)
    out.append(",\"id\":")
    task.id.withUnsafeBytes { appendQuoted($0, to: &out) }
    out.append(",\"created\":")
    out.append(decimal: task.createdNs)
    out.append(",\"last\":")
    out.append(decimal: task.lastNs)
    if let time = task.createdTime { appendTime(",\"created_time\":\"", time, &out) }
    if let time = task.lastTime { appendTime(",\"last_time\":\"", time, &out) }
    if let timeout = task.script.timeout, timeout.isFinite { out.append(text: ",\"timeout\":\(timeout)") }
    if let timeout = task.script.inactivityTimeout, timeout.isFinite {
      out.append(text: ",\"inactivity_timeout\":\(timeout)")
    }
    out.append(",\"map\":")
    try ScriptValue.map(task.script.map).appendStored(to: &out)
    out.append("}\n")
  }

  private func appendTime(_ name: StaticString, _ time: Timestamp, _ out: inout ByteBuffer) {
    out.append(name)
    time.appendISO8601(to: &out)
    out.append(34)
  }
}
