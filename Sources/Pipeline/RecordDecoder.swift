//  Payloads to events, by what the record's descriptor and context say; the present configuration has no part in it.
//
//  A decoder belongs to one descriptor and one worker. What it needs is compiled when it is made; what a context adds is
//  worked out once for each context (`ArrivalFields`). Events point into that memory, so it may only go between two
//  batches: `RecordDecoders` sees to it.

internal import Codecs
internal import Diagnostics
package import Events
package import PluginKit
package import Records

/// The decoders of one worker, by descriptor. Not thread-safe.
package final class RecordDecoders {
  private var decoders: [ObjectIdentifier: RecordDecoder] = [:]
  private var last: RecordDecoder?
  private let filters: [String: FilterKind]

  /// - Parameter filters: Those that decoding makes use of (`grok` and `date`, for syslog).
  package init(filters: [String: FilterKind] = [:]) { self.filters = filters }

  /// To be called while no batch holds events: forgets what has grown too large.
  package func startBatch() {
    last = nil
    if decoders.count > 64 { decoders.removeAll() }
    for decoder in decoders.values { decoder.startBatch() }
  }

  package func decoder(_ descriptor: RecordDescriptor) -> RecordDecoder {
    if let last, last.descriptor === descriptor { return last }
    let key = ObjectIdentifier(descriptor)
    // The decoder keeps its descriptor, so that the identity is not given to another one.
    let decoder = decoders[key] ?? RecordDecoder(descriptor, filters: filters)
    decoders[key] = decoder
    last = decoder
    return decoder
  }
}

/// Decodes the records of one descriptor. One worker owns it.
package final class RecordDecoder {
  package let descriptor: RecordDescriptor
  let description: RecordDescription
  /// A payload, and within beats the message, is one of these.
  enum Codec: String { case plain, line, json, jsonLines = "json_lines", multiline }
  let codec: Codec
  let beats: BeatsEnvelope?
  private let syslog: SyslogParser?
  /// `[event][original]` keeps the text that an event was made from.
  let keepsOriginal: Bool
  /// Where a JSON document goes; nil for the event itself.
  let target: FieldReference?
  let charset: CharsetDecoder?
  let limits = JSONLimits()
  /// Takes the number in front of the payload, which a source of this machine counts with.
  private let sequenceField: FieldReference?
  private var sequence: Int64 = 0
  private let hasMessage: Bool
  private let typeBits: ValueBits?
  /// Holds the bytes of `typeBits`.
  private let constants = StableBytes(0)
  /// What a codec that joins lines tags its events with.
  private let multilineTag: [UInt8]
  private let codecTags: [[UInt8]]
  private let success: SuccessActions
  /// The step behind which the events go on, for those that a timer made; nil for an input's, which meet all steps.
  package let continuesBehind: String?
  private let layout: ArrivalLayout
  private var converted = ByteBuffer()

  private let scratch = EventBatch()
  private var contexts: [ObjectIdentifier: (context: RecordContext, fields: ArrivalFields)] = [:]
  private var lastContext: RecordContext?
  private var lastFields: ArrivalFields
  /// What events without a context get: nothing.
  private let noFields: ArrivalFields
  private static let typeField = FieldReference.known("type")
  private static let original = FieldReference.known("[event][original]")
  private static let originalFallback = FieldReference.known("[@metadata][event][original]")

  package init(_ descriptor: RecordDescriptor, filters: [String: FilterKind] = [:]) {
    self.descriptor = descriptor
    let description = RecordDescription(descriptor)
    self.description = description
    syslog = description.input == "syslog" ? SyslogParser(description, filters: filters) : nil
    beats = description.codec == "beats" ? BeatsEnvelope(description) : nil
    codec = Codec(rawValue: beats == nil ? description.codec : description.option("codec") ?? "plain") ?? .json
    // JSON by lines has none, and Logstash's default codec of beats only where its name is to be seen.
    keepsOriginal =
      description.ecs.isOn && codec != .jsonLines && description.option("original") != "false"
    target = description.option("target").flatMap { try? FieldReference($0) }
    sequenceField = description.option("sequence_field").flatMap { try? FieldReference($0) }
    hasMessage = description.option("message") != "none"
    charset = description.charset == "UTF-8" ? nil : CharsetDecoder(description.charset)
    typeBits = description.type.map { [constants] type in
      Array(type.utf8).withUnsafeBytes { .text(staying: constants.copy($0)) }
    }
    multilineTag = Array((description.option("multiline_tag") ?? "multiline").utf8)
    codecTags = (description.option("codec_tags") ?? "").split(separator: ",").map { Array($0.utf8) }
    success = SuccessActions(
      addField: description.addField.map { (Template($0.name), $0.values.map { Template($0) }) },
      addTag: description.tags.map { Template($0) })
    continuesBehind = MadeEvents.step(of: description)
    layout = ArrivalLayout(description)
    noFields = ArrivalFields(layout, nil, scratch: scratch)
    lastFields = noFields
  }

  /// Nothing points into what this decoder holds.
  package func startBatch() {
    guard contexts.count > 32 else { return }
    contexts.removeAll(keepingCapacity: true)
    lastContext = nil
    lastFields = noFields
  }

  /// Adds the events of one payload to `batch` and calls `body` with each: none for a blank line of JSON, several for an
  /// array.
  ///
  /// - Parameter context: Nil where there was no connection.
  package func decode(
    _ payload: UnsafeRawBufferPointer, context: RecordContext?, record: Int, arrivalNs: Int64, into batch: EventBatch,
    _ body: (Event) -> Void
  ) {
    if continuesBehind != nil { return body(decodeMade(payload, record, arrivalNs, batch)) }
    let arrival = Arrival(batch: batch, record: record, ns: arrivalNs, fields: fields(of: context))
    if beats != nil { return decodeBeats(payload, arrival, body) }
    if sequenceField != nil { return decode(takeSequence(payload), arrival, body) }
    guard let charset else { return decode(payload, arrival, body) }
    converted.removeAll()
    charset.append(payload, to: &converted)
    decode(converted.bytes, arrival, body)
  }

  /// An event that a timer made; a damaged one is an event all the same.
  private func decodeMade(
    _ payload: UnsafeRawBufferPointer, _ record: Int, _ arrivalNs: Int64, _ batch: EventBatch
  ) -> Event {
    if let event = MadeEvents.decode(payload, record: record, arrivalNs: arrivalNs, into: batch) { return event }
    let event = batch.add(record: record, arrivalNs: arrivalNs)
    try? event.set(.message, text(payload, event))
    event.addTag("_jsonparsefailure")
    return event
  }

  /// Reads the number at the front and returns what stands behind the blank after it.
  private func takeSequence(_ payload: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    var i = 0
    sequence = 0
    while i < payload.count, i < 18, payload[i] &- 48 < 10 {
      sequence = sequence * 10 + Int64(payload[i] - 48)
      i += 1
    }
    if i < payload.count, payload[i] == 32 { i += 1 }
    return UnsafeRawBufferPointer(rebasing: payload[i...])
  }

  /// What all events of a payload have in common.
  struct Arrival {
    let batch: EventBatch
    let record: Int
    let ns: Int64
    let fields: ArrivalFields
    func makeEvent() -> Event { batch.add(record: record, arrivalNs: ns) }
  }

  private func fields(of context: RecordContext?) -> ArrivalFields {
    if context === lastContext { return lastFields }
    lastContext = context
    guard let context else {
      lastFields = noFields
      return noFields
    }
    if let known = contexts[ObjectIdentifier(context)] {
      lastFields = known.fields
    } else {
      lastFields = ArrivalFields(layout, context, scratch: scratch)
      contexts[ObjectIdentifier(context)] = (context, lastFields)
    }
    return lastFields
  }

  private func decode(_ payload: UnsafeRawBufferPointer, _ arrival: Arrival, _ body: (Event) -> Void) {
    switch codec {
    case .plain, .line, .multiline:
      finish(makeText(payload, arrival), arrival, body)
    case .json, .jsonLines: decodeJSON(payload, arrival, body)
    }
  }

  // MARK: What every event gets

  private func finish(_ event: Event, _ arrival: Arrival, _ body: (Event) -> Void) {
    if let sequenceField { try? event.set(sequenceField, .integer(sequence)) }
    if layout.followsDecoration {
      decorate(event)
      if !arrival.fields.isEmpty { arrival.fields.apply(to: event) }
      syslog?.parse(event, in: arrival.batch)
      return body(event)
    }
    if !arrival.fields.isEmpty { arrival.fields.apply(to: event) }
    decorate(event)
    body(event)
  }

  /// `type`, `tags` and `add_field` of the input.
  @inline(__always)
  func decorate(_ event: Event) {
    if let typeBits, !event.contains(RecordDecoder.typeField) { try? event.set(RecordDecoder.typeField, typeBits) }
    if !success.isEmpty { success.apply(to: event) }
  }

  func setOriginal(_ event: Event, _ bits: ValueBits) {
    if event.contains(RecordDecoder.original) { return }
    do {
      try event.set(RecordDecoder.original, bits)
    } catch {
      try? event.set(RecordDecoder.originalFallback, bits)
    }
  }

  // MARK: Text

  /// The text of `bytes` in the event's memory; bytes that are no UTF-8 stand there as `\xNN`.
  func text(_ bytes: UnsafeRawBufferPointer, _ event: Event) -> ValueBits {
    if firstInvalidUTF8(bytes) == nil { return event.makeText(bytes) }
    return event.makeText { appendEscapedUTF8(bytes, to: &$0) }
  }

  private func makeText(_ payload: UnsafeRawBufferPointer, _ arrival: Arrival) -> Event {
    let event = arrival.makeEvent()
    let bits = text(payload, event)
    if hasMessage { try? event.set(.message, bits) }
    if keepsOriginal { setOriginal(event, bits) }
    // Only lines that were joined hold a line feed.
    if codec == .multiline, !multilineTag.isEmpty, payload.contains(10) { add(multilineTag, to: event) }
    for tag in codecTags { add(tag, to: event) }
    return event
  }

  private func add(_ tag: [UInt8], to event: Event) {
    tag.withUnsafeBytes { event.addTag($0, unlessPresent: true) }
  }

  // MARK: JSON

  private func decodeJSON(_ payload: UnsafeRawBufferPointer, _ arrival: Arrival, _ body: (Event) -> Void) {
    if target == nil {
      let made = try? arrival.batch.add(
        json: payload, record: arrival.record, arrivalNs: arrival.ns, limits: limits)
      if let event = made {
        if keepsOriginal { setOriginal(event, event.makeText(payload)) }
        return finish(event, arrival, body)
      }
    }
    for event in makeDocuments(payload, arrival) { finish(event, arrival, body) }
  }

  /// The events of a text that is no plain object: a list of objects, or something that does not parse. None for a
  /// blank text.
  private func makeDocuments(_ payload: UnsafeRawBufferPointer, _ arrival: Arrival) -> [Event] {
    if payload.allSatisfy({ $0 == 32 || ($0 >= 9 && $0 <= 13) }) { return [] }
    let first = arrival.makeEvent()
    guard let documents = documents(payload, first) else {
      try? first.set(.message, text(payload, first))
      first.addTag("_jsonparsefailure")
      return [first]
    }
    var events: [Event] = []
    for document in documents {
      let event = events.isEmpty ? first : first.spawn()
      if let target {
        try? event.set(target, document.bits)
      } else {
        var member = document.first
        while let present = member {
          member = present.next
          event.fields.set(present.key, present.bits)
        }
        event.settleArrival()
      }
      events.append(event)
    }
    if events.count > 1 { arrival.batch.takeSpawned { _, _ in } }
    if keepsOriginal, events.count == 1 { setOriginal(first, first.makeText(payload)) }
    return events
  }

  /// The objects of a JSON text, which is one or a list of them; nil where it is something else.
  func documents(_ text: UnsafeRawBufferPointer, _ event: Event) -> [Value]? {
    guard let value = try? event.parseJSON(text, limits: limits) else { return nil }
    guard value.isList else { return value.isMap && isDocument(value) ? [value] : nil }
    var found: [Value] = []
    var element = value.first
    while let present = element {
      guard present.isMap, isDocument(present) else { return nil }
      found.append(present)
      element = present.next
    }
    return found
  }

  /// What would become of the event's metadata must be a map.
  private func isDocument(_ map: Value) -> Bool { target != nil || map["@metadata"].map(\.isMap) ?? true }
}
