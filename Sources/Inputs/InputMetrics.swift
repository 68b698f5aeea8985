//  What every network input counts; connections are counted by its listener.

public import Diagnostics
internal import PluginKit

public final class InputMetrics: Sendable {
  /// Records handed to the queue and kept, and their payload bytes.
  public let events = Counter()
  public let bytes = Counter()
  /// Windows, requests or reads kept.
  public let batches = Counter()
  /// Protocol errors and refused requests.
  public let errors = Counter()
  /// Events above `max_event_bytes`.
  public let oversized = Counter()
  /// Events that were received without acknowledgement and could not be kept (TCP while the queue closes).
  public let lost = Counter()

  public init() {}

  /// These figures, with the port that was bound.
  func statistics(port: Int) -> InputStatistics {
    var result = InputStatistics()
    result.events = events.value
    result.bytes = bytes.value
    result.errors = errors.value
    result.oversized = oversized.value
    result.lost = lost.value
    result.boundPort = port
    return result
  }
}

/// An event that is larger than the input allows. It was read past; only its head was kept.
public struct OversizedEvent: Sendable {
  /// The first bytes, at most 64 KiB.
  public var head: [UInt8]
  public var sizeBytes: Int
  public var limitBytes: Int
  public var peer: String
}

/// Keeps an oversized event's head (as a dead letter) and calls the completion once it is kept; the acknowledgement
/// of what it came with waits for that.
public typealias OversizedHandler = @Sendable (OversizedEvent, _ completion: @escaping @Sendable () -> Void) -> Void
