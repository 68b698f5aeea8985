//  The `threat_score` filter as a step of a pipeline: what it reads from events and what it writes.

import Config
import Diagnostics
import Events
import Filters
import Pipeline
import PluginKit
import TestSupport
import Testing

@Suite struct ThreatFilterTests {
  private func build(_ options: String, _ problems: Problems) -> Step? {
    let services = Services(
      resolves: true, folder: Fixtures.root, dataFolder: "/tmp", configFolder: Fixtures.root + "/config")
    let builder = StepBuilder(
      registry: Registry(inputs: [], filters: allFilters, outputs: []), pipelineID: "test", ecs: .disabled,
      services: services, problems: problems)
    let place = SourcePosition(file: "test", line: 1, column: 1)
    let node = YAML.parse(options, file: "test", problems: problems)
    return builder.filter("threat_score", options: node, position: place, when: nil, id: nil)
  }

  /// Runs `events` through one step and returns them as JSON.
  private func run(_ options: String, _ events: [String]) throws -> [String] {
    let problems = Problems()
    let step = build(options, problems)
    try #require(problems.all.isEmpty, "\(problems.all)")
    let batch = EventBatch()
    var selection: [Int32] = []
    for json in events {
      let event = try Array(json.utf8).withUnsafeBytes { try #require(try batch.add(json: $0, arrivalNs: 0)) }
      for name in ["@version", "@timestamp"] where !json.contains(name) { event.remove(try FieldReference(name)) }
      selection.append(event.index)
    }
    StepRunner([try #require(step)], handler: nil).run(batch, &selection)
    return selection.map { index in
      var out = ByteBuffer()
      batch[index].appendJSON(to: &out)
      return out.string()
    }
  }

  @Test func `an ordinary event gets the three fields and no more`() throws {
    #expect(
      try run("{}", [#"{"path":"/products/1","method":"GET","status_code":200}"#]) == [
        #"{"path":"/products/1","method":"GET","status_code":200,"threat_score":0,"threat_level":"none","security_event":false}"#
      ])
    #expect(
      try run("{}", [#"{"a":[1]}"#]) == [#"{"a":[1],"threat_score":0,"threat_level":"none","security_event":false}"#])
  }

  @Test func `an attack gets its type, and earlier answers are replaced`() throws {
    #expect(
      try run("{}", [#"{"path":"/a?f=%2e%2e%2f%2e%2e%2fetc%2fpasswd","threat_score":"x","threat_type":7}"#]) == [
        #"{"path":"/a?f=%2e%2e%2f%2e%2e%2fetc%2fpasswd","threat_score":100,"threat_type":"path_traversal","#
          + #""threat_level":"critical","security_event":true,"threat_types":["path_traversal"]}"#
      ])
  }

  @Test(arguments: [
    #"{"request":"/x","agent":"sqlmap/1.7"}"#, #"{"user_agent":"sqlmap/1.7"}"#,
    #"{"user_agent":{"original":"sqlmap/1.7","name":"Other"}}"#, #"{"headers":{"a":"x","b":"${jndi:ldap://x}"}}"#,
    #"{"headers":"x: ${jndi:ldap://x}"}"#, #"{"path":"/","query_string":"q=<script>"}"#, #"{"verb":"TRACE"}"#,
    #"{"request_size":"200000000"}"#, #"{"content_length":200000000}"#,
  ])
  func `fields are found where they usually stand`(event: String) throws {
    #expect(try run("{}", [event])[0].contains(#""threat_type":"#))
  }

  @Test func `failures of one address add up over a batch, users may be numbers, and the window can be set`() throws {
    let events = (0..<12).map {
      #"{"@timestamp":"2026-03-02T10:00:\#(10 + $0 * 4).000Z","client_ip":"203.0.113.7","user_id":7,"status_code":"401"}"#
    }
    let scored = try run("{}", events)
    #expect(scored.map { $0.contains("brute_force") } == (0..<12).map { $0 >= 9 })
    #expect(!(try run("{window: 20s}", events)).contains { $0.contains("brute_force") })
    #expect(!(try run("{allow: [203.0.113.0/24]}", events)).contains { $0.contains("\"threat_type\"") })
    #expect(!(try run("{allow: '7x', user: none, client_ip: none}", events)).contains { $0.contains("brute_force") })
  }

  @Test(arguments: [
    ("{rules: /nowhere.yml}", "the threat rules '/nowhere.yml' cannot be read: No such file or directory"),
    ("{rules: Package.swift}", "Package.swift:2:1: error:"), ("{window: 8d}", "must be from 1s to 7d"),
    ("{pathh: x}", "pathh"),
  ])
  func `an option that cannot be used is told`(options: String, text: String) {
    let problems = Problems()
    _ = build(options, problems)
    #expect(problems.all.count == 1 && "\(problems.all)".contains(text), "\(problems.all)")
  }
}
