//  The `tcp` input: an event a line, JSON or text.

internal import Config
internal import Diagnostics
internal import Net
internal import PluginKit

struct TCPInput: InputPlugin {
  static let manual = Manual(
    name: "tcp", summary: "Takes lines over TCP, each of them an event.",
    details: """
      TCP has no acknowledgement: what a sender wrote into a broken connection is lost with it. A rest without line end is \
      an event when the sender closes; at a stop of Sluice it is one with the tag `_partial_line`.
      """,
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
    var codec = PluginChoice("line")
    var mode = Mode.server
    var proxyProtocol = false
    var keepAlive = true
    var looksUpNames = true

    enum Mode: String, OptionEnum { case server }

    static let options: [Option<Settings>] =
      [
        .option("port", \.port, "The port to listen on.", required: true, example: "5001"),
        .option(
          "codec", \.codec, "What a line is: text, or a JSON object. `plain` counts as `line`, `json` as `json_lines`."),
        .option("mode", \.mode, "The input listens; it does not connect."),
        .option(
          "proxy_protocol", \.proxyProtocol, "Connections begin with a line of the PROXY protocol, version 1."),
        .option("tcp_keep_alive", \.keepAlive, "Whether the system probes idle connections."),
        .option(
          "dns_reverse_lookup_enabled", \.looksUpNames,
          "Whether a sender's name is looked up; within a second, else its address stands for it."),
      ] + ListenSettings.options.map { $0.lifted(into: \Settings.listen) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    let codec = try InputCodec(settings.codec, context).forStream
    var configuration = TCPLineConfiguration(host: settings.listen.host, port: settings.port.number)
    configuration.listener = try settings.listen.listener(port: settings.port.number, context, clients: .required)
    configuration.listener.keepAlive = settings.keepAlive
    configuration.eventBytes = min(settings.listen.maxEventSize.bytes, codec.lineBytes ?? .max)
    configuration.proxyProtocol = settings.proxyProtocol
    configuration.looksUpNames = settings.looksUpNames
    configuration.delimiter = codec.delimiter
    let description = settings.listen.common.description("tcp", codec: codec.kind.rawValue, codec, context)
    let joining = codec.multiline.map { LineJoining($0, description) }
    configuration.multiline = joining
    let complete = configuration
    return ServerInput<TCPLineServer>(
      port: InputPort(host: settings.listen.host, port: settings.port.number), description: description,
      delimiter: codec.multiline == nil ? codec.delimiter : nil,
      cut: joining?.cut,
      make: {
        try TCPLineServer(
          complete, queues: NetworkInputs.queues, sink: context.sink, descriptor: description.descriptor,
          budget: NetworkInputs.budget, onOversized: oversizedHandler("tcp", context))
      }, begin: { $0.start() }, end: { $0.stop(within: $1, completion: $2) },
      figures: { inputStatistics($0.metrics, $0.listener) })
  }
}
