//  Puts data views, searches and dashboards into Kibana. They carry their version in the dashboards' descriptions, so that
//  what is there already is left alone.

internal import Diagnostics
public import Outputs

extension SavedObjects {
  /// What every dashboard says of itself.
  static var mark: String { "Made by Sluice, version \(Assets.version)" }
}

public struct KibanaImport {
  private let address: String
  private let connection: ClusterConnection

  /// - Parameter address: `http://localhost:5601`, with a space's path where one is meant.
  public init(_ address: String, _ connection: ClusterConnection) {
    var base = address
    while base.hasSuffix("/") { base.removeLast() }
    self.address = base
    self.connection = connection
  }

  /// - Returns: The step that it was; nothing is changed in a dry run.
  public func run(isDryRun: Bool, force: Bool) throws -> SetupStep {
    var step = SetupStep(kind: "kibana", name: "dashboards", outcome: .created)
    let status = try send("GET", "/api/status")
    guard status.status == 200, let version = status.json.at("version.number")?.string else {
      throw ClusterFailure("Kibana answers \(status.status) to GET /api/status: \(status.text)", status: status.status)
    }
    // Earlier ones know the charts in another shape.
    let parts = version.split(separator: ".").compactMap { Int($0) }
    guard parts.count >= 2, parts[0] > 8 || (parts[0] == 8 && parts[1] >= 9) else {
      step.outcome = .skipped
      step.note = "Kibana \(version) is older than 8.9; the dashboards need that"
      return step
    }
    let wanted: [JSONValue] = Dashboards.all.map { ["type": "dashboard", "id": .text($0.id)] }
    let exported = try send(
      "POST", "/api/saved_objects/_export", ["objects": .list(wanted), "excludeExportDetails": true])
    let marks = exported.lines.compactMap { $0.at("attributes.description")?.string }
    if exported.status == 200 {
      if marks.count == wanted.count, marks.allSatisfy({ $0 == SavedObjects.mark }) {
        step.outcome = .unchanged
        return step
      }
      guard force || marks.allSatisfy({ $0.hasPrefix("Made by Sluice, ") }) else {
        step.outcome = .foreign
        step.note = "a dashboard was changed by somebody; --force replaces it"
        return step
      }
      step.outcome = .updated
    }
    if isDryRun { return step }
    let boundary = "sluice-saved-objects"
    var body = ByteBuffer()
    body.append(text: "--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"aura.ndjson\"\r\n")
    body.append(text: "Content-Type: application/ndjson\r\n\r\n")
    for line in SavedObjects.lines { body.append(text: line.text + "\n") }
    body.append(text: "\r\n--\(boundary)--\r\n")
    let answer = try send(
      "POST", "/api/saved_objects/_import?overwrite=true", bytes: body.array(),
      type: "multipart/form-data; boundary=\(boundary)")
    // Kibana answers 200 even where objects failed.
    guard answer.status == 200, answer.json["success"]?.flag == true else {
      step.outcome = .failed
      let first = answer.json["errors"]?.elements.first
      step.note = first.map { "\($0["id"]?.string ?? ""): \($0.at("error.type")?.string ?? "")" } ?? answer.text
      return step
    }
    step.note = "\(answer.json["successCount"]?.integer ?? 0) objects"
    return step
  }

  private struct Answer {
    var status: Int
    var json: JSONValue
    var text: String
    var lines: [JSONValue]
  }

  private func send(_ method: String, _ path: String, _ body: JSONValue) throws -> Answer {
    try send(method, path, bytes: Array(body.text.utf8))
  }

  private func send(
    _ method: String, _ path: String, bytes: [UInt8]? = nil, type: String = "application/json"
  ) throws -> Answer {
    let session = try ClusterSession(connection, headers: [("kbn-xsrf", "sluice"), ("Content-Type", type)])
    do {
      let answer = try session.send(method, address + path, bytes)
      let lines = answer.body.split(separator: 10).compactMap { line in line.withUnsafeBytes { JSONValue($0) } }
      return Answer(
        status: answer.status, json: lines.first ?? .null,
        text: String(decoding: answer.body.prefix(512), as: UTF8.self), lines: lines)
    } catch {
      throw ClusterFailure("Kibana cannot be reached: \(error)")
    }
  }
}
