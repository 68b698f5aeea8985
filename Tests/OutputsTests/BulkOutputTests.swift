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
    #expect(output.statistics.concern == nil)
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
    ("logs-%{missing}", "lacks the value"), ("_%{+yyyy}", "is no legal name"), ("logs-%{message}", "is no legal name"),
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
    let gone = try BulkEndpoint(listens: false, other: nil)
    defer { gone.stop() }
    let letters = KeptLetters()
    let output = try started(gone.address, letters)
    let isDone = try write(documents, to: output)
    #expect(waitUntil { output.statistics.trouble != nil })
    let start = Instant.now
    output.stop(deadline: start + .seconds(25))
    #expect(Instant.now - start < .seconds(8))
    #expect(!isDone.withLock { $0 } && letters.all.isEmpty)
  }

  @Test(arguments: [301, 401, 403, 404, 406])
  func `a host that refuses every request gets one document at a time until it takes them`(status: Int) throws {
    let endpoint = try deliver(documents) { number, _ in number < 5 ? .answer(status, "no") : nil }
    let sizes = endpoint.bulks.map { $0.body.split(separator: "\n").count / 2 }
    #expect(sizes[0] == 40 && sizes[1...4] == [1, 1, 1, 1] && sizes[5...].reduce(0, +) == 39, "\(sizes)")
  }

  @Test func `documents that are there at the first attempt are counted apart and told`() throws {
    let endpoint = try BulkEndpoint()
    defer { endpoint.stop() }
    let output = try started(endpoint.address, KeptLetters())
    for _ in 0..<2 {
      let isDone = try write(documents, to: output)
      #expect(waitUntil { isDone.withLock { $0 } })
    }
    let figures = output.statistics
    #expect(figures.eventsOut == 80 && figures.duplicates == 0)
    #expect(figures.concern?.contains("40 documents") == true)
    let extra = try PlainJSON("{\(figures.extra)}")
    #expect(extra["documents"]?["unexpected_conflicts"]?.integer == 40)
    #expect(extra["documents"]?["successes"]?.integer == 40)
    #expect(extra["bulk_requests"]?["successes"]?.integer == 2)
    #expect(extra["bulk_requests"]?["responses"]?["200"]?.integer == 2)
    #expect(extra["hosts"]?[endpoint.address]?.string == "ready")
    output.stop(deadline: .now + .seconds(5))
  }

  @Test func `a cluster that hangs does not hold the stop`() throws {
    let endpoint = try BulkEndpoint { _, _ in .hang }
    defer { endpoint.stop() }
    let output = try started(endpoint.address, KeptLetters())
    let isDone = try write(documents, to: output)
    #expect(waitUntil { endpoint.requests > 0 })
    let start = Instant.now
    output.stop(deadline: start + .seconds(25))
    #expect(Instant.now - start < .seconds(8) && !isDone.withLock { $0 })
  }

  @Test func `a stop waits for a slow cluster that answers`() throws {
    let endpoint = try BulkEndpoint { _, _ in .late(700) }
    defer { endpoint.stop() }
    let output = try started(endpoint.address, KeptLetters()) { $0.concurrentRequests = 1 }
    var done: [Lock<Bool>] = []
    for batch in 0..<5 { done.append(try write(documents, batch: batch, to: output)) }
    output.stop(deadline: .now + .seconds(25))
    #expect(done.allSatisfy { $0.withLock { $0 } } && endpoint.count == 200)
  }

  @Test func `a host that is gone is left for another and used again once it answers`() throws {
    let gone = try BulkEndpoint(listens: false, other: nil)
    defer { gone.stop() }
    let other = try BulkEndpoint()
    defer { other.stop() }
    let output = try started(gone.address, KeptLetters()) {
      $0.hosts = [WebAddress(gone.address), WebAddress(other.address)]
      $0.resurrectDelay = .milliseconds(50)
    }
    var isDone = try write(documents, to: output)
    #expect(waitUntil { isDone.withLock { $0 } })
    #expect(other.count == 40)
    gone.listen()
    #expect(waitUntil { gone.all.contains { $0.method == "HEAD" } })
    let isUsed = try waitUntil {
      isDone = try write(documents, batch: Int.random(in: 1...1_000_000), to: output)
      return waitUntil { isDone.withLock { $0 } } && gone.requests > 0
    }
    #expect(isUsed)
    output.stop(deadline: .now + .seconds(5))
  }

  @Test func `the cluster's nodes are used, but no master that does nothing else`() throws {
    let node = try BulkEndpoint()
    defer { node.stop() }
    let nodes = """
      {"nodes":{"a":{"roles":["data","ingest"],"http":{"publish_address":"127.0.0.1:\(node.port)"}},
      "b":{"roles":["master"],"http":{"publish_address":"127.0.0.1:1"}},"c":{"roles":["data"]}}}
      """
    let seed = try BulkEndpoint(other: { $0.target == "/_nodes/http" ? (200, nodes) : nil })
    defer { seed.stop() }
    let output = try started(seed.address, KeptLetters()) { $0.sniffing = true }
    #expect(waitUntil { output.statistics.extra.contains("127.0.0.1:\(node.port)") })
    let isDone = try write(documents, to: output)
    #expect(waitUntil { isDone.withLock { $0 } })
    #expect(node.count == 40 && seed.count == 0)
    output.stop(deadline: .now + .seconds(5))
  }

  @Test func `the size that a host refused is remembered`() throws {
    let endpoint = try BulkEndpoint { _, body in body.utf8.count > 8000 ? .answer(413, "") : nil }
    defer { endpoint.stop() }
    let output = try started(endpoint.address, KeptLetters())
    for batch in 0..<3 {
      let long = (0..<40).map { "{\"message\":\"event \($0)\",\"text\":\"\(String(repeating: "x", count: 200))\"}" }
      let isDone = try write(long, batch: batch, to: output)
      #expect(waitUntil { isDone.withLock { $0 } })
    }
    #expect(endpoint.count == 120)
    // Some 13,000 bytes together: refused once, later halved before they are sent.
    #expect(endpoint.bulks.filter { $0.body.utf8.count > 8000 }.count == 1)
    output.stop(deadline: .now + .seconds(5))
  }
}
