//  The `dead_letter_queue` input: the dead letters of a pipeline as events of this one, as they come.
//
//  Order of writes. A batch of letters goes into this pipeline's queue; when it is synced there, the letters are handed to
//  their owner for removal (`clean_consumed`), and then the place behind them is written, synced and renamed into the
//  file `sincedb_path`. So a crash repeats at most what had come since the last place, and loses nothing.
//
//  Circles. A letter whose event had come from dead letters before is passed over, by its descriptor, and stays where it
//  is: whatever the pipelines and their inputs look like, an event goes through dead letters into a pipeline once, and
//  nothing is thrown away. (Logstash drops such events at the output.)

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
internal import Inputs
internal import Pipeline
internal import PluginKit
internal import Queue
internal import Records

struct DeadLetterInput: InputPlugin {
  static let name = "dead_letter_queue"

  static let manual = Manual(
    name: name, summary: "Takes the dead letters of a pipeline as events, and follows them as they come.",
    details: """
      An event is what the output had been sent; an event that came to no output is decoded as it arrived. Why it was refused \
      stands in `[@metadata][dead_letter_queue]`: `plugin_type`, `plugin_id`, `reason` and `entry_time`; and in \
      `[@metadata][dead_letter]`: `id`, `stage`, `status`, `type`, `reason`, `index`, `document_id` and `attempts`. With \
      `document_id: '%{[@metadata][dead_letter][id]}'` an output indexes an event once that a crash repeats.

      The place is written only once the events are on disk in this pipeline's queue; with a queue in memory, once they are in \
      memory. A crash repeats at most a second's letters. Two inputs cannot share one `sincedb_path`.

      An event that is refused again becomes a letter of this pipeline. Letters whose events had come from dead letters before \
      are passed over and stay, so that nothing runs in a circle; `sluice dlq replay` sends them.
      """,
    examples: [
      Example(
        "Mend what a mapping refused", config: "{ pipeline_id: aura, tags: [second_try] }",
        input: #"{"message": "order placed", "status": "broken"}"#,
        output: #"{"message": "order placed", "status": "broken", "tags": ["second_try"]}"#)
    ])

  struct Settings: PluginSettings {
    var path: FilePath?
    var pipelineID = "main"
    var commitOffsets = true
    var sincedbPath: FilePath?
    var startTimestamp: String?
    var cleanConsumed = false
    var codec = PluginChoice("plain")
    var common = CommonInputSettings()

    static let options: [Option<Settings>] =
      [
        .option(
          "path", \.path, "The folder that holds the pipelines' folders of dead letters.",
          defaultText: "dead_letter_queue, below path.data"),
        .option("pipeline_id", \.pipelineID, "The pipeline whose dead letters are read."),
        .option("commit_offsets", \.commitOffsets, "Keep the place, and go on there after a restart."),
        .option(
          "sincedb_path", \.sincedbPath, "The file that keeps the place.",
          defaultText: "a file below plugins/inputs/dead_letter_queue in path.data"),
        .option(
          "start_timestamp", \.startTimestamp,
          "Begin at each start with the first letter of this time (ISO 8601) or later, wherever the place is."),
        .option(
          "clean_consumed", \.cleanConsumed,
          "Remove letters once their events are in this pipeline's queue; their pipeline does it while it runs."),
        .option("codec", \.codec, "Accepted for Logstash's sake; letters are events already."),
      ] + CommonInputSettings.options.map { $0.lifted(into: \Settings.common) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    var reading = LetterReading()
    let root = context.services.path(
      settings.path?.text ?? Configuration.absolute(context.services.dataFolder) + "/dead_letter_queue")
    guard !settings.pipelineID.isEmpty, !settings.pipelineID.contains("/"), settings.pipelineID != ".." else {
      throw BuildFailure("pipeline_id", "is no id of a pipeline")
    }
    reading.folder = (root.hasSuffix("/") ? String(root.dropLast()) : root) + "/" + settings.pipelineID
    if settings.cleanConsumed, !settings.commitOffsets {
      throw BuildFailure("clean_consumed", "needs commit_offsets: true")
    }
    reading.cleans = settings.cleanConsumed
    if let text = settings.startTimestamp {
      guard let time = Array(text.utf8).withUnsafeBytes({ Timestamp(arriving: $0) }) else {
        throw BuildFailure("start_timestamp", "is no time such as 2026-02-25T10:00:00Z")
      }
      reading.startNs = time.nsClamped
    }
    if settings.commitOffsets {
      let usual =
        context.services.dataFolder + "/plugins/inputs/dead_letter_queue/\(settings.pipelineID)/.sincedb_"
        + (try md5(root))
      reading.placeFile = settings.sincedbPath.map { context.services.path($0.text) } ?? usual
    }
    let description = RecordDescription(
      input: name, inputID: context.stepID, codec: "json", ecs: context.ecs, type: settings.common.type,
      tags: settings.common.tags,
      addField: settings.common.addField.entries.map { RecordDescription.AddedField(name: $0.key, values: $0.value) },
      options: [.init("original", "false")])
    return LetterSource(reading, description, context)
  }

  private static func md5(_ text: String) throws -> String {
    let digest = try Digest.compute(.md5, Array(text.utf8))
    return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}

/// What is read and how.
private struct LetterReading: Sendable {
  var folder = ""
  var placeFile: String?
  var startNs = Int64.min
  var cleans = false
}

/// The input at work: one thread reads, waits for the queue, and keeps the place.
private final class LetterSource: Input {
  private struct State {
    var isStopping = false
    var isRunning = false
    /// Of the batch that is on its way into the queue.
    var result: Result<Void, AppendFailure>?
  }

  let ports: [InputPort] = []
  let description: RecordDescription
  private let reading: LetterReading
  private let context: InputContext
  private let state = Gate(State())
  private let metrics = InputMetrics()
  private static let batchLetters = 500
  private static let batchBytes = 1 << 20
  /// How many letters one order to remove names at most.
  private static let orderLetters = 10_000

  init(_ reading: LetterReading, _ description: RecordDescription, _ context: InputContext) {
    self.reading = reading
    self.description = description
    self.context = context
  }

  var statistics: InputStatistics {
    var figures = InputStatistics()
    figures.events = metrics.events.value
    figures.bytes = metrics.bytes.value
    figures.errors = metrics.errors.value
    return figures
  }

  func start() throws {
    var lock: (any FileLock)?
    var place: DeadLetterPlace?
    if let file = reading.placeFile {
      try makeFolders(Configuration.folder(of: file))
      do { lock = try RealFileSystem().lock(file + ".lock") } catch {
        guard error.code == EWOULDBLOCK else { throw error }
        throw StartFailure(
          description: "'\(file)' keeps the place of another dead_letter_queue input; give this one a sincedb_path")
      }
      place = try storedPlace(file)
    }
    let keys = context.services.storageKeys().compactMap { BlockKey($0) }
    // With a time to start at, the place of an earlier life does not count.
    let start = reading.startNs == .min ? place : nil
    let held = HeldLock(lock)
    state.update { $0.isRunning = true }
    startThread("dead-letters") { [self] in
      follow(DeadLetterFollower(folder: reading.folder, keys: keys, from: start))
      held.release()
      state.update { $0.isRunning = false }
    }
  }

  func stop(deadline: Instant) {
    state.update { $0.isStopping = true }
    _ = state.wait(until: deadline) { $0.isRunning ? nil : true }
  }

  private final class HeldLock: @unchecked Sendable {  // unchecked: written by the input's own thread
    private var lock: (any FileLock)?
    init(_ lock: (any FileLock)?) { self.lock = lock }
    func release() { lock = nil }
  }

  private func storedPlace(_ file: String) throws -> DeadLetterPlace? {
    guard context.services.stamp(file) != nil else { return nil }
    let text = String(decoding: try context.services.read(file, limitBytes: 4096), as: UTF8.self)
    if let place = DeadLetterPlace(String(text.prefix { $0 != "\n" })) { return place }
    throw StartFailure(
      description: "'\(file)' is no place of a dead_letter_queue input; remove it to read the letters from the start")
  }

  /// Waits; false when the stop comes first.
  private func pause(_ time: Duration) -> Bool {
    state.wait(until: Instant.now + time) { $0.isStopping ? true : nil } == nil
  }
  private var isStopping: Bool { state.withLock { $0.isStopping } }

  // MARK: Reading

  /// What is in the queue and not noted yet.
  private struct Unnoted {
    var place: DeadLetterPlace?
    var letters: [DeadLetterPosition] = []
    var since = Instant.now
  }

  private func follow(_ follower: DeadLetterFollower) {
    let maker = LetterEvents()
    var unnoted = Unnoted()
    while !isStopping {
      let found: [FollowedLetter]
      do {
        found = try follower.next(maxLetters: Self.batchLetters, maxBytes: Self.batchBytes)
      } catch {
        metrics.errors.add()
        Log.error(
          "dlq.unreadable", "Dead letters cannot be read; it is tried again every second.",
          [
            "pipeline": .text(context.pipelineID), "input": .text(context.stepID), "folder": .text(reading.folder),
            "reason": .text("\(error)"), "next": "look at the folder's owner, the disk and the keys",
          ])
        if !pause(.seconds(1)) { break }
        continue
      }
      if found.isEmpty {
        note(&unnoted)
        if !pause(.milliseconds(100)) { break }
        continue
      }
      guard take(found, maker, &unnoted) else { break }
      if unnoted.letters.count >= Self.orderLetters || Instant.now - unnoted.since >= .milliseconds(500) {
        note(&unnoted)
      }
    }
    note(&unnoted)
  }

  /// Puts the letters' events into the queue; false when the stop came first.
  private func take(_ found: [FollowedLetter], _ maker: LetterEvents, _ unnoted: inout Unnoted) -> Bool {
    let batch = RecordBatch(descriptor: description.descriptor, context: nil)
    var taken: [DeadLetterPosition] = []
    var passed = 0
    for letter in found where letter.entry.writtenNs >= reading.startNs {
      if maker.append(letter.entry, to: batch) { taken.append(letter.entry.position) } else { passed += 1 }
    }
    if passed > 0 {
      Log.warn(
        "dlq.passed-over",
        "Dead letters whose events had come from dead letters before were passed over; they stay.",
        [
          "pipeline": .text(context.pipelineID), "input": .text(context.stepID), "folder": .text(reading.folder),
          "letters": .number(passed), "next": "`sluice dlq list` shows them, `sluice dlq replay` sends them",
        ])
    }
    var kept = batch.count
    if batch.count > 0 {
      switch append(batch) {
      case .success: break
      case .failure(.closed), nil: return false
      case .failure(.tooLarge(let limit)): kept = takeSingly(batch, &taken, limit)
      }
    }
    if kept < 0 { return false }
    metrics.events.add(kept)
    metrics.bytes.add(batch.byteCount)
    metrics.batches.add()
    if unnoted.place == nil { unnoted.since = Instant.now }
    unnoted.place = found.last?.next ?? unnoted.place
    unnoted.letters += taken
    return true
  }

  /// One by one, where together they are too large for the queue; one that is too large by itself stays a letter.
  ///
  /// - Returns: How many were taken; -1 when the stop came first.
  private func takeSingly(_ batch: RecordBatch, _ taken: inout [DeadLetterPosition], _ limit: Int) -> Int {
    var kept: [DeadLetterPosition] = []
    for i in 0..<batch.count {
      let single = RecordBatch(descriptor: batch.descriptor, context: nil, arrivalNs: batch.arrivalNs)
      batch.withPayload(i) { single.append($0) }
      switch append(single) {
      case .success: kept.append(taken[i])
      case .failure(.tooLarge):
        metrics.errors.add()
        Log.error(
          "dlq.too-large", "A dead letter is larger than the queue of the pipeline that reads it; it stays.",
          [
            "pipeline": .text(context.pipelineID), "input": .text(context.stepID),
            "letter": .text(taken[i].description), "limit_bytes": .number(limit), "next": "raise queue.max_bytes",
          ])
      case .failure(.closed), nil: return -1
      }
    }
    taken = kept
    return kept.count
  }

  /// - Returns: nil where the stop came and the queue has not answered within a second: a full one.
  private func append(_ batch: RecordBatch) -> Result<Void, AppendFailure>? {
    state.withLock { $0.result = nil }
    context.sink.append(batch) { [state] result in state.update { $0.result = result } }
    var deadline: Instant?
    while true {
      if let result = state.wait(until: Instant.now + .milliseconds(200), { $0.result }) { return result }
      if isStopping, deadline == nil { deadline = Instant.now + .seconds(1) }
      if let deadline, Instant.now >= deadline { return nil }
    }
  }

  // MARK: The place

  private func note(_ unnoted: inout Unnoted) {
    guard let place = unnoted.place, let file = reading.placeFile else {
      unnoted = Unnoted()
      return
    }
    do {
      if reading.cleans, !unnoted.letters.isEmpty {
        var order = ReplayRequest(.purge)
        order.positions = unnoted.letters
        try order.hand(to: reading.folder)
        unnoted.letters = []
      }
      var text = ByteBuffer()
      text.append(text: "\(place)\n")
      try context.services.write(file, text.bytes)
      unnoted = Unnoted()
    } catch {
      // It is noted with the next letters; until then a crash repeats what came since.
      metrics.errors.add()
      unnoted.since = Instant.now
      Log.error(
        "dlq.place-not-kept", "The place in the dead letters could not be written; a crash would repeat events.",
        [
          "pipeline": .text(context.pipelineID), "input": .text(context.stepID), "file": .text(file),
          "reason": .text("\(error)"), "next": "look at the folder's owner and the disk",
        ])
    }
  }
}

/// Makes payloads of letters. One thread owns it.
private final class LetterEvents {
  private let batch = EventBatch()
  private let decoders = RecordDecoders()
  private var origins: [RecordDescriptor: Bool] = [:]
  private static let place = FieldReference.known("[@metadata][dead_letter_queue]")

  /// Appends the letter's event as JSON with its `@metadata`.
  ///
  /// - Returns: False for a letter whose event had come from dead letters.
  func append(_ entry: DeadLetterEntry, to records: RecordBatch) -> Bool {
    if cameFromLetters(entry.letter.descriptor) { return false }
    let view = LetterView(entry)
    batch.removeAll()
    decoders.startBatch()
    let event = view.event(in: batch, decoders)
    if entry.letter.sent.isEmpty, entry.letter.descriptor == .none {
      // Of an event above an input's limit only its head was kept.
      entry.letter.arrived.withUnsafeBytes { head in
        try? event.set(.message, event.makeText { appendEscapedUTF8(head, to: &$0) })
      }
    }
    var reason = ByteBuffer()
    view.facts.appendQueueReason(entry.writtenNs, to: &reason)
    if let map = try? event.parseJSON(event.copy(reason.bytes)) { try? event.set(Self.place, map.bits) }
    let document = event.makeValue(event.fields.copied())
    let name: StaticString = "@metadata"
    document.set(
      name: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), event.metadata.copied())
    document.appendJSON(to: &records.payloads)
    records.endRecord()
    return true
  }

  private func cameFromLetters(_ descriptor: RecordDescriptor) -> Bool {
    if let known = origins[descriptor] { return known }
    if origins.count > 100 { origins.removeAll() }
    let isLetter = RecordDescription(descriptor).input == DeadLetterInput.name
    origins[descriptor] = isLetter
    return isLetter
  }
}

extension DeadLetterFacts {
  /// What Logstash says of a letter: who refused its event, why and when.
  fileprivate func appendQueueReason(_ writtenNs: Int64, to out: inout ByteBuffer) {
    let isCondition = type == "condition" || stage == "condition"
    // `elasticsearch-2` is the second output of its kind; an id of its own says nothing of the kind.
    let kind = index != nil || status != nil ? "elasticsearch" : stage
    out.append("{\"plugin_type\":")
    out.append(quoted: isCondition ? "if-statement" : kind)
    out.append(",\"plugin_id\":")
    out.append(quoted: isCondition ? "if-statement" : stage)
    out.append(",\"reason\":")
    out.append(quoted: message)
    out.append(",\"entry_time\":\"")
    Timestamp(ns: writtenNs).appendISO8601(to: &out)
    out.append("\"}")
  }
}
