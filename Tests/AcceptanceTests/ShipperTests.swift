//  Real senders against the running program: recorded Beats sessions, the Python clients, and the curl of the guide.

import Codecs
import Diagnostics
import Foundation
import Glibc
import TestSupport
import Testing

private let cases = Fixtures.root + "/Tests/Cases/inputs/beats"

/// The Python of the tests' clients; nil where they could not be installed.
let clientPython: String? = {
  let path = Fixtures.root + "/.venv/bin/python"
  return access(Fixtures.root + "/.venv/complete", R_OK) == 0 && access(path, X_OK) == 0 ? path : nil
}()

@Suite struct ShipperTests {
  static let sessions =
    (try? FileManager.default.contentsOfDirectory(atPath: cases).filter { !$0.hasSuffix(".md") }.sorted()) ?? []

  static func expected(_ session: String) throws -> [[UInt8]] {
    var bytes = (try? Fixtures.read("\(cases)/\(session)/expected.jsonl")) ?? []
    if bytes.isEmpty {
      var out = ByteBuffer()
      try Fixtures.read("\(cases)/\(session)/expected.jsonl.gz").withUnsafeBytes {
        try unpack($0, .gzip, limit: 1 << 24, into: &out)
      }
      bytes = out.array()
    }
    return bytes.split(separator: 10).map { Array($0) }
  }

  @Test func `every recorded session is there`() { #expect(ShipperTests.sessions.count == 14) }

  @Test(arguments: sessions)
  func `a recorded session lies in the queue byte for byte and is acknowledged as it was`(session: String) throws {
    let folder = TemporaryFolder()
    let pipeline = try folder.write(
      """
      pipeline: { id: replay }
      inputs:
        - beats: { port: 0 }
      outputs:
        - file: { path: '\(folder.path)/events.ndjson' }
      """, to: "replay.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: pipeline)
    let server = try Fixtures.read("\(cases)/\(session)/server.bin")
    let client = try TestClient(port: daemon.port("beats-1"))
    let bytes = try Fixtures.read("\(cases)/\(session)/client.bin")
    try client.send(bytes)
    #expect(client.receive(exactly: server.count) == server)
    client.finishSending()
    #expect(client.receiveAll().isEmpty)
    let dump = try run(
      sluiceProgram, ["queue", "dump", "--payload", "--all", "--folder", folder.path + "/data/queue/replay"])
    #expect(dump.status == 0, "\(dump.errors)")
    let kept = dump.output.utf8.split(separator: 10).map { Array($0) }
    let expected = try ShipperTests.expected(session)
    #expect(kept.count == expected.count)
    if bytes.first == UInt8(ascii: "1") {
      for (left, right) in zip(kept, expected) {
        let one = try JSONSerialization.jsonObject(with: Data(left)) as? NSDictionary
        #expect(try one != nil && one == JSONSerialization.jsonObject(with: Data(right)) as? NSDictionary)
      }
    } else {
      #expect(kept == expected)
    }
    // A stop finishes what is in flight and leaves the rest in the queue, so all of it has to be out before.
    let isOut = waitUntil(seconds: 60) { folder.text("events.ndjson").utf8.count { $0 == 10 } == expected.count }
    #expect(isOut, "\(folder.text("events.ndjson").utf8.count { $0 == 10 }) of \(expected.count) events")
    #expect(daemon.stop() == 0)
  }

  @Test(.enabled(if: clientPython != nil, "the Python clients are not installed"))
  func `pylogbeat delivers ten thousand events`() throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder)
    let sent = try run(
      clientPython ?? "",
      [
        "-c",
        """
        import sys
        from pylogbeat import PyLogBeatClient
        client = PyLogBeatClient('127.0.0.1', int(sys.argv[1]), ssl_enable=False, ssl_verify=False)
        client.connect()
        for start in range(0, 10000, 500):
            client.send([{'message': 'event %d' % n, 'number': n} for n in range(start, start + 500)])
        client.close()
        """, String(daemon.port("beats-1")),
      ])
    #expect(sent.status == 0, "\(sent.errors)")
    try expectNumbers(10_000, in: folder, daemon)
  }

  @Test(.enabled(if: clientPython != nil, "the Python clients are not installed"))
  func `python-logstash-async delivers ten thousand events`() throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder)
    let sent = try run(
      clientPython ?? "",
      [
        "-c",
        """
        import logging, sys
        from logstash_async.handler import AsynchronousLogstashHandler
        handler = AsynchronousLogstashHandler(
            '127.0.0.1', int(sys.argv[1]), database_path=None, transport='logstash_async.transport.BeatsTransport')
        logger = logging.getLogger('aura')
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        for n in range(10000):
            logger.info('event %d', n, extra={'number': n})
        handler.flush()
        logging.shutdown()
        """, String(daemon.port("beats-1")),
      ])
    #expect(sent.status == 0, "\(sent.errors)")
    try expectNumbers(10_000, in: folder, daemon)
  }

  /// Every number stands once in the daily files.
  private func expectNumbers(_ count: Int, in folder: TemporaryFolder, _ daemon: RunningDaemon) throws {
    var seen: Set<Int> = []
    var total = 0
    let complete = try waitUntil(seconds: 60) {
      seen = []
      total = 0
      for line in try dailyLines(folder) {
        let event = try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any]
        let number = event?["number"] ?? (event?["extra"] as? [String: Any])?["number"]
        if let number = number as? Int { seen.insert(number) }
        total += 1
      }
      return total >= count
    }
    #expect(
      complete && seen.count == count && total == count, "\(seen.count) numbers in \(total) events\n\(daemon.log)")
    #expect(daemon.stop() == 0)
  }

  @Test func `the guide's curl posts an event`() throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder)
    let answer = try run(
      "/usr/bin/env",
      [
        "curl", "-sS", "-w", "%{http_code}", "-X", "POST", "localhost:\(daemon.port("http-1"))", "-H",
        "Content-Type: application/json", "-d", "@-",
      ], input: #"{"message": "test", "@timestamp": "2024-01-01T00:00:00Z"}"# + "\n")
    #expect(answer.output.hasSuffix("200"), "\(answer)")
    #expect(try waitUntil(seconds: 20) { try dailyLines(folder).count == 1 })
    #expect(folder.text("data/events/aura-logs-2024.01.01.ndjson").contains("\"message\":\"test\""))
    #expect(daemon.stop() == 0)
  }
}

/// Whole lines of all daily files that a daemon without Elasticsearch writes; the last one may be under way.
func dailyLines(_ folder: TemporaryFolder) throws -> [[UInt8]] {
  let place = folder.path + "/data/events"
  let names = (try? FileManager.default.contentsOfDirectory(atPath: place)) ?? []
  return try names.sorted().flatMap { name -> [[UInt8]] in
    let bytes = try Fixtures.read(place + "/" + name)
    return bytes[..<(bytes.lastIndex(of: 10) ?? 0)].split(separator: 10).map { Array($0) }
  }
}
