//  The persisted queue: records between an input's acknowledgement and an output's.
//
//  Promises. An append completes once its records are on the disk, and from then on they come out at least once, through
//  any crash. A batch is kept whole or not at all (above 16 MiB: in parts). Record ids are never given twice. What is
//  damaged is named, kept aside and skipped; what lies beside it survives. Opening takes a time that the backlog does
//  not lengthen.
//
//  Files of a queue's folder
//
//      lock               held (flock) while the queue is open
//      000000000017.seg   segments, in order of their numbers; the last one grows
//      checkpoint         see Checkpoint.swift
//      spare-1.seg        a file for a coming segment: zeros, or a released segment's old bytes
//      *.bad              damaged bytes that were set aside; nobody reads or removes them but the operator
//
//  A segment is a header of 96 bytes and blocks from there on, each beginning at a multiple of 16 (Format.swift and
//  Block.swift have the fields). A block holds one or more whole batches: header, table of descriptors, contexts, lengths
//  and checksums, then the payloads. Each checksum (CRC-32C) starts from the segment's identity, 11 bytes that no other
//  segment ever had, and a record's also from its number: what an earlier life of the file left behind never passes.
//  Descriptors and contexts stand in every block that needs them, once; so a block can be read on its own, a start in the
//  middle needs no look at what lies before, and damage to one block takes nothing from the others.
//
//  Where a segment ends stands in the header of its successor. Only the last segment must be searched for its end, from
//  the place that the checkpoint knows to be on disk.
//
//  Order of writes
//
//   1. A group of blocks is written and synced (with the header, if it is the segment's first), then the folder, if the
//      segment is new. Only then are its completions called and its records handed to readers.
//   2. A reader's batch is released when all outputs have it. The released prefix goes to the checkpoint some time later.
//   3. A segment whose records are all released goes away (or becomes a spare) after a synced checkpoint that says so.
//   4. A failed sync is never repeated: what it was to make lasting may be gone although the next sync succeeds. The
//      segment ends where the last good sync left it, and the group goes, with its ids, to a new segment whose header
//      says where the old one ends. So of two copies on disk one alone is ever read.
//
//  What a crash can leave behind
//
//      a torn or missing last group      nobody was told of it; cut at the next start: the next segment's header says where
//      a segment without header          nothing in it was synced; it becomes a spare
//      a released segment that is back   read again from the checkpoint on, which repeats deliveries
//      an old checkpoint, or none        repeats deliveries
//
//  Threads. Appends only put batches on a list (lock `intake`). The writer thread alone writes segments. The keeper
//  thread writes checkpoints, removes segments and fills spares. Readers share the ledger (lock `ledger`) and take turns
//  in fetching, so that system calls happen outside of it. The two locks are never held together. Without threads
//  (`runsThreads: false`) a test calls the steps itself.

internal import Codecs
public import Diagnostics
internal import Glibc
public import Records
internal import Synchronization

public final class DiskQueue: EventQueue, BatchOwner {
  let folder: String
  let settings: QueueSettings
  let fileSystem: any FileSystem
  let segmentCapacity: Int
  private let fileLock: Lock<(any FileLock)?>

  /// Batches on their way to the writer.
  struct Intake {
    var parts: [PendingPart] = []
    var bytes = 0
    var isClosed = false
    /// Something changed that a blocked writer should look at.
    var isPoked = false
  }

  let intake: Gate<Intake>
  let ledger: Gate<Ledger>
  let keeperGate: Gate<KeeperWishes>
  let writer: QueueWriter
  let keeper: QueueKeeper
  let reader: QueueReader
  let roomFlag = Atomic<Bool>(true)
  let fullFlags = Atomic<Int>(0)
  let counters = QueueCounters()
  private let threads = Lock<[QueueThread]>([])
  private let isClosed = Atomic<Bool>(false)
  let recovery: RecoveryReport

  /// Sync times in microseconds.
  public var syncMicroseconds: Histogram { counters.syncMicroseconds }

  /// Opens the queue in `folder`, which is made where it does not exist.
  ///
  /// - Throws: What an operator must do something about. Damage is not among it: that is set aside, counted and logged.
  public convenience init(
    folder: String, settings: QueueSettings, fileSystem: any FileSystem = RealFileSystem()
  ) throws(QueueOpenError) {
    try self.init(folder: folder, settings: settings, fileSystem: fileSystem, runsThreads: true)
  }

  package init(
    folder: String, settings: QueueSettings, fileSystem: any FileSystem, runsThreads: Bool,
    faults: QueueFaults = QueueFaults()
  ) throws(QueueOpenError) {
    self.folder = folder
    self.settings = settings
    self.fileSystem = fileSystem
    let quarter = settings.maxBytes > 0 ? max(settings.maxBytes / 4, 4096) : Int.max
    segmentCapacity = Format.aligned(max(4096, min(settings.segmentBytes, quarter, Format.blockLimitBytes)))
    let opened = try Recovery.open(
      folder: folder, settings: settings, fileSystem: fileSystem, capacity: segmentCapacity, faults: faults)
    fileLock = Lock(opened.lock)
    recovery = opened.report
    intake = Gate(Intake())
    ledger = Gate(opened.ledger)
    keeperGate = Gate(KeeperWishes())
    writer = QueueWriter(nextNumber: opened.nextNumber, previous: opened.previous, settings: settings, faults: faults)
    keeper = QueueKeeper(file: opened.checkpointFile, checkpoint: opened.checkpoint, faults: faults)
    reader = QueueReader(keys: settings.keys, start: opened.start, faults: faults)
    settings.quota?.add(opened.ledger.usedBytes)
    keeper.removeSurplus(of: self)
    if runsThreads { start() }
  }

  deinit { close() }

  private func start() {
    let name = settings.name.isEmpty ? "queue" : settings.name
    threads.withLock {
      // The threads hold the queue weakly between steps; a queue that is dropped without `close` ends them.
      $0.append(QueueThread("w:" + name, { [writer, intake] in writer.run(intake) { [weak self] in self } }))
      $0.append(QueueThread("k:" + name, { [keeper, keeperGate] in keeper.run(keeperGate) { [weak self] in self } }))
    }
  }

  // MARK: Appending

  public var hasRoom: Bool { roomFlag.load(ordering: .relaxed) }

  /// The largest batch that this queue can ever hold.
  var batchLimitBytes: Int {
    settings.maxBytes > 0 ? min(settings.maxBytes, Format.blockLimitBytes / 2) : Format.blockLimitBytes / 2
  }

  public func append(_ batch: RecordBatch, completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void) {
    let count = batch.count
    if count == 0 { return completion(.success(())) }
    let bytes = batch.ends[count - 1]
    guard bytes <= batchLimitBytes else { return completion(.failure(.tooLarge(limitBytes: batchLimitBytes))) }
    let taken = intake.update { intake -> Bool in
      if intake.isClosed { return false }
      if bytes <= QueueSettings.partBytes {
        intake.parts.append(PendingPart(batch: batch, records: 0..<count, byteCount: bytes, completion: completion))
      } else {
        intake.parts.append(contentsOf: DiskQueue.parts(of: batch, completion))
      }
      intake.bytes += bytes
      if intake.bytes > settings.backlogBytes { roomFlag.store(false, ordering: .relaxed) }
      return true
    }
    if !taken { completion(.failure(.closed)) }
  }

  /// Cuts a giant batch, so that no block needs more memory than a part and its longest record.
  private static func parts(
    of batch: RecordBatch, _ completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void
  ) -> [PendingPart] {
    var parts: [PendingPart] = []
    var first = 0
    var start = 0
    let ends = batch.ends
    for i in 0..<batch.count {
      let isLast = i == batch.count - 1
      if isLast || ends[i + 1] - start > QueueSettings.partBytes {
        parts.append(
          PendingPart(
            batch: batch, records: first..<i + 1, byteCount: ends[i] - start, completion: isLast ? completion : nil))
        first = i + 1
        start = ends[i]
      }
    }
    return parts
  }

  public func withdraw(_ batch: RecordBatch) -> Bool {
    intake.update { intake in
      // A giant batch whose first part is gone is being written.
      guard intake.parts.contains(where: { $0.batch === batch && $0.records.lowerBound == 0 }) else { return false }
      for part in intake.parts where part.batch === batch { intake.bytes -= part.byteCount }
      intake.parts.removeAll { $0.batch === batch }
      intake.isPoked = true
      return true
    }
  }

  // MARK: Releasing

  func finish(_ contents: QueueBatch.Contents) {
    let news = ledger.update { ledger -> (released: Int, isSegmentDone: Bool) in
      ledger.finish(contents.ticket)
    }
    guard news.released > 0 else { return }
    counters.released.add(news.released)
    if fullFlags.load(ordering: .relaxed) != 0 { intake.update { $0.isPoked = true } }
    keeper.wish(news.isSegmentDone, keeperGate)
  }

  func takeBack(_ contents: QueueBatch.Contents) {
    ledger.update { ledger in
      if !ledger.isClosed { ledger.returned.append(contents) }
    }
  }

  /// Lets the keeper remove kept segments that have grown too old. Called now and then by whoever owns the queue.
  public func tidy() { keeper.wish(true, keeperGate) }

  public var isDrained: Bool {
    intake.withLock { $0.parts.isEmpty } && writer.isIdle && ledger.withLock { $0.unreleased == 0 }
  }

  // MARK: Closing

  public func close() {
    if isClosed.exchange(true, ordering: .acquiringAndReleasing) { return }
    intake.update { $0.isClosed = true }
    let running = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    if running.isEmpty {
      writer.finish(self)
    } else {
      running.first?.join()
      writer.finish(self)
    }
    keeperGate.update { $0.stops = true }
    running.dropFirst().forEach { $0.join() }
    ledger.update { $0.isClosed = true }
    keeper.checkpoint(self, isClean: true, syncs: true)
    settings.quota?.add(-ledger.withLock { $0.usedBytes })
    fileLock.withLock { $0 = nil }
  }

  // MARK: Steps, for tests that run without threads

  /// Writes one group. The result says whether something is left to do.
  @discardableResult
  package func writeStep() -> WriteResult { writer.step(self) }
  /// Removes what is released and writes the checkpoint.
  package func keepStep(syncs: Bool = false) { keeper.step(self, isDue: true, syncs: syncs) }
  /// Fills 1 MiB of a spare; false when there is nothing to fill.
  package func spareStep() -> Bool { keeper.fillSpare(self) }

  public var statistics: QueueStatistics {
    var figures = QueueStatistics()
    figures.isPersisted = true
    figures.folder = folder
    figures.maxBytes = settings.maxBytes
    figures.maxEvents = settings.maxEvents
    intake.withLock {
      figures.waitingBytes = $0.bytes
      figures.waitingBatches = $0.parts.count
    }
    ledger.withLock { ledger in
      figures.events = ledger.unreleased
      figures.unreadEvents = ledger.unread
      figures.batchesInFlight = ledger.outstanding.count
      figures.bytes = ledger.usedBytes
      figures.retainedBytes = ledger.retainedBytes
      figures.segments = ledger.segments.count
      figures.oldestArrivalNs = ledger.unreleased == 0 ? 0 : ledger.oldestArrivalNs
    }
    figures.freeBytes = writer.freeBytes.value
    figures.appendedEvents = counters.appended.value
    figures.appendedBytes = counters.appendedBytes.value
    figures.releasedEvents = counters.released.value
    figures.syncs = counters.syncs.value
    figures.failedSyncs = counters.failedSyncs.value
    figures.recoveredEvents = recovery.events
    figures.damagedEvents = counters.damagedEvents.value + recovery.lostEvents
    figures.damagedPlaces = counters.damagedPlaces.value + recovery.damagedSegments
    figures.fullReasons = QueueFullReasons(rawValue: fullFlags.load(ordering: .relaxed))
    return figures
  }
}

/// Deliberate defects, with which tests see that they would be noticed.
package struct QueueFaults: Sendable {
  package var skipsSync = false
  package var checkpointsUnreleased = false
  package var checkpointsBeforeData = false
  package var ignoresChecksums = false
  package var completesBeforeSync = false
  package init() {}
}

final class QueueCounters: Sendable {
  let appended = Counter()
  let appendedBytes = Counter()
  let released = Counter()
  let syncs = Counter()
  let failedSyncs = Counter()
  let damagedEvents = Counter()
  let damagedPlaces = Counter()
  let syncMicroseconds = Histogram()
}

/// A thread of the queue's own.
final class QueueThread: @unchecked Sendable {  // unchecked: `thread` is written before anybody else has the object
  private var thread = pthread_t()
  private let isStarted: Bool

  init(_ name: String, _ body: @escaping @Sendable () -> Void) {
    final class Start {
      let name: String; let body: @Sendable () -> Void
      init(_ name: String, _ body: @escaping @Sendable () -> Void) { self.name = name; self.body = body }
    }
    let context = Unmanaged.passRetained(Start(name, body)).toOpaque()
    isStarted =
      pthread_create(
        &thread, nil,
        { context in
          guard let context else { return nil }
          let start = Unmanaged<Start>.fromOpaque(context).takeRetainedValue()
          nameThread(start.name)
          start.body()
          return nil
        }, context) == 0
    if !isStarted { Unmanaged<Start>.fromOpaque(context).release() }
  }

  func join() {
    guard isStarted else { return }
    if pthread_equal(thread, pthread_self()) != 0 { pthread_detach(thread) } else { pthread_join(thread, nil) }
  }
}
