//  Small parts of the `http` input: media types, line ends, requests that wait.

internal import CSystem
internal import Codecs
internal import Diagnostics
internal import Glibc

/// The media type without parameters, in lower case.
func mediaType(_ value: String) -> String {
  let end = value.firstIndex(of: ";") ?? value.endIndex
  return String(value[..<end].drop { $0 == " " }.prefix { $0 != " " }).lowercased()
}

/// JSON by lines.
let ndjsonTypes = [
  "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines",
  "application/jsonlines", "application/json-lines",
]

/// JSON, JSON by lines, and everything that says it is built on JSON (`+json`, RFC 6839).
func isJSON(_ type: String) -> Bool {
  type == "application/json" || type == "text/json" || ndjsonTypes.contains(type) || type.hasSuffix("+json")
}

/// The character set that a content type names, as `Charset` spells it; nil for UTF-8 and for one that is unknown.
func charset(ofContentType value: String) -> String? {
  for parameter in value.split(separator: ";").dropFirst() {
    let parts = parameter.split(separator: "=", maxSplits: 1)
    guard parts.count == 2, parts[0].drop(while: { $0 == " " }).lowercased() == "charset" else { continue }
    let name = parts[1].filter { $0 != "\"" && $0 != " " }.lowercased()
    if name == "utf-8" || name == "utf8" { return nil }
    return Charset.names.first { $0.lowercased() == name }
  }
  return nil
}

func lineEnd(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
  guard let base = bytes.baseAddress, start < bytes.count,
    let hit = memchr(base + start, 10, bytes.count - start)
  else { return nil }
  return UnsafeRawPointer(hit) - base
}

/// Where the next delimiter begins.
func delimiterStart(_ bytes: UnsafeRawBufferPointer, _ delimiter: [UInt8], from start: Int) -> Int? {
  guard let base = bytes.baseAddress, start < bytes.count, let first = delimiter.first else { return nil }
  if delimiter.count == 1 {
    return memchr(base + start, CInt(first), bytes.count - start).map { UnsafeRawPointer($0) - base }
  }
  return sys_memmem(base + start, bytes.count - start, delimiter, delimiter.count).map { UnsafeRawPointer($0) - base }
}

/// Requests that wait for the queue, oldest first. Any thread.
final class PendingRequests: Sendable {
  private struct State {
    var starts: [Instant?] = []
    var first = 0
    var count = 0
  }
  private let state = Lock(State())

  var count: Int { state.withLock { $0.count } }

  /// When the request that has waited longest began to wait.
  var oldest: Instant? { state.withLock { $0.starts.first ?? nil } }

  func add() -> Int {
    let now = Instant.now
    return state.withLock { state in
      state.starts.append(now)
      state.count += 1
      return state.first + state.starts.count - 1
    }
  }

  func remove(_ ticket: Int) {
    state.withLock { state in
      let index = ticket - state.first
      guard state.starts.indices.contains(index) else { return }
      state.starts[index] = nil
      state.count -= 1
      let done = state.starts.prefix { $0 == nil }.count
      if done > 0 {
        state.starts.removeFirst(done)
        state.first += done
      }
    }
  }
}
