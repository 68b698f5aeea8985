//  What recorded cases cannot show of `elapsed` and `metrics`: the timer.

import Diagnostics
import Events
import TestSupport
import Testing

@testable import Filters

@Suite struct ElapsedMetricsTests {
  private let host = machineName()

  @Test func `a start without an end becomes an event when its time is up`() {
    let steps = StepsHarness(
      """
      - elapsed: { start_tag: begin, end_tag: done, unique_id_field: id, timeout: 10, add_tag: [t] }
      - mutate: { add_field: { later: "1" } }
      """)
    for id in ["7", "1.0", "\"7\"", "true", "[\"a\",1]", "{\"k\":null}"] {
      _ = steps.run("{\"@timestamp\":\"2025-03-09T07:12:44Z\",\"id\":\(id),\"tags\":[\"begin\"]}")
    }
    _ = steps.run(#"{"@timestamp":"2025-03-09T07:12:45Z","id":true,"tags":["done"]}"#)
    #expect(steps.flush().isEmpty)
    let rest =
      #""elapsed_time":10,"elapsed_timestamp_start":"2025-03-09T07:12:44.000Z","later":"1"}"#
    let tags = #""tags":["elapsed","elapsed_expired_error","t"],"host":"\#(host)","#
    #expect(
      Set(steps.flush())
        == Set(["7", "1.0", "\"7\"", "[\"a\",1]", "{\"k\":null}"].map { "{\(tags)\"id\":\($0),\(rest)" }))
    #expect(steps.flush().isEmpty)
  }

  @Test func `the end of a run lets no time pass`() {
    let steps = StepsHarness("- elapsed: { start_tag: begin, end_tag: done, unique_id_field: id, timeout: 5 }")
    _ = steps.run(#"{"id":7,"tags":["begin"]}"#)
    #expect(steps.flush(isFinal: true).isEmpty)
  }

  @Test(arguments: [("first", "2.5"), ("last", "1.5")])
  func `the first or the last of several starts counts`(_ keep: String, _ seconds: String) {
    let steps = StepsHarness(
      "- elapsed: { start_tag: begin, end_tag: done, unique_id_field: id, keep_start_event: \(keep) }")
    let lines = steps.run(
      #"""
      {"@timestamp":"2025-03-09T07:12:44Z","id":7,"tags":["begin"]}
      {"@timestamp":"2025-03-09T07:12:45Z","id":7,"tags":["begin"]}
      {"@timestamp":"2025-03-09T07:12:46.5Z","id":7,"tags":["done"]}
      """#)
    #expect(lines.last?.contains("\"elapsed_time\":\(seconds),") == true)
  }

  @Test func `another worker finds the start`() {
    let steps = StepsHarness("- elapsed: { start_tag: begin, end_tag: done, unique_id_field: id }")
    _ = steps.run(#"{"@timestamp":"2025-03-09T07:12:44Z","id":7,"tags":["begin"]}"#)
    #expect(
      steps.another().run(#"{"@timestamp":"2025-03-09T07:12:45Z","id":7,"tags":["done"]}"#)[0]
        .contains("\"elapsed_time\":1.0"))
  }

  @Test func `meters and timers become one event in each interval`() throws {
    let steps = StepsHarness(
      """
      - metrics:
          meter: ["req_%{status}", all.requests]
          timer: { took: "%{ms}" }
          flush_interval: 10
          clear_interval: 20
          rates: [1]
          percentiles: [50, 99.9, 100]
          add_tag: [figures]
      """)
    #expect(steps.flush().isEmpty)
    let lines = [(200, "10"), (200, "20"), (500, "30 ms")].map { "{\"status\":\($0),\"ms\":\"\($1)\"}" }
    #expect(steps.run(lines.joined(separator: "\n")) == lines)
    let events = steps.flush()
    try #require(events.count == 1)
    let rate = { (n: Int) in "\"rate_1m\":\(Double(n) / 5)" }
    #expect(
      events[0]
        == "{\"message\":\"\(host)\",\"req_200\":{\"count\":2,\(rate(2))},"
        + "\"all.requests\":{\"count\":3,\(rate(3))},"
        + "\"took\":{\"count\":3,\(rate(3)),\"min\":10.0,\"max\":30.0,\"stddev\":10.0,\"mean\":20.0,"
        + "\"p50\":20.0,\"p99.9\":30.0,\"p100\":30.0},"
        + "\"req_500\":{\"count\":1,\(rate(1))},\"tags\":[\"figures\"]}")
    #expect(steps.flush().isEmpty)
    #expect(steps.flush().count == 1)
    // The clear interval is over: nothing is known until events come.
    #expect(steps.flush().isEmpty)
    #expect(steps.flush().isEmpty)
    _ = steps.run(lines[0])
    #expect(steps.flush(isFinal: true).isEmpty)
  }

  @Test func `old events are not counted`() {
    let steps = StepsHarness("- metrics: { meter: [x], ignore_older_than: 60 }")
    _ = steps.run(#"{"@timestamp":"2020-01-01T00:00:00Z"}"#)
    #expect(steps.flush().isEmpty)
    _ = steps.run("{}")
    #expect(steps.flush().count == 1)
  }

  @Test func `names are bounded and may hold brackets`() throws {
    let steps = StepsHarness(#"- metrics: { meter: ["%{n}"], rates: [] }"#)
    _ = steps.run((0..<10_050).map { "{\"n\":\"name-\($0)\"}" }.joined(separator: "\n"))
    #expect(steps.flush()[0].split(separator: "name-").count == 10_001)
    let nested = StepsHarness(#"- metrics: { meter: ["%{n}"], rates: [] }"#)
    _ = nested.run(#"{"n":"[a][b]"}"# + "\n" + #"{"n":"[a][c]"}"# + "\n" + #"{"n":"[broken"}"#)
    #expect(nested.flush() == [#"{"message":"\#(host)","a":{"b":{"count":1},"c":{"count":1}}}"#])
  }

  @Test func `a rate follows slowly`() {
    let figure = MetricsFigure(name: [], isTimer: false)
    for _ in 0..<50 { figure.add(nil, .now) }
    figure.tick(seconds: 5)
    figure.tick(seconds: 5)
    let batch = EventBatch()
    let event = batch.add(arrivalNs: 0)
    let map = event.makeMap()
    figure.write(to: map, event, [1, 5, 15], [])
    let rates = ["rate_1m", "rate_5m", "rate_15m"].compactMap { map[$0]?.double }
    #expect(abs(rates[0] - 10 * 0.9200444) < 1e-5)
    #expect(rates[0] < rates[1] && rates[1] < rates[2] && rates[2] < 10)
  }

  @Test func `percentiles lie between the values in proportion`() {
    let values = (1...9).map { Double($0) }
    #expect(MetricsFigure.percentile(50, of: values) == 5)
    #expect(MetricsFigure.percentile(25, of: values) == 2.5)
    #expect(MetricsFigure.percentile(0, of: values) == 1)
    #expect(MetricsFigure.percentile(100, of: values) == 9)
    #expect(MetricsFigure.percentile(50, of: []) == 0)
  }

  @Test func `a sample is bounded and favours what is new`() throws {
    let figure = MetricsFigure(name: [], isTimer: true)
    let start = Instant.now
    for i in 0..<3000 { figure.add(1, start + .milliseconds(i)) }
    for i in 0..<3000 { figure.add(2, start + .seconds(3600) + .milliseconds(i)) }
    let batch = EventBatch()
    let event = batch.add(arrivalNs: 0)
    let map = event.makeMap()
    figure.write(to: map, event, [], [1])
    #expect(map["p1"]?.double == 2)
    #expect(map["min"]?.double == 1)
    #expect(abs((map["mean"]?.double ?? 0) - 1.5) < 1e-9)
  }
}
