//  Dead letters: events that no output will take, kept with the reason until somebody looks at them.
//
//  A folder of segments as the queue's (Format.swift), each write one block, synced before `write` returns; a letter is a
//  record with the descriptor and the context of the record that its event was made of, whose payload is
//
//      u32 bytes of the header, u32 bytes of the event as it arrived, then header, arrived event, sent event
//
//  What is removed stands beside its segment in NNN.gone: 8 bytes each, the letter's number and its checksum. A segment
//  goes with the last of its letters, and whole segments go when there are too many bytes or they are too old; so a
//  segment is at most an eighth of the limit. Tools read the folder beside a running daemon; writing takes the lock.

internal import CSystem
public import Codecs
public import Diagnostics
internal import Glibc
public import Records

/// One letter. The header is JSON text that the writer of the letter makes: reason, status, stage, output, attempts, id.
public struct DeadLetter: Equatable, Sendable {
  public var header: [UInt8]
  /// The event as it arrived.
  public var arrived: [UInt8]
  /// The event as it was sent to the output; empty where it was never encoded.
  public var sent: [UInt8]
  /// How the arrived event becomes fields, and what was known of its connection or request.
  public var descriptor: RecordDescriptor
  public var context: RecordContext?

  public init(
    header: [UInt8], arrived: [UInt8], sent: [UInt8] = [], descriptor: RecordDescriptor = .none,
    context: RecordContext? = nil
  ) {
    self.header = header
    self.arrived = arrived
    self.sent = sent
    self.descriptor = descriptor
    self.context = context
  }

  /// What the letter takes on disk, about.
  public var byteCount: Int {
    200 + header.count + arrived.count + sent.count + descriptor.bytes.count + (context?.bytes.count ?? 0)
  }

  init?(_ payload: UnsafeRawBufferPointer, descriptor: RecordDescriptor, context: RecordContext?) {
    self.descriptor = descriptor
    self.context = context
    guard payload.count >= 8, let base = payload.baseAddress else { return nil }
    let headerBytes = Int(UInt32(littleEndian: base.loadUnaligned(as: UInt32.self)))
    let arrivedBytes = Int(UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
    guard headerBytes <= payload.count - 8, arrivedBytes <= payload.count - 8 - headerBytes else { return nil }
    header = Array(payload[8..<8 + headerBytes])
    arrived = Array(payload[8 + headerBytes..<8 + headerBytes + arrivedBytes])
    sent = Array(payload[(8 + headerBytes + arrivedBytes)...])
  }
}

/// Where a letter stands; its name for removing, and for operators as `17-3`.
public struct DeadLetterPosition: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let segment: UInt64
  public let index: UInt32

  public init(segment: UInt64, index: UInt32) {
    self.segment = segment
    self.index = index
  }

  public init?(_ text: String) {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 2, let segment = UInt64(parts[0]), let index = UInt32(parts[1]) else { return nil }
    self.init(segment: segment, index: index)
  }

  public var description: String { "\(segment)-\(index)" }

  public static func < (left: DeadLetterPosition, right: DeadLetterPosition) -> Bool {
    (left.segment, left.index) < (right.segment, right.index)
  }
}

/// A letter as it is read back.
public struct DeadLetterEntry: Sendable {
  public let position: DeadLetterPosition
  /// Wall clock when it was written, nanoseconds since 1970.
  public let writtenNs: Int64
  public let letter: DeadLetter
}

public struct DeadLetterSettings: Sendable {
  public enum Policy: String, Sendable, CaseIterable {
    /// The oldest segment goes to make room.
    case dropOlder = "drop_older"
    /// What does not fit is dropped.
    case dropNewer = "drop_newer"
    /// What does not fit waits: `write` says `.full` and the event stays with its sender.
    case block
  }

  public var maxBytes = 1 << 30
  /// Letters older than this go; zero keeps them.
  public var retainAge = Duration.zero
  public var policy = Policy.dropOlder
  public var compression = BlockCompression.none
  /// The first key encrypts; all of them decrypt. Empty: no encryption.
  public var keys: [BlockKey] = []
  /// Shown in logs: the pipeline's id.
  public var name = ""
  public init() {}
}

public enum DeadLetterWriteResult: Equatable, Sendable {
  /// On disk.
  case kept
  /// Dropped, counted and logged: `drop_newer`, or a letter that is larger than the limit.
  case dropped
  /// No room and policy `block`: nothing was written.
  case full
}

public struct DeadLetterStatistics: Equatable, Sendable {
  public var letters = 0
  public var bytes = 0
  public var maxBytes = 0
  /// Since this process opened them.
  public var written = 0
  public var droppedOlder = 0
  public var droppedNewer = 0
  public var expired = 0
  public var removed = 0
  public var damaged = 0
  /// The last drop in words, for the API's `last_error`; empty where there was none.
  public var lastError = ""
  public init() {}
}

/// Safe to use from any thread; writes are one at a time and do not return before the sync.
public final class DeadLetterQueue: Sendable {
  private let folder: String
  private let settings: DeadLetterSettings
  private let fileSystem: any FileSystem
  /// Held over system calls, unlike other locks: whoever writes a letter waits for the disk.
  private let state: Lock<State>
  private let segmentBytes: Int

  private struct State {
    var lock: (any FileLock)?
    var segments: [Segment] = []
    /// Removed letters by segment.
    var gone: [UInt64: Set<UInt32>] = [:]
    var active: (segment: Segment, file: any QueueFile, cipher: BlockCipher?, isNew: Bool)?
    var compressor: BlockCompressor?
    var nextNumber: UInt64 = 1
    var figures = DeadLetterStatistics()
  }

  /// Opens the letters of `folder`, which is made where it does not exist.
  public init(
    folder: String, settings: DeadLetterSettings, fileSystem: any FileSystem = RealFileSystem()
  ) throws(QueueOpenError) {
    self.folder = folder
    self.settings = settings
    self.fileSystem = fileSystem
    segmentBytes = max(4096, min(10 << 20, settings.maxBytes / 8))
    var state = State()
    if settings.compression != .none { state.compressor = BlockCompressor(settings.compression) }
    do {
      try fileSystem.createFolder(folder)
      state.lock = try fileSystem.lock(folder + "/lock")
    } catch {
      if error.code == EWOULDBLOCK { throw .locked(folder: folder) }
      throw .disk(error, path: folder)
    }
    let picture = try FolderPicture.read(folder, fileSystem, keys: settings.keys)
    if let name = picture.locked.first, let number = Format.segmentNumber(name),
      let segment = picture.segments.first(where: { $0.number == number })
    {
      throw .missingKey(file: segment.path, keyId: segment.header.keyId)
    }
    for name in picture.damaged {
      try? fileSystem.rename(folder + "/" + name, folder + "/" + name.dropLast(4) + ".bad")
      state.figures.damaged += 1
      Log.error(
        "dlq.segment-damaged", "The header of a dead-letter segment is damaged; the file was set aside.",
        ["pipeline": .text(settings.name), "file": .text(folder + "/" + name), "next": "check the disk"])
    }
    state.segments = picture.segments.filter { $0.count > 0 }
    for segment in state.segments {
      segment.isSealed = true
      let gone: Set<UInt32>
      do { gone = try Tombstones.read(folder, segment.header, fileSystem) } catch {
        throw .disk(error, path: Tombstones.path(folder, segment.number))
      }
      if !gone.isEmpty { state.gone[segment.number] = gone }
    }
    let highest = (picture.segments.map(\.number) + picture.leftovers.compactMap(Format.segmentNumber)).max() ?? 0
    state.nextNumber = max(highest, picture.damaged.compactMap(Format.segmentNumber).max() ?? 0) + 1
    for name in picture.leftovers { try? fileSystem.remove(folder + "/" + name) }
    for segment in picture.segments where segment.count == 0 { try? fileSystem.remove(segment.path) }
    self.state = Lock(state)
  }

  public func close() {
    state.withLock { state in
      state.active = nil
      state.lock = nil
    }
  }

  public var statistics: DeadLetterStatistics {
    state.withLock { state in
      var figures = state.figures
      figures.maxBytes = settings.maxBytes
      figures.bytes = state.segments.reduce(0) { $0 + $1.end }
      figures.letters = state.segments.reduce(0) { $0 + Int($1.count) - (state.gone[$1.number]?.count ?? 0) }
      return figures
    }
  }

  // MARK: Writing

  /// Keeps the letters; when this returns `.kept` they are on the disk, all of them.
  ///
  /// - Throws: When the disk refuses; the letters may then be written again, and the event must not count as done.
  public func write(_ letters: [DeadLetter], nowNs: Int64 = WallClock.ns) throws(SystemError) -> DeadLetterWriteResult {
    if letters.isEmpty { return .kept }
    let parts = DeadLetterQueue.parts(of: letters, nowNs)
    return try state.withLock { state throws(SystemError) in
      if state.lock == nil { throw SystemError(EBADF, call: "write of a dead letter after close") }
      expire(&state, nowNs)
      var draft = BlockDraft(parts)
      let cost = draft.extentLimit + Format.segmentHeaderBytes
      guard cost <= settings.maxBytes, draft.rawBytes < Format.blockLimitBytes else {
        drop(letters.count, "is larger than the limit", &state)
        return .dropped
      }
      guard makeRoom(cost, &state) else {
        if settings.policy == .block { return .full }
        drop(letters.count, "finds no room", &state)
        return .dropped
      }
      var attempt = 0
      while true {
        do throws(SystemError) {
          try store(&draft, &state)
          state.figures.written += letters.count
          return .kept
        } catch {
          attempt += 1
          // What a failed sync was to keep may be lost although the next one succeeds: never again into that segment.
          state.active = nil
          let isFull = error.code == ENOSPC || error.code == EDQUOT
          if isFull, settings.policy == .dropOlder, dropOldest(&state) { continue }
          if isFull || attempt >= 2 { throw error }
        }
      }
    }
  }

  /// Neighbours that came with the same descriptor and context make one part of the block.
  private static func parts(of letters: [DeadLetter], _ nowNs: Int64) -> [PendingPart] {
    var batches: [RecordBatch] = []
    for letter in letters {
      if batches.last.map({ $0.descriptor != letter.descriptor || $0.context != letter.context }) ?? true {
        batches.append(RecordBatch(descriptor: letter.descriptor, context: letter.context, arrivalNs: nowNs))
      }
      guard let batch = batches.last else { continue }
      batch.payloads.append(littleEndian: UInt32(clamping: letter.header.count))
      batch.payloads.append(littleEndian: UInt32(clamping: letter.arrived.count))
      batch.payloads.append(contentsOf: letter.header)
      batch.payloads.append(contentsOf: letter.arrived)
      batch.payloads.append(contentsOf: letter.sent)
      batch.endRecord()
    }
    return batches.map { PendingPart(batch: $0, records: 0..<$0.count, byteCount: $0.byteCount, completion: nil) }
  }

  private func store(_ draft: inout BlockDraft, _ state: inout State) throws(SystemError) {
    if let active = state.active, active.segment.end + draft.extentLimit > segmentBytes {
      active.segment.isSealed = true
      state.active = nil
    }
    if state.active == nil { try begin(&state) }
    guard let active = state.active else { return }
    let segment = active.segment
    let offset = max(segment.end, Format.segmentHeaderBytes)
    guard
      draft.seal(
        segment: segment.header.identity, seed: segment.seed, offset: offset, firstIndex: segment.count,
        durableEnd: offset,
        compressor: state.compressor, cipher: active.cipher)
    else { throw SystemError(EIO, call: "encrypt") }
    if active.isNew {
      try active.file.writeFully(segment.header.bytes(), at: 0)
    }
    try active.file.writeFully(draft.buffers, at: offset)
    try active.file.sync()
    if active.isNew {
      try fileSystem.syncFolder(folder)
      state.active?.isNew = false
      state.segments.append(segment)
    }
    segment.end = offset + draft.extent
    segment.count += UInt32(draft.recordCount)
  }

  private func begin(_ state: inout State) throws(SystemError) {
    let number = state.nextNumber
    let path = folder + "/" + Format.segmentName(number)
    let file = try fileSystem.open(path, .create)
    state.nextNumber += 1
    let last = state.segments.last
    let key = settings.keys.first
    let header = SegmentHeader(
      number: number, identity: SegmentIdentity.draw(), createdNs: WallClock.ns, keyId: key?.id ?? 0,
      previous: last?.number ?? 0, previousEnd: UInt64(last?.end ?? 0), previousCount: last?.count ?? 0)
    last?.isSealed = true
    let segment = Segment(header, path: path, end: 0, count: 0, isSealed: false)
    state.active = (segment, file, key?.cipher(salt: header.identity.bytes), true)
  }

  // MARK: Limits

  private func makeRoom(_ cost: Int, _ state: inout State) -> Bool {
    while state.segments.reduce(0, { $0 + $1.end }) + cost > settings.maxBytes {
      guard settings.policy == .dropOlder, dropOldest(&state) else { return false }
    }
    return true
  }

  private func dropOldest(_ state: inout State) -> Bool {
    guard let first = state.segments.first else { return false }
    let count = discard(first, &state)
    state.figures.droppedOlder += count
    state.figures.lastError = "\(count) of the oldest dead letters were dropped to make room"
    if count > 0 {
      Log.error(
        "dlq.dropped-older", "The dead letters are full; the oldest were dropped to make room.",
        [
          "pipeline": .text(settings.name), "folder": .text(folder), "letters": .number(count),
          "max_bytes": .number(settings.maxBytes), "next": .text(advice),
        ])
    }
    return true
  }

  private func drop(_ count: Int, _ reason: String, _ state: inout State) {
    state.figures.droppedNewer += count
    state.figures.lastError = "\(count) dead letters were dropped: a letter \(reason) of \(settings.maxBytes) bytes"
    Log.error(
      "dlq.dropped-newer", "Dead letters were dropped; their events are lost.",
      [
        "pipeline": .text(settings.name), "folder": .text(folder), "letters": .number(count), "reason": .text(reason),
        "max_bytes": .number(settings.maxBytes), "next": .text(advice),
      ])
  }

  private var advice: String {
    "`sluice dlq export --id \(settings.name)` prints what is there; then replay or purge it, or raise "
      + "dead_letter_queue.max_bytes"
  }

  /// Removes segments whose newest letter is too old. Also called now and then by whoever owns the letters.
  public func expire(nowNs: Int64 = WallClock.ns) { state.withLock { expire(&$0, nowNs) } }

  private func expire(_ state: inout State, _ nowNs: Int64) {
    guard settings.retainAge > .zero else { return }
    var count = 0
    // A segment's letters are older than its successor.
    while state.segments.count >= 1, let first = state.segments.first {
      let newest = state.segments.count > 1 ? state.segments[1].header.createdNs : newestLetter(first)
      guard nowNs - newest > settings.retainAge.ns else { break }
      count += discard(first, &state)
    }
    if count > 0 {
      state.figures.expired += count
      Log.info(
        "dlq.expired", "Dead letters beyond dead_letter_queue.retain.age were removed.",
        ["pipeline": .text(settings.name), "letters": .number(count)])
    }
  }

  private func newestLetter(_ segment: Segment) -> Int64 {
    var newest = segment.header.createdNs
    try? walker.walk(segment, end: segment.end, count: segment.count, damage: { _ in }) { block in
      for run in block.runs { newest = max(newest, run.arrivalNs) }
      return true
    }
    return newest
  }

  /// - Returns: How many letters went with it.
  private func discard(_ segment: Segment, _ state: inout State) -> Int {
    state.segments.removeAll { $0 === segment }
    if state.active?.segment === segment { state.active = nil }
    let gone = state.gone.removeValue(forKey: segment.number)?.count ?? 0
    try? fileSystem.remove(segment.path)
    try? fileSystem.remove(Tombstones.path(folder, segment.number))
    return Int(segment.count) - gone
  }

  // MARK: Reading and removing

  private var walker: SegmentWalker { SegmentWalker(fileSystem: fileSystem, reader: BlockReader(keys: settings.keys)) }

  /// Calls `body` for each letter from `start` on, oldest first, until it returns false.
  ///
  /// Letters that are written meanwhile may or may not come. No lock is held over `body`.
  public func read(from start: DeadLetterPosition? = nil, _ body: (DeadLetterEntry) -> Bool) throws(SystemError) {
    let (segments, gone) = state.withLock { state in
      (state.segments.map { ($0, $0.end, $0.count) }, state.gone)
    }
    for (segment, end, count) in segments {
      guard try DeadLetterReader.walk(segment, end, count, gone[segment.number] ?? [], walker, start, body) else {
        return
      }
    }
  }

  /// Removes letters for good; those that are not there are passed over.
  ///
  /// - Returns: How many were removed.
  public func remove(_ positions: [DeadLetterPosition]) throws(SystemError) -> Int {
    try state.withLock { state throws(SystemError) in
      var count = 0
      for (number, indexes) in Dictionary(grouping: positions, by: \.segment) {
        guard let segment = state.segments.first(where: { $0.number == number }) else { continue }
        let known = state.gone[number] ?? []
        let fresh = Set(indexes.map(\.index)).subtracting(known).filter { $0 < segment.count }
        if fresh.isEmpty { continue }
        if known.count + fresh.count == Int(segment.count) {
          count += discard(segment, &state)
          continue
        }
        try Tombstones.add(fresh.sorted(), after: known.count, folder, segment.header, fileSystem)
        state.gone[number] = known.union(fresh)
        count += fresh.count
      }
      try fileSystem.syncFolder(folder)
      state.figures.removed += count
      return count
    }
  }

  /// Removes all letters, or those written before a wall clock.
  public func purge(beforeNs: Int64 = .max) throws(SystemError) -> Int {
    if beforeNs == .max {
      return state.withLock { state in
        let count = state.segments.reduce(0) { $0 + Int($1.count) - (state.gone[$1.number]?.count ?? 0) }
        for segment in state.segments { _ = discard(segment, &state) }
        try? fileSystem.syncFolder(folder)
        state.figures.removed += count
        return count
      }
    }
    var positions: [DeadLetterPosition] = []
    try read { entry in
      if entry.writtenNs < beforeNs { positions.append(entry.position) }
      return true
    }
    return try remove(positions)
  }
}
