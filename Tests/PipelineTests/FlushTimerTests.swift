//  Events that a timer makes: they go through the pipeline's own queue, on behind their step, with ids and types, and the
//  end of a run asks for them once.

import Config
import Diagnostics
import Events
import Filters
import Glibc
import Pipeline
import PluginKit
import Queue
import Records
import TestSupport
import Testing

/// References live as long as the events that they were written into.
private enum Field {
  static let kind = FieldReference.known("kind")
  static let seen = FieldReference.known("seen")
  static let finals = FieldReference.known("finals")
  static let when = FieldReference.known("[at][0][when]")
  static let counted = FieldReference.known("[@metadata][kind]")
  static let since = FieldReference.known("[@metadata][since]")
}

/// Counts events, and gives out the count: at every flush, or at the final one alone.
private struct CountingFilter: FilterPlugin {
  static let manual = Manual(name: "counting", summary: "Counts for tests.")
  struct Settings: PluginSettings {
    var onlyAtEnd = false
    static let options: [Option<Settings>] = [.option("only_at_end", \.onlyAtEnd, "Nothing before the end.")]
  }

  final class Shared: TimedState {
    let onlyAtEnd: Bool
    let count = Lock(0)
    let finals = Counter()
    init(_ onlyAtEnd: Bool) { self.onlyAtEnd = onlyAtEnd }

    func flush(_ batch: FlushBatch, isFinal: Bool) {
      if isFinal { finals.add() }
      let seen = count.withLock { count in
        if onlyAtEnd, !isFinal { return 0 }
        defer { count = 0 }
        return count
      }
      if seen == 0 { return }
      let event = batch.makeEvent()
      try? event.set(Field.seen, .integer(seen))
      try? event.set(Field.finals, .integer(finals.value))
      try? event.set(Field.when, .timestamp(Timestamp(seconds: 5, nanos: 7)))
      try? event.set(Field.counted, .text("counted"))
      try? event.set(Field.since, .timestamp(Timestamp(seconds: 1)))
    }
  }

  final class Worker: Filter {
    let shared: Shared
    init(_ shared: Shared) { self.shared = shared }
    func process(_ batch: FilterBatch) { shared.count.withLock { $0 += batch.count } }
  }

  let shared: Shared
  init(_ settings: Settings, _ context: FilterContext) { shared = Shared(settings.onlyAtEnd) }
  func makeFilter() -> any Filter { Worker(shared) }
  var timed: (any TimedState)? { shared }
}

/// Keeps what reaches it, as JSON with the metadata and the id.
private final class KeepingOutput: Output {
  struct Kept: Sendable {
    var json: String
    var id: String
    var kinds: String
  }
  private let kept = Lock<[Kept]>([])
  var all: [Kept] { kept.withLock { $0 } }
  var statistics: OutputStatistics { OutputStatistics() }

  func start() throws {}
  func stop(deadline: Instant) {}
  func write(_ batch: OutputBatch) {
    batch.delivery.expect(batch.selection.count)
    for i in batch.selection {
      let event = batch.events[i]
      var id = ByteBuffer()
      batch.delivery.appendID(event, to: &id)
      let nested = event.value(Field.when)?.kind == .timestamp
      let metadata = event.value(Field.since)?.kind == .timestamp
      let entry = Kept(
        json: event.fields.json + event.metadata.json, id: id.string(), kinds: "\(nested) \(metadata)")
      kept.withLock { $0.append(entry) }
    }
    batch.delivery.finish(batch.selection.count)
  }
}

@Suite struct FlushTimerTests {
  private let place = SourcePosition(file: "test")

  private func builder(_ problems: Problems) -> StepBuilder {
    StepBuilder(
      registry: Registry(inputs: [], filters: allFilters + [FilterKind(CountingFilter.self)], outputs: []),
      pipelineID: "test", ecs: .disabled,
      services: Services(resolves: true, folder: "/tmp", dataFolder: "/tmp", configFolder: "/tmp"), problems: problems)
  }

  /// In front of the counting filter a mark, behind it in its branch another, and one behind the branch.
  private func steps(_ options: String) throws -> [Step] {
    let problems = Problems()
    let builder = builder(problems)
    func step(_ name: String, _ options: String) -> [Step] {
      let node = YAML.parse(options, file: "test", problems: problems)
      return builder.filter(name, options: node, position: place).map { [$0] } ?? []
    }
    let condition = "[kind] == \"x\""
    let result =
      step("mutate", "{ add_field: { front: '1' } }")
      + builder.branch(
        ConditionText(text: condition, node: YAMLNode(.scalar(condition), place)),
        then: step("counting", options) + step("mutate", "{ add_field: { inside: '1' } }"),
        otherwise: step("mutate", "{ add_field: { other: '1' } }"))
      + step("mutate", "{ add_field: { behind: '1' } }")
    try #require(!problems.hasErrors, "\(problems.sorted)")
    return result
  }

  private func runtime(_ steps: [Step], _ queue: any EventQueue, _ output: any Output, workers: Int) -> PipelineRuntime
  {
    var settings = RuntimeSettings()
    settings.workers = workers
    settings.batchDelay = .milliseconds(1)
    settings.flushInterval = .milliseconds(30)
    return PipelineRuntime(
      id: "test", steps: steps,
      outputs: [OutputStep(id: "keep", kind: "keep", position: place, condition: nil, output: output)], queue: queue,
      deadLetters: NoDeadLetters(), settings: settings)
  }

  private func append(_ n: Int, to queue: any EventQueue) {
    let descriptor = RecordDescription(input: "test", inputID: "test", codec: "json").descriptor
    for _ in 0..<n {
      let batch = RecordBatch(descriptor: descriptor, context: nil)
      Array(#"{"kind":"x"}"#.utf8).withUnsafeBytes { batch.append($0) }
      queue.append(batch) { _ in }
    }
  }

  private func made(_ output: KeepingOutput) -> [KeepingOutput.Kept] { output.all.filter { $0.json.contains("seen") } }

  @Test func `a made event goes through the queue, on behind its step, with id and types`() throws {
    let queue = MemoryQueue(maxEvents: 0, maxBytes: 1 << 20, name: "test")
    let output = KeepingOutput()
    let runtime = runtime(try steps("{}"), queue, output, workers: 2)
    try runtime.start()
    append(5, to: queue)
    #expect(waitUntil { made(output).count >= 1 && output.all.count - made(output).count == 5 })
    runtime.stop(deadline: .now + .seconds(10), drain: true)
    queue.close()
    let event = try #require(made(output).first)
    #expect(!event.json.contains("front"))
    #expect(!event.json.contains("other"))
    #expect(event.json.contains(#""inside":"1","behind":"1""#))
    #expect(event.json.contains(#""kind":"counted""#))
    #expect(event.json.contains(#""when":"1970-01-01T00:00:05.000000007Z""#))
    #expect(event.kinds == "true true")
    #expect(event.id.utf8.count == 20)
    #expect(Set(output.all.map(\.id)).count == output.all.count)
    // What a timer makes has not come in from outside.
    #expect(runtime.eventsIn.value == 5)
  }

  @Test func `the end asks once, however many workers there are, and delivers before a drained stop ends`() throws {
    let queue = MemoryQueue(maxEvents: 0, maxBytes: 1 << 20, name: "test")
    let output = KeepingOutput()
    let runtime = runtime(try steps("{ only_at_end: true }"), queue, output, workers: 4)
    try runtime.start()
    append(40, to: queue)
    #expect(waitUntil { output.all.count == 40 })
    runtime.stop(deadline: .now + .seconds(10), drain: true)
    queue.close()
    #expect(made(output).count == 1)
    #expect(made(output).first?.json.contains(#""seen":40,"finals":1"#) == true)
  }

  @Test func `a stop without draining leaves what was made in the queue, and the next run delivers it`() throws {
    var template = Array("/tmp/sluice-flush-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { removeFolder(folder) }
    var settings = QueueSettings()
    settings.minFreeBytes = 0
    let first = KeepingOutput()
    let queue = try DiskQueue(folder: folder, settings: settings)
    let runtime = runtime(try steps("{ only_at_end: true }"), queue, first, workers: 2)
    try runtime.start()
    append(3, to: queue)
    #expect(waitUntil { first.all.count == 3 })
    runtime.stop(deadline: .now + .seconds(10), drain: false)
    queue.close()
    #expect(made(first).isEmpty)

    let second = KeepingOutput()
    let reopened = try DiskQueue(folder: folder, settings: settings)
    let next = self.runtime(try steps("{ only_at_end: true }"), reopened, second, workers: 2)
    try next.start()
    #expect(waitUntil { made(second).count == 1 })
    next.stop(deadline: .now + .seconds(10), drain: false)
    reopened.close()
    #expect(made(second).first?.json.contains(#""seen":3"#) == true)
    #expect(made(second).first?.kinds == "true true")
  }

  @Test func `while a full queue waits nothing more is asked for`() throws {
    let queue = MemoryQueue(maxEvents: 1, maxBytes: 1 << 20, name: "test")
    let output = KeepingOutput()
    let steps = try steps("{}")
    let runtime = runtime(steps, queue, output, workers: 1)
    // Nobody reads: the runtime's workers are not started, only its steps are fed.
    let batch = EventBatch()
    let runner = StepRunner(steps, handler: nil)
    func feed(_ n: Int) {
      for _ in 0..<n {
        let event = batch.add(arrivalNs: 0)
        try? event.set(Field.kind, .text("x"))
        var selection = [event.index]
        runner.run(batch, &selection)
      }
    }
    append(1, to: queue)
    feed(2)
    try runtime.start()
    #expect(waitUntil { made(output).count >= 1 })
    feed(3)
    #expect(waitUntil { made(output).map(\.json).joined().contains(#""seen":3"#) })
    runtime.stop(deadline: .now + .seconds(10), drain: true)
    queue.close()
    #expect(output.all.count == 3)
  }

  @Test func `a step that is not there any more lets the event pass`() throws {
    let batch = EventBatch()
    let runner = StepRunner(try steps("{}"), handler: nil)
    var selection = [batch.add(arrivalNs: 0).index]
    runner.run(batch, &selection, behind: "gone-1")
    #expect(selection.count == 1)
    #expect(!batch[selection[0]].fields.json.contains("behind"))
  }

  @Test(arguments: [
    "", "[]", "[]\n", "[]\n{", "[]\n[1]", "no json\n{}", "[[\"a\"]]\n{\"a\":1}", "[[\"a\",5]]\n{\"a\":[]}",
    "[[{}],[null],1]\n{\"a\":{}}", "[[\"@metadata\"]]\n{}", "[[\"tags\"]]\n{\"tags\":\"2025-03-09T07:12:44.000Z\"}",
  ])
  func `a damaged payload is an event all the same`(_ text: String) {
    let batch = EventBatch()
    let decoder = RecordDecoder(MadeEvents.descriptor(behind: "counting-1"))
    #expect(decoder.continuesBehind == "counting-1")
    var events = 0
    Array(text.utf8).withUnsafeBytes {
      decoder.decode($0, context: nil, record: 0, arrivalNs: 0, into: batch) { _ in events += 1 }
    }
    #expect(events == 1)
  }
}
