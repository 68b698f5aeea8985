//  Segments read from outside: what a folder holds and every block of it, without changing a byte. Tools use it beside a
//  running daemon, the dead letters use it for reading back.

internal import Codecs
internal import Diagnostics
internal import Glibc
internal import Records

/// A damaged place of a segment.
public struct QueueDamage: Equatable, Sendable {
  public let offset: Int
  public let bytes: Int
  public let lostRecords: Int
  /// Its bytes lie in a `.bad` file as they stand here: it is known, and nothing more can be done about it.
  public internal(set) var isSetAside = false
}

/// What a folder of segments holds at one moment.
struct FolderPicture {
  var segments: [Segment] = []
  /// Segment files without a readable header, in use by nobody.
  var damaged: [String] = []
  /// Files that a segment's beginning left behind: unwritten, taken for reuse, or void.
  var leftovers: [String] = []
  var spares: [String] = []
  /// Segments of which removed letters are noted, whether they are there or not.
  var tombstones: [UInt64] = []
  var setAside: [String] = []
  var foreign: [String] = []
  var checkpoint: Checkpoint?
  /// Names of segments whose key is not among those given.
  var locked: [String] = []

  /// - Parameter knownEnd: Where a segment is known to reach at least, with the number of its records up to there.
  static func read(
    _ folder: String, _ fileSystem: any FileSystem, keys: [BlockKey],
    knownEnd: (UInt64) -> (offset: Int, count: UInt32)? = { _ in nil }
  ) throws(QueueOpenError) -> FolderPicture {
    var picture = FolderPicture()
    let names: [String]
    do { names = try fileSystem.list(folder).sorted() } catch { throw .disk(error, path: folder) }
    for name in names {
      if Format.segmentNumber(name) != nil {
        try picture.enter(name, folder, fileSystem, keys)
      } else if name.hasPrefix("spare-"), name.hasSuffix(".seg") {
        picture.spares.append(name)
      } else if name.hasSuffix(".bad") {
        picture.setAside.append(name)
      } else if let number = Tombstones.segmentNumber(name) {
        picture.tombstones.append(number)
      } else if name != "lock", name != "checkpoint" {
        picture.foreign.append(name)
      }
    }
    picture.segments.sort { $0.number < $1.number }
    picture.dropVoid()
    if names.contains("checkpoint"), let file = try? fileSystem.open(folder + "/checkpoint", .read),
      let bytes = try? file.readAll(limit: Checkpoint.fileBytes)
    {
      picture.checkpoint = Checkpoint.newest(bytes)
    }
    try picture.findEnds(fileSystem, keys, knownEnd)
    return picture
  }

  private mutating func enter(
    _ name: String, _ folder: String, _ fileSystem: any FileSystem, _ keys: [BlockKey]
  ) throws(QueueOpenError) {
    let path = folder + "/" + name
    let bytes: [UInt8]
    do {
      bytes = try fileSystem.open(path, .read).readAll(limit: Format.segmentHeaderBytes)
    } catch {
      // Beside a running daemon a segment may be finished and gone since the folder was listed.
      if error.code == ENOENT { return }
      throw .disk(error, path: path)
    }
    let number = Format.segmentNumber(name) ?? 0
    switch SegmentHeader.read(bytes) {
    case .version(let found): throw .version(file: path, found: Int(found))
    case .unwritten: leftovers.append(name)
    case .header(let header) where header.number < number: leftovers.append(name)
    case .header(let header) where header.number == number:
      if header.keyId != 0, !keys.contains(where: { $0.id == header.keyId }) { locked.append(name) }
      segments.append(Segment(header, path: path, end: Format.segmentHeaderBytes, count: 0, isSealed: true))
    case .damaged, .header: damaged.append(name)
    }
  }

  private mutating func dropVoid() {
    var kept: [Segment] = []
    for (i, segment) in segments.enumerated() {
      if i + 1 < segments.count, segments[i + 1].header.previous < segment.number {
        leftovers.append(Format.segmentName(segment.number))
      } else {
        kept.append(segment)
      }
    }
    segments = kept
  }

  private func findEnds(
    _ fileSystem: any FileSystem, _ keys: [BlockKey], _ knownEnd: (UInt64) -> (offset: Int, count: UInt32)?
  ) throws(QueueOpenError) {
    for (i, segment) in segments.enumerated() {
      if i + 1 < segments.count, segments[i + 1].header.previous == segment.number {
        segment.end = Int(clamping: segments[i + 1].header.previousEnd)
        segment.count = segments[i + 1].header.previousCount
        continue
      }
      segment.isSealed = i + 1 < segments.count
      let known =
        knownEnd(segment.number) ?? checkpoint?.knownEnd(of: segment.number) ?? (Format.segmentHeaderBytes, 0)
      do throws(SystemError) {
        let file = try fileSystem.open(segment.path, .read)
        let found = try SegmentScan.end(
          file, segment, keys: keys, from: known.offset, count: known.count, size: try file.size())
        segment.end = found.end
        segment.count = found.count
      } catch {
        // What cannot be read is not empty. Beside a running daemon a segment may have gone since the folder was listed.
        if error.code != ENOENT { throw .disk(error, path: segment.path) }
      }
    }
  }
}

/// Goes through the blocks of one segment.
struct SegmentWalker {
  let fileSystem: any FileSystem
  let reader: BlockReader

  /// Calls `body` for each block until it returns false, and `damage` for what lies in between.
  ///
  /// - Throws: Where the disk does not give the bytes.
  func walk(
    _ segment: Segment, end: Int, count: UInt32, from start: Int = Format.segmentHeaderBytes,
    damage: (QueueDamage) -> Void,
    _ body: (Block) -> Bool
  ) throws(SystemError) {
    let file = try fileSystem.open(segment.path, .read)
    var offset = start
    var index: UInt32?
    while offset < end {
      let window = try reader.window(
        file, segment.header, segment.seed, from: offset, to: end, windowBytes: QueueReader.windowBytes)
      for block in window.blocks {
        if let index, block.firstIndex > index {
          damage(QueueDamage(offset: offset, bytes: 0, lostRecords: Int(block.firstIndex - index)))
        }
        if !block.damaged.isEmpty {
          damage(QueueDamage(offset: block.offset, bytes: block.extent, lostRecords: block.damaged.count))
        }
        offset = block.offset + block.extent
        index = block.firstIndex + UInt32(block.count)
        // The chunk owns what the block points to.
        let goesOn = withExtendedLifetime(window) { body(block) }
        if !goesOn { return }
      }
      if !window.blocks.isEmpty { continue }
      let next = try reader.search(file, segment.seed, from: offset + Format.alignment, to: end)
      let nextIndex = next?.header.firstIndex ?? count
      let known = index ?? (start == Format.segmentHeaderBytes ? 0 : nextIndex)
      let until = next?.offset ?? end
      damage(
        QueueDamage(offset: offset, bytes: until - offset, lostRecords: Int(nextIndex > known ? nextIndex - known : 0)))
      offset = until
      index = nextIndex
    }
  }
}
