//  `sluice test`: the tests that pipelines carry, and case folders (pipeline.yml, input.jsonl, expected.jsonl).

internal import Config
package import Diagnostics
internal import Events
internal import Patterns
package import Pipeline
internal import PluginKit
internal import Records

/// The outcome of one test.
package struct TestOutcome: Sendable {
  package var name: String
  package var position: SourcePosition
  /// Why it failed; empty when it passed.
  package var failures: [String] = []
  package var durationNs: Int64 = 0
  package var passed: Bool { failures.isEmpty }
}

/// Runs the tests of one compiled pipeline.
package struct PipelineTester {
  private let pipeline: CompiledPipeline

  package init(_ pipeline: CompiledPipeline) { self.pipeline = pipeline }

  package func run() -> [TestOutcome] { pipeline.file.tests.map(run) }

  private func run(_ test: PipelineTest) -> TestOutcome {
    let start = Instant.now
    var outcome = TestOutcome(name: test.name, position: test.position)
    outcome.failures = failures(test)
    outcome.durationNs = (Instant.now - start).ns
    return outcome
  }

  private func failures(_ test: PipelineTest) -> [String] {
    let batch = EventBatch()
    let scratch = batch.add(arrivalNs: 0)
    var nowNs = WallClock.ns
    if let now = test.now {
      guard let parsed = Array(now.utf8).withUnsafeBytes({ Timestamp(arriving: $0) }) else {
        return ["'now' is no ISO 8601 time: \(now)"]
      }
      nowNs = parsed.seconds * 1_000_000_000 + Int64(parsed.nanos)
    }
    var input: (any Input)?
    if let id = test.input {
      guard let found = pipeline.inputs.first(where: { $0.id == id || $0.kind == id }) else {
        return ["there is no input '\(id)'"]
      }
      input = found.input
    }
    let document = RecordDescription(input: "test", inputID: "test", codec: "json").descriptor
    let decoders = RecordDecoders(filters: pipeline.filters)
    var selection: [Int32] = []
    for given in test.given {
      var payload = ByteBuffer()
      if given.text != nil, test.input != nil {
        payload.append(text: given.text ?? "")
      } else {
        scratch.makeValue(value(given, scratch)).appendJSON(to: &payload)
      }
      var records: [RecordBatch] = []
      if let input {
        records = input.records(of: payload.bytes)
      } else {
        let batch = RecordBatch(descriptor: document, context: nil)
        batch.append(payload.bytes)
        records = [batch]
      }
      for group in records {
        for i in 0..<group.count {
          group.withPayload(i) { bytes in
            decoders.decoder(group.descriptor).decode(
              bytes, context: nil, record: -1, arrivalNs: nowNs, into: batch
            ) { selection.append($0.index) }
          }
        }
      }
    }
    let failed = FailureList()
    let runner = StepRunner(pipeline.steps, handler: failed)
    runner.run(batch, &selection)
    selection += runner.flush(batch, nowNs: nowNs, isFinal: true)
    return failed.texts + check(test, batch, selection, runner.scratch, scratch)
  }

  private func check(
    _ test: PipelineTest, _ batch: EventBatch, _ selection: [Int32], _ scratch: MatchScratch, _ maker: Event
  ) -> [String] {
    var result: [String] = []
    if let dropped = test.dropped, dropped != selection.isEmpty {
      result.append(dropped ? "expected no event, \(selection.count) remained" : "every event was dropped")
    }
    if let expected = test.expect {
      if expected.count != selection.count {
        result.append("expected \(expected.count) events, got \(selection.count)")
      }
      for (node, i) in zip(expected, selection) {
        let wanted = maker.makeValue(value(node, maker))
        if let difference = difference(document(batch[i]), wanted, isSubset: true) {
          result.append("\(difference)\n    event: \(document(batch[i]).json)")
        }
      }
    }
    for name in test.absent {
      guard let reference = try? FieldReference(name) else {
        result.append("'absent' has no field reference: \(name)")
        continue
      }
      for i in selection where batch[i].contains(reference) {
        result.append("\(name) is there: \(batch[i].value(reference)?.json ?? "")")
      }
    }
    if let wanted = test.outputs {
      var reached: [String] = []
      for step in pipeline.outputs {
        let reaches = selection.contains { i in
          guard let condition = step.condition else { return true }
          return (try? condition.evaluate(batch[i], scratch)) ?? false
        }
        if reaches { reached.append(step.id) }
      }
      if Set(reached) != Set(wanted) {
        result.append("reaches the outputs \(reached.sorted()), expected \(wanted.sorted())")
      }
    }
    return result
  }

  /// The event with its metadata, so that tests can look at both.
  private func document(_ event: Event) -> Value {
    let copy = event.makeValue(event.fields.copied())
    if event.hasMetadata {
      let name: StaticString = "@metadata"
      copy.set(
        name: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), event.metadata.copied())
    }
    return copy
  }

  /// A YAML value as an event's: plain scalars are JSON where they parse as JSON, quoted ones are always text.
  private func value(_ node: YAMLNode, _ event: Event) -> ValueBits {
    switch node.content {
    case .scalar(let text):
      if node.style == .plain, let parsed = Array(text.utf8).withUnsafeBytes({ try? event.parseJSON($0) }) {
        return parsed.bits
      }
      return event.makeText(text)
    case .list(let items):
      let list = event.makeList()
      for item in items { list.append(value(item, event)) }
      return list.bits
    case .map(let entries):
      let map = event.makeMap()
      for entry in entries {
        Array(entry.key.utf8).withUnsafeBytes { map.set(name: $0, value(entry.value, event)) }
      }
      return map.bits
    }
  }
}

private final class FailureList: ConditionFailureHandler {
  var texts: [String] = []
  func conditionFailed(_ event: Event, _ condition: Condition, _ failure: ConditionFailure, at position: SourcePosition)
  {
    texts.append("\(position): the condition \(condition) has no answer: \(failure.reason.rawValue)")
  }
}
