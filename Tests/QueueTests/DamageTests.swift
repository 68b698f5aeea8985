//  Damaged bytes of a queue: told from a torn end, named, set aside, and costing their own records alone.

import Codecs
import Diagnostics
import Glibc
import Queue
import Records
import Testing

/// Texts that differ and are long enough to hit one of them.
private func texts(_ range: Range<Int>) -> [String] {
  range.map { "record \($0) " + String(repeating: Character(UnicodeScalar(UInt8(97 + $0 % 26))), count: 200) }
}

/// The offset of `text` in a file's bytes.
private func place(of text: String, in bytes: [UInt8]) -> Int? {
  bytes.firstRange(of: Array(text.utf8))?.lowerBound
}

@Suite struct DamageTests {
  private func filled(_ folder: Folder, batches: Int, _ settings: QueueSettings = smallSettings()) throws {
    let queue = try openQueue(folder, settings)
    for i in 0..<batches { append(queue, [batch(texts(i * 5..<i * 5 + 5))]) }
    queue.close()
  }

  @Test func `a damaged record is set aside and its neighbours survive`() throws {
    let folder = Folder()
    try filled(folder, batches: 4)
    var bytes = folder.bytes("000000000001.seg")
    bytes[try #require(place(of: "record 7 ", in: bytes)) + 20] ^= 1
    folder.write("000000000001.seg", bytes)
    let queue = try openQueue(folder)
    #expect(queue.drain() == texts(0..<7) + texts(8..<20))
    #expect(queue.statistics.damagedEvents == 1 && queue.statistics.damagedPlaces == 1 && queue.isDrained)
    #expect(folder.files.contains { $0.hasSuffix(".bad") })
    queue.close()
  }

  @Test func `a damaged block header costs its block alone`() throws {
    let folder = Folder()
    try filled(folder, batches: 4)
    var bytes = folder.bytes("000000000001.seg")
    // The header of the second block lies before its first record's table.
    let record = try #require(place(of: "record 5 ", in: bytes))
    let header = try #require((0..<record).last { bytes[$0...].starts(with: Array("QSLB".utf8)) && $0 % 16 == 0 })
    bytes[header + 21] ^= 0x40
    folder.write("000000000001.seg", bytes)
    let report = try QueueInspector(folder: folder.path).check()
    #expect(report.lostRecords == 5 && !report.isSound)
    let queue = try openQueue(folder)
    #expect(queue.drain() == texts(0..<5) + texts(10..<20))
    #expect(queue.statistics.damagedEvents == 5 && queue.isDrained)
    queue.close()
  }

  @Test func `damage at the end of what was synced is no torn end`() throws {
    let folder = Folder()
    try filled(folder, batches: 2)
    var bytes = folder.bytes("000000000001.seg")
    bytes[try #require(place(of: "record 9 ", in: bytes)) + 20] ^= 1
    folder.write("000000000001.seg", bytes)
    let report = try QueueInspector(folder: folder.path).check()
    #expect(report.records == 10 && report.lostRecords == 1 && !report.isSound)
    var seen = 0
    var lost = 0
    try QueueInspector(folder: folder.path).dump(damage: { lost += $1.lostRecords }) { _ in
      seen += 1
      return true
    }
    #expect(seen == 9 && lost == 1)
  }

  @Test func `a lost checkpoint delivers everything once more`() throws {
    let folder = Folder()
    try filled(folder, batches: 2)
    folder.write("checkpoint", [UInt8](repeating: 0xff, count: 5000))
    let queue = try openQueue(folder)
    let read = try #require(queue.readNow())
    #expect(read.texts == texts(0..<10) && read.runs.allSatisfy(\.isRecovered))
    read.release()
    queue.close()
    let again = try openQueue(folder)
    #expect(again.readNow() == nil)
    again.close()
  }

  @Test func `a segment with a damaged header is set aside and what it held is told`() throws {
    let folder = Folder()
    let settings = smallSettings { $0.segmentBytes = 4096 }
    try filled(folder, batches: 9, settings)
    var bytes = folder.bytes("000000000002.seg")
    bytes[30] ^= 1
    folder.write("000000000002.seg", bytes)
    let queue = try openQueue(folder, settings)
    let seen = queue.drain()
    let lost = 45 - seen.count
    #expect(lost > 0 && lost < 45 && Set(seen).isSubset(of: Set(texts(0..<45))))
    #expect(queue.statistics.damagedEvents == lost)
    #expect(folder.files.contains("000000000002.bad"))
    queue.close()
  }

  @Test func `another version is refused with its number`() throws {
    let folder = Folder()
    try filled(folder, batches: 1)
    var bytes = folder.bytes("000000000001.seg")
    bytes[8] = 9
    folder.write("000000000001.seg", bytes)
    #expect(throws: QueueOpenError.version(file: folder.path + "/000000000001.seg", found: 9)) { try openQueue(folder) }
  }

  @Test func `foreign files are left alone`() throws {
    let folder = Folder()
    folder.write("notes.txt", Array("mine".utf8))
    try filled(folder, batches: 1)
    let queue = try openQueue(folder)
    #expect(queue.drain() == texts(0..<5))
    queue.close()
    #expect(folder.bytes("notes.txt") == Array("mine".utf8))
    #expect(try QueueInspector(folder: folder.path).stats().foreign == ["notes.txt"])
  }

  @Test func `an old life of a recycled file never comes back`() throws {
    let folder = Folder()
    let settings = smallSettings { $0.segmentBytes = 4096 }
    var queue = try openQueue(folder, settings)
    for round in 0..<12 {
      append(queue, [batch(texts(round * 5..<round * 5 + 5))])
      #expect(queue.drain() == texts(round * 5..<round * 5 + 5))
      queue.keepStep()
      if round % 3 == 2 {
        // Ends as a crash does: without a word. The lock goes with the object.
        queue.close()
        folder.write("checkpoint", [])
        queue = try openQueue(folder, settings)
        let back = queue.drain()
        #expect(Set(back).isSubset(of: Set(texts(0..<round * 5 + 5))) && back.count <= 15)
      }
    }
    queue.close()
  }

  @Test(arguments: [BlockCompression.none, .lz4, .zstd(level: 3)], [false, true])
  func `compressed and encrypted blocks come back`(compression: BlockCompression, encrypts: Bool) throws {
    let folder = Folder()
    let key = try #require(BlockKey([UInt8](repeating: 7, count: 32)))
    let settings = smallSettings {
      $0.compression = compression
      $0.keys = encrypts ? [key] : []
    }
    try filled(folder, batches: 20, settings)
    let bytes = folder.bytes("000000000001.seg")
    #expect((place(of: "record 7 ", in: bytes) == nil) == (encrypts || compression != .none))
    if compression != .none { #expect(bytes.count < 15_000) }
    let queue = try openQueue(folder, settings)
    #expect(queue.drain() == texts(0..<100))
    queue.close()
    var seen = 0
    try QueueInspector(folder: folder.path, keys: [key]).dump(includesReleased: true) { _ in
      seen += 1; return true
    }
    #expect(seen == 100)
  }

  @Test func `without its key an encrypted queue is refused, and with another one too`() throws {
    let folder = Folder()
    let key = try #require(BlockKey([UInt8](repeating: 7, count: 32)))
    try filled(folder, batches: 2, smallSettings { $0.keys = [key] })
    let error = QueueOpenError.missingKey(file: folder.path + "/000000000001.seg", keyId: key.id)
    #expect(throws: error) { try openQueue(folder) }
    let other = try #require(BlockKey([UInt8](repeating: 8, count: 32)))
    #expect(throws: error) { try openQueue(folder, smallSettings { $0.keys = [other] }) }
    // A new key for new segments, the old one to read what is there.
    let queue = try openQueue(folder, smallSettings { $0.keys = [other, key] })
    append(queue, [batch(["new"])])
    #expect(queue.drain() == texts(0..<10) + ["new"])
    queue.close()
  }

  @Test func `the inspector shows a running queue and repairs a closed one`() throws {
    let folder = Folder()
    let queue = try openQueue(folder)
    append(queue, [batch(texts(0..<5)), batch(texts(5..<9))])
    queue.readNow(3)?.release()
    queue.keepStep()
    let inspector = QueueInspector(folder: folder.path)
    let report = try inspector.check()
    #expect(report.isSound && report.events == 6 && report.records == 9 && !report.wasClosed)
    var shown: [String] = []
    try inspector.dump {
      shown.append(String(decoding: $0.payload, as: UTF8.self)); return true
    }
    #expect(shown == texts(3..<9))
    #expect(throws: QueueOpenError.locked(folder: folder.path)) { try inspector.repair() }
    queue.close()
    unlink(folder.path + "/checkpoint")
    #expect(try inspector.repair().actions.count == 1)
    #expect(try inspector.stats().events == 9)
    #expect(try inspector.repair().actions.isEmpty)
  }

  @Test func `released segments are kept for replays as long as asked`() throws {
    let folder = Folder()
    let settings = smallSettings {
      $0.segmentBytes = 4096
      $0.retainBytes = 12_000
    }
    let queue = try openQueue(folder, settings)
    for i in 0..<20 {
      append(queue, [batch(texts(i * 5..<i * 5 + 5))])
      _ = queue.drain()
      queue.keepStep()
    }
    #expect(queue.statistics.retainedBytes > 4096 && queue.statistics.retainedBytes <= 12_000)
    #expect(queue.statistics.events == 0)
    var shown: [String] = []
    try QueueInspector(folder: folder.path).dump(includesReleased: true) {
      shown.append(String(decoding: $0.payload, as: UTF8.self))
      return true
    }
    #expect(shown.count > 20 && shown.last == texts(99..<100).first)
    queue.close()
    let again = try openQueue(folder, settings)
    #expect(again.drain() == [] && again.statistics.retainedBytes > 4096)
    again.close()
  }

  @Test func `a batch above 16 MiB is written in parts and acknowledged once`() throws {
    let folder = Folder()
    var settings = QueueSettings()
    settings.minFreeBytes = 0
    let queue = try openQueue(folder, settings)
    let large = String(repeating: "p", count: 1 << 20)
    #expect(append(queue, [batch((0..<20).map { "\($0)" + large })]) == 1)
    queue.close()
    let again = try openQueue(folder, settings)
    var count = 0
    while let read = again.readNow(3) {
      for i in 0..<read.count { #expect(read.payload(i).count == large.utf8.count + (count + i < 10 ? 1 : 2)) }
      count += read.count
      read.release()
    }
    #expect(count == 20 && again.isDrained)
    again.close()
  }
}

@Suite struct IdentityTests {
  @Test func `an id is fifteen bytes as twenty characters of base64url`() throws {
    let folder = Folder()
    let queue = try openQueue(folder)
    append(queue, [batch(["a", "b"])])
    let read = try #require(queue.readNow())
    let id = read.identity(1)
    let bytes = id.segment.bytes + [0, 0, 0, 1]
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    var expected = ""
    for i in stride(from: 0, to: 15, by: 3) {
      let group = Int(bytes[i]) << 16 | Int(bytes[i + 1]) << 8 | Int(bytes[i + 2])
      for shift in [18, 12, 6, 0] { expected.append(alphabet[group >> shift & 63]) }
    }
    #expect(id.text == expected && id.text.utf8.count == 20)
    #expect(RecordIdentity(text: id.text.utf8) == id)
    #expect(read.identity(0).text < id.text)
    #expect(RecordIdentity(text: "short".utf8) == nil && RecordIdentity(text: (id.text + "A").utf8) == nil)
    #expect(RecordIdentity(text: "*************!!!!!!!".utf8) == nil)
    #expect(abs(id.segment.milliseconds - WallClock.ns / 1_000_000) < 60_000)
    queue.close()
  }
}
