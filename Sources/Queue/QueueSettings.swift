//  What can be set on a queue on disk, and what can go wrong when one is opened.

public import Codecs
public import Diagnostics
internal import Synchronization

public struct QueueSettings: Sendable {
  public enum Durability: Equatable, Sendable {
    /// An append completes once its bytes are synced.
    case sync
    /// An append completes once it is written; a sync follows within the interval. A power loss costs that much.
    case interval(Duration)
    /// The kernel writes back when it likes. A crash of the process loses nothing, a power loss some 30 seconds.
    case os
  }

  /// `queue.page_capacity`: bytes of a segment file. At most a quarter of `maxBytes` is used, so that space comes free.
  public var segmentBytes = 64 << 20
  /// `queue.max_bytes`: bytes of records that are not released; 0 is unlimited.
  public var maxBytes = 1 << 30
  /// `queue.max_events`: records that are not released; 0 is unlimited.
  public var maxEvents = 0
  /// `queue.min_free`: nothing is taken while less is free on the disk.
  public var minFreeBytes = 256 << 20
  public var durability = Durability.sync
  /// `queue.retain`: released segments are kept for replays, up to so many bytes and so long; 0 keeps none.
  public var retainBytes = 0
  public var retainAge = Duration.zero
  public var compression = BlockCompression.none
  /// The first key encrypts; all of them decrypt. Empty: no encryption.
  public var keys: [BlockKey] = []
  /// Payload bytes that may wait to be written before `hasRoom` turns false.
  public var backlogBytes = 16 << 20
  /// Bytes of written blocks that are kept in memory for readers.
  public var memoryBytes = 16 << 20
  /// How late the released position may be on disk. A crash repeats the deliveries of that time.
  public var checkpointInterval = Duration.milliseconds(500)
  /// A budget that several queues share; counts beside `maxBytes`.
  public var quota: QueueQuota?
  /// Shown in logs: the pipeline's or the output's id.
  public var name = ""

  public init() {}

  /// Bytes that one sync serves at most, beyond its first batch.
  static let groupBytes = 4 << 20
  /// Small batches share blocks up to this size.
  static let blockBytes = 1 << 20
  /// A batch above this is written in parts.
  static let partBytes = 16 << 20
}

/// A number of bytes on disk that several queues share.
public final class QueueQuota: Sendable {
  public let limitBytes: Int
  private let used = Atomic<Int>(0)
  public init(limitBytes: Int) { self.limitBytes = limitBytes }
  public var usedBytes: Int { used.load(ordering: .relaxed) }
  /// Counts bytes that nobody will give back while the process runs.
  public func reserve(_ bytes: Int) { add(bytes) }
  func add(_ bytes: Int) { used.wrappingAdd(bytes, ordering: .relaxed) }
}

/// Why a queue could not be opened.
public enum QueueOpenError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Another process (or another queue of this one) holds the folder.
  case locked(folder: String)
  /// A segment was written by a later version.
  case version(file: String, found: Int)
  /// A segment is encrypted with a key that is not among the settings' keys.
  case missingKey(file: String, keyId: UInt64)
  case disk(SystemError, path: String)

  public var description: String {
    switch self {
    case .locked(let folder):
      "the queue folder \(folder) is in use by another process; stop that one, or give this one a path.queue of its own"
    case .version(let file, let found):
      "\(file) has format \(found) and this version reads \(Format.version);"
        + " drain the queue with the version that wrote it, or move the folder away"
    case .missingKey(let file, let keyId):
      "\(file) is encrypted with key \(String(keyId, radix: 16)), which is not configured; add it to the queue's keys"
    case .disk(let error, let path): "\(path): \(error.reason) (\(error.call))"
    }
  }
}
