//  The header of a dead letter: why its event was refused, by whom, and which event it is.

package import Diagnostics
internal import Events

/// What the header of a letter says.
package struct DeadLetterFacts: Equatable, Sendable {
  /// The id of the event's record, 20 characters.
  package var id = ""
  /// Which of the events made from the record it is, 0 for the first.
  package var part = 0
  /// `input`, `decode`, `filter`, `condition`, or the id of the output that refused it.
  package var stage = ""
  package var status: Int?
  package var type = ""
  package var message = ""
  package var index: String?
  package var documentID: String?
  /// The line that named the target, where the event was sent behind it just as it is; else empty.
  package var action = ""
  package var attempts = 1
  /// When the record arrived, nanoseconds since 1970.
  package var arrivalNs: Int64 = 0

  package init() {}

  /// The event's own id, as the document has it: `-1`, `-2` … stand behind further events of one record.
  package var eventID: String { part > 0 ? "\(id)-\(part)" : id }

  /// Reads a header back. What is missing takes its default, so that older letters stay readable.
  package init(_ header: [UInt8]) {
    // The batch owns what `map` points to.
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    guard let map = header.withUnsafeBytes({ try? batch.add(arrivalNs: 0).parseJSON($0) }), map.isMap else { return }
    func number(_ name: String) -> Int? { map[name]?.integer.map { Int($0) } }
    id = map["id"]?.string ?? ""
    part = number("part") ?? 0
    stage = map["stage"]?.string ?? ""
    status = number("status")
    type = map["type"]?.string ?? ""
    message = map["reason"]?.string ?? ""
    index = map["index"]?.string
    documentID = map["document_id"]?.string
    action = map["action"]?.string ?? ""
    attempts = number("attempts") ?? 1
    arrivalNs = map["arrival"]?.integer ?? 0
  }

  /// The header as the queue keeps it.
  package var header: [UInt8] {
    var out = ByteBuffer(capacity: 512)
    out.append("{\"id\":")
    out.append(quoted: id)
    if part > 0 {
      out.append(",\"part\":")
      out.append(decimal: part)
    }
    appendReason(to: &out)
    if !action.isEmpty {
      out.append(",\"action\":")
      out.append(quoted: action)
    }
    out.append(",\"arrival\":")
    out.append(decimal: arrivalNs)
    out.append("}")
    return out.array()
  }

  /// `,"stage":…` up to the attempts.
  package func appendReason(to out: inout ByteBuffer) {
    out.append(",\"stage\":")
    out.append(quoted: stage)
    if let status {
      out.append(",\"status\":")
      out.append(decimal: status)
    }
    out.append(",\"type\":")
    out.append(quoted: type)
    out.append(",\"reason\":")
    out.append(quoted: message)
    if let index {
      out.append(",\"index\":")
      out.append(quoted: index)
    }
    if let documentID {
      out.append(",\"document_id\":")
      out.append(quoted: documentID)
    }
    out.append(",\"attempts\":")
    out.append(decimal: attempts)
  }
}
