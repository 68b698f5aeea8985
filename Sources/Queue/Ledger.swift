//  What a queue knows of its records: segments, what is unread, what readers hold, what is released.

internal import CSystem
internal import Diagnostics
internal import Records

/// A segment that exists on disk. Mutable fields belong to the ledger's lock.
final class Segment: @unchecked Sendable {  // unchecked: see above
  let header: SegmentHeader
  let path: String
  let seed: UInt32
  /// Records and bytes that are on disk and may be read.
  var end: Int
  var count: UInt32
  var isSealed: Bool
  /// A sync failed or bytes could not be read: the file is not used again.
  var isSuspect = false
  /// Wall clock at which its last record was released.
  var releasedNs: Int64 = 0
  /// Open for reading; belongs to whoever holds the ledger's `isReading`.
  var file: (any QueueFile)?

  var number: UInt64 { header.number }

  init(_ header: SegmentHeader, path: String, end: Int, count: UInt32, isSealed: Bool) {
    self.header = header
    self.path = path
    self.end = end
    self.count = count
    self.isSealed = isSealed
    seed = header.identity.checksumSeed
  }
}

struct Ledger {
  /// What one reader's batch covers.
  struct Outstanding {
    var isDone: Bool
    var count: Int
    /// Where the next batch begins.
    var end: Position
    var endOffset: Int
    var arrivalNs: Int64
  }

  /// From the oldest that is not released to the one that grows.
  var segments: [Segment] = []
  /// Released ones that are kept for replays, oldest first.
  var retained: [Segment] = []
  var usedBytes = 0
  var retainedBytes = 0
  var spares: [String] = []
  /// Written blocks that wait for readers, in order of place; gaps are read from disk.
  var cache: [Chunk?] = []
  var cacheHead = 0
  var cacheBytes = 0

  var unread = 0
  var unreleased = 0
  var isReading = false
  var isClosed = false
  var returned: [QueueBatch.Contents] = []

  /// Batches in order of reading; the first one's ticket is `firstTicket`.
  var outstanding: [Outstanding] = []
  var firstTicket = 0
  var released: Position
  var releasedOffset: Int
  /// Where reading goes on.
  var dispatched: Position
  var oldestArrivalNs: Int64 = 0
  /// Records before this were there when the queue was opened and may have been sent.
  var recoveredBefore: Position
  /// The last place that a sync made lasting.
  var synced: Position
  var syncedOffset: Int

  mutating func finish(_ ticket: Int) -> (released: Int, isSegmentDone: Bool) {
    let place = ticket - firstTicket
    guard outstanding.indices.contains(place) else { return (0, false) }
    outstanding[place].isDone = true
    guard place == 0 else { return (0, false) }
    var count = 0
    var done = 0
    for item in outstanding {
      guard item.isDone else { break }
      count += item.count
      done += 1
      released = item.end
      releasedOffset = item.endOffset
    }
    outstanding.removeFirst(done)
    firstTicket += done
    unreleased -= count
    oldestArrivalNs = outstanding.first?.arrivalNs ?? nextArrival ?? oldestArrivalNs
    return (count, isFirstSegmentDone)
  }

  /// Arrival of the next record to be read, where that is known without a look at the disk.
  private var nextArrival: Int64? {
    firstCached?.blocks.first?.runs.first?.arrivalNs
  }

  var isFirstSegmentDone: Bool {
    guard let first = segments.first, first.isSealed else { return false }
    return isReleased(first)
  }

  private func isReleased(_ segment: Segment) -> Bool {
    released.segment > segment.number || (released.segment == segment.number && released.index >= segment.count)
  }

  /// Takes the segments out whose records are all released.
  mutating func takeReleased() -> [Segment] {
    var taken: [Segment] = []
    while let first = segments.first, first.isSealed, isReleased(first) {
      segments.removeFirst()
      usedBytes -= first.end
      taken.append(first)
      // The place behind a sealed segment is the beginning of the next.
      if released.segment <= first.number {
        released = Position(segment: first.number + 1, index: 0)
        releasedOffset = 0
      }
    }
    return taken
  }

  /// The segment with that number, or the first one behind it.
  func segment(from number: UInt64) -> Segment? {
    // The wanted one is nearly always among the first.
    segments.first { $0.number >= number }
  }

  var firstCached: Chunk? { cacheHead < cache.count ? cache[cacheHead] : nil }

  mutating func popCache() {
    guard let chunk = firstCached else { return }
    cache[cacheHead] = nil
    cacheHead += 1
    cacheBytes -= chunk.byteCount
    if cacheHead > 32, cacheHead * 2 > cache.count {
      cache.removeFirst(cacheHead)
      cacheHead = 0
    }
  }
}

func nameThread(_ name: String) { String(name.prefix(15)).withCString { sys_name_thread($0) } }
