//  Comparing events with what a test expects of them.

internal import Diagnostics
package import Events

extension Value {
  /// The children of a map or list.
  package var elements: [Value] {
    var result: [Value] = []
    var child = first
    while let element = child {
      result.append(element)
      child = element.next
    }
    return result
  }

  /// The value as JSON text.
  package var json: String {
    var out = ByteBuffer()
    appendJSON(to: &out)
    return out.string()
  }
}

/// Why `actual` is not what was expected; nil when it is.
///
/// Maps are unordered, lists ordered; integers and floats differ, floats are compared by value; timestamps are their
/// texts. `__NOW__`, `__ANY_UUID__` and `__ANY_STRING__` stand for any timestamp, UUID or text.
///
/// - Parameter isSubset: Members that are not expected are allowed in maps.
package func difference(_ actual: Value, _ expected: Value, isSubset: Bool = false, at path: String = "") -> String? {
  if let text = expected.string {
    switch text {
    case "__NOW__":
      if actual.kind == .timestamp || (actual.string.map { $0.count >= 20 } ?? false) { return nil }
      return "\(path): expected a timestamp, got \(actual.json)"
    case "__ANY_UUID__":
      let parts = (actual.string ?? "").split(separator: "-").map(\.count)
      return parts == [8, 4, 4, 4, 12] ? nil : "\(path): expected a UUID, got \(actual.json)"
    case "__ANY_STRING__": return (actual.string ?? "").isEmpty ? "\(path): expected a text, got \(actual.json)" : nil
    default: break
    }
    if actual.kind == .timestamp {
      return actual.timestamp?.iso8601 == text ? nil : "\(path): expected \(text), got \(actual.json)"
    }
    if actual.kind == .double, actual.json == "\"\(text)\"" { return nil }
  }
  switch (actual.kind, expected.kind) {
  case (.map, .map):
    for member in expected.elements {
      let name = String(decoding: member.key.bytes, as: UTF8.self)
      guard let twin = actual[name] else { return "\(path)[\(name)]: missing, expected \(member.json)" }
      if let difference = difference(twin, member, isSubset: isSubset, at: "\(path)[\(name)]") { return difference }
    }
    for member in actual.elements where !isSubset {
      let name = String(decoding: member.key.bytes, as: UTF8.self)
      if expected[name] == nil { return "\(path)[\(name)]: unexpected \(member.json)" }
    }
    return nil
  case (.list, .list):
    let (a, b) = (actual.elements, expected.elements)
    if a.count != b.count { return "\(path): expected \(expected.json), got \(actual.json)" }
    for (i, pair) in zip(a, b).enumerated() {
      if let difference = difference(pair.0, pair.1, isSubset: isSubset, at: "\(path)[\(i)]") { return difference }
    }
    return nil
  case (.double, .double):
    return actual.double == expected.double ? nil : "\(path): expected \(expected.json), got \(actual.json)"
  default:
    return actual.kind == expected.kind && actual.equals(expected)
      ? nil : "\(path): expected \(expected.json), got \(actual.json)"
  }
}
