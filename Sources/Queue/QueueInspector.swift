//  The queue's folder for operators: figures, a check of every byte, its records, and a repair. All but the repair only
//  read, so they may run beside the daemon; what grows in the meantime is then left out.

public import Codecs
internal import Diagnostics
internal import Glibc
internal import Records

/// One segment as it stands on disk.
public struct QueueSegmentReport: Sendable {
  public let name: String
  public let number: UInt64
  public let createdNs: Int64
  public let bytes: Int
  public let records: Int
  /// Of them, done with.
  public let releasedRecords: Int
  public let isEncrypted: Bool
  /// Its key is not among those given: nothing in it can be read.
  public let isLocked: Bool
  /// Found by `check` alone.
  public internal(set) var damage: [QueueDamage] = []
}

public struct QueueFolderReport: Sendable {
  public let folder: String
  public internal(set) var segments: [QueueSegmentReport] = []
  public internal(set) var hasCheckpoint = false
  public internal(set) var wasClosed = false
  public internal(set) var spares: [String] = []
  /// Files with damaged bytes that were set aside earlier.
  public internal(set) var setAside: [String] = []
  public internal(set) var foreign: [String] = []
  /// Segment files whose header cannot be read.
  public internal(set) var damagedHeaders: [String] = []
  /// What `repair` did, a sentence each.
  public internal(set) var actions: [String] = []

  public var records: Int { segments.reduce(0) { $0 + $1.records } }
  /// Records that are not released.
  public var events: Int { segments.reduce(0) { $0 + $1.records - $1.releasedRecords } }
  public var bytes: Int { segments.reduce(0) { $0 + $1.bytes } }
  public var lostRecords: Int { segments.reduce(0) { $0 + $1.damage.reduce(0) { $0 + $1.lostRecords } } }
  /// What is damaged and set aside is known, and counts as sound.
  public var isSound: Bool {
    damagedHeaders.isEmpty && segments.allSatisfy { $0.damage.allSatisfy(\.isSetAside) && !$0.isLocked }
  }
  /// A repair would set something aside.
  public var isRepairable: Bool {
    !damagedHeaders.isEmpty || segments.contains { $0.damage.contains { !$0.isSetAside && $0.bytes > 0 } }
  }
}

/// A record as a tool sees it. `payload` is valid within the call alone.
public struct QueueDumpRecord {
  public let identity: RecordIdentity
  /// Segment's number and record's number in it.
  public let segment: UInt64
  public let index: UInt32
  public let isReleased: Bool
  public let arrivalNs: Int64
  public let descriptor: [UInt8]
  public let context: [UInt8]?
  public let payload: UnsafeRawBufferPointer
}

public struct QueueInspector {
  private let folder: String
  private let keys: [BlockKey]
  private let fileSystem: any FileSystem

  public init(folder: String, keys: [BlockKey] = [], fileSystem: any FileSystem = RealFileSystem()) {
    self.folder = folder
    self.keys = keys
    self.fileSystem = fileSystem
  }

  /// Figures from headers; of the last segment the blocks are followed.
  public func stats() throws(QueueOpenError) -> QueueFolderReport {
    report(try FolderPicture.read(folder, fileSystem, keys: keys))
  }

  /// Reads every block and compares every checksum.
  public func check() throws(QueueOpenError) -> QueueFolderReport {
    let picture = try FolderPicture.read(folder, fileSystem, keys: keys)
    var report = report(picture)
    for (i, segment) in picture.segments.enumerated() where !report.segments[i].isLocked {
      report.segments[i].damage = try damage(of: segment).map { place in
        var place = place
        place.isSetAside = Quarantine.holds(segment.path, place.offset, place.bytes, picture.setAside, fileSystem)
        return place
      }
    }
    return report
  }

  private func damage(of segment: Segment) throws(QueueOpenError) -> [QueueDamage] {
    var found: [QueueDamage] = []
    let walker = SegmentWalker(fileSystem: fileSystem, reader: BlockReader(keys: keys))
    do {
      try walker.walk(segment, end: segment.end, count: segment.count, damage: { found.append($0) }, { _ in true })
    } catch {
      if error.code != ENOENT { throw .disk(error, path: segment.path) }
    }
    return found
  }

  /// Calls `body` for each record in order until it returns false, and `damage` for what cannot be read in between.
  ///
  /// - Parameters:
  ///   - includesReleased: Also what is done with and still there, such as segments that are kept for replays.
  ///   - arrivedSinceNs: Segments that were finished before this wall clock are passed over as a whole; their other
  ///     records still come with any arrival.
  public func dump(
    includesReleased: Bool = false, arrivedSinceNs: Int64 = 0,
    damage: (_ segment: String, QueueDamage) -> Void = { _, _ in }, _ body: (QueueDumpRecord) -> Bool
  ) throws(QueueOpenError) {
    let picture = try FolderPicture.read(folder, fileSystem, keys: keys)
    let released = released(picture)
    let walker = SegmentWalker(fileSystem: fileSystem, reader: BlockReader(keys: keys))
    for (i, segment) in picture.segments.enumerated() {
      if !includesReleased, segment.number < released.segment { continue }
      if i + 1 < picture.segments.count, picture.segments[i + 1].header.createdNs < arrivedSinceNs { continue }
      var goesOn = true
      do {
        let name = Format.segmentName(segment.number)
        try walker.walk(segment, end: segment.end, count: segment.count, damage: { damage(name, $0) }) { block in
          goesOn = show(block, segment, released, includesReleased, body)
          return goesOn
        }
      } catch {
        if error.code != ENOENT { throw .disk(error, path: segment.path) }
      }
      if !goesOn { return }
    }
  }

  private func show(
    _ block: Block, _ segment: Segment, _ released: Position, _ includesReleased: Bool,
    _ body: (QueueDumpRecord) -> Bool
  ) -> Bool {
    var payload = block.payloads
    var i = 0
    for run in block.runs {
      for _ in 0..<run.count {
        let length = block.length(i)
        defer {
          payload += length
          i += 1
        }
        let index = block.firstIndex &+ UInt32(truncatingIfNeeded: i)
        let isReleased = Position(segment: segment.number, index: index) < released
        if block.damaged.contains(i) || (isReleased && !includesReleased) { continue }
        let record = QueueDumpRecord(
          identity: RecordIdentity(
            segment: block.identity.segment, index: block.identity.index &+ UInt32(truncatingIfNeeded: i)),
          segment: segment.number, index: index, isReleased: isReleased, arrivalNs: run.arrivalNs,
          descriptor: run.descriptor.bytes, context: run.context?.bytes,
          payload: UnsafeRawBufferPointer(start: payload, count: length))
        if !body(record) { return false }
      }
    }
    return true
  }

  /// Sets damaged bytes aside and removes what a crash left behind. The queue must not be open.
  ///
  /// The queue does the same by itself as it meets damage; a repair does it all at once, and tells.
  public func repair() throws(QueueOpenError) -> QueueFolderReport {
    let lock: any FileLock
    do { lock = try fileSystem.lock(folder + "/lock") } catch {
      if error.code == EWOULDBLOCK { throw .locked(folder: folder) }
      throw .disk(error, path: folder)
    }
    defer { withExtendedLifetime(lock) {} }
    let picture = try FolderPicture.read(folder, fileSystem, keys: keys)
    var actions: [String] = []
    do {
      for name in picture.damaged {
        try fileSystem.rename(folder + "/" + name, folder + "/" + name.dropLast(4) + ".bad")
        actions.append("\(name): the header is damaged; renamed to \(name.dropLast(4)).bad")
      }
      for name in picture.leftovers {
        try fileSystem.remove(folder + "/" + name)
        actions.append("\(name): held nothing that was acknowledged; removed")
      }
      for segment in picture.segments where !picture.locked.contains(Format.segmentName(segment.number)) {
        for place in try damage(of: segment) {
          if Quarantine.holds(segment.path, place.offset, place.bytes, picture.setAside, fileSystem) { continue }
          let file = try fileSystem.open(segment.path, .read)
          let kept = Quarantine.copy(file, place.offset, place.offset + place.bytes, segment.path, fileSystem)
          actions.append(
            "\(Format.segmentName(segment.number)): \(place.bytes) damaged bytes at \(place.offset), \(place.lostRecords) "
              + "records lost; \(kept.map { "copied to \($0)" } ?? "the bytes could not be copied")")
        }
      }
      if picture.checkpoint == nil, let first = picture.segments.first {
        var checkpoint = Checkpoint()
        checkpoint.generation = 1
        checkpoint.released = Position(segment: first.number, index: 0)
        let file = try fileSystem.open(folder + "/checkpoint", .create)
        try file.writeFully([UInt8](repeating: 0, count: Checkpoint.fileBytes), at: 0)
        try file.writeFully(checkpoint.bytes(), at: Checkpoint.offset(checkpoint.generation))
        try file.sync()
        actions.append("checkpoint: was missing or damaged; everything in the queue will be delivered again")
      }
      try fileSystem.syncFolder(folder)
    } catch {
      if let error = error as? SystemError { throw .disk(error, path: folder) }
      if let error = error as? QueueOpenError { throw error }
    }
    var report = report(try FolderPicture.read(folder, fileSystem, keys: keys))
    report.actions = actions
    return report
  }

  private func released(_ picture: FolderPicture) -> Position {
    picture.checkpoint?.released ?? Position(segment: 0, index: 0)
  }

  private func report(_ picture: FolderPicture) -> QueueFolderReport {
    let released = released(picture)
    var report = QueueFolderReport(folder: folder)
    report.segments = picture.segments.map { segment in
      let name = Format.segmentName(segment.number)
      let done =
        segment.number < released.segment
        ? segment.count : segment.number == released.segment ? min(released.index, segment.count) : 0
      return QueueSegmentReport(
        name: name, number: segment.number, createdNs: segment.header.createdNs, bytes: segment.end,
        records: Int(segment.count), releasedRecords: Int(done), isEncrypted: segment.header.keyId != 0,
        isLocked: picture.locked.contains(name))
    }
    report.hasCheckpoint = picture.checkpoint != nil
    report.wasClosed = picture.checkpoint?.isClean ?? false
    report.spares = picture.spares
    report.setAside = picture.setAside
    report.foreign = picture.foreign
    report.damagedHeaders = picture.damaged
    return report
  }
}
