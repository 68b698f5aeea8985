//  Joined lines, datagrams, Unix sockets and the sources of this machine, where no recorded case says it.

import Diagnostics
import Events
import Glibc
import Inputs
import Pipeline
import PluginKit
import Records
import TestSupport
import Testing

@Suite struct LocalInputTests {
  private func start(_ kind: String, _ options: String, ecs: String = "disabled") throws -> CaseInput {
    let problems = Problems()
    let started = try CaseInput.start(kind, options, ecs: ecs, problems: problems)
    return try #require(started, "\(problems.sorted.map(\.description))")
  }

  private func messages(_ input: CaseInput) -> [String?] {
    let (batch, events, decoders) = input.sink.decode()
    return withExtendedLifetime((batch, decoders)) { events.map { $0.fields["message"]?.string } }
  }

  private func tags(_ input: CaseInput) -> [String?] {
    let (batch, events, decoders) = input.sink.decode()
    return withExtendedLifetime((batch, decoders)) { events.map { $0.fields["tags"]?.json } }
  }

  private func tcp(_ codec: String) -> String { "{ port: 0, host: 127.0.0.1, codec: { multiline: \(codec) } }" }

  @Test(arguments: [1, 4, 1000]) func `a line joins the next one, wherever reads fall`(piece: Int) throws {
    let input = try start("tcp", tcp(#"{ pattern: '\\$', what: next }"#))
    let client = try TestClient(port: input.port)
    try client.send(Array("a\\\nb\\\nc\nd\ne\\\n".utf8)) { piece }
    client.finishSending()
    _ = client.receiveAll()
    input.stop()
    #expect(messages(input) == ["a\\\nb\\\nc", "d", "e\\"])
    #expect(tags(input) == [#"["multiline"]"#, nil, nil])
  }

  @Test func `a named pattern joins, negated, and no tag is added where none is wanted`() throws {
    let input = try start(
      "tcp", tcp("{ pattern: '^%{TIMESTAMP_ISO8601} ', negate: true, what: previous, multiline_tag: '' }"))
    let client = try TestClient(port: input.port)
    try client.send(
      "2026-01-02T03:04:05 one\n  at x\n2026-01-02T03:04:06 two\ngr\u{fc}n\n".replacing("\u{fc}", with: "ü"))
    client.finishSending()
    _ = client.receiveAll()
    input.stop()
    #expect(messages(input) == ["2026-01-02T03:04:05 one\n  at x", "2026-01-02T03:04:06 two\ngrün"])
    #expect(tags(input) == [nil, nil])
  }

  @Test func `silence ends an event where that is wanted`() throws {
    let input = try start("tcp", tcp("{ pattern: '^ ', what: previous, auto_flush_interval: 100ms }"))
    let client = try TestClient(port: input.port)
    try client.send("a\n b\n")
    #expect(input.sink.waitForRecords(1))
    try client.send("c\n")
    #expect(input.sink.waitForRecords(2))
    withExtendedLifetime(client) { #expect(messages(input) == ["a\n b", "c"]) }
    client.finishSending()
    input.stop()
  }

  @Test func `at our own stop what was joined is an event, and a cut line says so`() throws {
    let input = try start("tcp", tcp("{ pattern: '^ ', what: previous }"))
    let client = try TestClient(port: input.port)
    try client.send("first\na\n b\n c")
    #expect(input.sink.waitForRecords(1))
    // The rest has come with the same segment.
    input.stop()
    #expect(messages(input) == ["first", "a\n b\n c"])
    #expect(tags(input) == [nil, #"["multiline","_partial_line"]"#])
    withExtendedLifetime(client) {}
  }

  @Test func `the lines of a body are joined for themselves`() throws {
    let input = try start(
      "http", "{ port: 0, host: 127.0.0.1, codec: { multiline: { pattern: '^ ', what: previous, max_lines: 2 } } }")
    for body in ["a\n b\n c\n d\ne", " starts like a rest\n"] {
      let client = try TestClient(port: input.port)
      try client.send(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
      #expect(String(decoding: client.receiveAll(), as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
    }
    input.stop()
    #expect(messages(input) == ["a\n b\n c", " d", "e", " starts like a rest"])
    #expect(tags(input) == [#"["multiline","multiline_codec_max_lines_reached"]"#, nil, nil, nil])
  }

  @Test(arguments: [
    "{ port: 0, codec: { multiline: { pattern: '(', what: next } } }",
    "{ port: 0, codec: { multiline: { what: next } } }",
    "{ port: 0, codec: { multiline: { pattern: x } } }",
    "{ port: 0, codec: { multiline: { pattern: '%{NO_SUCH_NAME}', what: next } } }",
  ])
  func `a rule that cannot be is refused`(options: String) {
    let problems = Problems()
    #expect(CaseInput.build("tcp", options, ecs: "v8", sink: RecordingSink(), problems: problems) == nil)
    #expect(problems.hasErrors)
  }

  @Test(arguments: [1, 3, 17, 4096]) func `syslog frames that say their length are taken beside lines`(piece: Int)
    throws
  {
    let input = try start("syslog", "{ port: 0, host: 127.0.0.1 }")
    let client = try TestClient(port: input.port)
    func message(_ text: String) -> String { "<34>Oct 11 22:14:15 h a: \(text)" }
    let sent = ["one", "two\nlines", "three", "12 monkeys", "five"].map(message)
    func counted(_ text: String) -> String { "\(text.utf8.count) \(text)" }
    let stream =
      counted(sent[0]) + counted(sent[1]) + "\n" + sent[2] + "\n" + counted(sent[3]) + counted(sent[4]) + "99999999 "
    try client.send(Array(stream.utf8)) { piece }
    client.finishSending()
    _ = client.receiveAll()
    input.stop()
    #expect(messages(input) == ["one", "two\nlines", "three\n", "12 monkeys", "five"])
    #expect(input.sink.records.map { String(decoding: $0.payload, as: UTF8.self) }[1] == sent[1])
  }

  @Test func `a datagram may hold several lines`() throws {
    let input = try start("udp", "{ port: 0, host: 127.0.0.1, codec: json_lines }")
    try sendDatagram(Array("{\"message\":\"a\"}\n{\"message\":\"b\"}".utf8), input.port)
    try sendDatagram(Array("{\"message\":\"c\"}\n".utf8), input.port)
    #expect(input.sink.waitForRecords(3))
    input.stop()
    #expect(messages(input) == ["a", "b", "c"])
  }

  @Test func `what waits in the socket at a stop is still taken`() throws {
    let input = try start("udp", "{ port: 0, host: 127.0.0.1 }")
    for i in 0..<50 { try sendDatagram(Array("\(i)".utf8), input.port) }
    input.stop()
    // Each came from a socket of its own; order holds for one sender alone.
    #expect(Set(messages(input).compactMap { $0 }) == Set((0..<50).map { "\($0)" }))
    #expect(input.sink.records.count == 50)
  }

  @Test func `a socket's path is made and removed, and one that is taken is refused unless it may be replaced`() throws
  {
    let folder = SocketFolder()
    let path = folder.path + "/in.sock"
    let first = try start("unix", "{ path: '\(path)' }")
    #expect(throws: (any Error).self) {
      try CaseInput.start("unix", "{ path: '\(path)' }", ecs: "v8", problems: Problems())
    }
    let second = try start("unix", "{ path: '\(path)', force_unlink: true }")
    try sendToSocket(Array("to the second\n".utf8), path)
    #expect(second.sink.waitForRecords(1))
    second.stop()
    #expect(access(path, F_OK) != 0)
    first.stop()
    #expect(first.sink.records.isEmpty)
  }

  @Test func `a source waits for the queue and ends at once`() throws {
    let sink = TestSink(.hold)
    let problems = Problems()
    let built = CaseInput.build("generator", "{ lines: [a, b] }", ecs: "v8", sink: sink, problems: problems)
    let input = try #require(built)
    try input.start()
    #expect(sink.waitForHeld(2))
    #expect(sink.heldCount == 2)
    sink.release()
    #expect(sink.waitForHeld(2))
    let start = Instant.now
    sink.setMode(.keep)
    sink.release()
    sink.release()
    input.stop(deadline: start + .seconds(10))
    #expect(Instant.now - start < .seconds(5))
    let texts = sink.texts
    #expect(texts.prefix(4) == ["0 a", "0 b", "1 a", "1 b"])
  }

  @Test func `a heartbeat keeps its interval and ends with its count`() throws {
    let input = try start("heartbeat", "{ interval: 50ms, count: 3, sequence: sequence }")
    #expect(input.sink.waitForRecords(3))
    let times = input.sink.records.map(\.arrivalNs)
    #expect(times[2] - times[0] >= 95_000_000)
    input.stop()
    #expect(input.sink.records.count == 3)
  }
}
