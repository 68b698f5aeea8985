//  The `tcp` input: an event a line, JSON or text.

internal import Config
internal import Diagnostics
internal import PluginKit

struct TCPInput: InputPlugin {
  static let manual = Manual(
    name: "tcp", summary: "Takes lines over TCP, each of them an event.",
    details: "TCP has no acknowledgement: what a sender wrote into a broken connection is lost with it.",
    examples: [
      Example(
        "Lines of text", config: "{ port: 5001 }", input: "order placed\norder paid",
        output: "{\"message\": \"order placed\"}\n{\"message\": \"order paid\"}"),
      Example(
        "A JSON object a line", config: "{ port: 5001, codec: json_lines, type: shop }",
        input: #"{"message": "order placed", "took": 0.25}"#,
        output: #"{"message": "order placed", "took": 0.25, "type": "shop"}"#),
    ])

  struct Settings: PluginSettings {
    var port: Port = 0
    var listen = ListenSettings()
    var codec = Codec.line

    enum Codec: String, OptionEnum { case line, plain, json, jsonLines = "json_lines" }

    static let options: [Option<Settings>] =
      [
        .option("port", \.port, "The port to listen on.", required: true, example: "5001"),
        .option("codec", \.codec, "What a line is: text, or a JSON object."),
      ] + ListenSettings.options.map { $0.lifted(into: \Settings.listen) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    var configuration = TCPLineConfiguration(host: settings.listen.host, port: settings.port.number)
    configuration.listener = try settings.listen.listener(port: settings.port.number, context)
    configuration.eventBytes = settings.listen.maxEventSize.bytes
    let isText = settings.codec == .line || settings.codec == .plain
    let description = settings.listen.description("tcp", codec: isText ? "plain" : "json", context)
    let complete = configuration
    return ServerInput<TCPLineServer>(
      port: InputPort(host: settings.listen.host, port: settings.port.number), description: description,
      make: {
        try TCPLineServer(
          complete, queues: NetworkInputs.queues, sink: context.sink, descriptor: description.descriptor,
          budget: NetworkInputs.budget, onOversized: oversizedHandler("tcp", context))
      }, begin: { $0.start() }, end: { $0.stop(within: $1, completion: $2) },
      figures: { inputStatistics($0.metrics, $0.listener) })
  }
}
