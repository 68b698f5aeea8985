//  The daily indices: what is there, which are old, and merging those that get no more writes.

internal import Diagnostics
internal import Events

/// The name of a daily index: `aura-logs-2026.03.01`.
public struct DailyIndex: Sendable, Equatable {
  public let family: String
  /// Days since 1970-01-01.
  public let day: Int

  /// nil where `name` is no day of one of the families.
  public init?(_ name: String) {
    guard let dash = name.lastIndex(of: "-") else { return nil }
    family = String(name[..<dash])
    let parts = name[name.index(after: dash)...].split(separator: ".", omittingEmptySubsequences: false)
    guard Assets.families.contains(family), parts.map(\.utf8.count) == [4, 2, 2],
      parts.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } }), let year = Int(parts[0]),
      let month = Int(parts[1]), let day = Int(parts[2]), (1...12).contains(month)
    else { return nil }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let lengths = [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    guard (1...lengths[month - 1]).contains(day) else { return nil }
    self.day = daysSince1970(year, month, day)
  }

  /// The present day, UTC.
  public static var today: Int { Int(WallClock.ns / 86_400_000_000_000) }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int {
  // Years begin with March, so that the leap day is the last.
  let shifted = month <= 2 ? year - 1 : year
  let era = (shifted >= 0 ? shifted : shifted - 399) / 400
  let yearOfEra = shifted - era * 400
  let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
  let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
  return era * 146_097 + dayOfEra - 719_468
}

public struct IndexRow: Sendable {
  public var name: String
  public var health: String
  public var status: String
  public var primaries: Int
  public var replicas: Int
  /// nil for a closed index.
  public var documents: Int?
  public var bytes: Int?
  /// Days since the name's date; nil where the name has none.
  public var ageDays: Int?
  /// Of its life cycle.
  public var phase: String?

  public var json: JSONValue {
    func number(_ value: Int?) -> JSONValue { value.map { .number(String($0)) } ?? .null }
    return [
      "index": .text(name), "health": .text(health), "status": .text(status), "primaries": number(primaries),
      "replicas": number(replicas), "documents": number(documents), "bytes": number(bytes),
      "age_days": number(ageDays), "phase": phase.map { .text($0) } ?? .null,
    ]
  }
}

extension ClusterClient {
  /// The indices whose names begin with `aura-`, the newest first.
  public func indices() throws -> [IndexRow] {
    let columns = "index,health,status,pri,rep,docs.count,store.size"
    let rows = try demand(
      "GET", "/_cat/indices/aura-*?format=json&bytes=b&s=index:desc&expand_wildcards=open,closed&h=\(columns)")
    var phases: [String: String] = [:]
    if try identity().flavour == .elasticsearch {
      // A server without life cycles refuses this; its indices have no phase then.
      for index in try request("GET", "/aura-*/_ilm/explain?only_managed=true").json["indices"]?.members ?? [] {
        let step = index.value["step"]?.string == "ERROR" ? " (error)" : ""
        phases[index.name] = index.value["phase"]?.string.map { $0 + step }
      }
    }
    return rows.elements.compactMap { row in
      guard let name = row["index"]?.string else { return nil }
      return IndexRow(
        name: name, health: row["health"]?.string ?? "unknown", status: row["status"]?.string ?? "unknown",
        primaries: row["pri"]?.integer ?? 0, replicas: row["rep"]?.integer ?? 0,
        documents: row["docs.count"]?.integer, bytes: row["store.size"]?.integer,
        ageDays: DailyIndex(name).map { DailyIndex.today - $0.day }, phase: phases[name])
    }
  }

  /// The daily indices of before `days` days, the oldest first, and the names that are no days of a family.
  public func old(days: Int) throws -> (delete: [IndexRow], keep: [IndexRow], strange: [String]) {
    var delete: [IndexRow] = []
    var keep: [IndexRow] = []
    var strange: [String] = []
    for row in try indices() {
      guard let age = row.ageDays else {
        strange.append(row.name)
        continue
      }
      if age > days { delete.append(row) } else { keep.append(row) }
    }
    return (delete.reversed(), keep, strange)
  }

  /// Deletes indices by their exact names, some at a time.
  public func delete(_ names: [String], progress: (_ done: Int) -> Void) throws {
    var done = 0
    for start in stride(from: 0, to: names.count, by: 50) {
      let some = names[start..<min(start + 50, names.count)]
      _ = try demand(
        "DELETE", "/\(some.joined(separator: ","))?ignore_unavailable=true&master_timeout=60s", timeout: .seconds(120))
      done += some.count
      progress(done)
    }
    let wanted = Set(names)
    let left = try indices().map(\.name).filter(wanted.contains)
    if !left.isEmpty { throw ClusterFailure("these indices are there still: \(left.joined(separator: " "))") }
  }

  /// The indices of past days that have more than one segment a shard.
  public func unmerged() throws -> [String] {
    let past = try indices().filter { $0.status == "open" && ($0.ageDays ?? 0) >= 1 }
    return try past.map(\.name).filter { name in
      let segments = try demand("GET", "/\(name)/_segments")
      let shards = segments.at("indices")?[name]?["shards"]?.members.flatMap(\.value.elements) ?? []
      return shards.contains { ($0["num_search_segments"]?.integer ?? 0) > 1 }
    }
  }

  /// Merges an index to one segment a shard and waits for it.
  ///
  /// - Parameter tick: Called some times a second while it runs.
  public func merge(_ index: String, tick: () -> Void) throws {
    let path = "/\(index)/_forcemerge?max_num_segments=1"
    let started = try request("POST", path + "&wait_for_completion=false")
    guard started.status == 200, let task = started.json["task"]?.string else {
      // An older server knows no tasks for this and answers when it is done.
      let answer = try demand("POST", path, timeout: .seconds(86_400))
      return try Self.check(answer, index)
    }
    while true {
      let state = try demand("GET", "/_tasks/\(task)")
      if state["completed"]?.flag == true { return try Self.check(state["response"] ?? .null, index) }
      tick()
      pauseBriefly()
    }
  }

  private static func check(_ answer: JSONValue, _ index: String) throws {
    guard (answer.at("_shards.failed")?.integer ?? 0) == 0 else {
      throw ClusterFailure("\(index) could not be merged: \(answer.at("_shards.failures")?.text ?? answer.text)")
    }
  }
}
