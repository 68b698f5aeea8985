//  Streamed inflating over ISA-L, which measured 2.5 times as fast as zlib on log lines (1 GB/s against 0.4).
//
//  The caller owns both buffers and decides how much comes out at a time, so that a small input that stands for a huge
//  output costs nothing until somebody asks for it.

internal import CISAL

public enum InflateFormat: Sendable {
  /// RFC 1950, with its Adler-32 checked.
  case zlib
  /// RFC 1952, one member, with its CRC-32 checked.
  case gzip
  /// RFC 1951, bare.
  case deflate
}

public enum InflateError: Error, Equatable, Sendable, CustomStringConvertible {
  case badHeader
  case unsupportedMethod
  case needsDictionary
  case badData
  case badChecksum
  /// The input ended before the stream did.
  case truncated
  /// The output would be larger than the caller allows.
  case tooLarge(limitBytes: Int)

  public var description: String {
    switch self {
    case .badHeader: "the compressed data has no valid header"
    case .unsupportedMethod: "the compression method is not deflate"
    case .needsDictionary: "the compressed data needs a preset dictionary"
    case .badData: "the compressed data is damaged"
    case .badChecksum: "the checksum of the compressed data is wrong"
    case .truncated: "the compressed data is cut off"
    case .tooLarge(let limit): "the data unpacks to more than \(limit) bytes"
    }
  }
}

/// One stream at a time; reused by `reset`. About 87 KB. Not thread-safe.
public final class Inflater {
  private let state: UnsafeMutablePointer<inflate_state>

  public init(_ format: InflateFormat = .zlib) {
    state = .allocate(capacity: 1)
    isal_inflate_init(state)
    reset(format)
  }

  deinit { state.deallocate() }

  /// Begins a new stream.
  public func reset(_ format: InflateFormat) {
    isal_inflate_reset(state)
    state.pointee.next_in = nil
    state.pointee.avail_in = 0
    state.pointee.crc_flag =
      switch format {
      case .zlib: UInt32(ISAL_ZLIB)
      case .gzip: UInt32(ISAL_GZIP)
      case .deflate: UInt32(ISAL_DEFLATE)
      }
  }

  /// The stream's end has been reached and its checksum was right.
  public var isFinished: Bool { state.pointee.block_state == ISAL_BLOCK_FINISH }

  /// Bytes that were used although they stand behind the end of a finished stream: ISA-L reads up to eight ahead.
  public var overreadBytes: Int { isFinished ? Int(max(0, state.pointee.read_in_length) / 8) : 0 }

  /// Unpacks from the front of `input` into `output`.
  ///
  /// - Returns: How many bytes were used and how many were made. Less made than `output` holds means that the stream is
  ///   finished or that more input is needed.
  public func inflate(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(InflateError)
    -> (used: Int, made: Int)
  {
    guard !isFinished, let to = output.baseAddress else { return (0, 0) }
    let offered = min(input.count, 1 << 30)
    let room = min(output.count, 1 << 30)
    // ISA-L takes a pointer to mutable bytes but only reads them.
    state.pointee.next_in = UnsafeMutablePointer(
      mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
    state.pointee.avail_in = UInt32(offered)
    state.pointee.next_out = to.assumingMemoryBound(to: UInt8.self)
    state.pointee.avail_out = UInt32(room)
    let status = isal_inflate(state)
    let used = offered - Int(state.pointee.avail_in)
    let made = room - Int(state.pointee.avail_out)
    state.pointee.next_in = nil
    state.pointee.avail_in = 0
    switch status {
    case ISAL_DECOMP_OK, ISAL_END_INPUT, ISAL_OUT_OVERFLOW: return (used, made)
    case ISAL_NEED_DICT: throw .needsDictionary
    case ISAL_INVALID_WRAPPER: throw .badHeader
    case ISAL_UNSUPPORTED_METHOD: throw .unsupportedMethod
    case ISAL_INCORRECT_CHECKSUM: throw .badChecksum
    default: throw .badData
    }
  }
}
