//  The counters of a `throttle` filter, shared by the workers of its pipeline.
//
//  A key is 64 bits of a seeded hash. Each remembers where its slots begin, its newest time, and the slots that are young
//  enough; most keys have one or two, so the first stands in the entry itself. Two things bound the memory: past the
//  limit of counters a look every five seconds lowers the age in steps of a twentieth, and a shard that outgrows twice
//  its share at once gives up the quarter of its keys that were idle longest.

internal import Diagnostics
internal import Synchronization

/// One event on its way into the counters.
struct ThrottleUpdate {
  var key: UInt64
  /// Whole seconds since 1970.
  var time: Int64
  /// Length of a slot in seconds, above 0.
  var period: Int64
  /// Events in the slot, this one included.
  var count = 0
}

/// Counts per key and slot. Any thread.
final class ThrottleCounters: Sendable {
  private struct Slot {
    var start: Int64
    var end: Int64
    var count: Int
  }

  private struct Entry {
    /// The key's first time: slots begin at whole periods from it.
    let origin: Int64
    var newest: Int64
    /// Empty where its count is 0.
    var slot = Slot(start: 0, end: 0, count: 0)
    var others: [Slot] = []

    var slotCount: Int { (slot.count > 0 ? 1 : 0) + others.count }
  }

  private struct Shard {
    var entries: [UInt64: Entry] = [:]
    var slots = 0
    var newest = Int64.min
  }

  private let shards: [Lock<Shard>]
  private let maxAge: Int64
  private let countersMax: Int
  private let shardSlotsMax: Int
  private let total = Atomic<Int>(0)
  /// The age that counts at present, in twentieths of `maxAge`.
  private let twentieths = Atomic<Int>(20)
  private let nextLook: Atomic<Int64>

  /// - Parameters:
  ///   - maxAge: Seconds.
  ///   - countersMax: Slots of all keys together.
  init(maxAge: Int64, countersMax: Int, now: Instant = .now) {
    shards = (0..<ShardGroups.count).map { _ in Lock(Shard()) }
    self.maxAge = maxAge
    self.countersMax = countersMax
    shardSlotsMax = max(64, countersMax / ShardGroups.count * 2)
    nextLook = Atomic(now.ns + 5_000_000_000)
  }

  /// Slots that are remembered.
  var count: Int { total.load(ordering: .relaxed) }

  /// Counts the events of a batch in their order, each shard's lock taken once.
  func apply(_ updates: inout [ThrottleUpdate], _ groups: inout ShardGroups, now: Instant = .now) {
    let age = maxAge * Int64(twentieths.load(ordering: .relaxed)) / 20
    groups.group(updates.count) { updates[$0].key }
    for shard in 0..<ShardGroups.count {
      let range = groups.range(shard)
      if range.isEmpty { continue }
      let change = shards[shard].withLock { state in
        let before = state.slots
        for place in range {
          let i = Int(groups.order[place])
          updates[i].count = ThrottleCounters.count(updates[i], &state, age)
        }
        if state.slots > shardSlotsMax { ThrottleCounters.forgetIdle(&state) }
        return state.slots - before
      }
      total.wrappingAdd(change, ordering: .relaxed)
    }
    lookAtLimit(now)
  }

  private static func count(_ update: ThrottleUpdate, _ shard: inout Shard, _ age: Int64) -> Int {
    shard.newest = max(shard.newest, update.time)
    let (count, change) = count(
      update, &shard.entries[update.key, default: Entry(origin: update.time, newest: update.time)], age)
    shard.slots += change
    return count
  }

  /// - Returns: Events in the slot, and how many slots of the key came or went.
  private static func count(_ update: ThrottleUpdate, _ entry: inout Entry, _ age: Int64) -> (Int, change: Int) {
    let before = entry.slotCount
    var rest = (update.time &- entry.origin) % update.period
    if rest < 0 { rest += update.period }
    let start = update.time &- rest
    entry.newest = max(entry.newest, update.time)
    let count: Int
    if entry.slot.count > 0, entry.slot.start == start {
      entry.slot.count += 1
      count = entry.slot.count
    } else if let i = entry.others.firstIndex(where: { $0.start == start }) {
      entry.others[i].count += 1
      count = entry.others[i].count
    } else {
      let fresh = Slot(start: start, end: start &+ update.period, count: 1)
      if entry.slot.count == 0 { entry.slot = fresh } else { entry.others.append(fresh) }
      count = 1
    }
    // A slot without others that holds the newest time is young.
    if !entry.others.isEmpty || entry.slot.end <= entry.newest &- age { forget(&entry, endedBy: entry.newest &- age) }
    return (count, entry.slotCount - before)
  }

  private static func forget(_ entry: inout Entry, endedBy limit: Int64) {
    if !entry.others.isEmpty { entry.others.removeAll { $0.end <= limit } }
    if entry.slot.count > 0, entry.slot.end <= limit {
      entry.slot = entry.others.popLast() ?? Slot(start: 0, end: 0, count: 0)
    }
  }

  private static func forgetIdle(_ shard: inout Shard) {
    let times = shard.entries.values.map(\.newest).sorted()
    guard let limit = times.dropFirst(times.count / 4).first else { return }
    // Where all are of one moment none is idle: then any quarter goes.
    var left = times.count / 4 + 1
    shard.entries = shard.entries.filter { _, entry in
      guard entry.newest <= limit, left > 0 else { return true }
      left -= 1
      return false
    }
    shard.slots = shard.entries.values.reduce(0) { $0 + $1.slotCount }
  }

  /// Every five seconds one caller forgets what is old and sets how old counters may become.
  private func lookAtLimit(_ now: Instant) {
    let due = nextLook.load(ordering: .relaxed)
    guard now.ns >= due else { return }
    let (isMine, _) = nextLook.compareExchange(
      expected: due, desired: now.ns + 5_000_000_000, ordering: .acquiringAndReleasing)
    guard isMine else { return }
    let present = twentieths.load(ordering: .relaxed)
    if count > countersMax {
      twentieths.store(max(1, present - 1), ordering: .relaxed)
    } else if count < countersMax / 5 * 4 {
      twentieths.store(min(20, present + 1), ordering: .relaxed)
    }
    forgetOld(maxAge * Int64(twentieths.load(ordering: .relaxed)) / 20)
  }

  private func forgetOld(_ age: Int64) {
    var newest = Int64.min
    for shard in shards { newest = max(newest, shard.withLock { $0.newest }) }
    guard newest > .min else { return }
    let limit = newest &- age
    for shard in shards {
      let change = shard.withLock { state in
        let before = state.slots
        for key in Array(state.entries.keys) {
          guard var entry = state.entries[key] else { continue }
          ThrottleCounters.forget(&entry, endedBy: limit)
          state.entries[key] = entry.slotCount > 0 ? entry : nil
        }
        state.slots = state.entries.values.reduce(0) { $0 + $1.slotCount }
        return state.slots - before
      }
      total.wrappingAdd(change, ordering: .relaxed)
    }
  }
}
