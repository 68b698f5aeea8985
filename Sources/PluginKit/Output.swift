//  The contract of outputs.
//
//  An output is built once per pipeline and shared by its workers. A worker hands it the events of a batch that its
//  condition let through; the output encodes them at once into buffers of its own (the events are gone when `write`
//  returns), and answers for each of them later through the batch's `Delivery`: delivered, or dead-lettered on disk.
//  When every output has answered for all, the batch's range is released from the queue.

public import Config
public import Diagnostics
public import Events
public import Records
internal import Synchronization

/// What an output's file declares.
public protocol OutputPlugin: Sendable {
  associatedtype Settings: PluginSettings
  static var manual: Manual { get }
  /// Compiles the settings; opens and connects nothing.
  static func make(_ settings: Settings, _ context: OutputContext) throws -> any Output
}

/// A configured output. Called from several workers at once.
public protocol Output: AnyObject, Sendable {
  /// Starts threads and connections. A place that cannot be reached is no failure: it is waited for.
  func start() throws
  /// Encodes and takes the events; blocks the worker while too much is in flight.
  func write(_ batch: OutputBatch)
  /// Finishes what is in flight until `deadline`, then lets go of the rest, whose deliveries stay unanswered.
  func stop(deadline: Instant)
  /// One JSON object with figures for the monitoring API.
  var statistics: OutputStatistics { get }
}

/// Figures of an output.
public struct OutputStatistics: Sendable {
  public var eventsIn = 0
  public var eventsOut = 0
  public var deadLetters = 0
  public var duplicates = 0
  public var retries = 0
  public var requests = 0
  public var failures = 0
  public var bytes = 0
  public var inFlight = 0
  /// A sentence when the output cannot work now (unreachable, refused); nil when all is well.
  public var trouble: String?
  /// A sentence on what has happened since the start and needs an operator's look, although the output works.
  public var concern: String?
  /// Further figures, as ready JSON members: `"bulk_requests":{…}`.
  public var extra = ""
  public init() {}
}

/// What an output is built with.
public struct OutputContext: Sendable {
  public let pipelineID: String
  public let stepID: String
  public let position: SourcePosition
  public let ecs: ECSMode
  public let services: Services
  public let deadLetters: any DeadLetterSink

  public init(
    pipelineID: String, stepID: String, position: SourcePosition, ecs: ECSMode, services: Services,
    deadLetters: any DeadLetterSink
  ) {
    self.pipelineID = pipelineID
    self.stepID = stepID
    self.position = position
    self.ecs = ecs
    self.services = services
    self.deadLetters = deadLetters
  }
}

/// The events of one worker batch that reach an output.
public struct OutputBatch {
  public let events: EventBatch
  public let selection: UnsafeBufferPointer<Int32>
  /// Answers for them. Call `delivery.expect(n)` before `write` returns, and `finish` for all n at any later time.
  public let delivery: Delivery

  public init(events: EventBatch, selection: UnsafeBufferPointer<Int32>, delivery: Delivery) {
    self.events = events
    self.selection = selection
    self.delivery = delivery
  }
}

/// An event that an output has encoded before.
public struct EncodedEvent: Sendable {
  /// The event's number in the delivery's source.
  public var record: Int
  public var part: Int
  /// The line that names the target, without a line feed.
  public var action: [UInt8]
  /// What is sent behind it, without a line feed.
  public var body: [UInt8]
  /// The event's JSON where `body` is something else; empty where it is the event.
  public var event: [UInt8]

  public init(record: Int, part: Int = 0, action: [UInt8], body: [UInt8], event: [UInt8] = []) {
    self.record = record
    self.part = part
    self.action = action
    self.body = body
    self.event = event
  }
}

/// An output that can send events again as they were sent, to the same index and under the same id.
public protocol EncodedOutput: Output {
  /// Takes the events and answers for each through `delivery`; waits for room, and never spills.
  func write(_ events: [EncodedEvent], delivery: Delivery)
}

/// An output whose events go to disk while it cannot send them and others go on.
public protocol SpillingOutput: EncodedOutput {
  /// Where it sends to: outputs with the same destination lag together.
  var destination: String { get }
  /// Whether what comes later must not be written before what lies in the overflow queue: the output is given nothing
  /// else until all of it is answered.
  var keepsOrder: Bool { get }
  /// Called before `start`.
  func spill(to overflow: any Overflow)
}

extension SpillingOutput {
  /// Several requests are in flight, so there is no order to keep.
  public var keepsOrder: Bool { false }
}

/// What an output does with events that it has encoded.
public enum OverflowDecision: Sendable {
  /// Send them, or let them wait for their turn.
  case send
  /// Put them into the overflow queue.
  case spill
  /// Neither: ask again in a moment.
  case wait
}

/// The overflow queue of one output. Any thread.
public protocol Overflow: AnyObject, Sendable {
  /// Events go to disk rather than wait in memory.
  var isSpilling: Bool { get }
  /// - Parameters:
  ///   - waitingSince: When the events began to wait for room.
  ///   - hasRoom: Whether the output has room for them.
  func decide(waitingSince: Instant, hasRoom: Bool) -> OverflowDecision
  /// Puts events on disk.
  ///
  /// - Parameter completion: Called once, on any thread: true when all are synced; false when the queue takes none.
  func append(
    _ events: [EncodedEvent], of source: any SourceRecords, completion: @escaping @Sendable (Bool) -> Void)
}

/// The records that a batch came from: ids, and payloads for dead letters. Read-only; any thread.
public protocol SourceRecords: RecordIDs, Sendable {
  /// The payload as it arrived.
  func withPayload(_ record: Int, _ body: (UnsafeRawBufferPointer) -> Void)
  func arrivalNs(_ record: Int) -> Int64
  /// Whether the record may have been sent before a restart.
  func isRecovered(_ record: Int) -> Bool
  /// How the payload becomes an event, and what was known of its connection or request; nil where there is no record.
  func origin(_ record: Int) -> (descriptor: RecordDescriptor, context: RecordContext?)?
}

extension SourceRecords {
  public func origin(_ record: Int) -> (descriptor: RecordDescriptor, context: RecordContext?)? { nil }
}

/// Counts the answers of all outputs for one worker batch; the last one releases the batch's range of the queue.
public final class Delivery: Sendable {
  public let source: any SourceRecords
  private let open = Atomic<Int>(1)
  private let whenDone: @Sendable () -> Void

  public init(source: any SourceRecords, whenDone: @escaping @Sendable () -> Void) {
    self.source = source
    self.whenDone = whenDone
  }

  /// Announces `n` answers that will come.
  public func expect(_ n: Int) { open.wrappingAdd(n, ordering: .relaxed) }

  /// `n` events are delivered or are dead letters on disk.
  public func finish(_ n: Int) {
    if open.wrappingSubtract(n, ordering: .acquiringAndReleasing).newValue == 0 { whenDone() }
  }

  /// The worker has handed the batch to every output.
  public func seal() { finish(1) }

  /// Appends the id of `event`: its record's id, and `-1`, `-2` … behind it for further events made from one record.
  public func appendID(_ event: Event, to out: inout ByteBuffer) {
    source.appendID(event.record, to: &out)
    if event.part > 0 {
      out.append(45)
      out.append(decimal: event.part)
    }
  }
}

/// Why an event became a dead letter.
public struct DeadLetterReason: Sendable {
  /// decode, filter, condition, or the output's id.
  public var stage: String
  /// Status of the answer, where there was one.
  public var status: Int?
  /// The kind of refusal: `mapper_parsing_exception`, `index-name`, `condition`.
  public var type: String
  /// The server's or our own sentence.
  public var message: String
  public var index: String?
  public var attempts: Int
  public var documentID: String?
  /// Which of the events made from its record it is, 0 for the first.
  public var part: Int
  /// The line that named the target, where the event was sent behind it just as it is.
  public var action: [UInt8] = []

  public init(
    stage: String, status: Int? = nil, type: String, message: String, index: String? = nil, attempts: Int = 1,
    documentID: String? = nil, part: Int = 0
  ) {
    self.stage = stage
    self.status = status
    self.type = type
    self.message = message
    self.index = index
    self.attempts = attempts
    self.documentID = documentID
    self.part = part
  }
}

/// Where refused events go. Any thread.
public protocol DeadLetterSink: AnyObject, Sendable {
  /// Takes one letter, which is durable once `sync` has returned true; until then its event is not done with.
  ///
  /// - Parameters:
  ///   - record: The record's number in `source`; nil for an event without one.
  ///   - document: The event as it was sent or would have been, as JSON.
  /// - Returns: False when the letter was not taken: the caller keeps the event and tries again.
  func write(
    _ reason: DeadLetterReason, source: any SourceRecords, record: Int, document: UnsafeRawBufferPointer
  ) -> Bool
  /// Makes all letters so far durable, those of other threads with them.
  ///
  /// - Returns: False when the disk refuses or there is no room; the letters stay taken and the caller comes again.
  func sync() -> Bool
}
