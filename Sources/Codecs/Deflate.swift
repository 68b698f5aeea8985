//  Compressing whole buffers with libdeflate, which is two to three times as fast as zlib at the same ratio.

internal import CDeflate
public import Diagnostics

/// A compressor of one level, reused for any number of buffers. Not thread-safe.
public final class Deflater {
  private let compressor: OpaquePointer

  /// - Parameter level: 1 (fastest) to 12 (smallest); others are cut to that.
  public init(level: Int = 6) {
    guard let made = libdeflate_alloc_compressor(CInt(min(12, max(1, level)))) else {
      preconditionFailure("no memory for a compressor")
    }
    compressor = made
  }

  deinit { libdeflate_free_compressor(compressor) }

  /// Appends one gzip member that holds `input` to `output`.
  public func gzip(_ input: UnsafeRawBufferPointer, into output: inout ByteBuffer) {
    let bound = libdeflate_gzip_compress_bound(compressor, input.count)
    output.reserve(bound)
    output.count += libdeflate_gzip_compress(
      compressor, input.baseAddress, input.count, output.pointer + output.count, bound)
  }

  /// Appends one zlib stream that holds `input` to `output`.
  public func zlib(_ input: UnsafeRawBufferPointer, into output: inout ByteBuffer) {
    let bound = libdeflate_zlib_compress_bound(compressor, input.count)
    output.reserve(bound)
    output.count += libdeflate_zlib_compress(
      compressor, input.baseAddress, input.count, output.pointer + output.count, bound)
  }
}
