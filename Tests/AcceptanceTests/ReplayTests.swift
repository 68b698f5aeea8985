//  Dead letters from refusal to delivery: listed, shown, mended and sent once more, beside a running daemon, without one,
//  and through a kill in the middle.

import Diagnostics
import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct ReplayTests {
  /// Refuses documents with this text as a mapping conflict until it is told otherwise.
  private final class Cluster: Sendable {
    let endpoint: BulkEndpoint
    let isMended = Lock(false)

    init() throws {
      let isMended = isMended
      endpoint = try BulkEndpoint { _, _ in
        isMended.withLock { $0 }
          ? nil : .refuse(status: 400, type: "mapper_parsing_exception", text: "\"broken\"")
      }
    }

    /// Ids of the documents by their index.
    func document(_ id: String) throws -> [String: Any]? {
      guard let kept = endpoint.documents.first(where: { $0.key.hasSuffix("/" + id) })?.value else { return nil }
      return try JSONSerialization.jsonObject(with: Data(kept.source)) as? [String: Any]
    }
  }

  private func pipeline(_ folder: TemporaryFolder, _ cluster: Cluster) throws -> String {
    try folder.write(
      """
      pipeline: { id: small }
      inputs:
        - tcp: { port: 0, codec: json_lines }
      filters:
        - split: { field: items }
          when: '[items]'
        - if: '[n] > 5'
          then:
            - mutate: { add_tag: [large] }
          else: []
      outputs:
        - elasticsearch: { hosts: ['\(cluster.endpoint.address)'], index: 'logs-%{[service]}' }
      """, to: "small.yml")
  }

  private func dlq(_ folder: TemporaryFolder, _ words: String...) throws -> Outcome {
    try run(
      sluiceProgram,
      ["dlq", words[0], "--folder", folder.path + "/data/dead_letter_queue/small"] + words.dropFirst())
  }

  private func letters(_ folder: TemporaryFolder) throws -> [[String: Any]] {
    try dlq(folder, "export").lines.map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  private func send(_ lines: [String], to daemon: RunningDaemon) throws {
    let client = try TestClient(port: daemon.port("tcp-1"))
    try client.send(lines.map { $0 + "\n" }.joined())
    client.finishSending()
    _ = client.receiveAll()
  }

  private func count(_ daemon: RunningDaemon) throws -> Int {
    let pipelines = try #require(
      try daemon.api("/_node/stats/pipeline/dead_letter_queue")["pipelines"] as? [String: Any])
    let queue = (pipelines["small"] as? [String: Any])?["dead_letter_queue"] as? [String: Any]
    return try #require(queue?["events_count"] as? Int)
  }

  @Test func `what a mapping refuses is listed, shown, mended, replayed and delivered once`() throws {
    let folder = TemporaryFolder()
    let cluster = try Cluster()
    defer { cluster.endpoint.stop() }
    let daemon = try RunningDaemon(in: folder, pipeline: pipeline(folder, cluster))
    try send(
      [
        #"{"n":1,"service":"web","state":"fine"}"#, #"{"n":2,"service":"web","state":"broken"}"#,
        #"{"n":3,"service":"web","items":[{"v":"fine"},{"v":"broken"}]}"#, #"{"n":"x","service":"web"}"#,
      ], to: daemon)
    #expect(try waitUntil { try count(daemon) == 3 && cluster.endpoint.count == 2 }, "\(daemon.log)")
    let causes = try dlq(folder, "list", "--by", "cause").lines
    #expect(causes.count == 2, "\(causes)")
    #expect(causes[0].hasPrefix("2  ") && causes[0].contains("elasticsearch-1  400 mapper_parsing_exception"))
    #expect(causes[1].contains("condition"))
    #expect(try dlq(folder, "list", "--by", "index").lines.contains { $0.contains("logs-web") })
    let all = try letters(folder)
    let broken = try #require(all.first { ($0["event"] as? [String: Any])?["state"] as? String == "broken" })
    #expect(broken["arrived"] as? String == #"{"n":2,"service":"web","state":"broken"}"#)
    #expect(broken["reason"] as? String == "as scripted" && broken["index"] as? String == "logs-web")
    #expect(broken["document_id"] as? String == broken["id"] as? String && broken["attempts"] as? Int == 1)
    let name = try #require(broken["letter"] as? String)
    let id = try #require(broken["id"] as? String)
    #expect(try dlq(folder, "show", name).output.contains("mapper_parsing_exception: as scripted"))
    let part = try #require(all.first { ($0["event"] as? [String: Any])?["items"] != nil })
    let partID = try #require(part["id"] as? String)
    #expect(partID.hasSuffix("-2"), "\(partID)")

    // Unmended it is refused again, and stays. The old letter goes once the new one is on disk, so for a moment both are
    // there.
    #expect(try dlq(folder, "replay", name).output.contains("the running daemon sends them now"))
    #expect(
      try waitUntil {
        let all = try letters(folder)
        return all.count == 3 && all.contains { $0["id"] as? String == id && $0["attempts"] as? Int == 2 }
      }, "\(daemon.log)")
    #expect(cluster.endpoint.count == 2)

    let dry = try dlq(folder, "replay", "--where", #"[state] == "broken""#, "--set", "state=500", "--dry-run")
    #expect(dry.lines.count == 1 && dry.output.contains(#""state":500"#), "\(dry)")
    #expect(try letters(folder).count == 3)
    _ = try dlq(
      folder, "replay", "--where", #"[@metadata][dead_letter][status] == 400"#, "--set", "state=500", "--set",
      "[items][v]=mended", "--remove", "event")
    #expect(try waitUntil { try count(daemon) == 1 }, "\(daemon.log)")
    #expect(try cluster.document(id)?["state"] as? Int == 500)
    let mended = try #require(try cluster.document(partID))
    #expect((mended["items"] as? [String: Any])?["v"] as? String == "mended")

    // What a condition stopped goes through the pipeline from its start.
    let stopped = try #require(try letters(folder).first)
    #expect(stopped["stage"] as? String == "condition")
    _ = try dlq(folder, "replay", "--set", "n=7")
    #expect(try waitUntil { try count(daemon) == 0 }, "\(daemon.log)")
    let stoppedID = try #require(stopped["id"] as? String)
    let large = try #require(try cluster.document(stoppedID))
    #expect(large["n"] as? Int == 7 && large["tags"] as? [String] == ["large"])
    #expect(cluster.endpoint.count == 5 && cluster.endpoint.conflicts == 0 && cluster.endpoint.faults.isEmpty)
    #expect(daemon.stop() == 0)
  }

  @Test func `an order that is given while no daemon runs is done at the next start`() throws {
    let folder = TemporaryFolder()
    let cluster = try Cluster()
    defer { cluster.endpoint.stop() }
    let file = try pipeline(folder, cluster)
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    try send((0..<20).map { #"{"n":\#($0),"service":"web","state":"broken"}"# }, to: daemon)
    #expect(try waitUntil { try count(daemon) == 20 }, "\(daemon.log)")
    #expect(daemon.stop() == 0)
    #expect(try dlq(folder, "purge", "--where", "[n] < 5").output.contains("5 letters were removed"))
    #expect(try dlq(folder, "replay").output.contains("15 letters are handed over; no daemon runs"))
    #expect(try letters(folder).count == 15)
    cluster.isMended.withLock { $0 = true }
    let next = try RunningDaemon(in: folder, pipeline: file)
    // The log tells of the replay behind the last letter's removal.
    #expect(try waitUntil { try count(next) == 0 && next.log.contains("[dlq.replayed]") }, "\(next.log)")
    #expect(cluster.endpoint.count == 15)
    #expect(next.stop() == 0)
  }

  @Test func `kills in the middle of a replay lose no letter and index none twice`() throws {
    let folder = TemporaryFolder()
    let cluster = try Cluster()
    defer { cluster.endpoint.stop() }
    let file = try pipeline(folder, cluster)
    var daemon = try RunningDaemon(in: folder, pipeline: file)
    let total = 1500
    try send((0..<total).map { #"{"n":\#($0),"service":"web","state":"broken"}"# }, to: daemon)
    #expect(try waitUntil(seconds: 30) { try count(daemon) == total }, "\(daemon.log)")
    cluster.isMended.withLock { $0 = true }
    _ = try dlq(folder, "replay")
    for share in [1, 500, 900] {
      #expect(waitUntil(seconds: 30) { cluster.endpoint.count >= share })
      daemon.crash()
      daemon = try RunningDaemon(in: folder, pipeline: file)
    }
    #expect(try waitUntil(seconds: 30) { try count(daemon) == 0 }, "\(daemon.log)")
    #expect(cluster.endpoint.count == total)
    #expect(daemon.stop() == 0)
    #expect(try letters(folder).isEmpty)
  }

  @Test func `kept events are sent once more by time and condition, and keep their ids`() throws {
    let folder = TemporaryFolder()
    let cluster = try Cluster()
    defer { cluster.endpoint.stop() }
    let file = try pipeline(folder, cluster)
    let settings = ["queue.retain.max_bytes=100mb"]
    let daemon = try RunningDaemon(in: folder, pipeline: file, settings: settings)
    try send((0..<50).map { #"{"n":\#($0),"service":"web"}"# }, to: daemon)
    #expect(try waitUntil { try cluster.endpoint.count == 50 && daemon.eventsInQueue("small") == 0 })
    #expect(daemon.stop() == 0)
    let second = try Cluster()
    defer { second.endpoint.stop() }
    let other = try pipeline(folder, second)
    func replay(_ words: String...) throws -> Outcome {
      try run(
        sluiceProgram,
        ["replay", "-p", other, "--data", folder.path + "/data"]
          + words.flatMap { $0.split(separator: " ").map(String.init) })
    }
    #expect(try replay("--from 2020-01-01 --to 2020-01-02").output.contains("none of the 50"))
    let order = try run(
      sluiceProgram,
      ["replay", "-p", other, "--data", folder.path + "/data", "--from", "1h", "--where", "[n] >= 40"])
    #expect(order.output.contains("50 of 50 kept events are handed over"), "\(order)")
    let next = try RunningDaemon(in: folder, pipeline: other, settings: settings)
    #expect(waitUntil { second.endpoint.count == 10 && next.log.contains("[replay.done]") }, "\(next.log)")
    #expect(Set(second.endpoint.documents.keys).isSubset(of: cluster.endpoint.documents.keys))
    // A second time the cluster has them.
    _ = try replay("--from 1h")
    #expect(waitUntil { second.endpoint.count == 50 && second.endpoint.conflicts == 10 }, "\(next.log)")
    #expect(next.stop() == 0)
  }

  @Test func `queue and dead letters are unreadable without their key, and keys can change`() throws {
    let folder = TemporaryFolder()
    let cluster = try Cluster()
    defer { cluster.endpoint.stop() }
    let file = try pipeline(folder, cluster)
    let old = try folder.write(String(repeating: "0a", count: 32) + "\n", to: "old.key")
    let new = try folder.write(String(repeating: "1b", count: 32) + "\n", to: "new.key")
    func config(_ keys: [String]) throws -> String {
      let list = keys.map { "'${file:\($0)}'" }.joined(separator: ", ")
      return try folder.write("queue.encryption.keys: [\(list)]\nqueue.compression: zstd\n", to: "sluice.yml")
    }
    let first = try RunningDaemon(in: folder, pipeline: file, config: config([old]))
    try send([#"{"n":1,"service":"web","state":"broken","patient":"Maija"}"#], to: first)
    #expect(try waitUntil { try count(first) == 1 }, "\(first.log)")
    let dump = ["queue", "dump", "--all", "-p", file, "--data", folder.path + "/data", "-c"]
    #expect(try run(sluiceProgram, dump + [config([old])]).output.contains("Maija"))
    let blind = try run(sluiceProgram, dump + [Fixtures.root + "/config/sluice.yml"])
    #expect(!blind.output.contains("Maija"), "\(blind)")
    first.crash()
    for place in ["queue", "dead_letter_queue"] {
      let path = folder.path + "/data/\(place)/small"
      let segments = try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.hasSuffix(".seg") }
      #expect(!segments.isEmpty)
      for name in segments { #expect(try Fixtures.read(path + "/" + name).firstRange(of: Array("Maija".utf8)) == nil) }
    }
    for (keys, complaint) in [("", "which is not configured"), ("queue.encryption.keys=short", "openssl rand -hex 32")]
    {
      let refused = try RunningDaemon(
        in: folder, pipeline: file, settings: keys.isEmpty ? [] : [keys], waits: false)
      refused.process.waitUntilExit()
      #expect(refused.process.terminationStatus == 1 && refused.log.contains(complaint), "\(refused.log)")
    }
    let both = try config([new, old])
    // An event whose release the kill took with it is sent again, and must not become a second letter behind the list.
    cluster.isMended.withLock { $0 = true }
    let second = try RunningDaemon(in: folder, pipeline: file, config: both)
    let place = ["-c", both, "-p", file, "--data", folder.path + "/data"]
    #expect(try run(sluiceProgram, ["dlq", "list"] + place).output.contains("mapper_parsing_exception"))
    #expect(try dlq(folder, "list").errors.contains("is encrypted with key"))
    #expect(try run(sluiceProgram, ["dlq", "replay"] + place).status == 0)
    #expect(try waitUntil { try count(second) == 0 && cluster.endpoint.count == 1 }, "\(second.log)")
    #expect(second.stop() == 0)
    // The old key has nothing left to open.
    let third = try RunningDaemon(in: folder, pipeline: file, config: config([new]))
    #expect(third.stop() == 0)
  }

  @Test(arguments: ["os", "interval"]) func `with a relaxed durability a kill loses nothing`(durability: String) throws
  {
    let folder = TemporaryFolder()
    let cluster = try Cluster()
    defer { cluster.endpoint.stop() }
    let file = try folder.write(
      """
      pipeline: { id: small }
      inputs:
        - http: { port: 0 }
      outputs:
        - elasticsearch: { hosts: ['\(cluster.endpoint.address)'], index: 'logs' }
      """, to: "http.yml")
    let settings = ["queue.durability=\(durability)", "queue.compression=lz4"]
    var daemon = try RunningDaemon(in: folder, pipeline: file, settings: settings)
    #expect(daemon.log.contains("[queue.durability]"))
    for round in 0..<3 {
      let body = (0..<400).map { "{\"n\":\(round * 400 + $0)}\n" }.joined()
      let client = try TestClient(port: daemon.port("http-1"))
      try client.send(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: \(body.utf8.count)\r\n"
          + "Connection: close\r\n\r\n\(body)")
      #expect(String(decoding: client.receiveAll(), as: UTF8.self).contains(" 200 "))
      daemon.crash()
      daemon = try RunningDaemon(in: folder, pipeline: file, settings: settings)
    }
    #expect(waitUntil { cluster.endpoint.count == 1200 }, "\(cluster.endpoint.count)\n\(daemon.log)")
    #expect(daemon.stop() == 0)
  }
}
