//  The examples of inputs' and outputs' manuals, with the real program: what a sender sends through a file output, and
//  what an output writes of events that come by TCP.

import Daemon
import Diagnostics
import Foundation
import PluginKit
import TestSupport
import Testing

@Suite struct ManualTests {
  struct Claim: Sendable, CustomTestStringConvertible {
    var plugin: PluginDescription
    var example: Example
    var testDescription: String { name }
    var name: String { "the example '\(example.title)' of \(plugin.title)" }
  }

  static func claims(_ kind: PluginDescription.Kind) -> [Claim] {
    Registry.all.descriptions(kind).flatMap { plugin in
      plugin.manual.examples.map { Claim(plugin: plugin, example: $0) }
    }
  }

  /// The options as lines below the plugin's name, with a port that is free.
  private func options(_ claim: Claim) -> String {
    let config = claim.example.config.replacing(#/\bport: \d+/#, with: "port: 0")
    return config.split(separator: "\n").map { "      \($0)\n" }.joined()
  }

  private func objects(_ text: String) throws -> [NSDictionary] {
    try text.split(separator: "\n").map { line in
      try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? NSDictionary, "no object: \(line)")
    }
  }

  @Test(arguments: claims(.codec))
  func `a codec's example arrives as it shows`(_ claim: Claim) throws {
    let config = "{ port: 0, codec: { \(claim.plugin.manual.name): \(claim.example.config) } }"
    try check(claim, input: "tcp", options: "      \(config)\n") { daemon, _ in
      let client = try TestClient(port: daemon.port("tcp-1"))
      try client.send(claim.example.input)
      client.finishSending()
    }
  }

  @Test(arguments: claims(.input))
  func `an input's example arrives as it shows`(_ claim: Claim) throws {
    let input = claim.example.input
    let name = claim.plugin.manual.name
    try check(claim, input: name, options: options(claim)) { daemon, folder in
      switch name {
      case "generator", "heartbeat", "stdin": break
      case "unix": try sendToSocket(Array((input + "\n").utf8), folder.path + "/sluice.sock")
      case "udp", "syslog": try sendDatagram(Array(input.utf8), daemon.port("\(name)-1"))
      case "beats", "elastic_agent":
        let client = try TestClient(port: daemon.port("\(name)-1"))
        let window = input.split(separator: "\n").map { Array($0.utf8) }
        try client.send(BeatsShipper.frames(window))
        let answer = client.receive(exactly: 6)
        #expect(answer == Array("2A".utf8) + [0, 0, 0, UInt8(window.count)], "\(claim.name): \(answer)")
      case "http":
        let type = input.hasPrefix("{") || input.hasPrefix("[") ? "application/json" : "text/plain"
        let client = try TestClient(port: daemon.port("http-1"))
        try client.send(
          "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: \(type)\r\nContent-Length: \(input.utf8.count)\r\n"
            + "Connection: close\r\n\r\n\(input)")
        let answer = String(decoding: client.receiveAll(), as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 200"), "\(claim.name): \(answer)")
      case "tcp":
        let client = try TestClient(port: daemon.port("\(name)-1"))
        try client.send(input + "\n")
        client.finishSending()
      case "dead_letter_queue": try refuse(input, folder.path + "/data/dead_letter_queue")
      default: Issue.record("nobody knows how to send to the input '\(name)'; teach it this test")
      }
    }
  }

  /// Makes a dead letter of the pipeline `aura` of an event.
  private func refuse(_ event: String, _ letters: String) throws {
    let endpoint = try BulkEndpoint { _, _ in .refuse(status: 400, type: "mapper_parsing_exception", text: "{") }
    defer { endpoint.stop() }
    let folder = TemporaryFolder()
    let file = try folder.write(
      """
      pipeline: { id: aura }
      inputs:
        - tcp: { port: 0, codec: json_lines }
      outputs:
        - elasticsearch: { hosts: ['\(endpoint.address)'], index: 'logs' }
      """, to: "aura.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file, settings: ["path.dead_letter_queue=\(letters)"])
    let client = try TestClient(port: daemon.port("tcp-1"))
    try client.send(event + "\n")
    client.finishSending()
    _ = client.receiveAll()
    #expect(try waitUntil { try daemon.eventsInQueue() == 0 }, "\(daemon.log)")
    #expect(daemon.stop() == 0)
  }

  /// What `send` sends must arrive as the example shows; fields that it does not show, such as the peer's, may be there.
  private func check(
    _ claim: Claim, input: String, options: String, send: (RunningDaemon, TemporaryFolder) throws -> Void
  ) throws {
    let folder = TemporaryFolder()
    let options = options.replacing("/run/sluice", with: folder.path)
    let file = try folder.write(
      """
      pipeline: { ecs_compatibility: disabled, workers: 1 }
      inputs:
        - \(input):
      \(options)
      outputs:
        - file: { path: '\(folder.path)/events.ndjson' }
      """, to: "example.yml")
    let daemon = try RunningDaemon(
      in: folder, pipeline: file, input: input == "stdin" ? claim.example.input + "\n" : nil)
    try send(daemon, folder)
    let wanted = try objects(claim.example.output)
    #expect(waitUntil { folder.text("events.ndjson").split(separator: "\n").count >= wanted.count })
    #expect(daemon.stop() == 0, "\(daemon.log)")
    let events = try objects(folder.text("events.ndjson"))
    try #require(events.count == wanted.count, "\(claim.name): \(events)")
    for (event, shown) in zip(events, wanted) {
      for (key, value) in shown {
        #expect((event[key] as? NSObject) == (value as? NSObject), "\(claim.name): '\(key)' of \(event)")
      }
    }
  }

  @Test(arguments: claims(.output))
  func `an output's example writes what it shows`(_ claim: Claim) throws {
    let folder = TemporaryFolder()
    let bodies = Lock("")
    let endpoint = try BulkEndpoint { _, body in
      bodies.withLock { $0 += body }
      return nil
    }
    defer { endpoint.stop() }
    let config = options(claim).replacing("/var/log/sluice", with: folder.path + "/files")
      .replacing("http://localhost:9200", with: endpoint.address)
    let file = try folder.write(
      """
      pipeline: { ecs_compatibility: disabled, workers: 1 }
      inputs:
        - tcp: { port: 0, codec: json_lines, ecs_compatibility: v8 }
      outputs:
        - \(claim.plugin.manual.name):
      \(config)
      """, to: "example.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    let client = try TestClient(port: daemon.port("tcp-1"))
    try client.send(claim.example.input + "\n")
    client.finishSending()
    func written() -> String {
      switch claim.plugin.manual.name {
      case "stdout": return daemon.log.split(separator: "\n").filter { $0.hasPrefix("{") }.joined(separator: "\n")
      case "elasticsearch": return bodies.withLock { $0 }
      default:
        let names = FileManager.default.enumerator(atPath: folder.path + "/files")?.compactMap { $0 as? String } ?? []
        return names.sorted().map { folder.text("files/" + $0) }.joined()
      }
    }
    let wanted = try objects(claim.example.output)
    #expect(waitUntil { written().split(separator: "\n").count >= wanted.count })
    #expect(daemon.stop() == 0, "\(claim.name): \(daemon.log)")
    let lines = try objects(written())
    #expect(lines == wanted, "\(claim.name): \(lines)")
  }
}
