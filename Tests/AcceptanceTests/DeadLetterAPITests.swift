//  Dead letters over the monitoring API: listed, counted, shown, exported, mended and replayed, purged; and who may not.

import Diagnostics
import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct DeadLetterAPITests {
  private struct Answer {
    var status: Int
    var head: String
    var body: String
    var json: [String: Any] {
      (try? JSONSerialization.jsonObject(with: Data(body.utf8))) as? [String: Any] ?? [:]
    }
    var lines: [String] { body.split(separator: "\n").map(String.init) }
    var error: String { (json["error"] as? [String: Any])?["message"] as? String ?? "" }
  }

  /// One question; HTTP/1.0, so that a stream comes without chunks.
  private func ask(
    _ daemon: RunningDaemon, _ method: String, _ path: String, _ body: String? = nil,
    headers: [String] = ["Content-Type: application/json"], host: String = "localhost"
  ) throws -> Answer {
    let client = try TestClient(port: daemon.port("api"))
    var head = ["\(method) \(path) HTTP/1.0", "Host: \(host)"] + headers
    if let body { head.append("Content-Length: \(body.utf8.count)") }
    try client.send(head.joined(separator: "\r\n") + "\r\n\r\n" + (body ?? ""))
    let all = Data(client.receiveAll())
    let split = try #require(all.range(of: Data("\r\n\r\n".utf8)), "no answer to \(path)")
    let text = String(decoding: all[..<split.lowerBound], as: UTF8.self)
    let status = try #require(Int(text.split(separator: " ")[1]))
    return Answer(status: status, head: text, body: String(decoding: all[split.upperBound...], as: UTF8.self))
  }

  private func daemon(
    _ folder: TemporaryFolder, _ isMended: Lock<Bool>, settings: [String] = []
  ) throws -> (RunningDaemon, BulkEndpoint) {
    let endpoint = try BulkEndpoint { _, _ in
      isMended.withLock { $0 }
        ? nil : .refuse(status: 400, type: "mapper_parsing_exception", text: "\"broken\"", reason: "no such shape")
    }
    let file = try folder.write(
      """
      pipeline: { id: small }
      inputs:
        - tcp: { port: 0, codec: json_lines }
      filters:
        - if: '[n] > 500'
          then:
            - mutate: { add_tag: [large] }
          else: []
      outputs:
        - elasticsearch: { hosts: ['\(endpoint.address)'], index: 'logs-%{[service]}' }
      """, to: "small.yml")
    return (try RunningDaemon(in: folder, pipeline: file, settings: settings), endpoint)
  }

  private func send(_ lines: [String], to daemon: RunningDaemon) throws {
    let client = try TestClient(port: daemon.port("tcp-1"))
    try client.send(lines.map { $0 + "\n" }.joined())
    client.finishSending()
    _ = client.receiveAll()
  }

  private func count(_ daemon: RunningDaemon) throws -> Int {
    let pipelines = try #require(try ask(daemon, "GET", "/_dead_letters").json["pipelines"] as? [[String: Any]])
    return try #require(pipelines.first?["letters"] as? Int)
  }

  @Test func `letters are listed, counted, shown, exported, mended, replayed and purged`() throws {
    let folder = TemporaryFolder()
    let isMended = Lock(false)
    let (daemon, endpoint) = try daemon(folder, isMended)
    defer { endpoint.stop() }
    try send(
      (0..<30).map { #"{"n":\#($0),"service":"\#($0 < 20 ? "web" : "shop")","state":"broken"}"# }
        + [#"{"n":"x","service":"web"}"#], to: daemon)
    #expect(try waitUntil { try count(daemon) == 31 }, "\(daemon.log)")

    let causes = try ask(daemon, "GET", "/_dead_letters/small?by=cause").json["groups"] as? [[String: Any]] ?? []
    #expect(causes.map { $0["count"] as? Int } == [30, 1] && causes[0]["status"] as? Int == 400, "\(causes)")
    #expect(causes[0]["type"] as? String == "mapper_parsing_exception" && causes[1]["stage"] as? String == "condition")
    let indices = try ask(daemon, "GET", "/_dead_letters/small?by=index").json["groups"] as? [[String: Any]] ?? []
    #expect(indices.map { $0["index"] as? String } == ["logs-web", "logs-shop", nil])
    #expect(try (ask(daemon, "GET", "/_dead_letters/small?by=day").json["groups"] as? [Any])?.count ?? 0 >= 1)
    #expect(try ask(daemon, "GET", "/_dead_letters/small?by=colour").status == 400)

    // By pages, each beginning where the one before ended.
    var seen: [String] = []
    var next: String?
    repeat {
      let page = try ask(daemon, "GET", "/_dead_letters/small?limit=12" + (next.map { "&from=\($0)" } ?? "")).json
      let letters = try #require(page["letters"] as? [[String: Any]])
      #expect(letters.count <= 12)
      seen += letters.compactMap { $0["letter"] as? String }
      next = page["next"] as? String
    } while next != nil
    #expect(seen.count == 31 && Set(seen).count == 31)
    let some = try ask(daemon, "GET", "/_dead_letters/small?where=%5Bservice%5D+%3D%3D+%22shop%22&limit=100").json
    #expect((some["letters"] as? [Any])?.count == 10)
    #expect(try ask(daemon, "GET", "/_dead_letters/small?where=%5B").error.contains("broken condition"))

    // The condition's letter may be the first.
    let web = try ask(daemon, "GET", "/_dead_letters/small?where=%5Bn%5D+%3C+9&limit=1").json["letters"]
    let name = try #require((web as? [[String: Any]])?.first?["letter"] as? String)
    let shown = try ask(daemon, "GET", "/_dead_letters/small/\(name)").json
    #expect(shown["letter"] as? String == name && (shown["event"] as? [String: Any])?["state"] as? String == "broken")
    #expect(shown["arrived"] is String && shown["reason"] as? String == "no such shape")
    let export = try ask(daemon, "GET", "/_dead_letters/small/_export")
    #expect(export.lines.count == 31 && export.head.contains("application/x-ndjson"))
    let command = try run(sluiceProgram, ["dlq", "export", "--folder", folder.path + "/data/dead_letter_queue/small"])
    #expect(command.lines.map { $0.contains("\"letter\"") } == export.lines.map { $0.contains("\"letter\"") })

    // What would be sent, and nothing is.
    let mending = #""set":{"state":500,"[extra][by]":"hand"},"remove":["event"]"#
    let dry = try ask(
      daemon, "POST", "/_dead_letters/small/_replay",
      #"{"where":"[n] < 2",\#(mending),"dry_run":true}"#)
    #expect(dry.lines.count == 2 && dry.body.contains(#""state":500"#) && dry.body.contains(#""by":"hand""#), "\(dry)")
    #expect(try count(daemon) == 31 && endpoint.count == 0)

    let replay = try ask(daemon, "POST", "/_dead_letters/small/_replay", #"{"where":"[n] < 2",\#(mending)}"#)
    #expect(replay.status == 202 && replay.json["letters"] as? Int == 2, "\(replay)")
    #expect(replay.json["undecided"] as? Int == 1)
    #expect(try waitUntil { try count(daemon) == 29 && endpoint.count == 2 }, "\(daemon.log)")

    let rest = try ask(daemon, "GET", "/_dead_letters/small?where=%5Bn%5D+%3E+9+and+%5Bn%5D+%3C+99").json["letters"]
    let names = (rest as? [[String: Any]] ?? []).compactMap { $0["letter"] as? String }
    #expect(names.count == 20)
    #expect(try ask(daemon, "DELETE", "/_dead_letters/small/\(names[5])").status == 202)
    #expect(try waitUntil { try count(daemon) == 28 }, "\(daemon.log)")
    #expect(try ask(daemon, "GET", "/_dead_letters/small/\(names[5])").status == 404)
    #expect(try ask(daemon, "DELETE", "/_dead_letters/small/\(names[5])").status == 404)
    let purge = try ask(daemon, "POST", "/_dead_letters/small/_purge", #"{"letters":["\#(names[6])","\#(names[7])"]}"#)
    #expect(purge.status == 202 && purge.json["letters"] as? Int == 2)
    #expect(try waitUntil { try count(daemon) == 26 }, "\(daemon.log)")

    isMended.withLock { $0 = true }
    // The number in the condition's way is mended too: the letter goes through the pipeline from its start.
    let all = try ask(
      daemon, "POST", "/_dead_letters/small/_replay", #"{"all":true,"pipeline":"small","set":{"n":501}}"#)
    #expect(all.json["letters"] as? Int == 26, "\(all)")
    #expect(try waitUntil { try count(daemon) == 0 && endpoint.count == 28 }, "\(daemon.log)")
    #expect(endpoint.conflicts == 0 && endpoint.faults.isEmpty)
    #expect(daemon.stop() == 0)
  }

  @Test func `orders that are none are refused with the reason`() throws {
    let folder = TemporaryFolder()
    let (daemon, endpoint) = try daemon(folder, Lock(false))
    defer { endpoint.stop() }
    let purge = "/_dead_letters/small/_purge"
    for (body, complaint) in [
      ("{}", "name 'letters'"), ("[]", "no JSON object"), ("{\"all\":1}", "true or false"),
      (#"{"letters":["x"]}"#, "such as"), (#"{"where":"["}"#, "broken condition"),
      (#"{"all":true,"set":{}}"#, "no member 'set'"),
    ] {
      let answer = try ask(daemon, "POST", purge, body)
      #expect(answer.status == 400 && answer.error.contains(complaint), "\(answer)")
    }
    #expect(try ask(daemon, "POST", "/_dead_letters/small/_replay", #"{"all":true,"pipeline":"none"}"#).status == 404)
    #expect(try ask(daemon, "GET", "/_dead_letters/none").status == 404)
    #expect(try ask(daemon, "PUT", purge, "{}").status == 405)
    #expect(try ask(daemon, "POST", purge, "{\"all\":true}", headers: ["Content-Type: text/plain"]).status == 415)
    #expect(
      try ask(daemon, "POST", purge, headers: ["Content-Type: application/json", "Content-Length: 2000000"]).status
        == 413)
    // Neither a name that leads here nor a page of another site may change anything.
    #expect(try ask(daemon, "POST", purge, "{\"all\":true}", host: "attacker.example").status == 403)
    let page = ["Content-Type: application/json", "Origin: http://attacker.example"]
    #expect(try ask(daemon, "POST", purge, "{\"all\":true}", headers: page).status == 403)
    let own = ["Content-Type: application/json", "Origin: http://localhost"]
    #expect(try ask(daemon, "POST", purge, "{\"all\":true}", headers: own).status == 202)
    #expect(daemon.stop() == 0)
  }

  @Test func `with credentials nobody changes or reads without them`() throws {
    let folder = TemporaryFolder()
    let settings = ["api.auth.type=basic", "api.auth.basic.username=ops", "api.auth.basic.password=Secret-123"]
    let (daemon, endpoint) = try daemon(folder, Lock(false), settings: settings)
    defer { endpoint.stop() }
    #expect(try ask(daemon, "GET", "/_dead_letters").status == 401)
    #expect(try ask(daemon, "POST", "/_dead_letters/small/_purge", "{\"all\":true}").status == 401)
    let known = [
      "Content-Type: application/json", "Authorization: Basic " + Data("ops:Secret-123".utf8).base64EncodedString(),
    ]
    #expect(try ask(daemon, "GET", "/_dead_letters", headers: known).status == 200)
    #expect(
      try ask(daemon, "POST", "/_dead_letters/small/_purge", "{\"all\":true}", headers: known, host: "ops.example")
        .status == 202)
    #expect(daemon.stop() == 0)
  }
}
