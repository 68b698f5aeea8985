//  The servers of a cluster and what is known of each.
//
//  A host that cannot be reached gets no bodies: a small health check finds out when it is back. A host that refuses whole
//  requests for a reason of its own (credentials, address, a redirection) gets one document at growing intervals, and the
//  bodies again once it takes that. Bodies thus cross the network only towards hosts that are likely to take them.

internal import Diagnostics
internal import Events

/// A server. The sender's thread alone uses it.
final class Host {
  enum State: String {
    case ready
    /// No connection, or no answer.
    case unreachable
    /// Answers, but takes no request.
    case refusing
  }

  /// Scheme, address and path, without a slash at the end.
  let base: String
  /// As it is shown: without a password.
  let shown: String
  var state = State.ready
  var failures = 0
  var notBefore = Instant(ns: 0)
  var isProbing = false
  var underWay = 0
  /// Larger bodies are halved before they are sent here, until `bodyLimitEnds`.
  var bodyLimit = Int.max
  var bodyLimitEnds = Instant(ns: 0)

  init(base: String, shown: String) {
    self.base = base
    self.shown = shown
  }

  /// The first pause after a failure, and the longest; it doubles between.
  func setAside(_ state: State, _ now: Instant, first: Duration, longest: Duration) {
    self.state = state
    notBefore = now + BulkSender.pause(first, longest, failures)
    failures += 1
    isProbing = false
  }

  func isDue(_ now: Instant) -> Bool { state != .ready && !isProbing && notBefore <= now }

  func limit(_ now: Instant) -> Int { bodyLimitEnds > now ? bodyLimit : .max }

  /// A body of this size was refused as too large: the next ones stay below three quarters of it for ten minutes.
  func refused(bytes: Int, _ now: Instant) {
    bodyLimit = min(limit(now), max(4096, bytes / 4 * 3))
    bodyLimitEnds = now + .seconds(600)
  }
}

/// The hosts, and which of them is next. The sender's thread alone uses it.
struct HostPool {
  private(set) var hosts: [Host]
  private var next = 0

  init(_ hosts: [Host]) { self.hosts = hosts }

  var hasReady: Bool { hosts.contains { $0.state == .ready } }

  /// The ready host with the fewest requests under way, in turn; else one that refused and may be tried again.
  mutating func choose(_ now: Instant) -> Host? {
    var best: Int?
    for step in 0..<hosts.count {
      let i = (next + step) % hosts.count
      guard hosts[i].state == .ready else { continue }
      if let chosen = best, hosts[chosen].underWay <= hosts[i].underWay { continue }
      best = i
    }
    if let best {
      next = (best + 1) % hosts.count
      return hosts[best]
    }
    return hosts.first { $0.state == .refusing && $0.isDue(now) }
  }

  /// A host that could not be reached and is due for a health check.
  func unreachableDue(_ now: Instant) -> Host? { hosts.first { $0.state == .unreachable && $0.isDue(now) } }

  /// When the next host set aside is due; nil while none is.
  var nextDue: Instant? { hosts.filter { $0.state != .ready && !$0.isProbing }.map(\.notBefore).min() }

  /// Takes the list that the cluster told. Hosts that stay keep what is known of them.
  mutating func replace(with bases: [String]) -> Bool {
    guard !bases.isEmpty, Set(bases) != Set(hosts.map(\.base)) else { return false }
    hosts = bases.map { base in hosts.first { $0.base == base } ?? Host(base: base, shown: maskedAddress(base)) }
    next = 0
    return true
  }

  /// Addresses of the nodes that an answer of `_nodes/http` names, but for those that are masters alone.
  ///
  /// - Parameter like: A configured host, whose scheme, credentials and path they take over.
  static func sniffed(_ answer: UnsafeRawBufferPointer, like base: String) -> [String] {
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    guard let nodes = (try? batch.add(arrivalNs: 0).parseJSON(answer))?["nodes"], nodes.isMap else { return [] }
    let scheme = base.firstRange(of: "://").map { String(base[..<$0.upperBound]) } ?? "http://"
    let rest = base.dropFirst(scheme.count)
    let authority = rest.prefix { $0 != "/" }
    let path = rest.dropFirst(authority.count)
    let credentials = authority.lastIndex(of: "@").map { String(authority[...$0]) } ?? ""
    var found: [String] = []
    var node = nodes.first
    while let present = node {
      node = present.next
      guard let published = present["http"]?["publish_address"]?.string else { continue }
      if let roles = present["roles"], roles.isList, roles.count == 1, roles.first?.string == "master" { continue }
      // `name/10.0.0.7:9200` where the node has a name.
      let parts = published.split(separator: "/", maxSplits: 1)
      let port = published.split(separator: ":").last ?? "9200"
      let name =
        parts.count == 2 && parts[0].contains(":")
        ? String(parts[0])
        : parts.count == 2 ? "\(parts[0]):\(port)" : published
      found.append("\(scheme)\(credentials)\(name)\(path)")
    }
    return found
  }
}

/// An address without the credentials in it.
func maskedAddress(_ address: String) -> String {
  guard let marker = address.firstRange(of: "://") else { return address }
  let rest = address[marker.upperBound...]
  let authority = rest.prefix { $0 != "/" }
  guard let at = authority.lastIndex(of: "@") else { return address }
  return String(address[..<marker.upperBound] + rest[rest.index(after: at)...])
}
