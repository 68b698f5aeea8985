//  Opening a queue: which segments there are, where they end, and from where reading goes on.
//
//  Nothing is changed until all of it is understood, so a crash in the middle leaves the next start the same picture.
//  Of the segments only the headers are read, and of the last one what the checkpoint does not vouch for.

internal import Codecs
internal import Diagnostics
internal import Glibc

/// What opening found.
struct RecoveryReport: Sendable {
  var events = 0
  /// Events known to be lost with segments whose header is damaged.
  var lostEvents = 0
  var damagedSegments = 0
  /// Bytes of unfinished writes that were cut.
  var cutBytes = 0
}

struct Recovery {
  struct Opened {
    var lock: any FileLock
    var ledger: Ledger
    var nextNumber: UInt64
    var previous: (number: UInt64, end: Int, count: UInt32)
    var checkpointFile: (any QueueFile)?
    var checkpoint: Checkpoint
    var start: QueueReader.Cursor
    var report: RecoveryReport
  }

  let folder: String
  let settings: QueueSettings
  let fileSystem: any FileSystem
  let capacity: Int
  private let faults: QueueFaults
  private var report = RecoveryReport()
  private var spares: [String] = []
  private var highest: UInt64 = 0

  static func open(
    folder: String, settings: QueueSettings, fileSystem: any FileSystem, capacity: Int, faults: QueueFaults
  ) throws(QueueOpenError) -> Opened {
    var recovery = Recovery(
      folder: folder, settings: settings, fileSystem: fileSystem, capacity: capacity, faults: faults)
    let lock: any FileLock
    do {
      try fileSystem.createFolder(folder)
      lock = try fileSystem.lock(folder + "/lock")
    } catch {
      if error.code == EWOULDBLOCK { throw .locked(folder: folder) }
      throw .disk(error, path: folder)
    }
    return try recovery.run(lock)
  }

  private init(
    folder: String, settings: QueueSettings, fileSystem: any FileSystem, capacity: Int, faults: QueueFaults
  ) {
    self.faults = faults
    self.folder = folder
    self.settings = settings
    self.fileSystem = fileSystem
    self.capacity = capacity
  }

  private mutating func run(_ lock: any FileLock) throws(QueueOpenError) -> Opened {
    let names = try attempt(folder) { () throws(SystemError) in try fileSystem.list(folder) }
    let numbers = sort(names)
    let (file, checkpoint) = readCheckpoint(exists: names.contains("checkpoint"), hasSegments: !numbers.isEmpty)
    var segments = dropVoid(try readHeaders(numbers))
    try findEnds(&segments, checkpoint)
    // What holds nothing can go; its predecessor's end is found again, or written into the next header.
    for segment in segments where segment.count == 0 { takeForReuse(segment.path) }
    segments.removeAll { $0.count == 0 }

    let previous = segments.last.map { ($0.number, $0.end, $0.count) } ?? (0, 0, 0)
    let last = segments.last?.number ?? 0
    var released = checkpoint?.released ?? Position(segment: 0, index: 0)
    if segments.first.map({ $0.number > released.segment }) ?? false {
      released = Position(segment: segments[0].number, index: 0)
    }
    let gone = segments.filter { $0.number < released.segment }
    segments.removeAll { $0.number < released.segment }
    let isExact = checkpoint.map { $0.released == released } ?? false
    var releasedOffset = isExact ? Int(checkpoint?.releasedOffset ?? 0) : 0
    if let first = segments.first, first.number == released.segment, released.index > first.count {
      // Relaxed durability: what was released did not outlive the crash.
      released.index = first.count
      releasedOffset = 0
    }
    let alreadyReleased = segments.first?.number == released.segment ? Int(released.index) : 0
    let unread = segments.reduce(0) { $0 + Int($1.count) } - alreadyReleased
    report.events = unread
    let behindLast = Position(segment: last + 1, index: 0)
    var recoveredBefore = behindLast
    if let checkpoint, checkpoint.isClean { recoveredBefore = min(max(checkpoint.dispatched, released), behindLast) }

    let startOffset = releasedOffset >= Format.segmentHeaderBytes ? releasedOffset : Format.segmentHeaderBytes
    var ledger = Ledger(
      released: released, releasedOffset: releasedOffset, dispatched: released, recoveredBefore: recoveredBefore,
      synced: Position(segment: last, index: segments.last?.count ?? 0), syncedOffset: segments.last?.end ?? 0)
    ledger.segments = segments
    ledger.usedBytes = segments.reduce(0) { $0 + $1.end }
    ledger.unread = unread
    ledger.unreleased = unread
    ledger.spares = spares
    ledger.retained = gone
    ledger.retainedBytes = gone.reduce(0) { $0 + $1.end }
    for segment in gone { segment.releasedNs = segment.header.createdNs }
    ledger.oldestArrivalNs = oldestArrival(segments.first, startOffset)
    var opened = Opened(
      lock: lock, ledger: ledger, nextNumber: max(highest, checkpoint?.synced.segment ?? 0, released.segment) + 1,
      previous: previous, checkpointFile: file, checkpoint: checkpoint ?? Checkpoint(),
      start: QueueReader.Cursor(segment: released.segment, offset: startOffset, index: released.index), report: report)
    try markOpen(&opened, hadCheckpoint: checkpoint != nil)
    if unread > 0 || report.cutBytes > 0 {
      Log.info(
        "queue.recovered", "The queue holds events from before.",
        [
          "queue": .text(settings.name), "folder": .text(folder), "events": .number(unread),
          "unfinished_bytes_cut": .number(report.cutBytes),
        ])
    }
    return opened
  }

  private func attempt<Result>(
    _ path: String, _ body: () throws(SystemError) -> Result
  ) throws(QueueOpenError) -> Result {
    do { return try body() } catch { throw .disk(error, path: path) }
  }

  // MARK: Names and headers

  private mutating func sort(_ names: [String]) -> [UInt64] {
    var numbers: [UInt64] = []
    var foreign: [String] = []
    var setAside = 0
    for name in names {
      if let number = Format.segmentNumber(name) {
        numbers.append(number)
      } else if name.hasPrefix("spare-"), name.hasSuffix(".seg") {
        takeSpare(folder + "/" + name)
      } else if name.hasSuffix(".bad") {
        setAside += 1
      } else if name != "lock", name != "checkpoint" {
        foreign.append(name)
      }
    }
    numbers.sort()
    highest = numbers.last ?? 0
    if !foreign.isEmpty {
      Log.warn(
        "queue.foreign-files", "The queue's folder holds files that are not the queue's; they are left alone.",
        ["folder": .text(folder), "files": Log.foreign(foreign.sorted().joined(separator: ", "))])
    }
    if setAside > 0 {
      Log.info(
        "queue.bad-files",
        "Damaged bytes that were set aside earlier are still there; remove them once they are looked at.",
        ["folder": .text(folder), "files": .number(setAside)])
    }
    return numbers
  }

  /// A spare of the right size is used; one that was not finished, or has another size, goes.
  private mutating func takeSpare(_ path: String) {
    let size = (try? fileSystem.open(path, .read).size()) ?? 0
    if size >= capacity / 2, size <= capacity, spares.count < 2 {
      spares.append(path)
    } else {
      try? fileSystem.remove(path)
    }
  }

  private mutating func takeForReuse(_ path: String) {
    // Small files are not worth keeping; removing one is never needed for correctness.
    try? fileSystem.remove(path)
  }

  private mutating func readHeaders(_ numbers: [UInt64]) throws(QueueOpenError) -> [Segment] {
    var segments: [Segment] = []
    var damaged: [(path: String, number: UInt64)] = []
    for number in numbers {
      let path = folder + "/" + Format.segmentName(number)
      let bytes = try attempt(path) { () throws(SystemError) in
        try fileSystem.open(path, .read).readAll(limit: Format.segmentHeaderBytes)
      }
      switch SegmentHeader.read(bytes) {
      case .version(let found): throw .version(file: path, found: Int(found))
      case .unwritten: takeForReuse(path)
      case .header(let header) where header.number < number:
        // A released segment that was taken for reuse and has nothing lasting in it yet.
        takeForReuse(path)
      case .header(let header) where header.number == number:
        if header.keyId != 0, !settings.keys.contains(where: { $0.id == header.keyId }) {
          throw .missingKey(file: path, keyId: header.keyId)
        }
        segments.append(Segment(header, path: path, end: Format.segmentHeaderBytes, count: 0, isSealed: true))
      case .damaged, .header: damaged.append((path, number))
      }
    }
    for item in damaged { setAside(item.path, item.number, segments) }
    return segments
  }

  private mutating func setAside(_ path: String, _ number: UInt64, _ others: [Segment]) {
    let lost = others.first { $0.header.previous == number }.map { Int($0.header.previousCount) }
    let kept = String(path.dropLast(4)) + ".bad"
    try? fileSystem.rename(path, kept)
    report.damagedSegments += 1
    report.lostEvents += lost ?? 0
    Log.error(
      "queue.segment-header-damaged", "A queue segment's header is damaged or does not fit its name; it was set aside.",
      [
        "queue": .text(settings.name), "file": .text(path), "kept_in": .text(kept),
        "events_lost": lost.map { .number($0) } ?? "unknown; none, if the segment was just begun",
        "next": "check the disk; `sluice queue repair` tells what can be read",
      ])
  }

  /// Leaves out segments that their successor does not know: attempts whose first sync failed.
  private mutating func dropVoid(_ segments: [Segment]) -> [Segment] {
    var kept: [Segment] = []
    for (i, segment) in segments.enumerated() {
      if i + 1 < segments.count, segments[i + 1].header.previous < segment.number {
        takeForReuse(segment.path)
      } else {
        kept.append(segment)
      }
    }
    return kept
  }

  // MARK: Ends

  private mutating func findEnds(_ segments: inout [Segment], _ checkpoint: Checkpoint?) throws(QueueOpenError) {
    for (i, segment) in segments.enumerated() {
      if i + 1 < segments.count {
        let next = segments[i + 1].header
        if next.previous == segment.number {
          segment.end = Int(clamping: next.previousEnd)
          segment.count = next.previousCount
          continue
        }
      }
      try scan(segment, checkpoint)
    }
  }

  private mutating func scan(_ segment: Segment, _ checkpoint: Checkpoint?) throws(QueueOpenError) {
    var end = Format.segmentHeaderBytes
    var count: UInt32 = 0
    if let checkpoint, let last = checkpoint.knownEnd(of: segment.number) {
      end = last.offset
      count = last.count
      if checkpoint.isClean {
        segment.end = end
        segment.count = count
        return
      }
    }
    let known = end
    let found = try attempt(segment.path) { () throws(SystemError) in
      let file = try fileSystem.open(segment.path, .readWrite)
      let size = try file.size()
      let found = try SegmentScan.end(
        file, segment, keys: settings.keys, from: end, count: count, size: size,
        ignoresChecksums: faults.ignoresChecksums)
      if found.end > known { try makeLasting(file, from: known, to: found.end) }
      return found
    }
    segment.end = found.end
    segment.count = found.count
    report.cutBytes += found.cutBytes
  }

  /// Puts on disk what a crash of the process may have left in memory alone, before anything builds on it.
  ///
  /// A sync is not enough: where the last process's sync had failed, the kernel holds the pages for written and a sync
  /// succeeds without them. Writing the same bytes once more tears nothing and makes them count again.
  private func makeLasting(_ file: any QueueFile, from start: Int, to end: Int) throws(SystemError) {
    let chunk = Chunk(byteCount: 1 << 20)
    do throws(SystemError) {
      var at = start
      while at < end {
        let room = UnsafeMutableRawBufferPointer(start: chunk.base, count: min(chunk.byteCount, end - at))
        let count = try file.readFully(into: room, at: at)
        if count == 0 { break }
        try file.writeFully([UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[..<count])], at: at)
        at += count
      }
      try file.sync()
    } catch {
      // A full disk must not keep the queue from draining.
      if error.code != ENOSPC, error.code != EDQUOT { throw error }
    }
  }

  private func oldestArrival(_ segment: Segment?, _ offset: Int) -> Int64 {
    guard let segment, let file = try? fileSystem.open(segment.path, .read) else { return 0 }
    let chunk = Chunk(byteCount: Format.blockHeaderBytes)
    let room = UnsafeMutableRawBufferPointer(start: chunk.base, count: chunk.byteCount)
    guard (try? file.readFully(into: room, at: offset)) == chunk.byteCount,
      let header = BlockHeader.read(chunk.base, seed: segment.seed)
    else { return segment.header.createdNs }
    return header.arrivalNs
  }

  // MARK: Checkpoint

  private func readCheckpoint(exists: Bool, hasSegments: Bool) -> (file: (any QueueFile)?, checkpoint: Checkpoint?) {
    let path = folder + "/checkpoint"
    if exists, let file = try? fileSystem.open(path, .readWrite) {
      if let bytes = try? file.readAll(limit: Checkpoint.fileBytes), let found = Checkpoint.newest(bytes) {
        return (file, found)
      }
      if hasSegments { warnCheckpoint() }
      return (file, nil)
    }
    if hasSegments { warnCheckpoint() }
    return (nil, nil)
  }

  private func warnCheckpoint() {
    Log.warn(
      "queue.checkpoint-missing",
      "The queue's checkpoint is missing or damaged; everything in the queue is delivered again.",
      ["queue": .text(settings.name), "folder": .text(folder)])
  }

  /// Notes that the queue is open, so that after a crash every record counts as one that may have been sent.
  private func markOpen(_ opened: inout Opened, hadCheckpoint: Bool) throws(QueueOpenError) {
    let path = folder + "/checkpoint"
    let ledger = opened.ledger
    if opened.checkpointFile == nil {
      opened.checkpointFile = try attempt(path) { () throws(SystemError) in try fileSystem.open(path, .create) }
    }
    var next = opened.checkpoint
    next.generation += 1
    next.isClean = false
    next.released = ledger.released
    next.releasedOffset = UInt64(ledger.releasedOffset)
    next.dispatched = ledger.dispatched
    next.synced = ledger.synced
    next.syncedOffset = UInt64(ledger.syncedOffset)
    guard let file = opened.checkpointFile else { return }
    do throws(SystemError) {
      if !hadCheckpoint {
        // Both slots get their blocks now, so that a full disk cannot keep the checkpoint from moving.
        try file.writeFully([UInt8](repeating: 0, count: Checkpoint.fileBytes), at: 0)
      }
      try file.writeFully(next.bytes(), at: Checkpoint.offset(next.generation))
      // Always: an earlier opening may have written the same and not made it lasting.
      try file.sync()
      if !hadCheckpoint { try fileSystem.syncFolder(folder) }
      opened.checkpoint = next
      // The other slot may hold the clean end of an earlier life. Later writes are not synced one by one: where a power
      // loss takes the newer ones, what is left must not claim that nothing was handed out.
      next.generation += 1
      try file.writeFully(next.bytes(), at: Checkpoint.offset(next.generation))
      try file.sync()
      opened.checkpoint = next
    } catch {
      // A full disk must not keep the queue from draining.
      if error.code == ENOSPC || error.code == EDQUOT {
        opened.checkpoint.isClean = false
        return
      }
      throw .disk(error, path: path)
    }
  }
}

/// The search for a segment's end.
enum SegmentScan {
  /// Follows the blocks from `offset` on to the last that is whole.
  ///
  /// A block that does not verify is the torn end, unless a later block says that it had been on disk: then it is damage,
  /// for the reader to set aside.
  static func end(
    _ file: any QueueFile, _ segment: Segment, keys: [BlockKey], from offset: Int, count: UInt32, size: Int,
    ignoresChecksums: Bool = false
  ) throws(SystemError) -> (end: Int, count: UInt32, cutBytes: Int) {
    let reader = BlockReader(keys: keys)
    reader.ignoresChecksums = ignoresChecksums
    var end = offset
    var count = count
    while end < size {
      let window = try reader.window(file, segment.header, segment.seed, from: end, to: size, windowBytes: 1 << 20)
      var torn = window.blocks.isEmpty ? end : nil
      for block in window.blocks {
        if !block.damaged.isEmpty {
          torn = block.offset
          break
        }
        end = block.offset + block.extent
        count = block.firstIndex + UInt32(block.count)
      }
      guard let torn else { continue }
      let proof = try reader.search(file, segment.seed, from: torn + Format.alignment, to: size) {
        Int($0.durableEnd) > torn
      }
      guard let proof else { return (end, count, cutBytes(file, end, size)) }
      end = proof.offset
      count = proof.header.firstIndex
    }
    return (end, count, 0)
  }

  /// Bytes behind the end that somebody began to write; a file's old life and zeros are none.
  private static func cutBytes(_ file: any QueueFile, _ end: Int, _ size: Int) -> Int {
    let chunk = Chunk(byteCount: 4096)
    let count = (try? file.readFully(into: UnsafeMutableRawBufferPointer(start: chunk.base, count: 4096), at: end)) ?? 0
    return UnsafeRawBufferPointer(start: chunk.base, count: count).contains { $0 != 0 } ? size - end : 0
  }
}
