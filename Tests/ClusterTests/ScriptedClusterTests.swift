//  What the engines of the tests lack, before a scripted cluster: life cycles, roles, users, keys, snapshot policies. It
//  keeps what is put, tells it as the documentation says, and refuses every other request.

import Diagnostics
import Foundation
import Outputs
import TestSupport
import Testing

@testable import Cluster

/// The scripted cluster's memory.
private final class Shelf: Sendable {
  private let kept = Lock<[String: String]>([:])
  let changes = Lock<[String]>([])

  func answer(_ request: BulkEndpoint.Request) -> (Int, String)? {
    let path = String(request.target.prefix { $0 != "?" })
    if path == "/" { return nil }
    let folders = [
      "/_ilm/policy", "/_component_template", "/_index_template", "/_security/role", "/_security/user", "/_slm/policy",
      "/_snapshot",
    ]
    if request.method == "GET", path == "/aura-*/_ilm/explain" {
      let managed = #""aura-logs-2026.03.02":{"managed":true}"#
      let others = #""aura-logs-2026.03.01":{"managed":false},"aura-odd":{"managed":false}"#
      return (200, "{\"indices\":{\(others),\(managed)}}")
    }
    if request.method == "POST", path == "/_security/api_key" {
      changes.withLock { $0.append(request.body) }
      return (200, #"{"id":"abc","name":"x","api_key":"secret","encoded":"x"}"#)
    }
    if request.method == "PUT", path.hasSuffix("/_settings") {
      changes.withLock { $0.append("\(path) \(request.body)") }
      return (200, #"{"acknowledged":true}"#)
    }
    guard let folder = folders.first(where: { path == $0 || path.hasPrefix($0 + "/") }) else {
      return (400, #"{"error":"no handler found for uri [\#(path)] and method [\#(request.method)]","status":400}"#)
    }
    let name = String(path.dropFirst(folder.count + 1))
    switch request.method {
    case "PUT":
      if name == "refused" || request.body.contains("refuse-me") {
        return (400, #"{"error":{"type":"illegal_argument_exception","reason":"as scripted"},"status":400}"#)
      }
      kept.withLock { $0[path] = request.body }
      changes.withLock { $0.append(path) }
      return (200, #"{"acknowledged":true}"#)
    case "GET" where name.isEmpty: return (200, "{}")
    case "GET":
      guard let body = kept.withLock({ $0[path] }) else { return (404, #"{"error":{"type":"missing"},"status":404}"#) }
      switch folder {
      case "/_component_template":
        return (200, #"{"component_templates":[{"name":"\#(name)","component_template":\#(body)}]}"#)
      case "/_index_template": return (200, #"{"index_templates":[{"name":"\#(name)","index_template":\#(body)}]}"#)
      case "/_ilm/policy":
        return (200, #"{"\#(name)":{"version":1,"policy":\#(body.dropFirst(#"{"policy":"#.utf8.count).dropLast())}}"#)
      case "/_slm/policy": return (200, #"{"\#(name)":{"version":1,"policy":\#(body)}}"#)
      default: return (200, #"{"\#(name)":\#(body)}"#)
      }
    default: return (405, #"{"error":"Incorrect HTTP method","status":405}"#)
    }
  }
}

@Suite struct ScriptedClusterTests {
  private func withCluster(_ body: (ClusterClient, Shelf) throws -> Void) throws {
    let shelf = Shelf()
    let endpoint = try BulkEndpoint(other: { shelf.answer($0) })
    defer { endpoint.stop() }
    try body(ClusterClient(hosts: [endpoint.address], connection: ClusterConnection()), shelf)
  }

  private func setup(_ client: ClusterClient, _ change: (inout SetupOptions) -> Void = { _ in }) throws -> [SetupStep] {
    var options = SetupOptions()
    options.withRoles = true
    options.repositoryLocation = "/backup"
    change(&options)
    let setup = ClusterSetup(client, options)
    try setup.run()
    return setup.steps
  }

  @Test func `life cycle, roles and snapshots are put once, and old indices get the life cycle`() throws {
    try withCluster { client, shelf in
      let first = try setup(client)
      #expect(first.filter { $0.outcome == .created }.count == Assets.templates(.elasticsearch).count + 3 + 2)
      #expect(first.filter { $0.outcome == .updated }.map(\.name) == ["aura-logs-2026.03.01"])
      #expect(first.allSatisfy { $0.outcome == .created || $0.outcome == .updated })
      let before = shelf.changes.withLock { $0.count }
      let second = try setup(client)
      #expect(second.filter { $0.kind != "index" }.allSatisfy { $0.outcome == .unchanged }, "\(second)")
      #expect(shelf.changes.withLock { $0.count } == before + 1)
      // Another age is an update of the policy alone.
      let third = try setup(client) { $0.assets.deleteDays = 120 }
      #expect(third.filter { $0.outcome == .updated }.map(\.name) == ["aura-daily", "aura-logs-2026.03.01"])
      #expect(third.first { $0.name == "aura-daily" }?.note.contains("120d") == true)
    }
  }

  @Test func `a dry run shows every request and sends none`() throws {
    try withCluster { client, shelf in
      var options = SetupOptions()
      options.isDryRun = true
      options.withRoles = true
      var shown: [String] = []
      let setup = ClusterSetup(client, options) { method, path, _ in shown.append("\(method) \(path)") }
      try setup.run()
      #expect(shown.contains("PUT /_ilm/policy/aura-daily") && shown.contains("PUT /_security/role/aura_writer"))
      #expect(shelf.changes.withLock { $0.isEmpty })
    }
  }

  @Test func `users get a role, and the daemon a key that may only write`() throws {
    try withCluster { client, shelf in
      #expect(throws: ClusterFailure.self) {
        try client.putUser("aura_readonly", role: "aura_logs_reader", password: nil)
      }
      #expect(try client.putUser("aura_readonly", role: "aura_logs_reader", password: "long enough"))
      #expect(try !client.putUser("aura_readonly", role: "aura_logs_reader", password: nil))
      #expect(try client.makeWriterKey("host1", days: 30) == "abc:secret")
      let key = try PlainJSON(try #require(shelf.changes.withLock { $0.last }))
      let role = key["role_descriptors"]?["aura_writer"]
      #expect(role?["indices"]?[0]?["privileges"]?.items.compactMap(\.string) == ["create_doc", "auto_configure"])
      #expect(key["expiration"]?.string == "30d")
    }
  }

  @Test func `what the cluster refuses is told with its reason`() throws {
    try withCluster { client, _ in
      let failed = try setup(client) { $0.repositoryLocation = "refuse-me" }
      #expect(failed.first { $0.outcome == .failed }?.note == "illegal_argument_exception: as scripted")
      let failure = #expect(throws: ClusterFailure.self) { try client.demand("GET", "/_nowhere") }
      #expect(failure?.status == 400 && failure?.description.contains("no handler found") == true)
    }
    let secured = try BulkEndpoint(other: { _ in (401, "Unauthorized") })
    defer { secured.stop() }
    let client = try ClusterClient(hosts: [secured.address], connection: ClusterConnection())
    let failure = #expect(throws: ClusterFailure.self) { try client.identity() }
    #expect(failure?.description.contains("check the user") == true)
  }

  @Test func `a host that is down is passed over`() throws {
    let gone = try BulkEndpoint(listens: false, other: nil)
    defer { gone.stop() }
    let there = try BulkEndpoint()
    defer { there.stop() }
    let client = try ClusterClient(hosts: [gone.address, there.address], connection: ClusterConnection())
    #expect(try client.identity().version == "8.14.3")
    #expect(there.all.count == 1)
  }

  @Test func `dashboards are imported once, and what somebody changed is left alone`() throws {
    let mark = Lock<String?>(nil)
    let kibana = try BulkEndpoint(other: { request in
      guard request.method == "GET" || request.headers["kbn-xsrf"] != nil else { return (400, "kbn-xsrf") }
      switch request.target {
      case "/api/status": return (200, #"{"version":{"number":"8.11.0"}}"#)
      case "/api/saved_objects/_export":
        guard let mark = mark.withLock({ $0 }) else { return (400, #"{"error":"Bad Request"}"#) }
        let line = #"{"type":"dashboard","attributes":{"description":"\#(mark)"}}"#
        return (200, Array(repeating: line, count: 4).joined(separator: "\n"))
      case "/api/saved_objects/_import?overwrite=true":
        let isForm = request.headers["content-type"]?.hasPrefix("multipart/form-data; boundary=") == true
        guard isForm, request.body.contains("filename=\"aura.ndjson\"") else { return (415, "") }
        mark.withLock { $0 = SavedObjects.mark }
        return (200, #"{"success":true,"successCount":\#(SavedObjects.lines.count)}"#)
      default: return (404, "{}")
      }
    })
    defer { kibana.stop() }
    func step(force: Bool = false, isDryRun: Bool = false) throws -> SetupStep {
      try KibanaImport(kibana.address, ClusterConnection()).run(isDryRun: isDryRun, force: force)
    }
    #expect(try step(isDryRun: true).outcome == .created && mark.withLock { $0 } == nil)
    #expect(try step().outcome == .created)
    #expect(try step().outcome == .unchanged)
    mark.withLock { $0 = "mine" }
    #expect(try step().outcome == .foreign)
    #expect(try step(force: true).outcome == .updated)
    mark.withLock { $0 = "Made by Sluice, version 0" }
    #expect(try step().outcome == .updated)
  }
}
