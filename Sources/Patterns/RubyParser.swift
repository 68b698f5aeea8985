//  Reads an expression in Ruby's dialect (Oniguruma's Ruby syntax) into a tree. What Ruby takes and PCRE2 reads
//  otherwise is resolved here: `(?m)`, options in mid-group, `\h`, `{,n}`, `{n}?`, stacked quantifiers, classes inside
//  classes, names that PCRE2 does not allow. What PCRE2 would take and Ruby does not (verbs, callouts, recursion by
//  number) is refused, so nothing that an operator writes reaches PCRE2 as a command.

/// A group as it was written.
package struct RubyGroup {
  package var name: String?
  /// Of its opening parenthesis, in characters.
  package var offset: Int
}

struct RubyParser {
  static let depthMax = 150
  static let repeatMax = 65_535
  /// Names may stand for fields (`[a][b]`, `a-b`); otherwise only words.
  let fieldNames: Bool
  /// Plain parentheses never capture.
  let namedOnly: Bool
  let text: [Unicode.Scalar]
  var at = 0
  var depth = 0
  var dotAll: Bool
  var extended = false
  var groups: [RubyGroup] = []
  /// References by name or number, resolved when all groups are known.
  var references: [(name: String, offset: Int)] = []

  init(_ source: String, dotAll: Bool, fieldNames: Bool, namedOnly: Bool) {
    self.namedOnly = namedOnly
    text = Array(source.unicodeScalars)
    self.dotAll = dotAll
    self.fieldNames = fieldNames
  }

  mutating func parse() throws(PatternError) -> RubyNode {
    groups = try allGroups()
    named = namedOnly || groups.contains { $0.name != nil }
    let node = try alternation()
    if at < text.count { throw PatternError("unmatched closing parenthesis", at: at) }
    return node
  }

  /// True if only groups with a name capture.
  private(set) var named = false
  /// Groups met so far by the parser proper.
  var opened = 0

  /// This run only collects groups, because a reference may stand before its group. Finding them is parsing: what is a
  /// parenthesis depends on classes, control characters and comments.
  private(set) var isScouting = false

  private func allGroups() throws(PatternError) -> [RubyGroup] {
    var scout = self
    scout.isScouting = true
    _ = try scout.alternation()
    return scout.groups
  }

  private mutating func open(_ name: String?, _ start: Int) -> Int {
    if isScouting { groups.append(RubyGroup(name: name, offset: start)) }
    opened += 1
    return opened - 1
  }

  func string(_ from: Int, _ to: Int) -> String {
    var result = String.UnicodeScalarView()
    result.append(contentsOf: text[from..<to])
    return String(result)
  }

  func has(_ c: Unicode.Scalar, _ ahead: Int = 0) -> Bool { at + ahead < text.count && text[at + ahead] == c }

  // MARK: Structure

  mutating func alternation() throws(PatternError) -> RubyNode {
    depth += 1
    defer { depth -= 1 }
    if depth > RubyParser.depthMax { throw PatternError("groups are nested too deeply", at: at) }
    var branches = [try sequence()]
    while has("|") {
      at += 1
      branches.append(try sequence())
    }
    return branches.count == 1 ? branches[0] : .alternation(branches)
  }

  private mutating func sequence() throws(PatternError) -> RubyNode {
    var parts: [RubyNode] = []
    while at < text.count, text[at] != "|", text[at] != ")" {
      if extended {
        if isBlank(text[at]) {
          at += 1
          continue
        }
        if text[at] == "#" {
          while at < text.count, text[at] != "\n" { at += 1 }
          continue
        }
      }
      let start = at
      guard var node = try atom() else { continue }
      var quantified = false
      while let quantifier = try quantifier(start, quantified) {
        // A quantifier upon a quantifier repeats the quantified part as a whole.
        node = .repeated(quantified ? .group(.plain, node) : node, quantifier)
        quantified = true
      }
      parts.append(node)
    }
    return parts.isEmpty ? .empty : parts.count == 1 ? parts[0] : .sequence(parts)
  }

  private mutating func quantifier(_ start: Int, _ stacked: Bool) throws(PatternError) -> RubyNode.Quantifier? {
    if extended { while at < text.count, isBlank(text[at]) { at += 1 } }
    guard at < text.count else { return nil }
    var low = 0
    var high: Int?
    var greed = RubyNode.Greed.greedy
    switch text[at] {
    case "*": at += 1
    case "+":
      low = 1
      at += 1
    case "?":
      high = 1
      at += 1
    case "{":
      guard let interval = try interval() else { return nil }
      low = interval.low
      high = interval.high
      // In Ruby `{n}?` is optional, not lazy, and `{n,m}+` is not possessive: the sign is a quantifier of its own.
      if has("?"), !interval.single {
        at += 1
        greed = .lazy
      }
      return RubyNode.Quantifier(min: low, max: high, greed: greed, source: start..<at)
    default: return nil
    }
    if has("?") {
      at += 1
      greed = .lazy
    } else if has("+") {
      at += 1
      greed = .possessive
    }
    return RubyNode.Quantifier(min: low, max: high, greed: greed, source: start..<at)
  }

  /// `{n}`, `{n,}`, `{,m}`, `{n,m}`; anything else is text.
  private mutating func interval() throws(PatternError) -> (low: Int, high: Int?, single: Bool)? {
    var i = at + 1
    func number() -> Int? {
      var value: Int?
      while i < text.count, isDigit(text[i]) {
        value = min((value ?? 0) * 10 + Int(text[i].value - 48), 1_000_000)
        i += 1
      }
      return value
    }
    let low = number()
    var high = low
    var single = true
    if i < text.count, text[i] == "," {
      i += 1
      single = false
      high = number()
      if low == nil, high == nil { return nil }
    } else if low == nil {
      return nil
    }
    guard i < text.count, text[i] == "}" else { return nil }
    if max(low ?? 0, high ?? 0) > RubyParser.repeatMax {
      throw PatternError("more than \(RubyParser.repeatMax) repetitions", at: at)
    }
    at = i + 1
    if let low, let high, low > high { return (high, low, false) }
    return (low ?? 0, high, single)
  }

  /// One part; nil for what is only an instruction (a comment).
  private mutating func atom() throws(PatternError) -> RubyNode? {
    let c = text[at]
    switch c {
    case "(": return try group()
    case "[": return .set(try characterClass())
    case ".":
      at += 1
      return .any(newline: dotAll)
    case "^":
      at += 1
      return .assertion(.lineStart)
    case "$":
      at += 1
      return .assertion(.lineEnd)
    case "\\": return try escape()
    case "*", "+", "?": throw PatternError("there is nothing to repeat before the quantifier", at: at)
    case "{":
      let mark = at
      if try interval() != nil {
        at = mark
        throw PatternError("there is nothing to repeat before the quantifier", at: at)
      }
      at += 1
      return .character(c.value)
    default:
      at += 1
      return .character(c.value)
    }
  }

  private mutating func close(_ start: Int) throws(PatternError) {
    guard has(")") else { throw PatternError("a parenthesis is not closed", at: start) }
    at += 1
  }

  private mutating func group() throws(PatternError) -> RubyNode? {
    let start = at
    let outer = (dotAll, extended)
    defer { (dotAll, extended) = outer }
    at += 1
    guard has("?") else {
      let index = open(nil, start)
      let body = try alternation()
      try close(start)
      return named ? .group(.plain, body) : .group(.capture(index), body)
    }
    at += 1
    guard at < text.count else { throw PatternError("a parenthesis is not closed", at: start) }
    switch text[at] {
    case ":": return try simple(.plain, 1, start)
    case ">": return try simple(.atomic, 1, start)
    case "=": return try simple(.ahead(negated: false), 1, start)
    case "!": return try simple(.ahead(negated: true), 1, start)
    case "#":
      while at < text.count, text[at] != ")" { at += text[at] == "\\" ? 2 : 1 }
      try close(start)
      return nil
    case "<", "'":
      if has("<"), has("=", 1) { return try simple(.behind(negated: false), 2, start) }
      if has("<"), has("!", 1) { return try simple(.behind(negated: true), 2, start) }
      let end = has("<") ? Unicode.Scalar(">") : Unicode.Scalar("'")
      guard let close = text[(at + 1)...].firstIndex(of: end) else {
        throw PatternError("a group name has no end", at: start)
      }
      try checkName(at + 1, close)
      let index = open(string(at + 1, close), start)
      at = close
      return try simple(.capture(index), 1, start)
    case "(": return try conditional(start)
    case "~": throw PatternError("the absence operator (?~…) is not supported", at: start)
    default:
      guard let node = try flags(start) else { return nil }
      return node
    }
  }

  private mutating func simple(_ kind: RubyNode.Group, _ skip: Int, _ start: Int) throws(PatternError) -> RubyNode {
    at += skip
    let body = try alternation()
    try close(start)
    return .group(kind, body)
  }

  private func checkName(_ from: Int, _ to: Int) throws(PatternError) {
    guard from < to else { throw PatternError("a group name is empty", at: from) }
    let first = text[from]
    if first == "-" || isDigit(first) {
      throw PatternError("a group name starts with a letter or an underscore", at: from)
    }
    if fieldNames { return }
    for i in from..<to where !(text[i].value > 127 || isWord(text[i])) {
      throw PatternError("a group name holds only letters, digits and underscores", at: i)
    }
  }

  /// `(?imx-imx)` and `(?imx-imx:…)`.
  private mutating func flags(_ start: Int) throws(PatternError) -> RubyNode? {
    var on = true
    var caseless: Bool?
    var dot = dotAll
    var blanks = extended
    while at < text.count, text[at] != ")", text[at] != ":" {
      switch text[at] {
      case "-": on = false
      case "i": caseless = on
      case "m": dot = on
      case "x": blanks = on
      // These choose what \w and \b mean in Ruby; log expressions keep to one meaning.
      case "a", "u", "d": break
      default: throw PatternError("this group option does not exist", at: at)
      }
      at += 1
    }
    guard at < text.count else { throw PatternError("a parenthesis is not closed", at: start) }
    let scoped = has(":")
    at += 1
    if scoped {
      (dotAll, extended) = (dot, blanks)
      let body = try alternation()
      try close(start)
      return .group(caseless.map { .caseless($0) } ?? .plain, body)
    }
    // Without a colon the options hold to the end of the group, alternatives included.
    let outer = (dotAll, extended)
    (dotAll, extended) = (dot, blanks)
    let body = try alternation()
    (dotAll, extended) = outer
    return .group(caseless.map { .caseless($0) } ?? .plain, body)
  }

  private mutating func conditional(_ start: Int) throws(PatternError) -> RubyNode {
    at += 1
    guard let end = text[at...].firstIndex(of: ")") else {
      throw PatternError("a parenthesis is not closed", at: start)
    }
    var from = at
    var to = end
    if to - from > 2, text[from] == "<" || text[from] == "'" {
      from += 1
      to -= 1
    }
    let groups = try resolve(string(from, to), at)
    at = end + 1
    let body = try alternation()
    try close(start)
    if case .alternation(let branches) = body {
      if branches.count > 2 { throw PatternError("a condition has more than two branches", at: start) }
      return .conditional(groups, branches[0], branches[1])
    }
    return .conditional(groups, body, .empty)
  }

  /// Groups that a name or a number means.
  func resolve(_ name: String, _ offset: Int) throws(PatternError) -> [Int] {
    if isScouting { return [0] }
    if let number = Int(name) {
      if named { throw PatternError("a numbered reference is not possible beside named groups", at: offset) }
      let index = number > 0 ? number - 1 : opened + number
      guard number != 0, groups.indices.contains(index) else {
        throw PatternError("there is no group \(number)", at: offset)
      }
      return [index]
    }
    let found = groups.indices.filter { groups[$0].name == name }
    if found.isEmpty { throw PatternError("there is no group named \(name)", at: offset) }
    return found
  }
}

func isDigit(_ c: Unicode.Scalar) -> Bool { c >= "0" && c <= "9" }
func isBlank(_ c: Unicode.Scalar) -> Bool { c == " " || (9...13).contains(c.value) }
func isLetter(_ c: Unicode.Scalar) -> Bool { (c >= "a" && c <= "z") || (c >= "A" && c <= "Z") }
func isWord(_ c: Unicode.Scalar) -> Bool { isDigit(c) || isLetter(c) || c == "_" }
