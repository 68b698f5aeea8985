//  Small parts of the `http` input: media types, line ends, requests that wait.

internal import CSystem
internal import Codecs
internal import Diagnostics
internal import Glibc
internal import Net
internal import Records

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
  /// A request with the batch that waits.
  struct Entry: Sendable {
    let request: HTTPRequest
    let batch: RecordBatch
    /// Earlier batches of the request are kept.
    let isRest: Bool
    let since: Instant
    let ticket: Int
  }
  private struct State {
    var entries: [Entry?] = []
    var first = 0
    var count = 0
    var isWatched = false
  }
  private let state = Lock(State())

  var count: Int { state.withLock { $0.count } }

  /// When the request that has waited longest began to wait.
  var oldest: Instant? { state.withLock { $0.entries.first??.since } }

  /// - Returns: The entry's number, and whether somebody must begin to look after those that wait too long.
  func add(_ request: HTTPRequest, _ batch: RecordBatch, isRest: Bool) -> (ticket: Int, needsWatch: Bool) {
    let now = Instant.now
    return state.withLock { state in
      let ticket = state.first + state.entries.count
      state.entries.append(Entry(request: request, batch: batch, isRest: isRest, since: now, ticket: ticket))
      state.count += 1
      defer { state.isWatched = true }
      return (ticket, !state.isWatched)
    }
  }

  func remove(_ ticket: Int) {
    state.withLock { state in
      let index = ticket - state.first
      guard state.entries.indices.contains(index), state.entries[index] != nil else { return }
      state.entries[index] = nil
      state.count -= 1
      let done = state.entries.prefix { $0 == nil }.count
      if done > 0 {
        state.entries.removeFirst(done)
        state.first += done
      }
    }
  }

  /// Those that began to wait before `moment`.
  func waiting(since moment: Instant) -> [Entry] {
    state.withLock { state in state.entries.prefix { $0.map { $0.since <= moment } ?? true }.compactMap(\.self) }
  }

  /// When the oldest began to wait; where nobody waits the watch has ended.
  func nextToWatch() -> Instant? {
    state.withLock { state in
      let oldest = state.entries.first??.since
      if oldest == nil { state.isWatched = false }
      return oldest
    }
  }
}
