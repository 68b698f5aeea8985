//  The `dead_letter_queue` input: letters of one pipeline as events of another, through kills, without circles.

import Diagnostics
import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct DeadLetterInputTests {
  /// A pipeline whose events are all refused, and one that reads its letters.
  private func pipelines(
    _ folder: TemporaryFolder, _ refusing: BulkEndpoint, reader: String, options: String
  ) throws -> String {
    let place = folder.path + "/pipelines"
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    _ = try folder.write(
      """
      pipeline: { id: small, workers: 2 }
      inputs:
        - tcp: { port: 0, codec: json_lines }
          id: in
      outputs:
        - elasticsearch: { hosts: ['\(refusing.address)'], index: 'logs-%{[service]}' }
      """, to: "pipelines/small.yml")
    _ = try folder.write(
      """
      pipeline: { id: mender, workers: 2 }
      inputs:
        - dead_letter_queue: { pipeline_id: small, tags: [mended]\(options) }
      filters:
        - mutate:
            add_field:
              why: '%{[@metadata][dead_letter_queue][reason]}'
              kind: '%{[@metadata][dead_letter_queue][plugin_type]}'
              plugin: '%{[@metadata][dead_letter_queue][plugin_id]}'
              entered: '%{[@metadata][dead_letter_queue][entry_time]}'
              letter_id: '%{[@metadata][dead_letter][id]}'
              refused_by: '%{[@metadata][dead_letter][type]}'
      outputs:
        \(reader)
      """, to: "pipelines/mender.yml")
    return place
  }

  private func refusing() throws -> BulkEndpoint {
    try BulkEndpoint { _, _ in
      .refuse(status: 400, type: "mapper_parsing_exception", text: "\"n\"", reason: "no such shape")
    }
  }

  private func send(_ numbers: Range<Int>, to daemon: RunningDaemon) throws {
    let client = try TestClient(port: daemon.port("in"))
    try client.send(numbers.map { "{\"n\":\($0),\"service\":\"web\"}\n" }.joined())
    client.finishSending()
    _ = client.receiveAll()
  }

  private func letters(_ daemon: RunningDaemon, _ pipeline: String = "small") throws -> Int {
    let all = try #require(try daemon.api("/_node/stats/pipeline/dead_letter_queue")["pipelines"] as? [String: Any])
    let queue = (all[pipeline] as? [String: Any])?["dead_letter_queue"] as? [String: Any]
    return try #require(queue?["events_count"] as? Int)
  }

  private func events(_ endpoint: BulkEndpoint) throws -> [[String: Any]] {
    try endpoint.documents.values.map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.source)) as? [String: Any])
    }
  }

  @Test func `letters come to another pipeline as events, each once, with what is known of them`() throws {
    let folder = TemporaryFolder()
    let (refusing, well) = (try refusing(), try BulkEndpoint())
    defer {
      refusing.stop()
      well.stop()
    }
    let place = try pipelines(
      folder, refusing, reader: "- elasticsearch: { hosts: ['\(well.address)'], index: 'mended' }", options: "")
    let daemon = try RunningDaemon(in: folder, pipeline: place)
    try send(0..<700, to: daemon)
    #expect(waitUntil(seconds: 30) { well.count == 700 }, "\(well.count)\n\(daemon.log)")
    let all = try events(well)
    #expect(Set(all.compactMap { $0["n"] as? Int }) == Set(0..<700))
    let one = try #require(all.first)
    #expect(one["tags"] as? [String] == ["mended"] && one["service"] as? String == "web")
    #expect(one["why"] as? String == "no such shape" && one["kind"] as? String == "elasticsearch")
    #expect(one["plugin"] as? String == "elasticsearch-1" && one["refused_by"] as? String == "mapper_parsing_exception")
    #expect((one["entered"] as? String)?.hasSuffix("Z") == true && (one["letter_id"] as? String)?.count == 20)
    #expect(one["@timestamp"] is String && one["event"] == nil)
    // They stay letters, and none is read again after a restart.
    #expect(try letters(daemon) == 700)
    #expect(daemon.stop() == 0)
    let again = try RunningDaemon(in: folder, pipeline: place)
    try send(700..<701, to: again)
    #expect(waitUntil { well.count == 701 }, "\(again.log)")
    #expect(try waitUntil { try again.eventsInQueue("mender") == 0 }, "\(again.log)")
    #expect(well.count == 701)
    #expect(again.stop() == 0)
  }

  @Test func `kills lose no letter, and repeat only what had come since the last place`() throws {
    let folder = TemporaryFolder()
    let (refusing, well) = (try refusing(), try BulkEndpoint())
    defer {
      refusing.stop()
      well.stop()
    }
    let place = try pipelines(
      folder, refusing, reader: "- elasticsearch: { hosts: ['\(well.address)'], index: 'mended' }", options: "")
    var daemon = try RunningDaemon(in: folder, pipeline: place)
    let total = 4000
    for round in 0..<4 {
      try send(round * 1000..<(round + 1) * 1000, to: daemon)
      let goal = [10, 700, 2100, 3050][round]
      #expect(waitUntil(seconds: 30) { well.count >= goal }, "\(well.count)\n\(daemon.log)")
      daemon.crash()
      daemon = try RunningDaemon(in: folder, pipeline: place)
    }
    // TCP has no acknowledgement: what a kill found in a socket is no letter.
    #expect(try waitUntil(seconds: 30) { try daemon.eventsInQueue("small") == 0 })
    let written = try letterNumbers(folder)
    #expect(written.count > total / 2)
    #expect(
      try waitUntil(seconds: 30) { try Set(events(well).compactMap { $0["n"] as? Int }).isSuperset(of: written) },
      "\(daemon.log)")
    #expect(try waitUntil { try daemon.eventsInQueue("mender") == 0 })
    #expect(daemon.stop() == 0)
    // A place is written twice a second at least; a kill repeats no more than a batch or two beyond that.
    #expect(well.count - written.count <= 4 * 2000, "\(well.count) of \(written.count)")
  }

  private func letterNumbers(_ folder: TemporaryFolder) throws -> Set<Int> {
    let export = try run(sluiceProgram, ["dlq", "export", "--folder", folder.path + "/data/dead_letter_queue/small"])
    return Set(
      try export.lines.map {
        let letter = try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        return try #require((letter["event"] as? [String: Any])?["n"] as? Int)
      })
  }

  @Test func `consumed letters are removed where that is asked for`() throws {
    let folder = TemporaryFolder()
    let (refusing, well) = (try refusing(), try BulkEndpoint())
    defer {
      refusing.stop()
      well.stop()
    }
    let place = try pipelines(
      folder, refusing, reader: "- elasticsearch: { hosts: ['\(well.address)'], index: 'mended' }",
      options: ", clean_consumed: true, sincedb_path: '\(folder.path)/places/small'")
    let daemon = try RunningDaemon(in: folder, pipeline: place)
    try send(0..<300, to: daemon)
    #expect(try waitUntil(seconds: 30) { try well.count == 300 && letters(daemon) == 0 }, "\(daemon.log)")
    try send(300..<310, to: daemon)
    #expect(try waitUntil(seconds: 30) { try well.count == 310 && letters(daemon) == 0 }, "\(daemon.log)")
    #expect(folder.text("places/small").split(separator: " ").count == 2)
    #expect(daemon.stop() == 0)
  }

  @Test func `a pipeline that reads its own letters runs in no circle and loses nothing`() throws {
    let folder = TemporaryFolder()
    let refusing = try refusing()
    defer { refusing.stop() }
    let file = try folder.write(
      """
      pipeline: { id: small }
      inputs:
        - tcp: { port: 0, codec: json_lines }
          id: in
        - dead_letter_queue: { pipeline_id: small }
      outputs:
        - elasticsearch: { hosts: ['\(refusing.address)'], index: 'logs' }
      """, to: "small.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    try send(0..<3, to: daemon)
    // Three from outside, and the same three after their second refusal, which are not read again.
    #expect(try waitUntil { try letters(daemon) == 6 && daemon.log.contains("[dlq.passed-over]") }, "\(daemon.log)")
    #expect(try stays(for: .seconds(1)) { try letters(daemon) == 6 }, "\(daemon.log)")
    #expect(daemon.stop() == 0)
  }

  @Test func `a time to start at beats the place, and one place serves one input`() throws {
    let folder = TemporaryFolder()
    let (refusing, well) = (try refusing(), try BulkEndpoint())
    defer {
      refusing.stop()
      well.stop()
    }
    let reader = "- elasticsearch: { hosts: ['\(well.address)'], index: 'mended' }"
    let place = try pipelines(
      folder, refusing, reader: reader, options: ", start_timestamp: '2999-01-01T00:00:00Z'")
    let daemon = try RunningDaemon(in: folder, pipeline: place)
    try send(0..<5, to: daemon)
    #expect(try waitUntil { try letters(daemon) == 5 })
    #expect(daemon.stop() == 0 && well.count == 0)
    _ = try pipelines(folder, refusing, reader: reader, options: ", start_timestamp: '2020-01-01T00:00:00Z'")
    let all = try RunningDaemon(in: folder, pipeline: place)
    #expect(waitUntil { well.count == 5 }, "\(all.log)")
    #expect(all.stop() == 0)

    let other = folder.text("pipelines/mender.yml").replacing("id: mender", with: "id: second")
    _ = try folder.write(other, to: "pipelines/second.yml")
    let refused = try RunningDaemon(in: folder, pipeline: place, waits: false)
    refused.process.waitUntilExit()
    #expect(refused.process.terminationStatus == 1 && refused.log.contains("sincedb_path"), "\(refused.log)")
  }

  @Test(arguments: [
    ("clean_consumed: true, commit_offsets: false", "needs commit_offsets"),
    ("start_timestamp: yesterday", "is no time such as"), ("pipeline_id: '../x'", "is no id of a pipeline"),
  ])
  func `options that do not go together are refused`(options: String, complaint: String) throws {
    let folder = TemporaryFolder()
    let file = try folder.write(
      "inputs:\n  - dead_letter_queue: { \(options) }\noutputs:\n  - stdout: {}\n", to: "bad.yml")
    let checked = try run(sluiceProgram, ["check", "-p", file])
    #expect(checked.status == 1 && checked.output.contains(complaint), "\(checked)")
  }
}
