//  Events that go their way once more: dead letters, and records that the queue has kept.

package import Diagnostics
package import Events
package import PluginKit
package import Records
internal import Synchronization

/// A record that is replayed. Its id is the one it had, so that what was delivered before is not indexed twice.
package struct ReplayedRecord: Sendable {
  /// The id of the record, and which of its events is meant.
  package var id: String
  package var part: Int
  /// How often the event has been refused.
  package var attempts: Int
  package var arrivalNs: Int64
  package var payload: [UInt8]
  package var descriptor: RecordDescriptor
  package var context: RecordContext?
  /// The event itself is sent again, not made from the record anew: its id holds the part already.
  package var entersAtOutput: Bool
  /// Of the events that filters make from the record only this part goes on; nil: all.
  package var onlyPart: Int?

  package init(
    id: String, part: Int = 0, attempts: Int = 0, arrivalNs: Int64, payload: [UInt8], descriptor: RecordDescriptor,
    context: RecordContext?, entersAtOutput: Bool = false, onlyPart: Int? = nil
  ) {
    self.id = id
    self.part = part
    self.attempts = attempts
    self.arrivalNs = arrivalNs
    self.payload = payload
    self.descriptor = descriptor
    self.context = context
    self.entersAtOutput = entersAtOutput
    self.onlyPart = onlyPart
  }
}

/// The records of a batch that is replayed. Read-only but for `keepLetter`; any thread.
package final class ReplaySource: SourceRecords {
  private let records: [ReplayedRecord]
  private let areLetters: Bool
  private let kept = Lock<Set<Int>>([])
  private let refused = Counter()

  /// - Parameter areLetters: They are dead letters; a refusal replaces them.
  package init(_ records: [ReplayedRecord], areLetters: Bool) {
    self.records = records
    self.areLetters = areLetters
  }

  package func record(_ record: Int) -> ReplayedRecord? { records.indices.contains(record) ? records[record] : nil }
  package func letter(_ record: Int) -> ReplayedRecord? { areLetters ? self.record(record) : nil }
  package var count: Int { records.count }

  /// A new letter was made of an event of the batch.
  package func noteRefusal() { refused.add() }
  package var refusals: Int { refused.value }

  /// The letter of `record` stays as it is, since a newer one found no room.
  package func keepLetter(_ record: Int) { kept.withLock { _ = $0.insert(record) } }
  package var keptLetters: Set<Int> { kept.withLock { $0 } }

  package func appendID(_ record: Int, to out: inout ByteBuffer) {
    guard let found = self.record(record) else { return }
    out.append(text: found.id)
    if found.entersAtOutput, found.part > 0 {
      out.append(45)
      out.append(decimal: found.part)
    }
  }
  package func withPayload(_ record: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    (self.record(record)?.payload ?? []).withUnsafeBytes(body)
  }
  package func arrivalNs(_ record: Int) -> Int64 { self.record(record)?.arrivalNs ?? 0 }
  /// What is replayed was sent before, mostly.
  package func isRecovered(_ record: Int) -> Bool { true }
  package func origin(_ record: Int) -> (descriptor: RecordDescriptor, context: RecordContext?)? {
    self.record(record).flatMap { $0.descriptor == .none ? nil : ($0.descriptor, $0.context) }
  }
}

/// What becomes of an event before it is sent once more.
package enum ReplayChoice: Sendable {
  case send
  /// Its letter stays.
  case keep
  /// It is not meant for the output after all; its letter goes.
  case pass
}

/// Runs records through a pipeline once more, from its start or straight to one of its outputs. One thread owns it.
package final class Replayer {
  private let runtime: PipelineRuntime
  private let worker: Worker

  package init(_ runtime: PipelineRuntime) {
    self.runtime = runtime
    worker = Worker(runtime, number: -1)
  }

  /// Decodes the records, runs the filters and hands the events to the outputs.
  ///
  /// - Parameter prepare: Sees each decoded event before the filters; false leaves it out.
  /// - Returns: True once every output has answered for every event; false when the pipeline stops before.
  package func run(_ source: ReplaySource, prepare: (Event) -> Bool) -> Bool {
    let isDone = Gate(false)
    worker.replay(source, prepare: prepare) { isDone.update { $0 = true } }
    return wait(isDone)
  }

  /// Hands events to one output as they were sent.
  ///
  /// - Parameters:
  ///   - events: One for each record of `source`.
  ///   - prepare: Mends events; nil sends them unread, with their index and id, where the output can.
  package func send(
    _ source: ReplaySource, _ events: [EncodedEvent], to step: OutputStep,
    prepare: ((Event) -> ReplayChoice)?
  ) -> Bool {
    let isDone = Gate(false)
    let delivery = Delivery(source: source) { isDone.update { $0 = true } }
    step.statistics.eventsIn.add(events.count)
    if prepare == nil, let output = step.output as? any EncodedOutput {
      output.write(events, delivery: delivery)
    } else {
      let batch = EventBatch()
      batch.recordIDs = source
      var selection: [Int32] = []
      for event in events {
        let made = event.body.withUnsafeBytes {
          try? batch.add(json: $0, record: event.record, arrivalNs: source.arrivalNs(event.record))
        }
        guard let made else {
          source.keepLetter(event.record)
          continue
        }
        switch prepare?(made) ?? .send {
        case .send: selection.append(made.index)
        case .keep: source.keepLetter(event.record)
        case .pass: break
        }
      }
      if !selection.isEmpty {
        selection.withUnsafeBufferPointer {
          step.output.write(OutputBatch(events: batch, selection: $0, delivery: delivery))
        }
      }
    }
    delivery.seal()
    return wait(isDone)
  }

  private func wait(_ isDone: Gate<Bool>) -> Bool {
    while true {
      if isDone.wait(until: Instant.now + .milliseconds(100), { $0 ? true : nil }) != nil { return true }
      if runtime.stopRequested { return isDone.withLock { $0 } }
    }
  }
}

extension Worker {
  fileprivate func replay(
    _ source: ReplaySource, prepare: (Event) -> Bool, whenDone: @escaping @Sendable () -> Void
  ) {
    self.source = source
    defer { self.source = nil }
    batch.removeAll()
    decoders.startBatch()
    batch.recordIDs = source
    selection.removeAll(keepingCapacity: true)
    for i in 0..<source.count {
      guard let record = source.record(i) else { continue }
      let decoder = decoders.decoder(record.descriptor)
      record.payload.withUnsafeBytes { payload in
        decoder.decode(
          payload, context: record.context, record: i, arrivalNs: record.arrivalNs, into: batch
        ) { event in
          if prepare(event) { enter(event, decoder) } else { source.keepLetter(i) }
        }
      }
    }
    runtime.eventsIn.add(selection.count)
    runner.run(batch, &selection)
    runContinued()
    chooseParts(source)
    runtime.eventsFiltered.add(selection.count)
    deliver(Delivery(source: source, whenDone: whenDone))
  }

  /// The other events of a split record were delivered, or have letters of their own.
  private func chooseParts(_ source: ReplaySource) {
    guard (0..<source.count).contains(where: { source.record($0)?.onlyPart != nil }) else { return }
    var present: Set<Int> = []
    for i in 0..<Int32(batch.count) {
      let event = batch[i]
      if let part = source.record(event.record)?.onlyPart, event.part == part { present.insert(event.record) }
    }
    selection.removeAll { i in
      let event = batch[i]
      // Where the filters no longer make that part, all that they do make goes on.
      guard present.contains(event.record), let part = source.record(event.record)?.onlyPart else { return false }
      return event.part != part
    }
  }
}
