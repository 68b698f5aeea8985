//  Payloads to events, by what the record's descriptor says; the present configuration has no part in it.

internal import Diagnostics
package import Events
internal import PluginKit
package import Records

/// Decodes the records of one descriptor. One worker owns it.
package final class RecordDecoder {
  private let description: RecordDescription
  private let typeField = FieldReference.known("type")
  private let success: SuccessActions
  private let limits = JSONLimits()
  /// The step behind which the events go on, for those that a timer made; nil for an input's, which meet all steps.
  package let continuesBehind: String?

  package init(_ descriptor: RecordDescriptor) {
    description = RecordDescription(descriptor)
    continuesBehind = MadeEvents.step(of: description)
    success = SuccessActions(
      addField: description.addField.map { (Template($0.name), $0.values.map { Template($0) }) },
      addTag: description.tags.map { Template($0) })
  }

  /// Adds the events of one payload to `batch`.
  package func decode(
    _ payload: UnsafeRawBufferPointer, context: RecordContext?, record: Int, arrivalNs: Int64, into batch: EventBatch,
    _ body: (Event) -> Void
  ) {
    let event = makeEvent(payload, record, arrivalNs, batch)
    if let type = description.type, !event.contains(typeField) { try? event.set(typeField, event.makeText(type)) }
    if !success.isEmpty { success.apply(to: event) }
    body(event)
  }

  private func makeEvent(
    _ payload: UnsafeRawBufferPointer, _ record: Int, _ arrivalNs: Int64, _ batch: EventBatch
  ) -> Event {
    if continuesBehind != nil,
      let event = MadeEvents.decode(payload, record: record, arrivalNs: arrivalNs, into: batch)
    {
      return event
    }
    guard description.codec != "plain" else { return text(payload, record, arrivalNs, batch) }
    do {
      if let event = try batch.add(json: payload, record: record, arrivalNs: arrivalNs, limits: limits) { return event }
    } catch {}
    let event = text(payload, record, arrivalNs, batch)
    event.addTag("_jsonparsefailure")
    return event
  }

  private func text(
    _ payload: UnsafeRawBufferPointer, _ record: Int, _ arrivalNs: Int64, _ batch: EventBatch
  ) -> Event {
    let event = batch.add(record: record, arrivalNs: arrivalNs)
    let bits: ValueBits
    if firstInvalidUTF8(payload) == nil {
      bits = event.makeText(payload)
    } else {
      bits = event.makeText { appendRepairedUTF8(payload, to: &$0) }
    }
    try? event.set(.message, bits)
    return event
  }
}
