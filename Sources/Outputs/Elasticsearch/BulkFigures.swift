//  What the `elasticsearch` output counts, and how the monitoring API shows it.

internal import Diagnostics
internal import Events
internal import PluginKit

/// Figures that workers and the sender raise; any thread reads them.
final class BulkFigures: Sendable {
  let eventsIn = Counter()
  let eventsOut = Counter()
  let deadLetters = Counter()
  /// Documents that were there already because they may have been sent before.
  let duplicates = Counter()
  /// Documents that were there already although they were never sent before.
  let conflicts = Counter()
  /// Documents that an external version or an option left out.
  let dropped = Counter()
  let retries = Counter()
  let requests = Counter()
  let failures = Counter()
  let goodRequests = Counter()
  let mixedRequests = Counter()
  let splits = Counter()
  let bytes = Counter()
  let plainBytes = Counter()
  let inFlight = Gauge()
  let requestsInFlight = Gauge()
  let requestLimit = Gauge()
  /// Monotonic nanoseconds of the last good answer; 0 before it.
  let lastSuccess = Gauge()
  /// By index and field: what was refused, and how often it was cured.
  let mappingConflicts = Lock<[String: (type: String, refused: Int, cured: Int)]>([:])
  static let conflictLimit = 200
  let responses = Lock<[Int: Int]>([:])
  let trouble = Lock<String?>(nil)
  /// JSON of the hosts' states.
  let hosts = Lock("{}")

  var statistics: OutputStatistics {
    var all = OutputStatistics()
    all.eventsIn = eventsIn.value
    all.eventsOut = eventsOut.value
    all.deadLetters = deadLetters.value
    all.duplicates = duplicates.value
    all.retries = retries.value
    all.requests = requests.value
    all.failures = failures.value
    all.bytes = bytes.value
    all.inFlight = inFlight.value
    all.trouble = trouble.withLock { $0 }
    if conflicts.value > 0 {
      all.concern =
        "\(conflicts.value) documents were refused as already there (409) although they were sent for the first time"
    }
    all.extra = extra
    return all
  }

  /// A document's field was refused; beyond so many fields they are counted together.
  func conflict(_ index: String, _ conflict: MappingConflict, isCured: Bool) {
    mappingConflicts.withLock { all in
      var name = "\(index)/\(conflict.field.prefix(256))"
      if all[name] == nil, all.count >= Self.conflictLimit { name = "others" }
      var entry = all[name] ?? (conflict.type, 0, 0)
      entry.refused += 1
      if isCured { entry.cured += 1 }
      all[name] = entry
    }
  }

  private var conflictText: String {
    var out = ByteBuffer()
    out.append(123)
    for (i, entry) in mappingConflicts.withLock({ $0.sorted { $0.key < $1.key } }).enumerated() {
      if i > 0 { out.append(44) }
      out.append(quoted: entry.key)
      out.append(":{\"type\":")
      out.append(quoted: entry.value.type)
      out.append(",\"refused\":")
      out.append(decimal: entry.value.refused)
      out.append(",\"cured\":")
      out.append(decimal: entry.value.cured)
      out.append(125)
    }
    out.append(125)
    return out.string()
  }

  private var extra: String {
    let codes = responses.withLock { $0.sorted { $0.key < $1.key } }.map { "\"\($0.key)\":\($0.value)" }
    let now = Instant.now
    let age = lastSuccess.value == 0 ? "null" : String((now.ns - Int64(lastSuccess.value)) / 1_000_000)
    return """
      "documents":{"successes":\(eventsOut.value - duplicates.value - conflicts.value - dropped.value),\
      "duplicates":\(duplicates.value),"unexpected_conflicts":\(conflicts.value),\
      "retryable_failures":\(retries.value),"non_retryable_failures":\(dropped.value),\
      "dlq_routed":\(deadLetters.value),"in_flight":\(inFlight.value)},\
      "bulk_requests":{"successes":\(goodRequests.value),"with_errors":\(mixedRequests.value),\
      "failures":\(failures.value),"splits":\(splits.value),"responses":{\(codes.joined(separator: ","))},\
      "in_flight":\(requestsInFlight.value),"limit":\(requestLimit.value),"bytes":\(plainBytes.value),\
      "bytes_sent":\(bytes.value),"last_success_age_in_millis":\(age)},"hosts":\(hosts.withLock { $0 }),\
      "mapping_conflicts":\(conflictText)
      """
  }
}
