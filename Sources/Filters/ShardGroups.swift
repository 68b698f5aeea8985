//  Shared state is spread over shards by a key's hash, each behind a lock of its own. A worker sorts the updates of a whole
//  batch by shard, keeping their order within each, so that it takes every lock once.

/// The numbers of a batch's updates, grouped by shard. One worker owns it and reuses it.
struct ShardGroups {
  static let count = 16

  /// The shard of a hash; its highest bits, so that tables may use the lowest.
  @inline(__always)
  static func shard(_ hash: UInt64) -> Int { Int(hash >> 60) }

  /// Numbers of updates: those of the first shard, then those of the second, and so on.
  private(set) var order: [Int32] = []
  private var starts = [Int](repeating: 0, count: ShardGroups.count + 1)
  private var places = [Int](repeating: 0, count: ShardGroups.count)

  /// Groups `n` updates by the hash that `hash` gives for each.
  mutating func group(_ n: Int, _ hash: (Int) -> UInt64) {
    for shard in 0...ShardGroups.count { starts[shard] = 0 }
    for i in 0..<n { starts[ShardGroups.shard(hash(i)) + 1] += 1 }
    for shard in 0..<ShardGroups.count {
      places[shard] = starts[shard]
      starts[shard + 1] += starts[shard]
    }
    if order.count < n { order.append(contentsOf: repeatElement(0, count: n - order.count)) }
    for i in 0..<n {
      let shard = ShardGroups.shard(hash(i))
      order[places[shard]] = Int32(i)
      places[shard] += 1
    }
  }

  /// Where the updates of `shard` stand in `order`.
  func range(_ shard: Int) -> Range<Int> { starts[shard]..<starts[shard + 1] }
}
