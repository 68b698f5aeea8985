//  What inputs hand over and queues keep: raw payloads with what decoding needs to know of their arrival.
//
//  A batch comes from one place at one moment (a Beats window, an HTTP request, the lines of one read), so descriptor,
//  context and arrival time stand once in it. A batch is atomic: a queue keeps all of its records or none.

public import Diagnostics

/// How the records of an input are decoded: codec, charset, ECS mode, type, tags, added fields, as JSON text.
///
/// Made once per input and compared by identity first, so that a queue stores it once per segment.
public final class RecordDescriptor: Hashable, Sendable {
  public let bytes: [UInt8]
  public init(_ bytes: [UInt8]) { self.bytes = bytes }
  /// Of what never was a record.
  public static let none = RecordDescriptor([])
  public static func == (left: RecordDescriptor, right: RecordDescriptor) -> Bool {
    left === right || left.bytes == right.bytes
  }
  public func hash(into hasher: inout Hasher) { hasher.combine(bytes) }
}

/// What is known of the connection or request that brought records: peer, TLS identity, HTTP head, as JSON text.
public final class RecordContext: Hashable, Sendable {
  public let bytes: [UInt8]
  public init(_ bytes: [UInt8]) { self.bytes = bytes }
  public static func == (left: RecordContext, right: RecordContext) -> Bool {
    left === right || left.bytes == right.bytes
  }
  public func hash(into hasher: inout Hasher) { hasher.combine(bytes) }
}

/// Records on their way into a queue. One owner at a time: the input fills it, the queue takes it.
public final class RecordBatch: @unchecked Sendable {  // unchecked: handed on, never shared
  public let descriptor: RecordDescriptor
  public let context: RecordContext?
  /// Wall clock at arrival, nanoseconds since 1970.
  public let arrivalNs: Int64
  /// The payloads, back to back.
  public var payloads = ByteBuffer()
  /// Where each payload ends in `payloads`; it begins where the one before ends.
  public private(set) var ends: [Int] = []

  public init(descriptor: RecordDescriptor, context: RecordContext?, arrivalNs: Int64 = WallClock.ns) {
    self.descriptor = descriptor
    self.context = context
    self.arrivalNs = arrivalNs
  }

  public var count: Int { ends.count }
  public var byteCount: Int { payloads.count }

  public func append(_ payload: UnsafeRawBufferPointer) {
    payloads.append(payload)
    ends.append(payloads.count)
  }

  /// Ends a record whose bytes were written to `payloads` directly.
  public func endRecord() { ends.append(payloads.count) }

  public func withPayload<Result>(_ i: Int, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    let start = i == 0 ? 0 : ends[i - 1]
    return try body(UnsafeRawBufferPointer(rebasing: payloads.bytes[start..<ends[i]]))
  }
}

/// Why a queue did not take a batch. The batch left nothing behind.
public enum AppendFailure: Error, Equatable, Sendable {
  /// The queue is closing; the sender must come again.
  case closed
  /// The batch can never fit (above the queue's own limit).
  case tooLarge(limitBytes: Int)
}

/// Where inputs put their records. Implemented over the pipeline's queue.
public protocol RecordSink: AnyObject, Sendable {
  /// Takes the batch and calls `completion` once it is kept (on disk, for a persisted queue) or refused.
  ///
  /// Returns at once and never blocks: a full queue answers later. `completion` is called exactly once, on any thread.
  func append(_ batch: RecordBatch, completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void)

  /// Takes a batch back that nothing was done with yet.
  ///
  /// - Returns: True when nothing of the batch was kept nor ever will be; its completion is then not called. False when it
  ///   is too late: its completion comes, or came.
  func withdraw(_ batch: RecordBatch) -> Bool

  /// False while the queue is full or held back; inputs then stop reading. A hint, not a promise.
  var hasRoom: Bool { get }
}

extension RecordSink {
  public func withdraw(_ batch: RecordBatch) -> Bool { false }
}
