//  Mapping conflicts: a document is refused because a field of it does not fit the type that the index gave that field, by
//  the first document of the day or by a template. Without a cure the document is a dead letter; with one the field is
//  coerced where that loses nothing, or moved to a name of its own, and the document is sent again.

internal import Config
internal import Diagnostics
internal import Events

enum ConflictCure: String, OptionEnum {
  case deadLetter = "dead_letter"
  case coerce, rename
}

struct MappingConflict: Equatable {
  /// As the server writes it: `geoip.location`.
  var field: String
  /// The type that the index has for it; empty where the server does not tell.
  var type: String

  /// Reads a refusal.
  ///
  /// - Parameter reasons: The error's reason, and those of its causes downwards.
  init?(_ reasons: [String]) {
    for reason in reasons {
      if let field = Self.between("immense term in field=\"", "\" (whose UTF8", reason) {
        for end in ["._valueAndPath", "._value"] where field.hasSuffix(end) {
          self.init(field: String(field.dropLast(end.count)), type: "keyword")
          return
        }
        self.init(field: field, type: "keyword")
        return
      }
    }
    for reason in reasons {
      let text = Self.plain(reason)
      if text.hasPrefix("failed to parse field ["),
        let field = Self.between("failed to parse field [", "] of type [", text),
        let type = Self.between("] of type [", "]", text)
      {
        // A name of the server's own, such as _id.
        guard !type.hasPrefix("_") else { return nil }
        self.init(field: field, type: type)
        return
      }
      if let field = Self.between("object mapping for [", "] tried to parse field", text) {
        self.init(field: field, type: "object")
        return
      }
      if text.hasPrefix("mapper ["), let field = Self.between("mapper [", "] cannot be changed from type [", text),
        let type = Self.between("cannot be changed from type [", "]", text)
      {
        self.init(field: field, type: type)
        return
      }
      if let field = Self.between("can't merge a non object mapping [", "] with an object mapping", text) {
        self.init(field: field, type: "")
        return
      }
      if text.hasPrefix("Could not dynamically add mapping"),
        let field = Self.between("Existing mapping for [", "] must be of type object", text),
        let type = Self.between("must be of type object but found [", "]", text)
      {
        self.init(field: field, type: type)
        return
      }
    }
    return nil
  }

  init(field: String, type: String) {
    self.field = field
    self.type = type
  }

  /// Without the place in front, `[1:27] `, and the words that say nothing.
  private static func plain(_ reason: String) -> Substring {
    var text = reason[...]
    if text.hasPrefix("["), let end = text.firstIndex(of: "]"),
      text[text.index(after: text.startIndex)..<end].allSatisfy({ $0.isNumber || $0 == ":" })
    {
      text = text[text.index(after: end)...].drop { $0 == " " }
    }
    if text.hasPrefix("failed to parse: ") { text = text.dropFirst("failed to parse: ".count) }
    return text
  }

  private static func between(_ start: String, _ end: String, _ text: some StringProtocol) -> String? {
    let text = String(text)
    guard let first = text.firstRange(of: start) else { return nil }
    let rest = text[first.upperBound...]
    guard let last = rest.firstRange(of: end), !rest[..<last.lowerBound].isEmpty else { return nil }
    return String(rest[..<last.lowerBound])
  }

  /// The document with its field cured; nil where that is not possible.
  func cured(_ json: UnsafeRawBufferPointer, by cure: ConflictCure) -> [UInt8]? {
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    let event = batch.add(arrivalNs: 0)
    guard cure != .deadLetter, let document = try? event.parseJSON(json), document.isMap,
      let (parent, value) = find(document)
    else { return nil }
    switch cure {
    case .coerce:
      guard let bits = coerced(value, event) else { return nil }
      value.replace(with: bits)
    default:
      var name = String(decoding: value.key.bytes, as: UTF8.self) + "_" + Self.kind(value)
      // A field that has this name already is not overwritten.
      while parent[name] != nil { name += "_" }
      let bits = value.copied()
      value.remove(from: parent)
      Array(name.utf8).withUnsafeBytes { parent.set(event.makeKey(event.copy($0)), bits) }
    }
    var out = ByteBuffer(capacity: json.count + 64)
    document.appendJSON(to: &out)
    return out.array()
  }

  /// The field and the map that it stands in. A name may hold dots itself, and a value may stand above what is named:
  /// `t` where the server says `t.b`.
  private func find(_ document: Value) -> (parent: Value, value: Value)? {
    var parent = document
    var rest = field[...]
    while true {
      if let value = parent[String(rest)] { return (parent, value) }
      // The longest name in front that is there.
      var cut = rest.lastIndex(of: ".")
      var next: Value?
      while let dot = cut {
        next = parent[String(rest[..<dot])]
        if next != nil { break }
        cut = rest[..<dot].lastIndex(of: ".")
      }
      guard let next, let dot = cut else {
        // `t` is the conflict, and the document has `t.b`.
        var child = parent.first
        while let present = child {
          if String(decoding: present.key.bytes, as: UTF8.self).hasPrefix(rest + ".") { return (parent, present) }
          child = present.next
        }
        return nil
      }
      guard next.isMap else { return (parent, next) }
      parent = next
      rest = rest[rest.index(after: dot)...]
    }
  }

  /// What a renamed field's name ends in.
  private static func kind(_ value: Value) -> String {
    var value = value
    if value.isList { value = value.first ?? value }
    if value.isMap { return "object" }
    if value.boolean != nil { return "boolean" }
    return value.number != nil ? "number" : "text"
  }

  /// The value as the mapped type takes it, where nothing is lost.
  private func coerced(_ value: Value, _ event: Event) -> ValueBits? {
    switch type {
    case "long", "integer", "short", "byte", "double", "float", "half_float", "scaled_float", "unsigned_long":
      if let flag = value.boolean { return .integer(flag ? 1 : 0) }
      // ` 12 ` and `1_000` are texts that the server does not read.
      guard let text = value.string, let number = Int64(text.filter { $0 != " " && $0 != "_" }) else { return nil }
      return .integer(number)
    case "boolean":
      switch value.integer {
      case 0: return .boolean(false)
      case 1: return .boolean(true)
      default: break
      }
      switch value.string?.lowercased() {
      case "true", "yes", "on", "1", "y": return .boolean(true)
      case "false", "no", "off", "0", "n": return .boolean(false)
      default: return nil
      }
    case "keyword", "text", "wildcard", "constant_keyword":
      guard value.isMap || value.isList else { return nil }
      var out = ByteBuffer()
      value.appendJSON(to: &out)
      return event.makeText(out.bytes)
    default: return nil
    }
  }
}
