//  Names of senders, by the system's resolver, which blocks: two threads ask, and what they learn is kept for a while.

internal import Diagnostics
internal import Glibc

/// Shared by all inputs; any thread.
final class NameLookup: Sendable {
  static let shared = NameLookup()

  private struct Entry {
    /// Nil for an address without a name.
    var name: String?
    var until: Instant
  }
  private struct State {
    var known: [String: Entry] = [:]
    var waiting: [(ip: String, answer: @Sendable (String?) -> Void)] = []
    var threads = 0
  }
  private let state = Gate(State())

  private static let threadLimit = 2
  private static let waitingLimit = 10_000
  private static let knownLimit = 10_000
  private static let keptFor = Duration.seconds(600)

  /// The outcome of an earlier look-up that still counts; nil where there is none.
  func known(_ ip: String) -> (name: String?, Void)? {
    state.withLock { state in
      guard let entry = state.known[ip], entry.until > .now else { return nil }
      return (entry.name, ())
    }
  }

  /// Asks for the name of an address. `answer` is called once on another thread, with nil where there is no name; not
  /// at all where too many wait already.
  func lookUp(_ ip: String, _ answer: @escaping @Sendable (String?) -> Void) {
    let needsThread = state.update { state -> Bool in
      guard state.waiting.count < NameLookup.waitingLimit else { return false }
      state.waiting.append((ip, answer))
      guard state.threads < NameLookup.threadLimit else { return false }
      state.threads += 1
      return true
    }
    if needsThread { startThread("names") { [self] in work() } }
  }

  /// Answers until nobody has asked for half a minute.
  private func work() {
    while true {
      let next = state.wait(until: Instant.now + .seconds(30)) { state -> (String, @Sendable (String?) -> Void)? in
        state.waiting.isEmpty ? nil : state.waiting.removeFirst()
      }
      guard let (ip, answer) = next else {
        let ends = state.update { state -> Bool in
          guard state.waiting.isEmpty else { return false }
          state.threads -= 1
          return true
        }
        if ends { return }
        continue
      }
      if let entry = known(ip) {
        answer(entry.name)
        continue
      }
      let name = resolve(ip)
      state.update { state in
        if state.known.count >= NameLookup.knownLimit { state.known.removeAll(keepingCapacity: true) }
        state.known[ip] = Entry(name: name, until: Instant.now + NameLookup.keptFor)
      }
      answer(name)
    }
  }

  private func resolve(_ ip: String) -> String? {
    var hints = addrinfo()
    hints.ai_flags = AI_NUMERICHOST
    hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(ip, nil, &hints, &list) == 0, let found = list else { return nil }
    defer { freeaddrinfo(list) }
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    let status = getnameinfo(
      found.pointee.ai_addr, found.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NAMEREQD)
    guard status == 0 else { return nil }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// An IPv6 address with all of its eight groups, `2001:db8:0:0:0:0:0:7`; any other text as it is.
func longForm(_ ip: String) -> String {
  var address = in6_addr()
  guard inet_pton(AF_INET6, ip, &address) == 1 else { return ip }
  return withUnsafeBytes(of: address) { bytes in
    (0..<8).map { String(Int(bytes[$0 * 2]) << 8 | Int(bytes[$0 * 2 + 1]), radix: 16) }.joined(separator: ":")
  }
}
