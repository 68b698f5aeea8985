//  Data streams: `type-dataset-namespace`, from the options or from the event's own `data_stream` fields, and the document
//  that names the stream which it is sent to.

internal import Diagnostics
internal import Events

/// Compiled once; any worker may use it.
struct DataStream: Sendable {
  var type = "logs"
  var dataset = "generic"
  var namespace = "default"
  /// The event's fields win over the options.
  var autoRouting = true
  /// The document's fields are made to tell where it was sent.
  var syncFields = true

  static let field = try? FieldReference("[data_stream]")
  static let longestPart = 100

  private static let parts: [StaticString] = ["type", "dataset", "namespace"]

  /// Appends one part of the name as it is legal: lower case, `_` for what may not stand there, at most 100 bytes.
  private func appendPart(_ i: Int, _ event: Event, to out: inout ByteBuffer) {
    let option = i == 0 ? type : i == 1 ? dataset : namespace
    guard autoRouting, let field = Self.field, let own = event.value(field), own.isMap,
      let text = own[Self.name(i)]?.text, !text.isEmpty
    else {
      out.append(text: option)
      return
    }
    // Dataset and namespace are kept apart by the dash, so that the parts in front of it hold none.
    for byte in text.prefix(Self.longestPart) {
      switch byte {
      case 65...90: out.append(byte + 32)
      case 45 where i < 2: out.append(95)
      case 45, 46, 95, 48...57, 97...122: out.append(byte)
      default: out.append(95)
      }
    }
  }

  private static func name(_ i: Int) -> String { i == 0 ? "type" : i == 1 ? "dataset" : "namespace" }

  func appendName(_ event: Event, to out: inout ByteBuffer) {
    for i in 0..<3 {
      if i > 0 { out.append(45) }
      appendPart(i, event, to: &out)
    }
  }

  /// Appends the document with `data_stream` fields that name its target. The event is as before afterwards.
  func appendDocument(_ event: Event, to out: inout ByteBuffer) {
    guard syncFields, let field = Self.field else { return event.appendJSON(to: &out) }
    let before = event.value(field)?.bits
    let map = event.makeMap()
    var scratch = ByteBuffer()
    for i in 0..<3 {
      scratch.removeAll()
      appendPart(i, event, to: &scratch)
      Self.parts[i].withUTF8Buffer { map.set(name: UnsafeRawBufferPointer($0), event.makeText(scratch.bytes)) }
    }
    // Further fields of its own stay.
    if let own = event.value(field), own.isMap {
      var child = own.first
      while let present = child {
        child = present.next
        if map.member(present.key) == nil { map.set(present.key, present.copied()) }
      }
    }
    guard (try? event.set(field, map.bits)) != nil else { return event.appendJSON(to: &out) }
    event.appendJSON(to: &out)
    if let before { _ = try? event.set(field, before) } else { event.remove(field) }
  }
}
