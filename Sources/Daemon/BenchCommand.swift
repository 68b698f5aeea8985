//  `sluice bench`: what a pipeline's events cost, in CPU time: decode, each filter, encode.
//
//  The lines of a file are decoded, run through the filters and written as JSON again and again, as a worker does it with
//  its batches; no queue, no socket, no output. A thread's own CPU clock is read around each part of a batch, so that
//  other work on the machine does not count. Each worker has a runner of its own; the filters' shared state is one. A
//  first pass over the lines warms caches and expressions and is not counted.

internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
package import Pipeline
internal import PluginKit
internal import Records

package struct BenchOptions: Sendable {
  /// Every line is a `message`.
  package var isPlain = false
  /// The id or kind of the input whose payload a line is.
  package var input: String?
  package var workers = 1
  /// Events that are counted at least, over all workers; a shorter file is begun again.
  package var events = 200_000
  package init() {}
}

/// Costs in nanoseconds of CPU an event.
package struct BenchReport: Sendable {
  package struct Part: Sendable {
    package let id: String
    package let kind: String
    package let nsPerEvent: Double
    /// Events that reached it, of all; 1 is every one.
    package let share: Double
  }
  package let pipeline: String
  package let workers: Int
  package let events: Int
  package let bytesOut: Int
  package let wallSeconds: Double
  package let decodeNs: Double
  package let filters: [Part]
  /// Conditions and the walk between filters.
  package let stepsNs: Double
  package let encodeNs: Double

  package var totalNs: Double { decodeNs + filters.reduce(stepsNs) { $0 + $1.nsPerEvent } + encodeNs }
  package var eventsPerSecond: Double { Double(events) / wallSeconds }
}

/// Runs the lines of `file`, its whole content, through `pipeline`; nil where it has no line.
package func benchPipeline(_ pipeline: CompiledPipeline, _ options: BenchOptions, file: [UInt8]) -> BenchReport? {
  let lines = file.split(separator: 10).map { $0.startIndex..<$0.endIndex }
  guard !lines.isEmpty else { return nil }
  struct State {
    var warm = 0
    var mayRun = false
    var tallies: [Tally] = []
  }
  let gate = Gate(State())
  let workers = max(1, options.workers)
  let description = lineDescription(pipeline, input: options.input, isPlain: options.isPlain)
  for number in 0..<workers {
    startThread("bench-\(number)") {
      let worker = BenchWorker(pipeline, description.descriptor, file, lines)
      worker.run(min(lines.count, 100_000))
      gate.update { $0.warm += 1 }
      _ = gate.wait(until: Instant(ns: .max)) { $0.mayRun ? true : nil }
      worker.tally = Tally()
      let start = Instant.now
      worker.run(max(1, options.events / workers))
      worker.tally.wallNs = (Instant.now - start).ns
      gate.update { [tally = worker.tally] in $0.tallies.append(tally) }
    }
  }
  _ = gate.wait(until: Instant(ns: .max)) { $0.warm == workers ? true : nil }
  let steps = filterSteps(pipeline.steps)
  let before = steps.map { (events: $0.statistics.eventsIn.value, ns: $0.statistics.durationNs.value) }
  gate.update { $0.mayRun = true }
  let tallies = gate.wait(until: Instant(ns: .max)) { $0.tallies.count == workers ? $0.tallies : nil } ?? []

  func sum(_ part: KeyPath<Tally, Int64>) -> Double { tallies.reduce(0) { $0 + Double($1[keyPath: part]) } }
  let events = sum(\.events)
  let parts = zip(steps, before).map { step, before in
    BenchReport.Part(
      id: step.id, kind: step.kind, nsPerEvent: Double(step.statistics.durationNs.value - before.ns) / events,
      share: Double(step.statistics.eventsIn.value - before.events) / events)
  }
  return BenchReport(
    pipeline: pipeline.id, workers: workers, events: Int(events), bytesOut: Int(sum(\.bytesOut)),
    wallSeconds: (tallies.map { Double($0.wallNs) }.max() ?? 1) / 1e9, decodeNs: sum(\.decodeNs) / events,
    filters: parts, stepsNs: max(0, sum(\.stepsNs) / events - parts.reduce(0) { $0 + $1.nsPerEvent }),
    encodeNs: sum(\.encodeNs) / events)
}

/// What one worker found.
private struct Tally: Sendable {
  var events: Int64 = 0
  var bytesOut: Int64 = 0
  var decodeNs: Int64 = 0
  var stepsNs: Int64 = 0
  var encodeNs: Int64 = 0
  var wallNs: Int64 = 0
}

/// One thread's share of the work. Not thread-safe.
private final class BenchWorker {
  private let batch = EventBatch()
  private let runner: StepRunner
  private let decoder: RecordDecoder
  private let file: [UInt8]
  private let lines: [Range<Int>]
  private let batchSize: Int
  private var next = 0
  private var selection: [Int32] = []
  private var out = ByteBuffer(capacity: 1 << 20)
  var tally = Tally()

  init(_ pipeline: CompiledPipeline, _ descriptor: RecordDescriptor, _ file: [UInt8], _ lines: [Range<Int>]) {
    runner = StepRunner(pipeline.steps, handler: nil, clock: { Instant.threadCPU })
    decoder = RecordDecoder(descriptor)
    batchSize = max(1, pipeline.settings.batchSize)
    self.file = file
    self.lines = lines
  }

  /// Runs batches until `wanted` lines are done.
  func run(_ wanted: Int) {
    var remaining = wanted
    while remaining > 0 {
      let count = min(batchSize, remaining)
      remaining -= count
      let start = Instant.threadCPU
      decode(count)
      let decoded = Instant.threadCPU
      runner.run(batch, &selection)
      let filtered = Instant.threadCPU
      out.removeAll()
      for i in selection {
        batch[i].appendJSON(to: &out)
        out.append(10)
      }
      tally.encodeNs += (Instant.threadCPU - filtered).ns
      tally.stepsNs += (filtered - decoded).ns
      tally.decodeNs += (decoded - start).ns
      tally.bytesOut += Int64(out.count)
      tally.events += Int64(count)
    }
  }

  private func decode(_ count: Int) {
    batch.removeAll()
    selection.removeAll(keepingCapacity: true)
    let now = WallClock.ns
    file.withUnsafeBytes { file in
      for _ in 0..<count {
        decoder.decode(
          UnsafeRawBufferPointer(rebasing: file[lines[next]]), context: nil, record: -1, arrivalNs: now, into: batch
        ) { selection.append($0.index) }
        next = next + 1 == lines.count ? 0 : next + 1
      }
    }
  }
}
