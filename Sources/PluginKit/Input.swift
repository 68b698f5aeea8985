//  The contract of inputs: they listen, cut bytes into records, and hand batches of them to the pipeline's queue.

public import Config
public import Diagnostics
public import Records

/// What an input's file declares.
public protocol InputPlugin: Sendable {
  associatedtype Settings: PluginSettings
  static var manual: Manual { get }
  /// Compiles the settings; binds nothing.
  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input
}

/// A configured input.
public protocol Input: AnyObject, Sendable {
  /// The ports it listens on, so that two inputs on one port are found before anything is bound.
  var ports: [InputPort] { get }
  /// Binds and listens.
  ///
  /// - Throws: A sentence with the address that could not be bound.
  func start() throws
  /// Stops listening, lets what is under way finish until `deadline`, closes connections.
  func stop(deadline: Instant)
  var statistics: InputStatistics { get }
  /// How its payloads become events, for `sluice try --input` and tests of pipelines.
  var description: RecordDescription { get }
  /// What ends each of the payloads that stand in a text; nil where the text as a whole is one.
  var payloadDelimiter: [UInt8]? { get }
  /// The records that a payload becomes when a sender sends it; where it would be refused, one that decoding tags.
  func records(of payload: UnsafeRawBufferPointer) -> [RecordBatch]
}

extension Input {
  public var payloadDelimiter: [UInt8]? { [10] }
  public func records(of payload: UnsafeRawBufferPointer) -> [RecordBatch] {
    let batch = RecordBatch(descriptor: description.descriptor, context: nil)
    batch.append(payload)
    return [batch]
  }
}

public struct InputPort: Hashable, Sendable {
  public var host: String
  public var port: Int
  /// UDP, whose ports are apart from those of TCP.
  public var isDatagram: Bool
  public init(host: String, port: Int, isDatagram: Bool = false) {
    self.host = host
    self.port = port
    self.isDatagram = isDatagram
  }
}

/// Figures of an input.
public struct InputStatistics: Sendable {
  public var events = 0
  public var bytes = 0
  public var connections = 0
  public var peakConnections = 0
  public var rejected = 0
  /// Protocol errors and refused requests.
  public var errors = 0
  /// Events beyond the input's limit, whose heads became dead letters.
  public var oversized = 0
  /// Events that came without acknowledgement and could not be kept.
  public var lost = 0
  /// The port that was bound, where 0 was asked for.
  public var boundPort = 0
  public init() {}
}

/// What an input is built with.
public struct InputContext: Sendable {
  public let pipelineID: String
  public let stepID: String
  public let position: SourcePosition
  public let ecs: ECSMode
  public let services: Services
  public let sink: any RecordSink
  /// Takes what an input must refuse for ever, such as an event beyond its size.
  public let deadLetters: any DeadLetterSink
  /// For codecs that look for expressions; nil where there is no library of patterns.
  public let expressions: (any ExpressionCompiler)?

  public init(
    pipelineID: String, stepID: String, position: SourcePosition, ecs: ECSMode, services: Services,
    sink: any RecordSink, deadLetters: any DeadLetterSink, expressions: (any ExpressionCompiler)? = nil
  ) {
    self.pipelineID = pipelineID
    self.stepID = stepID
    self.position = position
    self.ecs = ecs
    self.services = services
    self.sink = sink
    self.deadLetters = deadLetters
    self.expressions = expressions
  }
}
