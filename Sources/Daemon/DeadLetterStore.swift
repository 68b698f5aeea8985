//  Dead letters of one pipeline, as outputs and workers write them.
//
//  `write` only takes a letter; `sync` brings all that were taken to the disk in blocks with one sync each. Whoever comes
//  while another thread is at it waits for that and for the next round, so that a thousand refused documents cost a few
//  syncs. No event counts as done before the sync that has its letter. What the disk refuses stays taken, in memory, and
//  its event stays in the queue.
//
//  A letter of an event that was itself replayed takes the old letter's place: it has the old id and more attempts, and
//  whoever replays removes the old one once this one is on disk.

internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
internal import Pipeline
internal import PluginKit
internal import Queue
internal import Records

final class DeadLetterStore: DeadLetterSink {
  private struct Taken {
    var letter: DeadLetter
    /// The letter that this one replaces.
    var replayed: (source: ReplaySource, record: Int)?
  }

  private struct State {
    var taken: [Taken] = []
    var takenBytes = 0
    /// Letters that were ever taken, and how many of them are settled.
    var count = 0
    var settled = 0
    var isWriting = false
    var isNearlyFull = false
  }

  let folder: String
  let queue: DeadLetterQueue?
  let settings: DeadLetterSettings
  private let pipelineID: String
  private let state = Gate(State())
  private let droppedWhileOff = Counter()
  /// Letters that wait in memory at most; a further one waits for the disk.
  private static let takenLimit = 4 << 20
  private let blockBytes: Int

  /// - Parameter settings: nil switches dead letters off.
  init(
    folder: String, pipelineID: String, settings: DeadLetterSettings?, fileSystem: any FileSystem = RealFileSystem()
  ) throws {
    self.folder = folder
    self.pipelineID = pipelineID
    self.settings = settings ?? DeadLetterSettings()
    blockBytes = min(1 << 20, self.settings.maxBytes / 16)
    queue = try settings.map { try DeadLetterQueue(folder: folder, settings: $0, fileSystem: fileSystem) }
    // What was full at the last stop is said again.
    warnNearlyFull()
  }

  var statistics: DeadLetterStatistics {
    var figures = queue?.statistics ?? DeadLetterStatistics()
    figures.droppedNewer += droppedWhileOff.value
    return figures
  }

  /// Share of the limit from which on health is red.
  static func isNearlyFull(_ figures: DeadLetterStatistics) -> Bool {
    figures.maxBytes > 0 && figures.bytes >= figures.maxBytes / 5 * 4
  }

  func write(
    _ reason: DeadLetterReason, source: any SourceRecords, record: Int, document: UnsafeRawBufferPointer
  ) -> Bool {
    guard queue != nil else {
      droppedWhileOff.add()
      Log.error(
        "dlq.off", "A refused event was dropped, since dead letters are switched off.",
        [
          "pipeline": .text(pipelineID), "stage": .text(reason.stage), "reason": Log.foreign(reason.message),
          "next": "set dead_letter_queue.enable: true to keep such events",
        ])
      return true
    }
    let taken = letter(reason, source, record, document)
    let isTooMuch = state.withLock { $0.takenBytes > 0 && $0.takenBytes + taken.letter.byteCount > Self.takenLimit }
    if isTooMuch, !sync() { return false }
    state.withLock { state in
      state.takenBytes += taken.letter.byteCount
      state.count += 1
      state.taken.append(taken)
    }
    return true
  }

  private func letter(
    _ reason: DeadLetterReason, _ source: any SourceRecords, _ record: Int, _ document: UnsafeRawBufferPointer
  ) -> Taken {
    let replayed = source as? ReplaySource
    let old = replayed?.letter(record)
    var facts = DeadLetterFacts()
    facts.stage = reason.stage
    facts.status = reason.status
    facts.type = reason.type
    facts.message = reason.message
    facts.index = reason.index
    facts.documentID = reason.documentID
    facts.action = String(decoding: reason.action, as: UTF8.self)
    facts.attempts = reason.attempts + (old?.attempts ?? 0)
    if let old {
      facts.id = old.id
      facts.part = old.entersAtOutput ? old.part : reason.part
      replayed?.noteRefusal()
    } else {
      var id = ByteBuffer()
      source.appendID(record, to: &id)
      // An event that a timer made has no record; it gets an id here, so that a replay is one document too.
      facts.id = id.isEmpty ? RecordIdentity.draw().text : id.string()
      facts.part = reason.part
    }
    let arrival = source.arrivalNs(record)
    facts.arrivalNs = arrival == 0 ? WallClock.ns : arrival
    let origin = source.origin(record)
    var arrived: [UInt8] = []
    source.withPayload(record) { arrived = Array($0) }
    let letter = DeadLetter(
      header: facts.header, arrived: arrived, sent: Array(document), descriptor: origin?.descriptor ?? .none,
      context: origin?.context)
    return Taken(letter: letter, replayed: old == nil ? nil : replayed.map { ($0, record) })
  }

  func sync() -> Bool {
    guard let queue else { return true }
    let goal = state.withLock { $0.count }
    while true {
      let turn = state.wait { state -> [Taken]? in
        if state.settled >= goal { return [] }
        if state.isWriting { return nil }
        state.isWriting = true
        return takeBlock(&state)
      }
      guard let turn, !turn.isEmpty else { return true }
      let rest = store(turn, queue)
      state.update { state in
        state.isWriting = false
        state.settled += turn.count - rest.count
        state.taken.insert(contentsOf: rest, at: 0)
        state.takenBytes += rest.reduce(0) { $0 + $1.letter.byteCount }
      }
      if !rest.isEmpty { return false }
      warnNearlyFull()
    }
  }

  private func takeBlock(_ state: inout State) -> [Taken] {
    var bytes = 0
    var count = 0
    for taken in state.taken {
      if count > 0, bytes + taken.letter.byteCount > blockBytes { break }
      bytes += taken.letter.byteCount
      count += 1
    }
    defer {
      state.taken.removeFirst(count)
      state.takenBytes -= bytes
    }
    return Array(state.taken.prefix(count))
  }

  /// - Returns: The letters that are neither on disk nor dropped by the policy that the operator chose.
  private func store(_ turn: [Taken], _ queue: DeadLetterQueue) -> [Taken] {
    do {
      let result = try queue.write(turn.map(\.letter))
      if result == .kept { return [] }
      // Of a replayed event the old letter is still there, and stays.
      for case let replayed? in turn.map(\.replayed) { replayed.source.keepLetter(replayed.record) }
      if result == .dropped { return [] }
      Log.error(
        "dlq.full", "The dead letters are full and their policy is to block; refused events wait, and the queue fills.",
        [
          "pipeline": .text(pipelineID), "folder": .text(folder),
          "next": .text(
            "`sluice dlq export --id \(pipelineID)` prints them; then `sluice dlq replay` or `purge` makes room"),
        ])
      return turn.filter { $0.replayed == nil }
    } catch {
      Log.error(
        "dlq.write-failed", "Dead letters could not be written; their events wait.",
        [
          "pipeline": .text(pipelineID), "folder": .text(folder), "reason": .text(error.description),
          "next": "look at the disk; it is tried again every second",
        ])
      return turn
    }
  }

  private func warnNearlyFull() {
    guard let queue else { return }
    let figures = queue.statistics
    let isFull = Self.isNearlyFull(figures)
    let isNews = state.withLock { state in
      defer { state.isNearlyFull = isFull }
      return isFull && !state.isNearlyFull
    }
    guard isNews else { return }
    Log.error(
      "dlq.nearly-full", "The dead letters are above 80 % of their limit.",
      [
        "pipeline": .text(pipelineID), "folder": .text(folder), "letters": .number(figures.letters),
        "bytes": .number(figures.bytes), "max_bytes": .number(figures.maxBytes),
        "when_full": .text(settings.policy.rawValue),
        "next": .text(
          "`sluice dlq export --id \(pipelineID)` prints them; then replay or purge them, or raise "
            + "dead_letter_queue.max_bytes"),
      ])
  }

  /// Removes letters that are too old.
  func expire() { queue?.expire() }

  func close() {
    _ = sync()
    queue?.close()
  }
}
