//  `sluice queue bench`: what the queue makes of the disk below a folder.
//
//  Three measurements, in a folder of their own that goes away again. First, by turns, the disk alone and the queue
//  under full load: writers that each append a batch and wait for its acknowledgement, beside one reader that releases.
//  Then acknowledgements at half of that load, each counted from the moment at which it was due, so that a queue that
//  stands still is charged for all who would have come. Last, how long a queue with a backlog takes to open.

internal import Diagnostics
internal import Glibc
package import Queue
internal import Records

package struct QueueBenchOptions: Sendable {
  package var folder = "."
  package var writers = 16
  package var recordBytes = 600
  package var batchRecords = 500
  /// How long the queue is under full load, and how long under half.
  package var seconds = 6
  package var backlogBytes = 1 << 30
  package init() {}
}

package struct QueueBenchReport: Sendable {
  /// MiB a second: the disk's best with a growing file, and over one that is there; the payloads' that the queue
  /// acknowledged.
  package var diskSpeed = 0.0
  package var overwriteSpeed = 0.0
  package var queueSpeed = 0.0
  package var recordsPerSecond = 0.0
  package var syncsPerSecond = 0.0
  /// Milliseconds from append to acknowledgement: half, and 99 of 100, took no longer.
  package var full = (p50: 0.0, p99: 0.0)
  package var half = (p50: 0.0, p99: 0.0)
  package var backlogBytes = 0
  package var backlogRecords = 0
  package var openMilliseconds = 0.0
}

/// - Throws: Where the folder cannot be used.
package func benchQueue(_ options: QueueBenchOptions) throws(QueueOpenError) -> QueueBenchReport {
  let folder = options.folder + "/queue-bench-\(getpid())"
  guard mkdir(folder, 0o700) == 0 else { throw .disk(SystemError(errno, call: "mkdir"), path: folder) }
  defer { removeFolder(folder) }
  return try QueueBench(options, folder).run()
}

/// One run. Belongs to the thread that made it; writers and reader see what is `let` alone.
private struct QueueBench {
  private static let rounds = 3
  private let options: QueueBenchOptions
  private let folder: String
  private let payload: [UInt8]
  private let descriptor = RecordDescriptor(Array("{}".utf8))
  private let settings: QueueSettings

  init(_ options: QueueBenchOptions, _ folder: String) {
    self.options = options
    self.folder = folder
    payload = (0..<options.recordBytes).map { _ in UInt8.random(in: 32...126) }
    var settings = QueueSettings()
    settings.maxBytes = max(4 << 30, options.backlogBytes * 2)
    settings.name = "bench"
    self.settings = settings
  }

  func run() throws(QueueOpenError) -> QueueBenchReport {
    var report = QueueBenchReport()
    let queue = try DiskQueue(folder: folder + "/queue", settings: settings)
    let reader = Reader(queue)
    _ = load(queue, for: .seconds(1), every: nil)
    let batchBytes = options.batchRecords * options.recordBytes
    var latencies: [Duration] = []
    var seconds = 0.0
    let syncs = queue.statistics.syncs
    for _ in 0..<Self.rounds {
      let (appended, overwritten) = diskSpeeds()
      report.diskSpeed = max(report.diskSpeed, appended)
      report.overwriteSpeed = max(report.overwriteSpeed, overwritten)
      let start = Instant.now
      latencies += load(queue, for: .milliseconds(options.seconds * 1000 / Self.rounds), every: nil)
      seconds += (Instant.now - start).seconds
    }
    let rate = Double(latencies.count) / seconds
    report.queueSpeed = rate * Double(batchBytes) / Double(1 << 20)
    report.recordsPerSecond = rate * Double(options.batchRecords)
    report.syncsPerSecond = Double(queue.statistics.syncs - syncs) / seconds
    report.full = Self.percentiles(latencies)
    let interval = Duration.nanoseconds(Int64(2e9 * Double(options.writers) / max(rate, 1)))
    report.half = Self.percentiles(load(queue, for: .seconds(options.seconds), every: interval))
    reader.stop()
    while queue.statistics.appendedBytes > 0, queue.statistics.events * options.recordBytes < options.backlogBytes {
      if load(queue, for: .milliseconds(20), every: nil).isEmpty { break }
    }
    report.backlogRecords = queue.statistics.events
    report.backlogBytes = queue.statistics.bytes
    queue.close()
    let start = Instant.now
    let reopened = try DiskQueue(folder: folder + "/queue", settings: settings)
    report.openMilliseconds = (Instant.now - start).seconds * 1000
    reopened.close()
    return report
  }

  /// Keeps the queue busy.
  ///
  /// - Parameter interval: How often each writer begins; nil as soon as it is answered.
  /// - Returns: What each acknowledgement took.
  private func load(_ queue: DiskQueue, for time: Duration, every interval: Duration?) -> [Duration] {
    let results = Gate<[[Duration]]>([])
    let end = Instant.now + time
    for number in 0..<options.writers {
      startThread("writer-\(number)") {
        let mine = write(to: queue, until: end, every: interval, offset: number)
        results.update { $0.append(mine) }
      }
    }
    return (results.wait { $0.count == options.writers ? $0 : nil } ?? []).flatMap { $0 }
  }

  private func write(to queue: DiskQueue, until end: Instant, every interval: Duration?, offset: Int) -> [Duration] {
    struct Answer {
      var isThere = false
      var isGood = false
    }
    let answer = Gate(Answer())
    var took: [Duration] = []
    // Paced writers begin one after the other.
    var due = Instant.now
    if let interval { due = due + interval * (Double(offset) / Double(options.writers)) }
    while due < end, Instant.now < end {
      if interval != nil { _ = answer.wait(until: due) { _ in nil as Bool? } }
      let batch = RecordBatch(descriptor: descriptor, context: nil)
      batch.payloads.reserve(options.batchRecords * payload.count)
      payload.withUnsafeBytes { bytes in for _ in 0..<options.batchRecords { batch.append(bytes) } }
      answer.withLock { $0 = Answer() }
      queue.append(batch) { result in
        answer.update {
          $0.isThere = true
          if case .success = result { $0.isGood = true }
        }
      }
      guard answer.wait({ $0.isThere ? $0.isGood : nil }) == true else { break }
      took.append(Instant.now - due)
      if let interval { due = due + interval } else { due = Instant.now }
    }
    return took
  }

  /// What the disk takes as 1 MiB written and synced, again and again: as a growing file, which is what any log does, and
  /// over a file that is there, which the queue's recycled segments make use of.
  private func diskSpeeds() -> (appended: Double, overwritten: Double) {
    let path = folder + "/disk"
    let file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard file >= 0 else { return (0, 0) }
    defer {
      close(file)
      unlink(path)
    }
    let block = [UInt8](unsafeUninitializedCapacity: 1 << 20) { buffer, count in
      for i in 0..<1 << 20 { buffer[i] = UInt8(truncatingIfNeeded: i &* 31) }
      count = 1 << 20
    }
    var speeds: [Double] = []
    var blocks = 1024
    for _ in 0..<2 {
      let start = Instant.now
      var written = 0
      while written < blocks, written < 64 || Instant.now - start < .milliseconds(500) {
        guard pwrite(file, block, block.count, off_t(written * block.count)) == block.count, fdatasync(file) == 0 else {
          return (0, 0)
        }
        written += 1
      }
      speeds.append(Double(written) / (Instant.now - start).seconds)
      blocks = written
    }
    return (speeds[0], speeds[1])
  }

  private static func percentiles(_ latencies: [Duration]) -> (p50: Double, p99: Double) {
    guard !latencies.isEmpty else { return (0, 0) }
    let sorted = latencies.sorted()
    func at(_ share: Double) -> Double {
      sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))].seconds * 1000
    }
    return (at(0.5), at(0.99))
  }

  /// Takes and releases what is there, as a pipeline does.
  private final class Reader: Sendable {
    private let state = Gate((isStopping: false, hasEnded: false))

    init(_ queue: DiskQueue) {
      startThread("reader") { [state] in
        while !state.withLock({ $0.isStopping }) {
          queue.read(maxRecords: 4000, maxBytes: 4 << 20, until: .now + .milliseconds(100), gather: .zero)?.release()
        }
        state.update { $0.hasEnded = true }
      }
    }

    func stop() {
      state.update { $0.isStopping = true }
      _ = state.wait { $0.hasEnded ? true : nil }
    }
  }
}

private func removeFolder(_ folder: String) {
  let files = RealFileSystem()
  for part in [folder + "/queue", folder] {
    for name in (try? files.list(part)) ?? [] { try? files.remove(part + "/" + name) }
    rmdir(part)
  }
}

extension Duration {
  fileprivate var seconds: Double { Double(ns) / 1e9 }
}
