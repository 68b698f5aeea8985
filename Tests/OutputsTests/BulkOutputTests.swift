//  The `elasticsearch` output against an endpoint whose faults are scripted.

import Config
import Diagnostics
import Events
import PluginKit
import Synchronization
import TestSupport
import Testing

@testable import Outputs

@Suite struct BulkOutputTests {
  private func started(
    _ endpoint: String, _ letters: KeptLetters, _ change: (inout Elasticsearch.Settings) -> Void = { _ in }
  ) throws -> any Output {
    var settings = Elasticsearch.Settings()
    settings.hosts = [WebAddress(endpoint)]
    settings.index = Template("logs-%{+yyyy.MM.dd}")
    settings.retryInitialInterval = .milliseconds(5)
    settings.retryMaxInterval = .milliseconds(20)
    change(&settings)
    let output = try Elasticsearch.make(settings, context(letters))
    try output.start()
    return output
  }

  private let documents = (0..<40).map { "{\"message\":\"event \($0)\"}" }

  /// Sends forty documents through the script; all but `buried` are indexed, each once.
  @discardableResult
  private func deliver(
    _ documents: [String], buried: Int = 0, letters: KeptLetters = KeptLetters(),
    _ script: @escaping BulkEndpoint.Script
  ) throws -> BulkEndpoint {
    let endpoint = try BulkEndpoint(script)
    defer { endpoint.stop() }
    let output = try started(endpoint.address, letters)
    let isDone = try write(documents, to: output)
    #expect(waitUntil(seconds: 20) { isDone.withLock { $0 } }, "\(endpoint.count) of \(documents.count) are there")
    #expect(endpoint.count == documents.count - buried)
    #expect(letters.all.count == buried)
    #expect(endpoint.faults.isEmpty)
    #expect(output.statistics.eventsOut == documents.count - buried && output.statistics.inFlight == 0)
    output.stop(deadline: .now + .seconds(5))
    return endpoint
  }

  @Test func `documents stand in the index of their day under their record's id`() throws {
    let endpoint = try deliver(documents) { _, _ in nil }
    #expect(Set(endpoint.documents.keys) == Set((0..<40).map { "logs-2026.02.25/b0r\($0)" }))
  }

  @Test func `an overloaded server gets everything once it has room`() throws {
    let overload = #"{"error":{"type":"es_rejected_execution_exception","reason":"busy"},"status":429}"#
    try deliver(documents) { number, _ in number < 4 ? .answer(429, overload) : nil }
  }

  @Test func `a request that is too large is sent in halves`() throws {
    try deliver(documents) { _, body in body.utf8.count > 900 ? .answer(413, "") : nil }
  }

  @Test func `the one document that spoils a request becomes a dead letter`() throws {
    let letters = KeptLetters()
    try deliver(documents + ["{\"message\":\"poison\"}"], buried: 1, letters: letters) { _, body in
      body.contains("poison")
        ? .answer(400, #"{"error":{"type":"illegal_argument_exception","reason":"Malformed"},"status":400}"#) : nil
    }
    let letter = try #require(letters.all.first)
    #expect(letter.document.contains("poison") && letter.reason.status == 400)
    #expect(letter.reason.documentID == "b0r40" && letter.reason.index == "logs-2026.02.25")
  }

  @Test func `a proxy's 400 costs no document`() throws {
    try deliver(documents) { number, _ in number < 4 ? .answer(400, "<html>plain HTTP sent to HTTPS port</html>") : nil
    }
  }

  @Test func `answers that are no bulk answers are not taken for success`() throws {
    try deliver(documents) { number, _ in
      number == 1 ? .answer(200, "{\"items\":[]}") : number == 2 ? .answer(200, "well") : nil
    }
  }

  @Test func `an answer that is lost makes no second document`() throws {
    let endpoint = try deliver(documents) { number, _ in number == 1 ? .cut : nil }
    #expect(endpoint.conflicts == documents.count)
  }

  @Test func `a document that is refused for good is a dead letter with the server's reason`() throws {
    let letters = KeptLetters()
    try deliver(documents, buried: 1, letters: letters) { _, _ in
      .refuse(status: 400, type: "document_parsing_exception", text: "event 17\"")
    }
    let letter = try #require(letters.all.first)
    #expect(letter.reason.type == "document_parsing_exception" && letter.reason.message == "as scripted")
    #expect(letter.reason.documentID == "b0r17")
  }

  @Test func `a server's error is tried five times, and refusals of load do not count`() throws {
    let letters = KeptLetters()
    let endpoint = try deliver(documents, buried: 1, letters: letters) { number, _ in
      .refuse(status: number < 7 ? 429 : 500, type: "some_exception", text: "event 3\"")
    }
    #expect(endpoint.requests == 6 + 5)
    #expect(letters.all.first?.reason.attempts == 11)
  }

  @Test func `a document that was refused for load before is not given up at its first 403`() throws {
    try deliver(documents) { number, _ in
      number < 4
        ? .refuse(status: 429, type: "x", text: "event 3\"")
        : number < 6 ? .refuse(status: 403, type: "cluster_block_exception", text: "event 3\"") : nil
    }
  }

  @Test func `letters that cannot be kept are waited for`() throws {
    let letters = KeptLetters(refusals: 2)
    try deliver(documents, buried: 1, letters: letters) { _, _ in .refuse(status: 400, type: "x", text: "event 17\"") }
  }

  @Test(arguments: [
    ("logs-%{missing}", "lacks the value"), ("LOGS", "is no legal name"), ("logs-%{message}", "is no legal name"),
  ])
  func `an index that cannot be is a dead letter before anything is sent`(index: String, reason: String) throws {
    let endpoint = try BulkEndpoint()
    defer { endpoint.stop() }
    let letters = KeptLetters()
    let output = try started(endpoint.address, letters) { $0.index = Template(index) }
    let isDone = try write(documents, to: output)
    #expect(waitUntil { isDone.withLock { $0 } })
    #expect(letters.all.count == documents.count && endpoint.requests == 0)
    #expect(letters.all.allSatisfy { $0.reason.message.contains(reason) && $0.reason.documentID != nil })
    output.stop(deadline: .now + .seconds(5))
  }

  @Test func `a cluster that cannot be reached does not hold the stop, and nothing is answered for`() throws {
    let gone = try BulkEndpoint()
    gone.stop()
    let letters = KeptLetters()
    let output = try started(gone.address, letters)
    let isDone = try write(documents, to: output)
    #expect(waitUntil { output.statistics.trouble != nil })
    let start = Instant.now
    output.stop(deadline: start + .seconds(25))
    #expect(Instant.now - start < .seconds(8))
    #expect(!isDone.withLock { $0 } && letters.all.isEmpty)
  }
}
