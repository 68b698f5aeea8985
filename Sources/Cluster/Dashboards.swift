//  The dashboards for Kibana: which panels there are, what each shows of which fields.

/// A figure of a panel.
struct PanelMetric {
  var operation: String
  var field: String?
  var label: String
  /// Only documents that match this count.
  var filter: String?
  var percentile: Int?
  /// `s`, `m`: as a rate.
  var rate: String?
  var isRight = false
  /// `bytes`, `percent`.
  var format: String?

  static func count(_ label: String = "Events", filter: String? = nil, rate: String? = nil) -> PanelMetric {
    PanelMetric(operation: "count", label: label, filter: filter, rate: rate)
  }
  static func percentile(_ field: String, _ percentile: Int) -> PanelMetric {
    PanelMetric(operation: "percentile", field: field, label: "p\(percentile) of \(field)", percentile: percentile)
  }
  static func of(
    _ operation: String, _ field: String, _ label: String? = nil, isRight: Bool = false, format: String? = nil
  ) -> PanelMetric {
    PanelMetric(
      operation: operation, field: field, label: label ?? "\(operation) of \(field)", isRight: isRight, format: format)
  }
}

/// How the documents of a panel are divided.
enum PanelSplit {
  case terms(String, Int)
  case filters([(label: String, query: String)])
  case ranges(String, [(from: Int, to: Int)])
}

struct Panel {
  enum Shape {
    case metric
    /// Kibana's name of the series.
    case series(String)
    case donut, table, heatmap, gauge
    /// The documents themselves, by these columns.
    case documents([String])
  }
  var title: String
  var shape: Shape
  var width: Int
  var height: Int
  var view: String
  var query: String
  var overTime = false
  var split: PanelSplit?
  var metrics: [PanelMetric] = [.count()]
}

struct Dashboard {
  var id: String
  var title: String
  var view: String
  var from: String
  var refreshSeconds: Int
  /// Fields that can be chosen from.
  var controls: [String]
  var panels: [Panel]
}

enum Dashboards {
  static let views =
    Assets.families.map { (id: $0, title: $0 + "-*") }
    + [(id: "aura-all", title: Assets.families.map { $0 + "-*" }.joined(separator: ","))]
  static let errors = "levelname: (ERROR or CRITICAL)"

  static let all = [overview, security, performance, metrics]

  private static func number(
    _ title: String, _ query: String, _ metrics: PanelMetric..., view: String, width: Int = 12
  ) -> Panel {
    Panel(title: title, shape: .metric, width: width, height: 6, view: view, query: query, metrics: metrics)
  }
  private static func chart(
    _ title: String, _ series: String, _ query: String, view: String, overTime: Bool = true,
    by split: PanelSplit? = nil,
    _ metrics: PanelMetric...
  ) -> Panel {
    Panel(
      title: title, shape: .series(series), width: 24, height: 14, view: view, query: query, overTime: overTime,
      split: split, metrics: metrics.isEmpty ? [.count()] : metrics)
  }
  private static func table(
    _ title: String, _ query: String, view: String, by field: String, _ size: Int, _ metrics: PanelMetric...
  ) -> Panel {
    Panel(
      title: title, shape: .table, width: 24, height: 15, view: view, query: query, split: .terms(field, size),
      metrics: metrics)
  }
  private static func documents(_ title: String, _ query: String, view: String, _ columns: String...) -> Panel {
    Panel(title: title, shape: .documents(columns), width: 48, height: 18, view: view, query: query)
  }

  private static let overview: Dashboard = {
    let logs = "aura-logs"
    return Dashboard(
      id: "aura-application-overview", title: "Aura – Application Overview", view: logs, from: "now-24h",
      refreshSeconds: 30, controls: ["levelname", "logger", "host.name"],
      panels: [
        number("Requests", "request_duration: *", .count("Requests"), view: logs, width: 8),
        number("Error rate", "", .count("Errors", filter: errors), .count("All"), view: logs, width: 8),
        number("p95 response time", "request_duration: *", .percentile("request_duration", 95), view: logs, width: 8),
        number("Active users", "user_id: *", .of("unique_count", "user_id", "Users"), view: logs, width: 8),
        number("5xx responses", "status_code >= 500", .count("Responses"), view: logs, width: 8),
        number("Failed tasks", "task_status: failed", .count("Tasks"), view: logs, width: 8),
        chart("Log volume by level", "bar_stacked", "", view: logs, by: .terms("levelname", 6)),
        chart(
          "Request volume", "area", "method: *", view: logs, by: .terms("method", 6), .count("Requests", rate: "m")),
        chart(
          "Response time", "line", "request_duration: *", view: logs, .of("median", "request_duration"),
          .percentile("request_duration", 95), .percentile("request_duration", 99)),
        chart(
          "Status classes", "bar_percentage_stacked", "status_code: *", view: logs,
          by: .filters([
            ("2xx", "status_code >= 200 and status_code < 300"), ("3xx", "status_code >= 300 and status_code < 400"),
            ("4xx", "status_code >= 400 and status_code < 500"), ("5xx", "status_code >= 500"),
          ])),
        table(
          "Top paths", "path: *", view: logs, by: "path", 15, .count(), .of("average", "request_duration"),
          .count("5xx", filter: "status_code >= 500")),
        chart("Errors by logger", "bar_horizontal", errors, view: logs, overTime: false, by: .terms("logger", 10)),
        Panel(
          title: "User activity", shape: .heatmap, width: 24, height: 15, view: logs, query: "user_id: *",
          overTime: true, split: .terms("user_id", 15)),
        table(
          "Celery tasks", "task_name: *", view: logs, by: "task_name", 10, .count(), .of("average", "task_duration"),
          .percentile("task_duration", 95), .count("Failed", filter: "task_status: failed")),
        documents("Latest errors", errors, view: logs, "levelname", "logger", "message", "correlation_id"),
      ])
  }()

  private static let security: Dashboard = {
    let view = "aura-security"
    return Dashboard(
      id: "aura-security-events", title: "Aura – Security", view: view, from: "now-24h", refreshSeconds: 30,
      controls: ["threat_type", "client_ip"],
      panels: [
        number("Security events", "security_event: true", .count(), view: view),
        number(
          "Authentication failures", "threat_type: \"authentication_failed\"", .count("Failures"), view: view),
        number("Highest threat score", "threat_score: *", .of("max", "threat_score", "Score"), view: view),
        number("Sources", "security_event: true", .of("unique_count", "client_ip", "Addresses"), view: view),
        chart("Events over time", "bar_stacked", "security_event: true", view: view, by: .terms("threat_type", 8)),
        Panel(
          title: "Threat types", shape: .donut, width: 24, height: 14, view: view, query: "threat_type: *",
          split: .terms("threat_type", 10)),
        chart(
          "Score distribution", "bar", "threat_score: *", view: view, overTime: false,
          by: .ranges("threat_score", [(0, 30), (30, 60), (60, 80), (80, 101)])),
        chart(
          "Authentication outcome", "area_stacked", "auth_result: *", view: view, by: .terms("auth_result", 5)),
        table(
          "Top offending addresses", "security_event: true", view: view, by: "client_ip", 20, .count(),
          .of("max", "threat_score"), .of("unique_count", "user_id"), .of("last_value", "geoip.country_name")),
        chart(
          "401 and 403 by path", "bar_horizontal", "status_code: (401 or 403)", view: "aura-logs", overTime: false,
          by: .terms("path", 10)),
        table("Access by place", "client_ip: *", view: view, by: "geoip.country_name", 20, .count()),
        table(
          "Targeted users", "threat_type: *", view: view, by: "user_id", 15, .count(),
          .of("unique_count", "client_ip")),
        table(
          "Suspicious user agents", "threat_score >= 50", view: view, by: "user_agent.original", 15, .count()),
        documents(
          "Latest security events", "security_event: true", view: view, "threat_type", "threat_score", "client_ip",
          "user_id", "path", "message"),
      ])
  }()

  private static let performance: Dashboard = {
    let logs = "aura-logs"
    return Dashboard(
      id: "aura-performance", title: "Aura – Performance", view: logs, from: "now-6h", refreshSeconds: 30,
      controls: ["path", "host.name"],
      panels: [
        number("Slow requests (> 2 s)", "request_duration > 2", .count("Requests"), view: logs),
        number("p99 response time", "request_duration: *", .percentile("request_duration", 99), view: logs),
        number("Average DB time", "db_time: *", .of("average", "db_time", "Seconds"), view: logs),
        number("Queries per request", "db_queries: *", .of("average", "db_queries", "Queries"), view: logs),
        chart(
          "Duration percentiles", "line", "request_duration: *", view: logs, .percentile("request_duration", 50),
          .percentile("request_duration", 90), .percentile("request_duration", 95),
          .percentile("request_duration", 99)),
        chart(
          "Slow against fast", "bar_percentage_stacked", "performance_category: *", view: logs,
          by: .terms("performance_category", 5)),
        chart(
          "DB time and queries", "line", "db_time: *", view: logs, .of("average", "db_time"),
          .of("average", "db_queries", isRight: true)),
        table(
          "N+1 suspects", "db_queries > 20 or db_time > 1", view: logs, by: "path", 15, .count(),
          .of("max", "db_queries"), .of("average", "db_time")),
        table(
          "Slowest paths", "request_duration: *", view: logs, by: "path", 15, .percentile("request_duration", 95),
          .of("max", "request_duration"), .count()),
        chart(
          "Cache hits", "area", "cache_hits: *", view: logs, .of("sum", "cache_hits"), .of("sum", "cache_misses")),
        chart(
          "CPU", "line", "cpu_percent: *", view: "aura-metrics", by: .terms("host.name", 10),
          .of("average", "cpu_percent")),
        chart(
          "Memory", "line", "memory_percent: *", view: "aura-metrics", by: .terms("host.name", 10),
          .of("average", "memory_percent")),
        chart(
          "Task durations", "bar_horizontal", "task_duration: *", view: logs, overTime: false,
          by: .terms("task_name", 10), .percentile("task_duration", 95)),
        documents(
          "Slow request log", "request_duration > 2", view: logs, "method", "path", "status_code", "request_duration",
          "db_queries", "db_time", "user_id", "correlation_id"),
      ])
  }()

  private static let metrics: Dashboard = {
    let view = "aura-metrics"
    let hosts = PanelSplit.terms("host.name", 10)
    return Dashboard(
      id: "aura-system-metrics", title: "Aura – System Metrics", view: view, from: "now-1h", refreshSeconds: 10,
      controls: ["host.name", "container.name"],
      panels: [
        number("Hosts reporting", "", .of("unique_count", "host.name", "Hosts"), view: view),
        number("CPU now", "cpu_percent: *", .of("last_value", "cpu_percent", "%"), view: view),
        Panel(
          title: "Memory now", shape: .gauge, width: 12, height: 6, view: view, query: "memory_percent: *",
          metrics: [.of("last_value", "memory_percent", "%")]),
        number("Fullest disk", "disk_percent: *", .of("max", "disk_percent", "%"), view: view),
        chart("CPU over time", "line", "cpu_percent: *", view: view, by: hosts, .of("average", "cpu_percent")),
        chart(
          "Memory over time", "area", "memory_used_bytes: *", view: view, by: hosts,
          .of("average", "memory_used_bytes", format: "bytes")),
        chart(
          "Load", "line", "load_1m: *", view: view, .of("average", "load_1m"), .of("average", "load_5m"),
          .of("average", "load_15m")),
        chart(
          "Disk use", "bar_horizontal", "disk_percent: *", view: view, overTime: false, by: hosts,
          .of("last_value", "disk_percent")),
        chart(
          "Network", "line", "network_in_bytes: *", view: view, .of("max", "network_in_bytes", format: "bytes"),
          .of("max", "network_out_bytes", format: "bytes")),
        chart(
          "Container CPU", "line", "container.name: *", view: view, by: .terms("container.name", 10),
          .of("average", "cpu_percent")),
        chart(
          "Container memory", "bar_horizontal", "container.name: *", view: view, overTime: false,
          by: .terms("container.name", 10), .of("last_value", "memory_used_bytes", format: "bytes")),
        chart("Ingest rate", "area", "", view: "aura-all", by: .terms("_index", 8), .count("Events", rate: "s")),
        chart(
          "Ingest lag", "line", "metric_name: \"pipeline.lag_seconds\"", view: view, .of("max", "metric_value")),
        chart(
          "Queue, retries, dead letters", "line", "metric_name: pipeline.*", view: view,
          by: .terms("metric_name", 10), .of("max", "metric_value")),
      ])
  }()

  /// The guide's example queries, each a saved search.
  static let searches: [(id: String, title: String, query: String, columns: [String])] = [
    ("errors", "Aura: errors", errors, ["levelname", "logger", "message", "correlation_id"]),
    (
      "slow-requests", "Aura: slow requests", "request_duration > 2.0",
      ["method", "path", "request_duration", "db_queries", "user_id"]
    ),
    (
      "security", "Aura: security events", "security_event: true",
      ["threat_type", "threat_score", "client_ip", "user_id", "path"]
    ),
    (
      "authentication", "Aura: failed authentication", "threat_type: \"authentication_failed\"",
      ["client_ip", "user_id", "path", "message"]
    ),
    ("database", "Aura: heavy on the database", "db_queries > 20 or db_time > 1", ["path", "db_queries", "db_time"]),
    ("tasks", "Aura: failed tasks", "task_status: failed", ["task_name", "task_id", "task_duration", "error_message"]),
  ]
}
