//  What several workers must see together: how often something happened for an address or a user within a sliding
//  window, and with how many different users, addresses, countries or paths.
//
//  One object per pipeline. Keys are spread over shards by their hash; a worker collects the updates of a whole batch
//  and takes each shard's lock once. A key is 64 bits of a seeded hash and never the text, so an entry is small and has
//  a fixed size: the newest times, up to the count that the rule asks for, and beside them the values that are told
//  apart. Times are the events' own, so a replay counts as the first run did, and events may come out of order.
//
//  Memory is bounded: a table has sets of eight entries and doubles until its limit; then the entry of its set that was
//  idle longest goes.

internal import Diagnostics
internal import Synchronization

/// One sliding window that a rule asks for.
struct ThreatWindow: Sendable, Equatable {
  enum Key: Sendable { case address, user }
  enum Distinct: Sendable { case user, address, country, path }

  static let countMax = 64
  var key: Key
  /// Count different ones of these; nil counts events.
  var distinct: Distinct?
  var count: Int
  var seconds: UInt32
}

/// One event's step in one window.
struct ThreatUpdate {
  var key: UInt64
  /// What is told apart, as a hash.
  var value: UInt32
  /// Seconds since 1970.
  var time: UInt32
  var rule: UInt16
  var window: UInt16
  var event: UInt32
  var hasFired = false
}

/// The windows of one pipeline, shared by its workers.
public final class ThreatWindows: Sendable {
  static let shardCount = 16

  private let shards: [Lock<[ThreatWindowTable]>]
  /// Events seen, and per window how often it fired: the measure of what is common.
  private let events = Counter()
  private let fired: [Counter]

  /// - Parameter keysMax: Most addresses or users that each window remembers.
  init(_ windows: [ThreatWindow], keysMax: Int = 65_536) {
    shards = (0..<ThreatWindows.shardCount).map { _ in
      Lock(windows.map { ThreatWindowTable($0, rowsMax: max(8, keysMax / ThreatWindows.shardCount)) })
    }
    fired = windows.map { _ in Counter() }
  }

  /// Windows for `rules`.
  public convenience init(_ rules: ThreatRules, keysMax: Int = 65_536) {
    self.init(rules.windows, keysMax: keysMax)
  }

  /// Applies the updates of a batch in the order of its events, each shard's lock taken once, and marks those by which
  /// a window is full.
  func apply(_ updates: inout [ThreatUpdate], order: inout [UInt32], eventCount: Int) {
    events.add(eventCount)
    if updates.isEmpty { return }
    order.removeAll(keepingCapacity: true)
    var starts = [Int](repeating: 0, count: ThreatWindows.shardCount + 1)
    for update in updates { starts[ThreatWindows.shard(update.key) + 1] += 1 }
    for shard in 1...ThreatWindows.shardCount { starts[shard] += starts[shard - 1] }
    var places = starts
    order.append(contentsOf: repeatElement(0, count: updates.count))
    for (index, update) in updates.enumerated() {
      order[places[ThreatWindows.shard(update.key)]] = UInt32(index)
      places[ThreatWindows.shard(update.key)] += 1
    }
    for shard in 0..<ThreatWindows.shardCount where starts[shard] < starts[shard + 1] {
      shards[shard].withLock { tables in
        for place in starts[shard]..<starts[shard + 1] {
          let index = Int(order[place])
          updates[index].hasFired = tables[Int(updates[index].window)].add(updates[index])
        }
      }
    }
  }

  /// Notes that `window` fired.
  ///
  /// - Returns: Whether it did so oftener than `burst` times and once in `every` events.
  func isCommon(_ window: Int, every: Int, burst: Int) -> Bool {
    let count = fired[window].value
    fired[window].add()
    return count >= burst + events.value / max(every, 1)
  }

  /// Keys that are remembered at present.
  public var keyCount: Int { shards.reduce(0) { $0 + $1.withLock { $0.reduce(0) { $0 + $1.keyCount } } } }
  /// Bytes that the tables hold.
  public var bytesHeld: Int { shards.reduce(0) { $0 + $1.withLock { $0.reduce(0) { $0 + $1.bytesHeld } } } }

  private static func shard(_ key: UInt64) -> Int { Int(key >> 60) }
}

/// One window's entries within one shard; guarded by the shard's lock.
struct ThreatWindowTable {
  private static let ways = 8
  private static let headWords = 3  // two of the key, one of the newest time

  private let window: ThreatWindow
  private let rowsMax: Int
  private let rowWords: Int
  private var rows: [UInt32]
  private var setCount = 1

  init(_ window: ThreatWindow, rowsMax: Int) {
    self.window = window
    self.rowsMax = rowsMax
    rowWords = ThreatWindowTable.headWords + window.count * (window.distinct == nil ? 1 : 2)
    rows = []
  }

  var bytesHeld: Int { rows.capacity * 4 }
  var keyCount: Int { stride(from: 0, to: rows.count, by: rowWords).reduce(0) { $0 + (rows[$1 + 2] == 0 ? 0 : 1) } }

  /// Takes one event in.
  ///
  /// - Returns: Whether the window is full by it.
  mutating func add(_ update: ThreatUpdate) -> Bool {
    let row = row(of: update)
    rows[row + 2] = max(rows[row + 2], update.time)
    return window.distinct == nil ? count(update, row) : distinguish(update, row)
  }

  private func isWithin(_ time: UInt32, of now: UInt32) -> Bool {
    // Events come out of order, so a time a window ahead counts as well.
    time != 0 && (time > now ? time - now : now - time) < window.seconds
  }

  private mutating func count(_ update: ThreatUpdate, _ row: Int) -> Bool {
    let times = row + ThreatWindowTable.headWords
    let slot = slotToGive(times, update.time)
    if rows[slot] <= update.time || !isWithin(rows[slot], of: update.time) { rows[slot] = update.time }
    var within = 0
    for slot in times..<times + window.count where isWithin(rows[slot], of: update.time) { within += 1 }
    return within >= window.count
  }

  /// The slot whose time counts least: one outside the window, also one far ahead by a wrong clock, else the oldest.
  private func slotToGive(_ times: Int, _ now: UInt32) -> Int {
    var given = times
    var isOutside = false
    for slot in times..<times + window.count {
      let outside = !isWithin(rows[slot], of: now)
      if outside != isOutside ? outside : rows[slot] < rows[given] { (given, isOutside) = (slot, outside) }
    }
    return given
  }

  private mutating func distinguish(_ update: ThreatUpdate, _ row: Int) -> Bool {
    let times = row + ThreatWindowTable.headWords
    let values = times + window.count
    var before: UInt32 = 0
    if let known = (0..<window.count).first(where: { rows[times + $0] != 0 && rows[values + $0] == update.value }) {
      before = rows[times + known]
      if before < update.time || !isWithin(before, of: update.time) { rows[times + known] = update.time }
    } else {
      let slot = slotToGive(times, update.time)
      if rows[slot] <= update.time || !isWithin(rows[slot], of: update.time) {
        rows[slot] = update.time
        rows[slot + window.count] = update.value
      }
    }
    var within = 0
    var newestOther: UInt32 = 0
    for slot in 0..<window.count where isWithin(rows[times + slot], of: update.time) {
      within += 1
      if rows[values + slot] != update.value { newestOther = max(newestOther, rows[times + slot]) }
    }
    // Of countries the change is the news: who stays where the last event was seen is not on a journey.
    if window.distinct == .country, before != 0, before >= newestOther { return false }
    return within >= window.count
  }

  /// The row of the update's key, made where it is missing.
  private mutating func row(of update: ThreatUpdate) -> Int {
    if rows.isEmpty { rows = [UInt32](repeating: 0, count: ThreatWindowTable.ways * rowWords) }
    let (low, high) = (UInt32(truncatingIfNeeded: update.key), UInt32(truncatingIfNeeded: update.key >> 32))
    while true {
      let first = Int(truncatingIfNeeded: update.key & UInt64(setCount - 1)) * ThreatWindowTable.ways * rowWords
      var idle = first
      var row = first
      for _ in 0..<ThreatWindowTable.ways {
        if rows[row] == low, rows[row + 1] == high, rows[row + 2] != 0 { return row }
        if rows[row + 2] < rows[idle + 2] { idle = row }
        row += rowWords
      }
      let isFree = rows[idle + 2] == 0 || rows[idle + 2] &+ window.seconds < update.time
      if isFree || setCount * 2 * ThreatWindowTable.ways > rowsMax {
        for word in idle..<idle + rowWords { rows[word] = 0 }
        rows[idle] = low
        rows[idle + 1] = high
        return idle
      }
      grow()
    }
  }

  private mutating func grow() {
    let old = rows
    setCount *= 2
    rows = [UInt32](repeating: 0, count: setCount * ThreatWindowTable.ways * rowWords)
    for start in stride(from: 0, to: old.count, by: rowWords) where old[start + 2] != 0 {
      // A set splits in two, so each half has room for all that it gets.
      var row = Int(old[start] & UInt32(setCount - 1)) * ThreatWindowTable.ways * rowWords
      while rows[row + 2] != 0 { row += rowWords }
      for word in 0..<rowWords { rows[row + word] = old[start + word] }
    }
  }
}
