//  Snapshots: taken, listed, watched and brought back beside what is there.

internal import Diagnostics
internal import Events

public struct SnapshotRow: Sendable {
  public var name: String
  public var state: String
  public var indices: Int
  public var start: String
  public var failures: Int
  public var json: JSONValue {
    [
      "snapshot": .text(name), "state": .text(state), "indices": .number(String(indices)), "start": .text(start),
      "failed_shards": .number(String(failures)),
    ]
  }
}

extension ClusterClient {
  public func snapshots(_ repository: String) throws -> [SnapshotRow] {
    try demand("GET", "/_snapshot/\(repository)/_all")["snapshots"]?.elements.map { row in
      SnapshotRow(
        name: row["snapshot"]?.string ?? "", state: row["state"]?.string ?? "",
        indices: row["indices"]?.elements.count ?? 0,
        start: row["start_time"]?.string ?? "", failures: row.at("shards.failed")?.integer ?? 0)
    } ?? []
  }

  /// Takes a snapshot of the aura indices and waits for its end.
  ///
  /// - Parameter tick: Called with the share that is done, some times a second.
  public func takeSnapshot(_ repository: String, _ name: String, tick: (Double) -> Void) throws -> SnapshotRow {
    _ = try demand(
      "PUT", "/_snapshot/\(repository)/\(name)?wait_for_completion=false",
      ["indices": "aura-*", "ignore_unavailable": true, "include_global_state": false, "partial": false])
    while true {
      let rows = try demand("GET", "/_snapshot/\(repository)/\(name)")["snapshots"]?.elements ?? []
      guard let row = rows.first, let state = row["state"]?.string else {
        throw ClusterFailure("the snapshot \(name) is gone")
      }
      if state != "IN_PROGRESS" {
        guard state == "SUCCESS" else {
          throw ClusterFailure("the snapshot \(name) ended as \(state): \(row["failures"]?.text ?? "")")
        }
        return try snapshots(repository).first { $0.name == name }
          ?? SnapshotRow(name: name, state: state, indices: 0, start: "", failures: 0)
      }
      let running = try demand("GET", "/_snapshot/\(repository)/\(name)/_status")
      let shards = running["snapshots"]?.elements.first?["shards_stats"]
      let total = shards?["total"]?.integer ?? 0
      tick(total > 0 ? Double(shards?["done"]?.integer ?? 0) / Double(total) : 0)
      pauseBriefly()
    }
  }

  /// Brings indices back under names that begin with `restored-`, so that nothing present is touched.
  ///
  /// - Returns: What was brought back.
  public func restore(_ repository: String, _ name: String, indices: String) throws -> [String] {
    let answer = try demand(
      "POST", "/_snapshot/\(repository)/\(name)/_restore?wait_for_completion=true",
      [
        "indices": .text(indices), "include_global_state": false, "include_aliases": false,
        "rename_pattern": "aura-(.+)", "rename_replacement": "restored-aura-$1",
        "index_settings": ["index.number_of_replicas": 0],
        "ignore_index_settings": ["index.lifecycle.name", "index.lifecycle.parse_origination_date"],
      ], timeout: .seconds(86_400))
    guard (answer.at("snapshot.shards.failed")?.integer ?? 0) == 0 else {
      throw ClusterFailure("the restore failed in part: \(answer.text.prefix(512))")
    }
    return answer.at("snapshot.indices")?.elements.compactMap(\.string) ?? []
  }
}
