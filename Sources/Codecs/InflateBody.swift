//  Whole compressed bodies, unpacked within a bound: what HTTP's Content-Encoding brings.

internal import CZstd
public import Diagnostics

public enum BodyEncoding: Sendable, Equatable {
  case gzip, deflate, zstd

  /// By the name in `Content-Encoding`, in lower case; nil for one that is unknown.
  public init?(contentEncoding name: String) {
    switch name {
    case "gzip", "x-gzip": self = .gzip
    case "deflate", "x-deflate": self = .deflate
    case "zstd": self = .zstd
    default: return nil
    }
  }
}

/// Unpacks all of `input` behind what `output` holds; several gzip members or zstd frames are joined.
///
/// - Throws: `.tooLarge` once more than `limit` bytes would be made; `output` then holds what was made so far.
public func unpack(
  _ input: UnsafeRawBufferPointer, _ encoding: BodyEncoding, limit: Int, into output: inout ByteBuffer
) throws(InflateError) {
  switch encoding {
  case .zstd: try unpackZstd(input, limit: limit, into: &output)
  case .gzip:
    let inflater = Inflater(.gzip)
    var offset = 0
    repeat {
      inflater.reset(.gzip)
      offset += try unpackStream(
        inflater, UnsafeRawBufferPointer(rebasing: input[offset...]), limit: limit, into: &output)
    } while offset < input.count
  case .deflate:
    // The name means a zlib stream (RFC 9110 section 8.4.1.2), but some senders leave its wrapper away.
    let isWrapped =
      input.count >= 2 && input[0] & 0x0f == 8 && input[0] >> 4 <= 7 && (Int(input[0]) << 8 | Int(input[1])) % 31 == 0
    let used = try unpackStream(Inflater(isWrapped ? .zlib : .deflate), input, limit: limit, into: &output)
    if used < input.count { throw .badData }
  }
}

private func unpackStream(
  _ inflater: Inflater, _ input: UnsafeRawBufferPointer, limit: Int, into output: inout ByteBuffer
) throws(InflateError) -> Int {
  var offset = 0
  let start = output.count
  while true {
    // One byte above the limit is asked for, so that an output of exactly the limit is told from a larger one.
    let room = min(max(64 << 10, input.count * 2), limit + 1 - output.count)
    output.reserve(room)
    let space = UnsafeMutableRawBufferPointer(start: output.pointer + output.count, count: room)
    let (used, made) = try inflater.inflate(UnsafeRawBufferPointer(rebasing: input[offset...]), into: space)
    offset += used
    output.count += made
    if output.count > limit { throw .tooLarge(limitBytes: limit) }
    if inflater.isFinished { return offset - inflater.overreadBytes }
    if made < room, offset == input.count {
      if start == output.count, offset < 2 { throw .badHeader }
      throw .truncated
    }
    if made == 0, used == 0 { throw .badData }
  }
}

private func unpackZstd(_ input: UnsafeRawBufferPointer, limit: Int, into output: inout ByteBuffer) throws(InflateError) {
  guard let context = ZSTD_createDCtx() else { throw .badData }
  defer { ZSTD_freeDCtx(context) }
  // RFC 9659: a window of at most 8 MiB in HTTP.
  _ = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, 23)
  var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
  var isWithinFrame = true
  while source.pos < source.size || isWithinFrame {
    let room = min(max(64 << 10, input.count * 2), limit + 1 - output.count)
    output.reserve(room)
    var target = ZSTD_outBuffer(dst: output.pointer + output.count, size: room, pos: 0)
    let before = source.pos
    let status = ZSTD_decompressStream(context, &target, &source)
    output.count += target.pos
    if ZSTD_isError(status) != 0 {
      if output.count == 0, before == 0 { throw .badHeader }
      throw .badData
    }
    if output.count > limit { throw .tooLarge(limitBytes: limit) }
    isWithinFrame = status != 0
    if isWithinFrame, source.pos == source.size, target.pos < room { throw .truncated }
  }
}
