//  Where a correlation id comes from, and that a made one is that of the record.

import Diagnostics
import Events
import TestSupport
import Testing

@Suite struct CorrelationTests {
  private final class FixedIDs: RecordIDs {
    func appendID(_ record: Int, to out: inout ByteBuffer) { out.append(text: "record-number-\(100_000 + record)") }
  }

  @Test(arguments: [
    (#"{"correlation_id": "a-1", "x_request_id": "b"}"#, "a-1"),
    (#"{"correlation_id": "not sound", "x_request_id": "b"}"#, "b"),
    (#"{"x_correlation_id": "", "x_request_id": "A.b_c:d-9"}"#, "A.b_c:d-9"),
    (
      #"{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#,
      "4bf92f3577b34da6a3ce929d0e0e4736"
    ),
    (#"{"headers": {"x_request_id": "from-head"}}"#, "from-head"),
    (#"{"x_request_id": "own", "headers": {"x_correlation_id": "from-head"}}"#, "own"),
    (#"{"@metadata": {"input": {"http": {"request": {"headers": {"x_request_id": "deep"}}}}}}"#, "deep"),
  ])
  func `the first sound id counts`(_ json: String, _ id: String) throws {
    #expect(try FilterHarness("correlation", "{}").result(json)["correlation_id"]?.string == id)
  }

  @Test func `an id of 128 characters is sound and one of 129 is not`() throws {
    let harness = FilterHarness("correlation", "{}")
    let longest = String(repeating: "x", count: 128)
    #expect(try harness.result(#"{"x_request_id": "\#(longest)"}"#)["correlation_id"]?.string == longest)
    #expect(try harness.result(#"{"x_request_id": "\#(longest)x"}"#)["correlation_id"]?.string?.utf8.count == 20)
  }

  @Test func `a made id is that of the record, with the part of a further event`() throws {
    let harness = FilterHarness("correlation", "{}")
    let ids = FixedIDs()
    harness.batch.recordIDs = ids
    let event = try harness.add(#"{"a": 1}"#, record: 7)
    let further = event.spawnClone()
    harness.batch.takeSpawned { _, _ in }
    let results = harness.run(event, further).map { $0.fields["correlation_id"]?.string }
    #expect(results == ["record-number-100007", "record-number-100007-1"])
  }

  @Test func `without records equal contents have equal ids, whenever they arrive`() throws {
    let harness = FilterHarness("correlation", "{}")
    func id(_ json: String, _ arrivalNs: Int64) throws -> String? {
      harness.run(try harness.add(json, arrivalNs: arrivalNs)).first?.fields["correlation_id"]?.string
    }
    let first = try id(#"{"a": 1}"#, 1)
    #expect(first?.utf8.count == 20)
    #expect(try id(#"{"a": 1}"#, 2) == first)
    #expect(try id(#"{"a": 2}"#, 1) != first)
  }
}

@Suite struct PerformanceTests {
  @Test(arguments: [
    ("0.5", "fast"), ("0.51", "normal"), ("2", "normal"), ("2.0001", "slow"), ("5.1", "very_slow"), ("10", "very_slow"),
    ("11", "critical"), ("-1", "fast"), (#""3.5""#, "slow"),
  ])
  func `a duration above a bound has its name`(_ duration: String, _ name: String) throws {
    let fields = try FilterHarness("performance", "{}").result(#"{"request_duration": \#(duration)}"#)
    #expect(fields["performance_category"]?.string == name)
    #expect(fields["slow_request"]?.boolean == ["slow", "very_slow", "critical"].contains(name))
    #expect(fields["db_heavy"]?.boolean == false)
  }

  @Test(arguments: [(20, "1.0", false), (21, "0", true), (0, "1.01", true)])
  func `many queries or much time are heavy`(_ queries: Int, _ time: String, _ isHeavy: Bool) throws {
    let fields = try FilterHarness("performance", "{}")
      .result(#"{"request_duration": 1, "db_queries": \#(queries), "db_time": \#(time)}"#)
    #expect(fields["db_heavy"]?.boolean == isHeavy)
  }

  @Test(arguments: ["{}", #"{"request_duration": null}"#, #"{"request_duration": "soon"}"#, #"{"db_queries": 99}"#])
  func `without a duration nothing is written`(_ json: String) throws {
    let fields = try FilterHarness("performance", "{ add_tag: [t] }").result(json)
    #expect(fields["performance_category"] == nil)
    #expect(fields["db_heavy"] == nil)
    #expect(fields["tags"] == nil)
  }

  @Test func `bounds that do not rise are refused`() {
    let harness = FilterHarness("performance", "{ thresholds: { slow: 6 } }")
    #expect(harness.problems.hasErrors)
  }
}
