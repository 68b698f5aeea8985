//  What bounds a Beats peer, how a broken protocol is told, and the working memory of compressed frames.

internal import Codecs

/// Bounds on what a peer may send.
public struct BeatsLimits: Sendable {
  public var windowEvents = 65_536
  public var compressedBytes = 100 << 20
  /// Of one compressed frame.
  public var inflatedBytes = 256 << 20
  /// Larger events are read past and not kept.
  public var eventBytes = 64 << 20
  /// Protocol 1.
  public var pairs = 1024
  public var keyBytes = 64 << 10
  public var valueBytes = 16 << 20
  /// Payload bytes after which a window is handed over in parts.
  public var partBytes = 16 << 20
  public var oversizedHeadBytes = 64 << 10

  public init() {}
}

/// What broke the protocol. The connection cannot go on after it.
struct BeatsFault: Error, Equatable {
  var reason: String
  /// Bytes of the connection before the frame or byte at fault.
  var offset: Int
  /// Bytes of the compressed frame's content before it, where it is within one.
  var inflatedOffset: Int?
}

/// What a compressed frame needs while it is read; shared by the connections of a queue.
final class BeatsScratch {
  /// Frame headers of at most this are carried over from one chunk to the next.
  static let carryCapacity = 16
  static let chunkBytes = 64 << 10
  let chunk = UnsafeMutableRawPointer.allocate(
    byteCount: BeatsScratch.carryCapacity + BeatsScratch.chunkBytes, alignment: 64)
  private var spare: [Inflater] = []

  deinit { chunk.deallocate() }

  func takeInflater() -> Inflater {
    guard let inflater = spare.popLast() else { return Inflater(.zlib) }
    inflater.reset(.zlib)
    return inflater
  }

  func giveBack(_ inflater: Inflater) { if spare.count < 4 { spare.append(inflater) } }
}
