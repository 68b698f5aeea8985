//  The `metrics` filter: counts events and measures values, and gives out the figures as events of their own.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Metrics: FilterPlugin {
  static let manual = Manual(
    name: "metrics",
    summary: "Counts events and measures values, and gives out figures as separate events.",
    details: """
      Events that pass are neither changed nor decorated. Every `flush_interval`, where anything has been counted, one \
      event is made, decorated, and sent on behind this filter: `message` is the machine's name, and each name has a map \
      with `count` and the rates `rate_1m`, `rate_5m` and `rate_15m` (events per second, weighted towards the last minutes); \
      timers also have `min`, `max`, `mean`, `stddev` and percentiles such as `p99`, of a sample of 1,028 values that \
      favours the last minutes. All workers count together. The end of a run gives out nothing. At most 10,000 names are \
      kept; further ones are left out until `clear_interval` makes room.
      """,
    examples: [
      Example(
        "Requests by status, and how long they took",
        config: #"{ meter: ["req_%{status}"], timer: { took: "%{ms}" }, add_tag: [figures] }"#,
        input: #"{"status": 200, "ms": 12.5}"#, output: #"{"status": 200, "ms": 12.5}"#)
    ])

  struct Settings: PluginSettings {
    var meter: [Template] = []
    var timer = OrderedMap<Template, Template>()
    var ignoreOlderThan = 0
    var flushInterval = 5
    var clearInterval = -1
    var rates = [1, 5, 15]
    var percentiles: [Double] = [1, 5, 10, 90, 95, 99, 100]

    static let options: [Option<Settings>] = [
      .option("meter", \.meter, "Names of counters; placeholders are filled in."),
      .option(
        "timer", \.timer, "Names of measures and the values they take, both with placeholders filled in.",
        example: "{ took: '%{ms}' }"),
      .option(
        "ignore_older_than", \.ignoreOlderThan, "Events older than this are not counted; 0 counts all.",
        unit: .seconds, in: 0...31_536_000),
      .option(
        "flush_interval", \.flushInterval, "The time between two events with figures, in steps of five seconds.",
        unit: .seconds, in: 1...31_536_000),
      .option(
        "clear_interval", \.clearInterval,
        "After this time all is counted anew, in steps of five seconds; -1 for never.",
        unit: .seconds, in: -1...31_536_000),
      .option(
        "rates", \.rates, "The spans of the rates in minutes: 1, 5 and 15 are possible.",
        check: { rates in rates.allSatisfy { [1, 5, 15].contains($0) } ? nil : "takes 1, 5 and 15" }),
      .option(
        "percentiles", \.percentiles, "The percentiles of timers.",
        check: { values in values.allSatisfy { (0...100).contains($0) } ? nil : "takes numbers from 0 to 100" }),
    ]
  }

  private let settings: Settings
  private let figures: MetricsFigures

  init(_ settings: Settings, _ context: FilterContext) throws {
    for template in settings.meter {
      if let fault = template.fault { throw BuildFailure("meter", fault.description) }
    }
    for entry in settings.timer.entries {
      if let fault = entry.key.fault ?? entry.value.fault { throw BuildFailure("timer", fault.description) }
    }
    self.settings = settings
    figures = MetricsFigures(settings)
  }

  func makeFilter() -> any Filter { Worker(settings, figures) }
  var timed: (any TimedState)? { figures }

  private final class Worker: Filter {
    private let meters: [Template]
    private let timers: [(name: Template, value: Template)]
    private let ignoreNs: Int64
    private let figures: MetricsFigures
    private var updates: [MetricsUpdate] = []
    private var names = ByteBuffer(capacity: 4096)
    private var text = ByteBuffer(capacity: 64)

    init(_ settings: Settings, _ figures: MetricsFigures) {
      meters = settings.meter
      timers = settings.timer.entries.map { ($0.key, $0.value) }
      ignoreNs = Int64(settings.ignoreOlderThan) * 1_000_000_000
      self.figures = figures
    }

    func process(_ batch: FilterBatch) {
      updates.removeAll(keepingCapacity: true)
      names.removeAll()
      let oldest = ignoreNs > 0 ? Timestamp(ns: WallClock.ns - ignoreNs) : .earliest
      for i in batch.selection {
        let event = batch.events[i]
        if event.isCancelled || (event.timestamp ?? event.arrival) < oldest { continue }
        for name in meters { note(name, nil, event) }
        for (name, value) in timers {
          text.removeAll()
          _ = try? value.append(event, to: &text)
          note(name, Worker.number(text.bytes), event)
        }
      }
      if !updates.isEmpty { figures.add(updates, names.bytes) }
      names.shrink(to: 1 << 16)
    }

    private func note(_ name: Template, _ value: Double?, _ event: Event) {
      let start = names.count
      _ = try? name.append(event, to: &names)
      let bytes = UnsafeRawBufferPointer(rebasing: names.bytes[start...])
      updates.append(
        MetricsUpdate(
          hash: SeededHash.of(bytes) &+ (value == nil ? 0 : 1), start: start, end: names.count, value: value))
    }

    /// The number that a text begins with; 0 where there is none.
    private static func number(_ text: UnsafeRawBufferPointer) -> Double {
      var end = 0
      while end < text.count, isSpace(text[end]) { end += 1 }
      let start = end
      if end < text.count, text[end] == 45 || text[end] == 43 { end += 1 }
      func digits() { while end < text.count, text[end] &- 48 < 10 { end += 1 } }
      digits()
      if end + 1 < text.count, text[end] == 46, text[end + 1] &- 48 < 10 {
        end += 1
        digits()
      }
      if end + 1 < text.count, text[end] | 32 == 101 {
        let sign = text[end + 1] == 45 || text[end + 1] == 43 ? 1 : 0
        if end + 1 + sign < text.count, text[end + 1 + sign] &- 48 < 10 {
          end += 1 + sign
          digits()
        }
      }
      let value = Double(String(decoding: text[start..<end], as: UTF8.self)) ?? 0
      return value.isFinite ? value : 0
    }
  }
}
