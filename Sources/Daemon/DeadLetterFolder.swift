//  Dead letters seen from outside: which of them a command means, and what each looks like as an event.

internal import Config
package import Diagnostics
package import Events
internal import Patterns
package import Pipeline
internal import PluginKit
package import Queue
internal import Records

/// The dead letters that are on disk: of the configured pipelines, and of others that were configured once.
package func deadLetterLocations(_ configuration: Configuration, problems: Problems) -> [QueueLocation] {
  locations(configuration, problems, below: configuration.dataFolder + "/dead_letter_queue", deadLetterFolder)
}

/// A letter with its header read.
package struct LetterView {
  package let entry: DeadLetterEntry
  package let facts: DeadLetterFacts

  package init(_ entry: DeadLetterEntry) {
    self.entry = entry
    facts = DeadLetterFacts(entry.letter.header)
  }

  private static let reasonField = FieldReference.known("[@metadata][dead_letter]")

  /// The event as it was sent, or as it arrived where it never came so far, with the reason in
  /// `[@metadata][dead_letter]`. It lives as long as `batch` is not emptied and `decoders` starts no other.
  package func event(in batch: EventBatch, _ decoders: RecordDecoders) -> Event {
    let letter = entry.letter
    var found: Event?
    if !letter.sent.isEmpty {
      found = letter.sent.withUnsafeBytes { try? batch.add(json: $0, record: 0, arrivalNs: facts.arrivalNs) }
    } else if letter.descriptor != .none {
      letter.arrived.withUnsafeBytes { payload in
        decoders.decoder(letter.descriptor).decode(
          payload, context: letter.context, record: 0, arrivalNs: facts.arrivalNs, into: batch
        ) { found = found ?? $0 }
      }
    }
    let event = found ?? batch.add(arrivalNs: facts.arrivalNs)
    var reason = ByteBuffer()
    reason.append("{\"id\":")
    reason.append(quoted: facts.eventID)
    facts.appendReason(to: &reason)
    reason.append("}")
    if let map = try? event.parseJSON(event.copy(reason.bytes)) { try? event.set(Self.reasonField, map.bits) }
    return event
  }

  /// One JSON object, without a line feed.
  package func append(_ pipeline: String, to out: inout ByteBuffer) {
    let letter = entry.letter
    out.append("{\"letter\":")
    out.append(quoted: entry.position.description)
    out.append(",\"time\":\"")
    Timestamp(ns: entry.writtenNs).appendISO8601(to: &out)
    out.append("\",\"pipeline\":")
    out.append(quoted: pipeline)
    out.append(",\"id\":")
    out.append(quoted: facts.eventID)
    facts.appendReason(to: &out)
    out.append(",\"arrival\":\"")
    Timestamp(ns: facts.arrivalNs).appendISO8601(to: &out)
    out.append("\"")
    appendJSON(letter.descriptor.bytes, "descriptor", to: &out)
    appendJSON(letter.context?.bytes ?? [], "context", to: &out)
    letter.arrived.withUnsafeBytes { arrived in
      if firstInvalidUTF8(arrived) == nil {
        out.append(",\"arrived\":")
        appendQuoted(arrived, to: &out)
      } else {
        out.append(",\"arrived_hex\":\"")
        out.append(hexadecimal: arrived)
        out.append("\"")
      }
    }
    appendJSON(letter.sent, "event", to: &out)
    out.append("}")
  }

  private func appendJSON(_ bytes: [UInt8], _ name: String, to out: inout ByteBuffer) {
    guard !bytes.isEmpty else { return }
    out.append(",")
    out.append(quoted: name)
    out.append(":")
    bytes.withUnsafeBytes { if bytes.first == UInt8(ascii: "{") { out.append($0) } else { appendQuoted($0, to: &out) } }
  }
}

/// Which letters a command means.
package struct LetterSelection {
  package var positions: Set<DeadLetterPosition> = []
  package var condition: Condition?
  /// Letters for which the condition had no answer, and which it therefore left out.
  package private(set) var undecided = 0
  private let batch = EventBatch()
  private let decoders = RecordDecoders()
  private let scratch = MatchScratch()

  package init() {}

  package var isEverything: Bool { positions.isEmpty && condition == nil }

  package mutating func holds(_ view: LetterView) -> Bool {
    guard positions.isEmpty || positions.contains(view.entry.position) else { return false }
    guard let condition else { return true }
    batch.removeAll()
    decoders.startBatch()
    do {
      return try condition.evaluate(view.event(in: batch, decoders), scratch)
    } catch {
      undecided += 1
      return false
    }
  }
}
