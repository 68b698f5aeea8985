//  Brings a cluster to what Sluice wants of it, and says of each thing whether it was made, changed or right already.
//
//  A thing is right when every member of its body is on the server with the same value: servers add members of their own
//  and write numbers as texts. What somebody else manages is left alone unless that is forced.

internal import Diagnostics

/// What happened to one thing.
public struct SetupStep: Sendable {
  public enum Outcome: String, Sendable { case created, updated, unchanged, skipped, foreign, failed }
  public var kind: String
  public var name: String
  public var outcome: Outcome
  /// Why, for what was skipped, left alone or failed; what differs for an update.
  public var note = ""
}

public struct SetupOptions: Sendable {
  public var assets = AssetOptions()
  /// Nothing is changed.
  public var isDryRun = false
  /// What somebody else manages is replaced too.
  public var force = false
  public var withRoles = false
  /// Location of the snapshot repository; nil leaves snapshots out.
  public var repositoryLocation: String?
  public init() {}
}

/// Not thread-safe.
public final class ClusterSetup {
  private let client: ClusterClient
  private let options: SetupOptions
  /// Called with each request that changes something, before it is sent.
  private let shows: (_ method: String, _ path: String, JSONValue) -> Void
  public private(set) var steps: [SetupStep] = []

  public init(
    _ client: ClusterClient, _ options: SetupOptions,
    shows: @escaping (_ method: String, _ path: String, JSONValue) -> Void = { _, _, _ in }
  ) {
    self.client = client
    self.options = options
    self.shows = shows
  }

  /// Does all of it.
  ///
  /// - Throws: A `ClusterFailure` when the cluster cannot be asked; what it refuses is a failed step.
  public func run() throws {
    let (flavour, _) = try client.identity()
    try putTemplates(flavour)
    if options.withRoles {
      if try isOffered(Asset.Kind.role.path(flavour)) {
        for role in Assets.roles(flavour) { try put(role, flavour) }
      } else {
        skip("role", "all", "the server has no users and roles")
      }
    }
    if let location = options.repositoryLocation { try putSnapshots(flavour, location) }
    try attachPolicy(flavour)
  }

  public func putTemplates(_ flavour: ClusterClient.Flavour) throws {
    let hasLifecycle = try isOffered(Asset.Kind.lifecycle.path(flavour))
    for asset in Assets.templates(flavour, options.assets) {
      var asset = asset
      if !hasLifecycle {
        if asset.kind == .lifecycle {
          skip("lifecycle", asset.name, "the server has no life cycles; use 'sluice es cleanup'")
          continue
        }
        // The setting would be refused as unknown.
        asset = Asset(kind: asset.kind, name: asset.name, body: asset.body.without { $0 == "lifecycle" })
      }
      try put(asset, flavour)
    }
  }

  /// Whether the server knows an interface at all: one that it lacks is refused as a bad request.
  private func isOffered(_ path: String) throws -> Bool {
    var trimmed = path
    trimmed.removeLast()
    let answer = try client.request("GET", trimmed)
    if answer.status == 401 || answer.status == 403 {
      throw ClusterFailure("\(trimmed) is answered \(answer.status): \(answer.reason)", status: answer.status)
    }
    return answer.status == 200 || answer.status == 404
  }

  private func skip(_ kind: String, _ name: String, _ why: String) {
    steps.append(SetupStep(kind: kind, name: name, outcome: .skipped, note: why))
  }

  private func put(_ asset: Asset, _ flavour: ClusterClient.Flavour) throws {
    var path = asset.kind.path(flavour) + asset.name
    let answer = try client.request("GET", path)
    var outcome = SetupStep.Outcome.created
    var note = ""
    if answer.status == 200 {
      let present = Self.body(answer.json, asset)
      if let difference = Self.difference(asset.body, present) {
        let manager = Self.manager(present)
        guard options.force || manager == "sluice" || asset.kind == .role || asset.kind == .snapshotPolicy else {
          steps.append(
            SetupStep(
              kind: asset.kind.rawValue, name: asset.name, outcome: .foreign,
              note: "it is managed by \(manager ?? "somebody else"); --force replaces it"))
          return
        }
        outcome = .updated
        note = difference
        if asset.kind == .lifecycle, flavour == .opensearch, let number = answer.json["_seq_no"]?.integer,
          let term = answer.json["_primary_term"]?.integer
        {
          path += "?if_seq_no=\(number)&if_primary_term=\(term)"
        }
      } else {
        steps.append(SetupStep(kind: asset.kind.rawValue, name: asset.name, outcome: .unchanged))
        return
      }
    } else if answer.status != 404 {
      steps.append(
        SetupStep(kind: asset.kind.rawValue, name: asset.name, outcome: .failed, note: answer.reason))
      return
    }
    try change(
      "PUT", path, asset.body, SetupStep(kind: asset.kind.rawValue, name: asset.name, outcome: outcome, note: note))
  }

  private func change(_ method: String, _ path: String, _ body: JSONValue, _ step: SetupStep) throws {
    shows(method, path, body)
    var step = step
    if !options.isDryRun {
      let answer = try client.request(method, path, body)
      if !(200..<300).contains(answer.status) {
        step.outcome = .failed
        step.note = answer.reason
      }
    }
    steps.append(step)
  }

  private func putSnapshots(_ flavour: ClusterClient.Flavour, _ location: String) throws {
    let name = options.assets.repository ?? "aura_backup"
    let body: JSONValue = ["type": "fs", "settings": ["location": .text(location), "compress": "true"]]
    let answer = try client.request("GET", "/_snapshot/\(name)")
    let present = answer.json[name]
    if let present, Self.difference(body, present) == nil {
      steps.append(SetupStep(kind: "repository", name: name, outcome: .unchanged))
    } else {
      try change(
        "PUT", "/_snapshot/\(name)", body,
        SetupStep(kind: "repository", name: name, outcome: present == nil ? .created : .updated))
    }
    let policy = Assets.snapshotPolicy(flavour, repository: name)
    if try isOffered(policy.kind.path(flavour)) {
      try put(policy, flavour)
    } else {
      skip(
        "snapshotPolicy", policy.name,
        "the server has no snapshot policies; call 'sluice es snapshot create' by a timer")
    }
  }

  /// Templates act on new indices alone: the present ones get the policy here.
  private func attachPolicy(_ flavour: ClusterClient.Flavour) throws {
    guard flavour == .elasticsearch, try isOffered(Asset.Kind.lifecycle.path(flavour)) else { return }
    let explained = try client.request("GET", "/aura-*/_ilm/explain")
    let unmanaged = (explained.json["indices"]?.members ?? []).filter { index in
      index.value["managed"]?.flag == false && DailyIndex(index.name) != nil
    }.map(\.name)
    guard !unmanaged.isEmpty else { return }
    for index in unmanaged {
      try change(
        "PUT", "/\(index)/_settings", ["index.lifecycle.name": .text(Assets.policyName)],
        SetupStep(kind: "index", name: index, outcome: .updated, note: "gets the life cycle"))
    }
  }

  // MARK: Comparison

  /// The part of an answer that corresponds to what was put.
  static func body(_ answer: JSONValue, _ asset: Asset) -> JSONValue {
    switch asset.kind {
    case .component: answer["component_templates"]?.elements.first?["component_template"] ?? .null
    case .template: answer["index_templates"]?.elements.first?["index_template"] ?? .null
    case .lifecycle:
      if let policy = answer[asset.name] { ["policy": policy["policy"] ?? .null] } else { answer }
    case .role: answer[asset.name] ?? .null
    case .snapshotPolicy: answer[asset.name]?["policy"] ?? answer["sm_policy"] ?? .null
    }
  }

  static func manager(_ body: JSONValue) -> String? {
    (body.at("_meta.managed_by") ?? body.at("policy._meta.managed_by"))?.string
      ?? (body.at("policy.description")?.string?.contains("managed by sluice") == true ? "sluice" : nil)
  }

  /// Where the present value lacks something of the wanted one; nil when it has all of it.
  public static func difference(_ wanted: JSONValue, _ present: JSONValue, at path: String = "") -> String? {
    switch wanted {
    case .object(let members):
      guard case .object = present else {
        // What equals the default is not told: an object without members.
        return members.isEmpty && present == .null ? nil : "\(path) is missing"
      }
      for member in members {
        let name = path.isEmpty ? member.name : "\(path).\(member.name)"
        guard let value = present[member.name] else {
          if member.name == "type", member.value == "object" { continue }
          if case .object(let empty) = member.value, empty.isEmpty { continue }
          return "\(name) is missing"
        }
        if let found = difference(member.value, value, at: name) { return found }
      }
      return nil
    case .list(let elements):
      let others = present.elements
      // A list of one may come back as the element alone.
      if elements.count == 1, others.isEmpty { return difference(elements[0], present, at: path) }
      guard elements.count == others.count else { return "\(path) has \(others.count) instead of \(elements.count)" }
      for (i, pair) in zip(elements, others).enumerated() {
        if let found = difference(pair.0, pair.1, at: "\(path)[\(i)]") { return found }
      }
      return nil
    default:
      return scalar(wanted) == scalar(present) ? nil : "\(path) is \(present.text) instead of \(wanted.text)"
    }
  }

  private static func scalar(_ value: JSONValue) -> String {
    switch value {
    case .text(let text), .number(let text): text
    case .bool(let flag): flag ? "true" : "false"
    default: value.text
    }
  }
}
