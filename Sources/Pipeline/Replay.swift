//  Events that go their way once more: dead letters, and records that the queue has kept.

package import Diagnostics
internal import Events
internal import PluginKit
package import Records

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

  package init(
    id: String, part: Int = 0, attempts: Int = 0, arrivalNs: Int64, payload: [UInt8], descriptor: RecordDescriptor,
    context: RecordContext?, entersAtOutput: Bool = false
  ) {
    self.id = id
    self.part = part
    self.attempts = attempts
    self.arrivalNs = arrivalNs
    self.payload = payload
    self.descriptor = descriptor
    self.context = context
    self.entersAtOutput = entersAtOutput
  }
}

/// The records of a batch that is replayed. Read-only but for `keepLetter`; any thread.
package final class ReplaySource: SourceRecords {
  private let records: [ReplayedRecord]
  private let areLetters: Bool
  private let kept = Lock<Set<Int>>([])

  /// - Parameter areLetters: They are dead letters; a refusal replaces them.
  package init(_ records: [ReplayedRecord], areLetters: Bool) {
    self.records = records
    self.areLetters = areLetters
  }

  package func record(_ record: Int) -> ReplayedRecord? { records.indices.contains(record) ? records[record] : nil }
  package func letter(_ record: Int) -> ReplayedRecord? { areLetters ? self.record(record) : nil }
  package var count: Int { records.count }

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
