//  Compression of a queue's blocks: whole blocks in memory, whose raw size stands in the block's header. Streams and
//  gzip are another matter and live in files of their own.

internal import CLZ4
internal import CZstd
public import Diagnostics

/// How a block of bytes is made smaller. Reading needs no setting: the block says what it is.
public enum BlockCompression: Equatable, Sendable {
  case none
  case lz4
  /// Levels 1 (fast) to 19 (small).
  case zstd(level: Int)

  /// The number that stands for the method in files.
  public var code: UInt8 {
    switch self {
    case .none: 0
    case .lz4: 1
    case .zstd: 2
    }
  }
}

/// Compresses blocks with working memory that is kept between calls. One owner, no sharing between threads.
public final class BlockCompressor {
  private let method: BlockCompression
  private let zstd: OpaquePointer?

  public init(_ method: BlockCompression) {
    self.method = method
    if case .zstd = method { zstd = ZSTD_createCCtx() } else { zstd = nil }
  }

  deinit { ZSTD_freeCCtx(zstd) }

  /// Appends `input` compressed to `output`.
  ///
  /// - Returns: The method's code, or 0 with nothing appended where the bytes would not get smaller.
  public func compress(_ input: UnsafeRawBufferPointer, into output: inout ByteBuffer) -> UInt8 {
    guard let source = input.baseAddress, input.count > 64, input.count < 1 << 30 else { return 0 }
    let written: Int
    switch method {
    case .none: return 0
    case .lz4:
      // Room for what counts as a gain and no more: incompressible bytes end early.
      output.reserve(input.count)
      written = Int(
        LZ4_compress_default(
          source.assumingMemoryBound(to: CChar.self),
          UnsafeMutableRawPointer(output.pointer + output.count).assumingMemoryBound(to: CChar.self),
          Int32(input.count), Int32(input.count - 1)))
    case .zstd(let level):
      guard let zstd else { return 0 }
      output.reserve(input.count)
      let result = ZSTD_compressCCtx(
        zstd, output.pointer + output.count, input.count - 1, source, input.count,
        Int32(clamping: max(1, min(19, level))))
      written = ZSTD_isError(result) != 0 ? 0 : result
    }
    guard written > 0 else { return 0 }
    output.count += written
    return method.code
  }
}

/// Expands blocks. One owner, no sharing between threads.
public final class BlockDecompressor {
  private var zstd: OpaquePointer?

  public init() {}
  deinit { ZSTD_freeDCtx(zstd) }

  /// Fills `output` from `input`.
  ///
  /// - Returns: False where the method is unknown, or the bytes do not expand to exactly `output.count`.
  public func expand(_ input: UnsafeRawBufferPointer, code: UInt8, into output: UnsafeMutableRawBufferPointer) -> Bool {
    guard let source = input.baseAddress, let target = output.baseAddress else { return false }
    switch code {
    case BlockCompression.lz4.code:
      guard input.count < 1 << 31, output.count < 1 << 31 else { return false }
      let written = LZ4_decompress_safe(
        source.assumingMemoryBound(to: CChar.self), target.assumingMemoryBound(to: CChar.self), Int32(input.count),
        Int32(output.count))
      return Int(written) == output.count
    case 2:
      if zstd == nil { zstd = ZSTD_createDCtx() }
      guard let zstd else { return false }
      let result = ZSTD_decompressDCtx(zstd, target, output.count, source, input.count)
      return ZSTD_isError(result) == 0 && result == output.count
    default: return false
    }
  }
}
