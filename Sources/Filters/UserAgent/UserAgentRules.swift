//  The rule file of the ua-parser project: three ordered lists of expressions with replacement texts. The file has one
//  simple shape (sections, and maps of quoted scalars), so a small reader of that shape serves, with places in errors;
//  the whole file of 200 KB is read in a millisecond.
//
//  Trying a thousand expressions one after another takes a quarter of a millisecond. So each is asked for the literals
//  that it requires, one automaton over all of them names the rules that may match a text, and only those are run, in
//  their order. An expression is compiled when it is first a candidate: of the thousand, traffic needs some hundreds.

internal import Diagnostics
internal import Glibc
internal import Patterns
internal import Synchronization

/// Why a rule file cannot be used.
public struct UserAgentRulesError: Error, CustomStringConvertible {
  public var path: String
  /// From 1; 0 where the file as a whole is at fault.
  public var line: Int
  public var reason: String
  public var description: String {
    "the user-agent rules '\(path)'\(line > 0 ? ", line \(line)," : "") cannot be used: \(reason)"
  }
}

/// A rule file, read and ready. Shared by all workers; expressions are added as they are first needed.
public final class UserAgentRules: @unchecked Sendable {  // unchecked: `compiled` is atomic, all else is never written
  /// Debian's package `uap-core` puts it here.
  public static let systemPath = "/usr/share/uap-core/regexes.yaml"
  static let fileBytesMax = 8 << 20
  static let rulesMax = 20_000

  enum Section: Int, CaseIterable { case browser, system, device }

  struct Rule {
    var section: Section
    var line: Int
    var expression = ""
    var ignoresCase = false
    /// `family_replacement`, `os_replacement` or `device_replacement`.
    var name: ReplacementText?
    /// Of versions 1 to 4; of a device, brand and model.
    var parts: (ReplacementText?, ReplacementText?, ReplacementText?, ReplacementText?) = (nil, nil, nil, nil)
  }

  public let path: String
  let rules: [Rule]
  /// The rules of each section.
  let ranges: [Range<Int>]
  let automaton: LiteralAutomaton?
  /// Bits of the rules that no literal can rule out.
  let always: [UInt64]

  // Two slots a rule: for texts of bytes, and for texts with characters beyond ASCII.
  private let compiled: UnsafeMutablePointer<AtomicLazyReference<CompiledRule>>

  /// Reads and prepares `path`.
  public init(path: String) throws(UserAgentRulesError) {
    self.path = path
    let text = try UserAgentRules.contents(of: path)
    var reader = RuleFileReader(path: path, text: text)
    let rules = try reader.read()
    self.rules = rules
    ranges = Section.allCases.map { section in
      let first = rules.firstIndex { $0.section == section } ?? 0
      return first..<first + rules.count { $0.section == section }
    }
    let ordinary = OrdinaryText(UserAgentRules.ordinaryTexts)
    var literals: [(bytes: [UInt8], value: Int)] = []
    var always = [UInt64](repeating: 0, count: (rules.count + 63) / 64)
    for (index, rule) in rules.enumerated() {
      if let required = RequiredLiterals.of(Array(rule.expression.utf8), cost: { ordinary.likelihood($0) }) {
        for literal in required { literals.append((literal, index)) }
      } else {
        always[index >> 6] |= 1 << UInt64(index & 63)
      }
    }
    automaton = LiteralAutomaton(literals, foldsCase: true)
    if automaton == nil { for index in rules.indices { always[index >> 6] |= 1 << UInt64(index & 63) } }
    self.always = always
    compiled = .allocate(capacity: max(rules.count * 2, 1))
    for slot in 0..<rules.count * 2 { (compiled + slot).initialize(to: AtomicLazyReference()) }
  }

  deinit {
    compiled.deinitialize(count: rules.count * 2)
    compiled.deallocate()
  }

  /// The expression of rule `index`; nil where it was refused, which is logged once.
  func pattern(_ index: Int, isASCII: Bool) -> Pattern? {
    let slot = compiled + (index * 2 + (isASCII ? 0 : 1))
    if let present = slot.pointee.load() { return present.pattern }
    let rule = rules[index]
    var options: Pattern.Options = isASCII ? [] : [.utf]
    if rule.ignoresCase { options.insert(.ignoreCase) }
    var pattern: Pattern?
    do {
      pattern = try Pattern(rule.expression, options: options)
    } catch {
      Log.warn(
        "useragent.rule-refused", "A user-agent rule has an expression that cannot be used; the rule is skipped.",
        ["path": .text(path), "line": .number(rule.line), "reason": Log.foreign(error.description)])
    }
    return slot.pointee.storeIfNil(CompiledRule(pattern)).pattern
  }

  private static func contents(of path: String) throws(UserAgentRulesError) -> [UInt8] {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else {
      throw UserAgentRulesError(path: path, line: 0, reason: SystemError(errno, call: "open").reason)
    }
    defer { close(fd) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 18)
    while true {
      let count = read(fd, &chunk, chunk.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else {
        throw UserAgentRulesError(path: path, line: 0, reason: SystemError(errno, call: "read").reason)
      }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= fileBytesMax else {
        throw UserAgentRulesError(path: path, line: 0, reason: "it is larger than \(fileBytesMax >> 20) MiB")
      }
    }
  }

  /// Shapes of ordinary user agents: words that stand in most of them tell rules apart badly.
  private static let ordinaryTexts = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 "
      + "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; U; Android 4.0.3; de-de; GT-I9100 Build/IML74K) AppleWebKit/534.30 (KHTML, like Gecko) "
      + "Version/4.0 Mobile Safari/534.30",
    "Mozilla/5.0 (Linux; Android 13; SM-S918B Build/TP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
      + "Chrome/115.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:124.0) Gecko/20100101 Firefox/124.0",
    "Mozilla/5.0 (compatible; bot/2.1; +http://www.example.com/bot.html)",
    "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; .NET CLR 2.0.50727)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 "
      + "Edg/124.0.2478.51",
    "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
  ]
}

/// What became of one rule's expression.
final class CompiledRule: Sendable {
  let pattern: Pattern?
  init(_ pattern: Pattern?) { self.pattern = pattern }
}

/// A replacement text, cut at its `$1` … `$9`.
struct ReplacementText {
  /// Literal bytes and the number of the group behind them; 0 for none.
  var pieces: [(literal: [UInt8], group: Int)] = []

  init(_ text: [UInt8]) {
    var literal: [UInt8] = []
    var i = 0
    while i < text.count {
      if text[i] == UInt8(ascii: "$"), i + 1 < text.count, text[i + 1] &- 49 < 9 {
        pieces.append((literal, Int(text[i + 1]) - 48))
        literal = []
        i += 2
      } else {
        literal.append(text[i])
        i += 1
      }
    }
    if !literal.isEmpty { pieces.append((literal, 0)) }
  }
}

/// Reads the rule file's one shape: sections at the margin, list items that are maps of scalars, comments.
private struct RuleFileReader {
  let path: String
  let text: [UInt8]
  var line = 0
  private var section: UserAgentRules.Section?
  private var rules: [[UserAgentRules.Rule]] = [[], [], []]
  private var isSkipping = false

  init(path: String, text: [UInt8]) {
    self.path = path
    self.text = text
  }

  mutating func read() throws(UserAgentRulesError) -> [UserAgentRules.Rule] {
    var start = text.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    while start < text.count {
      line += 1
      let end = text[start...].firstIndex(of: 10) ?? text.count
      try readLine(text[start..<end])
      start = end + 1
    }
    for list in rules { if let last = list.last { try check(last) } }
    let all = Array(rules.joined())
    guard !all.isEmpty else { throw fault("it holds no rules", at: 0) }
    guard all.count <= UserAgentRules.rulesMax else {
      throw fault("it holds more than \(UserAgentRules.rulesMax) rules")
    }
    return all
  }

  private func fault(_ reason: String, at line: Int? = nil) -> UserAgentRulesError {
    UserAgentRulesError(path: path, line: line ?? self.line, reason: reason)
  }

  private func check(_ rule: UserAgentRules.Rule) throws(UserAgentRulesError) {
    if rule.expression.isEmpty { throw fault("a rule has no 'regex'", at: rule.line) }
  }

  private mutating func readLine(_ bytes: ArraySlice<UInt8>) throws(UserAgentRulesError) {
    var rest = bytes.drop { $0 == 32 }
    while let last = rest.last, last == 32 || last == 13 || last == 9 { rest.removeLast() }
    guard let first = rest.first, first != UInt8(ascii: "#") else { return }
    if rest.elementsEqual("---".utf8) { return }
    guard let colon = rest.firstIndex(of: UInt8(ascii: ":")) else { throw fault("this line is no 'key: value'") }
    if rest.startIndex == bytes.startIndex, first != UInt8(ascii: "-") {
      switch String(decoding: rest[..<colon], as: UTF8.self) {
      case "user_agent_parsers": section = .browser
      case "os_parsers": section = .system
      case "device_parsers": section = .device
      default: section = nil  // a section of later versions
      }
      isSkipping = section == nil
      return
    }
    if isSkipping { return }
    guard let section else { throw fault("a rule stands before the first section") }
    if first == UInt8(ascii: "-") {
      if let last = rules[section.rawValue].last { try check(last) }
      rules[section.rawValue].append(UserAgentRules.Rule(section: section, line: line))
      rest = rest.dropFirst().drop { $0 == 32 }
      if rest.isEmpty { return }
    }
    guard !rules[section.rawValue].isEmpty else { throw fault("a key stands before the section's first rule") }
    let key = String(decoding: rest[rest.startIndex..<colon], as: UTF8.self)
    let value = try scalar(rest[(colon + 1)...].drop { $0 == 32 })
    let last = rules[section.rawValue].count - 1
    guard RuleFileReader.take(key, value, &rules[section.rawValue][last]) else {
      throw fault("'regex_flag' knows 'i' alone")
    }
  }

  // Static, because a copy of the reader beside the rule would make every change copy the whole list.
  private static func take(_ key: String, _ value: [UInt8], _ rule: inout UserAgentRules.Rule) -> Bool {
    switch key {
    case "regex": rule.expression = String(decoding: value, as: UTF8.self)
    case "regex_flag":
      guard value == [UInt8(ascii: "i")] else { return false }
      rule.ignoresCase = true
    case "family_replacement", "os_replacement", "device_replacement": rule.name = ReplacementText(value)
    case "v1_replacement", "os_v1_replacement", "brand_replacement": rule.parts.0 = ReplacementText(value)
    case "v2_replacement", "os_v2_replacement", "model_replacement": rule.parts.1 = ReplacementText(value)
    case "v3_replacement", "os_v3_replacement": rule.parts.2 = ReplacementText(value)
    case "v4_replacement", "os_v4_replacement": rule.parts.3 = ReplacementText(value)
    default: break  // a key of later versions
    }
    return true
  }

  /// A quoted or plain scalar; what follows must be a comment.
  private func scalar(_ bytes: ArraySlice<UInt8>) throws(UserAgentRulesError) -> [UInt8] {
    guard let quote = bytes.first, quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"") else {
      var plain = bytes
      if let comment = bytes.indices.first(where: {
        bytes[$0] == UInt8(ascii: "#") && ($0 == bytes.startIndex || bytes[$0 - 1] == 32)
      }) {
        plain = bytes[..<comment]
        while plain.last == 32 { plain.removeLast() }
      }
      if plain.first == UInt8(ascii: "|") || plain.first == UInt8(ascii: ">") || plain.first == UInt8(ascii: "{") {
        throw fault("only plain and quoted values are read")
      }
      return Array(plain)
    }
    var value: [UInt8] = []
    var i = bytes.startIndex + 1
    while i < bytes.endIndex {
      let byte = bytes[i]
      let next = i + 1 < bytes.endIndex ? bytes[i + 1] : 0
      if byte == quote {
        if quote == UInt8(ascii: "'"), next == quote {
          value.append(quote)
          i += 2
          continue
        }
        let rest = bytes[(i + 1)...].drop { $0 == 32 }
        guard rest.isEmpty || rest.first == UInt8(ascii: "#") else {
          throw fault("text stands behind the closing quote")
        }
        return value
      }
      if byte == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
        switch next {
        case UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "/"): value.append(next)
        case UInt8(ascii: "t"): value.append(9)
        case UInt8(ascii: "n"): value.append(10)
        default: throw fault("an escape in double quotes is not known")
        }
        i += 2
        continue
      }
      value.append(byte)
      i += 1
    }
    throw fault("a quote is not closed")
  }
}
