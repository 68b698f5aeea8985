//  The threat score. Each rule that an event matches adds its weight, and the strongest one names the threat.
//
//  A worker scores a batch in three steps: `add` looks at each event alone and notes its steps in the sliding windows;
//  `finish` takes those to the shared windows, each shard locked once; `verdict` then tells what came of each event.

internal import Diagnostics
internal import Patterns

/// What the rules look at. All texts are bytes that stay until `add` returns; what is absent is empty.
public struct ThreatRequest {
  /// With or without a query behind `?`.
  public var path = UnsafeRawBufferPointer(start: nil, count: 0)
  public var query = UnsafeRawBufferPointer(start: nil, count: 0)
  public var method = UnsafeRawBufferPointer(start: nil, count: 0)
  public var userAgent = UnsafeRawBufferPointer(start: nil, count: 0)
  /// Texts of the request's head; searched for `in: headers`.
  public var headers = UnsafeRawBufferPointer(start: nil, count: 0)
  public var message = UnsafeRawBufferPointer(start: nil, count: 0)
  /// What kind of event it is, such as `login_failed`.
  public var event = UnsafeRawBufferPointer(start: nil, count: 0)
  public var user = UnsafeRawBufferPointer(start: nil, count: 0)
  public var address: IPAddress?
  /// Any text that names the country; empty where unknown.
  public var country = UnsafeRawBufferPointer(start: nil, count: 0)
  /// 0 where unknown.
  public var status = 0
  public var bodyBytes = 0
  /// Seconds since 1970, of the event.
  public var time: Int64 = 0

  public init() {}
}

/// The five levels of a score.
public enum ThreatLevel: String, CaseIterable, Sendable {
  case none, low, medium, high, critical

  public init(score: Int) {
    switch score {
    case ..<1: self = .none
    case ..<30: self = .low
    case ..<60: self = .medium
    case ..<80: self = .high
    default: self = .critical
    }
  }
}

/// What came of one event.
public struct ThreatVerdict: Equatable, Sendable {
  /// 0 to 100.
  public var score = 0
  /// Of the strongest rule.
  public var type: ThreatType?
  /// Bits of the types of all matched rules, in the order of `ThreatType`.
  public var types: UInt32 = 0

  public var level: ThreatLevel { ThreatLevel(score: score) }
  public var isSecurityEvent: Bool { score >= 30 }
}

/// One worker's scorer. Not thread-safe.
public final class ThreatScorer {
  // In memory of its own, so that the checks for exclusive access to a class's fields are paid once per call.
  private let core: UnsafeMutablePointer<ThreatScorerCore>

  public init(_ rules: ThreatRules, _ windows: ThreatWindows) {
    core = .allocate(capacity: 1)
    core.initialize(to: ThreatScorerCore(rules, windows))
  }

  deinit {
    core.deinitialize(count: 1)
    core.deallocate()
  }

  /// Begins a batch.
  public func begin() { core.pointee.begin() }

  /// Looks at one event.
  ///
  /// - Returns: Its number within the batch.
  @discardableResult
  public func add(_ request: ThreatRequest) -> Int { core.pointee.add(request) }

  /// Takes the batch's steps to the shared windows.
  public func finish() { core.pointee.finish() }

  /// What came of the event with this number; good after `finish`.
  public func verdict(_ index: Int) -> ThreatVerdict { core.pointee.verdict(index) }
}

/// The scorer's state and work.
private struct ThreatScorerCore: ~Copyable {
  private struct Tally {
    var sum: Int32 = 0
    var strongest: Int32 = 0
    var type: Int8 = -1
    var types: UInt32 = 0
  }
  /// How often a window may fire before `common` is asked.
  private static let burst = 3
  private static let timeLimit = 20

  private let rules: ThreatRules
  private let windows: ThreatWindows
  private let scratch = MatchScratch()
  private var tallies: [Tally] = []
  private var updates: [ThreatUpdate] = []
  private var order: [UInt32] = []
  private var text = ThreatText()
  private var pathText = ThreatText()
  private let found: UnsafeMutablePointer<UInt64>
  private let words: Int
  // What a user agent matches depends on its text alone.
  private var agents = FragmentCache(entries: 4096, bytesMax: 2 << 20)

  init(_ rules: ThreatRules, _ windows: ThreatWindows) {
    self.rules = rules
    self.windows = windows
    words = (rules.count + 63) / 64
    found = .allocate(capacity: max(words, 1))
    found.initialize(repeating: 0, count: max(words, 1))
  }

  deinit { found.deallocate() }

  mutating func begin() {
    tallies.removeAll(keepingCapacity: true)
    updates.removeAll(keepingCapacity: true)
    countedFor = -1
  }

  mutating func add(_ request: ThreatRequest) -> Int {
    let index = tallies.count
    tallies.append(Tally())
    if isAllowed(request) { return index }
    var path = request.path
    var query = request.query
    if let mark = path.firstIndex(of: UInt8(ascii: "?")) {
      if query.isEmpty { query = UnsafeRawBufferPointer(rebasing: path[(mark + 1)...]) }
      path = UnsafeRawBufferPointer(rebasing: path[..<mark])
    }
    let plainPath = pathText.plain(path, .path)
    search(.path, plainPath, request, plainPath, index)
    search(.query, text.plain(query, .query), request, plainPath, index)
    searchAgent(request, plainPath, index)
    if !request.headers.isEmpty {
      search(.headers, text.plain(request.headers, .text), request, plainPath, index)
    }
    search(.message, text.plain(request.message, .text), request, plainPath, index)
    if !request.event.isEmpty { search(.event, request.event, request, plainPath, index) }
    var plain = rules.plainCandidates(request)
    while plain != 0 {
      let rule = rules.plain[plain.trailingZeroBitCount]
      plain &= plain &- 1
      if holds(rule, request, plainPath) { take(rule, request, plainPath, index) }
    }
    if tallies[index].types != 0 { follow(request, plainPath, index) }
    return index
  }

  mutating func finish() {
    windows.apply(&updates, order: &order, eventCount: tallies.count)
    for update in updates where update.hasFired {
      let rule = rules[Int(update.rule)]
      var weight = rule.weight
      if let common = rule.common,
        windows.isCommon(Int(update.window), every: common.every, burst: ThreatScorerCore.burst)
      {
        weight = common.weight
      }
      count(rule.type, weight, Int(update.event))
    }
  }

  func verdict(_ index: Int) -> ThreatVerdict {
    let tally = tallies[index]
    return ThreatVerdict(
      score: min(100, Int(tally.sum)), type: tally.type < 0 ? nil : ThreatType.allCases[Int(tally.type)],
      types: tally.types)
  }

  // MARK: One event

  private func isAllowed(_ request: ThreatRequest) -> Bool {
    if !rules.allowedNetworks.isEmpty, let address = request.address,
      rules.allowedNetworks.contains(address.unmapped)
    {
      return true
    }
    return !rules.allowedUsers.isEmpty && !request.user.isEmpty
      && rules.allowedUsers.contains(SeededHash.of(request.user))
  }

  /// Takes the rules that ask for a type which the event has by now.
  private mutating func follow(_ request: ThreatRequest, _ path: UnsafeRawBufferPointer, _ index: Int) {
    let types = tallies[index].types
    for rule in rules.following where rules[rule].afterTypes & types != 0 && holds(rule, request, path) {
      take(rule, request, path, index)
    }
  }

  /// Searches one text and takes the rules that match it.
  private mutating func search(
    _ place: ThreatPlace, _ text: UnsafeRawBufferPointer, _ request: ThreatRequest, _ path: UnsafeRawBufferPointer,
    _ index: Int
  ) {
    guard let automaton = rules.automata[place.family], automaton.mark(text, found) else { return }
    for word in 0..<automaton.wordCount where found[word] != 0 {
      var bits = found[word]
      found[word] = 0
      while bits != 0 {
        let rule = word << 6 + bits.trailingZeroBitCount
        bits &= bits &- 1
        if isConfirmed(rule, place, text), holds(rule, request, path) { take(rule, request, path, index) }
      }
    }
  }

  private func isConfirmed(_ number: Int, _ place: ThreatPlace, _ text: UnsafeRawBufferPointer) -> Bool {
    guard rules[number].places >> UInt8(place.rawValue) & 1 == 1 else { return false }
    // A rule without an expression asks for its strings alone, and those were found.
    if rules[number].patterns.isEmpty { return true }
    for pattern in rules[number].patterns {
      if case .match = scratch.match(pattern, text, timeLimit: ThreatScorerCore.timeLimit) { return true }
    }
    return rules[number].contains.contains { literal in
      literal.withUnsafeBytes { containsFolded(text, $0) }
    }
  }

  private mutating func searchAgent(_ request: ThreatRequest, _ path: UnsafeRawBufferPointer, _ index: Int) {
    guard !request.userAgent.isEmpty, let automaton = rules.automata[ThreatPlace.userAgent.family] else { return }
    let hash = SeededHash.of(request.userAgent)
    if let known = agents.find(request.userAgent, hash: hash) {
      for at in stride(from: 0, to: known.count, by: 2) {
        let rule = Int(known.loadUnaligned(fromByteOffset: at, as: UInt16.self))
        if holds(rule, request, path) { take(rule, request, path, index) }
      }
      return
    }
    let plain = text.plain(request.userAgent, .text)
    var matched: [UInt16] = []
    if automaton.mark(plain, found) {
      for word in 0..<automaton.wordCount where found[word] != 0 {
        var bits = found[word]
        found[word] = 0
        while bits != 0 {
          let rule = word << 6 + bits.trailingZeroBitCount
          bits &= bits &- 1
          if isConfirmed(rule, .userAgent, plain) { matched.append(UInt16(rule)) }
        }
      }
    }
    matched.withUnsafeBytes { agents.insert(request.userAgent, hash: hash, $0) }
    for rule in matched where holds(Int(rule), request, path) { take(Int(rule), request, path, index) }
  }

  /// Whether the conditions of a rule beside those on text hold.
  private func holds(_ number: Int, _ request: ThreatRequest, _ path: UnsafeRawBufferPointer) -> Bool {
    if !rules[number].statuses.isEmpty, !rules[number].statuses.contains(where: { $0.contains(request.status) }) {
      return false
    }
    if let least = rules[number].bodyBytes, request.bodyBytes < least { return false }
    if !rules[number].methods.isEmpty {
      // A request without a known method is not an unusual one.
      if request.method.isEmpty { return false }
      let isListed = rules[number].methods.contains { method in
        method.withUnsafeBytes { equalFolded(request.method, $0) }
      }
      if isListed == rules[number].methodsAreExcluded { return false }
    }
    if let pattern = rules[number].pathPattern {
      guard case .match = scratch.match(pattern, path, timeLimit: ThreatScorerCore.timeLimit) else { return false }
    }
    return true
  }

  /// Counts a rule whose conditions hold, or its step in the rule's window.
  private mutating func take(_ number: Int, _ request: ThreatRequest, _ path: UnsafeRawBufferPointer, _ index: Int) {
    // A rule counts once, in however many texts it was found.
    guard let window = rules[number].window else {
      if isFirst(number, index) { count(rules[number].type, rules[number].weight, index) }
      return
    }
    guard let update = step(number, window, request, path, index), isFirst(number, index) else { return }
    updates.append(update)
  }

  // Bits of the rules that the present event was counted for, and its number within the batch.
  private var counted: [UInt64] = []
  private var countedFor = -1

  private mutating func isFirst(_ number: Int, _ index: Int) -> Bool {
    if countedFor != index {
      countedFor = index
      if counted.count != words { counted = [UInt64](repeating: 0, count: words) }
      for word in 0..<words { counted[word] = 0 }
    }
    let bit: UInt64 = 1 << UInt64(number & 63)
    if counted[number >> 6] & bit != 0 { return false }
    counted[number >> 6] |= bit
    return true
  }

  private func step(
    _ number: Int, _ window: Int, _ request: ThreatRequest, _ path: UnsafeRawBufferPointer, _ index: Int
  ) -> ThreatUpdate? {
    let shape = rules.windows[window]
    var key: UInt64
    switch shape.key {
    case .address:
      guard let address = request.address else { return nil }
      key = SeededHash.of(address.unmapped)
    case .user:
      guard !request.user.isEmpty else { return nil }
      key = SeededHash.of(request.user)
    }
    key = SeededHash.mix(key ^ UInt64(window), 0x9E37_79B9_7F4A_7C15)
    var value: UInt64 = 0
    switch shape.distinct {
    case nil: break
    case .user:
      guard !request.user.isEmpty else { return nil }
      value = SeededHash.of(request.user)
    case .address:
      guard let address = request.address else { return nil }
      value = SeededHash.of(address.unmapped)
    case .country:
      guard !request.country.isEmpty else { return nil }
      value = SeededHash.of(request.country)
    case .path: value = SeededHash.of(path)
    }
    return ThreatUpdate(
      key: key, value: UInt32(truncatingIfNeeded: value >> 32), time: UInt32(clamping: max(1, request.time)),
      rule: UInt16(number), window: UInt16(window), event: UInt32(index))
  }

  private mutating func count(_ type: ThreatType, _ weight: Int, _ index: Int) {
    let ordinal = type.ordinal
    tallies[index].sum += Int32(weight)
    tallies[index].types |= 1 << UInt32(ordinal)
    if Int32(weight) > tallies[index].strongest {
      tallies[index].strongest = Int32(weight)
      tallies[index].type = Int8(ordinal)
    }
  }
}

/// Whether `text` is `lower` but for the case of ASCII letters.
func equalFolded(_ text: UnsafeRawBufferPointer, _ lower: UnsafeRawBufferPointer) -> Bool {
  guard text.count == lower.count else { return false }
  for i in 0..<text.count where lowerCase(text[i]) != lower[i] { return false }
  return true
}

private func containsFolded(_ text: UnsafeRawBufferPointer, _ lower: UnsafeRawBufferPointer) -> Bool {
  guard !lower.isEmpty, text.count >= lower.count else { return false }
  for start in 0...(text.count - lower.count)
  where equalFolded(UnsafeRawBufferPointer(rebasing: text[start..<start + lower.count]), lower) { return true }
  return false
}
