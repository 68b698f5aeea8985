//  The `udp` input: a datagram is an event, or several lines.

internal import Config
internal import Diagnostics
internal import Events
internal import Net
internal import PluginKit

struct UDPInput: InputPlugin {
  static let manual = Manual(
    name: "udp", summary: "Takes datagrams over UDP, each of them an event.",
    details: """
      UDP has no acknowledgement: a datagram that the network or a full buffer of the system drops is lost unseen. A larger \
      `receive_buffer_bytes` helps against bursts.
      """,
    examples: [
      Example(
        "A datagram", config: "{ port: 5140 }", input: "order placed", output: #"{"message": "order placed"}"#)
    ])

  struct Settings: PluginSettings {
    var port: Port = 0
    var host = "0.0.0.0"
    var codec = PluginChoice("plain")
    var bufferSize: ByteCount = 65_536
    var receiveBuffer: ByteCount?
    var sourceField: FieldReference?
    var queueSize: Int?
    var workers: Int?
    var common = CommonInputSettings()

    static let options: [Option<Settings>] =
      [
        .option("port", \.port, "The port to receive on.", required: true, example: "5514"),
        .option("host", \.host, "The address to receive on."),
        .option("codec", \.codec, "What a datagram is; `line` and `json_lines` take several events from one."),
        .option("buffer_size", \.bufferSize, "The longest datagram; a longer one is cut."),
        .option(
          "receive_buffer_bytes", \.receiveBuffer, "The system's buffer for datagrams that wait.",
          defaultText: "the system's"),
        .option(
          "source_ip_fieldname", \.sourceField, "The field that takes the sender's address.",
          defaultText: "'[host][ip]', or host with ecs_compatibility: disabled"),
        .option("queue_size", \.queueSize, "Accepted for Logstash's sake; the pipeline's queue takes the events."),
        .option("workers", \.workers, "Accepted for Logstash's sake; one thread receives."),
      ] + CommonInputSettings.options.map { $0.lifted(into: \Settings.common) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    let codec = try InputCodec(settings.codec, context)
    guard codec.multiline == nil else {
      throw BuildFailure("codec", "a datagram is whole by itself; lines are not joined over several")
    }
    var configuration = DatagramConfiguration(host: settings.host, port: settings.port.number)
    configuration.datagramBytes = settings.bufferSize.bytes
    configuration.receiveBufferBytes = settings.receiveBuffer?.bytes
    let options = settings.sourceField.map { [RecordDescription.Setting("source_ip_fieldname", $0.description)] } ?? []
    let description = settings.common.description(
      "udp", codec: codec.kind.rawValue, codec, context, options: options)
    let cutting: DatagramCutting =
      codec.kind == .line || codec.kind == .jsonLines ? .delimited(codec.delimiter) : .whole
    let complete = configuration
    return ServerInput<DatagramInputServer>(
      port: InputPort(host: settings.host, port: settings.port.number, isDatagram: true), description: description,
      make: {
        try DatagramInputServer(
          complete, id: context.stepID, sink: context.sink, descriptor: description.descriptor, cutting: cutting,
          queues: NetworkInputs.queues, budget: NetworkInputs.budget)
      }, begin: { $0.start() }, end: { $0.stop(within: $1, completion: $2) },
      figures: { $0.metrics.statistics(port: $0.port) })
  }
}
