//  The `elapsed` filter: the time between two events that belong together.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Elapsed: FilterPlugin {
  static let manual = Manual(
    name: "elapsed",
    summary: "Measures the time between a start and an end event.",
    details: """
      Events are told apart by tags and paired by the value of a field, whose type counts. The end event gets \
      `elapsed_time` (seconds between the two `@timestamp`), `elapsed_timestamp_start` and the tags `elapsed` and \
      `elapsed_match`; with `new_event_on_match` a new event gets them instead. An end without a start is tagged \
      `elapsed_end_without_start`. A start that waits longer than `timeout`, counted in steps of five seconds, becomes an \
      event with the tag `elapsed_expired_error`. An event with both tags is a start.

      Starts are shared by the pipeline's workers; with several of them an end may overtake its start. Beyond a million \
      starts the oldest are given up.
      """,
    examples: [
      Example(
        "The duration of a request", config: "{ start_tag: begin, end_tag: done, unique_id_field: id }",
        input: """
          {"@timestamp": "2025-03-09T07:12:44.000Z", "id": 7, "tags": ["begin"]}
          {"@timestamp": "2025-03-09T07:12:46.500Z", "id": 7, "tags": ["done"]}
          """,
        output: """
          {"id": 7, "tags": ["begin"]}
          {"id": 7, "tags": ["done", "elapsed", "elapsed_match"], "elapsed_time": 2.5, \
          "elapsed_timestamp_start": "2025-03-09T07:12:44.000Z"}
          """)
    ],
    failureTags: ["elapsed_end_without_start", "elapsed_expired_error"])

  enum Keep: String, OptionEnum { case first, last }

  struct Settings: PluginSettings {
    var startTag = ""
    var endTag = ""
    var idField = FieldReference.known("id")
    var timeout = 1800
    var newEventOnMatch = false
    var keepStartEvent = Keep.first

    static let options: [Option<Settings>] = [
      .option("start_tag", \.startTag, "The tag that marks start events.", required: true, example: "begin"),
      .option("end_tag", \.endTag, "The tag that marks end events.", required: true, example: "done"),
      .option(
        "unique_id_field", \.idField, "The field that pairs start and end.", required: true, example: "request_id"),
      .option("timeout", \.timeout, "How long a start waits for its end.", unit: .seconds, in: 1...31_536_000),
      .option("new_event_on_match", \.newEventOnMatch, "The result goes to a new event and not to the end event."),
      .option("keep_start_event", \.keepStartEvent, "Which start counts where several come."),
    ]
  }

  private let settings: Settings
  private let starts: ElapsedStarts

  init(_ settings: Settings, _ context: FilterContext) {
    self.settings = settings
    starts = ElapsedStarts(settings)
  }

  func makeFilter() -> any Filter { Worker(settings, starts) }
  var timed: (any TimedState)? { starts }

  private final class Worker: Filter {
    private struct Update {
      var event: Int32
      var place: Int
      var hash: UInt64
      var start: Int
      var end: Int
      var isStart: Bool
    }

    private let id: FieldReference
    private let startTag: Template
    private let endTag: Template
    private let makesEvent: Bool
    private let keepsLast: Bool
    private let starts: ElapsedStarts
    private var updates: [Update] = []
    /// The start that was found for the end at that place, or none.
    private var found: [Timestamp?] = []
    private var kinds: [Kind] = []
    private var groups = ShardGroups()
    private var ids = ByteBuffer(capacity: 4096)

    private enum Kind { case neither, start, end }

    init(_ settings: Settings, _ starts: ElapsedStarts) {
      id = settings.idField
      startTag = Template(settings.startTag)
      endTag = Template(settings.endTag)
      makesEvent = settings.newEventOnMatch
      keepsLast = settings.keepStartEvent == .last
      self.starts = starts
    }

    func process(_ batch: FilterBatch) {
      collect(batch)
      groups.group(updates.count) { updates[$0].hash }
      var givenUp = 0
      for shard in 0..<ShardGroups.count {
        let range = groups.range(shard)
        if range.isEmpty { continue }
        starts.shards[shard].withLock { shard in
          for place in range {
            let update = updates[Int(groups.order[place])]
            let id = UnsafeRawBufferPointer(rebasing: ids.bytes[update.start..<update.end])
            if update.isStart {
              givenUp += shard.insert(update.hash, id, time(batch.events[update.event]), keepsLast: keepsLast)
            } else {
              found[update.place] = shard.remove(update.hash, id)
            }
          }
        }
      }
      ids.shrink(to: 1 << 16)
      if givenUp > 0 {
        Log.warn(
          "elapsed.too-many-starts", "Too many start events wait for their ends; the oldest were given up.",
          ["starts": .number(givenUp), "next": "Shorten 'timeout', or check that ends carry 'end_tag'."])
      }
      for (place, i) in batch.selection.enumerated() where kinds[place] != .neither {
        let event = batch.events[i]
        decorate(event, batch.success)
        if kinds[place] == .end { finish(event, found[place], batch.success) }
      }
    }

    private func collect(_ batch: FilterBatch) {
      updates.removeAll(keepingCapacity: true)
      found.removeAll(keepingCapacity: true)
      kinds.removeAll(keepingCapacity: true)
      ids.removeAll()
      for (place, i) in batch.selection.enumerated() {
        let event = batch.events[i]
        found.append(nil)
        var kind = Kind.neither
        if !event.isCancelled, let value = event.value(id), !value.isNull, let tags = event.value(.tags) {
          kind = has(startTag, tags) ? .start : has(endTag, tags) ? .end : .neither
          if kind != .neither {
            let start = ids.count
            ElapsedStarts.appendKey(value, to: &ids)
            let key = UnsafeRawBufferPointer(rebasing: ids.bytes[start...])
            updates.append(
              Update(
                event: i, place: place, hash: SeededHash.of(key), start: start, end: ids.count, isStart: kind == .start)
            )
          }
        }
        kinds.append(kind)
      }
    }

    /// Tags as a single text have a tag where they contain it.
    private func has(_ tag: Template, _ tags: Value) -> Bool {
      if let text = tags.text { return tag.constantBytes.isEmpty || find(tag.constantBytes, in: text, from: 0) != nil }
      var child = tags.first
      while let element = child {
        if let text = element.text, equal(text, tag.constantBytes) { return true }
        child = element.next
      }
      return false
    }

    private func time(_ event: Event) -> Timestamp { event.timestamp ?? event.arrival }

    private func decorate(_ event: Event, _ success: SuccessActions) {
      if !success.isEmpty, !success.apply(to: event) { event.addTag("_decoratefailure") }
    }

    private func finish(_ event: Event, _ start: Timestamp?, _ success: SuccessActions) {
      guard let start else {
        event.addTag("elapsed_end_without_start")
        return
      }
      guard makesEvent else {
        write(event, start, time(event))
        return
      }
      let made = event.spawn()
      _ = made.write(ElapsedStarts.host, .text(staying: ElapsedStarts.hostName.constantBytes))
      if let value = event.value(id) { _ = made.write(id, value.copied()) }
      write(made, start, time(event))
      decorate(made, success)
    }

    private func write(_ event: Event, _ start: Timestamp, _ end: Timestamp) {
      event.addTag("elapsed")
      event.addTag("elapsed_match")
      _ = event.write(ElapsedStarts.time, .double(end.seconds(since: start)))
      _ = event.write(ElapsedStarts.startTime, .timestamp(start))
    }
  }
}

/// The starts that wait for their ends. Any thread.
final class ElapsedStarts: TimedState {
  static let startsMax = 1_000_000
  static let time = FieldReference.known("elapsed_time")
  static let startTime = FieldReference.known("elapsed_timestamp_start")
  static let host = FieldReference.known("host")
  static let hostName = Template(machineName())

  struct Start {
    /// The id as JSON, which tells types apart.
    let id: [UInt8]
    var time: Timestamp
    /// Seconds, in steps of the timer.
    var age = 0
    let number: Int
  }

  struct Shard {
    private(set) var starts: [UInt64: Start] = [:]
    private var next = 0

    /// Where the start of that id lies, or would lie: another id of the same hash moves it on.
    private func place(_ hash: UInt64, _ id: UnsafeRawBufferPointer) -> UInt64 {
      var place = hash
      while let present = starts[place], !present.id.elementsEqual(id) { place = place &+ 1 }
      return place
    }

    /// - Returns: How many old starts had to make room.
    mutating func insert(_ hash: UInt64, _ id: UnsafeRawBufferPointer, _ time: Timestamp, keepsLast: Bool) -> Int {
      let place = place(hash, id)
      if starts[place] != nil, !keepsLast { return 0 }
      let givenUp = starts.count >= ElapsedStarts.startsMax / ShardGroups.count ? giveUpOldest() : 0
      starts[place] = Start(id: Array(id), time: time, number: next)
      next += 1
      return givenUp
    }

    mutating func remove(_ hash: UInt64, _ id: UnsafeRawBufferPointer) -> Timestamp? {
      starts.removeValue(forKey: place(hash, id))?.time
    }

    private mutating func giveUpOldest() -> Int {
      let oldest = starts.sorted { $0.value.number < $1.value.number }.prefix(max(1, starts.count / 8))
      for entry in oldest { starts[entry.key] = nil }
      return oldest.count
    }

    /// Ages all and takes out those that have waited long enough, oldest first.
    mutating func age(by seconds: Int, limit: Int) -> [Start] {
      var over: [Start] = []
      for key in Array(starts.keys) {
        guard var start = starts[key] else { continue }
        start.age += seconds
        if start.age >= limit {
          over.append(start)
          starts[key] = nil
        } else {
          starts[key] = start
        }
      }
      return over.sorted { $0.number < $1.number }
    }
  }

  let shards: [Lock<Shard>] = (0..<ShardGroups.count).map { _ in Lock(Shard()) }
  private let timeout: Int
  private let id: FieldReference

  init(_ settings: Elapsed.Settings) {
    timeout = settings.timeout
    id = settings.idField
  }

  /// The id with its type; a number in one form, however it was written.
  static func appendKey(_ value: Value, to out: inout ByteBuffer) {
    switch value.kind {
    case .integer: out.append(decimal: value.integer ?? 0)
    case .double:
      out.append(UInt8(ascii: "F"))
      appendRubyDouble(value.double ?? 0, to: &out)
    case .timestamp:
      out.append(UInt8(ascii: "T"))
      value.appendJSON(to: &out)
    default: value.appendJSON(to: &out)
    }
  }

  func flush(_ batch: FlushBatch, isFinal: Bool) {
    // No time has passed before the last call.
    if isFinal { return }
    for shard in shards {
      for start in shard.withLock({ $0.age(by: 5, limit: timeout) }) {
        let event = batch.makeEvent()
        event.addTag("elapsed")
        event.addTag("elapsed_expired_error")
        _ = event.write(ElapsedStarts.host, .text(staying: ElapsedStarts.hostName.constantBytes))
        _ = event.write(id, value(of: start, event))
        _ = event.write(ElapsedStarts.time, .integer(start.age))
        _ = event.write(ElapsedStarts.startTime, .timestamp(start.time))
        if !batch.success.isEmpty, !batch.success.apply(to: event) { event.addTag("_decoratefailure") }
      }
    }
  }

  private func value(of start: Start, _ event: Event) -> ValueBits {
    start.id.withUnsafeBytes { bytes in
      // A mark in front tells what JSON cannot: floats and timestamps.
      if bytes.first == UInt8(ascii: "F") {
        return .double(parseDouble(bytes.slice(1, bytes.count)) ?? 0)
      }
      if bytes.first == UInt8(ascii: "T"), bytes.count > 3, bytes[1] == 34 {
        return Timestamp(arriving: bytes.slice(2, bytes.count - 1)).map { .timestamp($0) } ?? .null
      }
      return (try? event.parseJSON(bytes))?.bits ?? .null
    }
  }
}
