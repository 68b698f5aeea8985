//  Names to addresses and back, for filters: questions go to name servers from a thread of the resolver's own, many at a
//  time, and whoever asks waits for all answers of a batch at once. So a batch costs about one round trip, whatever the
//  number of names, and equal questions of several workers are sent once.
//
//  Each try is bounded by a timeout, tries are bounded by number, and at most 256 questions are under way. Sockets are
//  opened for a burst of questions and closed behind it, so that their ports change; each belongs to one server, and an
//  answer counts only if it repeats id, name and kind of its question.

internal import Diagnostics
internal import Glibc
internal import Synchronization

/// A name server: an IP address and a port.
public struct NameServer: Sendable, Hashable {
  public var host: String
  public var port: Int

  public init(host: String, port: Int = 53) {
    self.host = host
    self.port = port
  }

  /// `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`; nil for anything else.
  public init?(_ text: String) {
    var host = text
    port = 53
    if text.hasPrefix("[") {
      guard let end = text.lastIndex(of: "]") else { return nil }
      host = String(text[text.index(after: text.startIndex)..<end])
      let rest = text[text.index(after: end)...]
      if !rest.isEmpty {
        guard rest.hasPrefix(":"), let number = Int(rest.dropFirst()) else { return nil }
        port = number
      }
    } else if text.split(separator: ":", omittingEmptySubsequences: false).count == 2,
      let colon = text.firstIndex(of: ":")
    {
      guard let number = Int(text[text.index(after: colon)...]) else { return nil }
      host = String(text[..<colon])
      port = number
    }
    self.host = host
    guard (1...65535).contains(port), withAddress({ _, _ in true }) == true else { return nil }
  }

  /// The address for system calls; nil where `host` is no IP address.
  func withAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result? {
    var v4 = sockaddr_in()
    if inet_pton(AF_INET, host, &v4.sin_addr) == 1 {
      v4.sin_family = sa_family_t(AF_INET)
      v4.sin_port = in_port_t(truncatingIfNeeded: port).bigEndian
      return withUnsafePointer(to: v4) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
      }
    }
    var v6 = sockaddr_in6()
    guard inet_pton(AF_INET6, host, &v6.sin6_addr) == 1 else { return nil }
    v6.sin6_family = sa_family_t(AF_INET6)
    v6.sin6_port = in_port_t(truncatingIfNeeded: port).bigEndian
    return withUnsafePointer(to: v6) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in6>.size)) }
    }
  }
}

/// Whom a resolver asks, and how long it waits.
public struct NameResolverSettings: Sendable {
  public var servers: [NameServer] = []
  /// Domains that are tried behind a short name.
  public var search: [String] = []
  /// From this number of dots on, a name is tried as it is first.
  public var ndots = 1
  /// For one try.
  public var timeout = Duration.milliseconds(500)
  /// Tries for one question; they go round the servers.
  public var tries = 3
  public init() {}

  /// Servers, search domains and `ndots` of a file as `/etc/resolv.conf` is.
  public mutating func read(systemFile text: [UInt8]) {
    for line in text.split(separator: 10) {
      let words = String(decoding: line, as: UTF8.self).split { $0 == " " || $0 == "\t" || $0 == "\r" }.map(String.init)
      guard let name = words.first, words.count > 1 else { continue }
      switch name {
      case "nameserver": if servers.count < 3, let server = NameServer(words[1]) { servers.append(server) }
      case "domain", "search": search = Array(words.dropFirst().prefix(6))
      case "options":
        for word in words where word.hasPrefix("ndots:") { ndots = max(1, Int(word.dropFirst(6)) ?? 1) }
      default: break
      }
    }
  }
}

/// What is asked.
public enum NameQuestion: Hashable, Sendable {
  /// The address of a name.
  case address(of: [UInt8])
  /// The name of an address: 4 or 16 bytes.
  case name(of: [UInt8])
}

public enum NameAnswer: Hashable, Sendable {
  /// The address or name as text.
  case found([UInt8])
  case missing
  /// No server answered in time.
  case timeout
}

/// Asks name servers. Any thread.
public final class NameResolver: Sendable {
  private let core: ResolverCore

  public init(_ settings: NameResolverSettings) { core = ResolverCore(settings) }

  deinit { core.stop() }

  /// The answers, in the order of the questions. Blocks until all are there, bounded by tries and timeouts.
  public func answers(to questions: [NameQuestion]) -> [NameAnswer] {
    questions.isEmpty ? [] : core.answers(to: questions)
  }
}

extension Services {
  /// A resolver with the given servers; nil while a configuration is only checked.
  public func nameResolver(_ settings: NameResolverSettings) -> NameResolver? {
    resolves ? NameResolver(settings) : nil
  }
}

/// Waits for the answers of one call.
final class ResolverWaiter: Sendable {
  private struct State {
    var answers: [NameAnswer]
    var left: Int
  }
  private let state: Gate<State>

  init(_ count: Int) { state = Gate(State(answers: [NameAnswer](repeating: .timeout, count: count), left: count)) }

  func finish(_ i: Int, _ answer: NameAnswer) {
    state.update { state in
      state.answers[i] = answer
      state.left -= 1
    }
  }

  /// All answers; those that are not there at the deadline are timeouts.
  func wait(until deadline: Instant) -> [NameAnswer] {
    state.wait(until: deadline) { $0.left == 0 ? $0.answers : nil } ?? state.withLock { $0.answers }
  }
}

/// What the thread and those who ask share.
private final class ResolverCore: Sendable {
  struct Asked {
    var question: NameQuestion
    var waiter: ResolverWaiter
    var place: Int
  }
  private struct State {
    var asked: [Asked] = []
    var isRunning = false
    var isStopping = false
  }

  let settings: NameResolverSettings
  private let state = Lock(State())
  /// Wakes the thread: it reads one end, those who ask write to the other.
  let wake: (read: CInt, write: CInt)

  init(_ settings: NameResolverSettings) {
    self.settings = settings
    var ends: [CInt] = [-1, -1]
    if pipe(&ends) != 0 { ends = [-1, -1] }
    for end in ends where end >= 0 {
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
    }
    wake = (ends[0], ends[1])
  }

  deinit {
    if wake.read >= 0 { close(wake.read) }
    if wake.write >= 0 { close(wake.write) }
  }

  func answers(to questions: [NameQuestion]) -> [NameAnswer] {
    guard !settings.servers.isEmpty, wake.read >= 0 else {
      return [NameAnswer](repeating: .missing, count: questions.count)
    }
    let waiter = ResolverWaiter(questions.count)
    let starts = state.withLock { state in
      for (i, question) in questions.enumerated() {
        state.asked.append(Asked(question: question, waiter: waiter, place: i))
      }
      defer { state.isRunning = true }
      return !state.isRunning
    }
    if starts {
      startThread("resolver") { [self] in ResolverExchange(self).run() }
    } else {
      wakeUp()
    }
    // The thread answers long before; this is for a thread that the system did not give.
    return waiter.wait(until: .now + .seconds(120))
  }

  private func wakeUp() {
    var byte: UInt8 = 1
    _ = write(wake.write, &byte, 1)
  }

  func stop() {
    state.withLock { $0.isStopping = true }
    wakeUp()
  }

  /// What was asked since the last call; nil when the resolver goes away.
  func take() -> [Asked]? {
    state.withLock { state in
      defer { state.asked.removeAll(keepingCapacity: true) }
      return state.isStopping ? nil : state.asked
    }
  }
}

/// The thread: questions under way, and the sockets to the servers. Everything in it belongs to the thread.
private final class ResolverExchange {
  private static let activeMax = 256

  private struct Lookup {
    let question: NameQuestion
    /// Names to try, in order.
    let names: [[UInt8]]
    var place = 0
    var kind: DNSMessage.Kind
    var tries = 0
    var server = 0
    var deadline = Instant(ns: 0)
    var waiters: [(waiter: ResolverWaiter, place: Int)]
  }

  private let core: ResolverCore
  private let settings: NameResolverSettings
  private var waiting: [Lookup] = []
  private var isKnown: Set<NameQuestion> = []
  private var active: [UInt16: Lookup] = [:]
  private var sockets: [CInt]
  private var query = ByteBuffer(capacity: 512)
  private var buffer = [UInt8](repeating: 0, count: DNSMessage.limitBytes)

  init(_ core: ResolverCore) {
    self.core = core
    settings = core.settings
    sockets = [CInt](repeating: -1, count: core.settings.servers.count)
  }

  func run() {
    while let asked = core.take() {
      for item in asked { take(item) }
      while active.count < ResolverExchange.activeMax, !waiting.isEmpty { begin(waiting.removeFirst()) }
      if active.isEmpty, waiting.isEmpty { closeSockets() }
      waitForNews()
      expire()
    }
    for lookup in Array(active.values) + waiting { answer(lookup, .missing) }
    closeSockets()
  }

  private func take(_ item: ResolverCore.Asked) {
    if isKnown.contains(item.question) {
      if let i = waiting.firstIndex(where: { $0.question == item.question }) {
        waiting[i].waiters.append((item.waiter, item.place))
      } else if let id = active.first(where: { $0.value.question == item.question })?.key {
        active[id]?.waiters.append((item.waiter, item.place))
      }
      return
    }
    let (names, kind) = ResolverExchange.names(of: item.question, settings)
    guard !names.isEmpty else { return item.waiter.finish(item.place, .missing) }
    isKnown.insert(item.question)
    waiting.append(
      Lookup(question: item.question, names: names, kind: kind, waiters: [(item.waiter, item.place)]))
  }

  private static func names(
    of question: NameQuestion, _ settings: NameResolverSettings
  ) -> ([[UInt8]], DNSMessage.Kind) {
    switch question {
    case .name(let bytes): return ([reverseName(bytes)], .pointer)
    case .address(let name):
      guard let ascii = InternationalName.ascii(name), !ascii.contains(where: { $0 <= 32 || $0 == 127 }) else {
        return ([], .address)
      }
      var names: [[UInt8]] = []
      if ascii.last == 46 {
        names = [ascii]
      } else {
        let searched = settings.search.map { ascii + [46] + Array($0.utf8) }
        let isLong = ascii.reduce(0) { $0 + ($1 == 46 ? 1 : 0) } >= settings.ndots
        names = isLong ? [ascii] + searched : searched + [ascii]
      }
      return (names.filter(DNSMessage.isName), .address)
    }
  }

  private static func reverseName(_ bytes: [UInt8]) -> [UInt8] {
    if bytes.count == 4 {
      return Array((bytes.reversed().map { String($0) }.joined(separator: ".") + ".in-addr.arpa").utf8)
    }
    let digits = Array("0123456789abcdef".utf8)
    var name: [UInt8] = []
    for byte in bytes.reversed() { name += [digits[Int(byte & 15)], 46, digits[Int(byte >> 4)], 46] }
    return name + Array("ip6.arpa".utf8)
  }

  // MARK: Asking

  private func begin(_ lookup: Lookup) {
    var lookup = lookup
    while lookup.tries < max(1, settings.tries) {
      lookup.server = lookup.tries % sockets.count
      lookup.tries += 1
      var id = UInt16.random(in: 0 ... .max)
      while active[id] != nil { id = id &+ 1 }
      query.removeAll()
      guard DNSMessage.appendQuery(id, lookup.names[lookup.place], lookup.kind, to: &query) else {
        return next(lookup, .unknownName)
      }
      if send(to: lookup.server) {
        lookup.deadline = .now + settings.timeout
        active[id] = lookup
        return
      }
    }
    answer(lookup, .missing)
  }

  private func send(to server: Int) -> Bool {
    if sockets[server] < 0 { sockets[server] = open(settings.servers[server]) }
    guard sockets[server] >= 0 else { return false }
    if Glibc.send(sockets[server], query.pointer, query.count, CInt(MSG_NOSIGNAL)) == query.count {
      return true
    }
    // An earlier refusal is told at the next call; the socket is made anew for the next try.
    close(sockets[server])
    sockets[server] = -1
    return false
  }

  private func open(_ server: NameServer) -> CInt {
    server.withAddress { address, length in
      let descriptor = socket(
        CInt(address.pointee.sa_family), CInt(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
      if descriptor >= 0, connect(descriptor, address, length) != 0 {
        close(descriptor)
        return -1
      }
      return descriptor
    } ?? -1
  }

  private func closeSockets() {
    for i in sockets.indices where sockets[i] >= 0 {
      close(sockets[i])
      sockets[i] = -1
    }
  }

  // MARK: Answers

  private func waitForNews() {
    var entries = [pollfd(fd: core.wake.read, events: Int16(POLLIN), revents: 0)]
    for descriptor in sockets { entries.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)) }
    var wait: CInt = -1
    if let deadline = active.values.map(\.deadline).min() {
      wait = CInt(clamping: max(0, ((deadline - .now).ns + 999_999) / 1_000_000))
    }
    guard poll(&entries, nfds_t(entries.count), wait) > 0 else { return }
    if entries[0].revents != 0 { while read(core.wake.read, &buffer, buffer.count) > 0 {} }
    for i in sockets.indices where entries[i + 1].revents != 0 { receive(from: i) }
  }

  private func receive(from server: Int) {
    while sockets[server] >= 0 {
      let n = recv(sockets[server], &buffer, buffer.count, 0)
      if n < 0 {
        if errno == EINTR { continue }
        if errno != EAGAIN, errno != EWOULDBLOCK { fail(server) }
        return
      }
      guard n >= 12 else { continue }
      let id = UInt16(buffer[0]) << 8 | UInt16(buffer[1])
      guard let lookup = active[id], lookup.server == server else { continue }
      let result = buffer.withUnsafeBytes {
        DNSMessage.read(
          UnsafeRawBufferPointer(rebasing: $0[..<n]), id: id, lookup.names[lookup.place], lookup.kind)
      }
      if result == .foreign { continue }
      active[id] = nil
      next(lookup, result)
    }
  }

  /// Nobody listens there: its questions are asked elsewhere at once.
  private func fail(_ server: Int) {
    close(sockets[server])
    sockets[server] = -1
    let failed = active.filter { $0.value.server == server }
    for id in failed.keys { active[id] = nil }
    for lookup in failed.values { begin(lookup) }
  }

  private func next(_ lookup: Lookup, _ result: DNSMessage.Answer) {
    var lookup = lookup
    switch result {
    case .found(let text):
      return answer(lookup, .found(lookup.kind == .pointer ? InternationalName.unicode(text) : text))
    case .refused, .foreign: return begin(lookup)
    case .empty where lookup.kind == .address: lookup.kind = .address6
    case .empty, .unknownName:
      lookup.place += 1
      if lookup.kind == .address6 { lookup.kind = .address }
      if lookup.place == lookup.names.count { return answer(lookup, .missing) }
    }
    lookup.tries = 0
    begin(lookup)
  }

  private func answer(_ lookup: Lookup, _ answer: NameAnswer) {
    isKnown.remove(lookup.question)
    for (waiter, place) in lookup.waiters { waiter.finish(place, answer) }
  }

  private func expire() {
    let now = Instant.now
    let late = active.filter { $0.value.deadline <= now }
    for id in late.keys { active[id] = nil }
    for lookup in late.values {
      if lookup.tries >= settings.tries { answer(lookup, .timeout) } else { begin(lookup) }
    }
  }
}
