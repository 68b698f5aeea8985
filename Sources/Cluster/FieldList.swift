//  Every field that Aura's applications, shippers and Sluice's filters write, with its type: the one list from which the
//  index templates are made. A filter that writes a field that is not here fails a test.

/// A field of the index families.
public struct IndexedField: Sendable {
  /// The part of the templates that it stands in.
  public enum Part: String, Sendable, CaseIterable { case common, web, security, performance, metrics }

  public enum Kind: Sendable {
    /// Exact text up to so many bytes; longer ones are kept but not searched.
    case keyword(Int)
    /// Exact text that is searched in words too.
    case words(Int)
    /// Words; with an exact form up to so many bytes where it is given.
    case text(Int?)
    case number(String)
    case date
    /// A date without which the document is refused.
    case time
    case boolean, address, place
    /// Kept, not searched.
    case kept
    /// Any names below it, without a field for each.
    case free
    /// Any names below it, each a field.
    case open
  }

  public let path: String
  public let kind: Kind
  public let part: Part
}

public enum FieldList {
  public static let all: [IndexedField] = common + web + security + performance + metrics

  private static func fields(_ part: IndexedField.Part, _ list: [(String, IndexedField.Kind)]) -> [IndexedField] {
    list.map { IndexedField(path: $0.0, kind: $0.1, part: part) }
  }
  private static let name = IndexedField.Kind.keyword(256)

  private static let common = fields(
    .common,
    [
      ("@timestamp", .time), ("@version", .keyword(16)), ("message", .text(nil)), ("levelname", .keyword(32)),
      ("levelno", .number("short")), ("logger", name), ("module", name), ("funcName", name),
      ("lineno", .number("integer")), ("pathname", .keyword(1024)), ("process.pid", .number("long")),
      ("process.name", name), ("thread_name", name), ("correlation_id", name), ("user_id", name), ("username", name),
      ("session_id", name), ("environment", .keyword(64)), ("service.name", name), ("service.version", .keyword(64)),
      ("service.environment", .keyword(64)), ("service.type", name), ("service.address", name), ("hostname", name),
      ("error_message", .text(512)), ("error_type", name), ("exc_info", .text(nil)), ("stack_trace", .text(nil)),
      ("task_name", name), ("task_id", .keyword(128)), ("task_duration", .number("float")),
      ("task_status", .keyword(32)), ("tags", name), ("type", name), ("extra", .free), ("fields", .free),
      ("host.name", name), ("host.hostname", name), ("host.ip", .address), ("host.mac", name),
      ("host.architecture", name), ("host.id", name), ("host.containerized", .boolean), ("host.os", .open),
      ("agent.name", name), ("agent.type", name), ("agent.version", name), ("agent.id", name),
      ("agent.ephemeral_id", name), ("agent.hostname", name), ("container.id", name), ("container.name", name),
      ("container.image.name", name), ("log.offset", .number("long")), ("log.flags", name), ("log.level", .keyword(32)),
      ("log.original", .kept),
      ("log.file.path", .keyword(1024)), ("log.file.inode", name), ("log.file.device_id", name),
      ("input.type", name), ("event.dataset", name), ("event.module", name), ("event.category", name),
      ("event.action", name), ("event.outcome", name), ("event.duration", .number("long")), ("event.ingested", .date),
      ("event.created", .date), ("event.timezone", name), ("event.original", .kept), ("ecs.version", name),
      ("program", name), ("pid", name), ("priority", name), ("logsource", name), ("facility", name),
      ("syslog_facility", name), ("syslog_facility_code", .number("short")), ("syslog_severity", name),
      ("syslog_severity_code", .number("short")),
    ])

  private static let web = fields(
    .web,
    [
      ("client_ip", .address), ("method", .keyword(16)), ("path", .words(2048)), ("query_string", .keyword(2048)),
      ("status_code", .number("short")), ("request_duration", .number("float")), ("response_size", .number("long")),
      ("bytes", .number("long")), ("httpversion", .keyword(16)), ("ident", name), ("auth", name),
      ("rawrequest", .keyword(2048)), ("server_name", name), ("server_port", .number("integer")), ("http_host", name),
      ("upstream", .keyword(2048)),
      ("referer", .keyword(2048)), ("referrer", .keyword(2048)), ("performance_category", .keyword(32)),
      ("slow_request", .boolean), ("db_heavy", .boolean), ("db_queries", .number("integer")),
      ("db_time", .number("float")), ("cache_hits", .number("integer")), ("cache_misses", .number("integer")),
      ("user_agent.original", .words(1024)), ("user_agent.name", name), ("user_agent.version", name),
      ("user_agent.major", name), ("user_agent.minor", name), ("user_agent.patch", name),
      ("user_agent.device.name", name), ("user_agent.os.name", name), ("user_agent.os.version", name),
      ("user_agent.os.full", name), ("geoip.ip", .address), ("geoip.continent_code", name),
      ("geoip.country_code2", name), ("geoip.country_code3", name), ("geoip.country_iso_code", name),
      ("geoip.country_name", name), ("geoip.region_code", name), ("geoip.region_iso_code", name),
      ("geoip.region_name", name), ("geoip.city_name", name), ("geoip.postal_code", name), ("geoip.timezone", name),
      ("geoip.dma_code", .number("integer")), ("geoip.latitude", .number("half_float")),
      ("geoip.longitude", .number("half_float")), ("geoip.location", .place), ("geoip.asn", .number("long")),
      ("geoip.as_org", name),
    ])

  private static let security = fields(
    .security,
    [
      ("security_event", .boolean), ("security_event_type", .keyword(128)), ("threat_type", .keyword(128)),
      ("threat_types", .keyword(128)), ("threat_score", .number("float")), ("threat_level", .keyword(32)),
      ("threat_indicators", name), ("auth_result", .keyword(32)), ("auth_method", .keyword(64)),
      ("failed_attempts", .number("integer")), ("blocked", .boolean),
    ])

  private static let performance = fields(
    .performance,
    [
      ("alert_type", name), ("threshold", .number("float")), ("observed_value", .number("float")),
      ("slow_query", .text(nil)),
    ])

  private static let metrics = fields(
    .metrics,
    [
      ("metric_name", name), ("metric_type", .keyword(32)), ("metric_value", .number("double")),
      ("metric_unit", .keyword(32)), ("cpu_percent", .number("float")), ("memory_percent", .number("float")),
      ("memory_used_bytes", .number("long")), ("memory_total_bytes", .number("long")),
      ("disk_percent", .number("float")), ("disk_used_bytes", .number("long")), ("disk_total_bytes", .number("long")),
      ("load_1m", .number("float")), ("load_5m", .number("float")), ("load_15m", .number("float")),
      ("network_in_bytes", .number("long")), ("network_out_bytes", .number("long")),
      ("open_files", .number("integer")), ("threads", .number("integer")), ("metricset.name", name),
      ("metricset.period", .number("integer")), ("system", .open), ("docker", .open),
    ])

  /// Whether a field of a document has its place: it is listed, or stands below one that takes any names.
  public static func knows(_ path: String) -> Bool {
    all.contains { field in
      if field.path == path { return true }
      // A point's own parts.
      if case .place = field.kind { return path.hasPrefix(field.path + ".") }
      switch field.kind {
      case .free, .open: return path.hasPrefix(field.path + ".")
      default: return false
      }
    }
  }
}

extension IndexedField {
  /// The field's mapping.
  func mapping(_ flavour: ClusterClient.Flavour) -> JSONValue {
    switch kind {
    case .keyword(let limit): ["type": "keyword", "ignore_above": .number(String(limit))]
    case .words(let limit):
      [
        "type": "keyword", "ignore_above": .number(String(limit)),
        "fields": ["text": ["type": "text", "norms": false]],
      ]
    case .text(nil): ["type": "text", "norms": false]
    case .text(let limit?):
      [
        "type": "text", "norms": false,
        "fields": ["keyword": ["type": "keyword", "ignore_above": .number(String(limit))]],
      ]
    case .number("short") where path == "status_code":
      ["type": "short", "fields": ["keyword": ["type": "keyword"]]]
    case .number(let type): ["type": .text(type)]
    case .date: ["type": "date"]
    case .time: ["type": "date", "ignore_malformed": false]
    case .boolean: ["type": "boolean"]
    case .address: ["type": "ip"]
    case .place: ["type": "geo_point"]
    case .kept: ["type": "keyword", "index": false, "doc_values": false]
    case .free:
      flavour == .opensearch ? ["type": "flat_object"] : ["type": "flattened", "ignore_above": 1024]
    case .open: ["type": "object", "dynamic": "true"]
    }
  }
}
