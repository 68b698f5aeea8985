//  The checkpoint: how far the queue is released, and up to where the last segment is known to be on disk.
//
//  The file has two slots of 64 bytes, 4096 bytes apart, so that no write touches both. Each write goes to the older
//  slot; a torn one leaves the other, which is only older: deliveries are repeated, nothing is lost. It is synced when
//  the queue opens (both slots then say so, one after the other) and closes and before a released segment goes away, and
//  written without a sync in between.

internal import CSystem
internal import Diagnostics

struct Checkpoint: Equatable {
  var generation: UInt64 = 0
  /// Everything before this is done with.
  var released = Position(segment: 0, index: 0)
  /// Where in the segment's file the block with that record begins; 0 is unknown.
  var releasedOffset: UInt64 = 0
  /// Everything from here on was never given to a reader. Holds only when `isClean`.
  var dispatched = Position(segment: 0, index: 0)
  /// The last segment was on disk up to this place, with so many records.
  var synced = Position(segment: 0, index: 0)
  var syncedOffset: UInt64 = 0
  /// The queue was closed in order: `synced` is its end.
  var isClean = false

  /// Up to where a segment is known to have been on disk, and how many records that is: what does not verify before is
  /// damage, and only behind it can there be a torn end.
  func knownEnd(of segment: UInt64) -> (offset: Int, count: UInt32)? {
    guard synced.segment == segment, syncedOffset >= Format.segmentHeaderBytes else { return nil }
    return (Int(syncedOffset), synced.index)
  }

  static let slotBytes = 64
  static let fileBytes = 4096 + slotBytes
  static let marker: UInt32 = 0x5051_4c53

  func bytes() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Checkpoint.slotBytes)
    bytes.withUnsafeMutableBytes { room in
      guard let base = room.baseAddress else { return }
      base.storeBytes(of: Checkpoint.marker.littleEndian, as: UInt32.self)
      base.storeBytes(of: UInt32(isClean ? 1 : 0).littleEndian, toByteOffset: 4, as: UInt32.self)
      base.storeBytes(of: generation.littleEndian, toByteOffset: 8, as: UInt64.self)
      base.storeBytes(of: released.segment.littleEndian, toByteOffset: 16, as: UInt64.self)
      base.storeBytes(of: UInt32(clamping: releasedOffset).littleEndian, toByteOffset: 24, as: UInt32.self)
      base.storeBytes(of: released.index.littleEndian, toByteOffset: 28, as: UInt32.self)
      base.storeBytes(of: dispatched.segment.littleEndian, toByteOffset: 32, as: UInt64.self)
      base.storeBytes(of: dispatched.index.littleEndian, toByteOffset: 40, as: UInt32.self)
      base.storeBytes(of: synced.index.littleEndian, toByteOffset: 44, as: UInt32.self)
      base.storeBytes(of: synced.segment.littleEndian, toByteOffset: 48, as: UInt64.self)
      base.storeBytes(of: UInt32(clamping: syncedOffset).littleEndian, toByteOffset: 56, as: UInt32.self)
      base.storeBytes(of: sys_crc32c(0, base, 60).littleEndian, toByteOffset: 60, as: UInt32.self)
    }
    return bytes
  }

  static func read(_ bytes: ArraySlice<UInt8>) -> Checkpoint? {
    guard bytes.count >= slotBytes else { return nil }
    return bytes.withUnsafeBytes { room in
      guard let base = room.baseAddress else { return nil }
      func get32(_ offset: Int) -> UInt32 {
        UInt32(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
      }
      func get64(_ offset: Int) -> UInt64 {
        UInt64(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      }
      guard get32(0) == marker, get32(60) == sys_crc32c(0, base, 60) else { return nil }
      return Checkpoint(
        generation: get64(8), released: Position(segment: get64(16), index: get32(28)),
        releasedOffset: UInt64(get32(24)),
        dispatched: Position(segment: get64(32), index: get32(40)),
        synced: Position(segment: get64(48), index: get32(44)),
        syncedOffset: UInt64(get32(56)), isClean: get32(4) & 1 != 0)
    }
  }

  /// The newer of a file's two slots.
  static func newest(_ file: [UInt8]) -> Checkpoint? {
    let first = read(file.prefix(slotBytes))
    let second = file.count >= fileBytes ? read(file[4096..<fileBytes]) : nil
    guard let first else { return second }
    guard let second else { return first }
    return first.generation > second.generation ? first : second
  }

  /// Where generation `generation` goes.
  static func offset(_ generation: UInt64) -> Int { generation % 2 == 0 ? 0 : 4096 }
}
