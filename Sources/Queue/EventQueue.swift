//  What a pipeline sees of its queue, on disk or in memory: it takes batches of records, and says when they are done.

public import Diagnostics
public import Records
internal import Synchronization

/// A queue between inputs and workers.
public protocol EventQueue: RecordSink {
  /// Takes records for one worker; each record goes to exactly one reader.
  ///
  /// Waits until `deadline` for the first record, and then at most `gather` for as many as were asked for.
  /// - Returns: nil at the deadline or once the queue is closed. A batch that was given back comes whole, whatever its
  ///   size, and one record comes whatever its size.
  /// - Threads: Any, several at a time.
  func read(maxRecords: Int, maxBytes: Int, until deadline: Instant, gather: Duration) -> QueueBatch?

  /// True when nothing waits and nothing is unfinished.
  var isDrained: Bool { get }
  var statistics: QueueStatistics { get }

  /// Takes no more, writes what waits, and ends the queue's threads. Waiting appends that cannot be written are
  /// refused with `.closed`. Batches in flight stay valid; releasing them later has no effect on the disk.
  func close()
}

/// Records on their way through a worker.
///
/// One owner at a time. Payload pointers stay valid as long as the batch lives. A batch that goes away without `release`
/// or `giveBack` is given back.
public final class QueueBatch: @unchecked Sendable {  // unchecked: contents are read-only; `state` is atomic
  /// Neighbouring records with the same origin.
  public struct Run: Sendable {
    /// Their places in the batch.
    public let range: Range<Int>
    /// Wall clock at arrival, nanoseconds since 1970.
    public let arrivalNs: Int64
    public let descriptor: RecordDescriptor
    public let context: RecordContext?
    /// True where the record may have been sent before: it was in the queue when this process opened it.
    public let isRecovered: Bool
    /// The id of the first; those of the others follow on.
    public let firstIdentity: RecordIdentity

    @inline(__always)
    public func identity(_ i: Int) -> RecordIdentity {
      RecordIdentity(
        segment: firstIdentity.segment, index: firstIdentity.index &+ UInt32(truncatingIfNeeded: i &- range.lowerBound))
    }
  }

  struct Contents {
    var payloads: [UnsafeRawBufferPointer] = []
    var runs: [Run] = []
    /// What keeps the payloads' memory.
    var owners: [AnyObject] = []
    var byteCount = 0
    var ticket = 0
  }

  let contents: Contents
  private let queue: any BatchOwner
  private let isFinished = Atomic<Bool>(false)

  init(_ contents: Contents, of queue: any BatchOwner) {
    self.contents = contents
    self.queue = queue
  }

  deinit {
    if !isFinished.load(ordering: .relaxed) { queue.takeBack(contents) }
  }

  public var count: Int { contents.payloads.count }
  /// Bytes of all payloads.
  public var byteCount: Int { contents.byteCount }
  public var runs: [Run] { contents.runs }

  /// The bytes of record `i`, valid as long as this batch.
  @inline(__always)
  public func payload(_ i: Int) -> UnsafeRawBufferPointer { contents.payloads[i] }

  /// The number of the run that holds record `i`.
  public func runIndex(of i: Int) -> Int {
    var low = 0
    var high = contents.runs.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if contents.runs[middle].range.lowerBound <= i { low = middle } else { high = middle }
    }
    return low
  }

  public func identity(_ i: Int) -> RecordIdentity { contents.runs[runIndex(of: i)].identity(i) }

  /// Every record of the batch is done with. Once for each batch; later calls do nothing.
  public func release() {
    if !isFinished.exchange(true, ordering: .acquiringAndReleasing) { queue.finish(contents) }
  }

  /// Nothing of the batch is done: the next reader gets it again.
  public func giveBack() {
    if !isFinished.exchange(true, ordering: .acquiringAndReleasing) { queue.takeBack(contents) }
  }
}

/// The queue's end of a batch.
protocol BatchOwner: AnyObject, Sendable {
  func finish(_ contents: QueueBatch.Contents)
  func takeBack(_ contents: QueueBatch.Contents)
}

/// A queue's figures at one moment.
public struct QueueStatistics: Sendable {
  public var isPersisted = false
  /// Records that are not released, in flight ones included.
  public var events = 0
  /// Records of them that no worker has taken.
  public var unreadEvents = 0
  /// Batches that workers hold.
  public var batchesInFlight = 0
  /// Bytes of the records' segments; of payloads, for a queue in memory.
  public var bytes = 0
  public var maxBytes = 0
  public var maxEvents = 0
  /// Bytes of released segments that are kept for replays.
  public var retainedBytes = 0
  /// Free bytes of the disk when last looked at.
  public var freeBytes = 0
  public var segments = 0
  /// Since this process opened the queue.
  public var appendedEvents = 0
  public var appendedBytes = 0
  public var releasedEvents = 0
  public var syncs = 0
  public var failedSyncs = 0
  /// Payload bytes and batches that wait in memory to be written.
  public var waitingBytes = 0
  public var waitingBatches = 0
  /// Arrival of the oldest record that is not released, nanoseconds since 1970; 0 when there is none.
  public var oldestArrivalNs: Int64 = 0
  /// Records that were there when this process opened the queue.
  public var recoveredEvents = 0
  /// Records lost to damage, and damaged places found, since this process opened the queue.
  public var damagedEvents = 0
  public var damagedPlaces = 0
  public var fullReasons: QueueFullReasons = []
  public var folder = ""
}

/// Why a queue takes nothing at the moment.
public struct QueueFullReasons: OptionSet, Sendable, CustomStringConvertible {
  public let rawValue: Int
  public init(rawValue: Int) { self.rawValue = rawValue }
  public static let maxBytes = QueueFullReasons(rawValue: 1)
  public static let maxEvents = QueueFullReasons(rawValue: 2)
  /// Less than `queue.min_free` is left on the disk.
  public static let minFree = QueueFullReasons(rawValue: 4)
  /// The disk refused a write for want of space.
  public static let diskFull = QueueFullReasons(rawValue: 8)
  /// The disk fails; writing is tried again every second.
  public static let diskError = QueueFullReasons(rawValue: 16)

  public var names: [String] {
    let all: [(QueueFullReasons, String)] = [
      (.maxBytes, "max_bytes"), (.maxEvents, "max_events"), (.minFree, "min_free"), (.diskFull, "disk_full"),
      (.diskError, "disk_error"),
    ]
    return all.filter { contains($0.0) }.map(\.1)
  }
  public var description: String { names.joined(separator: ", ") }
}
