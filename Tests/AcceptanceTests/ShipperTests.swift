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

@Suite struct RequestTests {
  @Test(arguments: [
    ("X-Correlation-ID: from-head", "from-head"), ("X-Request-Id: r-1", "r-1"),
    ("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ("X-Request-Id: not sound", nil),
  ])
  func `an event without a correlation id takes the one of its request's head`(header: String, id: String?) throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder)
    let client = try TestClient(port: daemon.port("http-1"))
    let body = #"[{"message":"first","host":"own"},{"message":"second","x_request_id":"mine"}]"#
    try client.send(
      "POST /in HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\(header)\r\nConnection: close\r\n"
        + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
    #expect(String(decoding: client.receiveAll(), as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
    #expect(try waitUntil(seconds: 20) { try dailyLines(folder).count == 2 })
    #expect(daemon.stop() == 0)
    let events = try dailyLines(folder).map {
      try #require(try JSONSerialization.jsonObject(with: Data($0)) as? [String: Any])
    }
    let first = try #require(events.first { $0["message"] as? String == "first" })
    let made = try #require(first["correlation_id"] as? String)
    #expect(id.map { $0 == made } ?? (made.utf8.count == 20))
    // A host that is a text stands below the name, as the index has it.
    #expect((first["host"] as? [String: Any])?["name"] as? String == "own")
    #expect(first["headers"] == nil)
    let second = try #require(events.first { $0["message"] as? String == "second" })
    #expect(second["correlation_id"] as? String == "mine")
  }

  @Test func `try takes what an input would take`() throws {
    let folder = TemporaryFolder()
    let pipeline = try folder.write(
      """
      pipeline: { id: tried }
      inputs:
        - http: { port: 0, tags: [h] }
        - tcp: { port: 0, codec: { line: { delimiter: '|' } }, type: lines }
        - beats: { port: 0 }
      filters:
        - mutate: { add_field: { seen: '%{message}' } }
      outputs:
        - stdout: {}
      """, to: "tried.yml")
    func tried(_ input: String, _ text: String) throws -> [[String: Any]] {
      let outcome = try run(sluiceProgram, ["try", "-p", pipeline, "--input", input, "--metadata"], input: text)
      #expect(outcome.status == 0, "\(outcome.errors)")
      return try outcome.lines.map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    }
    let bodies = try tried("http", "[{\"message\":\"a\"},\n {\"message\":\"b\"}]\n")
    #expect(bodies.map { $0["seen"] as? String } == ["a", "b"])
    #expect(bodies.allSatisfy { $0["tags"] as? [String] == ["h"] })
    #expect(try tried("http", "two\nlines\n").map { $0["seen"] as? String } == ["two\nlines\n"])
    let lines = try tried("tcp", "one|two\r\n||rest")
    #expect(lines.map { $0["seen"] as? String } == ["one", "two\r\n", "", "rest"])
    #expect(lines.allSatisfy { $0["type"] as? String == "lines" })
    let shipped = try tried("beats", #"{"message":"m","@metadata":{"beat":"f"}}"# + "\n" + #"{"x":1}"#)
    #expect(
      shipped.map { $0["tags"] as? [String] } == [["beats_input_codec_plain_applied"], ["beats_input_raw_event"]])
    #expect((shipped[0]["@metadata"] as? [String: Any])?["beat"] as? String == "f")
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
