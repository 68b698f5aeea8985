//  What Sluice puts into a cluster, made from the list of fields: component templates, index templates, the life cycle of
//  daily indices, roles, the snapshot policy.

/// Something that is put into a cluster under a name.
public struct Asset: Sendable {
  public enum Kind: String, Sendable {
    case lifecycle, component, template, role, snapshotPolicy

    func path(_ flavour: ClusterClient.Flavour) -> String {
      switch (self, flavour) {
      case (.component, _): "/_component_template/"
      case (.template, _): "/_index_template/"
      case (.lifecycle, .elasticsearch): "/_ilm/policy/"
      case (.lifecycle, .opensearch): "/_plugins/_ism/policies/"
      case (.role, .elasticsearch): "/_security/role/"
      case (.role, .opensearch): "/_plugins/_security/api/roles/"
      case (.snapshotPolicy, .elasticsearch): "/_slm/policy/"
      case (.snapshotPolicy, .opensearch): "/_plugins/_sm/policies/"
      }
    }
  }

  public let kind: Kind
  public let name: String
  public let body: JSONValue

  /// Where Elasticsearch takes it.
  public static func path(of asset: Asset) -> String { asset.kind.path(.elasticsearch) + asset.name }
}

/// What can be chosen about them.
public struct AssetOptions: Sendable {
  public var replicas = 1
  public var shards = 1
  public var warmDays = 7
  public var coldDays = 30
  public var deleteDays = 90
  /// Of the snapshot policy; nil leaves it out.
  public var repository: String?

  public init() {}
}

public enum Assets {
  /// Raised with every change of the bodies.
  public static let version = 1
  public static let families = ["aura-logs", "aura-security", "aura-performance", "aura-metrics"]
  public static let policyName = "aura-daily"
  private static let meta: JSONValue = ["managed_by": "sluice"]

  /// All templates and the life cycle, in the order in which they must be put.
  public static func templates(_ flavour: ClusterClient.Flavour, _ options: AssetOptions = .init()) -> [Asset] {
    [lifecycle(flavour, options), settings(flavour, options)]
      + IndexedField.Part.allCases.map { component($0, flavour) } + [dynamicRules]
      + families.map { template($0) }
  }

  // MARK: Life cycle

  static func lifecycle(_ flavour: ClusterClient.Flavour, _ options: AssetOptions) -> Asset {
    func days(_ n: Int) -> JSONValue { .text("\(n)d") }
    let body: JSONValue
    if flavour == .elasticsearch {
      body = [
        "policy": [
          "_meta": meta.merged(["version": .number(String(version)), "description": "daily aura indices"]),
          "phases": [
            "hot": ["min_age": "0ms", "actions": ["set_priority": ["priority": 100]]],
            "warm": [
              "min_age": days(options.warmDays),
              "actions": [
                "set_priority": ["priority": 50], "allocate": ["number_of_replicas": 0],
                "forcemerge": ["max_num_segments": 1],
              ],
            ],
            "cold": [
              "min_age": days(options.coldDays),
              "actions": [
                "set_priority": ["priority": 0], "allocate": ["number_of_replicas": 0], "readonly": [:],
              ],
            ],
            "delete": ["min_age": days(options.deleteDays), "actions": ["delete": [:]]],
          ],
        ]
      ]
    } else {
      func state(_ name: String, _ actions: JSONValue, _ next: String?, _ age: Int) -> JSONValue {
        [
          "name": .text(name), "actions": actions,
          "transitions": next.map {
            [["state_name": .text($0), "conditions": ["min_index_age": days(age)]]]
          } ?? [],
        ]
      }
      body = [
        "policy": [
          "description": "daily aura indices, managed by sluice", "default_state": "hot",
          "states": [
            state("hot", [["index_priority": ["priority": 100]]], "warm", options.warmDays),
            state(
              "warm",
              [
                ["replica_count": ["number_of_replicas": 0]], ["index_priority": ["priority": 50]],
                ["force_merge": ["max_num_segments": 1]],
              ], "cold", options.coldDays),
            state("cold", [["read_only": [:]], ["index_priority": ["priority": 0]]], "delete", options.deleteDays),
            state("delete", [["delete": [:]]], nil, 0),
          ],
          "ism_template": [["index_patterns": .list(families.map { .text($0 + "-*") }), "priority": 200]],
        ]
      ]
    }
    return Asset(kind: .lifecycle, name: policyName, body: body)
  }

  // MARK: Templates

  private static func asset(_ kind: Asset.Kind, _ name: String, _ body: JSONValue) -> Asset {
    Asset(kind: kind, name: name, body: body.merged(["version": .number(String(version)), "_meta": meta]))
  }

  static func settings(_ flavour: ClusterClient.Flavour, _ options: AssetOptions) -> Asset {
    var index: JSONValue = [
      "number_of_shards": .text(String(options.shards)), "number_of_replicas": .text(String(options.replicas)),
      "codec": "best_compression", "refresh_interval": "5s",
      "mapping": ["total_fields": ["limit": "1000"], "ignore_malformed": "true"],
      "query": ["default_field": ["message", "error_message", "logger", "path", "correlation_id"]],
    ]
    if flavour == .elasticsearch {
      index = index.merged(["lifecycle": ["name": .text(policyName), "parse_origination_date": "true"]])
    }
    return asset(.component, "aura-settings", ["template": ["settings": ["index": index]]])
  }

  static func component(_ part: IndexedField.Part, _ flavour: ClusterClient.Flavour) -> Asset {
    var mappings: JSONValue = ["properties": properties(FieldList.all.filter { $0.part == part }, flavour)]
    if part == .common {
      let rules: JSONValue = ["dynamic": "true", "date_detection": false]
      mappings = rules.merged(mappings)
    }
    return asset(.component, "aura-mappings-\(part.rawValue)", ["template": ["mappings": mappings]])
  }

  private static func properties(_ fields: [IndexedField], _ flavour: ClusterClient.Flavour) -> JSONValue {
    var all: JSONValue = [:]
    for field in fields {
      var value = field.mapping(flavour)
      for (i, name) in field.path.split(separator: ".").reversed().enumerated() {
        value = i == 0 ? [String(name): value] : [String(name): ["properties": value]]
      }
      all = all.merged(value)
    }
    return all
  }

  /// For fields that nobody listed, by their names and values. The first that fits counts.
  static let dynamicRules: Asset = {
    func rule(_ name: String, _ type: String, _ match: String, _ mapping: JSONValue) -> JSONValue {
      [name: ["match_mapping_type": .text(type), "match": .text(match), "mapping": mapping]]
    }
    return asset(
      .component, "aura-mappings-dynamic",
      [
        "template": [
          "mappings": [
            "dynamic_templates": [
              rule("ips", "string", "*_ip", ["type": "ip"]),
              rule("timestamps", "string", "*_at", ["type": "date"]),
              rule("durations", "double", "*_duration", ["type": "float"]),
              rule("whole_durations", "long", "*_duration", ["type": "float"]),
              rule("times", "double", "*_time", ["type": "float"]),
              rule("whole_times", "long", "*_time", ["type": "float"]),
              rule("percents", "long", "*_percent", ["type": "float"]),
              rule("decimals", "double", "*", ["type": "double"]),
              [
                "long_texts": [
                  "match_mapping_type": "string", "match_pattern": "regex",
                  "match": "^.*(message|text|body|description|traceback)$",
                  "mapping": [
                    "type": "text", "norms": false, "fields": ["keyword": ["type": "keyword", "ignore_above": 512]],
                  ],
                ]
              ],
              rule("strings", "string", "*", ["type": "keyword", "ignore_above": 1024]),
            ]
          ]
        ]
      ])
  }()

  static func template(_ family: String) -> Asset {
    let parts: [IndexedField.Part] =
      switch family {
      case "aura-metrics": [.common, .metrics]
      case "aura-performance": [.common, .web, .security, .metrics, .performance]
      default: [.common, .web, .security]
      }
    let names =
      ["aura-settings"] + parts.map { "aura-mappings-\($0.rawValue)" } + ["aura-mappings-dynamic"]
    let refresh = family == "aura-security" ? "2s" : family == "aura-metrics" ? "10s" : nil
    var template: JSONValue = ["aliases": ["aura-all": [:]]]
    if let refresh {
      let settings: JSONValue = ["settings": ["index": ["refresh_interval": .text(refresh)]]]
      template = settings.merged(template)
    }
    return asset(
      .template, family,
      [
        "index_patterns": [.text(family + "-*")], "priority": 300, "composed_of": .list(names.map { .text($0) }),
        "template": template,
      ])
  }

  // MARK: Roles

  public static func roles(_ flavour: ClusterClient.Flavour) -> [Asset] {
    let patterns: JSONValue = .list(families.map { .text($0 + "-*") })
    guard flavour == .elasticsearch else {
      func role(_ name: String, _ cluster: JSONValue, _ actions: JSONValue, _ patterns: JSONValue) -> Asset {
        Asset(
          kind: .role, name: name,
          body: [
            "cluster_permissions": cluster,
            "index_permissions": [["index_patterns": patterns, "allowed_actions": actions]],
          ])
      }
      return [
        role(
          "aura_writer", ["cluster:monitor/main", "indices:data/write/bulk"],
          [
            "indices:data/write/index", "indices:data/write/bulk[s]", "indices:admin/create",
            "indices:admin/mapping/put",
          ], patterns),
        role("aura_logs_reader", [], ["read", "indices:admin/mappings/get", "indices:admin/get"], ["aura-*"]),
        role(
          "aura_admin",
          ["cluster_monitor", "cluster_manage_index_templates", "cluster_manage_pipelines", "manage_snapshots"],
          ["read", "indices_monitor", "manage", "index", "delete", "create_index"], ["aura-*"]),
      ]
    }
    func role(_ name: String, _ cluster: JSONValue, _ names: JSONValue, _ privileges: JSONValue) -> Asset {
      Asset(
        kind: .role, name: name,
        body: ["cluster": cluster, "indices": [["names": names, "privileges": privileges]], "metadata": meta])
    }
    let reader = role("aura_logs_reader", [], ["aura-*"], ["read", "view_index_metadata"])
    return [
      role("aura_writer", ["monitor"], patterns, ["create_doc", "auto_configure"]),
      Asset(
        kind: .role, name: reader.name,
        body: reader.body.merged([
          "applications": [
            [
              "application": "kibana-.kibana",
              "privileges": ["feature_discover.read", "feature_dashboard.read", "feature_visualize.read"],
              "resources": ["*"],
            ]
          ]
        ])),
      role(
        "aura_admin",
        [
          "monitor", "manage_index_templates", "manage_ilm", "manage_ingest_pipelines", "manage_slm",
          "create_snapshot", "monitor_snapshot", "manage_own_api_key",
        ], ["aura-*"],
        [
          "read", "view_index_metadata", "monitor", "maintenance", "manage", "manage_ilm", "create_index", "index",
          "delete", "delete_index",
        ]),
    ]
  }

  // MARK: Snapshots

  static func snapshotPolicy(_ flavour: ClusterClient.Flavour, repository: String) -> Asset {
    let config: JSONValue = [
      "indices": flavour == .elasticsearch ? ["aura-*"] : "aura-*", "ignore_unavailable": true,
      "include_global_state": false, "partial": false,
    ]
    let body: JSONValue =
      flavour == .elasticsearch
      ? [
        "schedule": "0 30 1 * * ?", "name": "<aura-snap-{now/d}>", "repository": .text(repository),
        "config": config, "retention": ["expire_after": "120d", "min_count": 7, "max_count": 200],
      ]
      : [
        "description": "nightly snapshots, managed by sluice",
        "creation": ["schedule": ["cron": ["expression": "30 1 * * *", "timezone": "UTC"]]],
        "deletion": ["condition": ["max_age": "120d", "min_count": 7, "max_count": 200]],
        "snapshot_config": config.merged(["repository": .text(repository)]),
      ]
    return Asset(kind: .snapshotPolicy, name: "aura-nightly", body: body)
  }
}
