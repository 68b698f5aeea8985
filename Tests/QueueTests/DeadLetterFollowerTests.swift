//  Following letters as they are written: each once, in order, over restarts of either side.

import Codecs
import Diagnostics
import Glibc
import Queue
import TestSupport
import Testing

private func letter(_ i: Int, bytes: Int = 50) -> DeadLetter {
  DeadLetter(
    header: Array(#"{"n":\#(i)}"#.utf8), arrived: Array("\(i)".utf8), sent: [UInt8](repeating: 7, count: bytes))
}

private func numbers(_ found: [FollowedLetter]) -> [Int] {
  found.map { Int(String(decoding: $0.entry.letter.arrived, as: UTF8.self)) ?? -1 }
}

@Suite struct DeadLetterFollowerTests {
  private func settings(maxBytes: Int = 1 << 20) -> DeadLetterSettings {
    var settings = DeadLetterSettings()
    settings.maxBytes = maxBytes
    return settings
  }

  @Test func `letters come once and in order while they are written, and nothing comes twice`() throws {
    let folder = Folder()
    #expect(try DeadLetterFollower(folder: folder.path + "/none").next(maxLetters: 10, maxBytes: .max).isEmpty)
    let follower = DeadLetterFollower(folder: folder.path)
    #expect(try follower.next(maxLetters: 10, maxBytes: .max).isEmpty)
    // 32 KiB make eight segments of 4 KiB and more.
    let letters = try DeadLetterQueue(folder: folder.path, settings: settings(maxBytes: 64 << 10))
    var seen: [Int] = []
    for i in 0..<120 {
      _ = try letters.write([letter(2 * i, bytes: 100), letter(2 * i + 1, bytes: 100)])
      if i % 7 == 0 { seen += numbers(try follower.next(maxLetters: 5, maxBytes: .max)) }
    }
    while true {
      let found = try follower.next(maxLetters: 5, maxBytes: .max)
      if found.isEmpty { break }
      #expect(found.count <= 5)
      seen += numbers(found)
    }
    #expect(seen == Array(0..<240))
    #expect(try follower.next(maxLetters: 5, maxBytes: .max).isEmpty)
    letters.close()
    let again = try DeadLetterQueue(folder: folder.path, settings: settings(maxBytes: 64 << 10))
    _ = try again.write([letter(240), letter(241)])
    #expect(numbers(try follower.next(maxLetters: 500, maxBytes: 1)) == [240])
    #expect(numbers(try follower.next(maxLetters: 500, maxBytes: 1)) == [241])
    again.close()
  }

  @Test func `a follower goes on at its place, and passes over what was removed`() throws {
    let folder = Folder()
    let letters = try DeadLetterQueue(folder: folder.path, settings: settings())
    _ = try letters.write((0..<20).map { letter($0) })
    let first = DeadLetterFollower(folder: folder.path)
    let found = try first.next(maxLetters: 7, maxBytes: .max)
    #expect(numbers(found) == Array(0..<7))
    let text = try #require(found.last).next.description
    let place = try #require(DeadLetterPlace(text))
    #expect(place == found.last?.next && DeadLetterPlace("x") == nil && DeadLetterPlace("1-1 zz") == nil)
    _ = try letters.remove([8, 9].map { found[0].entry.position.shifted($0) })
    let second = DeadLetterFollower(folder: folder.path, from: place)
    #expect(numbers(try second.next(maxLetters: 500, maxBytes: .max)) == [7] + Array(10..<20))
    letters.close()
  }

  @Test func `numbers go on when all letters are gone, and a folder that was emptied by hand is read anew`() throws {
    let folder = Folder()
    var letters = try DeadLetterQueue(folder: folder.path, settings: settings())
    _ = try letters.write([letter(0), letter(1)])
    let follower = DeadLetterFollower(folder: folder.path)
    let place = try #require(try follower.next(maxLetters: 9, maxBytes: .max).last).next
    #expect(try letters.purge() == 2)
    letters.close()
    for _ in 0..<2 {
      letters = try DeadLetterQueue(folder: folder.path, settings: settings())
      letters.close()
    }
    letters = try DeadLetterQueue(folder: folder.path, settings: settings())
    _ = try letters.write([letter(2)])
    for follower in [follower, DeadLetterFollower(folder: folder.path, from: place)] {
      let found = try follower.next(maxLetters: 9, maxBytes: .max)
      #expect(numbers(found) == [2] && found[0].entry.position.segment == 2)
    }
    letters.close()
    for name in folder.files { unlink(folder.path + "/" + name) }
    letters = try DeadLetterQueue(folder: folder.path, settings: settings())
    _ = try letters.write([letter(3)])
    let anew = try DeadLetterFollower(folder: folder.path, from: place).next(maxLetters: 9, maxBytes: .max)
    #expect(numbers(anew) == [3] && anew[0].entry.position.segment == 1)
    letters.close()
  }

  @Test(arguments: [FaultyFileSystem.Fault.error(EIO), .short])
  func `a call that fails makes a follower come again, and it leaves out and repeats nothing`(
    kind: FaultyFileSystem.Fault
  ) throws {
    for step in 1...400 {
      let disk = FaultyFileSystem(seed: 3)
      let letters = try DeadLetterQueue(folder: "/d", settings: settings(maxBytes: 64 << 10), fileSystem: disk)
      for i in 0..<40 { _ = try letters.write([letter(2 * i, bytes: 200), letter(2 * i + 1, bytes: 200)]) }
      _ = try letters.remove([DeadLetterPosition(segment: 1, index: 3)])
      let follower = DeadLetterFollower(folder: "/d", fileSystem: disk)
      let calls = disk.sites
      disk.fault = (calls + step, kind)
      var seen: [Int] = []
      var polls = 0
      // A poll with letters, one that fails, and one at the end.
      while polls < 30 {
        polls += 1
        guard let found = try? follower.next(maxLetters: 9, maxBytes: .max) else { continue }
        if found.isEmpty { break }
        seen += numbers(found)
      }
      try #require(polls < 30, "\(kind) at call \(step) (\(disk.faultyCalls)): \(seen)")
      #expect(seen == Array(0..<80).filter { $0 != 3 }, "\(kind) at call \(step) (\(disk.faultyCalls))")
      letters.close()
      if disk.sites < calls + step { return }
    }
  }

  @Test func `without its key a segment is named, and with it read`() throws {
    let folder = Folder()
    let key = try #require(BlockKey([UInt8](repeating: 7, count: 32)))
    var sealed = settings()
    sealed.keys = [key]
    let letters = try DeadLetterQueue(folder: folder.path, settings: sealed)
    _ = try letters.write([letter(0)])
    #expect(throws: QueueOpenError.missingKey(file: folder.path + "/000000000001.seg", keyId: key.id)) {
      try DeadLetterFollower(folder: folder.path).next(maxLetters: 9, maxBytes: .max)
    }
    #expect(
      numbers(try DeadLetterFollower(folder: folder.path, keys: [key]).next(maxLetters: 9, maxBytes: .max)) == [0])
    letters.close()
  }
}

extension DeadLetterPosition {
  fileprivate func shifted(_ count: UInt32) -> DeadLetterPosition {
    DeadLetterPosition(segment: segment, index: index + count)
  }
}
