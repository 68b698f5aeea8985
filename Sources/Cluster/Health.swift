//  One verdict on a cluster: its colour, its shards, its disks, and what stands in the way.

public struct ClusterHealth: Sendable {
  public var status: String
  public var flavour: String
  public var version: String
  public var body: JSONValue
  /// Indices that are not green, with their state.
  public var troubled: [(name: String, status: String)] = []
  /// Full disks and blocks, in words.
  public var warnings: [String] = []

  /// 0 green, 1 yellow, 2 red: for scripts.
  public var exitStatus: Int32 { status == "green" ? 0 : status == "yellow" ? 1 : 2 }

  public var json: JSONValue {
    [
      "status": .text(status), "flavour": .text(flavour), "version": .text(version), "health": body,
      "indices": .object(troubled.map { JSONValue.Member(name: $0.name, value: .text($0.status)) }),
      "warnings": .list(warnings.map { .text($0) }),
    ]
  }
}

extension ClusterClient {
  public func health() throws -> ClusterHealth {
    let (flavour, version) = try identity()
    let all = try demand("GET", "/_cluster/health?level=indices")
    var health = ClusterHealth(
      status: all["status"]?.string ?? "red", flavour: flavour.rawValue, version: version,
      body: .object(all.members.filter { $0.name != "indices" }))
    for index in all["indices"]?.members ?? [] {
      let status = index.value["status"]?.string ?? "red"
      if status != "green" { health.troubled.append((index.name, status)) }
    }
    let disks = try request("GET", "/_cat/allocation?format=json&bytes=b&h=node,disk.percent")
    for row in disks.json.elements {
      guard let percent = row["disk.percent"]?.integer, percent >= 85 else { continue }
      health.warnings.append("the disk of \(row["node"]?.string ?? "a node") is \(percent) % full")
    }
    let blocks = try request("GET", "/aura-*/_settings/index.blocks.*?flat_settings=true&expand_wildcards=open,closed")
    for index in blocks.json.members where blocks.status == 200 {
      for block in index.value["settings"]?.members ?? [] where block.value.string == "true" {
        health.warnings.append("\(index.name) has \(block.name)")
      }
      for block in index.value.at("settings.index.blocks")?.members ?? [] where block.value.string == "true" {
        health.warnings.append("\(index.name) has index.blocks.\(block.name)")
      }
    }
    return health
  }
}
