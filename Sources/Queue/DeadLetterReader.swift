//  Letters read from outside: beside a running daemon or without one, as the tools do; and the list of those that were
//  removed, which stands beside each segment.

internal import CSystem
public import Codecs
internal import Diagnostics
internal import Glibc
internal import Records

/// Reads letters without a lock, beside a running daemon or without one.
public struct DeadLetterReader {
  private let folder: String
  private let keys: [BlockKey]
  private let fileSystem: any FileSystem

  public init(folder: String, keys: [BlockKey] = [], fileSystem: any FileSystem = RealFileSystem()) {
    self.folder = folder
    self.keys = keys
    self.fileSystem = fileSystem
  }

  /// Calls `body` for each letter from `start` on, oldest first, until it returns false.
  public func read(from start: DeadLetterPosition? = nil, _ body: (DeadLetterEntry) -> Bool) throws(QueueOpenError) {
    let picture = try FolderPicture.read(folder, fileSystem, keys: keys)
    if let name = picture.locked.first, let segment = picture.segments.first(where: { $0.path.hasSuffix(name) }) {
      throw .missingKey(file: segment.path, keyId: segment.header.keyId)
    }
    let walker = SegmentWalker(fileSystem: fileSystem, reader: BlockReader(keys: keys))
    for segment in picture.segments {
      do {
        let gone = try Tombstones.read(folder, segment.header, fileSystem)
        guard try DeadLetterReader.walk(segment, segment.end, segment.count, gone, walker, start, body) else { return }
      } catch {
        if error.code != ENOENT { throw .disk(error, path: segment.path) }
      }
    }
  }

  /// - Returns: False where `body` wants no more.
  static func walk(
    _ segment: Segment, _ end: Int, _ count: UInt32, _ gone: Set<UInt32>, _ walker: SegmentWalker,
    _ start: DeadLetterPosition?, _ body: (DeadLetterEntry) -> Bool
  ) throws(SystemError) -> Bool {
    if let start, segment.number < start.segment { return true }
    var goesOn = true
    try walker.walk(
      segment, end: end, count: count,
      damage: { place in
        Log.error(
          "dlq.segment-damaged",
          "A dead-letter segment is damaged; the letters there are lost, those beside them are not.",
          [
            "file": .text(segment.path), "offset": .number(place.offset), "bytes": .number(place.bytes),
            "letters_lost": .number(place.lostRecords), "next": "check the disk",
          ])
      }
    ) { block in
      var payload = block.payloads
      var i = 0
      for run in block.runs {
        for _ in 0..<run.count {
          let bytes = UnsafeRawBufferPointer(start: payload, count: block.length(i))
          let position = DeadLetterPosition(
            segment: segment.number, index: block.firstIndex &+ UInt32(truncatingIfNeeded: i))
          let isWanted =
            !block.damaged.contains(i) && !gone.contains(position.index) && (start.map { position >= $0 } ?? true)
          payload += bytes.count
          i += 1
          guard isWanted, let letter = DeadLetter(bytes, descriptor: run.descriptor, context: run.context)
          else { continue }
          goesOn = body(DeadLetterEntry(position: position, writtenNs: run.arrivalNs, letter: letter))
          if !goesOn { return false }
        }
      }
      return true
    }
    return goesOn
  }
}

/// The removed letters of a segment.
enum Tombstones {
  static func path(_ folder: String, _ number: UInt64) -> String {
    "\(folder)/\(Format.segmentName(number).dropLast(4)).gone"
  }

  private static func sum(_ index: UInt32, _ header: SegmentHeader) -> UInt32 {
    var text = index.littleEndian
    return sys_crc32c(header.identity.checksumSeed, &text, 4)
  }

  /// - Throws: Where there is a list that cannot be read: without it, letters that are gone would come again.
  static func read(
    _ folder: String, _ header: SegmentHeader, _ fileSystem: any FileSystem
  ) throws(SystemError) -> Set<UInt32> {
    let bytes: [UInt8]
    do {
      bytes = try fileSystem.open(path(folder, header.number), .read).readAll(limit: 64 << 20)
    } catch {
      if error.code == ENOENT { return [] }
      throw error
    }
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
