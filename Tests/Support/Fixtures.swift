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
