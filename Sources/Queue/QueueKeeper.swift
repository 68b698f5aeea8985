//  The keeping side of the persisted queue: checkpoints, the end of released segments, spares for coming ones.

internal import Codecs
internal import Diagnostics
internal import Glibc
internal import Synchronization

/// What the keeper thread is asked for.
struct KeeperWishes {
  var isCheckpointWanted = false
  var isSegmentDone = false
  var stops = false
}

/// Belongs to the keeper thread, but for what is atomic; to the closing thread once that one has ended.
final class QueueKeeper: @unchecked Sendable {  // unchecked: see above
  private var file: (any QueueFile)?
  private var last: Checkpoint
  private let faults: QueueFaults
  private var writtenAt = Instant.now
  private let isWished = Atomic<Bool>(false)
  private var spare: (path: String, file: any QueueFile, count: Int)?
  private var spareNumber = 0

  /// Spares that are kept at most; one is used while the next comes free.
  private static let spareLimit = 2
  private static let stepBytes = 1 << 20

  init(file: (any QueueFile)?, checkpoint: Checkpoint, faults: QueueFaults) {
    self.file = file
    last = checkpoint
    self.faults = faults
  }

  /// Something was released; `isSegmentDone`: so much that a segment can go. Any thread.
  func wish(_ isSegmentDone: Bool, _ gate: Gate<KeeperWishes>) {
    // Only the first wish since the last step has to wake anybody.
    if isWished.exchange(true, ordering: .acquiringAndReleasing), !isSegmentDone { return }
    gate.update {
      $0.isCheckpointWanted = true
      if isSegmentDone { $0.isSegmentDone = true }
    }
  }

  func run(_ gate: Gate<KeeperWishes>, _ queue: () -> DiskQueue?) {
    var interval = Duration.milliseconds(500)
    var fills = false
    while true {
      let due = writtenAt + interval
      // While zeros are being written the pause is short; without wishes there is no end to it.
      let wishes = gate.wait(until: fills ? Instant.now + .milliseconds(5) : nil) { wishes -> KeeperWishes? in
        wishes.stops || wishes.isSegmentDone || wishes.isCheckpointWanted ? wishes : nil
      }
      if wishes?.stops == true { return }
      if let wishes, !wishes.isSegmentDone, Instant.now < due {
        let stops = gate.wait(until: due) { $0.stops || $0.isSegmentDone ? $0.stops : nil }
        if stops == true { return }
      }
      guard let queue = queue() else { return }
      interval = queue.settings.checkpointInterval
      if wishes != nil {
        isWished.store(false, ordering: .releasing)
        let now = gate.withLock { wishes in
          defer {
            wishes.isCheckpointWanted = false
            wishes.isSegmentDone = false
          }
          return wishes
        }
        if now.stops { return }
        step(queue, isDue: now.isCheckpointWanted, syncs: false)
      }
      fills = queue.writer.isIdle ? fillSpare(queue) : wantsSpare(queue)
    }
  }

  func step(_ queue: DiskQueue, isDue: Bool, syncs: Bool) {
    // The place to go on from must be lasting before what lies behind it goes away.
    if queue.ledger.withLock({ $0.isFirstSegmentDone }) {
      checkpoint(queue, isClean: false, syncs: true)
      let released = queue.ledger.withLock { $0.takeReleased() }
      let bytes = released.reduce(0) { $0 + $1.end }
      queue.settings.quota?.add(-bytes)
      retain(released, queue)
      if queue.fullFlags.load(ordering: .relaxed) != 0 { queue.intake.update { $0.isPoked = true } }
    }
    removeSurplus(of: queue)
    if isDue { checkpoint(queue, isClean: false, syncs: syncs) }
  }

  /// Writes the checkpoint where it says something new.
  func checkpoint(_ queue: DiskQueue, isClean: Bool, syncs: Bool) {
    var next = queue.ledger.withLock { ledger in
      Checkpoint(
        generation: 0, released: ledger.released, releasedOffset: UInt64(ledger.releasedOffset),
        // What an earlier life may have handed out counts as well.
        dispatched: max(ledger.dispatched, ledger.recoveredBefore), synced: ledger.synced,
        syncedOffset: UInt64(ledger.syncedOffset), isClean: isClean)
    }
    if faults.checkpointsUnreleased {
      next.released = next.dispatched
      next.releasedOffset = 0
    }
    next.generation = last.generation
    if next == last, !syncs { return }
    next.generation += 1
    writtenAt = Instant.now
    do {
      if file == nil { file = try queue.fileSystem.open(queue.folder + "/checkpoint", .create) }
      guard let file else { return }
      try file.writeFully(next.bytes(), at: Checkpoint.offset(next.generation))
      last = next
      if syncs { try file.sync() }
    } catch {
      Log.warn(
        "queue.checkpoint-failed",
        "The queue's checkpoint could not be written; after a crash more events than usual would be delivered again.",
        ["queue": .text(queue.settings.name), "folder": .text(queue.folder), "reason": .text(error.description)])
    }
  }

  // MARK: Released segments

  private func retain(_ released: [Segment], _ queue: DiskQueue) {
    let now = WallClock.ns
    queue.ledger.withLock { ledger in
      for segment in released {
        segment.releasedNs = now
        segment.file = nil
        ledger.retained.append(segment)
        ledger.retainedBytes += segment.end
      }
    }
  }

  /// Disposes of retained segments that are too many or too old, and of all while the disk is nearly full.
  func removeSurplus(of queue: DiskQueue) {
    let now = WallClock.ns
    let settings = queue.settings
    if queue.ledger.withLock({ $0.retained.isEmpty }) { return }
    // Nobody's new events wait for the sake of old ones.
    let isLow = isDiskLow(queue)
    let surplus = queue.ledger.withLock { ledger -> [Segment] in
      var surplus: [Segment] = []
      while let first = ledger.retained.first {
        let isKept = settings.retainBytes > 0 || settings.retainAge > .zero
        let isTooMuch = settings.retainBytes > 0 && ledger.retainedBytes > settings.retainBytes
        let isTooOld = settings.retainAge > .zero && now - first.releasedNs > settings.retainAge.ns
        guard !isKept || isTooMuch || isTooOld || isLow else { break }
        ledger.retained.removeFirst()
        ledger.retainedBytes -= first.end
        surplus.append(first)
      }
      return surplus
    }
    for segment in surplus { dispose(segment, queue) }
  }

  private func dispose(_ segment: Segment, _ queue: DiskQueue) {
    let spares = queue.ledger.withLock { $0.spares }
    // A file's old bytes stay in it for a while: they must not be less secret than the new ones.
    let isAsSecret = segment.header.keyId == (queue.settings.keys.first?.id ?? 0)
    let isGood =
      !segment.isSuspect && isAsSecret && segment.end >= queue.segmentCapacity / 2
      && segment.end <= queue.segmentCapacity
    do {
      if isGood, spares.count < QueueKeeper.spareLimit, !isDiskLow(queue) {
        let path = sparePath(queue)
        try queue.fileSystem.rename(segment.path, path)
        // The old name must be gone before the file gets a new life, or a crash could bring both together.
        try queue.fileSystem.syncFolder(queue.folder)
        queue.ledger.withLock { $0.spares.append(path) }
      } else {
        try queue.fileSystem.remove(segment.path)
      }
    } catch {
      Log.warn(
        "queue.remove-failed",
        "A finished segment could not be removed; it takes up space and is removed at the next start.",
        ["queue": .text(queue.settings.name), "file": .text(segment.path), "reason": .text(error.description)])
    }
  }

  private func isDiskLow(_ queue: DiskQueue) -> Bool {
    queue.settings.minFreeBytes > 0
      && ((try? queue.fileSystem.freeBytes(queue.folder)) ?? 0) < queue.settings.minFreeBytes + queue.segmentCapacity
  }

  private func sparePath(_ queue: DiskQueue) -> String {
    let taken = queue.ledger.withLock { $0.spares }
    while true {
      spareNumber = spareNumber % 9 + 1
      let path = "\(queue.folder)/spare-\(spareNumber).seg"
      if !taken.contains(path), spare?.path != path { return path }
    }
  }

  // MARK: Spares

  /// A spare is made only once there is use for it: an idle daemon writes no zeros.
  private func wantsSpare(_ queue: DiskQueue) -> Bool {
    queue.settings.segmentBytes >= QueueKeeper.stepBytes
      && queue.ledger.withLock { ledger in
        ledger.spares.isEmpty
          && (ledger.segments.last.map { !$0.isSealed && $0.end > queue.segmentCapacity / 4 } ?? false)
      }
  }

  /// Writes 1 MiB of zeros to the spare in the making.
  ///
  /// - Returns: True where more is to be done.
  func fillSpare(_ queue: DiskQueue) -> Bool {
    guard wantsSpare(queue), !isDiskLow(queue) else { return false }
    do {
      if spare == nil {
        let path = sparePath(queue)
        spare = (path, try queue.fileSystem.open(path, .create), 0)
      }
      guard var filling = spare else { return false }
      let count = min(QueueKeeper.stepBytes, queue.segmentCapacity - filling.count)
      try filling.file.writeFully([UInt8](repeating: 0, count: count), at: filling.count)
      // Step by step, so that the writer's own syncs never wait for a whole segment of zeros.
      try filling.file.sync()
      filling.count += count
      spare = filling
      if filling.count < queue.segmentCapacity { return true }
      spare = nil
      queue.ledger.withLock { $0.spares.append(filling.path) }
    } catch {
      // Without a spare the next segment is a plain append.
      if let path = spare?.path { try? queue.fileSystem.remove(path) }
      spare = nil
    }
    return false
  }
}
