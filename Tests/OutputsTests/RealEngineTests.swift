//  The `elasticsearch` output before real engines: what their rules for actions, versions and data streams make of what it
//  sends.

import Config
import Diagnostics
import Events
import PluginKit
import TestSupport
import Testing

@testable import Outputs

@Suite(.enabled(if: RunningEngine.isThere, Comment(rawValue: RunningEngine.why)))
struct RealEngineTests {
  /// Sends documents and returns the letters that they became.
  private func send(
    _ documents: [String], to engine: RunningEngine, _ change: (inout Elasticsearch.Settings) -> Void
  ) throws -> (letters: [KeptLetters.Letter], figures: OutputStatistics) {
    let letters = KeptLetters()
    let output = try started(engine.address, letters, change)
    let isDone = try write(documents, batch: Int.random(in: 0...1_000_000), to: output)
    #expect(waitUntil(seconds: 60) { isDone.withLock { $0 } }, "\(output.statistics)")
    output.stop(deadline: .now + .seconds(5))
    return (letters.all, output.statistics)
  }

  @Test func `documents are indexed, updated, deleted and versioned`() throws {
    let engine = try RunningEngine()
    let index = "sluice-test-\(UInt32.random(in: 0...UInt32.max))"
    defer { if !engine.isOwn { _ = try? engine.request("DELETE", "/" + index) } }
    func document(_ id: String) throws -> [String: Any]? {
      try engine.request("GET", "/\(index)/_doc/\(id)").json["_source"] as? [String: Any]
    }
    func change(_ settings: inout Elasticsearch.Settings) {
      settings.index = Template(index)
      settings.documentID = Template("%{id}")
    }
    let first = try send([#"{"id":"a","n":1}"#, #"{"id":"b","n":1}"#], to: engine, change)
    #expect(first.letters.isEmpty && first.figures.eventsOut == 2)

    let updated = try send([#"{"id":"a","m":2}"#, #"{"id":"new","m":2}"#, #"{"id":"none","do":"x"}"#], to: engine) {
      change(&$0)
      $0.action = Template("update")
    }
    // `new` and `none` are not there.
    #expect(updated.letters.count == 2 && updated.letters[0].reason.type == "document_missing_exception")
    #expect(updated.letters[0].document.contains(#""id":"new""#))
    #expect(try document("a")?["n"] as? Int == 1 && document("a")?["m"] as? Int == 2)
    let upserted = try send([#"{"id":"new","m":2}"#], to: engine) {
      change(&$0)
      $0.action = Template("update")
      $0.docAsUpsert = true
    }
    #expect(try upserted.letters.isEmpty && document("new")?["m"] as? Int == 2)

    let deleted = try send([#"{"id":"b"}"#, #"{"id":"nobody"}"#], to: engine) {
      change(&$0)
      $0.action = Template("delete")
    }
    #expect(try deleted.letters.isEmpty && deleted.figures.eventsOut == 2 && document("b") == nil)

    func versioned(_ number: Int) throws -> OutputStatistics {
      try send([#"{"id":"v","v":\#(number)}"#], to: engine) {
        change(&$0)
        $0.version = Template("%{v}")
        $0.versionType = .external
      }.figures
    }
    #expect(try versioned(5).eventsOut == 1 && document("v")?["v"] as? Int == 5)
    let stale = try versioned(3)
    #expect(try document("v")?["v"] as? Int == 5 && stale.deadLetters == 0)
    #expect(stale.extra.contains(#""non_retryable_failures":1"#))
    #expect(try versioned(6).eventsOut == 1 && document("v")?["v"] as? Int == 6)

    // A field of another type: the engine's reason stands in the letter.
    let refused = try send([#"{"id":"bad","n":"many"}"#], to: engine, change)
    #expect(refused.letters.first?.reason.type == "document_parsing_exception")
  }

  @Test func `a data stream takes events once, with ids too`() throws {
    let engine = try RunningEngine(.opensearch)
    let template = try engine.request(
      "PUT", "/_index_template/shop", #"{"index_patterns":["logs-shop-*"],"data_stream":{},"priority":500}"#)
    #expect(template.status == 200, "\(template.text)")
    let events = (0..<20).map { #"{"n":\#($0),"@timestamp":"2026-03-01T00:00:00.000Z"}"# }
    for (isIdempotent, count) in [(false, 20), (true, 40)] {
      let outcome = try send(events, to: engine) {
        $0.index = nil
        $0.dataStream = .true
        $0.dataStreamDataset = "shop"
        $0.idempotent = isIdempotent
      }
      #expect(outcome.letters.isEmpty && outcome.figures.eventsOut == 20)
      #expect(try engine.count("logs-shop-default") == count)
    }
    let streams = try engine.request("GET", "/_data_stream/logs-shop-default").json["data_streams"] as? [[String: Any]]
    #expect(streams?.count == 1)
    // What names its stream goes there.
    let routed = try send(
      [#"{"data_stream":{"dataset":"shop","namespace":"Blue"},"@timestamp":"2026-03-01T00:00:00.000Z"}"#], to: engine
    ) {
      $0.index = nil
      $0.dataStream = .true
    }
    #expect(try routed.letters.isEmpty && engine.count("logs-shop-blue") == 1)
  }
}
