//  What was removed of a segment of dead letters: a side file of numbers, since a segment is never written to again.

internal import CSystem
internal import Diagnostics

/// The removed letters of a segment.
enum Tombstones {
  static func path(_ folder: String, _ number: UInt64) -> String {
    "\(folder)/\(Format.segmentName(number).dropLast(4)).gone"
  }

  private static func sum(_ index: UInt32, _ header: SegmentHeader) -> UInt32 {
    var text = index.littleEndian
    return sys_crc32c(header.identity.checksumSeed, &text, 4)
  }

  static func read(_ folder: String, _ header: SegmentHeader, _ fileSystem: any FileSystem) -> Set<UInt32> {
    guard let file = try? fileSystem.open(path(folder, header.number), .read),
      let bytes = try? file.readAll(limit: 64 << 20)
    else { return [] }
    var gone: Set<UInt32> = []
    bytes.withUnsafeBytes { room in
      var at = 0
      while at + 8 <= room.count {
        let index = UInt32(littleEndian: room.loadUnaligned(fromByteOffset: at, as: UInt32.self))
        // A torn entry at the end removes nothing.
        if UInt32(littleEndian: room.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self)) == sum(index, header) {
          gone.insert(index)
        }
        at += 8
      }
    }
    return gone
  }

  static func add(
    _ indexes: [UInt32], after count: Int, _ folder: String, _ header: SegmentHeader, _ fileSystem: any FileSystem
  ) throws(SystemError) {
    let file = try fileSystem.open(path(folder, header.number), .create)
    var bytes = ByteBuffer(capacity: indexes.count * 8)
    for index in indexes {
      bytes.append(littleEndian: index)
      bytes.append(littleEndian: sum(index, header))
    }
    // Behind whatever is there, torn or not, at the next multiple of an entry.
    let end = (try file.size() + 7) & ~7
    try file.writeFully([bytes.bytes], at: end)
    try file.sync()
  }
}
