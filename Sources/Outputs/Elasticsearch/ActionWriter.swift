//  How an event becomes the lines of a bulk request: the action line with index, id, routing, version, and the document.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

/// Compiled once; any worker may use it.
struct ActionWriter: Sendable {
  enum Target: Sendable {
    case index(Template)
    case dataStream(DataStream)
  }

  /// What stands around the event in an update's body.
  struct Update: Sendable {
    var prefix: [UInt8] = Array("{\"doc\":".utf8)
    /// Between the event and the closing brace: `,"doc_as_upsert":true`.
    var suffix: [UInt8] = []
    /// The event once more, as `upsert`.
    var upsertsEvent = false
    var upsert: Template?
  }

  enum VersionType: String, OptionEnum {
    case `internal`, external
    case externalGt = "external_gt"
    case externalGte = "external_gte"
  }

  var stage: String
  var target: Target
  /// The action where it is the same for all events.
  var action: BulkAction?
  var actionTemplate: Template?
  var id: Template?
  var makesIDs = false
  var routing: Template?
  var pipeline: Template?
  var version: Template?
  var versionType: VersionType?
  var retryOnConflict = 1
  var update = Update()

  static let longestIndexName = 255
  static let longestID = 512

  /// Appends the event's lines to `request`.
  ///
  /// - Parameter scratch: Memory for texts on their way.
  /// - Returns: Why it cannot be sent; what was appended is to be cut off then.
  func append(
    _ event: Event, _ delivery: Delivery, to request: BulkRequest, _ scratch: inout ByteBuffer
  ) -> DeadLetterReason? {
    let start = request.body.count
    let action: BulkAction
    if let fixed = self.action {
      action = fixed
    } else {
      scratch.removeAll()
      let isWhole = (try? actionTemplate?.append(event, to: &scratch)) ?? false
      guard isWhole, let named = BulkAction(rawValue: scratch.string()) else {
        return reason("action", "'\(scratch.string().prefix(64))' is no action: index, create, update or delete")
      }
      action = named
    }
    switch action {
    case .index: request.body.append("{\"index\":{\"_index\":\"")
    case .create: request.body.append("{\"create\":{\"_index\":\"")
    case .update: request.body.append("{\"update\":{\"_index\":\"")
    case .delete: request.body.append("{\"delete\":{\"_index\":\"")
    }
    let nameStart = request.body.count
    var isWhole = true
    var isLegal = true
    switch target {
    case .index(let template):
      isWhole = (try? template.append(event, to: &request.body)) ?? false
      isLegal = Self.isIndexName(request.body.bytes(from: nameStart), isConstant: template.isConstant)
    case .dataStream(let stream):
      stream.appendName(event, to: &request.body)
      isLegal = Self.isIndexName(request.body.bytes(from: nameStart), isConstant: false)
    }
    let nameEnd = request.body.count
    func name() -> String { request.body.string(nameStart, nameEnd) }
    guard isWhole, isLegal else {
      let shown = String(decoding: request.body.bytes(from: nameStart).prefix(Self.longestIndexName), as: UTF8.self)
      let why = isWhole ? "is no legal name of an index" : "lacks the value of a field or its date"
      return reason("index-name", "The index '\(shown)' \(why).", index: shown)
    }
    request.body.append(34)
    if makesIDs || id != nil {
      scratch.removeAll()
      var hasID = true
      if let id {
        hasID = (try? id.append(event, to: &scratch)) ?? false
      } else {
        delivery.appendID(event, to: &scratch)
      }
      guard hasID, (1...Self.longestID).contains(scratch.count) else {
        let why = hasID ? "is empty or longer than 512 bytes" : "lacks the value of a field or its date"
        return reason("document-id", "The document's id \(why).", index: name())
      }
      request.body.append(",\"_id\":")
      appendQuoted(scratch.bytes, to: &request.body)
    } else if action == .update || action == .delete {
      return reason("document-id", "The action '\(action.rawValue)' needs a document_id.", index: name())
    }
    for (key, template) in [(",\"routing\":" as StaticString, routing), (",\"pipeline\":", pipeline)] {
      guard let template, key.utf8Start[2] == 114 || action == .index || action == .create else { continue }
      scratch.removeAll()
      guard (try? template.append(event, to: &scratch)) == true else {
        return reason("action", "'\(template)' lacks the value of a field or its date.", index: name())
      }
      guard scratch.count > 0 else { continue }
      request.body.append(key)
      appendQuoted(scratch.bytes, to: &request.body)
    }
    if action == .update, retryOnConflict > 0 {
      request.body.append(",\"retry_on_conflict\":")
      request.body.append(decimal: retryOnConflict)
    }
    if let version, action == .index || action == .delete {
      scratch.removeAll()
      guard (try? version.append(event, to: &scratch)) == true, let number = Int64(scratch.string()), number >= 0 else {
        return reason("version", "The version '\(scratch.string().prefix(64))' is no whole number.", index: name())
      }
      request.body.append(",\"version\":")
      request.body.append(decimal: number)
      request.body.append(",\"version_type\":\"")
      request.body.append(text: (versionType ?? .external).rawValue)
      request.body.append(34)
    }
    request.body.append("}}\n")
    var document = BulkRequest.Document(
      action: action, start: start, end: 0, eventStart: 0, eventEnd: 0, record: event.record,
      part: event.part)
    switch action {
    case .delete:
      document.eventStart = request.unsent.count
      event.appendJSON(to: &request.unsent)
      document.eventEnd = request.unsent.count
    case .update:
      if let refusal = appendUpdate(event, to: request, &document) { return refusal }
    default:
      document.eventStart = request.body.count
      if case .dataStream(let stream) = target {
        stream.appendDocument(event, to: &request.body)
      } else {
        event.appendJSON(to: &request.body)
      }
      document.eventEnd = request.body.count
      request.body.append(10)
    }
    document.end = request.body.count
    request.documents.append(document)
    return nil
  }

  private func appendUpdate(
    _ event: Event, to request: BulkRequest, _ document: inout BulkRequest.Document
  ) -> DeadLetterReason? {
    request.body.append(contentsOf: update.prefix)
    document.eventStart = request.body.count
    event.appendJSON(to: &request.body)
    document.eventEnd = request.body.count
    request.body.append(contentsOf: update.suffix)
    if update.upsertsEvent {
      request.body.append(",\"upsert\":")
      event.appendJSON(to: &request.body)
    } else if let upsert = update.upsert {
      request.body.append(",\"upsert\":")
      let start = request.body.count
      let isWhole = (try? upsert.append(event, to: &request.body)) ?? false
      // Its own line feeds and faults would spoil the request for all others: it is written anew from what was understood.
      let batch = EventBatch()
      defer { withExtendedLifetime(batch) {} }
      let parsed = batch.add(arrivalNs: 0)
      guard isWhole, let value = try? parsed.parseJSON(request.body.bytes(from: start)), value.isMap else {
        return reason("upsert", "The upsert is no JSON object once its placeholders are filled in.")
      }
      var text = ByteBuffer()
      value.appendJSON(to: &text)
      request.body.count = start
      request.body.append(text.bytes)
    }
    request.body.append("}\n")
    return nil
  }

  private func reason(_ type: String, _ message: String, index: String? = nil) -> DeadLetterReason {
    DeadLetterReason(stage: stage, type: type, message: message, index: index)
  }

  /// `^[a-z0-9][a-z0-9._-]*$`, at most 255 bytes; a name that the configuration alone gives may begin with a dot.
  static func isIndexName(_ name: UnsafeRawBufferPointer, isConstant: Bool = false) -> Bool {
    guard let first = name.first, name.count <= longestIndexName, first != 46 || (isConstant && name.count > 2),
      first != 95, first != 45
    else { return false }
    return name.allSatisfy(isIndexByte)
  }

  /// Whether events may ever give this template a legal name, by what is fixed in it.
  static func mayBeIndexName(_ template: Template) -> Bool {
    withExtendedLifetime(template) {
      template.isConstant
        ? isIndexName(template.literals.first ?? UnsafeRawBufferPointer(start: nil, count: 0), isConstant: true)
        : template.literals.allSatisfy { $0.allSatisfy(isIndexByte) }
    }
  }

  private static func isIndexByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 97...122, 48...57, UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
    default: false
    }
  }
}

extension ByteBuffer {
  fileprivate func bytes(from start: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: pointer + start, count: count - start)
  }
  fileprivate func string(_ start: Int, _ end: Int) -> String {
    String(decoding: UnsafeRawBufferPointer(start: pointer + start, count: end - start), as: UTF8.self)
  }
}
