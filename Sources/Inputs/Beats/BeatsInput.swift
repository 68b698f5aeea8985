//  The `beats` input: Filebeat, Metricbeat and everything else that speaks the Lumberjack protocol.

internal import Config
internal import Diagnostics
internal import Net
internal import PluginKit

struct BeatsInput: InputPlugin {
  static let manual = Manual(
    name: "beats", summary: "Takes events from Beats and other senders of the Lumberjack protocol.",
    details: """
      A window is acknowledged once all of its events are on disk. The text in `message` (or `line`) goes through the \
      codec; what it yields is joined with the shipper's fields, which win.
      """,
    examples: [
      Example(
        "Filebeat's events", config: "{ port: 5044, tags: [shipped] }",
        input: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "message": "order placed", "fields": {"app": "shop"}}"#,
        output: """
          {"@timestamp": "2026-03-02T07:00:00.000Z", "message": "order placed", "fields": {"app": "shop"}, \
          "tags": ["shipped", "beats_input_codec_plain_applied"]}
          """)
    ])

  struct Settings: PluginSettings {
    var port: Port = 5044
    var listen = ListenSettings()
    var codec: PluginChoice?
    var enrich: [Enrichment]?
    var includeCodecTag: Bool?
    var addHostname = false
    var inactivityTimeout = Duration.seconds(60)
    var maxConnectionAge: Duration?
    var executorThreads: Int?
    var eventLoopThreads: Int?

    static let options: [Option<Settings>] =
      [
        .option("port", \.port, "The port to listen on."),
        .option("codec", \.codec, "What the text of an event is.", defaultText: "plain"),
        .option(
          "enrich", \.enrich, "What is added to each event; `all` or `none` stand alone.",
          defaultText: "[codec_metadata, source_metadata]"),
        .option(
          "include_codec_tag", \.includeCodecTag, "Whether events are tagged with the codec.", defaultText: "true",
          deprecated: "use 'enrich'"),
        .option(
          "add_hostname", \.addHostname, "Takes the host name from old Beats' `[beat][hostname]`.",
          deprecated: "use a filter"),
        .option(
          "client_inactivity_timeout", \.inactivityTimeout, "Silence after which a connection is closed.",
          unit: .seconds),
        .option(
          "max_connection_age", \.maxConnectionAge, "Age after which a connection is closed between two windows.",
          unit: .seconds),
        .option("executor_threads", \.executorThreads, "Accepted for Logstash's sake; there is a thread per core."),
        .option("event_loop_threads", \.eventLoopThreads, "Accepted for Logstash's sake; there is a thread per core."),
      ] + ListenSettings.options.map { $0.lifted(into: \Settings.listen) }
  }

  enum Enrichment: String, OptionEnum {
    case source = "source_metadata"
    case codec = "codec_metadata"
    case tls = "ssl_peer_metadata"
    case all, none
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    if settings.codec?.name == "multiline" {
      throw BuildFailure(
        "codec", "lines cannot be joined here, since those of several files come mixed",
        hint: "join them where they are read: `multiline` of Filebeat's input")
    }
    let codec = try InputCodec(settings.codec ?? PluginChoice("plain"), context)
    let description = settings.listen.common.description(
      "beats", codec: "beats", codec, context, options: try options(settings, codec))
    var configuration = BeatsConfiguration(host: settings.listen.host, port: settings.port.number)
    configuration.listener = try settings.listen.listener(
      port: settings.port.number, context, clients: .byAuthorities)
    configuration.clientInactivityTimeout = settings.inactivityTimeout
    configuration.maxConnectionAge = settings.maxConnectionAge
    configuration.limits.eventBytes = settings.listen.maxEventSize.bytes
    let complete = configuration
    return ServerInput<BeatsServer>(
      port: InputPort(host: settings.listen.host, port: settings.port.number), description: description,
      make: {
        try BeatsServer(
          complete, queues: NetworkInputs.queues, sink: context.sink, descriptor: description.descriptor,
          budget: NetworkInputs.budget, onOversized: oversizedHandler("beats", context))
      }, begin: { $0.start() }, end: { $0.stop(within: $1, completion: $2) },
      figures: { inputStatistics($0.metrics, $0.listener) })
  }

  private static func options(_ settings: Settings, _ codec: InputCodec) throws -> [RecordDescription.Setting] {
    let enrich = try enrichments(settings)
    var options = [
      RecordDescription.Setting("enrich", enrich.map(\.rawValue).joined(separator: ",")),
      RecordDescription.Setting("codec", codec.kind.rawValue),
    ]
    // The default codec shows itself in `[event][original]` only where its name is shown too.
    if settings.codec == nil, !enrich.contains(.codec) { options.append(.init("original", "false")) }
    if settings.addHostname { options.append(.init("add_hostname", "true")) }
    return options
  }

  private static func enrichments(_ settings: Settings) throws -> [Enrichment] {
    var enrich: [Enrichment] = [.codec, .source]
    if let given = settings.enrich {
      if settings.includeCodecTag != nil {
        throw BuildFailure("enrich", "says the same as 'include_codec_tag'; one of them is enough")
      }
      if let alias = given.first(where: { $0 == .all || $0 == .none }) {
        guard given.count == 1 else { throw BuildFailure("enrich", "'\(alias.rawValue)' stands alone") }
        enrich = alias == .all ? [.source, .codec, .tls] : []
      } else {
        enrich = given
      }
    } else if settings.includeCodecTag == false {
      enrich = [.source]
    }
    guard enrich.contains(.tls) else { return enrich }
    let authentication = try settings.listen.tls.authentication(.byAuthorities)
    if authentication != .none, settings.listen.tls.clientAuthentication == nil {
      throw BuildFailure(
        "enrich", "ssl_peer_metadata needs 'ssl_client_authentication' to be written out",
        code: "config.missing-option", hint: "set ssl_client_authentication to optional or required")
    }
    return authentication == .none ? enrich.filter { $0 != .tls } : enrich
  }
}

/// The same input under the name that Elastic Agent's guides use.
struct ElasticAgentInput: InputPlugin {
  typealias Settings = BeatsInput.Settings
  static let manual = Manual(
    name: "elastic_agent", summary: "Takes events from Elastic Agents; the `beats` input under another name.",
    details: "`enrich: none` leaves an agent's events as they came.",
    examples: [
      Example(
        "An agent's events as they came", config: "{ port: 5044, enrich: none }",
        input: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "message": "order placed"}"#,
        output: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "message": "order placed"}"#)
    ])

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    try BeatsInput.make(settings, context)
  }
}
