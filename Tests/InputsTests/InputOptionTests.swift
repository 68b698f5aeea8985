//  What the inputs' options allow, and what they make of a sender's last words.

import Diagnostics
import Events
import Inputs
import Pipeline
import PluginKit
import Records
import TestSupport
import Testing

@Suite struct InputOptionTests {
  private func codes(_ kind: String, _ options: String) throws -> [String] {
    let problems = Problems()
    if let input = try CaseInput.start(kind, options, ecs: "v8", problems: problems) { input.stop() }
    return problems.sorted.filter { $0.severity == .error }.map(\.code)
  }

  @Test(arguments: [
    ("tcp", "{ port: 0, codec: jsonlines }", "config.unknown-plugin"),
    ("tcp", "{ port: 0, codec: { line: { charset: UTF-9 } } }", "config.bad-value"),
    ("tcp", "{ port: 0, codec: { json: { targt: x } } }", "config.unknown-option"),
    ("tcp", "{ port: 0, codec: { line: { delimiter: '' } } }", "config.bad-value"),
    ("tcp", "{ port: 0, mode: client }", "config.bad-value"),
    ("tcp", "{ port: 0, ssl_certificate: a, ssl_key: b }", "config.missing-option"),
    ("tcp", "{ port: 0, ssl_enabled: true, ssl_client_authentication: none }", "config.missing-option"),
    ("tcp", "{ port: 0, ssl_keystore_path: a }", "config.obsolete-option"),
    ("beats", "{ port: 0, enrich: [none, source_metadata] }", "config.bad-value"),
    ("beats", "{ port: 0, enrich: all, include_codec_tag: false }", "config.bad-value"),
    ("beats", "{ port: 0, enrich: everything }", "config.bad-value"),
    (
      "beats",
      "{ port: 0, enrich: [ssl_peer_metadata], ssl_certificate: a, ssl_key: b, ssl_certificate_authorities: c }",
      "config.missing-option"
    ),
    (
      "beats",
      "{ port: 0, ssl_certificate: a, ssl_key: b, ssl_certificate_authorities: c, ssl_client_authentication: none }",
      "config.bad-value"
    ),
    (
      "beats", "{ port: 0, ssl_certificate: a, ssl_key: b, ssl_client_authentication: optional }",
      "config.missing-option"
    ),
    ("beats", "{ port: 0, codec: { multiline: { pattern: x, what: next } } }", "config.bad-value"),
    ("http", "{ port: 0, ssl_certificate: a, ssl_key: b, ssl_certificate_authorities: c }", "config.bad-value"),
    ("http", "{ port: 0, response_code: 301 }", "config.bad-value"),
    ("http", "{ port: 0, additional_codecs: { text/csv: csvv } }", "config.unknown-plugin"),
    ("http", "{ port: 0, remote_host_target_field: '[a' }", "config.bad-value"),
  ])
  func `what cannot be is refused`(kind: String, options: String, code: String) throws {
    #expect(try codes(kind, options) == [code])
  }

  @Test(arguments: [
    ("elastic_agent", "{ port: 0, enrich: none }"), ("beats", "{ port: 0, enrich: all, executor_threads: 2 }"),
    ("beats", "{ port: 0, enrich: [source_metadata, codec_metadata], max_connection_age: 5m }"),
    ("http", "{ port: 0, threads: 2, codec: { json: { target: '[a][b]' } }, response_headers: { X-A: 1 } }"),
    ("http", "{ port: 0, additional_codecs: { text/csv: line, application/json: json } }"),
    ("tcp", "{ port: 0, tcp_keep_alive: false, codec: { json_lines: { decode_size_limit_bytes: 20971520 } } }"),
    ("tcp", "{ port: 0, ssl_enabled: false, ssl_certificate: a }"),
  ])
  func `what can be is accepted`(kind: String, options: String) throws {
    #expect(try codes(kind, options).isEmpty)
  }

  @Test func `at our own stop the rest of a line is an event that says so`() throws {
    let problems = Problems()
    let options = "{ port: 0, host: 127.0.0.1, tags: [own] }"
    let started = try CaseInput.start("tcp", options, ecs: "disabled", problems: problems)
    let input = try #require(started)
    let client = try TestClient(port: input.port)
    try client.send("whole\nrest of a li")
    #expect(input.sink.waitForRecords(1))
    input.stop()
    let (batch, events, decoders) = input.sink.decode()
    withExtendedLifetime((batch, decoders)) {
      #expect(events.map { $0.fields["message"]?.string } == ["whole", "rest of a li"])
      #expect(events.map { $0.fields["tags"]?.json } == [#"["own"]"#, #"["_partial_line","own"]"#])
    }
  }

  @Test func `a bad line of NDJSON refuses the body, or is tagged alone where faults are tagged`() throws {
    for (mode, status, count) in [("refuse", "400", 0), ("tag", "200", 3)] {
      let problems = Problems()
      let options = "{ port: 0, host: 127.0.0.1, on_parse_failure: \(mode) }"
      let started = try CaseInput.start("http", options, ecs: "v8", problems: problems)
      let input = try #require(started)
      let client = try TestClient(port: input.port)
      let body = "{\"a\":1}\nbad\n\n{\"a\":2}\n"
      try client.send(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n"
          + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
      let answer = String(decoding: client.receiveAll(), as: UTF8.self)
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
      input.stop()
      let (batch, events, decoders) = input.sink.decode()
      withExtendedLifetime((batch, decoders)) {
        #expect(events.count == count)
        #expect(events.map { $0.contains(.tags) } == (count == 0 ? [] : [false, true, false]))
      }
    }
  }

  @Test func `what a body would become is known without a request`() throws {
    let problems = Problems()
    let started = try CaseInput.start(
      "http", "{ port: 0, host: 127.0.0.1, codec: line }", ecs: "v8", problems: problems)
    let input = try #require(started)
    func payloads(_ body: String) -> [String] {
      Array(body.utf8).withUnsafeBytes { input.input.records(of: $0) }.flatMap { batch in
        (0..<batch.count).map { batch.withPayload($0) { String(decoding: $0, as: UTF8.self) } }
      }
    }
    #expect(payloads("[{\"a\":1},\n{\"b\":2}]") == [#"{"a":1}"#, #"{"b":2}"#])
    #expect(payloads("one\ntwo") == ["one", "two"])
    #expect(payloads("{bad") == ["{bad"])
    #expect(input.input.payloadDelimiter == nil)
    input.stop()
  }

  @Test func `sequence numbers of a window may wrap around or fall`() throws {
    for (numbers, expected) in [([4_294_967_295, 1], 1), ([2, 1], 2), ([7], 7), ([5, 9, 6], 9)] {
      let problems = Problems()
      let started = try CaseInput.start("beats", "{ port: 0, host: 127.0.0.1 }", ecs: "v8", problems: problems)
      let input = try #require(started)
      let client = try TestClient(port: input.port)
      try client.send(Lumber.window(numbers.count) + numbers.flatMap { Lumber.json($0, "{}") })
      #expect(client.receive(exactly: 6) == Lumber.ack(expected))
      input.stop()
    }
  }
}
