//  Reads `threat-rules.yml`: rules, and who is exempt. Every problem of the file is reported in one run, with its place
//  and code; nothing is taken from a file that has one.

internal import Config
internal import Diagnostics
internal import Patterns

extension ThreatRules {
  /// The rules of a file's text; nil where `problems` tell why not.
  ///
  /// - Parameters:
  ///   - within: Replaces the length of every window but those of journeys.
  ///   - allow: Networks and users beside those of the file.
  static func read(
    _ bytes: [UInt8], file: String, within: UInt32? = nil, allow: [String] = [], problems: Problems
  ) -> ThreatRules? {
    guard let root = YAML.parse(bytes, file: file, problems: problems) else { return nil }
    var reader = ThreatRuleReader(within: within, problems: problems)
    return reader.read(root, allow: allow)
  }
}

private struct ThreatRuleReader {
  private static let literalsMax = 4096
  private static let keys = [
    "name", "type", "weight", "in", "contains", "match", "status", "methods", "methods_not", "body_bytes", "path",
    "after", "window", "common",
  ]
  private static let placeNames: [(String, ThreatPlace)] = [
    ("path", .path), ("query", .query), ("user_agent", .userAgent), ("headers", .headers), ("message", .message),
    ("event", .event),
  ]

  let problems: Problems
  private var rules: [ThreatRule] = []
  private var windows: [ThreatWindow] = []
  private var literals: [[(bytes: [UInt8], value: Int)]] = Array(repeating: [], count: ThreatPlace.familyCount)
  private var hasFailed = false

  private let within: UInt32?

  init(within: UInt32?, problems: Problems) {
    self.within = within
    self.problems = problems
  }

  /// Digits and dots, or colons and hexadecimal digits, with the length of a prefix: no user has such a name.
  private static func looksLikeNetwork(_ text: String) -> Bool {
    let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard parts.count == 2, let address = parts.first else { return false }
    let isHex = address.allSatisfy { (48...58).contains($0) || (97...102).contains($0 | 32) || $0 == UInt8(ascii: ".") }
    return isHex && (address.contains(UInt8(ascii: ".")) || address.contains(UInt8(ascii: ":")))
  }

  mutating func read(_ root: YAMLNode, allow: [String]) -> ThreatRules? {
    check(root, keys: ["rules", "allow"], what: "the file")
    var networks = allow.compactMap { IPNetwork(text: $0) }
    var users = allow.filter { IPNetwork(text: $0) == nil }
    for text in users where Self.looksLikeNetwork(text) {
      fail(root, "'\(text)' of the option 'allow' is no network; write 10.0.0.0/8 or 2001:db8::/32")
    }
    if let allow = root["allow"], !allow.isEmpty {
      check(allow, keys: ["networks", "users"], what: "allow")
      for node in list(allow["networks"]) {
        if let network = IPNetwork(text: node.text ?? "") {
          networks.append(network)
        } else {
          fail(node, "\(node.phrase) is no network; write 10.0.0.0/8 or 2001:db8::/32")
        }
      }
      users += list(allow["users"]).compactMap { text($0) }
    }
    guard let items = root["rules"]?.items, !items.isEmpty else {
      fail(root["rules"] ?? root, "'rules' is a list of rules, and there is none")
      return nil
    }
    guard items.count <= ThreatRules.rulesMax else {
      fail(items[ThreatRules.rulesMax], "there are more than \(ThreatRules.rulesMax) rules")
      return nil
    }
    for item in items { readRule(item) }
    let plainCount = rules.count { !$0.hasText && $0.afterTypes == 0 }
    if plainCount > ThreatRules.plainMax {
      fail(root, "\(plainCount) rules have no condition on text, and \(ThreatRules.plainMax) may")
    }
    if hasFailed { return nil }
    do {
      return try ThreatRules(
        rules, windows: windows, literals: literals, allowedNetworks: networks, allowedUsers: users,
        position: root.position)
    } catch {
      problems.add(error)
      return nil
    }
  }

  private mutating func fail(_ node: YAMLNode, _ text: String, hint: String? = nil) {
    hasFailed = true
    problems.error(node.position, text, code: "threat.bad-rule", hint: hint)
  }

  private mutating func check(_ node: YAMLNode, keys: [String], what: String) {
    guard let entries = node.entries else {
      fail(node, "\(what) is a map")
      return
    }
    for entry in entries where !keys.contains(entry.key) {
      hasFailed = true
      problems.error(
        entry.keyPosition, "\(what) has no key '\(entry.key)'", code: "threat.bad-rule",
        hint: nearest(to: entry.key, among: keys).map { "did you mean '\($0)'?" })
    }
  }

  /// A list, or one value that stands for a list of itself.
  private func list(_ node: YAMLNode?) -> [YAMLNode] {
    guard let node, !node.isEmpty else { return [] }
    return node.items ?? [node]
  }

  private mutating func text(_ node: YAMLNode) -> String? {
    if let text = node.text, !text.isEmpty { return text }
    fail(node, "a text is asked for, and this is \(node.phrase)")
    return nil
  }

  private mutating func number(_ node: YAMLNode, in range: ClosedRange<Int>) -> Int? {
    if let value = node.text.flatMap({ Int($0) }), range.contains(value) { return value }
    fail(node, "a number from \(range.lowerBound) to \(range.upperBound) is asked for, and this is \(node.phrase)")
    return nil
  }

  private mutating func choice<Value>(_ node: YAMLNode, _ choices: [(String, Value)]) -> Value? {
    if let found = choices.first(where: { $0.0 == node.text }) { return found.1 }
    fail(
      node, "\(node.phrase) is none of \(choices.map(\.0).joined(separator: ", "))",
      hint: nearest(to: node.text ?? "", among: choices.map(\.0)).map { "did you mean '\($0)'?" })
    return nil
  }

  private mutating func readRule(_ node: YAMLNode) {
    check(node, keys: ThreatRuleReader.keys, what: "a rule")
    guard node.entries != nil else { return }
    guard let nameNode = node["name"], let name = text(nameNode) else {
      if node["name"] == nil { fail(node, "a rule needs a name") }
      return
    }
    if rules.contains(where: { $0.name == name }) { fail(nameNode, "two rules are named '\(name)'") }
    guard let typeNode = node["type"], let weightNode = node["weight"] else {
      fail(node, "the rule '\(name)' needs a type and a weight")
      return
    }
    let type = choice(typeNode, ThreatType.allCases.map { ($0.rawValue, $0) }) ?? .scanner
    var rule = ThreatRule(name: name, type: type, weight: number(weightNode, in: ThreatRule.weightRange) ?? 1)
    for place in list(node["in"]) {
      if let place = choice(place, ThreatRuleReader.placeNames) { rule.places |= 1 << UInt8(place.rawValue) }
    }
    rule.contains = list(node["contains"]).compactMap { text($0) }.map { $0.utf8.map(lowerCase) }
    let matches = list(node["match"])
    rule.expressions = matches.compactMap { text($0) }
    rule.patterns = matches.compactMap { pattern($0) }
    let asksForText = !rule.contains.isEmpty || !rule.patterns.isEmpty
    if asksForText != rule.hasText {
      fail(node, "the rule '\(name)' needs both 'in' and one of 'contains' and 'match', or neither")
    }
    for status in list(node["status"]) { if let range = statuses(status) { rule.statuses.append(range) } }
    rule.methods = list(node["methods"]).compactMap { text($0) }.map { $0.utf8.map(lowerCase) }
    if let excluded = node["methods_not"] {
      if !rule.methods.isEmpty { fail(excluded, "'methods' and 'methods_not' exclude each other") }
      rule.methods = list(excluded).compactMap { text($0) }.map { $0.utf8.map(lowerCase) }
      rule.methodsAreExcluded = true
    }
    if let size = node["body_bytes"] { rule.bodyBytes = number(size, in: 1...Int(Int32.max)) }
    for after in list(node["after"]) {
      if let type = choice(after, ThreatType.allCases.map { ($0.rawValue, $0) }) {
        rule.afterTypes |= 1 << UInt32(type.ordinal)
      }
    }
    if rule.afterTypes != 0, asksForText { fail(node, "'after' and 'in' exclude each other") }
    if let path = node["path"] { rule.pathPattern = pattern(path) }
    if let window = node["window"] { rule.window = readWindow(window) }
    if let common = node["common"] { rule.common = readCommon(common, rule) }
    let hasCondition =
      asksForText || !rule.statuses.isEmpty || !rule.methods.isEmpty || rule.bodyBytes != nil
      || rule.pathPattern != nil || rule.window != nil || rule.afterTypes != 0
    if !hasCondition { fail(node, "the rule '\(name)' has no condition, so every event would match") }
    collectLiterals(rule, node)
    rules.append(rule)
  }

  private mutating func pattern(_ node: YAMLNode) -> Pattern? {
    guard let source = text(node) else { return nil }
    do {
      return try Pattern(source, options: [.ignoreCase])
    } catch {
      fail(node, "the expression \(node.phrase) cannot be used: \(error)")
      return nil
    }
  }

  /// `404` or `500-599`.
  private mutating func statuses(_ node: YAMLNode) -> ClosedRange<Int>? {
    let parts = (node.text ?? "").split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    if parts.count <= 2, let low = parts.first ?? nil, let high = parts.last ?? nil, low >= 100, low <= high,
      high <= 999
    {
      return low...high
    }
    fail(node, "\(node.phrase) is no status; write 404 or 500-599")
    return nil
  }

  private mutating func readWindow(_ node: YAMLNode) -> Int? {
    check(node, keys: ["by", "count", "distinct", "within"], what: "window")
    guard let byNode = node["by"], let countNode = node["count"], let withinNode = node["within"] else {
      fail(node, "a window needs 'by', 'count' and 'within'")
      return nil
    }
    guard let key = choice(byNode, [("address", ThreatWindow.Key.address), ("user", .user)]),
      let count = number(countNode, in: 2...ThreatWindow.countMax), let seconds = seconds(withinNode)
    else { return nil }
    var window = ThreatWindow(key: key, distinct: nil, count: count, seconds: seconds)
    if let distinct = node["distinct"] {
      window.distinct = choice(
        distinct,
        [("user", ThreatWindow.Distinct.user), ("address", .address), ("country", .country), ("path", .path)])
    }
    if let within, window.distinct != .country { window.seconds = within }
    windows.append(window)
    return windows.count - 1
  }

  /// `30s`, `5m`, `2h`, `1d`.
  private mutating func seconds(_ node: YAMLNode) -> UInt32? {
    let text = node.text ?? ""
    let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
    if let unit = text.last.flatMap({ units[$0] }), let count = Int(text.dropLast()), count > 0, count <= 604_800 / unit
    {
      return UInt32(count * unit)
    }
    fail(node, "\(node.phrase) is no time from 1s to 7d; write 30s, 5m, 2h or 1d")
    return nil
  }

  private mutating func readCommon(_ node: YAMLNode, _ rule: ThreatRule) -> (every: Int, weight: Int)? {
    check(node, keys: ["every", "weight"], what: "common")
    guard rule.window != nil, let everyNode = node["every"], let weightNode = node["weight"] else {
      fail(node, "'common' needs 'every' and 'weight', and a rule with a window")
      return nil
    }
    guard let every = number(everyNode, in: 1...1_000_000_000),
      let weight = number(weightNode, in: ThreatRule.weightRange)
    else { return nil }
    return (every, weight)
  }

  /// What the automata look for on behalf of `rule`, whose number is that of the next one.
  private mutating func collectLiterals(_ rule: ThreatRule, _ node: YAMLNode) {
    guard rule.hasText else { return }
    let families = Set(ThreatPlace.allCases.filter { rule.places >> UInt8($0.rawValue) & 1 == 1 }.map(\.family))
    var all = rule.contains
    for expression in rule.expressions {
      guard
        let required = RequiredLiterals.of(
          Array(expression.utf8), cost: { ThreatRules.ordinary.likelihood($0) })
      else {
        fail(
          node["match"] ?? node, "the expression '\(expression)' holds no text that every match must contain",
          hint: "every event would pay for it; add a word, or write it as alternatives that each have one")
        continue
      }
      all += required
    }
    if all.count > ThreatRuleReader.literalsMax { fail(node, "the rule '\(rule.name)' has too many alternatives") }
    for family in families { for literal in all { literals[family].append((literal, rules.count)) } }
  }
}
