//  Events that a timer made, as records of the pipeline's own queue. They get ids, are synced, released and dead-lettered as
//  all others, and go on behind the step that made them.
//
//  A payload is two lines of JSON: the paths of those values that are timestamps, since JSON has none, and the event with
//  its `@metadata`. The descriptor names the step.

public import Diagnostics
public import Events
public import Records

/// How made events are written and read.
public enum MadeEvents {
  /// The codec of a descriptor whose payloads are made events.
  public static let codec = "event"
  private static let stepOption = "behind"

  /// The descriptor of events that `stepID` made.
  public static func descriptor(behind stepID: String) -> RecordDescriptor {
    RecordDescription(
      input: "timer", inputID: stepID, codec: codec, options: [RecordDescription.Setting(stepOption, stepID)]
    ).descriptor
  }

  /// The step behind which the payloads of `description` go on; nil where they are an input's.
  public static func step(of description: RecordDescription) -> String? {
    description.codec == codec ? description.option(stepOption) ?? description.inputID : nil
  }

  /// Appends the payload of `event`.
  public static func append(_ event: Event, to out: inout ByteBuffer) {
    out.append(91)
    let start = out.count
    var path: [UInt8] = []
    appendTimes(event.fields, &path, isTop: true, &out)
    if event.hasMetadata {
      path = Array("\"@metadata\"".utf8)
      appendTimes(event.metadata, &path, isTop: false, &out)
    }
    if out.count > start { out.count -= 1 }
    out.append("]\n")
    let document = event.makeValue(event.fields.copied())
    if event.hasMetadata {
      let name: StaticString = "@metadata"
      document.set(
        name: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), event.metadata.copied())
    }
    document.appendJSON(to: &out)
  }

  /// The paths of the timestamps below `value`, each with a comma behind it. `@timestamp` is known without.
  private static func appendTimes(_ value: Value, _ path: inout [UInt8], isTop: Bool, _ out: inout ByteBuffer) {
    var child = value.first
    var index = 0
    let depth = path.count
    while let member = child {
      child = member.next
      defer { index += 1 }
      guard member.isMap || member.isList || member.kind == .timestamp else { continue }
      var part = ByteBuffer()
      if depth > 0 { part.append(44) }
      if value.isMap { appendQuoted(member.key.bytes, to: &part) } else { part.append(decimal: index) }
      if isTop, member.kind == .timestamp, member.key.bytes.elementsEqual("@timestamp".utf8) { continue }
      path.append(contentsOf: part.bytes)
      if member.kind == .timestamp {
        out.append(91)
        out.append(contentsOf: path)
        out.append("],")
      } else {
        appendTimes(member, &path, isTop: false, &out)
      }
      path.removeSubrange(depth...)
    }
  }

  /// Reads a payload back.
  ///
  /// - Returns: Nil where it is damaged; nothing is left in `batch` then.
  public static func decode(
    _ payload: UnsafeRawBufferPointer, record: Int, arrivalNs: Int64, into batch: EventBatch
  ) -> Event? {
    guard let end = payload.firstIndex(of: 10) else { return nil }
    let document = UnsafeRawBufferPointer(rebasing: payload[(end + 1)...])
    guard let event = try? batch.add(json: document, record: record, arrivalNs: arrivalNs) else { return nil }
    guard end > 2, let times = try? event.parseJSON(UnsafeRawBufferPointer(rebasing: payload[..<end])) else {
      return event
    }
    var next = times.first
    while let path = next {
      next = path.next
      if let value = value(at: path, event), let text = value.text, let time = Timestamp(arriving: text) {
        value.replace(with: .timestamp(time))
      }
    }
    return event
  }

  private static func value(at path: Value, _ event: Event) -> Value? {
    var value = event.fields
    var next = path.first
    if let first = next?.text, first.elementsEqual("@metadata".utf8) {
      value = event.metadata
      next = next?.next
    }
    while let part = next {
      next = part.next
      let found: Value? =
        if let name = part.text {
          value.member(event.makeKey(name))
        } else {
          part.integer.flatMap { value[Int(clamping: $0)] }
        }
      guard let found else { return nil }
      value = found
    }
    return value
  }
}
