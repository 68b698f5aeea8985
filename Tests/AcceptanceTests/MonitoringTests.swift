//  The monitoring API, asked as its readers ask it.

import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct MonitoringTests {
  private struct Answer {
    var status: Int
    var head: String
    var body: String
    var json: [String: Any] {
      (try? JSONSerialization.jsonObject(with: Data(body.utf8))) as? [String: Any] ?? [:]
    }
  }

  private func ask(_ daemon: RunningDaemon, _ path: String, method: String = "GET") throws -> Answer {
    let client = try TestClient(port: daemon.port("api"))
    try client.send("\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    let text = String(decoding: client.receiveAll(), as: UTF8.self)
    let end = try #require(text.range(of: "\r\n\r\n"), "no answer to \(path)")
    return Answer(
      status: try #require(Int(text.split(separator: " ")[1])), head: String(text[..<end.lowerBound]),
      body: String(text[end.upperBound...]))
  }

  /// What stands at a path of names and numbers.
  private func at(_ value: Any?, _ path: String...) -> Any? {
    path.reduce(value) { value, name in
      if let list = value as? [Any] { return Int(name).flatMap { list.indices.contains($0) ? list[$0] : nil } }
      return (value as? [String: Any])?[name]
    }
  }

  /// A daemon with one pipeline that has taken three events, one of which grok and date do not fit.
  private func daemon(_ folder: TemporaryFolder) throws -> RunningDaemon {
    let file = try folder.write(
      """
      pipeline: { id: main, workers: 1, batch: { size: 10, delay: 5ms } }
      inputs:
        - http: { port: 0, id: web }
      filters:
        - grok: { match: { text: '%{NUMBER:number} %{WORD:word}' } }
        - if: '[word] == "one"'
          then:
            - mutate: { add_tag: [first] }
          else:
            - mutate: { add_tag: [other] }
        - date: { match: [at, ISO8601], id: clock }
          when: '[at]'
      outputs:
        - file: { path: '\(folder.path)/out.ndjson' }
      """, to: "main.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    let body =
      #"[{"text":"1 one","at":"2026-03-01T00:00:00Z"},{"text":"2 two","at":"never"},{"text":"no number"}]"#
    let client = try TestClient(port: daemon.port("web"))
    try client.send(
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
        + "Connection: close\r\n\r\n\(body)")
    #expect(String(decoding: client.receiveAll(), as: UTF8.self).contains(" 200 "))
    #expect(waitUntil { folder.text("out.ndjson").split(separator: "\n").count == 3 })
    #expect(try waitUntil { try daemon.eventsInQueue("main") == 0 })
    return daemon
  }

  @Test func `what Metricbeat's module for Logstash asks has all that it needs`() throws {
    let folder = TemporaryFolder()
    let daemon = try daemon(folder)
    // Its first question: it refuses versions below 7.3.
    let version = try #require(try ask(daemon, "/").json["version"] as? String)
    let parts = version.split(separator: ".").compactMap { Int($0) }
    #expect(parts.count == 3 && (parts[0], parts[1]) >= (7, 3))
    // Metric set node.
    let node = try ask(daemon, "/_node").json
    #expect(node["id"] is String && node["host"] is String && node["version"] as? String == version)
    #expect(at(node, "jvm", "version") is String)
    #expect(at(node, "jvm", "pid") as? Int == Int(daemon.process.processIdentifier))
    let described = try ask(daemon, "/_node/pipelines?graph=true").json
    let main = at(described, "pipelines", "main")
    #expect((at(main, "hash") as? String)?.count == 64 && at(main, "ephemeral_id") is String)
    #expect(at(main, "batch_size") as? Int == 10 && at(main, "workers") as? Int == 1)
    let graph = at(main, "graph")
    #expect(at(graph, "type") as? String == "lir" && at(graph, "hash") is String && at(graph, "version") is String)
    let vertices = try #require(at(graph, "graph", "vertices") as? [[String: Any]])
    let edges = try #require(at(graph, "graph", "edges") as? [[String: Any]])
    let ids = vertices.compactMap { $0["id"] as? String }
    #expect(ids.count == vertices.count && Set(ids).count == ids.count)
    #expect(edges.allSatisfy { ids.contains($0["from"] as? String ?? "") && ids.contains($0["to"] as? String ?? "") })
    #expect(Set(edges.compactMap { $0["id"] as? String }).count == edges.count)
    let kinds = vertices.compactMap { $0["type"] as? String }
    #expect(kinds.filter { $0 == "if" }.count == 2 && kinds.filter { $0 == "queue" }.count == 1)
    #expect(vertices.first { $0["id"] as? String == "web" }?["explicit_id"] as? Bool == true)
    let grok = vertices.first { $0["config_name"] as? String == "grok" }
    #expect(at(grok, "meta", "source", "line") as? Int == 5 && at(grok, "plugin_type") as? String == "filter")
    // Every plugin is reached from the inputs.
    var reached: Set<String> = ["web"]
    for _ in vertices {
      for edge in edges where reached.contains(edge["from"] as? String ?? "") {
        reached.insert(edge["to"] as? String ?? "")
      }
    }
    #expect(reached == Set(ids))
    // Metric set node_stats.
    let stats = try ask(daemon, "/_node/stats?vertices=true").json
    for path in [
      ["events", "duration_in_millis"], ["events", "in"], ["events", "filtered"], ["events", "out"],
      ["jvm", "mem", "heap_max_in_bytes"], ["jvm", "mem", "heap_used_in_bytes"], ["jvm", "mem", "heap_used_percent"],
      ["jvm", "uptime_in_millis"], ["queue", "events_count"], ["process", "open_file_descriptors"],
      ["process", "max_file_descriptors"], ["process", "cpu", "percent"], ["pipeline", "batch_size"],
      ["pipeline", "workers"],
    ] {
      #expect(path.reduce(stats as Any?) { ($0 as? [String: Any])?[$1] } is Int, "\(path)")
    }
    #expect(at(stats, "process", "cpu", "load_average") is [String: Any] && at(stats, "reloads") is [String: Any])
    #expect(stats["snapshot"] is Bool && stats["http_address"] is String)
    let running = at(stats, "pipelines", "main")
    #expect(at(running, "hash") as? String == at(main, "hash") as? String)
    let figures = try #require(at(running, "vertices") as? [[String: Any]])
    #expect(
      Set(figures.compactMap { $0["id"] as? String }) == ["web", "grok-1", "mutate-1", "mutate-2", "clock", "file-1"])
    #expect(figures.allSatisfy { $0["pipeline_ephemeral_id"] as? String == at(main, "ephemeral_id") as? String })
    #expect(figures.first { $0["id"] as? String == "web" }?["events_out"] as? Int == 3)
    #expect(daemon.stop() == 0)
  }

  @Test func `figures are those of what happened`() throws {
    let folder = TemporaryFolder()
    let daemon = try daemon(folder)
    let stats = try ask(daemon, "/_node/stats").json
    let main = at(stats, "pipelines", "main")
    #expect(at(stats, "events", "in") as? Int == 3 && at(stats, "events", "out") as? Int == 3)
    let filters = at(main, "plugins", "filters")
    #expect(at(filters, "0", "id") as? String == "grok-1")
    #expect(at(filters, "0", "matches") as? Int == 2 && at(filters, "0", "failures") as? Int == 1)
    #expect(at(filters, "3", "id") as? String == "clock")
    #expect(at(filters, "3", "matches") as? Int == 1 && at(filters, "3", "failures") as? Int == 1)
    #expect(at(main, "plugins", "codecs", "0", "decode", "out") as? Int == 3)
    #expect(at(main, "batch", "event_count", "current") as? Int == 3)
    #expect(at(main, "batch", "event_count", "average", "lifetime") as? Int == 3)
    #expect(at(main, "queue", "data", "storage_type") is String)
    #expect(try #require(at(main, "queue", "data", "free_space_in_bytes") as? Int) > 0)
    for flow in ["input_throughput", "filter_throughput", "output_throughput", "worker_concurrency"] {
      #expect(try #require(at(stats, "flow", flow, "lifetime") as? Double) > 0, "\(flow)")
      #expect(try #require(at(main, "flow", flow, "current") as? Double) > 0, "\(flow)")
    }
    #expect(try #require(at(main, "flow", "queue_backpressure", "lifetime") as? Double) > 0)
    #expect(try #require(at(main, "flow", "worker_utilization", "lifetime") as? Double) <= 100)
    #expect(try #require(at(filters, "0", "flow", "worker_millis_per_event", "lifetime") as? Double) > 0)
    let node = try ask(daemon, "/_node").json
    #expect(try #require(at(node, "jvm", "start_time_in_millis") as? Int) > 1_700_000_000_000)
    #expect(at(node, "jvm", "gc_collectors") as? [String] == ["none"])
    #expect((at(node, "pipelines", "main", "dead_letter_queue_path") as? String)?.hasSuffix("/main") == true)
    let root = try ask(daemon, "/").json
    #expect((root["build_date"] as? String)?.hasSuffix("Z") == true && root["build_sha"] is String)
    let health = try ask(daemon, "/_health_report").json
    #expect(health["status"] as? String == "green" && health["pipeline"] == nil)
    #expect(health["symptom"] as? String == "1 indicator is healthy (`pipelines`)")
    #expect(
      at(health, "indicators", "pipelines", "indicators", "main", "symptom") as? String == "The pipeline is healthy")
    #expect(
      at(health, "indicators", "pipelines", "indicators", "main", "details", "status", "state") as? String == "RUNNING")
    #expect(daemon.stop() == 0)
  }

  @Test func `what went wrong with events is counted where it did`() throws {
    let folder = TemporaryFolder()
    let file = try folder.write(
      """
      pipeline: { id: main, workers: 1, batch: { size: 10, delay: 5ms } }
      inputs:
        - tcp: { port: 0, id: lines, codec: json_lines, max_event_bytes: 1kb }
      filters:
        - mutate: { add_tag: [large] }
          when: '[n] > 5'
      outputs:
        - file: { path: '\(folder.path)/out.ndjson' }
          when: '[size] > 5'
      """, to: "main.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    let client = try TestClient(port: daemon.port("lines"))
    let large = String(repeating: "x", count: 2000)
    try client.send(
      #"{"n":"text","size":9}"# + "\n{\"n\":9,\"size\":\"text\"}\n{\"n\":1,\"size\":9,\"t\":\"\(large)\"}\n")
    client.finishSending()
    _ = client.receiveAll()
    func plugins() throws -> Any? { at(try ask(daemon, "/_node/stats").json, "pipelines", "main", "plugins") }
    #expect(
      try waitUntil {
        let now = try plugins()
        return at(now, "inputs", "0", "oversized_events") as? Int == 1
          && at(now, "filters", "0", "condition_failures") as? Int == 1
          && at(now, "outputs", "0", "condition_failures") as? Int == 1
      }, "\(daemon.log)")
    #expect(at(try plugins(), "inputs", "0", "lost_events") as? Int == 0)
    let text = try ask(daemon, "/metrics").body
    #expect(text.contains("sluice_input_oversized_events_total{pipeline=\"main\"} 1\n"), "\(text)")
    #expect(text.contains("sluice_input_lost_events_total{pipeline=\"main\"} 0\n"))
    #expect(daemon.stop() == 0)
  }

  @Test func `an output in trouble shows in the health report, and who waits for green waits`() throws {
    let folder = TemporaryFolder()
    let cluster = try BulkEndpoint { _, _ in .answer(429, #"{"error":{"type":"es_rejected_execution_exception"}}"#) }
    let address = cluster.address
    cluster.stop()
    let file = try folder.write(
      """
      pipeline: { id: main, workers: 1 }
      inputs:
        - http: { port: 0 }
      outputs:
        - elasticsearch: { hosts: ['\(address)'], index: 'logs' }
      """, to: "main.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file, settings: ["shutdown.timeout=1s"])
    let client = try TestClient(port: daemon.port("http-1"))
    try client.send(
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    )
    #expect(String(decoding: client.receiveAll(), as: UTF8.self).contains(" 200 "))
    #expect(try ask(daemon, "/?wait_for_status=yellow&timeout=1s").status == 200)
    #expect(try waitUntil { try ask(daemon, "/").json["status"] as? String == "yellow" })
    let late = try ask(daemon, "/?wait_for_status=green&timeout=300ms")
    #expect(late.status == 408)
    #expect(at(late.json, "error", "message") as? String == "Timed out waiting for status 'green'.")
    let main = at(try ask(daemon, "/_health_report").json, "indicators", "pipelines", "indicators", "main")
    #expect(at(main, "status") as? String == "yellow")
    #expect((at(main, "diagnosis", "0", "cause") as? String)?.hasPrefix("output 'elasticsearch-1': ") == true)
    #expect(
      at(main, "symptom") as? String
        == "The pipeline is concerning; 1 area is impacted and 1 diagnosis is available")
    #expect(daemon.stop() == 0)
  }

  @Test func `paths, methods and parameters are answered as Logstash does`() throws {
    let folder = TemporaryFolder()
    let daemon = try daemon(folder)
    for path in [
      "/nothing", "/_node/pipelines/", "/_node/pipelines/none", "/_node/stats/pipelines/none", "/_node/foo",
      "/_node/stats/foo", "/_health_report/x",
    ] {
      let answer = try ask(daemon, path)
      #expect(answer.status == 404 && at(answer.json, "error", "message") as? String == "Not Found", "\(path)")
      #expect(answer.json["path"] as? String == path && answer.json["status"] as? Int == 404)
    }
    for method in ["POST", "PUT", "DELETE"] { #expect(try ask(daemon, "/_node/stats", method: method).status == 404) }
    let head = try ask(daemon, "/_node", method: "HEAD")
    #expect(head.status == 200 && head.body.isEmpty)
    for path in [
      "/", "/_node/", "/_node/os,jvm", "/_node/stats/jvm,process", "/_node/stats/pipelines/main", "/_stats",
      "/_node/plugins", "/_node/hot_threads", "/_node/stats/pipeline",
    ] {
      let answer = try ask(daemon, path)
      #expect(answer.status == 200 && answer.head.contains("X-Content-Type-Options: nosniff"), "\(path)")
      #expect(answer.head.contains("Content-Type: application/json\r\n") && !answer.json.isEmpty, "\(path)")
    }
    let both = try ask(daemon, "/_node/stats/jvm,process").json
    #expect(both["jvm"] != nil && both["process"] != nil && both["events"] == nil)
    let pretty = try ask(daemon, "/?pretty=false")
    #expect(pretty.body.hasPrefix("{\n  \"host\": \"") && pretty.json["version"] != nil)
    #expect(try ask(daemon, "/_node/stats?vertices=maybe").status == 500)
    #expect(at(try ask(daemon, "/_node/stats?vertices=maybe").json, "class") as? String == "ArgumentError")
    #expect(try ask(daemon, "/?wait_for_status=green&timeout=5s").status == 200)
    #expect(try ask(daemon, "/?wait_for_status=green").status == 400)
    #expect(try ask(daemon, "/?wait_for_status=blue&timeout=5s").status == 400)
    #expect(try ask(daemon, "/?timeout=soon").status == 400)
    let threads = try ask(daemon, "/_node/hot_threads?human=true&threads=3&ignore_idle_threads=false")
    #expect(threads.head.contains("text/plain") && threads.body.hasPrefix("::: {}\nHot threads at "))
    #expect(threads.body.contains(" % of cpu usage, state: "))
    #expect(try ask(daemon, "/_node/hot_threads?ignore_idle_threads=x").status == 400)
    #expect(daemon.stop() == 0)
  }
}
