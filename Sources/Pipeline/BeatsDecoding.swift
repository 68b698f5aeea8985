//  Frames of the Beats protocol to events: a JSON object of the shipper around a `message`, which goes through the
//  input's codec, and what the input adds (`enrich`).

internal import Codecs
internal import Diagnostics
internal import Events
internal import PluginKit

/// The options of a beats input that decoding needs.
struct BeatsEnvelope: Sendable {
  /// `beats_input_codec_plain_applied`; nil without codec tags.
  let codecTag: [UInt8]?
  let rawTag: [UInt8]?
  /// Where an old Beat's host name goes; nil unless asked for.
  let hostname: FieldReference?

  static let line = FieldReference.known("line")
  static let beatHostname = FieldReference.known("[beat][hostname]")

  init(_ description: RecordDescription) {
    let enrich = (description.option("enrich") ?? "").split(separator: ",")
    if enrich.contains("codec_metadata") {
      codecTag = Array("beats_input_codec_\(description.option("codec") ?? "plain")_applied".utf8)
      rawTag = Array("beats_input_raw_event".utf8)
    } else {
      codecTag = nil
      rawTag = nil
    }
    guard description.option("add_hostname") == "true" else {
      hostname = nil
      return
    }
    hostname = .known("host")
  }
}

extension RecordDecoder {
  func decodeBeats(_ payload: UnsafeRawBufferPointer, _ arrival: Arrival, _ body: (Event) -> Void) {
    let made = try? arrival.batch.add(
      json: payload, record: arrival.record, arrivalNs: arrival.ns, limits: limits, isEnvelope: true)
    guard let event = made else { return decodeBroken(payload, arrival, body) }
    if !arrival.fields.isEmpty { arrival.fields.apply(to: event) }
    var message = event.value(.message)
    if message?.isNull ?? true, let line = event.value(BeatsEnvelope.line), !line.isNull {
      event.remove(BeatsEnvelope.line)
      try? event.set(.message, line.bits)
      message = event.value(.message)
    }
    guard let message, !message.isNull else {
      decorate(event)
      add(beats?.rawTag, to: event)
      return body(event)
    }
    if !message.isText { message.replace(with: event.makeText { message.appendBraced(to: &$0) }) }
    if let charset, let text = message.text {
      message.replace(with: event.makeText { charset.append(text, to: &$0) })
    }
    switch codec {
    case .plain, .multiline:
      if keepsOriginal { setOriginal(event, message.bits) }
      finishBeats(event, body)
    case .line: decodeLines(event, message, arrival, body)
    case .json: decodeMessage(event, message, arrival, body)
    case .jsonLines: decodeJSONLines(event, message, arrival, body)
    }
  }

  /// A frame whose body is no JSON object: the text, so that its shipper does not send it for ever.
  private func decodeBroken(_ payload: UnsafeRawBufferPointer, _ arrival: Arrival, _ body: (Event) -> Void) {
    let event = arrival.makeEvent()
    try? event.set(.message, text(payload, event))
    event.addTag("_jsonparsefailure")
    if !arrival.fields.isEmpty { arrival.fields.apply(to: event) }
    decorate(event)
    body(event)
  }

  private func finishBeats(_ event: Event, _ body: (Event) -> Void) {
    if let hostname = beats?.hostname, let name = event.value(BeatsEnvelope.beatHostname) {
      if description.ecs.isOn {
        let field = RecordDecoder.beatsHostName
        if !event.contains(field) { try? event.set(field, name.bits) }
      } else if !event.contains(hostname) {
        try? event.set(hostname, name.bits)
      }
    }
    decorate(event)
    add(beats?.codecTag, to: event)
    body(event)
  }

  private static let beatsHostName = FieldReference.known("[@metadata][input][beats][host][name]")

  private func add(_ tag: [UInt8]?, to event: Event) {
    tag?.withUnsafeBytes { event.addTag($0, unlessPresent: true) }
  }

  // MARK: Codecs of the message

  /// As many copies of `event`, itself first, as there are pieces. Each keeps time and fields of its shipper.
  private func copies(_ event: Event, _ count: Int, _ arrival: Arrival) -> [Event] {
    var events = [event]
    for _ in 1..<max(1, count) { events.append(event.spawnClone()) }
    if count > 1 { arrival.batch.takeSpawned { _, _ in } }
    return events
  }

  /// Every line of the message is an event; the last one needs no line feed.
  private func decodeLines(_ event: Event, _ message: Value, _ arrival: Arrival, _ body: (Event) -> Void) {
    let lines = lines(message)
    for (event, line) in zip(copies(event, lines.count, arrival), lines) {
      let bits = ValueBits.text(staying: line, isClean: message.isClean)
      try? event.set(.message, bits)
      if keepsOriginal { setOriginal(event, bits) }
      finishBeats(event, body)
    }
  }

  private func lines(_ message: Value) -> [UnsafeRawBufferPointer] {
    guard let text = message.text, !text.isEmpty else { return [UnsafeRawBufferPointer(start: nil, count: 0)] }
    var lines: [UnsafeRawBufferPointer] = []
    var start = 0
    while start < text.count {
      let end = text[start...].firstIndex(of: 10) ?? text.count
      lines.append(UnsafeRawBufferPointer(rebasing: text[start..<end]))
      start = end + 1
    }
    return lines
  }

  private func decodeMessage(_ event: Event, _ message: Value, _ arrival: Arrival, _ body: (Event) -> Void) {
    let bits = message.bits
    guard let text = message.text, !isBlank(text) else { return }
    guard let documents = documents(text, event) else { return finishFailure(event, body) }
    event.remove(.message)
    for (event, document) in zip(copies(event, documents.count, arrival), documents) {
      overlay(document, onto: event)
      if keepsOriginal, documents.count == 1 { setOriginal(event, bits) }
      finishBeats(event, body)
    }
  }

  private func decodeJSONLines(_ event: Event, _ message: Value, _ arrival: Arrival, _ body: (Event) -> Void) {
    let lines = lines(message).filter { !isBlank($0) }
    let isClean = message.isClean
    guard !lines.isEmpty else { return }
    event.remove(.message)
    for (event, line) in zip(copies(event, lines.count, arrival), lines) {
      guard let documents = documents(line, event) else {
        try? event.set(.message, .text(staying: line, isClean: isClean))
        finishFailure(event, body)
        continue
      }
      for (event, document) in zip(copies(event, documents.count, arrival), documents) {
        overlay(document, onto: event)
        finishBeats(event, body)
      }
    }
  }

  /// The shipper's tags, where it has some, stand for the codec's.
  private func finishFailure(_ event: Event, _ body: (Event) -> Void) {
    if !event.contains(.tags) { event.addTag("_jsonparsefailure") }
    finishBeats(event, body)
  }

  private func isBlank(_ text: UnsafeRawBufferPointer) -> Bool {
    text.allSatisfy { $0 == 32 || ($0 >= 9 && $0 <= 13) }
  }

  /// Adds what the message said to what the shipper said: the shipper's fields win, maps of both are joined one level
  /// deep.
  private func overlay(_ document: Value, onto event: Event) {
    if let target {
      if !event.contains(target) { try? event.set(target, document.bits) }
      return
    }
    let hasOwnTime = event.timestamp != event.arrival
    var member = document.first
    while let present = member {
      member = present.next
      switch String(decoding: present.key.bytes, as: UTF8.self) {
      case "@timestamp": if !hasOwnTime { event.fields.set(present.key, present.bits) }
      case "@metadata": join(present, into: event.metadata)
      case "@version": event.fields.set(present.key, present.bits)
      default:
        guard let own = event.fields.member(present.key) else {
          event.fields.set(present.key, present.bits)
          continue
        }
        if own.isMap, present.isMap { join(present, into: own) }
      }
    }
    event.settleArrival()
  }

  private func join(_ map: Value, into own: Value) {
    var member = map.first
    while let present = member {
      member = present.next
      if own.member(present.key) == nil { own.set(present.key, present.bits) }
    }
  }
}
