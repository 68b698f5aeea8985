//  The daemon's side of replays: one thread per pipeline looks for requests in the inboxes of its dead letters and its
//  queue, and does them one by one.
//
//  Letters are taken in batches, and a batch is answered before the next begins. A letter is removed once its event is
//  delivered, or once a newer letter of it is on disk; until then it stays, so that a crash or a stop in between repeats
//  deliveries under the same ids and loses nothing. The request goes last.

internal import Diagnostics
internal import Events
internal import Patterns
internal import Pipeline
internal import PluginKit
internal import Queue
internal import Records

final class ReplayService: Sendable {
  private struct State {
    var isStopping = false
    var running = 0
  }

  private let pipelines: [RunningPipeline]
  private let state = Gate(State())
  private static let batchLetters = 200
  private static let batchBytes = 4 << 20

  init(_ pipelines: [RunningPipeline]) { self.pipelines = pipelines }

  func start() {
    for pipeline in pipelines {
      state.update { $0.running += 1 }
      startThread("replay") { [self] in
        serve(pipeline)
        state.update { $0.running -= 1 }
      }
    }
  }

  /// Asks the threads to end; what they are at ends with the pipelines.
  func stop() { state.update { $0.isStopping = true } }

  func join(_ deadline: Instant) { _ = state.wait(until: deadline) { $0.running == 0 ? true : nil } }

  private var isStopping: Bool { state.withLock { $0.isStopping } }

  private func serve(_ pipeline: RunningPipeline) {
    let letters = ReplayInbox(of: pipeline.deadLetters.folder)
    let queue = pipeline.runtime.queue as? DiskQueue
    let kept = queue.map { ReplayInbox(of: $0.statistics.folder) }
    var nextExpiry = Instant.now
    while !isStopping {
      if Instant.now >= nextExpiry {
        nextExpiry = Instant.now + .seconds(60)
        pipeline.deadLetters.expire()
        queue?.tidy()
      }
      for inbox in [letters, kept].compactMap({ $0 }) {
        for name in names(in: inbox, pipeline) where !isStopping { handle(name, in: inbox, pipeline) }
      }
      _ = state.wait(until: Instant.now + .milliseconds(500)) { $0.isStopping ? true : nil }
    }
  }

  private func names(in inbox: ReplayInbox, _ pipeline: RunningPipeline) -> [String] {
    do { return try inbox.names() } catch {
      Log.error(
        "replay.no-inbox", "The folder of replay requests cannot be read; what waits there is not done.",
        [
          "pipeline": .text(pipeline.compiled.id), "folder": .text(inbox.folder), "reason": .text(error.description),
          "next": "look at the folder's owner and the disk",
        ])
      return []
    }
  }

  private func handle(_ name: String, in inbox: ReplayInbox, _ pipeline: RunningPipeline) {
    do {
      guard let request = ReplayRequest(try inbox.read(name)) else {
        try inbox.setAside(name)
        Log.error(
          "replay.bad-request", "A replay request cannot be read; it was set aside.",
          ["folder": .text(inbox.folder), "request": .text(name), "next": "give the command once more"])
        return
      }
      let isDone: Bool
      switch request.action {
      case .purge: isDone = try purge(request, pipeline)
      case .replay: isDone = try replay(request, pipeline)
      case .retained: isDone = try replayKept(request, name, inbox, pipeline)
      }
      if isDone { try inbox.remove(name) }
    } catch {
      Log.error(
        "replay.failed", "A replay request could not be done; it is tried again.",
        [
          "pipeline": .text(pipeline.compiled.id), "request": .text("\(inbox.folder)/\(name)"),
          "reason": .text("\(error)"), "next": "look at the folder's owner and the disk",
        ])
      // Every minute is enough for what an operator must mend.
      _ = state.wait(until: Instant.now + .seconds(5)) { $0.isStopping ? true : nil }
    }
  }

  private func purge(_ request: ReplayRequest, _ pipeline: RunningPipeline) throws -> Bool {
    let count = try pipeline.deadLetters.queue?.remove(request.positions) ?? 0
    Log.info(
      "dlq.purged", "Dead letters were removed, as a command asked for.",
      ["pipeline": .text(pipeline.compiled.id), "letters": .number(count)])
    return true
  }

  // MARK: Kept events

  /// Sends events once more that were delivered and are still on disk.
  ///
  /// - Returns: False where the stop came first; the request then says how far it came.
  private func replayKept(
    _ request: ReplayRequest, _ name: String, _ inbox: ReplayInbox, _ pipeline: RunningPipeline
  ) throws -> Bool {
    let condition = try request.condition.map { try Condition($0) }
    let replayer = Replayer(pipeline.runtime)
    let scratch = MatchScratch()
    let folder = pipeline.runtime.queue.statistics.folder
    let keys = try encryptionKeys(pipeline.compiled.settings)
    var progress = request
    var notedAt = Instant.now
    var batch: [ReplayedRecord] = []
    var bytes = 0
    var sent = 0
    var descriptors: [[UInt8]: RecordDescriptor] = [:]
    func send() -> Bool {
      if batch.isEmpty { return true }
      let source = ReplaySource(batch, areLetters: false)
      batch = []
      bytes = 0
      let isDone = replayer.run(source) { event in
        guard let condition else {
          sent += 1
          return true
        }
        // What the condition has no answer for is not meant.
        let isMeant = (try? condition.evaluate(event, scratch)) ?? false
        if isMeant { sent += 1 }
        return isMeant
      }
      if isDone, Instant.now - notedAt > .seconds(2) {
        notedAt = Instant.now
        // Without the note the next life of the daemon repeats deliveries, no more.
        try? inbox.hand(progress.bytes, name: name)
      }
      return isDone && !isStopping
    }
    var goesOn = true
    try QueueInspector(folder: folder, keys: keys).dump(includesReleased: true, arrivedSinceNs: request.fromNs) {
      record in
      let position = DeadLetterPosition(segment: record.segment, index: record.index)
      guard record.isReleased, record.arrivalNs >= request.fromNs, record.arrivalNs < request.toNs,
        request.after.map({ position > $0 }) ?? true
      else { return true }
      let descriptor = descriptors[record.descriptor] ?? RecordDescriptor(record.descriptor)
      descriptors[record.descriptor] = descriptor
      batch.append(
        ReplayedRecord(
          id: record.identity.text, arrivalNs: record.arrivalNs, payload: Array(record.payload),
          descriptor: descriptor, context: record.context.map { RecordContext($0) }))
      bytes += record.payload.count
      progress.after = position
      if batch.count >= 500 || bytes >= Self.batchBytes { goesOn = send() }
      return goesOn
    }
    guard goesOn, send() else { return false }
    Log.info(
      "replay.done", "Kept events were sent once more.",
      ["pipeline": .text(pipeline.compiled.id), "events": .number(sent)])
    return true
  }

  // MARK: Letters

  /// What became of the letters of one request.
  private struct Tally {
    var delivered = 0
    var refused = 0
    var skipped = 0
  }

  /// Where a letter's event goes on.
  private enum Way: Equatable {
    case start
    case output(OutputStep)
    /// To the output, encoded anew.
    case mendedOutput(OutputStep)
    /// To the output, if its condition lets the event through, which it could not decide before.
    case conditionedOutput(OutputStep)

    static func == (left: Way, right: Way) -> Bool {
      switch (left, right) {
      case (.start, .start): true
      case (.output(let a), .output(let b)), (.mendedOutput(let a), .mendedOutput(let b)),
        (.conditionedOutput(let a), .conditionedOutput(let b)):
        a === b
      default: false
      }
    }
  }

  private struct Item {
    var position: DeadLetterPosition
    var way: Way
    var record: ReplayedRecord
    var sent: EncodedEvent
  }

  private func replay(_ request: ReplayRequest, _ pipeline: RunningPipeline) throws -> Bool {
    guard let queue = pipeline.deadLetters.queue else { return true }
    guard let target = request.pipeline.map({ id in pipelines.first { $0.compiled.id == id } }) ?? pipeline else {
      Log.error(
        "replay.no-pipeline", "The pipeline that dead letters should be replayed through does not run; they stay.",
        ["pipeline": .text(request.pipeline ?? ""), "next": "start it, and give the command once more"])
      return true
    }
    let replayer = Replayer(target.runtime)
    var tally = Tally()
    var rest = request.positions.sorted()[...]
    while let first = rest.first {
      if isStopping { return false }
      var items: [Item] = []
      var seen: DeadLetterPosition?
      var bytes = 0
      let wanted = Set(rest.prefix(Self.batchLetters))
      let last = wanted.max() ?? first
      try queue.read(from: first) { entry in
        if entry.position > last { return false }
        seen = entry.position
        guard wanted.contains(entry.position) else { return true }
        bytes += entry.letter.byteCount
        if let item = item(entry, request, target.runtime) { items.append(item) } else { tally.skipped += 1 }
        return bytes < Self.batchBytes
      }
      // Where the letters' bytes ended the batch, it goes on behind the last one read.
      let end = bytes >= Self.batchBytes ? seen ?? last : last
      rest = rest.drop { $0 <= end }
      guard try send(items, request, replayer, queue, &tally) else { return false }
    }
    Log.info(
      "dlq.replayed", "Dead letters were replayed; those that were delivered are gone.",
      [
        "pipeline": .text(pipeline.compiled.id), "delivered": .number(tally.delivered),
        "refused_again": .number(tally.refused), "not_sent": .number(tally.skipped),
        "next": "`sluice dlq list` shows what is left",
      ])
    return true
  }

  private func item(_ entry: DeadLetterEntry, _ request: ReplayRequest, _ runtime: PipelineRuntime) -> Item? {
    let facts = DeadLetterFacts(entry.letter.header)
    guard facts.stage != "input" else {
      warnUnsent(entry, "only the head of its event was kept")
      return nil
    }
    let isOutputs = !["decode", "filter", "condition"].contains(facts.stage)
    var way = Way.start
    if request.pipeline == nil, isOutputs {
      guard let step = runtime.outputs.first(where: { $0.id == facts.stage }) else {
        warnUnsent(entry, "the pipeline has no output '\(facts.stage)' any more; --pipeline sends it from the start")
        return nil
      }
      if facts.type == "condition" {
        way = .conditionedOutput(step)
      } else {
        way = request.mending.isEmpty && !facts.action.isEmpty ? .output(step) : .mendedOutput(step)
      }
    }
    let letter = entry.letter
    // An event that a timer made never arrived: it is taken as it was sent.
    let hasArrived = letter.descriptor != .none
    let record = ReplayedRecord(
      id: facts.id, part: facts.part, attempts: facts.attempts, arrivalNs: facts.arrivalNs,
      payload: hasArrived ? letter.arrived : letter.sent,
      descriptor: hasArrived ? letter.descriptor : Self.madeByTimer, context: letter.context,
      entersAtOutput: way != .start, onlyPart: isOutputs && hasArrived ? facts.part : nil)
    let sent = EncodedEvent(record: 0, part: facts.part, action: Array(facts.action.utf8), body: letter.sent)
    return Item(position: entry.position, way: way, record: record, sent: sent)
  }

  private static let madeByTimer = RecordDescription(input: "timer", inputID: "timer", codec: "json").descriptor

  private func warnUnsent(_ entry: DeadLetterEntry, _ why: String) {
    Log.warn(
      "dlq.not-replayed", "A dead letter cannot be replayed; it stays.",
      ["letter": .text(entry.position.description), "reason": .text(why)])
  }

  /// - Returns: False where the stop came before the last answer; what was not answered stays.
  private func send(
    _ items: [Item], _ request: ReplayRequest, _ replayer: Replayer, _ queue: DeadLetterQueue, _ tally: inout Tally
  ) throws -> Bool {
    var rest = items[...]
    while let first = rest.first {
      let group = Array(rest.prefix { $0.way == first.way })
      rest = rest.dropFirst(group.count)
      let source = ReplaySource(group.map(\.record), areLetters: true)
      let mend = { (event: Event) -> Bool in
        guard let complaint = request.mending.apply(to: event) else { return true }
        Log.warn(
          "dlq.not-mended", "A dead letter could not be changed as asked for; it stays.",
          ["reason": Log.foreign(complaint)])
        return false
      }
      let isDone: Bool
      switch first.way {
      case .start: isDone = replayer.run(source, prepare: mend)
      case .output(let step), .mendedOutput(let step), .conditionedOutput(let step):
        let events = group.enumerated().map { i, item in
          var event = item.sent
          event.record = i
          return event
        }
        var prepare: ((Event) -> ReplayChoice)?
        switch first.way {
        case .mendedOutput: prepare = { mend($0) ? .send : .keep }
        case .conditionedOutput:
          let scratch = MatchScratch()
          prepare = { event in
            guard mend(event) else { return .keep }
            guard let condition = step.condition else { return .send }
            // Where there is still no answer, the letter stays as it is.
            return (try? condition.evaluate(event, scratch)).map { $0 ? .send : .pass } ?? .keep
          }
        default: break
        }
        isDone = replayer.send(source, events, to: step, prepare: prepare)
      }
      guard isDone else { return false }
      let kept = source.keptLetters
      let gone = group.indices.filter { !kept.contains($0) }.map { group[$0].position }
      _ = try queue.remove(gone)
      tally.refused += source.refusals
      tally.skipped += kept.count
      tally.delivered += max(0, gone.count - source.refusals)
    }
    return true
  }
}
