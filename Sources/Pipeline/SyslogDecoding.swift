//  Syslog messages to events: the fields of RFC 3164 by the filters `grok` and `date`, then the priority taken apart.
//
//  The filters are built from the descriptor, so that a message is parsed as its input wanted it when it came. They are
//  handed in from outside, since nothing here knows a filter by name but these two.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

/// One decoder's parser. Not thread-safe.
final class SyslogParser {
  private let grok: any Filter
  private let date: any Filter
  private let isECS: Bool
  private let failureTag = Array("_grokparsefailure_sysloginput".utf8)
  private let priority: FieldReference
  private let facility: FieldReference
  private let severity: FieldReference
  private let facilityName: FieldReference
  private let severityName: FieldReference
  private let facilities: [ValueBits]
  private let severities: [ValueBits]
  private let serviceType: ValueBits?
  private let memory = StableBytes(0)

  private static let timestamp = FieldReference.known("timestamp")
  private static let timestamp8601 = FieldReference.known("timestamp8601")
  private static let service = FieldReference.known("[service][type]")
  /// A user's notice, what RFC 3164 section 4.3.3 has for messages without a priority.
  private static let unknownPriority: Int64 = 13

  /// - Returns: Nil where the filters are missing or refuse the descriptor's options.
  init?(_ description: RecordDescription, filters: [String: FilterKind]) {
    isECS = description.ecs.isOn
    let field = isECS ? "[log][syslog][priority]" : "priority"
    let pattern = description.option("grok_pattern") ?? "<%{NONNEGINT:\(field):int}>%{SYSLOGLINE}"
    let source = description.option("syslog_field") ?? "message"
    let formats = ["timestamp", "MMM dd HH:mm:ss", "MMM  d HH:mm:ss", "MMM d HH:mm:ss", "ISO8601"]
    var dateOptions: [(String, YAMLNode)] = [("match", list(formats))]
    for name in ["timezone", "locale"] {
      if let value = description.option(name) { dateOptions.append((name, scalar(value))) }
    }
    if isECS { dateOptions.append(("remove_field", list(["timestamp"]))) }
    let grokOptions = [
      ("match", map([(source, scalar(pattern))])), ("overwrite", list(["message"])),
      ("tag_on_failure", list(["_grokparsefailure_sysloginput"])),
    ]
    guard let grok = build("grok", grokOptions, description, filters),
      let date = build("date", dateOptions, description, filters)
    else { return nil }
    self.grok = grok.makeFilter()
    self.date = date.makeFilter()
    dateSuccess = date.success
    priority = .known(isECS: isECS, "[log][syslog][priority]", "priority")
    facility = .known(isECS: isECS, "[log][syslog][facility][code]", "facility")
    severity = .known(isECS: isECS, "[log][syslog][severity][code]", "severity")
    facilityName = .known(isECS: isECS, "[log][syslog][facility][name]", "facility_label")
    severityName = .known(isECS: isECS, "[log][syslog][severity][name]", "severity_label")
    let memory = self.memory
    func labels(_ name: String, _ standard: [String]) -> [ValueBits] {
      if description.option("use_labels") == "false" { return [] }
      let texts = description.option(name).map {
        $0.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
      }
      return (texts ?? standard).map { text in
        Array(text.utf8).withUnsafeBytes { .text(staying: memory.copy($0)) }
      }
    }
    facilities = labels("facility_labels", SyslogParser.facilityLabels)
    severities = labels("severity_labels", SyslogParser.severityLabels)
    let type = isECS ? description.option("service_type") ?? "system" : ""
    serviceType = type.isEmpty ? nil : Array(type.utf8).withUnsafeBytes { .text(staying: memory.copy($0)) }
  }

  private let dateSuccess: SuccessActions

  static let facilityLabels =
    [
      "kernel", "user-level", "mail", "system", "security/authorization", "syslogd", "line printer", "network news",
      "UUCP", "clock", "security/authorization", "FTP", "NTP", "log audit", "log alert", "clock",
    ] + (0...7).map { "local\($0)" }
  static let severityLabels = [
    "Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug",
  ]

  /// Parses the event's text and sets the fields.
  func parse(_ event: Event, in batch: EventBatch) {
    run(grok, .none, event, batch)
    let isMatch = !hasFailed(event)
    let number = isMatch ? priorityNumber(event) : SyslogParser.unknownPriority
    try? event.set(priority, .integer(number))
    try? event.set(facility, .integer(number >> 3))
    try? event.set(severity, .integer(number & 7))
    if number >> 3 < facilities.count { try? event.set(facilityName, facilities[Int(number >> 3)]) }
    if number & 7 < severities.count { try? event.set(severityName, severities[Int(number & 7)]) }
    if isMatch {
      if let time = event.value(SyslogParser.timestamp8601) { try? event.set(SyslogParser.timestamp, time.bits) }
      if event.contains(SyslogParser.timestamp) { run(date, dateSuccess, event, batch) }
    }
    if let serviceType, !event.contains(SyslogParser.service) { try? event.set(SyslogParser.service, serviceType) }
  }

  private func run(_ filter: any Filter, _ success: SuccessActions, _ event: Event, _ batch: EventBatch) {
    var index = event.index
    withUnsafePointer(to: &index) {
      filter.process(
        FilterBatch(events: batch, selection: UnsafeBufferPointer(start: $0, count: 1), success: success))
    }
  }

  private func hasFailed(_ event: Event) -> Bool {
    guard let tags = event.value(.tags) else { return false }
    return failureTag.withUnsafeBytes { tag in
      if let text = tags.text { return equal(text, tag) }
      return tags.elements.contains { $0.text.map { equal($0, tag) } ?? false }
    }
  }

  private func priorityNumber(_ event: Event) -> Int64 {
    guard let value = event.value(priority) else { return SyslogParser.unknownPriority }
    let number = value.integer ?? value.text.flatMap { Int64(String(decoding: $0, as: UTF8.self)) }
    guard let number, number >= 0 else { return SyslogParser.unknownPriority }
    return number
  }
}

extension FieldReference {
  fileprivate static func known(isECS: Bool, _ ecs: StaticString, _ legacy: StaticString) -> FieldReference {
    known(isECS ? ecs : legacy)
  }
}

private let nowhere = SourcePosition(file: "descriptor")

private func scalar(_ text: String) -> YAMLNode { YAMLNode(.scalar(text), nowhere, style: .doubleQuoted) }
private func list(_ texts: [String]) -> YAMLNode { YAMLNode(.list(texts.map(scalar)), nowhere) }
private func map(_ entries: [(String, YAMLNode)]) -> YAMLNode {
  YAMLNode(.map(entries.map { YAMLEntry(key: $0.0, keyPosition: nowhere, value: $0.1) }), nowhere)
}

private func build(
  _ name: String, _ options: [(String, YAMLNode)], _ description: RecordDescription, _ filters: [String: FilterKind]
) -> BuiltFilter? {
  let problems = Problems()
  let services = Services(resolves: true, folder: "/", dataFolder: "/", configFolder: "/")
  let context = FilterContext(
    pipelineID: "decoding", stepID: description.inputID, position: nowhere, ecs: description.ecs, services: services)
  let built = filters[name]?.build(map(options), nowhere, context, problems)
  if built == nil {
    Log.error(
      "decode.syslog", "Syslog messages cannot be parsed; they keep their text.",
      [
        "input": .text(description.inputID),
        "reason": .text(problems.sorted.first?.text ?? "there is no filter '\(name)'"),
      ])
  }
  return built
}
