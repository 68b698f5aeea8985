//  The `beats` input: Filebeat, Metricbeat and everything else that speaks the Lumberjack protocol.

internal import Config
internal import Diagnostics
internal import PluginKit

struct BeatsInput: InputPlugin {
  static let manual = Manual(
    name: "beats", summary: "Takes events from Beats and other senders of the Lumberjack protocol.",
    details: "A window is acknowledged once all of its events are on disk.",
    examples: [
      Example(
        "Filebeat's events", config: "{ port: 5044, tags: [shipped] }",
        input: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "message": "order placed", "fields": {"app": "shop"}}"#,
        output: """
          {"@timestamp": "2026-03-02T07:00:00.000Z", "message": "order placed", "fields": {"app": "shop"}, \
          "tags": ["shipped"]}
          """)
    ])

  struct Settings: PluginSettings {
    var port: Port = 5044
    var listen = ListenSettings()
    var inactivityTimeout = Duration.seconds(60)
    var maxConnectionAge: Duration?

    static let options: [Option<Settings>] =
      [
        .option("port", \.port, "The port to listen on."),
        .option(
          "client_inactivity_timeout", \.inactivityTimeout, "Silence after which a connection is closed.",
          unit: .seconds),
        .option(
          "max_connection_age", \.maxConnectionAge, "Age after which a connection is closed between two windows.",
          unit: .seconds),
      ] + ListenSettings.options.map { $0.lifted(into: \Settings.listen) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    var configuration = BeatsConfiguration(host: settings.listen.host, port: settings.port.number)
    configuration.listener = try settings.listen.listener(port: settings.port.number, context)
    configuration.clientInactivityTimeout = settings.inactivityTimeout
    configuration.maxConnectionAge = settings.maxConnectionAge
    configuration.limits.eventBytes = settings.listen.maxEventSize.bytes
    let description = settings.listen.description("beats", codec: "beats", context)
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
}
