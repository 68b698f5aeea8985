//  Ruby's dialect said in PCRE2's. What is written is plain ASCII: every other character is a `\x{…}`, so the twin for
//  ASCII texts differs only in that such a character becomes a byte that no ASCII text holds.
//
//  The meaning of the classes in log expressions: `\w \d \s \h` are ASCII, `[[:alpha:]]`, `\p{…}` and `\b` know
//  Unicode. Newer PCRE2 has an option for that mixture; here the classes are written out as ranges.

/// An expression in Ruby's dialect, read.
public struct RubyPattern {
  /// What differs between the places where operators write expressions.
  public struct Dialect: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// `.` matches a newline.
    public static let dotMatchesNewline = Dialect(rawValue: 1)
    /// Group names are field references (`[a][b]`, `x-y`) or carry colons.
    public static let fieldNames = Dialect(rawValue: 2)
    /// Plain parentheses do not capture, and numbered references are refused, even where no group has a name.
    public static let noPlainCaptures = Dialect(rawValue: 4)

    /// The expressions of grok.
    public static let grok: Dialect = [.dotMatchesNewline, .fieldNames]
    /// Conditions and mutate's gsub.
    public static let condition: Dialect = []
  }

  /// What PCRE2 gets.
  public let source: String
  /// The same for texts without a byte above 127.
  public let asciiSource: String
  /// True if the expression needs Unicode's idea of a letter.
  public let unicodeClasses: Bool
  /// The name of each numbered group, group 1 first; nil for groups without a name.
  public let groupNames: [String?]
  package let tree: RubyNode
  private let numbers: [Int]

  public init(_ source: String, dialect: Dialect) throws(PatternError) {
    var parser = RubyParser(
      source, dotAll: dialect.contains(.dotMatchesNewline), fieldNames: dialect.contains(.fieldNames),
      namedOnly: dialect.contains(.noPlainCaptures))
    tree = try parser.parse()
    let named = parser.named
    var numbers = [Int](repeating: 0, count: parser.groups.count)
    var names: [String?] = []
    for (index, group) in parser.groups.enumerated() where !named || group.name != nil {
      names.append(group.name)
      numbers[index] = names.count
    }
    if names.count > 65_000 { throw PatternError("too many groups", at: 0) }
    groupNames = names
    self.numbers = numbers
    var full = RubyWriter(numbers: numbers, ascii: false)
    full.write(tree)
    self.source = full.text
    unicodeClasses = full.unicode
    var twin = RubyWriter(numbers: numbers, ascii: true)
    twin.write(tree)
    asciiSource = twin.text
  }

  /// The same expression, smaller and a little slower: parts that occur more than once are written once, at the end, and
  /// called. PCRE2 compiles at most 64 KiB, and a dozen `%{IPORHOST}` reach that.
  func compact(ascii: Bool) -> String {
    var writer = RubyWriter(numbers: numbers, ascii: ascii)
    writer.sharesFrom = groupNames.count + 1
    writer.write(tree)
    return writer.whole
  }

  /// PCRE2's spelling of `source`.
  public static func translate(_ source: String, dialect: Dialect = .condition) throws(PatternError) -> String {
    try RubyPattern(source, dialect: dialect).source
  }
}

extension RubyPattern {
  /// Compiles the expression of a condition.
  public static func compileCondition(_ source: String) throws(PatternError) -> Pattern {
    try Pattern(ruby: source, dialect: .condition)
  }

  /// Compiles an expression of mutate's gsub.
  public static func compileSubstitution(_ source: String) throws(PatternError) -> Pattern {
    try Pattern(ruby: source, dialect: .condition)
  }
}

extension Pattern {
  /// Compiles `ruby`, an expression in Ruby's dialect.
  public convenience init(ruby: String, dialect: RubyPattern.Dialect, twin: Bool = true) throws(PatternError) {
    let read = try RubyPattern(ruby, dialect: dialect)
    try self.init(read, twin: twin)
  }

  /// Compiles what was read.
  ///
  /// - Parameter twin: False saves the second compilation, for expressions that are many and rarely run.
  public convenience init(_ read: RubyPattern, twin: Bool = true) throws(PatternError) {
    var options: Pattern.Options = [.lineAnchors, .utf]
    if read.unicodeClasses { options.insert(.unicodeClasses) }
    var groups: [String: [Int]] = [:]
    for (i, name) in read.groupNames.enumerated() { if let name { groups[name, default: []].append(i + 1) } }
    let literal = read.tree.requiredLiteral
    // An error that only PCRE2 finds (a look-behind without a fixed length) is placed at the expression's start, since
    // its offset is one of the translated text.
    do throws(PatternError) {
      try self.init(
        read.source, ascii: twin ? read.asciiSource : nil, options: options, groups: groups, literal: literal,
        jit: true,
        locate: { _ in 0 })
    } catch {
      guard error.isTooLarge else { throw error }
      try self.init(
        read.compact(ascii: false), ascii: twin ? read.compact(ascii: true) : nil, options: options, groups: groups,
        literal: literal, jit: true, locate: { _ in 0 })
    }
  }
}

struct RubyWriter {
  /// PCRE2's number of each of the parser's groups; 0 for those that do not capture.
  let numbers: [Int]
  let ascii: Bool
  var text = ""
  var unicode = false
  /// The number of the first shared part; 0 shares none.
  var sharesFrom = 0
  private var shared: [String: Int] = [:]
  private var sharedParts: [String] = []
  private var capturesWritten = 0
  private var caselessDepth = 0
  /// Shorter parts are cheaper where they stand.
  private static let sharedLengthMin = 120

  init(numbers: [Int], ascii: Bool) {
    self.numbers = numbers
    self.ascii = ascii
  }

  mutating func write(_ node: RubyNode) {
    switch node {
    case .empty: break
    case .character(let c): character(c)
    case .any(let newline): text += newline ? "(?s:.)" : "[^\\n]"
    case .set(let set): write(set)
    case .assertion(let assertion): write(assertion)
    case .sequence(let parts):
      for part in parts {
        // An alternation in a sequence only arises from options in mid-group.
        if case .alternation = part { grouped("(?:", part) } else { write(part) }
      }
    case .alternation(let branches):
      for (i, branch) in branches.enumerated() {
        if i > 0 { text += "|" }
        write(branch)
      }
    case .group(let kind, let body): write(kind, body)
    case .repeated(let body, let quantifier):
      switch body {
      case .character, .any, .set, .group, .backreference, .call, .verbatim: atomic(body)
      default: grouped("(?:", body)
      }
      write(quantifier)
    case .backreference(let groups):
      if groups.count == 1 {
        text += "\\g{\(numbers[groups[0]])}"
      } else {
        // Ruby tries the last group of the name first.
        text += "(?:" + groups.reversed().map { "\\g{\(numbers[$0])}" }.joined(separator: "|") + ")"
      }
    case .call(let group): text += group.map { "(?\(numbers[$0]))" } ?? "(?R)"
    case .conditional(let groups, let yes, let no):
      text += "(?(\(numbers[groups[0]]))"
      branch(yes)
      text += "|"
      branch(no)
      text += ")"
    case .verbatim(let words): text += words
    }
  }

  private mutating func branch(_ node: RubyNode) {
    if case .alternation = node { grouped("(?:", node) } else { write(node) }
  }

  /// Writes something that a quantifier may follow.
  private mutating func atomic(_ node: RubyNode) {
    if case .group(.plain, let body) = node {
      switch body {
      case .character, .any, .set: write(body)
      default:
        if sharesFrom == 0 { return grouped("(?:", body) }
        grouped("(?:", node)
      }
    } else if case .set(let set) = node, !set.isSimple {
      grouped("(?:", node)
    } else {
      write(node)
    }
  }

  private mutating func grouped(_ open: String, _ body: RubyNode) {
    text += open
    write(body)
    text += ")"
  }

  private mutating func write(_ kind: RubyNode.Group, _ body: RubyNode) {
    switch kind {
    case .plain:
      if sharesFrom > 0 { return share(body) }
      // Brackets around a sequence say nothing, and PCRE2 runs without them a little faster.
      if case .alternation = body { grouped("(?:", body) } else { write(body) }
    case .capture(let index):
      if numbers[index] > 0 { capturesWritten += 1 }
      grouped(numbers[index] > 0 ? "(" : "(?:", body)
    case .atomic: grouped("(?>", body)
    case .ahead(let negated): grouped(negated ? "(?!" : "(?=", body)
    case .behind(let negated): grouped(negated ? "(?<!" : "(?<=", body)
    case .caseless(let on):
      caselessDepth += 1
      grouped(on ? "(?i:" : "(?-i:", body)
      caselessDepth -= 1
    }
  }

  /// Writes a call of `body` instead of `body`, where that is possible and pays.
  private mutating func share(_ body: RubyNode) {
    let before = text
    let captures = capturesWritten
    text = ""
    write(body)
    let part = text
    text = before
    if capturesWritten > captures || caselessDepth > 0 || part.utf8.count < RubyWriter.sharedLengthMin {
      if case .alternation = body { text += "(?:\(part))" } else { text += part }
      return
    }
    let number = shared[part] ?? sharesFrom + sharedParts.count
    if number == sharesFrom + sharedParts.count {
      shared[part] = number
      sharedParts.append(part)
    }
    text += "(?\(number))"
  }

  /// The text with the shared parts behind it.
  var whole: String {
    if sharedParts.isEmpty { return text }
    return "(?:\(text))(?(DEFINE)" + sharedParts.map { "(\($0))" }.joined() + ")"
  }

  private mutating func write(_ quantifier: RubyNode.Quantifier) {
    switch (quantifier.min, quantifier.max) {
    case (0, nil): text += "*"
    case (1, nil): text += "+"
    case (0, 1): text += "?"
    case (let low, nil): text += "{\(low),}"
    case (let low, let high?): text += low == high ? "{\(low)}" : "{\(low),\(high)}"
    }
    switch quantifier.greed {
    case .greedy: break
    case .lazy: text += "?"
    case .possessive: text += "+"
    }
  }

  private mutating func write(_ assertion: RubyNode.Assertion) {
    switch assertion {
    case .lineStart: text += "^"
    case .lineEnd: text += "$"
    case .textStart: text += "\\A"
    case .textEnd: text += "\\z"
    case .textEndOrLastNewline: text += "\\Z"
    case .wordBoundary:
      text += "\\b"
      unicode = true
    case .notWordBoundary:
      text += "\\B"
      unicode = true
    case .searchStart: text += "\\G"
    }
  }

  private mutating func character(_ c: UInt32) {
    switch c {
    case 0x30...0x39, 0x41...0x5a, 0x5f, 0x61...0x7a, 0x20, 0x22, 0x25, 0x26, 0x27, 0x2c, 0x2f, 0x3a, 0x3b, 0x3c,
      0x3d, 0x3e, 0x40, 0x60, 0x7e:
      text.unicodeScalars.append(Unicode.Scalar(UInt8(truncatingIfNeeded: c)))
    case 0x21...0x7e:
      text += "\\"
      text.unicodeScalars.append(Unicode.Scalar(UInt8(truncatingIfNeeded: c)))
    default:
      // No ASCII text holds byte 255, so it stands for every other character in the twin.
      text += c > 127 && ascii ? "\\xff" : "\\x{\(String(c, radix: 16))}"
    }
  }

  // MARK: Classes

  private mutating func write(_ set: RubySet) {
    if set.isSimple {
      text += set.negated ? "[^" : "["
      for item in set.operands[0] { write(item) }
      // Nothing is in a class without items, and PCRE2 has no such class.
      if set.operands[0].isEmpty {
        text = String(text.dropLast(set.negated ? 2 : 1)) + (set.negated ? "(?s:.)" : "(?!)")
      }
      text += set.operands[0].isEmpty ? "" : "]"
      return
    }
    if set.negated {
      text += "(?!"
      positive(set)
      text += ")(?s:.)"
    } else {
      positive(set)
    }
  }

  /// One character that is in all operands: look-aheads, then the last operand takes it.
  private mutating func positive(_ set: RubySet) {
    for (i, operand) in set.operands.enumerated() {
      text += i == set.operands.count - 1 ? "(?:" : "(?="
      union(operand)
      text += ")"
    }
  }

  private mutating func union(_ items: [RubySet.Item]) {
    var plain: [RubySet.Item] = []
    var nested: [RubySet] = []
    for item in items { if case .nested(let set) = item { nested.append(set) } else { plain.append(item) } }
    var first = true
    if !plain.isEmpty || nested.isEmpty {
      write(RubySet(negated: false, operands: [plain]))
      first = false
    }
    for set in nested {
      if !first { text += "|" }
      write(set)
      first = false
    }
  }

  private mutating func write(_ item: RubySet.Item) {
    switch item {
    case .range(let low, let high):
      character(inClass: low)
      if high > low {
        text += "-"
        character(inClass: high)
      }
    case .shorthand(let shorthand, let negated):
      for (low, high) in negated ? shorthand.complement : shorthand.ranges { write(RubySet.Item.range(low, high)) }
    case .posix(let name, let negated):
      text += "[:\(negated ? "^" : "")\(name):]"
      unicode = true
    case .property(let name, let negated): text += "\\\(negated ? "P" : "p"){\(name)}"
    case .nested: break
    }
  }

  private mutating func character(inClass c: UInt32) {
    switch c {
    case 0x30...0x39, 0x41...0x5a, 0x5f, 0x61...0x7a:
      text.unicodeScalars.append(Unicode.Scalar(UInt8(truncatingIfNeeded: c)))
    case 0x20...0x7e:
      text += "\\"
      text.unicodeScalars.append(Unicode.Scalar(UInt8(truncatingIfNeeded: c)))
    default: text += c > 127 && ascii ? "\\xff" : "\\x{\(String(c, radix: 16))}"
    }
  }
}

extension RubySet {
  /// One union without classes inside.
  var isSimple: Bool {
    operands.count == 1
      && operands[0].allSatisfy {
        if case .nested = $0 { return false }
        return true
      }
  }
}
