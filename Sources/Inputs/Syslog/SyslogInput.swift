//  The `syslog` input: RFC 3164 over UDP and TCP on one port. Here messages are only cut; they are parsed when they are
//  decoded, by what the descriptor says.

internal import Config
internal import Diagnostics
internal import Net
internal import PluginKit

struct SyslogInput: InputPlugin {
  static let manual = Manual(
    name: "syslog", summary: "Takes syslog messages (RFC 3164) over UDP and TCP on one port.",
    details: """
      A datagram is a message; over TCP a line is one, or a frame that says its length (RFC 6587). Priority, time, host, \
      program and process id become fields. A message of another form keeps its text, is tagged and counts as priority 13, \
      a user's notice.
      """,
    examples: [
      Example(
        "A message with priority, host and program", config: "{ port: 5140 }",
        input: "<34>Oct 11 22:14:15 web-1 su: order placed",
        output: #"{"message": "order placed", "priority": 34, "logsource": "web-1", "program": "su"}"#)
    ],
    failureTags: ["_grokparsefailure_sysloginput"])

  struct Settings: PluginSettings {
    var port: Port = 514
    var host = "0.0.0.0"
    var codec = PluginChoice("plain")
    var syslogField: String?
    var grokPattern: String?
    var proxyProtocol = false
    var usesLabels = true
    var facilityLabels: [String]?
    var severityLabels: [String]?
    var timezone: String?
    var locale: String?
    var serviceType = "system"
    var maxEventSize: ByteCount = .mib(1)
    var receiveBuffer: ByteCount?
    var common = CommonInputSettings()

    static let options: [Option<Settings>] =
      [
        .option("port", \.port, "The port to receive on, over UDP and TCP."),
        .option("host", \.host, "The address to receive on."),
        .option("codec", \.codec, "What a message is before it is parsed."),
        .option("syslog_field", \.syslogField, "The field that is parsed.", defaultText: "message"),
        .option(
          "grok_pattern", \.grokPattern, "The expression of a message.", defaultText: "a priority in <> and SYSLOGLINE"),
        .option(
          "proxy_protocol", \.proxyProtocol, "Connections begin with a line of the PROXY protocol, version 1."),
        .option("use_labels", \.usesLabels, "Whether facility and severity are named."),
        .option(
          "facility_labels", \.facilityLabels, "Names of the facilities, from 0 on.", defaultText: "those of RFC 3164"),
        .option(
          "severity_labels", \.severityLabels, "Names of the severities, from 0 on.", defaultText: "those of RFC 3164"),
        .option("timezone", \.timezone, "The zone of times that name none.", defaultText: "the machine's zone"),
        .option("locale", \.locale, "The language of month names.", defaultText: "the machine's language"),
        .option("service_type", \.serviceType, "`[service][type]` of events without one; not where ECS is off."),
        .option(
          "max_event_bytes", \.maxEventSize, "The longest line; of a longer one its head becomes a dead letter."),
        .option(
          "receive_buffer_bytes", \.receiveBuffer, "The system's buffer for datagrams that wait.",
          defaultText: "the system's"),
      ] + CommonInputSettings.options.map { $0.lifted(into: \Settings.common) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    let codec = try InputCodec(settings.codec, context)
    guard codec.kind == .plain || codec.kind == .json else {
      throw BuildFailure("codec", "takes plain or json: a message is cut already")
    }
    if let pattern = settings.grokPattern {
      do {
        _ = try context.expressions?.compile(pattern, folders: [], ecs: context.ecs, services: context.services)
      } catch let failure as BuildFailure {
        throw BuildFailure("grok_pattern", failure.text, code: failure.code, hint: failure.hint)
      }
    }
    var options: [RecordDescription.Setting] = []
    func add(_ name: String, _ value: String?) { if let value { options.append(.init(name, value)) } }
    add("syslog_field", settings.syslogField)
    add("grok_pattern", settings.grokPattern)
    add("use_labels", settings.usesLabels ? nil : "false")
    add("facility_labels", settings.facilityLabels?.joined(separator: "\n"))
    add("severity_labels", settings.severityLabels?.joined(separator: "\n"))
    add("timezone", settings.timezone)
    add("locale", settings.locale)
    add("service_type", settings.serviceType)
    let description = settings.common.description(
      "syslog", codec: codec.kind.rawValue, codec, context, options: options)
    var lines = TCPLineConfiguration(host: settings.host, port: settings.port.number)
    lines.eventBytes = settings.maxEventSize.bytes
    lines.proxyProtocol = settings.proxyProtocol
    lines.keepsDelimiter = true
    lines.takesOctetCounts = true
    lines.dropsRest = true
    var datagrams = DatagramConfiguration(host: settings.host, port: settings.port.number)
    datagrams.receiveBufferBytes = settings.receiveBuffer?.bytes
    let (streams, packets) = (lines, datagrams)
    let port = settings.port.number
    return ServerInput<SyslogServer>(
      ports: [
        InputPort(host: settings.host, port: port), InputPort(host: settings.host, port: port, isDatagram: true),
      ], description: description,
      make: { try SyslogServer(streams, packets, description, context) },
      begin: { $0.start() }, end: { $0.stop(within: $1, completion: $2) }, figures: { $0.statistics })
  }
}

/// Both listeners.
final class SyslogServer: Sendable {
  private let lines: TCPLineServer
  private let datagrams: DatagramInputServer

  /// Binds both; where the port is the system's to choose, UDP takes that of TCP.
  init(
    _ lines: TCPLineConfiguration, _ datagrams: DatagramConfiguration, _ description: RecordDescription,
    _ context: InputContext
  ) throws {
    let descriptor = description.descriptor
    self.lines = try TCPLineServer(
      lines, queues: NetworkInputs.queues, sink: context.sink, descriptor: descriptor, budget: NetworkInputs.budget,
      onOversized: oversizedHandler("syslog", context))
    var datagrams = datagrams
    datagrams.port = self.lines.port
    self.datagrams = try DatagramInputServer(
      datagrams, id: context.stepID, sink: context.sink, descriptor: descriptor, cutting: .whole,
      queues: NetworkInputs.queues, budget: NetworkInputs.budget)
  }

  func start() {
    lines.start()
    datagrams.start()
  }

  func stop(within limit: Duration, completion: @escaping @Sendable () -> Void) {
    let (lines, datagrams) = (lines, datagrams)
    lines.stop(within: limit) { datagrams.stop(within: limit, completion: completion) }
  }

  var statistics: InputStatistics {
    var result = inputStatistics(lines.metrics, lines.listener)
    result.events += datagrams.metrics.events.value
    result.bytes += datagrams.metrics.bytes.value
    result.errors += datagrams.metrics.errors.value
    result.lost += datagrams.metrics.lost.value
    return result
  }
}
