//  The daemon's dead letters: what is kept of a refused event, in which order, within which limits.

import Diagnostics
import Foundation
import Glibc
import Pipeline
import PluginKit
import Queue
import Records
import TestSupport
import Testing

@testable import Daemon

private let descriptor = RecordDescriptor(Array(#"{"codec":"json"}"#.utf8))

private func records(_ count: Int, areLetters: Bool = false) -> ReplaySource {
  ReplaySource(
    (0..<count).map { i in
      ReplayedRecord(
        id: "record-\(i)", part: 2, attempts: 3, arrivalNs: 77, payload: Array("arrived \(i)".utf8),
        descriptor: descriptor, context: RecordContext(Array("peer".utf8)))
    }, areLetters: areLetters)
}

private func reason(_ message: String = "it does not fit", part: Int = 0) -> DeadLetterReason {
  DeadLetterReason(
    stage: "out", status: 400, type: "mapping", message: message, index: "logs-1", attempts: 1, documentID: "d",
    part: part)
}

private func write(
  _ store: DeadLetterStore, _ source: any SourceRecords, _ record: Int, _ reason: DeadLetterReason = reason(),
  _ document: String = "{}"
) -> Bool {
  Array(document.utf8).withUnsafeBytes { store.write(reason, source: source, record: record, document: $0) }
}

private func all(_ folder: String, _ disk: any FileSystem = RealFileSystem()) throws -> [DeadLetterEntry] {
  var found: [DeadLetterEntry] = []
  try DeadLetterReader(folder: folder, fileSystem: disk).read {
    found.append($0)
    return true
  }
  return found
}

/// The real disk, whose syncs are counted, and wait until they may.
private final class CountingDisk: FileSystem {
  let syncs = Counter()
  let isOpen = Gate(false)
  private let real = RealFileSystem()

  func createFolder(_ path: String) throws(SystemError) { try real.createFolder(path) }
  func list(_ folder: String) throws(SystemError) -> [String] { try real.list(folder) }
  func rename(_ from: String, _ to: String) throws(SystemError) { try real.rename(from, to) }
  func remove(_ path: String) throws(SystemError) { try real.remove(path) }
  func syncFolder(_ path: String) throws(SystemError) { try real.syncFolder(path) }
  func freeBytes(_ folder: String) throws(SystemError) -> Int { try real.freeBytes(folder) }
  func lock(_ path: String) throws(SystemError) -> any FileLock { try real.lock(path) }
  func open(_ path: String, _ mode: FileMode) throws(SystemError) -> any QueueFile {
    CountingFile(try real.open(path, mode), self)
  }
}

private final class CountingFile: QueueFile {
  private let file: any QueueFile
  private let disk: CountingDisk
  init(_ file: any QueueFile, _ disk: CountingDisk) {
    self.file = file
    self.disk = disk
  }
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int {
    try file.read(into: buffer, at: offset)
  }
  func write(_ buffers: [UnsafeRawBufferPointer], at offset: Int) throws(SystemError) -> Int {
    try file.write(buffers, at: offset)
  }
  func sync() throws(SystemError) {
    disk.syncs.add()
    _ = disk.isOpen.wait { $0 ? true : nil }
    try file.sync()
  }
  func startWriteback(at offset: Int, count: Int) {}
  func size() throws(SystemError) -> Int { try file.size() }
  func truncate(to size: Int) throws(SystemError) { try file.truncate(to: size) }
}

private final class Place {
  let path = NSTemporaryDirectory() + "sluice-letters-" + UUID().uuidString
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

@Suite struct DeadLetterStoreTests {
  @Test func `a letter holds the event as it arrived and as it was sent, the reason and its own id`() throws {
    let place = Place()
    let store = try DeadLetterStore(folder: place.path, pipelineID: "p", settings: DeadLetterSettings())
    let source = records(3)
    #expect(write(store, source, 1, reason(part: 2), #"{"a":1}"#))
    #expect(try all(place.path).isEmpty)
    #expect(store.sync())
    let entry = try #require(try all(place.path).first)
    #expect(entry.letter.arrived == Array("arrived 1".utf8) && entry.letter.sent == Array(#"{"a":1}"#.utf8))
    #expect(entry.letter.descriptor == descriptor && entry.letter.context?.bytes == Array("peer".utf8))
    let facts = DeadLetterFacts(entry.letter.header)
    #expect(facts.eventID == "record-1-2" && facts.stage == "out" && facts.status == 400 && facts.type == "mapping")
    #expect(facts.message == "it does not fit" && facts.index == "logs-1" && facts.documentID == "d")
    #expect(facts.attempts == 1 && facts.arrivalNs == 77)
    store.close()
  }

  @Test func `letters of many threads share their syncs`() throws {
    let place = Place()
    let disk = CountingDisk()
    let store = try DeadLetterStore(
      folder: place.path, pipelineID: "p", settings: DeadLetterSettings(), fileSystem: disk)
    let done = Counter()
    let taken = Counter()
    let threads = 8
    for _ in 0..<threads {
      TestThread.run {
        let source = records(50)
        for i in 0..<50 where write(store, source, i) { taken.add() }
        // The last one opens the disk: until then the others wait for their sync.
        if taken.value == threads * 50 { disk.isOpen.update { $0 = true } }
        if store.sync() { done.add() }
      }
    }
    #expect(waitUntil { done.value == threads })
    #expect(try all(place.path).count == threads * 50)
    #expect(disk.syncs.value <= 3, "\(disk.syncs.value) syncs")
    store.close()
  }

  @Test func `a full block policy says so, and what waits goes in once there is room`() throws {
    let place = Place()
    var settings = DeadLetterSettings()
    settings.maxBytes = 40_000
    settings.policy = .block
    let store = try DeadLetterStore(folder: place.path, pipelineID: "p", settings: settings)
    let source = records(60)
    let long = String(repeating: "x", count: 1000)
    var kept = 0
    while kept < 60, write(store, source, kept, reason(), long), store.sync() { kept += 1 }
    #expect(kept > 10 && kept < 60 && !store.sync())
    #expect(DeadLetterStore.isNearlyFull(store.statistics))
    let positions = try all(place.path).map(\.position)
    #expect(positions.count == kept)
    _ = try store.queue?.remove(positions)
    #expect(store.sync())
    #expect(try all(place.path).map { DeadLetterFacts($0.letter.header).id } == ["record-\(kept)"])
    store.close()
  }

  @Test func `a letter of a replayed event has one attempt more, and the old one stays where there is no room`() throws
  {
    let place = Place()
    var settings = DeadLetterSettings()
    settings.maxBytes = 20_000
    settings.policy = .dropNewer
    let store = try DeadLetterStore(folder: place.path, pipelineID: "p", settings: settings)
    let source = records(2, areLetters: true)
    #expect(write(store, source, 0) && store.sync() && source.keptLetters.isEmpty)
    let first = try #require(try all(place.path).first)
    let facts = DeadLetterFacts(first.letter.header)
    #expect(facts.attempts == 4 && facts.id == "record-0")
    #expect(write(store, source, 1, reason(), String(repeating: "x", count: 30_000)) && store.sync())
    #expect(source.keptLetters == [1] && store.statistics.droppedNewer == 1)
    store.close()
  }

  @Test func `on a failing disk a letter that was synced is there after every crash`() throws {
    for seed in 1...80 {
      let disk = FaultyFileSystem(seed: UInt64(seed))
      var random = SeededRandom(UInt64(seed) &+ 5)
      var promised: Set<String> = []
      var next = 0
      for _ in 0..<4 {
        disk.syncFailures = 0
        disk.writeFailures = 0
        let store = try DeadLetterStore(
          folder: "/d", pipelineID: "p", settings: DeadLetterSettings(), fileSystem: disk)
        let found = try all("/d", disk).map { DeadLetterFacts($0.letter.header).message }
        #expect(promised.subtracting(found).isEmpty, "seed \(seed)")
        #expect(Set(found).count == found.count, "seed \(seed): a letter stands twice")
        disk.syncFailures = 0.2
        disk.writeFailures = 0.1
        disk.shortWrites = 0.2
        disk.callsUntilCrash = 5 + random.below(80)
        let source = records(1)
        var waiting: Set<String> = []
        while !disk.isStopped {
          for _ in 0..<1 + random.below(6) where write(store, source, 0, reason("m\(next)")) {
            waiting.insert("m\(next)")
            next += 1
          }
          guard store.sync() else { continue }
          promised.formUnion(waiting)
          waiting = []
        }
        disk.restart(random.chance(0.7) ? .powerLoss : .kill)
      }
      #expect(!promised.isEmpty || next < 20)
    }
  }
}
