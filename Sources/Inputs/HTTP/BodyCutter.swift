//  From a body to records: by content type and codec, with the character set undone. JSON is checked and cut as a whole
//  and refused as a whole.

internal import Codecs
internal import Diagnostics
internal import Events
internal import Records

/// Why a body is refused.
struct BodyFault: Error {
  var status: Int
  var code: String
  var reason: String
  /// Bytes of the body before the fault.
  var offset: Int?
}

/// Immutable; any thread.
struct BodyCutter: Sendable {
  var json: BodyRule
  /// For every type without a rule.
  var other: BodyRule
  /// By content type, without parameters, in lower case.
  var rules: [String: BodyRule] = [:]
  /// JSON types that have no rule of their own are read as JSON.
  var readsJSONTypes = true
  /// A body that is no JSON becomes one record, which decoding will tag.
  var tagsFaults = false
  var eventBytes = 64 << 20
  var jsonDepth = 512

  /// The records of a body; all of one descriptor make one batch.
  func cut(
    _ body: borrowing ByteBuffer, contentType: String, _ context: RecordContext?
  ) throws(BodyFault) -> [RecordBatch] {
    let type = mediaType(contentType)
    let rule = rules[type] ?? (readsJSONTypes && isJSON(type) ? json : other)
    if let name = charset(ofContentType: contentType), let decoder = CharsetDecoder(name) {
      var text = ByteBuffer(capacity: body.count * 2)
      decoder.append(body.bytes, to: &text)
      return try cut(text, rule, context)
    }
    return try cut(body, rule, context)
  }

  /// A body without a request: as JSON where it begins like an object or a list, else by the codec.
  func records(of bytes: UnsafeRawBufferPointer, prefersJSON: Bool) -> [RecordBatch] {
    var body = ByteBuffer(capacity: bytes.count)
    body.append(bytes)
    let first = bytes.first { $0 != 32 && ($0 < 9 || $0 > 13) }
    let isJSON = prefersJSON && (first == UInt8(ascii: "{") || first == UInt8(ascii: "["))
    let rule = isJSON ? json : other
    return (try? cut(body, rule, nil)) ?? []
  }

  private func cut(
    _ body: borrowing ByteBuffer, _ rule: BodyRule, _ context: RecordContext?
  ) throws(BodyFault) -> [RecordBatch] {
    switch rule.cutting {
    case .json: return [try cutJSON(body, rule, context)]
    case .whole, .delimited:
      // Bytes that are no UTF-8 are replaced here, as the request names no other character set.
      if firstInvalidUTF8(body.bytes) != nil { return try cut(repaired(body), rule, context) }
    }
    if let joining = rule.multiline { return joining.records(of: body.bytes, context) }
    let batch = RecordBatch(descriptor: rule.descriptor, context: context)
    if case .delimited(let delimiter) = rule.cutting {
      try cutLines(body.bytes, delimiter, into: batch)
    } else {
      try append(body.bytes, to: batch)
    }
    return [batch]
  }

  private func repaired(_ body: borrowing ByteBuffer) -> ByteBuffer {
    var text = ByteBuffer(capacity: body.count + 64)
    appendRepairedUTF8(body.bytes, to: &text)
    return text
  }

  private func cutJSON(
    _ body: borrowing ByteBuffer, _ rule: BodyRule, _ context: RecordContext?
  ) throws(BodyFault) -> RecordBatch {
    let batch = RecordBatch(descriptor: rule.several ?? rule.descriptor, context: context)
    let values: Int
    do throws(JSONFault) {
      values = try JSONCutter(depthLimit: jsonDepth).cut(body.bytes, eventLimit: eventBytes, into: batch)
    } catch {
      if error.reason == JSONCutter.badUTF8, firstInvalidUTF8(body.bytes) != nil {
        return try cutJSON(repaired(body), rule, context)
      }
      if error.reason == JSONCutter.tooLarge { throw tooLarge(error.offset) }
      guard tagsFaults else {
        throw BodyFault(
          status: 400, code: "http.bad-json", reason: "the body is no valid JSON: \(error.reason)",
          offset: error.offset)
      }
      return try whole(body, rule, context)
    }
    // A document that came alone is kept as it came, so that its event can show the text.
    if rule.several != nil, batch.count == 1, values == 1 { return try whole(body, rule, context) }
    return batch
  }

  private func whole(
    _ body: borrowing ByteBuffer, _ rule: BodyRule, _ context: RecordContext?
  ) throws(BodyFault) -> RecordBatch {
    let batch = RecordBatch(descriptor: rule.descriptor, context: context)
    try append(body.bytes, to: batch)
    return batch
  }

  private func tooLarge(_ offset: Int?) -> BodyFault {
    BodyFault(
      status: 413, code: "http.event-too-large", reason: "an event is larger than \(eventBytes) bytes", offset: offset)
  }

  private func append(_ bytes: UnsafeRawBufferPointer, to batch: RecordBatch) throws(BodyFault) {
    guard bytes.count <= eventBytes else { throw tooLarge(nil) }
    batch.append(bytes)
  }

  private func cutLines(
    _ bytes: UnsafeRawBufferPointer, _ delimiter: [UInt8], into batch: RecordBatch
  ) throws(BodyFault) {
    var start = 0
    while start < bytes.count {
      let end = delimiterStart(bytes, delimiter, from: start) ?? bytes.count
      try append(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), to: batch)
      start = end + delimiter.count
    }
  }
}
