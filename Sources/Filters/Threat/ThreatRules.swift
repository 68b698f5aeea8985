//  The rules of the threat score, as the engine runs them. A rule is a name, a type, a weight and conditions that must
//  all hold; ThreatRuleFile reads them from YAML.
//
//  Conditions on text are searched for all rules at once: what every match of an expression must contain goes into one
//  automaton per kind of text, and only what that finds is confirmed by the expression. An expression without such a
//  literal is refused, because it would cost every event its time.

internal import Diagnostics
internal import Patterns

/// What a rule is about; the names are written into events.
public enum ThreatType: String, CaseIterable, Sendable {
  case authenticationFailed = "authentication_failed", bruteForce = "brute_force"
  case credentialStuffing = "credential_stuffing", sqlInjection = "sql_injection", xss
  case pathTraversal = "path_traversal", commandInjection = "command_injection", scanner, badAgent = "bad_agent"
  case tokenProbe = "token_probe", impossibleTravel = "impossible_travel", unusualMethod = "unusual_method"
  case largeBody = "large_body", errorBurst = "error_burst"

  /// The place of the type in `allCases`.
  var ordinal: Int {
    switch self {
    case .authenticationFailed: 0
    case .bruteForce: 1
    case .credentialStuffing: 2
    case .sqlInjection: 3
    case .xss: 4
    case .pathTraversal: 5
    case .commandInjection: 6
    case .scanner: 7
    case .badAgent: 8
    case .tokenProbe: 9
    case .impossibleTravel: 10
    case .unusualMethod: 11
    case .largeBody: 12
    case .errorBurst: 13
    }
  }
}

/// Where a text of a request stands.
enum ThreatPlace: Int, CaseIterable, Sendable {
  case path, query, userAgent, headers, message, event

  /// Places whose texts are of one kind share an automaton.
  var family: Int {
    switch self {
    case .path, .query: 0
    case .userAgent: 1
    case .headers, .message, .event: 2
    }
  }
  static let familyCount = 3
}

struct ThreatRule: Sendable {
  static let weightRange = 1...100

  var name: String
  var type: ThreatType
  var weight: Int
  /// Bits of `ThreatPlace`; 0 where the rule asks for no text.
  var places: UInt8 = 0
  /// Strings of which one must occur.
  var contains: [[UInt8]] = []
  /// Expressions of which one must match.
  var patterns: [Pattern] = []
  /// For the error messages and the literals.
  var expressions: [String] = []
  var statuses: [ClosedRange<Int>] = []
  var methods: [[UInt8]] = []
  var methodsAreExcluded = false
  var bodyBytes: Int?
  /// Bits of types of which the event must have matched one by rules without this condition.
  var afterTypes: UInt32 = 0
  /// Must match the plain path as well.
  var pathPattern: Pattern?
  /// Index into `ThreatRules.windows`.
  var window: Int?
  /// Where a window fires oftener than once in so many events, it is common here, and its weight is the lesser one.
  var common: (every: Int, weight: Int)?

  var hasText: Bool { places != 0 }
}

/// A rule set, read and ready. Shared by all workers.
public final class ThreatRules: @unchecked Sendable {  // unchecked: never written after `init`
  static let rulesMax = 512

  private let list: UnsafeMutableBufferPointer<ThreatRule>
  let windows: [ThreatWindow]
  /// By family of places.
  let automata: [LiteralAutomaton?]
  /// Rules without a condition on text; bit `i` of the masks stands for the `i`th.
  let plain: [Int]
  /// Rules that ask for a type.
  let following: [Int]
  private let plainByStatus: UnsafeMutablePointer<UInt64>
  private let plainWithBody: UInt64
  private let bodyBytesMin: Int
  private let plainWithMethods: UInt64
  private let plainByMethod: [(name: [UInt8], mask: UInt64)]
  private static let statusMax = 999
  static let plainMax = 64
  private static let usualMethods = ["get", "post", "head", "put", "patch", "delete", "options"]
  let allowedNetworks: NetworkSet
  let allowedUsers: Set<UInt64>
  public var count: Int { list.count }

  /// A rule, read in place: copying one would cost a dozen reference counts per event.
  subscript(_ number: Int) -> ThreatRule { _read { yield list[number] } }

  /// - Throws: A problem where the literals do not fit into an automaton.
  init(
    _ rules: [ThreatRule], windows: [ThreatWindow], literals: [[(bytes: [UInt8], value: Int)]],
    allowedNetworks: [IPNetwork], allowedUsers: [String], position: SourcePosition
  ) throws(Problem) {
    list = .allocate(capacity: rules.count)
    _ = list.initialize(from: rules)
    self.windows = windows
    self.allowedNetworks = NetworkSet(allowedNetworks)
    self.allowedUsers = Set(allowedUsers.map { user in Array(user.utf8).withUnsafeBytes { SeededHash.of($0) } })
    plain = rules.indices.filter { !rules[$0].hasText && rules[$0].afterTypes == 0 }
    following = rules.indices.filter { rules[$0].afterTypes != 0 }
    plainByStatus = .allocate(capacity: ThreatRules.statusMax + 1)
    plainByStatus.initialize(repeating: 0, count: ThreatRules.statusMax + 1)
    var withBody: UInt64 = 0
    var withMethods: UInt64 = 0
    var least = Int.max
    var byMethod = ThreatRules.usualMethods.map { (name: Array($0.utf8), mask: UInt64(0)) }
    for (ordinal, number) in plain.prefix(ThreatRules.plainMax).enumerated() {
      let rule = rules[number]
      let bit: UInt64 = 1 << UInt64(ordinal)
      for status in 0...ThreatRules.statusMax
      where rule.statuses.isEmpty || rule.statuses.contains(where: { $0.contains(status) }) {
        plainByStatus[status] |= bit
      }
      if let bytes = rule.bodyBytes {
        withBody |= bit
        least = min(least, bytes)
      }
      if rule.methods.isEmpty { continue }
      withMethods |= bit
      for index in byMethod.indices where rule.methods.contains(byMethod[index].name) != rule.methodsAreExcluded {
        byMethod[index].mask |= bit
      }
    }
    plainWithBody = withBody
    plainWithMethods = withMethods
    bodyBytesMin = least
    plainByMethod = byMethod
    var automata: [LiteralAutomaton?] = []
    for family in literals {
      if family.isEmpty {
        automata.append(nil)
        continue
      }
      guard let automaton = LiteralAutomaton(family, foldsCase: true) else {
        throw Problem(
          position, "the texts of all rules together are longer than \(LiteralAutomaton.byteLimit) bytes",
          code: "threat.rules-too-large")
      }
      automata.append(automaton)
    }
    self.automata = automata
  }

  deinit {
    list.deinitialize()
    list.deallocate()
    plainByStatus.deallocate()
  }

  /// Bits of the rules without text that an event may match; most events leave next to none.
  func plainCandidates(_ request: ThreatRequest) -> UInt64 {
    let isKnown = request.status >= 0 && request.status <= ThreatRules.statusMax
    var mask = plainByStatus[isKnown ? request.status : 0]
    if request.bodyBytes < bodyBytesMin { mask &= ~plainWithBody }
    if mask & plainWithMethods != 0 {
      if request.method.isEmpty { return mask & ~plainWithMethods }
      for (name, usual) in plainByMethod where name.count == request.method.count {
        if name.withUnsafeBytes({ equalFolded(request.method, $0) }) { return mask & (~plainWithMethods | usual) }
      }
    }
    return mask
  }

  /// Shapes of ordinary requests, so that the literals that are searched for are the telling ones.
  static let ordinary = OrdinaryText([
    "/products/search/12345?page=2&sort=price&order=asc&q=blue+shoes", "/api/v1/users/42/orders?limit=20&offset=40",
    "/static/css/main.css?v=1.2.3", "/accounts/login/?next=/dashboard/reports/2024",
    "/blog/2024/05/how-to-select-a-union",
    "/media/images/photo.jpg?width=300&height=200", "/checkout/cart?id=123&token=abcdef&update=1&from=email&table=3",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
    "GET /orders completed with 200 in 12.5 ms", "user alice logged in from the web or the app and opened the report",
  ])
}
