//  The tasks of all `aggregate` filters of a pipeline that have one `task_id`: their maps, and when each ends.
//
//  Tasks are spread over shards by the hash of their id, and a shard's lock is held while the scripts of a batch's events
//  run on its tasks. With `push_previous_map_as_event` the oldest task of all counts, so all lie in the first shard. The
//  number of tasks is bounded: a shard that is full ends the eighth of its tasks that is oldest, as if their time were up.

internal import Diagnostics
internal import Events
internal import Synchronization

/// When the tasks of a set end, and what becomes of them then. Given by at most one filter of the set.
struct AggregateTiming: Sendable {
  /// The filter that asks for what is due; the first of the set unless another gives options.
  var owner = 0
  var isGiven = false
  /// Seconds.
  var timeout = 1800.0
  var inactivityTimeout: Double?
  var pushOnTimeout = false
  var pushPrevious = false
  var timestampField: FieldReference?
  var idField: FieldReference?
  var tags: [Template] = []
  var code: Script?

  var pushes: Bool { pushOnTimeout || pushPrevious }
}

/// One task. Guarded by the lock of its shard; whoever has taken it out owns it.
final class AggregateTask {
  let id: [UInt8]
  var script = ScriptTask(map: ScriptMap())
  /// Wall clock, nanoseconds since 1970.
  let createdNs: Int64
  var lastNs: Int64
  /// By the events' own time, where that counts.
  let createdTime: Timestamp?
  var lastTime: Timestamp?

  init(id: [UInt8], nowNs: Int64, time: Timestamp?) {
    self.id = id
    createdNs = nowNs
    lastNs = nowNs
    createdTime = time
    lastTime = time
  }

  fileprivate func limits(_ timing: AggregateTiming) -> (timeout: Double, inactivity: Double) {
    let timeout = script.timeout ?? timing.timeout
    return (timeout, script.inactivityTimeout ?? timing.inactivityTimeout ?? timeout)
  }

  /// Whether its time is up by the clock.
  func isOver(atNs nowNs: Int64, _ timing: AggregateTiming) -> Bool {
    let limits = limits(timing)
    return Double(nowNs &- createdNs) > limits.timeout * 1e9 || Double(nowNs &- lastNs) > limits.inactivity * 1e9
  }

  /// Whether its time is up for an event of that moment.
  func isOver(at time: Timestamp, _ timing: AggregateTiming) -> Bool {
    guard let createdTime, let lastTime else { return false }
    let limits = limits(timing)
    return time.seconds(since: createdTime) > limits.timeout || time.seconds(since: lastTime) > limits.inactivity
  }

  /// The script asked for the end.
  var isEnded: Bool { script.timeout == 0 || script.inactivityTimeout == 0 }
}

/// The tasks of one shard, oldest first by number.
struct AggregateShard {
  private var tasks: [UInt64: (number: Int, task: AggregateTask)] = [:]
  private var nextNumber = 0

  var count: Int { tasks.count }

  /// Where the task of that id lies, or would lie: another id of the same hash moves it on.
  private func place(_ hash: UInt64, _ id: UnsafeRawBufferPointer) -> UInt64 {
    var place = hash
    while let present = tasks[place], !present.task.id.elementsEqual(id) { place = place &+ 1 }
    return place
  }

  func find(_ hash: UInt64, _ id: UnsafeRawBufferPointer) -> AggregateTask? { tasks[place(hash, id)]?.task }

  mutating func insert(_ hash: UInt64, _ task: AggregateTask) {
    let place = task.id.withUnsafeBytes { self.place(hash, $0) }
    tasks[place] = (nextNumber, task)
    nextNumber += 1
  }

  mutating func remove(_ task: AggregateTask) {
    let place = task.id.withUnsafeBytes { self.place(SeededHash.of($0), $0) }
    tasks[place] = nil
    // A task that had to move on behind this one would not be found any more: it takes the free place.
    var free = place
    var next = place &+ 1
    while let other = tasks[next] {
      let home = other.task.id.withUnsafeBytes { SeededHash.of($0) }
      if next &- home >= next &- free {
        tasks[free] = other
        tasks[next] = nil
        free = next
      }
      next = next &+ 1
    }
  }

  /// Takes out the oldest `n`, in order of age.
  mutating func takeOldest(_ n: Int) -> [AggregateTask] {
    if n == 1 {
      guard let oldest = tasks.values.min(by: { $0.number < $1.number })?.task else { return [] }
      remove(oldest)
      return [oldest]
    }
    let oldest = all.prefix(n)
    for task in oldest { remove(task) }
    return Array(oldest)
  }

  /// Takes out what is over, in order of age.
  mutating func take(where isOver: (AggregateTask) -> Bool) -> [AggregateTask] {
    let over = tasks.values.filter { isOver($0.task) }.sorted { $0.number < $1.number }.map(\.task)
    for task in over { remove(task) }
    return over
  }

  var all: [AggregateTask] { tasks.values.sorted { $0.number < $1.number }.map(\.task) }
}

/// The tasks of one `task_id`. Any thread.
final class AggregateTasks: Sendable {
  static let tasksMax = 200_000

  let idTemplate: String
  private let timingState = Lock(AggregateTiming())
  private let filters = Atomic<Int>(0)
  private let count = Atomic<Int>(0)
  let shards: [Lock<AggregateShard>] = (0..<ShardGroups.count).map { _ in Lock(AggregateShard()) }

  init(idTemplate: String) { self.idTemplate = idTemplate }

  /// A number for one more filter of the set.
  func join() -> Int { filters.wrappingAdd(1, ordering: .relaxed).oldValue }

  /// - Returns: False where another filter of the set has given its timing already.
  func give(_ timing: AggregateTiming) -> Bool {
    timingState.withLock { present in
      if present.isGiven { return false }
      present = timing
      return true
    }
  }

  /// Final once the pipeline is built.
  var timing: AggregateTiming { timingState.withLock { $0 } }

  /// The lock of the tasks with that hash.
  func shardNumber(_ hash: UInt64, _ timing: AggregateTiming) -> Int {
    timing.pushPrevious ? 0 : ShardGroups.shard(hash)
  }
  func shardMax(_ timing: AggregateTiming) -> Int {
    timing.pushPrevious ? AggregateTasks.tasksMax : AggregateTasks.tasksMax / ShardGroups.count
  }

  /// Notes that tasks came or went.
  ///
  /// - Returns: How many there are now.
  @discardableResult
  func change(by n: Int) -> Int { count.wrappingAdd(n, ordering: .relaxed).newValue }

  /// Takes out the tasks that are over, and at the end of a run the one that comes next in a sorted stream.
  func takeDue(nowNs: Int64, isFinal: Bool) -> [AggregateTask] {
    let timing = timing
    var result: [AggregateTask] = []
    for shard in shards {
      shard.withLock { (shard: inout AggregateShard) in
        result += shard.take { $0.isOver(atNs: nowNs, timing) }
        if isFinal, timing.pushPrevious { result += shard.takeOldest(1) }
      }
    }
    change(by: -result.count)
    return result
  }

  /// Puts a task back that an earlier run kept.
  func restore(_ task: AggregateTask) {
    let hash = task.id.withUnsafeBytes { SeededHash.of($0) }
    shards[shardNumber(hash, timing)].withLock { $0.insert(hash, task) }
    change(by: 1)
  }

  var all: [AggregateTask] { shards.flatMap { shard in shard.withLock { $0.all } } }
}
