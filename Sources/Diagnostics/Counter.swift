//  Counters, gauges and histograms: raised on the hot path once per batch, read by the monitoring API at any time.

internal import Synchronization

/// A count that only grows.
public final class Counter: Sendable {
  private let raw = Atomic<Int>(0)
  public init() {}
  public func add(_ n: Int = 1) { raw.wrappingAdd(n, ordering: .relaxed) }
  public var value: Int { raw.load(ordering: .relaxed) }
}

/// A value that goes up and down.
public final class Gauge: Sendable {
  private let raw = Atomic<Int>(0)
  public init(_ value: Int = 0) { raw.store(value, ordering: .relaxed) }
  @discardableResult
  public func add(_ n: Int) -> Int { raw.wrappingAdd(n, ordering: .acquiringAndReleasing).newValue }
  public func set(_ n: Int) { raw.store(n, ordering: .releasing) }
  public var value: Int { raw.load(ordering: .acquiring) }
}

/// Values counted in buckets that double: bucket `i` holds values below 2^i of the unit that the owner names.
public final class Histogram: Sendable {
  public static let bucketCount = 40
  private let buckets: [Counter]
  public let sum = Counter()
  public let count = Counter()

  public init() { buckets = (0..<Histogram.bucketCount).map { _ in Counter() } }

  public func record(_ value: Int) {
    let width = Int.bitWidth - max(0, value).leadingZeroBitCount
    buckets[min(width, Histogram.bucketCount - 1)].add()
    sum.add(max(0, value))
    count.add()
  }

  public var counts: [Int] { buckets.map(\.value) }

  /// The upper bound of the bucket that holds the given share (0 to 1) of all values.
  public func percentile(_ share: Double) -> Int {
    let all = counts
    let wanted = Double(all.reduce(0, +)) * share
    var seen = 0
    for (i, n) in all.enumerated() {
      seen += n
      if Double(seen) >= wanted, n > 0 { return 1 << i }
    }
    return 0
  }
}
