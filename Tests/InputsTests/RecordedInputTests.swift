//  What a real Logstash made of bytes that came over sockets, and what it answered: the recorded cases, run with real
//  inputs and real decoding. Where Sluice is meant to do better, its own outcome stands in a file of its own.

import Codecs
import Config
import Diagnostics
import Events
import Filters
import Glibc
import Inputs
import Pipeline
import PluginKit
import Records
import TestSupport
import Testing

/// Keeps records with all that decoding needs.
final class RecordingSink: RecordSink {
  struct Record: Sendable {
    var descriptor: RecordDescriptor
    var context: RecordContext?
    var payload: [UInt8]
    var arrivalNs: Int64
  }
  private let state = Gate<[Record]>([])

  func append(_ batch: RecordBatch, completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void) {
    state.update { records in
      for i in 0..<batch.count {
        records.append(
          Record(
            descriptor: batch.descriptor, context: batch.context, payload: batch.withPayload(i) { Array($0) },
            arrivalNs: batch.arrivalNs))
      }
    }
    completion(.success(()))
  }
  var hasRoom: Bool { true }
  var records: [Record] { state.withLock { $0 } }

  func waitForRecords(_ count: Int) -> Bool {
    state.wait(until: .now + .seconds(10)) { $0.count >= count ? true : nil } ?? false
  }

  /// All records as one worker would decode them.
  func decode() -> (batch: EventBatch, events: [Event], decoders: RecordDecoders) {
    let batch = EventBatch()
    let decoders = RecordDecoders(
      filters: Dictionary(uniqueKeysWithValues: allFilters.map { ($0.manual.name, $0) }))
    decoders.startBatch()
    var events: [Event] = []
    for (number, record) in records.enumerated() {
      record.payload.withUnsafeBytes { payload in
        decoders.decoder(record.descriptor).decode(
          payload, context: record.context, record: number, arrivalNs: record.arrivalNs, into: batch
        ) { events.append($0) }
      }
    }
    return (batch, events, decoders)
  }
}

/// An input of a case at work.
struct CaseInput {
  let input: any Input
  let sink: RecordingSink
  var port: Int { input.statistics.boundPort }

  /// - Returns: Nil where the configuration is refused, for which `problems` has the reason.
  static func start(_ kind: String, _ options: String, ecs: String, problems: Problems) throws -> CaseInput? {
    let sink = RecordingSink()
    guard let input = build(kind, options, ecs: ecs, sink: sink, problems: problems) else { return nil }
    try input.start()
    return CaseInput(input: input, sink: sink)
  }

  static func build(
    _ kind: String, _ options: String, ecs: String, sink: any RecordSink, problems: Problems
  ) -> (any Input)? {
    guard let plugin = allInputs.first(where: { $0.manual.name == kind }) else { return nil }
    let services = Services(
      resolves: true, folder: Fixtures.root + "/Tests/Cases", dataFolder: "/tmp", configFolder: Fixtures.root)
    let place = SourcePosition(file: "case")
    let context = InputContext(
      pipelineID: "test", stepID: kind, position: place, ecs: ECSMode(rawValue: ecs) ?? .disabled, services: services,
      sink: sink, deadLetters: NoDeadLetters(), expressions: GrokExpressions())
    return plugin.build(YAML.parse(options, file: "case", problems: problems), place, context, problems)
  }

  func stop() { input.stop(deadline: Instant.now + .seconds(5)) }
}

@Suite struct RecordedInputTests {
  /// Kinds of inputs that are not here.
  static let missingKinds: Set<String> = ["exec", "file"]

  static let cases: [Case] = (try? Fixtures.cases("Tests/Cases/logstash/inputs.jsonl")) ?? []
  /// Cases in which Sluice does otherwise, with its own outcome.
  static let deviations: [String: Case] = {
    let all = (try? Fixtures.cases("Tests/Cases/inputs/deviations.jsonl")) ?? []
    return Dictionary(all.map { ($0.id, $0) }) { $1 }
  }()

  @Test func `the recorded cases are there`() {
    #expect(RecordedInputTests.cases.count == 241)
    let ids = Set(RecordedInputTests.cases.map(\.id))
    #expect(RecordedInputTests.deviations.keys.allSatisfy { ids.contains($0) })
  }

  @Test(arguments: cases.filter { runs($0) })
  func `an input answers as recorded`(_ item: Case) throws {
    let found = try InputCase(item, item).difference()
    guard let deviation = RecordedInputTests.deviations[item.id] else {
      #expect(found == nil, "\(item.id) (\(item["about"]?.string ?? "")): \(found ?? "")")
      return
    }
    #expect(found != nil, "\(item.id) goes as recorded now; take its line out of the deviations")
    let own = try InputCase(item, deviation).difference()
    #expect(own == nil, "\(item.id) (\(deviation["why"]?.string ?? "")): \(own ?? "")")
  }

  private static func runs(_ item: Case) -> Bool {
    let kind = item["input"]?.first.map { String(decoding: $0.key.bytes, as: UTF8.self) } ?? ""
    return !missingKinds.contains(kind)
  }
}

/// One case against a running input.
private struct InputCase {
  let item: Case
  /// Holds what is expected.
  let wanted: Case
  let kind: String
  private let folder = SocketFolder()

  init(_ item: Case, _ wanted: Case) {
    self.item = item
    self.wanted = wanted
    kind = item["input"]?.first.map { String(decoding: $0.key.bytes, as: UTF8.self) } ?? ""
  }

  /// What differs; nil when nothing does.
  func difference() throws -> String? {
    let problems = Problems()
    let restore = kind == "stdin" ? try replaceStandardInput(item["send"]?["stdin"]?.string ?? "") : {}
    defer { restore() }
    guard let input = try CaseInput.start(kind, options, ecs: item["ecs"]?.string ?? "", problems: problems) else {
      return wanted["start_error"] == nil ? "refused: \(problems.sorted.map(\.description))" : nil
    }
    if wanted["start_error"] != nil {
      input.stop()
      return "was accepted, recorded a refusal at start"
    }
    var clientPort = 0
    let answer = try send(to: input, &clientPort)
    if kind == "stdin" { _ = input.sink.waitForRecords(wanted["expect"]?.count ?? 0) }
    input.stop()
    return answer ?? compare(input, clientPort)
  }

  /// The options as JSON, which is YAML.
  private var options: String {
    var parts = (item["input"]?[kind]?.elements ?? []).map { member in
      "\"\(String(decoding: member.key.bytes, as: UTF8.self))\": \(member.json)"
    }
    switch kind {
    case "unix": parts.append("\"path\": \"\(folder.path)/s.sock\"")
    case "generator", "heartbeat", "stdin": break
    default: parts += ["\"port\": 0", "\"host\": \"127.0.0.1\""]
    }
    if let codec = item["codec"], !codec.isNull { parts.append("\"codec\": \(codec.json)") }
    if kind == "http" { parts.append("\"on_parse_failure\": \"tag\"") }
    return "{ \(parts.joined(separator: ", ")) }"
  }

  // MARK: Sending

  private func send(to input: CaseInput, _ clientPort: inout Int) throws -> String? {
    if let datagrams = item["send"]?["udp_base64"] {
      for datagram in datagrams.elements {
        try sendDatagram(Base64.decode((datagram.string ?? "").utf8) ?? [], input.port)
      }
      _ = input.sink.waitForRecords(wanted["expect"]?.count ?? 0)
      return nil
    }
    switch kind {
    case "generator", "heartbeat":
      _ = input.sink.waitForRecords(wanted["expect"]?.count ?? 0)
      return nil
    case "stdin": return nil
    case "unix":
      try sendToSocket(
        Base64.decode((item["send"]?["unix_base64"]?.string ?? "").utf8) ?? [], folder.path + "/s.sock")
      _ = input.sink.waitForRecords(wanted["expect"]?.count ?? 0)
      return nil
    default: break
    }
    let client = try TestClient(port: input.port)
    clientPort = localPort(client.fd)
    let send = item["send"]
    if let request = send?["http"] {
      try client.send(bytes(of: request, port: input.port))
      return response(client)
    }
    for part in send?["tcp_segments_base64"]?.elements ?? [send?["tcp_base64"]].compactMap({ $0 }) {
      try client.send(Base64.decode((part.string ?? "").utf8) ?? [])
    }
    if kind == "beats" { return acknowledgement(client) }
    client.finishSending()
    _ = client.receiveAll()
    return nil
  }

  private func bytes(of request: Value, port: Int) -> [UInt8] {
    let body =
      request["body_base64"].map { Base64.decode(($0.string ?? "").utf8) ?? [] }
      ?? Array((request["body"]?.string ?? "").utf8)
    let version = request["version"]?.string ?? "HTTP/1.1"
    var head = "\(request["method"]?.string ?? "") \(request["path"]?.string ?? "") \(version)\r\n"
    let headers = request["headers"]?.elements ?? []
    func has(_ name: String) -> Bool { request["headers"]?[name] != nil }
    if !has("Host"), request["no_host"] == nil { head += "Host: localhost:\(port)\r\n" }
    for header in headers {
      for value in header.isList ? header.elements : [header] {
        head += "\(String(decoding: header.key.bytes, as: UTF8.self)): \(value.string ?? "")\r\n"
      }
    }
    if !has("Content-Length"), !has("Transfer-Encoding") { head += "Content-Length: \(body.count)\r\n" }
    return Array((head + "\r\n").utf8) + body
  }

  private func response(_ client: TestClient) -> String? {
    guard let response = wanted["response"] else { return nil }
    var received: [UInt8] = []
    while !received.contains(subsequence: Array("\r\n\r\n".utf8)), let more = client.receive(), !more.isEmpty {
      received += more
    }
    let text = String(decoding: received, as: UTF8.self)
    let status = text.split(separator: " ").dropFirst().first.flatMap { Int($0) }
    guard let number = response["status"]?.integer, status == Int(number) else {
      return "answered \(status ?? 0), expected \(response["status"]?.json ?? "") (\(text.suffix(200)))"
    }
    guard number < 300 else { return nil }
    let head = text.lowercased()
    for header in response["headers"]?.elements ?? [] {
      let line = "\(String(decoding: header.key.bytes, as: UTF8.self)): \(header.string ?? "")\r\n".lowercased()
      if !head.contains(line) { return "the answer lacks \(line): \(head)" }
    }
    let body = text.split(separator: "\r\n\r\n", maxSplits: 1).dropFirst().first.map(String.init) ?? ""
    return body == (response["body"]?.string ?? "") ? nil : "the answer's body is \(body)"
  }

  private func acknowledgement(_ client: TestClient) -> String? {
    guard let response = wanted["response"], let hex = response["bytes_hex"]?.string else { return nil }
    let isClosed = response["closed"]?.boolean == true
    let received = isClosed ? client.receiveAll() : client.receive(exactly: hex.utf8.count / 2)
    let shown = received.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    if shown != hex { return "answered \(shown), expected \(hex)" }
    if !isClosed, !client.isSilent(ms: 20) { return "more came, or the connection was closed" }
    return nil
  }

  // MARK: Comparing

  private func compare(_ input: CaseInput, _ clientPort: Int) -> String? {
    let (batch, events, decoders) = input.sink.decode()
    return withExtendedLifetime((batch, decoders)) {
      let expected = wanted["expect"]?.elements ?? []
      let shown = events.map { document($0) }
      guard shown.count == expected.count else {
        return "\(shown.count) events, expected \(expected.count): \(shown.map(\.json))"
      }
      for (actual, event) in zip(shown, expected) {
        var text = event.json
        for (mask, value) in masks(input, clientPort) { text = text.replacing(mask, with: value) }
        let holder = EventBatch()
        let maker = holder.add(arrivalNs: 0)
        guard let wanted = Array(text.utf8).withUnsafeBytes({ try? maker.parseJSON($0) }) else { return "broken case" }
        let found = withExtendedLifetime(holder) { Pipeline.difference(actual, wanted) }
        if let found { return "\(found); got \(actual.json)" }
      }
      return nil
    }
  }

  private func masks(_ input: CaseInput, _ clientPort: Int) -> [(String, String)] {
    let port = input.port
    let epoch = (input.sink.records.first?.arrivalNs ?? 0) / 1_000_000_000
    return [
      ("\"<now>\"", "\"__NOW__\""), ("<ip>", "127.0.0.1"), ("\"<port>\"", "\(clientPort)"), ("\"<listen>\"", "\(port)"),
      ("<listen>", "\(port)"), ("<name>", loopbackName), ("<host>", ownName), ("<year>", year),
      ("\"<epoch>\"", "\(epoch)"), ("<dir>", folder.path),
    ]
  }

  private func document(_ event: Event) -> Value {
    let copy = event.makeValue(event.fields.copied())
    if event.hasMetadata {
      Array("@metadata".utf8).withUnsafeBytes { copy.set(name: $0, event.metadata.copied()) }
    }
    return copy
  }
}

private func localPort(_ fd: CInt) -> Int {
  var address = sockaddr_in()
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  _ = withUnsafeMutablePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
  }
  return Int(UInt16(bigEndian: address.sin_port))
}

/// What the system's resolver calls 127.0.0.1.
private let loopbackName: String = {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  var name = [CChar](repeating: 0, count: 1025)
  let status = withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      getnameinfo($0, socklen_t(MemoryLayout<sockaddr_in>.size), &name, 1025, nil, 0, NI_NAMEREQD)
    }
  }
  return status == 0
    ? String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) : "127.0.0.1"
}()

/// A short path for a socket, removed with its owner.
final class SocketFolder: Sendable {
  let path: String
  init() {
    var template = Array("/tmp/sluice-socket-XXXXXX".utf8CString)
    path =
      mkdtemp(&template) == nil
      ? "/tmp" : String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
  deinit { rmdir(path) }
}

/// Puts a pipe with `text` in the place of standard input; the result undoes it.
private func replaceStandardInput(_ text: String) throws -> () -> Void {
  var ends: [CInt] = [0, 0]
  guard pipe(&ends) == 0 else { throw SocketFailure(description: "pipe") }
  let kept = dup(0)
  dup2(ends[0], 0)
  close(ends[0])
  let bytes = Array(text.utf8)
  guard write(ends[1], bytes, bytes.count) == bytes.count else { throw SocketFailure(description: "write") }
  close(ends[1])
  return {
    dup2(kept, 0)
    close(kept)
  }
}

/// The present year in UTC, which dates without one take outside of December and January.
private let year: String = {
  var seconds = time_t(WallClock.ns / 1_000_000_000)
  var parts = tm()
  gmtime_r(&seconds, &parts)
  return String(parts.tm_year + 1900)
}()

private let ownName: String = {
  var name = [CChar](repeating: 0, count: 256)
  gethostname(&name, 255)
  return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}()

extension [UInt8] {
  fileprivate func contains(subsequence other: [UInt8]) -> Bool {
    guard count >= other.count else { return false }
    return (0...(count - other.count)).contains { self[$0..<($0 + other.count)].elementsEqual(other) }
  }
}
