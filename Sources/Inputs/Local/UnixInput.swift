//  The `unix` input: lines over a Unix socket.

internal import Config
internal import Diagnostics
internal import Net
internal import PluginKit

struct UnixInput: InputPlugin {
  static let manual = Manual(
    name: "unix", summary: "Takes lines over a Unix socket.",
    details: "A rest without line end at the end of a connection is no event; that it was there is logged.",
    examples: [
      Example(
        "Lines of text", config: "{ path: /run/sluice/sluice.sock }", input: "order placed",
        output: #"{"message": "order placed"}"#)
    ])

  struct Settings: PluginSettings {
    var path = FilePath("")
    var codec = PluginChoice("line")
    var mode = Mode.server
    var forceUnlink = false
    var dataTimeout: Duration?
    var maxEventSize: ByteCount = .mib(64)
    var common = CommonInputSettings()

    enum Mode: String, OptionEnum { case server }

    static let options: [Option<Settings>] =
      [
        .option("path", \.path, "Where the socket lies.", required: true, example: "/run/sluice/in.sock"),
        .option("codec", \.codec, "What a line is. `plain` counts as `line`, `json` as `json_lines`."),
        .option("mode", \.mode, "The input listens; it does not connect."),
        .option("force_unlink", \.forceUnlink, "Removes what lies at the path first."),
        .option("data_timeout", \.dataTimeout, "Silence after which a connection is closed.", unit: .seconds),
        .option(
          "max_event_bytes", \.maxEventSize, "The longest line; of a longer one its head becomes a dead letter."),
      ] + CommonInputSettings.options.map { $0.lifted(into: \Settings.common) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    let codec = try InputCodec(settings.codec, context).forStream
    let path = context.services.path(settings.path.text)
    guard path.utf8.count < 108 else { throw BuildFailure("path", "a socket's path has at most 107 bytes") }
    var configuration = TCPLineConfiguration(port: 0)
    configuration.listener.path = path
    configuration.listener.replacesPath = settings.forceUnlink
    configuration.eventBytes = min(settings.maxEventSize.bytes, codec.lineBytes ?? .max)
    configuration.delimiter = codec.delimiter
    configuration.dropsRest = true
    configuration.idleTimeout = settings.dataTimeout
    configuration.local = LocalOrigin(host: hostName(), path: path)
    let description = settings.common.description("unix", codec: codec.kind.rawValue, codec, context)
    let joining = codec.multiline.map { LineJoining($0, description) }
    configuration.multiline = joining
    let complete = configuration
    return ServerInput<TCPLineServer>(
      ports: [], description: description, delimiter: joining == nil ? codec.delimiter : nil, cut: joining?.cut,
      make: {
        try TCPLineServer(
          complete, queues: NetworkInputs.queues, sink: context.sink, descriptor: description.descriptor,
          budget: NetworkInputs.budget, onOversized: oversizedHandler("unix", context))
      }, begin: { $0.start() }, end: { $0.stop(within: $1, completion: $2) },
      figures: { inputStatistics($0.metrics, $0.listener) })
  }
}
