//  Recorded sessions of real shippers, byte for byte: the same payloads and the same acknowledgements.

import Codecs
import Diagnostics
import Foundation
import Glibc
import Inputs
import Net
import Records
import TestSupport
import Testing

/// A recorded session of a real shipper.
struct BeatsRecording: CustomTestStringConvertible, Sendable {
  var name: String
  var client: [UInt8]
  var server: [UInt8]
  var expected: [[UInt8]]
  var testDescription: String { name }
  var isProtocol1: Bool { client.first == UInt8(ascii: "1") }

  static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Cases/inputs/beats").path

  static let all: [BeatsRecording] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.sorted().compactMap { name in
      guard let client = bytes(name + "/client.bin"), let server = bytes(name + "/server.bin") else { return nil }
      var lines = bytes(name + "/expected.jsonl") ?? []
      if let packed = bytes(name + "/expected.jsonl.gz") {
        var output = ByteBuffer()
        packed.withUnsafeBytes { try? unpack($0, .gzip, limit: 1 << 24, into: &output) }
        lines = output.array()
      }
      return BeatsRecording(
        name: name, client: client, server: server, expected: lines.split(separator: 10).map { Array($0) })
    }
  }()

  private static func bytes(_ path: String) -> [UInt8]? {
    FileManager.default.contents(atPath: folder + "/" + path).map { Array($0) }
  }
}

func makeBeats(
  _ sink: TestSink, budget: InFlightBudget = InFlightBudget(), change: (inout BeatsConfiguration) -> Void = { _ in }
) throws -> BeatsServer {
  try makeBeats(sink, budget: budget, onOversized: { $1() }, change: change)
}

func makeBeats(
  _ sink: TestSink, budget: InFlightBudget = InFlightBudget(), onOversized: @escaping OversizedHandler,
  change: (inout BeatsConfiguration) -> Void = { _ in }
) throws -> BeatsServer {
  var configuration = BeatsConfiguration(host: "127.0.0.1", port: 0)
  change(&configuration)
  let server = try BeatsServer(
    configuration, queues: testQueues, sink: sink, descriptor: testDescriptor, budget: budget, onOversized: onOversized)
  server.start()
  return server
}

@Suite struct BeatsReplayTests {
  @Test func `the recordings are there`() { #expect(BeatsRecording.all.count == 14) }

  enum Cut: String, CaseIterable { case whole, bytes, random }

  @Test(arguments: BeatsRecording.all, Cut.allCases)
  func `a recorded session is kept byte for byte and acknowledged as it was`(session: BeatsRecording, cut: Cut) throws {
    let sink = TestSink()
    let budget = InFlightBudget()
    let server = try makeBeats(sink, budget: budget)
    let client = try TestClient(port: server.port)
    var random = SeededRandom(UInt64(session.client.count))
    switch cut {
    case .whole: try client.send(session.client)
    case .bytes:
      // The first and last 6,000 bytes one by one; what lies between adds nothing but time.
      var offset = 0
      try client.send(session.client) {
        defer { offset += 1 }
        if offset == 6000, session.client.count > 12_000 { return session.client.count - 12_000 }
        return 1
      }
    case .random: try client.send(session.client) { Int.random(in: 1...3000, using: &random) }
    }
    #expect(client.receive(exactly: session.server.count) == session.server)
    client.finishSending()
    #expect(client.receiveAll().isEmpty)
    let kept = sink.payloads
    #expect(kept.count == session.expected.count)
    if session.isProtocol1 {
      for (left, right) in zip(kept, session.expected) {
        let one = try JSONSerialization.jsonObject(with: Data(left)) as? NSDictionary
        let other = try JSONSerialization.jsonObject(with: Data(right)) as? NSDictionary
        #expect(one != nil && one == other)
      }
    } else {
      #expect(kept == session.expected)
    }
    #expect(waitUntil { server.connectionCount == 0 && budget.used == 0 })
    #expect(server.metrics.events.value == session.expected.count)
    #expect(server.metrics.errors.value == 0)
    #expect(waitForStop { server.stop(within: .seconds(5), completion: $0) })
  }
}
