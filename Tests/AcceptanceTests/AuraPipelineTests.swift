//  The shipped pipeline with the places that its environment names, and with what real shippers send. What becomes of
//  single lines stands in the pipeline's own tests.

import Codecs
import Foundation
import TestSupport
import Testing

@Suite struct AuraPipelineTests {
  private let line = #"{"message":"hello"}"# + "\n"

  /// Sends events one by one until the condition holds, and waits until the servers have them all.
  private func send(_ daemon: RunningDaemon, to servers: [BulkEndpoint], until condition: () -> Bool) throws {
    let client = try TestClient(port: daemon.port("tcp-1"))
    var sent = 0
    while sent < 100, !condition() {
      try client.send(line)
      sent += 1
      let isThere = waitUntil { servers.reduce(0) { $0 + $1.count } == sent }
      try #require(isThere, "\(daemon.log)")
    }
    #expect(condition() && servers.allSatisfy(\.faults.isEmpty), "\(daemon.log)")
  }

  @Test(arguments: [",", ", ", " "])
  func `several servers are named in one variable, and each gets its share`(separator: String) throws {
    let servers = try [BulkEndpoint(), BulkEndpoint()]
    defer { for server in servers { server.stop() } }
    let daemon = try RunningDaemon(
      environment: ["ELASTICSEARCH_HOSTS": servers.map(\.address).joined(separator: separator)])
    try send(daemon, to: servers) { servers.allSatisfy { $0.count > 0 } }
    #expect(!daemon.log.contains(" WARN "), "\(daemon.log)")
    #expect(daemon.stop() == 0)
  }

  @Test func `of several servers one that is not there is passed over`() throws {
    let gone = try BulkEndpoint(listens: false, other: nil)
    let there = try BulkEndpoint()
    defer {
      gone.stop()
      there.stop()
    }
    let daemon = try RunningDaemon(environment: ["ELASTICSEARCH_HOSTS": "\(gone.address),\(there.address)"])
    try send(daemon, to: [there]) { there.count >= 3 }
    #expect(daemon.stop() == 0)
  }

  /// Variables, and the header with which every request comes.
  static let credentials: [([String: String], String?)] = [
    ([:], nil),
    (["ELASTICSEARCH_API_KEY": "", "ELASTICSEARCH_USER": ""], nil),
    (["ELASTICSEARCH_API_KEY": "id:key"], "ApiKey " + Base64.encode(Array("id:key".utf8))),
    (["ELASTICSEARCH_API_KEY": "aWQ6a2V5"], "ApiKey aWQ6a2V5"),
    (
      ["ELASTICSEARCH_USER": "ann", "ELASTICSEARCH_PASSWORD": "secret", "ELASTICSEARCH_API_KEY": ""],
      "Basic " + Base64.encode(Array("ann:secret".utf8))
    ),
    (["ELK_USERNAME": "ann", "ELK_PASSWORD": "secret"], "Basic " + Base64.encode(Array("ann:secret".utf8))),
    // An API key wins over the second choice.
    (
      ["ELK_USERNAME": "ann", "ELK_PASSWORD": "secret", "ELASTICSEARCH_API_KEY": "aWQ6a2V5"], "ApiKey aWQ6a2V5"
    ),
    (
      ["ELK_USERNAME": "ann", "ELK_PASSWORD": "secret", "ELASTICSEARCH_API_KEY": ""],
      "Basic " + Base64.encode(Array("ann:secret".utf8))
    ),
  ]

  @Test(arguments: credentials)
  func `requests carry the credentials of the environment`(variables: [String: String], header: String?) throws {
    let server = try BulkEndpoint()
    defer { server.stop() }
    let daemon = try RunningDaemon(
      environment: variables.merging(["ELK_ELASTICSEARCH_HOST": server.address]) { $1 })
    try send(daemon, to: [server]) { server.count > 0 }
    #expect(server.bulks.allSatisfy { $0.headers["authorization"] == header }, "\(daemon.log)")
    #expect(daemon.stop() == 0)
  }

  @Test func `a field that the index cannot take is renamed, and its event is indexed`() throws {
    let server = try BulkEndpoint { _, _ in
      .refuse(
        status: 400, type: "document_parsing_exception", text: #""host":["#,
        reason: "object mapping for [host] tried to parse field [null] as object, but found a concrete value")
    }
    defer { server.stop() }
    let daemon = try RunningDaemon(environment: ["ELASTICSEARCH_HOSTS": server.address])
    let client = try TestClient(port: daemon.port("tcp-1"))
    try client.send(#"{"message":"hello","host":["a"]}"# + "\n")
    #expect(waitUntil { server.count == 1 }, "\(daemon.log)")
    let document = server.documents.values.first.map { String(decoding: $0.source, as: UTF8.self) }
    #expect(document?.contains(#""host_text":["a"]"#) == true && document?.contains(#""host":"#) == false)
    #expect(daemon.stop() == 0)
  }

  @Test func `a user and an API key together end the start at their place`() throws {
    let daemon = try RunningDaemon(
      environment: [
        "ELASTICSEARCH_HOSTS": "http://127.0.0.1:9", "ELASTICSEARCH_USER": "ann", "ELASTICSEARCH_PASSWORD": "secret",
        "ELASTICSEARCH_API_KEY": "id:key",
      ], waits: false)
    daemon.process.waitUntilExit()
    #expect(daemon.process.terminationStatus == 1)
    let said = daemon.log
    #expect(said.contains("'api_key' of output 'elasticsearch': cannot go with user"), "\(said)")
    #expect(!said.contains("secret") && !said.contains("id:key"))
  }

  private func families(_ lines: [[UInt8]]) throws -> [String?] {
    let outcome = try run(
      sluiceProgram, ["try", "-p", "pipelines/aura.yml", "--metadata"],
      input: lines.map { String(decoding: $0, as: UTF8.self) + "\n" }.joined(), environment: [:])
    #expect(outcome.status == 0, "\(outcome.errors)")
    return try outcome.lines.map {
      let event = try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
      return (event?["@metadata"] as? [String: Any])?["family"] as? String
    }
  }

  @Test(arguments: [
    ("metricbeat-system", "metrics"), ("metricbeat7-system", "metrics"), ("filebeat7-nginx-module", "logs"),
    ("filebeat7-filestream-ndjson", "logs"), ("filebeat-default", "logs"), ("filebeat-multiline-unicode-long", "logs"),
  ])
  func `every event of a recorded shipper is of its family`(session: String, family: String) throws {
    let lines = try ShipperTests.expected(session)
    let found = try families(lines)
    #expect(!lines.isEmpty && found.count == lines.count && found.allSatisfy { $0 == family }, "\(found)")
  }

  @Test func `what Filebeat's module for nginx ships comes apart, errors too`() throws {
    let lines = try ShipperTests.expected("filebeat7-nginx-module")
    let outcome = try run(
      sluiceProgram, ["try", "-p", "pipelines/aura.yml"],
      input: lines.map { String(decoding: $0, as: UTF8.self) + "\n" }.joined())
    var errors = 0
    for line in outcome.lines {
      let event = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      #expect(event["client_ip"] is String && event["path"] is String && event["tags"] == nil, "\(line)")
      #expect((event["agent"] as? [String: Any])?["type"] as? String == "filebeat")
      if (event["fileset"] as? [String: Any])?["name"] as? String == "error" {
        errors += 1
        #expect(["ERROR", "WARNING"].contains(event["levelname"] as? String) && event["upstream"] is String, "\(line)")
      } else {
        #expect(event["status_code"] is Int, "\(line)")
        #expect((event["user_agent"] as? [String: Any])?["original"] is String, "\(line)")
      }
    }
    #expect(outcome.lines.count == lines.count && errors > 0)
  }

  @Test func `times without a zone are in UTC unless a zone is named`() throws {
    let text = "[2026-03-02 06:00:01,123: INFO/MainProcess] ready\n2026/07/02 06:00:01 [error] 1#1: x\n"
    for (variables, times) in [
      ([:], ["2026-03-02T06:00:01.123Z", "2026-07-02T06:00:01.000Z"]),
      (["LOG_TIMEZONE": "Europe/Berlin"], ["2026-03-02T05:00:01.123Z", "2026-07-02T04:00:01.000Z"]),
      (["LOG_TIMEZONE": "", "TZ": "America/New_York"], ["2026-03-02T11:00:01.123Z", "2026-07-02T10:00:01.000Z"]),
    ] {
      let outcome = try run(
        sluiceProgram, ["try", "-p", "pipelines/aura.yml", "--plain"], input: text,
        environment: ["TZ": "Asia/Tokyo"].merging(variables) { $1 })
      let found = try outcome.lines.map {
        (try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])?["@timestamp"] as? String
      }
      #expect(found == times, "\(variables): \(outcome)")
    }
  }

  /// The whole way of a login failure that Filebeat's own module ships: ten of them from one address are an attack.
  @Test func `failed logins from the system module raise an alarm`() throws {
    let names = ["root", "admin", "ann", "bob", "eve", "git", "www", "test", "db", "app", "ops", "dev"]
    let lines = names.map { name in
      let message =
        "Mar  2 06:00:00 web-01 sshd[974]: Failed password for invalid user \(name) from 203.0.113.7 port 51324 ssh2"
      return #"{"@metadata":{"beat":"filebeat"},"event":{"module":"system","dataset":"system.auth"},"#
        + #""fileset":{"name":"auth"},"service":{"type":"system"},"agent":{"type":"filebeat"},"#
        + #""message":"\#(message)"}"#
    }
    let outcome = try run(
      sluiceProgram, ["try", "-p", "pipelines/aura.yml"], input: lines.joined(separator: "\n") + "\n")
    let last = try #require(
      try JSONSerialization.jsonObject(with: Data((outcome.lines.last ?? "").utf8)) as? [String: Any])
    #expect(last["security_event"] as? Bool == true, "\(outcome)")
    #expect(Set(last["threat_types"] as? [String] ?? []).contains("brute_force"), "\(outcome)")
  }
}
