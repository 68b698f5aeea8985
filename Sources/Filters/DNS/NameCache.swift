//  Answers that are remembered for a while, shared by the workers of a pipeline. Bounded: the entry that came first goes.

internal import Diagnostics

/// Answers by question. Any thread.
final class NameCache: Sendable {
  private struct Entry {
    var key: [UInt8]
    var value: [UInt8]
    var end: Instant
    var number: Int
  }

  private struct State {
    var entries: [UInt64: Entry] = [:]
    /// Hashes in the order in which they came, with the number of their entry; from `first` on.
    var order: [(hash: UInt64, number: Int)] = []
    var first = 0
    var next = 0
  }

  private let state = Lock(State())
  private let entriesMax: Int
  private let life: Duration

  /// - Parameter entriesMax: 0 remembers nothing.
  init(entriesMax: Int, life: Duration) {
    self.entriesMax = entriesMax
    self.life = life
  }

  var isOff: Bool { entriesMax == 0 }
  var count: Int { state.withLock { $0.entries.count } }

  func find(_ key: UnsafeRawBufferPointer, _ hash: UInt64, now: Instant = .now) -> [UInt8]? {
    if isOff { return nil }
    return state.withLock { state in
      guard let entry = state.entries[hash], entry.key.elementsEqual(key) else { return nil }
      if entry.end > now { return entry.value }
      state.entries[hash] = nil
      return nil
    }
  }

  func insert(_ key: [UInt8], _ hash: UInt64, _ value: [UInt8], now: Instant = .now) {
    if isOff { return }
    state.withLock { state in
      state.entries[hash] = Entry(key: key, value: value, end: now + life, number: state.next)
      state.order.append((hash, state.next))
      state.next += 1
      while state.entries.count > entriesMax, state.first < state.order.count {
        let oldest = state.order[state.first]
        state.first += 1
        // An entry that was renewed stands further back as well.
        if state.entries[oldest.hash]?.number == oldest.number { state.entries[oldest.hash] = nil }
      }
      if state.first > entriesMax + 1024 || state.order.count > 2 * entriesMax + 1024 { NameCache.compact(&state) }
    }
  }

  private static func compact(_ state: inout State) {
    state.order = state.order[state.first...].filter { state.entries[$0.hash]?.number == $0.number }
    state.first = 0
  }
}
