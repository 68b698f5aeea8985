//  Dead letters: durable when written, oldest first when full, and readable after a crash.

import Diagnostics
import Glibc
import Queue
import Records
import TestSupport
import Testing

private func letter(_ i: Int, bytes: Int = 50) -> DeadLetter {
  DeadLetter(
    header: Array(#"{"reason":"r\#(i)"}"#.utf8), arrived: Array("arrived \(i)".utf8),
    sent: [UInt8](repeating: UInt8(i % 250), count: bytes))
}

private func all(_ letters: DeadLetterQueue, from: DeadLetterPosition? = nil) throws -> [DeadLetterEntry] {
  var all: [DeadLetterEntry] = []
  try letters.read(from: from) {
    all.append($0); return true
  }
  return all
}

@Suite struct DeadLetterTests {
  @Test func `letters come back as written, now and after a restart, and beside a running writer`() throws {
    let folder = Folder()
    let letters = try DeadLetterQueue(folder: folder.path, settings: DeadLetterSettings())
    for i in 0..<10 { #expect(try letters.write([letter(2 * i), letter(2 * i + 1)], nowNs: Int64(i)) == .kept) }
    let read = try all(letters)
    #expect(
      read.map(\.letter) == (0..<20).map { letter($0) } && read.map(\.writtenNs) == (0..<20).map { Int64($0 / 2) })
    var beside: [DeadLetter] = []
    try DeadLetterReader(folder: folder.path).read {
      beside.append($0.letter); return true
    }
    #expect(beside == read.map(\.letter))
    #expect(throws: QueueOpenError.locked(folder: folder.path)) {
      try DeadLetterQueue(folder: folder.path, settings: DeadLetterSettings())
    }
    letters.close()
    let again = try DeadLetterQueue(folder: folder.path, settings: DeadLetterSettings())
    #expect(try all(again).map(\.letter) == read.map(\.letter) && again.statistics.letters == 20)
    #expect(try all(again, from: read[15].position).map(\.letter) == Array(read[15...].map(\.letter)))
    #expect(DeadLetterPosition(read[15].position.description) == read[15].position)
    again.close()
  }

  @Test func `a list of removed letters that cannot be read brings no letter back`() throws {
    let folder = Folder()
    let letters = try DeadLetterQueue(folder: folder.path, settings: DeadLetterSettings())
    for i in 0..<2 { _ = try letters.write([letter(i)]) }
    #expect(try letters.remove([all(letters)[0].position]) == 1)
    letters.close()
    let list = try #require(folder.files.first { $0.hasSuffix(".gone") })
    unlink(folder.path + "/" + list)
    mkdir(folder.path + "/" + list, 0o700)
    #expect(throws: QueueOpenError.self) {
      try DeadLetterQueue(folder: folder.path, settings: DeadLetterSettings())
    }
    #expect(throws: QueueOpenError.self) { try DeadLetterReader(folder: folder.path).read { _ in true } }
    rmdir(folder.path + "/" + list)
  }

  @Test func `removed letters stay away and a segment goes with its last`() throws {
    let folder = Folder()
    var letters = try DeadLetterQueue(folder: folder.path, settings: DeadLetterSettings())
    for i in 0..<6 { _ = try letters.write([letter(i)]) }
    let positions = try all(letters).map(\.position)
    #expect(try letters.remove([positions[1], positions[4], positions[1]]) == 2)
    #expect(try letters.remove([positions[1], DeadLetterPosition(segment: 99, index: 0)]) == 0)
    letters.close()
    letters = try DeadLetterQueue(folder: folder.path, settings: DeadLetterSettings())
    #expect(try all(letters).map(\.letter) == [0, 2, 3, 5].map { letter($0) } && letters.statistics.letters == 4)
    #expect(try letters.remove([0, 2, 3, 5].map { positions[$0] }) == 4)
    #expect(folder.files == ["000000000001.gone", "lock"] && letters.statistics.bytes == 0)
    _ = try letters.write([letter(7)])
    #expect(try letters.purge() == 1)
    #expect(try all(letters).isEmpty)
    letters.close()
  }

  @Test func `when full, the oldest go, the newest are dropped, or the writer waits`() throws {
    for policy in DeadLetterSettings.Policy.allCases {
      let folder = Folder()
      var settings = DeadLetterSettings()
      settings.maxBytes = 40_000
      settings.policy = policy
      let letters = try DeadLetterQueue(folder: folder.path, settings: settings)
      var results: [DeadLetterWriteResult] = []
      for i in 0..<100 { results.append(try letters.write([letter(i, bytes: 900)])) }
      let kept = try all(letters).map(\.letter)
      let figures = letters.statistics
      #expect(figures.bytes <= 40_000 && figures.letters == kept.count && kept.count > 20 && kept.count < 100)
      switch policy {
      case .dropOlder:
        #expect(results.allSatisfy { $0 == .kept } && kept == (100 - kept.count..<100).map { letter($0, bytes: 900) })
        #expect(figures.droppedOlder == 100 - kept.count && !figures.lastError.isEmpty)
      case .dropNewer:
        #expect(kept == (0..<kept.count).map { letter($0, bytes: 900) })
        #expect(figures.droppedNewer == 100 - kept.count && results.last == .dropped)
      case .block:
        #expect(kept == (0..<kept.count).map { letter($0, bytes: 900) })
        #expect(figures.droppedNewer == 0 && figures.droppedOlder == 0 && results.last == .full)
      }
      #expect(try letters.write([letter(0, bytes: 50_000)]) == .dropped)
      letters.close()
    }
  }

  @Test func `letters that are too old go`() throws {
    let folder = Folder()
    var settings = DeadLetterSettings()
    settings.retainAge = .seconds(100)
    let letters = try DeadLetterQueue(folder: folder.path, settings: settings)
    let now = WallClock.ns
    _ = try letters.write([letter(1)], nowNs: now)
    letters.expire(nowNs: now + 99_000_000_000)
    #expect(letters.statistics.letters == 1)
    letters.expire(nowNs: now + 101_000_000_000)
    #expect(letters.statistics.letters == 0 && letters.statistics.expired == 1)
    letters.close()
  }

  @Test func `on a failing disk every letter that was kept is there after a crash, once`() throws {
    for seed in 1...60 {
      let disk = FaultyFileSystem(seed: UInt64(seed))
      var random = SeededRandom(UInt64(seed) &+ 77)
      var settings = DeadLetterSettings()
      settings.maxBytes = 200_000
      var kept: [DeadLetter] = []
      var next = 0
      for _ in 0..<4 {
        disk.syncFailures = 0
        disk.writeFailures = 0
        guard let letters = try? DeadLetterQueue(folder: "/d", settings: settings, fileSystem: disk) else {
          Issue.record("seed \(seed): does not open")
          return
        }
        let found = try all(letters).map(\.letter)
        let missing = kept.filter { !found.contains($0) }
        #expect(missing.isEmpty && Set(found.map(\.header)).count == found.count, "seed \(seed)")
        disk.syncFailures = 0.1
        disk.writeFailures = 0.05
        disk.shortWrites = 0.2
        disk.callsUntilCrash = 5 + random.below(60)
        while !disk.isStopped {
          let one = letter(next)
          next += 1
          if (try? letters.write([one])) == .kept { kept.append(one) }
        }
        disk.restart(random.chance(0.7) ? .powerLoss : .kill)
      }
    }
  }

  /// Letters are written, removed, expired and dropped over two lives of the queue; then the power goes.
  ///
  /// - Returns: What was kept and not removed, and what is there in the end.
  private func history(_ disk: FaultyFileSystem, _ crash: FaultyFileSystem.Crash) throws -> (
    kept: Set<[UInt8]>, found: [[UInt8]]
  ) {
    var settings = DeadLetterSettings()
    settings.maxBytes = 40_000
    settings.policy = .block
    var kept: Set<[UInt8]> = []
    var next = 0
    for _ in 0..<2 {
      // A call that fails may keep the letters from opening once; it is tried again as the daemon's next start does.
      var opened: DeadLetterQueue?
      for _ in 0..<2 where opened == nil {
        opened = try? DeadLetterQueue(folder: "/d", settings: settings, fileSystem: disk)
      }
      guard let letters = opened else { throw SystemError(EIO, call: "open twice") }
      for round in 0..<12 {
        let group = (0..<3).map { letter(next + $0, bytes: 300) }
        next += 3
        if (try? letters.write(group)) == .kept { kept.formUnion(group.map(\.header)) }
        guard round % 3 == 2 else { continue }
        var positions: [(DeadLetterPosition, [UInt8])] = []
        try? letters.read {
          positions.append(($0.position, $0.letter.header))
          return positions.count < 5
        }
        // Where a removal fails the letters may be gone or not.
        for (_, header) in positions { kept.remove(header) }
        _ = try? letters.remove(positions.map(\.0))
      }
      letters.close()
    }
    disk.restart(crash)
    let letters = try DeadLetterQueue(folder: "/d", settings: settings, fileSystem: disk)
    return (kept, try all(letters).map(\.letter.header))
  }

  @Test(arguments: [FaultyFileSystem.Fault.error(EIO), .error(ENOSPC), .short])
  func `a fault at any call costs no letter that was kept`(kind: FaultyFileSystem.Fault) throws {
    for crash in [FaultyFileSystem.Crash.powerLoss, .kill] {
      let whole = FaultyFileSystem(seed: 5)
      _ = try history(whole, crash)
      // The calls of the last opening are not among them: it is the judge.
      for site in 1..<whole.sites - 30 {
        let disk = FaultyFileSystem(seed: 5)
        disk.fault = (site, kind)
        do {
          let (kept, found) = try history(disk, crash)
          let missing = kept.subtracting(found)
          #expect(missing.isEmpty, "\(kind) at call \(site) (\(disk.faultyCalls)), \(crash): \(missing.count) are gone")
          #expect(Set(found).count == found.count, "\(kind) at call \(site) (\(disk.faultyCalls)): twice")
        } catch {
          Issue.record("\(kind) at call \(site) (\(disk.faultyCalls)), \(crash): \(error)")
        }
      }
    }
  }
}

@Suite struct MemoryQueueTests {
  @Test func `records go through in order and what finds no room waits`() throws {
    let queue = MemoryQueue(maxEvents: 5)
    let done = Counter()
    for texts in [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]] { queue.append(batch(texts)) { _ in done.add() } }
    #expect(done.value == 1 && !queue.hasRoom && queue.statistics.fullReasons == .maxEvents)
    let first = try #require(queue.readNow(2))
    #expect(first.texts == ["a", "b"])
    first.release()
    #expect(done.value == 2 && queue.statistics.events == 4)
    queue.readNow(1)?.giveBack()
    #expect(queue.readNow()?.texts == ["c"])
    #expect(queue.drain() == ["c", "d", "e", "f", "g", "h"])
    #expect(done.value == 3 && queue.isDrained && queue.hasRoom)
    queue.close()
    #expect(queue.appendAndWait(batch(["i"])) == .failure(.closed) as Result<Void, AppendFailure>)
  }

  @Test func `a reader waits for the first record and gathers more for a while`() throws {
    let queue = MemoryQueue(maxEvents: 100)
    #expect(queue.read(maxRecords: 10, maxBytes: .max, until: Instant.now + .milliseconds(5), gather: .zero) == nil)
    let sender = Worker { for i in 0..<10 { queue.append(batch(["\(i)"])) { _ in } } }
    let read = queue.read(maxRecords: 10, maxBytes: .max, until: Instant.now + .seconds(20), gather: .seconds(20))
    #expect(read?.count == 10)
    read?.release()
    sender.join()
    let ids = Set((0..<10).compactMap { read?.identity($0) })
    #expect(ids.count == 10)
  }
}

private func == (left: Result<Void, AppendFailure>, right: Result<Void, AppendFailure>) -> Bool {
  switch (left, right) {
  case (.success, .success): true
  case (.failure(let left), .failure(let right)): left == right
  default: false
  }
}
