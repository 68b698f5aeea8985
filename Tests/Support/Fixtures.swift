//  Recorded cases as data: files of JSON lines under Tests/Cases, and the comparison that their README describes.

import Diagnostics
public import Events
import Glibc

public enum Fixtures {
  /// The project's root.
  public static let root: String = {
    var path = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
    if path.isEmpty { path = "/" }
    return path
  }()

  /// The folder of shared material beside the project; nil where it is missing.
  public static let shared: String? = {
    let path = getenv("SLUICE_SHARED").map { String(cString: $0) } ?? root + "/../shared"
    return access(path, R_OK) == 0 ? path : nil
  }()

  public static func read(_ path: String) throws -> [UInt8] {
    let full = path.hasPrefix("/") ? path : root + "/" + path
    let descriptor = try systemCall("open \(full)") { open(full, O_RDONLY | O_CLOEXEC) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let n = try systemCall("read") { Glibc.read(descriptor, &block, block.count) }
      if n == 0 { return bytes }
      bytes.append(contentsOf: block[..<n])
    }
  }

  /// The cases of a file of JSON lines.
  public static func cases(_ path: String) throws -> [Case] {
    try read(path).split(separator: 10).map { line in
      let batch = EventBatch()
      let event = batch.add(arrivalNs: 0)
      return Case(batch: batch, value: try line.withUnsafeBytes { try event.parseJSON($0) })
    }
  }
}

/// One recorded case.
public struct Case: @unchecked Sendable, CustomStringConvertible {  // unchecked: tests only read it
  let batch: EventBatch
  public let value: Value

  public init(batch: EventBatch, value: Value) {
    self.batch = batch
    self.value = value
  }

  public subscript(name: String) -> Value? { value[name] }
  public var id: String { value["id"]?.string ?? "?" }
  public var description: String { id }
}

extension Value {
  public var elements: [Value] {
    var result: [Value] = []
    var child = first
    while let element = child {
      result.append(element)
      child = element.next
    }
    return result
  }

  public var json: String {
    var out = ByteBuffer()
    appendJSON(to: &out)
    return out.string()
  }
}

/// Why `actual` is not what was recorded; nil when it is.
public func difference(_ actual: Value, _ expected: Value, at path: String = "") -> String? {
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
      if let difference = difference(twin, member, at: "\(path)[\(name)]") { return difference }
    }
    for member in actual.elements {
      let name = String(decoding: member.key.bytes, as: UTF8.self)
      if expected[name] == nil { return "\(path)[\(name)]: unexpected \(member.json)" }
    }
    return nil
  case (.list, .list):
    let (a, b) = (actual.elements, expected.elements)
    if a.count != b.count { return "\(path): expected \(expected.json), got \(actual.json)" }
    for (i, pair) in zip(a, b).enumerated() {
      if let difference = difference(pair.0, pair.1, at: "\(path)[\(i)]") { return difference }
    }
    return nil
  case (.double, .double):
    return actual.double == expected.double ? nil : "\(path): expected \(expected.json), got \(actual.json)"
  default:
    return actual.kind == expected.kind && actual.equals(expected)
      ? nil : "\(path): expected \(expected.json), got \(actual.json)"
  }
}
