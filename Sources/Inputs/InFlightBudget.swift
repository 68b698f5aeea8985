//  How much all inputs together hold that no queue has taken yet (`memory.in_flight`).
//
//  The budget refuses nobody his first window: a connection that holds nothing may always read one, or a few stuck
//  connections would starve all others. It decides who may read a second one while the first still waits.

internal import Synchronization

/// Shared by all inputs of the process; any thread.
public final class InFlightBudget: Sendable {
  private let limit: Atomic<Int>
  private let usedBytes = Atomic<Int>(0)

  public init(limitBytes: Int = 64 << 20) { limit = Atomic(limitBytes) }

  /// May be changed at any time; what is held already stays.
  public var limitBytes: Int {
    get { limit.load(ordering: .relaxed) }
    set { limit.store(newValue, ordering: .relaxed) }
  }

  public var used: Int { usedBytes.load(ordering: .relaxed) }
  public var isSpent: Bool { used >= limitBytes }

  /// Counts `n` bytes more, or fewer when negative; never refuses.
  public func add(_ n: Int) { if n != 0 { usedBytes.wrappingAdd(n, ordering: .relaxed) } }

  /// Counts `n` bytes more unless that would go beyond the limit. A single holder may go beyond it alone.
  public func reserve(_ n: Int) -> Bool {
    var seen = usedBytes.load(ordering: .relaxed)
    while true {
      if seen > 0, seen &+ n > limitBytes { return false }
      let (exchanged, original) = usedBytes.weakCompareExchange(expected: seen, desired: seen &+ n, ordering: .relaxed)
      if exchanged { return true }
      seen = original
    }
  }
}
