//  The writing side of the persisted queue: groups of waiting batches become blocks, one sync makes a group lasting.
//
//  A lonely batch is written at once. While the disk is busy with it the next ones gather, so groups grow with the load
//  and the number of syncs does not.

internal import Codecs
internal import Diagnostics
internal import Glibc
internal import Records
internal import Synchronization

package enum WriteResult: Equatable, Sendable {
  case idle
  case wrote
  /// Something waits and cannot be written now; `fullReasons` say why.
  case blocked
}

/// Belongs to the writer thread, but for what is atomic.
final class QueueWriter: @unchecked Sendable {  // unchecked: see above
  /// The segment that grows.
  private struct Active {
    let segment: Segment
    let file: any QueueFile
    let cipher: BlockCipher?
    /// Nothing of it is on the disk for sure, not even its name.
    var isNew = true
    /// Ends of what is written, which in `sync` is also on the disk.
    var end = Format.segmentHeaderBytes
    var count: UInt32 = 0
  }

  private let settings: QueueSettings
  private let faults: QueueFaults
  private let compressor: BlockCompressor?
  private var active: Active?
  private var nextNumber: UInt64
  /// The last segment that holds records, for its successor's header.
  private var previous: (number: UInt64, end: Int, count: UInt32)
  /// The group that is being written: blocks that have no lasting place yet, then batches without a block.
  private var drafts: [BlockDraft] = []
  private var waiting: [PendingPart] = []
  private var unsyncedSince: Instant?
  private var freeCheckedAt: Instant?
  private var bytesSinceFreeCheck = 0
  private let busy = Atomic<Bool>(false)
  let freeBytes = Gauge()

  init(
    nextNumber: UInt64, previous: (number: UInt64, end: Int, count: UInt32), settings: QueueSettings,
    faults: QueueFaults
  ) {
    self.nextNumber = nextNumber
    self.previous = previous
    self.settings = settings
    self.faults = faults
    compressor = settings.compression == .none ? nil : BlockCompressor(settings.compression)
  }

  /// True when no group is being written.
  var isIdle: Bool { !busy.load(ordering: .acquiring) }

  // MARK: The thread

  func run(_ intake: Gate<DiskQueue.Intake>, _ queue: () -> DiskQueue?) {
    var isBlocked = false
    while true {
      var deadline = isBlocked ? Instant.now + .milliseconds(500) : nil
      if let syncAt = syncDue { deadline = deadline.map { min($0, syncAt) } ?? syncAt }
      let goesOn = intake.wait(until: deadline) { intake -> Bool? in
        if intake.isClosed { return false }
        if isBlocked, !intake.isPoked { return nil }
        return intake.parts.isEmpty && !isBlocked ? nil : true
      }
      guard goesOn != false, let queue = queue() else { return }
      if let due = syncDue, due <= Instant.now { syncLate(queue) }
      isBlocked = step(queue) == .blocked
    }
  }

  private var syncDue: Instant? {
    guard let unsyncedSince, case .interval(let interval) = settings.durability else { return nil }
    return unsyncedSince + interval
  }

  /// Writes what waits, refuses what cannot be written, and ends the segment. On the closing thread.
  func finish(_ queue: DiskQueue) {
    while step(queue) == .wrote {}
    syncLate(queue)
    let refused = queue.intake.withLock { intake -> [PendingPart] in
      defer {
        intake.parts = []
        intake.bytes = 0
      }
      return intake.parts
    }
    let all = drafts.flatMap(\.parts) + waiting + refused
    drafts = []
    waiting = []
    for part in all { part.completion?(.failure(.closed)) }
    busy.store(false, ordering: .releasing)
    seal(queue)
  }

  // MARK: One group

  func step(_ queue: DiskQueue) -> WriteResult {
    if drafts.isEmpty, waiting.isEmpty {
      let reasons = takeGroup(queue)
      show(reasons, queue)
      if waiting.isEmpty { return reasons.isEmpty ? .idle : .blocked }
    }
    let trouble = commit(queue)
    if trouble.isEmpty { busy.store(false, ordering: .releasing) }
    show(trouble, queue)
    return trouble.isEmpty ? .wrote : .blocked
  }

  private func show(_ reasons: QueueFullReasons, _ queue: DiskQueue) {
    let before = QueueFullReasons(rawValue: queue.fullFlags.exchange(reasons.rawValue, ordering: .relaxed))
    let hasRoom = reasons.isEmpty && queue.intake.withLock { $0.bytes <= settings.backlogBytes }
    queue.roomFlag.store(hasRoom, ordering: .relaxed)
    guard before != reasons else { return }
    if reasons.isEmpty {
      Log.info("queue.room", "The queue takes events again.", ["queue": .text(settings.name)])
    } else {
      Log.warn(
        "queue.full", "The queue is full; inputs wait until there is room. Nothing is lost.",
        ["queue": .text(settings.name), "folder": .text(queue.folder), "reasons": .text(reasons.description)])
    }
  }

  /// Takes as many waiting batches as one sync should serve and as there is room for.
  private func takeGroup(_ queue: DiskQueue) -> QueueFullReasons {
    // A look without the ledger, which readers use.
    if queue.intake.withLock({
      $0.isPoked = false; return $0.parts.isEmpty
    }) {
      return []
    }
    let (used, unreleased, canSeal) = queue.ledger.withLock { ledger in
      (ledger.usedBytes, ledger.unreleased, ledger.unreleased == 0 && !ledger.segments.isEmpty)
    }
    var room = settings.maxBytes > 0 ? settings.maxBytes - used : Int.max
    if let quota = settings.quota { room = min(room, quota.limitBytes - quota.usedBytes) }
    let isDiskLow = !checkFree(queue)
    var reasons: QueueFullReasons = isDiskLow ? .minFree : []
    // Kept segments make room.
    if isDiskLow { queue.tidy() }
    if !isDiskLow {
      queue.intake.withLock { intake in
        var bytes = 0
        var events = 0
        var count = 0
        for part in intake.parts {
          let cost = DiskQueue.cost(part)
          if count > 0, bytes + cost > QueueSettings.groupBytes { break }
          if settings.maxEvents > 0, unreleased + events > 0,
            unreleased + events + part.records.count > settings.maxEvents
          {
            if count == 0 { reasons.insert(.maxEvents) }
            break
          }
          if bytes + cost > room, used > 0 || count > 0 {
            if count == 0 { reasons.insert(.maxBytes) }
            break
          }
          bytes += cost
          events += part.records.count
          count += 1
        }
        waiting.append(contentsOf: intake.parts.prefix(count))
        intake.parts.removeFirst(count)
        for part in waiting { intake.bytes -= part.byteCount }
        // Said under the lock, so that nobody sees an empty list and an idle writer in between.
        if count > 0 { busy.store(true, ordering: .releasing) }
      }
    }
    // A segment that grows holds its bytes although all of it is released.
    if !reasons.isEmpty, canSeal {
      seal(queue)
      queue.keeper.wish(true, queue.keeperGate)
    }
    return reasons
  }

  /// - Returns: False while less than `min_free` is left on the disk.
  private func checkFree(_ queue: DiskQueue) -> Bool {
    guard settings.minFreeBytes > 0 else { return true }
    let now = Instant.now
    let isLow = freeBytes.value < settings.minFreeBytes
    if let last = freeCheckedAt, bytesSinceFreeCheck < 16 << 20, now - last < .seconds(1), !isLow { return true }
    freeCheckedAt = now
    bytesSinceFreeCheck = 0
    // A disk that does not answer this will answer the write.
    let free = (try? queue.fileSystem.freeBytes(queue.folder)) ?? Int.max
    freeBytes.set(free)
    return free - QueueSettings.groupBytes >= settings.minFreeBytes
  }

  /// Writes the group. What could not be written stays in `drafts` and `waiting` for the next step.
  private func commit(_ queue: DiskQueue) -> QueueFullReasons {
    var failures = 0
    while !drafts.isEmpty || !waiting.isEmpty {
      do {
        try writeRound(queue)
      } catch {
        let isFull = error.code == ENOSPC || error.code == EDQUOT
        if isFull, error.call != "fdatasync", error.call != "fsync" { return .diskFull }
        if !isFull || failures == 0 {
          Log.error(
            "queue.write-failed",
            "The disk refused the queue's bytes; the segment is ended and they are written to a new one.",
            [
              "queue": .text(settings.name), "file": .text(active?.segment.path ?? queue.folder),
              "reason": .text(error.description), "next": "look at the kernel's log for the disk's own words",
            ])
        }
        abandon(queue)
        failures += 1
        if failures >= 3 { return isFull ? .diskFull : .diskError }
      }
    }
    return []
  }

  /// Writes what fits into the active segment, syncs and publishes it.
  private func writeRound(_ queue: DiskQueue) throws(SystemError) {
    if active == nil { active = try begin(queue) }
    guard var active else { return }
    let first = active.end
    let firstIndex = active.count
    var written = 0
    while true {
      if written == drafts.count {
        if waiting.isEmpty { break }
        drafts.append(nextDraft(min(QueueSettings.blockBytes, queue.segmentCapacity - Format.segmentHeaderBytes)))
      }
      let isEmpty = active.count == 0
      let isTooLong = active.end + drafts[written].extentLimit > queue.segmentCapacity
      if !isEmpty, isTooLong || active.count > .max - UInt32(drafts[written].recordCount) - 1 { break }
      let segment = active.segment
      guard
        drafts[written].seal(
          segment: segment.header.identity, seed: segment.seed, offset: active.end, firstIndex: active.count,
          durableEnd: first, compressor: compressor, cipher: active.cipher)
      else { throw SystemError(EIO, call: "encrypt") }
      drafts[written].chunk.segment = segment.number
      let draft = drafts[written]
      if faults.checkpointsBeforeData { checkpointTooEarly(active, draft, queue) }
      if isEmpty {
        let header = segment.header.bytes()
        let chunk = Chunk(byteCount: header.count)
        chunk.base.copyMemory(from: header, byteCount: header.count)
        let bytes = UnsafeRawBufferPointer(start: chunk.base, count: header.count)
        try active.file.writeFully([bytes] + draft.buffers, at: 0)
      } else {
        try active.file.writeFully(draft.buffers, at: active.end)
      }
      if draft.extent >= 1 << 19 { active.file.startWriteback(at: active.end, count: draft.extent) }
      active.end += draft.extent
      active.count += UInt32(draft.recordCount)
      written += 1
    }
    if written > 0 {
      if faults.completesBeforeSync { complete(written) }
      let isLasting = settings.durability == .sync
      if isLasting { try sync(active, queue) }
      publish(active, from: first, firstIndex, written, isLasting: isLasting, queue)
      if isLasting { active.isNew = false }
      self.active = active
      complete(written)
      drafts.removeFirst(written)
    }
    if !drafts.isEmpty || !waiting.isEmpty {
      syncLate(queue)
      seal(queue)
    }
  }

  /// The mistake that tests make on purpose.
  private func checkpointTooEarly(_ active: Active, _ draft: BlockDraft, _ queue: DiskQueue) {
    queue.ledger.withLock {
      $0.synced = Position(segment: active.segment.number, index: active.count + UInt32(draft.recordCount))
      $0.syncedOffset = max(active.end, Format.segmentHeaderBytes) + draft.extent
    }
    queue.keeper.checkpoint(queue, isClean: false, syncs: true)
  }

  private func complete(_ written: Int) {
    for draft in drafts.prefix(written) {
      for part in draft.parts { part.completion?(.success(())) }
    }
  }

  /// Makes a block of the first waiting batches.
  private func nextDraft(_ limit: Int) -> BlockDraft {
    var count = 0
    var bytes = 0
    for part in waiting {
      let cost = DiskQueue.cost(part)
      if count > 0, bytes + cost > limit { break }
      bytes += cost
      count += 1
    }
    let draft = BlockDraft(Array(waiting.prefix(count)))
    waiting.removeFirst(count)
    return draft
  }

  private func sync(_ active: Active, _ queue: DiskQueue) throws(SystemError) {
    if faults.skipsSync { return }
    let start = Instant.now
    do {
      try active.file.sync()
      if active.isNew { try queue.fileSystem.syncFolder(queue.folder) }
    } catch {
      queue.counters.failedSyncs.add()
      throw SystemError(error.code, call: "fdatasync")
    }
    queue.counters.syncs.add()
    queue.counters.syncMicroseconds.record(Int((Instant.now - start).ns / 1000))
  }

  private func publish(
    _ active: Active, from start: Int, _ firstIndex: UInt32, _ written: Int, isLasting: Bool, _ queue: DiskQueue
  ) {
    let segment = active.segment
    let isFirst = firstIndex == 0
    let bytes = active.end - (isFirst ? 0 : start)
    let records = Int(active.count - firstIndex)
    settings.quota?.add(bytes)
    bytesSinceFreeCheck += bytes
    previous = (segment.number, active.end, active.count)
    queue.counters.appended.add(records)
    queue.counters.appendedBytes.add(bytes)
    if !isLasting, unsyncedSince == nil { unsyncedSince = Instant.now }
    let wantsSpare = queue.ledger.update { ledger -> Bool in
      if isFirst { ledger.segments.append(segment) }
      if ledger.unreleased == 0 { ledger.oldestArrivalNs = drafts.first?.runs.first?.arrivalNs ?? 0 }
      segment.end = active.end
      segment.count = active.count
      ledger.usedBytes += bytes
      ledger.unread += records
      ledger.unreleased += records
      if isLasting {
        ledger.synced = Position(segment: segment.number, index: active.count)
        ledger.syncedOffset = active.end
      }
      for draft in drafts.prefix(written) where ledger.cacheBytes + draft.chunk.byteCount <= settings.memoryBytes {
        ledger.cache.append(draft.chunk)
        ledger.cacheBytes += draft.chunk.byteCount
      }
      return ledger.spares.isEmpty
    }
    if wantsSpare, active.end > queue.segmentCapacity / 4 { queue.keeper.wish(false, queue.keeperGate) }
  }

  // MARK: Segments

  private func begin(_ queue: DiskQueue) throws(SystemError) -> Active {
    let number = nextNumber
    let path = queue.folder + "/" + Format.segmentName(number)
    let spare = queue.ledger.withLock { $0.spares.popLast() }
    let file: any QueueFile
    if let spare, (try? queue.fileSystem.rename(spare, path)) != nil {
      file = try queue.fileSystem.open(path, .readWrite)
    } else {
      file = try queue.fileSystem.open(path, .create)
    }
    nextNumber += 1
    let key = settings.keys.first
    let header = SegmentHeader(
      number: number, identity: SegmentIdentity.draw(), createdNs: WallClock.ns, keyId: key?.id ?? 0,
      previous: previous.number, previousEnd: UInt64(previous.end), previousCount: previous.count)
    let segment = Segment(header, path: path, end: 0, count: 0, isSealed: false)
    return Active(segment: segment, file: file, cipher: key?.cipher(salt: header.identity.bytes))
  }

  /// Ends the active segment where it is on disk; the next group begins a new one.
  private func seal(_ queue: DiskQueue) {
    guard let active else { return }
    self.active = nil
    if active.segment.count == 0 {
      // Never listed: nobody may find it, since its successor will name another predecessor.
      try? queue.fileSystem.remove(active.segment.path)
      return
    }
    queue.ledger.update { _ in active.segment.isSealed = true }
    queue.keeper.wish(true, queue.keeperGate)
  }

  /// After a failed write or sync: nothing behind the last good sync counts.
  private func abandon(_ queue: DiskQueue) {
    if let active { queue.ledger.update { _ in active.segment.isSuspect = true } }
    unsyncedSince = nil
    seal(queue)
  }

  /// Makes lasting what `interval` and `os` have only written.
  private func syncLate(_ queue: DiskQueue) {
    guard settings.durability != .sync, unsyncedSince != nil, let active, active.count > 0 else { return }
    unsyncedSince = nil
    do {
      try sync(active, queue)
      self.active?.isNew = false
      queue.ledger.withLock {
        $0.synced = Position(segment: active.segment.number, index: active.count)
        $0.syncedOffset = active.end
      }
    } catch {
      Log.error(
        "queue.sync-failed", "The disk did not confirm queued events; a power loss now could lose the last of them.",
        [
          "queue": .text(settings.name), "file": .text(active.segment.path), "reason": .text(error.description),
          "next": "look at the kernel's log for the disk's own words",
        ])
      abandon(queue)
    }
  }
}

extension DiskQueue {
  /// Upper bound of the bytes that a part adds to its block.
  static func cost(_ part: PendingPart) -> Int {
    part.byteCount + 8 * part.records.count + 192 + part.batch.descriptor.bytes.count
      + (part.batch.context?.bytes.count ?? 0)
  }
}
