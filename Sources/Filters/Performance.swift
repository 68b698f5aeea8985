//  The `performance` filter: how long a request took, in words that dashboards and alerts can count.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Performance: FilterPlugin {
  static let manual = Manual(
    name: "performance",
    summary: "Names how fast a request was, and whether it weighed on the database.",
    details: """
      Writes `performance_category` (`fast`, `normal`, `slow`, `very_slow`, `critical`: a duration above a bound has its \
      name), `slow_request` (true above `slow`) and `db_heavy` (true above `db_queries` queries or `db_time` seconds in \
      the database). An event without the source field is left alone.
      """,
    examples: [
      Example(
        "A slow request", config: "{}", input: #"{"request_duration": 2.5, "db_queries": 4}"#,
        output: """
          {"request_duration": 2.5, "db_queries": 4, "performance_category": "slow", "slow_request": true, \
          "db_heavy": false}
          """),
      Example(
        "Bounds of one's own", config: "{ source: took, thresholds: { normal: 0.1, slow: 0.2 }, db_queries: 5 }",
        input: #"{"took": 0.15, "db_queries": 6}"#,
        output: """
          {"took": 0.15, "db_queries": 6, "performance_category": "normal", "slow_request": false, "db_heavy": true}
          """),
    ])

  struct Thresholds: NestedSettings {
    var normal = 0.5
    var slow = 2.0
    var verySlow = 5.0
    var critical = 10.0

    static let options: [Option<Thresholds>] = [
      .option("normal", \.normal, "Above this a request is no longer fast.", unit: .seconds),
      .option("slow", \.slow, "Above this it is slow.", unit: .seconds),
      .option("very_slow", \.verySlow, "Above this it is very slow.", unit: .seconds),
      .option("critical", \.critical, "Above this it is critical.", unit: .seconds),
    ]
  }

  struct Settings: PluginSettings {
    var source = FieldReference.known("request_duration")
    var thresholds = Thresholds()
    var dbQueries = 20.0
    var dbTime = 1.0

    static let options: [Option<Settings>] = [
      .option("source", \.source, "The field with the duration in seconds."),
      .option("thresholds", \.thresholds, "The bounds of the categories."),
      .option("db_queries", \.dbQueries, "More queries than this in the field `db_queries` are heavy."),
      .option(
        "db_time", \.dbTime, "More time than this in the field `db_time` is heavy.", unit: .seconds),
    ]
  }

  private let settings: Settings

  init(_ settings: Settings, _ context: FilterContext) throws {
    let bounds = settings.thresholds
    guard bounds.normal < bounds.slow, bounds.slow < bounds.verySlow, bounds.verySlow < bounds.critical else {
      throw BuildFailure("thresholds", "the bounds must rise: normal, slow, very_slow, critical")
    }
    self.settings = settings
  }

  func makeFilter() -> any Filter { Worker(settings) }

  private final class Worker: Filter {
    private let settings: Settings
    private let source: FieldReference
    private let queries = FieldReference.known("db_queries")
    private let time = FieldReference.known("db_time")
    private let category = FieldReference.known("performance_category")
    private let slow = FieldReference.known("slow_request")
    private let heavy = FieldReference.known("db_heavy")

    init(_ settings: Settings) {
      self.settings = settings
      source = settings.source
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        guard let duration = number(event.value(source)) else { return false }
        let bounds = settings.thresholds
        let name: StaticString =
          switch duration {
          case _ where duration > bounds.critical: "critical"
          case _ where duration > bounds.verySlow: "very_slow"
          case _ where duration > bounds.slow: "slow"
          case _ where duration > bounds.normal: "normal"
          default: "fast"
          }
        let isHeavy =
          (number(event.value(queries)) ?? 0) > settings.dbQueries || (number(event.value(time)) ?? 0) > settings.dbTime
        var isWritten = event.write(category, .text(name))
        isWritten = event.write(slow, .boolean(duration > bounds.slow)) && isWritten
        return event.write(heavy, .boolean(isHeavy)) && isWritten
      }
    }

    /// A number, or a text that reads as one.
    private func number(_ value: Value?) -> Double? {
      guard let value else { return nil }
      if let text = value.text { return parseDouble(text) }
      return value.number
    }
  }
}
