//  The `throttle` filter: marks events of which there are too few or too many within a period, by their key. What it marks
//  it keeps; a condition further on decides.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Throttle: FilterPlugin {
  static let manual = Manual(
    name: "throttle",
    summary: "Marks events whose number within a period lies outside of bounds.",
    details: """
      Events are counted by key and slot of time. The first event of a key fixes where its slots begin, and each is one \
      period long; the time is the event's own, in whole seconds, so a late event counts in its own slot as long as that is \
      remembered. An event is throttled when the count with it is below `before_count` or above `after_count`; then the \
      common options are applied, so that a tag and a condition can drop it. All workers count together.
      """,
    examples: [
      Example(
        "At most two a minute of each kind", config: #"{ key: "%{kind}", after_count: 2, add_tag: [throttled] }"#,
        input: """
          {"@timestamp": "2025-03-09T07:12:00.000Z", "kind": "x"}
          {"@timestamp": "2025-03-09T07:12:10.000Z", "kind": "x"}
          {"@timestamp": "2025-03-09T07:12:20.000Z", "kind": "x"}
          {"@timestamp": "2025-03-09T07:13:00.000Z", "kind": "x"}
          """,
        output: """
          {"kind": "x"}
          {"kind": "x"}
          {"kind": "x", "tags": ["throttled"]}
          {"kind": "x"}
          """),
      Example(
        "Only from the third failure on", config: #"{ key: "%{user}", before_count: 3, add_field: { few: "yes" } }"#,
        input: """
          {"@timestamp": "2025-03-09T07:12:00.000Z", "user": "lena"}
          {"@timestamp": "2025-03-09T07:12:01.000Z", "user": "lena"}
          {"@timestamp": "2025-03-09T07:12:02.000Z", "user": "lena"}
          """,
        output: """
          {"user": "lena", "few": "yes"}
          {"user": "lena", "few": "yes"}
          {"user": "lena"}
          """),
    ])

  struct Settings: PluginSettings {
    var key = Template("")
    var beforeCount = -1
    var afterCount = -1
    var period = Template("60")
    var maxAge = 3600
    var maxCounters = 100_000

    static let options: [Option<Settings>] = [
      .option(
        "key", \.key, "Events with equal keys are counted together; placeholders are filled in.", required: true,
        example: "'%{host}'"),
      .option(
        "before_count", \.beforeCount, "Events with a count below it are throttled; -1 for none.",
        in: -1...1_000_000_000),
      .option(
        "after_count", \.afterCount, "Events with a count above it are throttled; -1 for none.", in: -1...1_000_000_000),
      .option(
        "period", \.period,
        "The length of a slot in seconds, a whole number with placeholders filled in; 60 where it is none."),
      .option(
        "max_age", \.maxAge, "Slots that ended so long before the newest event of their key are forgotten.",
        unit: .seconds, in: 1...31_536_000),
      .option(
        "max_counters", \.maxCounters,
        "When there are more counters, older ones than `max_age` asks for are forgotten; -1 for ten million.",
        in: -1...10_000_000),
    ]
  }

  private let settings: Settings
  private let counters: ThrottleCounters

  init(_ settings: Settings, _ context: FilterContext) throws {
    if let fault = settings.key.fault { throw BuildFailure("key", fault.description) }
    if let fault = settings.period.fault { throw BuildFailure("period", fault.description) }
    self.settings = settings
    counters = ThrottleCounters(
      maxAge: Int64(settings.maxAge), countersMax: settings.maxCounters < 0 ? 10_000_000 : settings.maxCounters)
  }

  func makeFilter() -> any Filter { Worker(settings, counters) }

  private final class Worker: Filter {
    private let key: Template
    private let period: Template
    private let constantPeriod: Int64?
    private let before: Int
    private let after: Int
    private let counters: ThrottleCounters
    private var updates: [ThrottleUpdate] = []
    private var groups = ShardGroups()
    private var text = ByteBuffer(capacity: 128)

    init(_ settings: Settings, _ counters: ThrottleCounters) {
      key = settings.key
      period = settings.period
      constantPeriod = settings.period.isConstant ? Worker.seconds(settings.period.constantBytes) : nil
      before = settings.beforeCount < 0 ? 0 : settings.beforeCount
      after = settings.afterCount < 0 ? .max : settings.afterCount
      self.counters = counters
    }

    func process(_ batch: FilterBatch) {
      updates.removeAll(keepingCapacity: true)
      for i in batch.selection where !batch.events[i].isCancelled { updates.append(update(batch.events[i])) }
      counters.apply(&updates, &groups)
      var number = 0
      batch.forEach { _ in
        let count = updates[number].count
        number += 1
        return count < before || count > after
      }
    }

    private func update(_ event: Event) -> ThrottleUpdate {
      text.removeAll()
      _ = try? key.append(event, to: &text)
      let hash = SeededHash.of(text.bytes)
      var seconds = constantPeriod ?? 0
      if constantPeriod == nil {
        text.removeAll()
        _ = try? period.append(event, to: &text)
        seconds = Worker.seconds(text.bytes)
      }
      return ThrottleUpdate(key: hash, time: (event.timestamp ?? event.arrival).seconds, period: seconds)
    }

    /// The whole number at the start of a text; 60 where there is none above 0.
    private static func seconds(_ text: UnsafeRawBufferPointer) -> Int64 {
      var value: Int64 = 0
      for byte in text.drop(while: { $0 == 32 || $0 &- 9 < 5 }) {
        guard byte &- 48 < 10, value < 1_000_000_000_000 else { break }
        value = value * 10 + Int64(byte &- 48)
      }
      return value == 0 ? 60 : value
    }
  }
}
