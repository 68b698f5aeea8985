//  Pipeline files change while the daemon runs: what is good is taken over, what is broken is named and refused.

import Diagnostics
import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct ReloadTests {
  /// A pipeline that marks its events.
  private func text(_ folder: TemporaryFolder, _ mark: String, id: String = "small", more: String = "") -> String {
    """
    pipeline: { id: \(id), workers: 2, batch: { size: 50, delay: 5ms } }
    inputs:
      - http: { port: 0 }
    filters:
      - mutate: { add_field: { mark: '\(mark)' } }
    \(more)
    outputs:
      - file: { path: '\(folder.path)/\(id).ndjson' }
    """
  }

  private func reload(_ daemon: RunningDaemon) { kill(daemon.process.processIdentifier, SIGHUP) }

  private func lines(_ daemon: RunningDaemon, _ code: String) -> Int {
    daemon.log.split(separator: "\n").filter { $0.contains("[\(code)]") }.count
  }

  /// Events of the output's file, by their number, with their mark.
  private func events(_ folder: TemporaryFolder, _ id: String = "small") throws -> [(n: Int, mark: String)] {
    try folder.text(id + ".ndjson").split(separator: "\n").map {
      let event = try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      return try (#require(event["n"] as? Int), #require(event["mark"] as? String))
    }
  }

  /// Sends one event; false where it was not acknowledged.
  private func send(_ n: Int, _ daemon: RunningDaemon) -> Bool {
    guard let port = try? daemon.port("http-1"), let client = try? TestClient(port: port) else { return false }
    let body = "{\"n\":\(n)}"
    try? client.send(
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
        + "Connection: close\r\n\r\n\(body)")
    return String(decoding: client.receiveAll(), as: UTF8.self).contains(" 200 ")
  }

  private func pipeline(_ daemon: RunningDaemon, _ id: String = "small") throws -> [String: Any] {
    let all = try #require(try daemon.api("/_node/stats/pipelines")["pipelines"] as? [String: Any])
    return try #require(all[id] as? [String: Any])
  }

  @Test func `HUP takes a changed file over, and what is sent meanwhile arrives once`() throws {
    let folder = TemporaryFolder()
    let file = try folder.write(text(folder, "0"), to: "small.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    let before = try pipeline(daemon)
    var acknowledged: Set<Int> = []
    var n = 0
    for round in 1...4 {
      for _ in 0..<20 {
        if send(n, daemon) { acknowledged.insert(n) }
        n += 1
      }
      _ = try folder.write(text(folder, "\(round)"), to: "small.yml")
      reload(daemon)
      // Events go on while the pipeline is changed; some of them find nobody listening.
      while lines(daemon, "reload.done") < round, daemon.process.isRunning {
        if send(n, daemon) { acknowledged.insert(n) }
        n += 1
      }
    }
    #expect(send(n, daemon))
    acknowledged.insert(n)
    #expect(try waitUntil(seconds: 20) { try events(folder).contains { $0.n == n } })
    #expect(try waitUntil(seconds: 20) { try daemon.eventsInQueue("small") == 0 })
    let arrived = try events(folder)
    #expect(Set(arrived.map(\.n)).isSuperset(of: acknowledged))
    #expect(arrived.count == Set(arrived.map(\.n)).count)
    #expect(arrived.first?.mark == "0" && arrived.first { $0.n == n }?.mark == "4")
    let after = try pipeline(daemon)
    let reloads = try #require(after["reloads"] as? [String: Any])
    #expect(reloads["successes"] as? Int == 4 && reloads["failures"] as? Int == 0)
    #expect(reloads["last_success_timestamp"] is String)
    #expect(before["hash"] as? String != after["hash"] as? String)
    #expect(before["ephemeral_id"] as? String != after["ephemeral_id"] as? String)
    // The node's counts go on.
    let node = try #require(try daemon.api("/_node/stats/events")["events"] as? [String: Any])
    #expect(try #require(node["out"] as? Int) >= acknowledged.count)
    #expect(daemon.stop() == 0)
  }

  @Test func `a broken file is refused with its place, and the old one goes on`() throws {
    let folder = TemporaryFolder()
    let file = try folder.write(text(folder, "old"), to: "small.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    let port = try daemon.port("http-1")
    for round in 1...2 {
      _ = try folder.write(
        text(folder, "new").replacingOccurrences(of: "mutate", with: "mutat\(round)"), to: "small.yml")
      reload(daemon)
      #expect(waitUntil { lines(daemon, "reload.refused") == round }, "\(daemon.log)")
    }
    #expect(daemon.log.contains("small.yml:5:5: error:"), "\(daemon.log)")
    #expect(try daemon.port("http-1") == port && send(1, daemon))
    #expect(try waitUntil { try events(folder).map(\.mark) == ["old"] })
    let reloads = try #require(try pipeline(daemon)["reloads"] as? [String: Any])
    #expect(reloads["failures"] as? Int == 2 && reloads["successes"] as? Int == 0)
    let error = try #require(reloads["last_error"] as? [String: Any])
    #expect((error["message"] as? String)?.contains("small.yml:5:5") == true)
    let node = try #require(try daemon.api("/_node/stats/reloads")["reloads"] as? [String: Any])
    #expect(node["failures"] as? Int == 2)
    #expect(daemon.stop() == 0)
  }

  @Test func `a pipeline that cannot start gives way to the one before it`() throws {
    let folder = TemporaryFolder()
    let file = try folder.write(text(folder, "old"), to: "small.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    let api = try daemon.port("api")  // it was asked for as 0, so that nobody can tell before the start
    _ = try folder.write(
      text(folder, "new").replacingOccurrences(of: "port: 0", with: "port: \(api)"), to: "small.yml")
    reload(daemon)
    #expect(waitUntil { lines(daemon, "reload.undone") == 1 }, "\(daemon.log)")
    #expect(
      lines(daemon, "reload.done") == 0 && lines(daemon, "reload.failed") == 1
        && daemon.log.contains("another program listens there"))
    #expect(send(1, daemon))
    #expect(try waitUntil { try events(folder).map(\.mark) == ["old"] })
    let reloads = try #require(try pipeline(daemon)["reloads"] as? [String: Any])
    #expect(reloads["failures"] as? Int == 1 && reloads["successes"] as? Int == 0)
    #expect(daemon.stop() == 0)
  }

  @Test func `files that come and go are seen without a signal where that is asked for`() throws {
    let folder = TemporaryFolder()
    try FileManager.default.createDirectory(atPath: folder.path + "/pipelines", withIntermediateDirectories: true)
    _ = try folder.write(text(folder, "a", id: "one"), to: "pipelines/one.yml")
    let daemon = try RunningDaemon(
      in: folder, pipeline: folder.path + "/pipelines",
      settings: ["config.reload.automatic=true", "config.reload.interval=100ms"])
    _ = try folder.write(text(folder, "b", id: "two"), to: "pipelines/two.yml")
    func names() throws -> Set<String> {
      Set(try #require(try daemon.api("/_node/pipelines")["pipelines"] as? [String: Any]).keys)
    }
    #expect(try waitUntil(seconds: 20) { try names() == ["one", "two"] }, "\(daemon.log)")
    try FileManager.default.removeItem(atPath: folder.path + "/pipelines/one.yml")
    #expect(try waitUntil(seconds: 20) { try names() == ["two"] }, "\(daemon.log)")
    #expect(lines(daemon, "reload.removed") == 1)
    #expect(send(7, daemon))
    #expect(try waitUntil { try events(folder, "two").map(\.n) == [7] })
    #expect(daemon.stop() == 0)
  }

  @Test func `what a cluster has not taken before the change reaches it once afterwards`() throws {
    let isStuck = Lock(true)
    let cluster = try BulkEndpoint { _, _ in
      isStuck.withLock { $0 } ? .answer(429, #"{"error":{"type":"es_rejected_execution_exception"}}"#) : nil
    }
    defer { cluster.stop() }
    let folder = TemporaryFolder()
    func write(_ mark: String) throws -> String {
      try folder.write(
        text(folder, mark).replacingOccurrences(
          of: "- file: { path: '\(folder.path)/small.ndjson' }",
          with: "- elasticsearch: { hosts: ['\(cluster.address)'], index: 'logs', retry_initial_interval: 1 }"),
        to: "small.yml")
    }
    let daemon = try RunningDaemon(in: folder, pipeline: write("old"), settings: ["shutdown.timeout=1s"])
    #expect((0..<60).allSatisfy { send($0, daemon) })
    #expect(waitUntil { cluster.requests > 0 })
    for round in 1...2 {
      _ = try write("new \(round)")
      reload(daemon)
      #expect(waitUntil(seconds: 30) { lines(daemon, "reload.done") == round }, "\(daemon.log)")
    }
    #expect((60..<80).allSatisfy { send($0, daemon) })
    isStuck.withLock { $0 = false }
    #expect(try waitUntil(seconds: 30) { try daemon.eventsInQueue("small") == 0 })
    let numbers = try cluster.documents.values.map {
      try #require((try JSONSerialization.jsonObject(with: Data($0.source)) as? [String: Any])?["n"] as? Int)
    }
    #expect(numbers.sorted() == Array(0..<80))
    #expect(daemon.stop() == 0)
  }

  @Test func `a queue in memory goes on with what it holds`() throws {
    let folder = TemporaryFolder()
    func write(_ mark: String) throws -> String {
      try folder.write(
        text(folder, mark).replacingOccurrences(of: "workers: 2", with: "workers: 1, queue: { type: memory }"),
        to: "small.yml")
    }
    let daemon = try RunningDaemon(in: folder, pipeline: write("old"))
    #expect((0..<10).allSatisfy { send($0, daemon) })
    _ = try write("new")
    reload(daemon)
    #expect(waitUntil { lines(daemon, "reload.done") == 1 }, "\(daemon.log)")
    #expect((10..<20).allSatisfy { send($0, daemon) })
    #expect(try waitUntil { try events(folder).count == 20 })
    #expect(try events(folder).allSatisfy { $0.mark == ($0.n < 10 ? "old" : "new") })
    #expect(daemon.stop() == 0)
  }
}
