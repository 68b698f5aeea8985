//  The reading side of the persisted queue: blocks from memory while readers keep up, else from disk, ahead in windows of
//  1 MiB. Damage is met here, set aside and skipped.

internal import Codecs
public import Diagnostics
internal import Glibc
internal import Records

/// Belongs to whoever holds the ledger's `isReading`.
final class QueueReader: @unchecked Sendable {  // unchecked: see above
  /// Where reading goes on.
  struct Cursor {
    var segment: UInt64
    /// The next block in the segment's file.
    var offset: Int
    /// The next record. Below it everything was read or is lost.
    var index: UInt32
  }

  private var cursor: Cursor
  private let blocks: BlockReader
  private var chunk: Chunk?
  private var blockPlace = 0
  private var recordPlace = 0
  private var payload: UnsafeRawPointer?
  private var failures = 0
  static let windowBytes = 1 << 20

  init(keys: [BlockKey], start: Cursor, faults: QueueFaults) {
    cursor = start
    blocks = BlockReader(keys: keys)
    blocks.ignoresChecksums = faults.ignoresChecksums
  }

  /// What one call brought together.
  struct Harvest {
    var contents = QueueBatch.Contents()
    var lost = 0
    var end = Position(segment: 0, index: 0)
    var endOffset = 0
    /// Nothing more could be read although the ledger knows of records: the disk does not answer.
    var isStuck = false
  }

  func harvest(_ queue: DiskQueue, maxRecords: Int, maxBytes: Int, recoveredBefore: Position) -> Harvest {
    var harvest = Harvest()
    while harvest.contents.payloads.count < maxRecords {
      guard prepareBlock(queue, &harvest), let chunk else { break }
      let block = chunk.blocks[blockPlace]
      let isFull = take(block, chunk, &harvest, maxRecords, maxBytes, recoveredBefore)
      if recordPlace >= block.count { leave(block) }
      if isFull { break }
    }
    harvest.end = Position(segment: cursor.segment, index: cursor.index)
    harvest.endOffset = chunk.map { $0.blocks[blockPlace].offset } ?? cursor.offset
    return harvest
  }

  private func leave(_ block: Block) {
    cursor.offset = block.offset + block.extent
    cursor.index = block.firstIndex + UInt32(block.count)
    blockPlace += 1
    recordPlace = 0
    payload = nil
    if let chunk, blockPlace >= chunk.blocks.count {
      self.chunk = nil
      blockPlace = 0
    }
  }

  /// Copies nothing: the batch gets pointers into the chunk.
  private func take(
    _ block: Block, _ chunk: Chunk, _ harvest: inout Harvest, _ maxRecords: Int, _ maxBytes: Int,
    _ recoveredBefore: Position
  ) -> Bool {
    if harvest.contents.owners.last !== chunk { harvest.contents.owners.append(chunk) }
    var pointer = payload ?? block.payloads
    defer { payload = pointer }
    // The run in which the next record lies.
    var runEnd = 0
    var runPlace = -1
    while runPlace + 1 < block.runs.count, runEnd <= recordPlace {
      runPlace += 1
      runEnd += block.runs[runPlace].count
    }
    // Records from here on were never given to a reader before.
    var boundary = Int.max
    if block.count > 0, cursor.segment == recoveredBefore.segment {
      boundary = Int(recoveredBefore.index) - Int(block.firstIndex)
    } else if cursor.segment > recoveredBefore.segment {
      boundary = 0
    }
    var runStart = harvest.contents.payloads.count
    var firstIdentity = block.identity.index &+ UInt32(truncatingIfNeeded: recordPlace)
    func closeRun() {
      let count = harvest.contents.payloads.count
      if count > runStart, block.runs.indices.contains(runPlace) {
        let run = block.runs[runPlace]
        harvest.contents.runs.append(
          QueueBatch.Run(
            range: runStart..<count, arrivalNs: run.arrivalNs, descriptor: run.descriptor, context: run.context,
            isRecovered: recordPlace <= boundary,
            firstIdentity: RecordIdentity(segment: block.identity.segment, index: firstIdentity)))
      }
      runStart = count
      firstIdentity = block.identity.index &+ UInt32(truncatingIfNeeded: recordPlace)
    }
    var isFull = false
    while recordPlace < block.count {
      if harvest.contents.payloads.count >= maxRecords { isFull = true; break }
      let length = block.length(recordPlace)
      let isSkipped = block.firstIndex + UInt32(recordPlace) < cursor.index || block.damaged.contains(recordPlace)
      if !isSkipped, !harvest.contents.payloads.isEmpty, harvest.contents.byteCount + length > maxBytes {
        isFull = true
        break
      }
      if recordPlace >= runEnd || recordPlace == boundary || isSkipped {
        closeRun()
        while recordPlace >= runEnd, runPlace + 1 < block.runs.count {
          runPlace += 1
          runEnd += block.runs[runPlace].count
        }
      }
      if isSkipped {
        pointer += length
        recordPlace += 1
        closeRun()
        continue
      }
      harvest.contents.payloads.append(UnsafeRawBufferPointer(start: pointer, count: length))
      harvest.contents.byteCount += length
      pointer += length
      recordPlace += 1
      cursor.index = block.firstIndex + UInt32(recordPlace)
    }
    closeRun()
    return isFull
  }

  // MARK: The next block

  private enum Next {
    case nothing
    case cached(Chunk)
    /// Read from disk up to the place where memory, or the segment, goes on.
    case disk(Segment, limit: Int, limitIndex: UInt32)
  }

  /// - Returns: False where nothing more can be read now.
  private func prepareBlock(_ queue: DiskQueue, _ harvest: inout Harvest) -> Bool {
    while true {
      if let chunk {
        let block = chunk.blocks[blockPlace]
        if recordPlace == 0 {
          // Numbers that were passed over were lost with damage; blocks before the start are already released.
          if block.firstIndex > cursor.index {
            harvest.lost += Int(block.firstIndex - cursor.index)
            cursor.index = block.firstIndex
          } else if block.firstIndex + UInt32(block.count) <= cursor.index {
            let index = cursor.index
            leave(block)
            cursor.index = index
            continue
          }
          if !block.damaged.isEmpty { reportDamage(block, queue, &harvest) }
        }
        return true
      }
      switch locate(queue, &harvest) {
      case .nothing: return false
      case .cached(let cached):
        chunk = cached
        blockPlace = 0
        recordPlace = 0
      case .disk(let segment, let limit, let limitIndex):
        guard load(segment, limit, limitIndex, queue, &harvest) else {
          harvest.isStuck = true
          return false
        }
      }
    }
  }

  private func locate(_ queue: DiskQueue, _ harvest: inout Harvest) -> Next {
    var lost = 0
    let next = queue.ledger.withLock { ledger -> Next in
      while let segment = ledger.segment(from: cursor.segment) {
        if segment.number > cursor.segment {
          cursor = Cursor(segment: segment.number, offset: Format.segmentHeaderBytes, index: 0)
        }
        if cursor.offset >= segment.end {
          guard segment.isSealed else { return .nothing }
          if cursor.index < segment.count { lost += Int(segment.count - cursor.index) }
          segment.file = nil
          cursor = Cursor(segment: segment.number + 1, offset: Format.segmentHeaderBytes, index: 0)
          continue
        }
        while let cached = ledger.firstCached, let first = cached.blocks.first {
          let isBehind =
            cached.segment < cursor.segment || (cached.segment == cursor.segment && first.offset < cursor.offset)
          if !isBehind { break }
          ledger.popCache()
        }
        guard let cached = ledger.firstCached, let first = cached.blocks.first, cached.segment == cursor.segment else {
          return .disk(segment, limit: segment.end, limitIndex: segment.count)
        }
        if first.offset == cursor.offset {
          ledger.popCache()
          return .cached(cached)
        }
        return .disk(segment, limit: first.offset, limitIndex: first.firstIndex)
      }
      return .nothing
    }
    harvest.lost += lost
    return next
  }

  /// Reads a window of blocks at the cursor; damaged ones are skipped.
  ///
  /// - Returns: False where the disk does not answer; the caller comes again.
  private func load(
    _ segment: Segment, _ limit: Int, _ limitIndex: UInt32, _ queue: DiskQueue, _ harvest: inout Harvest
  ) -> Bool {
    do throws(SystemError) {
      let file = try open(segment, queue)
      let found = try blocks.window(
        file, segment.header, segment.seed, from: cursor.offset, to: limit, windowBytes: QueueReader.windowBytes)
      failures = 0
      if !found.blocks.isEmpty {
        chunk = found
        blockPlace = 0
        recordPlace = 0
        return true
      }
      let next = try blocks.search(file, segment.seed, from: cursor.offset + Format.alignment, to: limit)
      let nextIndex = next?.header.firstIndex ?? limitIndex
      let end = next?.offset ?? limit
      let lost = nextIndex > cursor.index ? Int(nextIndex - cursor.index) : 0
      report(
        queue, segment, cursor.offset, end - cursor.offset, lost,
        Quarantine.copy(file, cursor.offset, end, segment.path, queue.fileSystem))
      harvest.lost += lost
      cursor.offset = end
      cursor.index = max(cursor.index, nextIndex)
      return true
    } catch {
      return giveUp(segment, error, queue, &harvest)
    }
  }

  private func open(_ segment: Segment, _ queue: DiskQueue) throws(SystemError) -> any QueueFile {
    if let file = segment.file { return file }
    let file = try queue.fileSystem.open(segment.path, .read)
    segment.file = file
    return file
  }

  /// A disk that does not answer is asked a few times; then the segment's rest counts as damaged and its file stays.
  private func giveUp(_ segment: Segment, _ error: SystemError, _ queue: DiskQueue, _ harvest: inout Harvest) -> Bool {
    segment.file = nil
    failures += 1
    if failures < 5, error.code != ENOENT {
      Log.warn(
        "queue.read-failed", "The disk did not give back queued events; the queue tries again.",
        ["queue": .text(queue.settings.name), "file": .text(segment.path), "reason": .text(error.description)])
      return false
    }
    failures = 0
    // A segment that still grows may lose its tail here, but never what comes after.
    let (end, count) = queue.ledger.withLock { _ in
      segment.isSuspect = true
      return (segment.end, segment.count)
    }
    let lost = count > cursor.index ? Int(count - cursor.index) : 0
    report(queue, segment, cursor.offset, end - cursor.offset, lost, nil)
    harvest.lost += lost
    cursor.offset = end
    cursor.index = max(cursor.index, count)
    return true
  }

  private func reportDamage(_ block: Block, _ queue: DiskQueue, _ harvest: inout Harvest) {
    guard let segment = queue.ledger.withLock({ $0.segment(from: cursor.segment) }) else { return }
    let lost = block.damaged.count { block.firstIndex + UInt32($0) >= cursor.index }
    if lost == 0 { return }
    harvest.lost += lost
    let file = try? open(segment, queue)
    let kept = file.flatMap {
      Quarantine.copy($0, block.offset, block.offset + block.extent, segment.path, queue.fileSystem)
    }
    report(queue, segment, block.offset, block.extent, lost, kept)
  }

  private func report(_ queue: DiskQueue, _ segment: Segment, _ offset: Int, _ bytes: Int, _ lost: Int, _ kept: String?)
  {
    queue.counters.damagedPlaces.add()
    queue.counters.damagedEvents.add(lost)
    Log.error(
      "queue.segment-damaged", "A queue segment is damaged; the events there are lost, those beside them are not.",
      [
        "queue": .text(queue.settings.name), "file": .text(segment.path), "offset": .number(offset),
        "bytes": .number(bytes),
        "events_lost": .number(lost), "kept_in": .text(kept ?? "nowhere: the bytes could not be read or written"),
        "next": "`sluice queue check` shows the rest of the queue; check the disk",
      ])
  }
}

extension DiskQueue {
  public func read(maxRecords: Int, maxBytes: Int, until deadline: Instant, gather: Duration) -> QueueBatch? {
    let maxRecords = max(1, maxRecords)
    while true {
      guard let claim = claim(maxRecords, until: deadline, gather: gather) else { return nil }
      switch claim {
      case .returned(let contents): return QueueBatch(contents, of: self)
      case .first, .closed: return nil
      case .fetch(let recoveredBefore):
        var harvest = reader.harvest(
          self, maxRecords: maxRecords, maxBytes: maxBytes, recoveredBefore: recoveredBefore)
        let news = ledger.update { $0.book(&harvest) }
        if news.isSegmentDone { keeper.wish(true, keeperGate) }
        if !harvest.contents.payloads.isEmpty { return QueueBatch(harvest.contents, of: self) }
        if harvest.isStuck {
          // Nobody releases or appends to wake us; the disk gets a moment.
          _ = ledger.wait(until: min(deadline, Instant.now + .milliseconds(100))) { $0.isClosed ? true : nil }
        }
        if Instant.now >= deadline { return nil }
      }
    }
  }

  private enum Claim {
    case returned(QueueBatch.Contents)
    case fetch(Position)
    /// The first records are there and others may follow.
    case first
    case closed
  }

  /// Waits for something to read and for the turn to fetch it.
  private func claim(_ maxRecords: Int, until deadline: Instant, gather: Duration) -> Claim? {
    var gathersUntil: Instant?
    while true {
      let now = Instant.now
      let limit = gathersUntil.map { $0 > now ? min($0, deadline) : deadline } ?? deadline
      let claim = ledger.wait(until: limit) { ledger -> Claim? in
        if ledger.isClosed { return .closed }
        if ledger.isReading { return nil }
        if !ledger.returned.isEmpty { return .returned(ledger.returned.removeFirst()) }
        if ledger.unread == 0 { return nil }
        if gather.ns > 0, maxRecords > ledger.unread {
          guard let gathersUntil else { return .first }
          if Instant.now < min(gathersUntil, deadline) { return nil }
        }
        ledger.isReading = true
        return .fetch(ledger.recoveredBefore)
      }
      switch claim {
      case .returned, .fetch: return claim
      case .closed: return nil
      case .first: gathersUntil = Instant.now + gather
      case nil: if Instant.now >= deadline { return nil }
      }
    }
  }
}

extension Ledger {
  /// Enters what a reader took.
  mutating func book(_ harvest: inout QueueReader.Harvest) -> (released: Int, isSegmentDone: Bool) {
    isReading = false
    let count = harvest.contents.payloads.count
    unread = max(0, unread - count - harvest.lost)
    unreleased = max(0, unreleased - harvest.lost)
    dispatched = harvest.end
    harvest.contents.ticket = firstTicket + outstanding.count
    if count == 0, harvest.lost == 0 { return (0, false) }
    outstanding.append(
      Outstanding(
        isDone: count == 0, count: count, end: harvest.end, endOffset: harvest.endOffset,
        arrivalNs: harvest.contents.runs.first?.arrivalNs ?? oldestArrivalNs))
    if outstanding.count == 1 { oldestArrivalNs = outstanding[0].arrivalNs }
    // Damage alone is released at once.
    return count == 0 ? finish(harvest.contents.ticket) : (0, false)
  }
}

enum Quarantine {
  /// Bytes that are kept of one damaged place.
  static let limitBytes = 64 << 20

  /// Whether the bytes of a damaged place lie in one of the files `setAside`, as they stand in the segment now.
  static func holds(
    _ source: String, _ offset: Int, _ count: Int, _ setAside: [String], _ fileSystem: any FileSystem
  ) -> Bool {
    let path = "\(source.dropLast(4))-\(offset).bad"
    let count = min(count, limitBytes)
    guard count > 0, setAside.contains(where: { path.hasSuffix("/" + $0) }),
      let segment = try? fileSystem.open(source, .read), let kept = try? fileSystem.open(path, .read),
      (try? kept.size()) == count
    else { return false }
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 << 20, alignment: 16)
    defer { room.deallocate() }
    var at = 0
    while at < count {
      let size = min(1 << 20, count - at)
      let now = UnsafeMutableRawBufferPointer(rebasing: room[..<size])
      let then = UnsafeMutableRawBufferPointer(rebasing: room[size..<2 * size])
      guard (try? segment.readFully(into: now, at: offset + at)) == size,
        (try? kept.readFully(into: then, at: at)) == size,
        now.elementsEqual(then)
      else { return false }
      at += size
    }
    return true
  }

  /// Copies a damaged place to a file of its own, in place of an earlier copy of it; nil where that fails.
  static func copy(_ file: any QueueFile, _ offset: Int, _ end: Int, _ source: String, _ fileSystem: any FileSystem)
    -> String?
  {
    let path = "\(source.dropLast(4))-\(offset).bad"
    let count = min(end - offset, limitBytes)
    guard count > 0 else { return nil }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
    defer { buffer.deallocate() }
    do {
      let read = try file.readFully(into: buffer, at: offset)
      let copy = try fileSystem.open(path, .create)
      try copy.writeFully([UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<read])], at: 0)
      try copy.sync()
      return path
    } catch {
      return nil
    }
  }
}
