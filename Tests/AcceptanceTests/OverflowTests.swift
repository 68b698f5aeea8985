//  Two clusters, one of which takes nothing: the other goes on, and after kills and the cluster's return every event is
//  at both, once.

import Diagnostics
import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct OverflowTests {
  /// A cluster that answers 429 until it is well.
  private final class Cluster: Sendable {
    let endpoint: BulkEndpoint
    let isStuck: Lock<Bool>

    init(isStuck: Bool) throws {
      let state = Lock(isStuck)
      self.isStuck = state
      endpoint = try BulkEndpoint { _, _ in
        state.withLock { $0 } ? .answer(429, #"{"error":{"type":"es_rejected_execution_exception"}}"#) : nil
      }
    }

    func numbers() throws -> [Int] {
      try endpoint.documents.values.map {
        let event = try JSONSerialization.jsonObject(with: Data($0.source)) as? [String: Any]
        return try #require(event?["n"] as? Int)
      }
    }
  }

  private func pipeline(_ folder: TemporaryFolder, _ clusters: [Cluster]) throws -> String {
    try folder.write(
      """
      pipeline: { id: small, workers: 2, batch: { size: 200, delay: 5ms }, queue: { spill_after: 200ms } }
      inputs:
        - http: { port: 0 }
      outputs:
      """
        + clusters.map {
          "\n  - elasticsearch: { hosts: ['\($0.endpoint.address)'], index: 'logs', retry_initial_interval: 1,"
            + " retry_max_interval: 1 }"
        }.joined(), to: "two.yml")
  }

  /// Sends events of some 20 KB each, and says whether all were acknowledged.
  private func send(_ numbers: Range<Int>, to daemon: RunningDaemon) throws -> Bool {
    let filler = String(repeating: "x", count: 20_000)
    let client = try TestClient(port: daemon.port("http-1"))
    let body = numbers.map { "{\"n\":\($0),\"filler\":\"\(filler)\"}\n" }.joined()
    try client.send(
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: \(body.utf8.count)\r\n"
        + "Connection: close\r\n\r\n\(body)")
    return String(decoding: client.receiveAll(), as: UTF8.self).contains(" 200 ")
  }

  private func overflow(_ daemon: RunningDaemon, _ output: String) throws -> [String: Any] {
    let pipelines = try #require(try daemon.api("/_node/stats/pipelines")["pipelines"] as? [String: Any])
    let all = (pipelines["small"] as? [String: Any])?["overflow"] as? [String: Any]
    return try #require(all?[output] as? [String: Any])
  }

  @Test func `an output that is stuck stops no other, and all events arrive once through kills`() throws {
    let folder = TemporaryFolder()
    let well = try Cluster(isStuck: false)
    let stuck = try Cluster(isStuck: true)
    defer {
      well.endpoint.stop()
      stuck.endpoint.stop()
    }
    let file = try pipeline(folder, [well, stuck])
    var daemon = try RunningDaemon(in: folder, pipeline: file)
    // 60 MB: twice what an output holds in memory.
    let total = 3000
    for start in stride(from: 0, to: total, by: 100) {
      let isAcknowledged = try send(start..<start + 100, to: daemon)
      #expect(isAcknowledged)
      if start == total / 2 {
        daemon.crash()
        daemon = try RunningDaemon(in: folder, pipeline: file)
      }
    }
    #expect(waitUntil(seconds: 60) { well.endpoint.count == total }, "\(well.endpoint.count)\n\(daemon.log)")
    #expect(daemon.log.contains("[overflow.begins]") || daemon.log.contains("[overflow.left]"), "\(daemon.log)")
    // What is spilled no longer holds the pipeline's queue.
    #expect(try waitUntil(seconds: 30) { try daemon.eventsInQueue("small") == 0 }, "\(daemon.log)")
    #expect(try overflow(daemon, "elasticsearch-2")["status"] as? String == "spilling")
    #expect(try overflow(daemon, "elasticsearch-1")["events_count"] as? Int == 0)
    #expect(stuck.endpoint.count == 0)
    let stats = try run(
      sluiceProgram, ["queue", "stats", "-p", file, "--data", folder.path + "/data", "--id", "small"])
    #expect(stats.output.contains("small/overflow/elasticsearch-2-"), "\(stats)")

    daemon.crash()
    daemon = try RunningDaemon(in: folder, pipeline: file)
    stuck.isStuck.withLock { $0 = false }
    #expect(waitUntil(seconds: 60) { stuck.endpoint.count >= total / 3 }, "\(daemon.log)")
    daemon.crash()
    daemon = try RunningDaemon(in: folder, pipeline: file)
    #expect(waitUntil(seconds: 60) { stuck.endpoint.count == total }, "\(stuck.endpoint.count)\n\(daemon.log)")
    for cluster in [well, stuck] {
      #expect(try cluster.numbers().sorted() == Array(0..<total))
      #expect(cluster.endpoint.faults.isEmpty)
    }
    #expect(Set(well.endpoint.documents.keys) == Set(stuck.endpoint.documents.keys))
    #expect(try waitUntil { try overflow(daemon, "elasticsearch-2")["events_count"] as? Int == 0 }, "\(daemon.log)")
    // New events go to the cluster again, and the mode ends with the first of them.
    #expect(try send(total..<total + 1, to: daemon))
    #expect(waitUntil { stuck.endpoint.count == total + 1 && daemon.log.contains("[overflow.ends]") }, "\(daemon.log)")
    #expect(daemon.stop() == 0)
  }

  @Test func `where all outputs are stuck nothing is spilled`() throws {
    let folder = TemporaryFolder()
    let clusters = [try Cluster(isStuck: true), try Cluster(isStuck: true)]
    defer { for cluster in clusters { cluster.endpoint.stop() } }
    let daemon = try RunningDaemon(in: folder, pipeline: pipeline(folder, clusters))
    for start in stride(from: 0, to: 3000, by: 100) { #expect(try send(start..<start + 100, to: daemon)) }
    // Both have had their requests refused several times, and workers have waited longer than spill_after.
    #expect(waitUntil(seconds: 30) { clusters.allSatisfy { $0.endpoint.requests >= 12 } }, "\(daemon.log)")
    #expect(try daemon.eventsInQueue("small") == 3000 && !daemon.log.contains("[overflow.begins]"), "\(daemon.log)")
    for cluster in clusters { cluster.isStuck.withLock { $0 = false } }
    #expect(waitUntil(seconds: 60) { clusters.allSatisfy { $0.endpoint.count == 3000 } }, "\(daemon.log)")
    #expect(daemon.stop() == 0)
  }

  @Test func `an overflow queue whose output has gone is kept and named`() throws {
    let folder = TemporaryFolder()
    let well = try Cluster(isStuck: false)
    let stuck = try Cluster(isStuck: true)
    defer {
      well.endpoint.stop()
      stuck.endpoint.stop()
    }
    let daemon = try RunningDaemon(in: folder, pipeline: pipeline(folder, [well, stuck]))
    for start in stride(from: 0, to: 2400, by: 100) { #expect(try send(start..<start + 100, to: daemon)) }
    #expect(
      try waitUntil(seconds: 60) { try (overflow(daemon, "elasticsearch-2")["events_count"] as? Int ?? 0) > 0 },
      "\(daemon.log)")
    daemon.crash()
    let alone = try RunningDaemon(in: folder, pipeline: pipeline(folder, [well]))
    #expect(alone.log.contains("[overflow.orphan]") && alone.log.contains("elasticsearch-2-"), "\(alone.log)")
    #expect(alone.stop() == 0)
    stuck.isStuck.withLock { $0 = false }
    let again = try RunningDaemon(in: folder, pipeline: pipeline(folder, [well, stuck]))
    #expect(waitUntil(seconds: 60) { well.endpoint.count == 2400 }, "\(again.log)")
    #expect(try waitUntil { try overflow(again, "elasticsearch-2")["events_count"] as? Int == 0 }, "\(again.log)")
    #expect(again.stop() == 0)
  }

  // MARK: Files

  /// A cluster, and a file below a folder that can be put out of order.
  private func pipelineWithFile(_ folder: TemporaryFolder, _ cluster: Cluster) throws -> String {
    try folder.write(
      """
      pipeline: { id: small, workers: 1, batch: { size: 200, delay: 5ms }, queue: { spill_after: 200ms } }
      inputs:
        - http: { port: 0 }
      outputs:
        - file: { path: '\(folder.path)/out/%{kind}.ndjson' }
        - elasticsearch: { hosts: ['\(cluster.endpoint.address)'], index: 'logs' }
      """, to: "file.yml")
  }

  private func sendSmall(_ numbers: Range<Int>, to daemon: RunningDaemon) throws -> Bool {
    let client = try TestClient(port: daemon.port("http-1"))
    let body = numbers.map { "{\"n\":\($0),\"kind\":\"log\"}\n" }.joined()
    try client.send(
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: \(body.utf8.count)\r\n"
        + "Connection: close\r\n\r\n\(body)")
    return String(decoding: client.receiveAll(), as: UTF8.self).contains(" 200 ")
  }

  private func lines(_ folder: TemporaryFolder) throws -> [Int] {
    // A line without its end is still being written.
    let text = folder.text("out/log.ndjson")
    return try text[..<(text.lastIndex(of: "\n") ?? text.startIndex)].split(separator: "\n").map {
      let event = try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      return try #require(event["n"] as? Int)
    }
  }

  private func letters(_ daemon: RunningDaemon) throws -> Int {
    let all = try #require(try daemon.api("/_node/stats/pipeline/dead_letter_queue")["pipelines"] as? [String: Any])
    let queue = (all["small"] as? [String: Any])?["dead_letter_queue"] as? [String: Any]
    return try #require(queue?["events_count"] as? Int)
  }

  @Test func `a file that cannot be written stops no cluster, and has every line once and in order afterwards`() throws
  {
    let folder = TemporaryFolder()
    let well = try Cluster(isStuck: false)
    defer { well.endpoint.stop() }
    let daemon = try RunningDaemon(in: folder, pipeline: pipelineWithFile(folder, well))
    #expect(try sendSmall(0..<100, to: daemon))
    #expect(try waitUntil { try lines(folder).count == 100 }, "\(daemon.log)")
    // The folder gives way to a file: whoever runs the tests cannot write there, root included.
    let files = FileManager.default
    try files.moveItem(atPath: folder.path + "/out", toPath: folder.path + "/aside")
    try Data().write(to: URL(filePath: folder.path + "/out"))
    for start in stride(from: 100, to: 3000, by: 100) { #expect(try sendSmall(start..<start + 100, to: daemon)) }
    #expect(waitUntil(seconds: 60) { well.endpoint.count == 3000 }, "\(well.endpoint.count)\n\(daemon.log)")
    #expect(daemon.log.contains("[overflow.begins]") && daemon.log.contains("[file.write-failed]"), "\(daemon.log)")
    #expect(try waitUntil(seconds: 30) { try daemon.eventsInQueue("small") == 0 }, "\(daemon.log)")
    #expect(try overflow(daemon, "file-1")["status"] as? String == "spilling")
    // The folder is at fault, not the events.
    #expect(try letters(daemon) == 0)
    try files.removeItem(atPath: folder.path + "/out")
    try files.moveItem(atPath: folder.path + "/aside", toPath: folder.path + "/out")
    #expect(try waitUntil(seconds: 30) { try lines(folder).count == 3000 }, "\(daemon.log)")
    #expect(try lines(folder) == Array(0..<3000))
    #expect(try sendSmall(3000..<3100, to: daemon))
    #expect(
      try waitUntil { try lines(folder) == Array(0..<3100) && daemon.log.contains("[overflow.ends]") }, "\(daemon.log)")
    #expect(daemon.stop() == 0)
  }

  @Test func `what lies in a file's overflow queue outlives kills, and newer lines come behind it`() throws {
    let folder = TemporaryFolder()
    let well = try Cluster(isStuck: false)
    defer { well.endpoint.stop() }
    let file = try pipelineWithFile(folder, well)
    try Data().write(to: URL(filePath: folder.path + "/out"))
    var daemon = try RunningDaemon(in: folder, pipeline: file)
    for start in stride(from: 0, to: 2000, by: 100) {
      #expect(try sendSmall(start..<start + 100, to: daemon))
      if start == 600 || start == 1300 {
        #expect(waitUntil(seconds: 30) { well.endpoint.count > start }, "\(daemon.log)")
        daemon.crash()
        daemon = try RunningDaemon(in: folder, pipeline: file)
      }
    }
    #expect(waitUntil(seconds: 60) { well.endpoint.count == 2000 }, "\(daemon.log)")
    #expect(try waitUntil(seconds: 30) { try daemon.eventsInQueue("small") == 0 }, "\(daemon.log)")
    daemon.crash()
    daemon = try RunningDaemon(in: folder, pipeline: file)
    try FileManager.default.removeItem(atPath: folder.path + "/out")
    #expect(try waitUntil(seconds: 30) { try Set(lines(folder)).count == 2000 }, "\(daemon.log)")
    #expect(try waitUntil { try overflow(daemon, "file-1")["events_count"] as? Int == 0 }, "\(daemon.log)")
    // A kill may repeat lines; the first of each are in order.
    var first: [Int] = []
    var seen: Set<Int> = []
    for n in try lines(folder) where seen.insert(n).inserted { first.append(n) }
    #expect(first == Array(0..<2000))
    #expect(daemon.stop() == 0)
  }
}
