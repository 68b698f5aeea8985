//  What the network inputs have in common: options, the threads and the memory budget that they share, and how an event
//  above the limit becomes a dead letter.

package import Config
internal import Diagnostics
internal import Events
internal import Glibc
public import Net
internal import PluginKit
internal import Records

/// Shared by every input of the process: the I/O queues, and the budget of undelivered payload bytes.
public enum NetworkInputs {
  public static let queues = IOQueues()
  public static let budget = InFlightBudget()
}

/// Options of every input.
package struct CommonInputSettings: PluginSettings {
  package var type: String?
  package var tags: [String] = []
  package var addField: OrderedMap<String, [String]> = [:]
  var enableMetric = true
  package init() {}

  package static let options: [Option<CommonInputSettings>] = [
    .option("type", \.type, "Sets the field `type` of events that have none."),
    .option("tags", \.tags, "Tags of every event."),
    .option("add_field", \.addField, "Fields of every event; an existing field becomes a list."),
    .option("enable_metric", \.enableMetric, "Accepted for Logstash's sake; statistics are always kept."),
  ]

  /// How the input's payloads become events.
  ///
  /// - Parameters:
  ///   - codec: `beats`, or the codec's name.
  ///   - options: What only this kind of input has.
  func description(
    _ input: String, codec: String, _ details: InputCodec, _ context: InputContext,
    options: [RecordDescription.Setting] = []
  ) -> RecordDescription {
    RecordDescription(
      input: input, inputID: context.stepID, codec: codec, charset: details.charset, ecs: context.ecs, type: type,
      tags: tags, addField: addField.entries.map { RecordDescription.AddedField(name: $0.key, values: $0.value) },
      options: options + details.settings)
  }
}

/// Options of every network input.
struct ListenSettings: PluginSettings {
  var host = "0.0.0.0"
  var maxEventSize: ByteCount = .mib(64)
  var common = CommonInputSettings()
  var tls = TLSSettings()

  static let options: [Option<ListenSettings>] =
    [
      .option("host", \.host, "The address to listen on."),
      .option("max_event_bytes", \.maxEventSize, "The largest event; of a larger one its head becomes a dead letter."),
    ] + CommonInputSettings.options.map { $0.lifted(into: \ListenSettings.common) }
    + TLSSettings.options.map { $0.lifted(into: \ListenSettings.tls) }

  func listener(
    port: Int, _ context: InputContext, clients: TLSSettings.ClientDefault
  ) throws -> ListenerConfiguration {
    var listener = ListenerConfiguration(host: host, port: port)
    listener.tls = try tls.context(clients, context)
    return listener
  }
}

/// Keeps the head of an event above the limit; the acknowledgement of what it came with waits for that.
func oversizedHandler(_ input: String, _ context: InputContext) -> OversizedHandler {
  let letters = context.deadLetters
  let id = context.stepID
  return { event, completion in
    Log.warn(
      "input.oversized", "An event above max_event_bytes was not taken; its head became a dead letter.",
      [
        "input": .text(id), "peer": .text(event.peer), "bytes": .number(event.sizeBytes),
        "limit_bytes": .number(event.limitBytes),
      ])
    let reason = DeadLetterReason(
      stage: "input", type: "oversized",
      message: "the event of \(event.sizeBytes) bytes is above max_event_bytes (\(event.limitBytes))")
    let isKept = event.head.withUnsafeBytes { head in
      let document = UnsafeRawBufferPointer(start: nil, count: 0)
      return letters.write(reason, source: HeadRecord(head), record: 0, document: document)
    }
    if !isKept || !letters.sync() {
      Log.error(
        "input.oversized-lost",
        "The head of an event above max_event_bytes could not be kept either; the event is lost.",
        ["input": .text(id), "peer": .text(event.peer), "bytes": .number(event.sizeBytes)])
    }
    completion()
  }
}

/// The head of an oversized event, as the record of its dead letter.
private final class HeadRecord: SourceRecords {
  private let head: [UInt8]
  private let arrival = WallClock.ns
  init(_ head: UnsafeRawBufferPointer) { self.head = Array(head) }
  func appendID(_ record: Int, to out: inout ByteBuffer) {}
  func withPayload(_ record: Int, _ body: (UnsafeRawBufferPointer) -> Void) { head.withUnsafeBytes(body) }
  func arrivalNs(_ record: Int) -> Int64 { arrival }
  func isRecovered(_ record: Int) -> Bool { false }
}

/// Waits until a server has stopped.
func awaitStop(_ deadline: Instant, _ stop: (Duration, @escaping @Sendable () -> Void) -> Void) {
  let gate = Gate(false)
  stop(max(.milliseconds(1), deadline - Instant.now)) { gate.update { $0 = true } }
  _ = gate.wait(until: deadline + .seconds(1)) { $0 ? true : nil }
}

/// An input around one of the servers: made when it starts, since making it binds the port.
final class ServerInput<Server: Sendable>: Input {
  let ports: [InputPort]
  let description: RecordDescription
  let payloadDelimiter: [UInt8]?
  private let cut: (@Sendable (UnsafeRawBufferPointer) -> [RecordBatch])?
  private let make: @Sendable () throws -> Server
  private let begin: @Sendable (Server) -> Void
  private let end: @Sendable (Server, Duration, @escaping @Sendable () -> Void) -> Void
  private let figures: @Sendable (Server) -> InputStatistics
  private let server = Lock<Server?>(nil)

  /// - Parameters:
  ///   - delimiter: As `payloadDelimiter`.
  ///   - cut: As `records`; without it a payload is one record.
  convenience init(
    port: InputPort, description: RecordDescription, delimiter: [UInt8]? = [10],
    cut: (@Sendable (UnsafeRawBufferPointer) -> [RecordBatch])? = nil, make: @escaping @Sendable () throws -> Server,
    begin: @escaping @Sendable (Server) -> Void,
    end: @escaping @Sendable (Server, Duration, @escaping @Sendable () -> Void) -> Void,
    figures: @escaping @Sendable (Server) -> InputStatistics
  ) {
    self.init(
      ports: [port], description: description, delimiter: delimiter, cut: cut, make: make, begin: begin, end: end,
      figures: figures)
  }

  init(
    ports: [InputPort], description: RecordDescription, delimiter: [UInt8]? = [10],
    cut: (@Sendable (UnsafeRawBufferPointer) -> [RecordBatch])? = nil, make: @escaping @Sendable () throws -> Server,
    begin: @escaping @Sendable (Server) -> Void,
    end: @escaping @Sendable (Server, Duration, @escaping @Sendable () -> Void) -> Void,
    figures: @escaping @Sendable (Server) -> InputStatistics
  ) {
    self.ports = ports
    self.description = description
    payloadDelimiter = delimiter
    self.cut = cut
    self.make = make
    self.begin = begin
    self.end = end
    self.figures = figures
  }

  func records(of payload: UnsafeRawBufferPointer) -> [RecordBatch] {
    if let cut { return cut(payload) }
    let batch = RecordBatch(descriptor: description.descriptor, context: nil)
    batch.append(payload)
    return [batch]
  }

  func start() throws {
    let made = try make()
    server.withLock { $0 = made }
    begin(made)
  }

  func stop(deadline: Instant) {
    guard let server = server.withLock({ $0 }) else { return }
    awaitStop(deadline) { end(server, $0, $1) }
  }

  var statistics: InputStatistics { server.withLock { $0 }.map(figures) ?? InputStatistics() }
}

func inputStatistics(_ metrics: InputMetrics, _ listener: Listener) -> InputStatistics {
  var result = metrics.statistics(port: listener.port)
  result.connections = listener.current.value
  result.peakConnections = listener.peak.value
  result.rejected = listener.refused.value
  return result
}
