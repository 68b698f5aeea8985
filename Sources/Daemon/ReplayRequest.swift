//  What a command asks the daemon for: to send dead letters once more, mended or not, to remove some, or to send kept
//  events once more. JSON lines: the order first, then the letters' positions, one a line.

package import Diagnostics
package import Events
internal import Glibc
package import Queue

/// Changes to an event before it is sent once more.
package struct Mending: Sendable {
  /// Field and JSON value.
  package var sets: [(field: FieldReference, value: [UInt8])] = []
  package var removes: [FieldReference] = []
  package init() {}

  package var isEmpty: Bool { sets.isEmpty && removes.isEmpty }

  /// - Returns: Why the event cannot be mended; nil when it is.
  package func apply(to event: Event) -> String? {
    for field in removes { event.remove(field) }
    for (field, value) in sets {
      do {
        let parsed = try value.withUnsafeBytes { (bytes) throws(JSONError) in try event.parseJSON(bytes) }
        if field == .timestamp, let text = parsed.text, let time = Timestamp(arriving: text) {
          try event.set(field, .timestamp(time))
        } else {
          try event.set(field, parsed.bits)
        }
      } catch {
        return "'\(field.path.joined(separator: "."))' cannot be set: \(error)"
      }
    }
    return nil
  }

  /// Reads `field=value`; the value is JSON where it parses, else a text.
  ///
  /// - Returns: A complaint; nil when it was taken.
  package mutating func take(set text: String) -> String? {
    guard let mark = text.utf8.firstIndex(of: UInt8(ascii: "=")), mark > text.startIndex else {
      return "'\(text)' is not FIELD=VALUE"
    }
    let name = String(text[..<mark])
    let value = Array(text[text.index(after: mark)...].utf8)
    guard let field = try? FieldReference(name) else { return "'\(name)' is no field reference" }
    let batch = EventBatch()
    let isJSON = value.withUnsafeBytes { (try? batch.add(arrivalNs: 0).parseJSON($0)) != nil }
    if isJSON {
      sets.append((field, value))
    } else {
      var quoted = ByteBuffer()
      value.withUnsafeBytes { appendQuoted($0, to: &quoted) }
      sets.append((field, quoted.array()))
    }
    return nil
  }

  package mutating func take(remove name: String) -> String? {
    guard let field = try? FieldReference(name) else { return "'\(name)' is no field reference" }
    removes.append(field)
    return nil
  }
}

/// A request in a `ReplayInbox`.
package struct ReplayRequest: Sendable {
  package enum Action: String, Sendable { case replay, purge, retained }

  package var action: Action
  /// Enter at the start of this pipeline; nil: where each letter was refused.
  package var pipeline: String?
  package var mending = Mending()
  package var positions: [DeadLetterPosition] = []
  /// Of kept events: arrival, nanoseconds since 1970, from and up to without.
  package var fromNs: Int64 = 0
  package var toNs: Int64 = .max
  package var condition: String?
  /// Kept events before this place were sent by an earlier life of the daemon.
  package var after: DeadLetterPosition?

  package init(_ action: Action) { self.action = action }

  package var bytes: [UInt8] {
    var out = ByteBuffer(capacity: 1024)
    out.append("{\"action\":")
    out.append(quoted: action.rawValue)
    if let pipeline {
      out.append(",\"pipeline\":")
      out.append(quoted: pipeline)
    }
    if let condition {
      out.append(",\"where\":")
      out.append(quoted: condition)
    }
    if let after {
      out.append(",\"after\":")
      out.append(quoted: after.description)
    }
    out.append(",\"from\":")
    out.append(decimal: fromNs)
    out.append(",\"to\":")
    out.append(decimal: toNs)
    out.append(",\"set\":[")
    for (i, (field, value)) in mending.sets.enumerated() {
      out.append(i > 0 ? ",[" : "[")
      out.append(quoted: field.description)
      out.append(",")
      out.append(contentsOf: value)
      out.append("]")
    }
    out.append("],\"remove\":[")
    for (i, field) in mending.removes.enumerated() {
      if i > 0 { out.append(",") }
      out.append(quoted: field.description)
    }
    out.append("]}\n")
    for position in positions {
      out.append(text: position.description)
      out.append("\n")
    }
    return out.array()
  }

  /// - Returns: nil where the bytes are no request.
  package init?(_ bytes: [UInt8]) {
    let lines = bytes.split(separator: 10)
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    guard let first = lines.first,
      let map = Array(first).withUnsafeBytes({ try? batch.add(arrivalNs: 0).parseJSON($0) }),
      map.isMap, let action = map["action"]?.string.flatMap(Action.init)
    else { return nil }
    self.init(action)
    pipeline = map["pipeline"]?.string
    condition = map["where"]?.string
    after = map["after"]?.string.flatMap { DeadLetterPosition($0) }
    fromNs = map["from"]?.integer ?? 0
    toNs = map["to"]?.integer ?? .max
    var item = map["set"]?.first
    while let pair = item {
      item = pair.next
      guard let name = pair.first, let value = name.next, let field = name.string.flatMap({ try? FieldReference($0) })
      else { return nil }
      var out = ByteBuffer()
      value.appendJSON(to: &out)
      mending.sets.append((field, out.array()))
    }
    item = map["remove"]?.first
    while let name = item {
      item = name.next
      guard let field = name.string.flatMap({ try? FieldReference($0) }) else { return nil }
      mending.removes.append(field)
    }
    for line in lines.dropFirst() {
      guard let position = DeadLetterPosition(String(decoding: line, as: UTF8.self)) else { return nil }
      positions.append(position)
    }
  }

  /// Hands the request over beside `folder`; lasting when this returns.
  package func hand(to folder: String) throws(SystemError) {
    let inbox = ReplayInbox(of: folder)
    var clock = String(WallClock.ns)
    clock = String(repeating: "0", count: max(0, 20 - clock.utf8.count)) + clock
    try inbox.hand(bytes, name: "\(clock)-\(getpid())")
    Self.giveToOwner(inbox.folder, of: folder)
  }

  /// What root hands over belongs to the daemon's user, who must read and remove it.
  private static func giveToOwner(_ inbox: String, of folder: String) {
    var owner = stat()
    guard geteuid() == 0, stat(folder, &owner) == 0, owner.st_uid != 0 else { return }
    _ = chown(inbox, owner.st_uid, owner.st_gid)
    for name in (try? RealFileSystem().list(inbox)) ?? [] {
      _ = chown(inbox + "/" + name, owner.st_uid, owner.st_gid)
    }
  }
}
