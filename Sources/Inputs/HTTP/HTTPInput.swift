//  The `http` input: JSON objects, arrays and lines by POST or PUT.

internal import Config
internal import Diagnostics
internal import Net
internal import PluginKit

struct HTTPInput: InputPlugin {
  static let manual = Manual(
    name: "http", summary: "Takes events by HTTP: JSON objects, arrays and lines, or text.",
    details: "The answer 200 is sent once the events are on disk; a body that does not parse leaves nothing behind.",
    examples: [
      Example(
        "Two events in an array", config: "{ port: 5000 }",
        input: #"[{"message": "order placed"}, {"message": "order paid"}]"#,
        output: "{\"message\": \"order placed\"}\n{\"message\": \"order paid\"}"),
      Example("Text", config: "{ port: 5000 }", input: "order placed", output: #"{"message": "order placed"}"#),
    ])

  struct Settings: PluginSettings {
    var port: Port = 8080
    var listen = ListenSettings()
    var user: String?
    var password: Secret?
    var onParseFailure = ParseFailure.refuse
    var maxContentLength: ByteCount = .mib(100)

    enum ParseFailure: String, OptionEnum { case refuse, tag }

    static let options: [Option<Settings>] =
      [
        .option("port", \.port, "The port to listen on."),
        .option("user", \.user, "The user of basic authentication."),
        .option("password", \.password, "The password of basic authentication."),
        .option("on_parse_failure", \.onParseFailure, "What becomes of a body that is no JSON."),
        .option("max_content_length", \.maxContentLength, "The largest body, unpacked."),
      ] + ListenSettings.options.map { $0.lifted(into: \Settings.listen) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    var configuration = HTTPInputConfiguration(host: settings.listen.host, port: settings.port.number)
    configuration.listener = try settings.listen.listener(port: settings.port.number, context)
    configuration.user = settings.user
    configuration.password = settings.password?.revealed
    configuration.onParseFailure = settings.onParseFailure == .tag ? .tag : .refuse
    configuration.eventBytes = settings.listen.maxEventSize.bytes
    configuration.limits.bodyBytes = settings.maxContentLength.bytes
    let json = settings.listen.description("http", codec: "json", context)
    let plain = settings.listen.description("http", codec: "plain", context)
    let complete = configuration
    return ServerInput<HTTPInputServer>(
      port: InputPort(host: settings.listen.host, port: settings.port.number), description: json,
      make: {
        try HTTPInputServer(
          complete, queues: NetworkInputs.queues, sink: context.sink, json: json.descriptor,
          other: BodyRule(.whole, plain.descriptor), budget: NetworkInputs.budget)
      }, begin: { $0.start() }, end: { $0.stop(within: $1, completion: $2) },
      figures: { inputStatistics($0.metrics, $0.listener) })
  }
}
