//  The names of all settings: ours, and those of Logstash that mean nothing here and are accepted with one line, so that
//  a logstash.yml carries over.

import Diagnostics

/// The settings of Logstash that are accepted and mean nothing here, for the reference.
public let ignoredSettings: [(name: String, reason: String)] = SettingNames.ignoredForReference

enum SettingNames {
  static let daemon = Set(DaemonSettings.options.map(\.name))
  static let pipeline = Set(PipelineSettings.options.map(\.name))

  static let byEnvironment: [String: String] = Dictionary(
    daemon.map { name in
      ("SLUICE_" + String(name.uppercased().map { $0 == "." ? "_" : $0 }), name)
    }, uniquingKeysWith: { first, _ in first })

  /// Every dotted prefix of a known name: `queue`, `api.http`.
  private static let groups: Set<String> = {
    var result: Set<String> = []
    for name in Array(daemon) + Array(ignored.keys) {
      var parts = name.split(separator: ".")
      while parts.count > 1 {
        parts.removeLast()
        result.insert(parts.joined(separator: "."))
      }
    }
    return result
  }()

  static func isKnown(_ name: String) -> Bool { daemon.contains(name) || ignoredReason(name) != nil }
  static func isGroup(_ name: String) -> Bool { groups.contains(name) }
  /// No setting of ours takes a map; a Logstash setting that is passed over keeps its own, unread.
  static func takesMap(_ name: String) -> Bool {
    ignoredPrefixes.keys.contains(name + ".") || ignored[name] != nil && !isGroup(name)
  }

  /// Why a Logstash setting has no meaning here; nil for names that Logstash does not know either.
  static func ignoredReason(_ name: String) -> String? {
    if let reason = ignored[name] { return reason }
    return ignoredPrefixes.first { name.hasPrefix($0.key) || name + "." == $0.key }?.value
  }

  fileprivate static let ignoredForReference: [(name: String, reason: String)] =
    (ignored.map { ($0.key, $0.value) } + ignoredPrefixes.map { ($0.key + "*", $0.value) }).sorted { $0.0 < $1.0 }

  private static let ignoredPrefixes = [
    "xpack.": "there are no Elastic licence features here",
    "otel.": "metrics are at /metrics for Prometheus",
    "var.": "a module is a pipeline file here",
    "slowlog.": "/metrics and `/_node/stats` show what is slow",
    "keystore.": "secrets come from ${file:…} and ${credential:…}",
    "api.auth.basic.password_policy.": "the password is taken as it is",
  ]

  private static let ignored = [
    "modules": "a module is a pipeline file here",
    "api.environment": "it is not visible in any answer",
    "pipeline.id": "each file names its own pipeline",
    "pipeline.plugin_classloaders": "there is no Java here",
    "pipeline.buffer.type": "there is no Java here",
    "pipeline.separate_logs": "the log goes to standard error",
    "pipeline.system": "no listing hides pipelines",
    "pipeline.recoverable": "a pipeline does not end by an event",
    "pipeline.reloadable": "every pipeline is",
    "pipeline.unsafe_shutdown": "`shutdown.timeout` bounds the stop",
    "pipeline.batch.output_chunking.growth_threshold_factor": "outputs cut requests by size",
    "pipeline.batch.metrics.sampling_mode": "batch sizes are always counted",
    "queue.checkpoint.acks": "each release is noted with the next sync",
    "queue.checkpoint.writes": "everything is synced before it is acknowledged",
    "queue.checkpoint.interval": "everything is synced before it is acknowledged",
    "queue.checkpoint.retry": "a failing sync is tried again",
    "dead_letter_queue.flush_interval": "dead letters are synced at once",
    "dead_letter_queue.flush_check_interval": "dead letters are synced at once",
    "path.logs": "the log goes to standard error",
    "path.settings": "`sluice run -c FILE` names the settings file",
    "path.plugins": "every plugin is built in",
    "path.config": "pipelines are YAML files in `path.pipelines`",
    "config.string": "pipelines are YAML files in `path.pipelines`",
    "config.test_and_exit": "`sluice check` does it",
    "config.debug": "`sluice check` and `sluice try` show what a pipeline does",
    "config.support_escapes": "YAML has its own escapes",
    "config.field_reference.escape_style": "names with brackets cannot be referenced",
    "log.format.json.fix_duplicate_message_fields": "the log has no such fields",
    "metric.collect": "metrics are always collected",
    "ssl.reload.automatic": "certificates are read anew by a reload",
    "allow_superuser": "the service runs as a user of its own",
    "event_api.tags.illegal": "illegal tags move to `_tags`",
    "monitoring.cluster_uuid": "there is no Elastic licence feature here",
    "http.host": "it is `api.http.host`",
    "http.port": "it is `api.http.port`",
    "http.environment": "it is not visible in any answer",
  ]
}
