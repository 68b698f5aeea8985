//  Letters read in order as they are written, beside the daemon that writes them or in the same process, without a lock.
//
//  A place is a segment and the next letter in it. Numbers of segments only grow, as long as nobody empties the folder by
//  hand; a place therefore carries the segment's identity too, which holds its time, so that a folder that was begun anew
//  is read from its start. What is removed before the follower comes to it is passed over.
//
//  A poll costs one listing of the folder and the size of one file while nothing is new, and never reads a block twice that
//  it has handed on.

public import Codecs
internal import Diagnostics
internal import Glibc
internal import Records

/// The next letter to be read.
public struct DeadLetterPlace: Equatable, Sendable, CustomStringConvertible {
  public let position: DeadLetterPosition
  /// Of the segment, as hexadecimal digits: they sort by the time at which it was begun.
  public let identity: String

  init(_ position: DeadLetterPosition, _ identity: String) {
    self.position = position
    self.identity = identity
  }

  /// Reads `17-3 0190…`; nil where it is no place.
  public init?(_ text: String) {
    let words = text.split(separator: " ")
    guard words.count == 2, let position = DeadLetterPosition(String(words[0])),
      words[1].utf8.count == 2 * SegmentIdentity.byteCount,
      words[1].utf8.allSatisfy({ ($0 >= 48 && $0 <= 57) || ($0 >= 97 && $0 <= 102) })
    else { return nil }
    self.init(position, String(words[1]))
  }

  public var description: String { "\(position) \(identity)" }
}

/// A letter and where to go on behind it.
public struct FollowedLetter: Sendable {
  public let entry: DeadLetterEntry
  public let next: DeadLetterPlace
}

/// Follows the letters of one folder. One thread owns it.
public final class DeadLetterFollower {
  private struct Cursor {
    var place: DeadLetterPlace
    /// Where the block that holds the place begins, as far as it is known, and the number of its first letter.
    var offset = Format.segmentHeaderBytes
    var firstIndex: UInt32 = 0
  }

  private let folder: String
  private let keys: [BlockKey]
  private let fileSystem: any FileSystem
  private var cursor: Cursor?
  private var names: [String] = []
  /// The last segment's file, and its size when all of it had been read.
  private var last: (path: String, size: Int)?

  /// - Parameter start: Goes on there; nil: from the oldest letter.
  public init(
    folder: String, keys: [BlockKey] = [], from start: DeadLetterPlace? = nil,
    fileSystem: any FileSystem = RealFileSystem()
  ) {
    self.folder = folder
    self.keys = keys
    self.fileSystem = fileSystem
    cursor = start.map { Cursor(place: $0) }
  }

  /// The next letters, oldest first: none where nothing is new, else at most so many, and one whatever its size.
  ///
  /// - Throws: Where the folder cannot be read; the follower stays where it is.
  public func next(maxLetters: Int, maxBytes: Int) throws(QueueOpenError) -> [FollowedLetter] {
    guard let present = try listing() else { return [] }
    let picture = try FolderPicture.read(folder, fileSystem, keys: keys, knownEnd: knownEnd)
    let walker = SegmentWalker(fileSystem: fileSystem, reader: BlockReader(keys: keys))
    var found: [FollowedLetter] = []
    var bytes = 0
    var count = 0
    for segment in picture.segments where isAhead(segment) {
      if picture.locked.contains(where: { segment.path.hasSuffix("/" + $0) }) {
        if !found.isEmpty { return found }
        throw .missingKey(file: segment.path, keyId: segment.header.keyId)
      }
      enter(segment)
      do {
        let isThrough = try take(segment, walker, &found) { entry in
          bytes += entry.letter.byteCount
          count += 1
          return count < maxLetters && bytes < maxBytes
        }
        if !isThrough { return found }
      } catch {
        // Beside the writer a segment may have gone with the last of its letters.
        if error.code == ENOENT { continue }
        if !found.isEmpty { return found }
        throw .disk(error, path: segment.path)
      }
    }
    // All of it was read: the next poll has something to do once a name or the last size changes.
    names = present
    last = nil
    if let segment = picture.segments.last, let size = try? fileSystem.open(segment.path, .read).size(),
      size == segment.end
    {
      last = (segment.path, size)
    }
    return found
  }

  /// The names in the folder; nil where nothing can be new.
  private func listing() throws(QueueOpenError) -> [String]? {
    let present: [String]
    do { present = try fileSystem.list(folder).filter { $0.hasSuffix(".seg") }.sorted() } catch {
      // The pipeline has written none so far.
      if error.code == ENOENT { return nil }
      throw .disk(error, path: folder)
    }
    if present.isEmpty { return nil }
    guard present == names, let last, let size = try? fileSystem.open(last.path, .read).size() else { return present }
    return size == last.size ? nil : present
  }

  private func knownEnd(_ number: UInt64) -> (offset: Int, count: UInt32)? {
    guard let cursor, cursor.place.position.segment == number, cursor.firstIndex > 0 else { return nil }
    return (cursor.offset, cursor.firstIndex)
  }

  /// Whether the segment holds letters behind the place.
  private func isAhead(_ segment: Segment) -> Bool {
    guard let place = cursor?.place else { return true }
    // Identities begin with their milliseconds; what is random behind them says nothing of the order.
    return segment.number >= place.position.segment
      || DeadLetterFollower.name(segment).prefix(12) > place.identity.prefix(12)
  }

  private static func name(_ segment: Segment) -> String {
    segment.header.identity.bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  private func enter(_ segment: Segment) {
    let name = DeadLetterFollower.name(segment)
    if let place = cursor?.place, place.position.segment == segment.number, place.identity == name { return }
    cursor = Cursor(place: DeadLetterPlace(DeadLetterPosition(segment: segment.number, index: 0), name))
  }

  /// - Parameter body: Says after each letter whether a further one is wanted.
  /// - Returns: False where `body` wanted no more.
  private func take(
    _ segment: Segment, _ walker: SegmentWalker, _ found: inout [FollowedLetter], _ body: (DeadLetterEntry) -> Bool
  ) throws(SystemError) -> Bool {
    guard let start = cursor, segment.end > start.offset else { return true }
    let identity = start.place.identity
    let gone = try Tombstones.read(folder, segment.header, fileSystem)
    var goesOn = true
    var taken: [FollowedLetter] = []
    var now = start
    try walker.walk(
      segment, end: segment.end, count: segment.count, from: start.offset,
      damage: { (place: QueueDamage) -> Void in DeadLetterReader.report(place, segment) }
    ) { (block: Block) -> Bool in
      now.offset = block.offset
      now.firstIndex = block.firstIndex
      DeadLetterReader.letters(of: block, segment, gone, from: start.place.position) { entry in
        let next = DeadLetterPlace(
          DeadLetterPosition(segment: segment.number, index: entry.position.index + 1), identity)
        now.place = next
        taken.append(FollowedLetter(entry: entry, next: next))
        goesOn = body(entry)
        return goesOn
      }
      if goesOn {
        now.offset = block.offset + block.extent
        now.firstIndex = block.firstIndex + UInt32(block.count)
      }
      return goesOn
    }
    if goesOn {
      now.offset = max(now.offset, segment.end)
      now.firstIndex = max(now.firstIndex, segment.count)
      now.place = DeadLetterPlace(
        DeadLetterPosition(segment: segment.number, index: max(now.place.position.index, segment.count)), identity)
    }
    cursor = now
    found += taken
    return goesOn
  }
}
