//  Dead letters seen from outside: every letter that was not removed, segment by segment, without the owner's lock.

internal import CSystem
public import Codecs
public import Diagnostics
internal import Glibc
public import Records

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
      let gone = Tombstones.read(folder, segment.header, fileSystem)
      do {
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
