//  The queue on disk and in memory: order, release, limits, restart and locking.

import Diagnostics
import Queue
import Records
import Testing

@Suite struct DiskQueueTests {
  @Test func `what was appended comes out in order with all that belongs to it`() throws {
    let folder = Folder()
    let queue = try openQueue(folder)
    let context = RecordContext(Array("peer".utf8))
    #expect(
      append(queue, [batch(["a", "", "ccc"], context: context, arrivalNs: 11), batch(["d"], arrivalNs: 12)]) == 2)
    let read = try #require(queue.readNow())
    #expect(read.texts == ["a", "", "ccc", "d"])
    #expect(read.runs.map(\.range) == [0..<3, 3..<4])
    #expect(read.runs.map(\.arrivalNs) == [11, 12])
    #expect(read.runs.map(\.context) == [context, nil])
    #expect(read.runs.allSatisfy { $0.descriptor == descriptor && !$0.isRecovered })
    #expect((0..<4).map { read.identity($0).index } == [0, 1, 2, 3])
    #expect(queue.statistics.events == 4)
    read.release()
    #expect(queue.statistics.events == 0 && queue.isDrained)
    queue.close()
  }

  @Test func `what was not released comes again after a restart, with the same ids and marked as recovered`() throws {
    let folder = Folder()
    var ids: [RecordIdentity] = []
    let context = RecordContext(Array("peer".utf8))
    do {
      let queue = try openQueue(folder)
      append(queue, (0..<10).map { batch(["a\($0)", "b\($0)"], context: context, arrivalNs: Int64($0)) })
      let first = try #require(queue.readNow(5))
      first.release()
      let second = try #require(queue.readNow(3))
      ids = (0..<3).map { second.identity($0) }
      // In flight at the end, as a worker's batch is.
      queue.close()
    }
    let queue = try openQueue(folder)
    let read = try #require(queue.readNow())
    #expect(read.texts == Array((0..<10).flatMap { ["a\($0)", "b\($0)"] }.dropFirst(5)))
    #expect((0..<3).map { read.identity($0) } == ids)
    // Those that were never handed out cannot have been sent.
    let recovered = (0..<read.count).map { read.runs[read.runIndex(of: $0)].isRecovered }
    #expect(recovered == (0..<15).map { $0 < 3 })
    #expect(read.runs.first?.context == context)
    append(queue, [batch(["new"])])
    let fresh = try #require(queue.readNow())
    #expect(fresh.texts == ["new"] && fresh.runs.allSatisfy { !$0.isRecovered })
    #expect(fresh.identity(0).segment != ids[0].segment)
    queue.close()
  }

  @Test func `what waits for room can be taken back, and is then never written`() throws {
    let folder = Folder()
    let queue = try openQueue(folder, smallSettings { $0.maxEvents = 2 })
    #expect(append(queue, [batch(["a", "b"])]) == 1)
    let (taken, other, giant) = (batch(["c"]), batch(["d"]), batch(["e", String(repeating: "x", count: 1000)]))
    let answers = Counter()
    for one in [taken, giant] { queue.append(one) { _ in answers.add() } }
    let results = Lock<[Bool]>([])
    queue.append(other) { result in results.withLock { $0.append((try? result.get()) != nil) } }
    #expect(queue.writeStep() == .blocked)
    #expect(queue.withdraw(taken) && queue.withdraw(giant))
    #expect(!queue.withdraw(taken))
    #expect(queue.statistics.waitingBytes == 1 && queue.statistics.waitingBatches == 1)
    #expect(queue.drain() == ["a", "b"])
    while queue.writeStep() == .wrote {}
    #expect(results.withLock { $0 } == [true])
    #expect(!queue.withdraw(other))
    #expect(queue.drain() == ["d"] && answers.value == 0)
    queue.close()
  }

  @Test func `a queue in memory gives back what waits`() throws {
    let queue = MemoryQueue(maxEvents: 1)
    let answers = Counter()
    queue.append(batch(["a"])) { _ in answers.add() }
    let (large, next) = (batch(["b", "c"]), batch(["d"]))
    queue.append(large) { _ in answers.add() }
    queue.append(next) { _ in answers.add() }
    #expect(answers.value == 1)
    #expect(queue.withdraw(large) && !queue.withdraw(large))
    #expect(queue.drain() == ["a", "d"] && answers.value == 2)
    #expect(!queue.withdraw(next))
    queue.close()
  }

  @Test func `segments come and go, and are used again`() throws {
    let folder = Folder()
    let queue = try openQueue(folder)
    var expected: [String] = []
    for round in 0..<40 {
      let texts = (0..<50).map { "round \(round) record \($0) " + String(repeating: "x", count: 150) }
      expected += texts
      append(queue, [batch(texts)])
      if round % 4 == 3 {
        #expect(queue.drain() == expected)
        expected = []
        queue.keepStep()
      }
    }
    #expect(queue.statistics.segments <= 3)
    #expect(folder.files.contains { $0.hasPrefix("spare-") })
    queue.close()
    let again = try openQueue(folder)
    #expect(again.statistics.events == 0 && again.readNow() == nil)
    again.close()
  }

  @Test func `batches that are released out of order move the released prefix in order`() throws {
    let folder = Folder()
    let queue = try openQueue(folder)
    append(queue, (0..<6).map { batch(["\($0)"]) })
    let batches = (0..<6).map { _ in queue.readNow(1) }
    for i in [1, 2, 4] { batches[i]?.release() }
    #expect(queue.statistics.events == 6)
    batches[0]?.release()
    #expect(queue.statistics.events == 3)
    queue.close()
    let again = try openQueue(folder)
    #expect(again.drain() == ["3", "4", "5"])
    again.close()
  }

  @Test func `a batch that is given back or dropped is read again`() throws {
    let folder = Folder()
    let queue = try openQueue(folder)
    append(queue, [batch(["a", "b"]), batch(["c"])])
    queue.readNow(2)?.giveBack()
    #expect(queue.readNow(2)?.texts == ["a", "b"])
    #expect(queue.drain() == ["a", "b", "c"])
    #expect(queue.isDrained)
    queue.close()
  }

  @Test func `reading is bounded by records and by bytes`() throws {
    let folder = Folder()
    let queue = try openQueue(folder)
    append(queue, [batch((0..<10).map { _ in String(repeating: "y", count: 100) })])
    let counts = [(3, Int.max), (100, 250), (100, 1), (100, 200), (100, Int.max)].map { records, bytes in
      let batch = queue.readNow(records, maxBytes: bytes)
      batch?.release()
      return batch?.count
    }
    #expect(counts == [3, 2, 1, 2, 2])
    queue.close()
  }

  @Test func `a full queue lets batches wait and takes them once there is room`() throws {
    let folder = Folder()
    let queue = try openQueue(folder, smallSettings { $0.maxBytes = 1 << 17 })
    let big = (0..<8).map { batch(["\($0)" + String(repeating: "z", count: 30_000)]) }
    let done = append(queue, big)
    #expect(done > 0 && done < 8)
    #expect(!queue.hasRoom && queue.statistics.fullReasons == .maxBytes)
    var seen: [String] = []
    for _ in 0..<20 where seen.count < 8 {
      seen += queue.drain()
      queue.keepStep()
      while queue.writeStep() == .wrote {}
    }
    #expect(seen.map { $0.first } == (0..<8).map { "\($0)".first })
    #expect(queue.hasRoom && queue.statistics.fullReasons == [])
    queue.close()
  }

  @Test func `max_events counts what is not released`() throws {
    let folder = Folder()
    let queue = try openQueue(folder, smallSettings { $0.maxEvents = 5 })
    #expect(append(queue, [batch(["1", "2", "3"]), batch(["4", "5", "6"])]) == 1)
    #expect(queue.statistics.fullReasons == .maxEvents)
    queue.readNow()?.release()
    #expect(queue.writeStep() == .wrote)
    #expect(queue.drain() == ["4", "5", "6"])
    queue.close()
  }

  @Test func `a second owner is refused`() throws {
    let folder = Folder()
    let queue = try openQueue(folder)
    #expect(throws: QueueOpenError.locked(folder: folder.path)) { try openQueue(folder) }
    queue.close()
  }

  @Test func `a batch that can never fit is refused at once`() throws {
    let folder = Folder()
    let queue = try openQueue(folder, smallSettings { $0.maxBytes = 10_000 })
    let result = Lock<Result<Void, AppendFailure>?>(nil)
    queue.append(batch([String(repeating: "q", count: 10_001)])) { r in result.withLock { $0 = r } }
    guard case .failure(.tooLarge(let limit))? = result.withLock({ $0 }) else { return #expect(Bool(false)) }
    #expect(limit == 10_000)
    queue.close()
  }

  @Test(arguments: [1 << 16, 100_000, 3 << 20]) func `a record larger than a segment gets one of its own`(size: Int)
    throws
  {
    let folder = Folder()
    let queue = try openQueue(folder, smallSettings { $0.maxBytes = 16 << 20 })
    let large = String(repeating: "L", count: size)
    append(queue, [batch(["before"]), batch([large]), batch(["after"])])
    queue.close()
    let again = try openQueue(folder, smallSettings { $0.maxBytes = 16 << 20 })
    #expect(again.drain() == ["before", large, "after"])
    again.close()
  }

  @Test func `with threads, readers and writers get along`() throws {
    let folder = Folder()
    let queue = try openQueue(folder, smallSettings { $0.maxBytes = 8 << 20 }, runsThreads: true)
    let seen = Lock<[String: Int]>([:])
    let total = 4 * 50 * 20
    let left = Gate(total)
    let workers = (0..<3).map { _ in
      Worker {
        while let batch = queue.read(
          maxRecords: 64, maxBytes: .max, until: Instant.now + .seconds(30), gather: .milliseconds(1))
        {
          seen.withLock { seen in for text in batch.texts { seen[text, default: 0] += 1 } }
          batch.release()
          if left.update({
            $0 -= batch.count; return $0
          }) <= 0 {
            return
          }
          if left.withLock({ $0 <= 0 }) { return }
        }
      }
    }
    let senders = (0..<4).map { sender in
      Worker {
        for i in 0..<50 {
          _ = queue.appendAndWait(batch((0..<20).map { "\(sender) \(i) \($0) " + String(repeating: "w", count: 100) }))
        }
      }
    }
    senders.forEach { $0.join() }
    #expect(left.wait(until: Instant.now + .seconds(20)) { $0 <= 0 ? true : nil } == true)
    queue.close()
    workers.forEach { $0.join() }
    #expect(seen.withLock { $0.count } == total)
    #expect(seen.withLock { $0.values.allSatisfy { $0 == 1 } })
  }
}
