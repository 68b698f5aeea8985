//  The `syslog_pri` filter: the number in the angle brackets of a syslog line, as facility and severity.

internal import Config
internal import Events
internal import PluginKit

struct SyslogPriority: FilterPlugin {
  static let manual = Manual(
    name: "syslog_pri",
    summary: "Splits a syslog priority into facility and severity.",
    details: """
      facility = priority ÷ 8, severity = priority mod 8. An event without the field counts as 13 (user-level, notice). The \
      results go to `syslog_facility_code`, `syslog_severity_code`, `syslog_facility` and `syslog_severity`, or with \
      `ecs_compatibility` to `[log][syslog][facility][code]` and its neighbours.
      """,
    examples: [
      Example(
        "A priority as text", config: "{}", input: #"{"syslog_pri": "165"}"#,
        output: """
          {"syslog_pri": "165", "syslog_facility_code": 20, "syslog_severity_code": 5, "syslog_facility": "local4", \
          "syslog_severity": "notice"}
          """)
    ],
    failureTags: ["_syslogpriparsefailure"])

  struct Settings: PluginSettings {
    var fieldName: FieldReference?
    var useLabels = true
    var facilityLabels = [
      "kernel", "user-level", "mail", "daemon", "security/authorization", "syslogd", "line printer", "network news",
      "uucp",
      "clock", "security/authorization", "ftp", "ntp", "log audit", "log alert", "clock", "local0", "local1", "local2",
      "local3", "local4", "local5", "local6", "local7",
    ]
    var severityLabels = ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"]

    static let options: [Option<Settings>] = [
      .option(
        "syslog_pri_field_name", \.fieldName, "The field with the priority.",
        defaultText: "syslog_pri, or [log][syslog][priority] with ecs_compatibility"),
      .option("use_labels", \.useLabels, "Whether names are written beside the numbers."),
      .option("facility_labels", \.facilityLabels, "The names of the facilities, from 0."),
      .option("severity_labels", \.severityLabels, "The names of the severities, from 0."),
    ]
  }

  private let source: FieldReference
  private let facilityCode, severityCode, facilityName, severityName: FieldReference
  private let usesLabels: Bool
  private let facilities, severities: [Template]

  init(_ settings: Settings, _ context: FilterContext) {
    let isECS = context.ecs.isOn
    source = settings.fieldName ?? (isECS ? .known("[log][syslog][priority]") : .known("syslog_pri"))
    facilityCode = isECS ? .known("[log][syslog][facility][code]") : .known("syslog_facility_code")
    severityCode = isECS ? .known("[log][syslog][severity][code]") : .known("syslog_severity_code")
    facilityName = isECS ? .known("[log][syslog][facility][name]") : .known("syslog_facility")
    severityName = isECS ? .known("[log][syslog][severity][name]") : .known("syslog_severity")
    usesLabels = settings.useLabels
    facilities = settings.facilityLabels.map { Template($0) }
    severities = settings.severityLabels.map { Template($0) }
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: SyslogPriority
    init(_ plugin: SyslogPriority) { self.plugin = plugin }

    func process(_ batch: FilterBatch) { batch.forEach { handle($0) } }

    private func handle(_ event: Event) -> Bool {
      let priority = number(event.value(plugin.source))
      let severity = Int(priority & 7)
      let facility = Int(priority >> 3)
      guard event.write(plugin.facilityCode, .integer(facility)), event.write(plugin.severityCode, .integer(severity))
      else { return false }
      guard plugin.usesLabels else { return true }
      guard plugin.facilities.indices.contains(facility) else {
        event.addTag("_syslogpriparsefailure")
        return true
      }
      _ = event.write(plugin.facilityName, .text(staying: plugin.facilities[facility].constantBytes))
      if plugin.severities.indices.contains(severity) {
        _ = event.write(plugin.severityName, .text(staying: plugin.severities[severity].constantBytes))
      }
      return true
    }

    private func number(_ value: Value?) -> Int64 {
      guard let value, !value.isNull, value.boolean != false else { return 13 }
      switch value.kind {
      case .integer: return value.integer ?? 0
      case .double: return value.double.flatMap { Int64(exactly: $0.rounded(.towardZero)) } ?? 0
      case .text: return value.text.map(leadingInteger) ?? 0
      case .list: return value.first.map { number($0) } ?? 0
      default: return 0
      }
    }

    private func leadingInteger(_ text: UnsafeRawBufferPointer) -> Int64 {
      var i = 0
      while i < text.count, isSpace(text[i]) { i += 1 }
      var isNegative = false
      if i < text.count, text[i] == 43 || text[i] == 45 {
        isNegative = text[i] == 45
        i += 1
      }
      var result: Int64 = 0
      while i < text.count, text[i] &- 48 < 10, result < 1_000_000_000_000 {
        result = result * 10 + Int64(text[i] - 48)
        i += 1
      }
      return isNegative ? -result : result
    }
  }
}
