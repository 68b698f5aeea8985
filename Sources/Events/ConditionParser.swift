//  Logstash's condition language to a tree. Precedence: comparison and negation, then `and`, then `or`; `xor` and
//  `nand` stand alone at their level. One deviation: a list of one element is a list, where Logstash reads a field.

internal import Diagnostics
internal import Patterns

/// Why a text is no condition, and where.
public struct ConditionError: Error, Equatable, Sendable, CustomStringConvertible {
  public let text: String
  /// Characters from the start of the condition.
  public let offset: Int
  public var description: String { "\(text) (at character \(offset + 1))" }
}

/// What stands beside an operator.
enum Operand {
  case field(FieldReference)
  case text([UInt8])
  case integer(Int64)
  case double(Double)
  case list([Constant])

  enum Constant: Equatable {
    case text([UInt8])
    case integer(Int64)
    case double(Double)
  }

  var constant: Constant? {
    switch self {
    case .text(let bytes): .text(bytes)
    case .integer(let value): .integer(value)
    case .double(let value): .double(value)
    default: nil
    }
  }
}

enum Comparison: String { case equal = "==", notEqual = "!=", less = "<", greater = ">", atMost = "<=", atLeast = ">=" }

indirect enum Expression {
  case and(Expression, Expression)
  case or(Expression, Expression)
  case xor(Expression, Expression)
  case nand(Expression, Expression)
  case not(Expression)
  case truth(Operand)
  case compare(Operand, Comparison, Operand)
  case match(Operand, Pattern, negated: Bool)
  case member(Operand, of: Operand, negated: Bool)
}

struct ConditionParser {
  private let source: [UInt8]
  private var i = 0
  private var depth = 0
  private static let depthLimit = 200

  /// Replaces variables in constant texts.
  private let replace: (String) -> String

  static func parse(_ text: String, replacing: @escaping (String) -> String) throws(ConditionError) -> Expression {
    var parser = ConditionParser(Array(text.utf8), replacing)
    parser.skipSpace()
    let expression = try parser.expression()
    parser.skipSpace()
    guard parser.i == parser.source.count else { throw parser.fail("expected 'and', 'or' or the end of the condition") }
    return expression
  }

  private init(_ source: [UInt8], _ replace: @escaping (String) -> String) {
    self.source = source
    self.replace = replace
  }

  private func fail(_ text: String, at place: Int? = nil) -> ConditionError {
    let end = min(place ?? i, source.count)
    return ConditionError(text: text, offset: String(decoding: source[..<end], as: UTF8.self).count)
  }

  private var byte: UInt8? { i < source.count ? source[i] : nil }

  private mutating func skipSpace() {
    while let c = byte {
      if c == 32 || c == 9 || c == 10 || c == 13 {
        i += 1
      } else if c == 35 {
        while let d = byte, d != 10, d != 13 { i += 1; _ = d }
      } else {
        return
      }
    }
  }

  private func looking(at text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard i + count <= source.count else { return false }
    return text.withUTF8Buffer { $0.elementsEqual(source[i..<(i + count)]) }
  }

  private mutating func take(_ text: StaticString) -> Bool {
    guard looking(at: text) else { return false }
    i += text.utf8CodeUnitCount
    return true
  }

  // MARK: Boolean operators

  private mutating func expression() throws(ConditionError) -> Expression {
    depth += 1
    defer { depth -= 1 }
    guard depth < ConditionParser.depthLimit else { throw fail("nested too deeply") }
    let first = try term()
    var alternatives: [[Expression]] = [[first]]
    var lone: String?
    var count = 0
    while true {
      let before = i
      skipSpace()
      let place = i
      let isOr = take("or")
      let isAnd = !isOr && take("and")
      let isXor = !isOr && !isAnd && take("xor")
      let isNand = !isOr && !isAnd && !isXor && take("nand")
      guard isOr || isAnd || isXor || isNand else {
        i = before
        break
      }
      count += 1
      if isXor || isNand { lone = isXor ? "xor" : "nand" }
      if let lone, count > 1 {
        throw fail("'\(lone)' stands beside another operator; put parentheses around one of them", at: place)
      }
      skipSpace()
      let next = try term()
      if isXor { return try alone(.xor(first, next), "xor") }
      if isNand { return try alone(.nand(first, next), "nand") }
      if isOr { alternatives.append([next]) } else { alternatives[alternatives.count - 1].append(next) }
    }
    let parts = alternatives.map { group in group.dropFirst().reduce(group[0]) { .and($0, $1) } }
    return parts.dropFirst().reduce(parts[0]) { .or($0, $1) }
  }

  /// `xor` and `nand` have no place in the order of precedence, so nothing may follow them at their level.
  private mutating func alone(_ expression: Expression, _ name: String) throws(ConditionError) -> Expression {
    let before = i
    skipSpace()
    if looking(at: "or") || looking(at: "and") || looking(at: "xor") || looking(at: "nand") {
      throw fail("'\(name)' stands beside another operator; put parentheses around one of them")
    }
    i = before
    return expression
  }

  // MARK: Terms

  private mutating func term() throws(ConditionError) -> Expression {
    guard let c = byte else { throw fail("the condition ends too early") }
    if c == 33 {
      i += 1
      skipSpace()
      if byte == 40 {
        let inner = try group()
        if case .truth(let operand) = inner, operand.constant != nil { throw fail("a constant is not negated") }
        return .not(inner)
      }
      guard byte == 91 else { throw fail("'!' stands before a field or a parenthesis, as in ![field] or !(…)") }
      let operand = try self.operand()
      let before = i
      skipSpace()
      if startsOperator { throw fail("'!' before a comparison needs parentheses: !(…)") }
      i = before
      return .not(.truth(operand))
    }
    if c == 40 { return try group() }
    let left = try operand()
    let before = i
    skipSpace()
    let place = i
    if take("=~") { return try match(left, negated: false, place) }
    if take("!~") { return try match(left, negated: true, place) }
    for (text, comparison) in ConditionParser.comparisons where take(text) {
      skipSpace()
      let right = try operand()
      try check(left, comparison, right, place)
      return .compare(left, comparison, right)
    }
    if take("in") { return try member(left, negated: false) }
    if looking(at: "not") {
      i += 3
      guard byte == 32 else { throw fail("write 'not in'", at: place) }
      while byte == 32 { i += 1 }
      guard take("in") else { throw fail("write 'not in'", at: place) }
      return try member(left, negated: true)
    }
    i = before
    return .truth(left)
  }

  private static let comparisons: [(StaticString, Comparison)] = [
    ("==", .equal), ("!=", .notEqual), ("<=", .atMost), (">=", .atLeast), ("<", .less), (">", .greater),
  ]

  private var startsOperator: Bool {
    ["==", "!=", "<", ">", "=~", "!~", "in", "not"].contains { name in
      i + name.utf8.count <= source.count && name.utf8.elementsEqual(source[i..<(i + name.utf8.count)])
    }
  }

  private mutating func group() throws(ConditionError) -> Expression {
    let open = i
    i += 1
    skipSpace()
    let inner = try expression()
    skipSpace()
    guard byte == 41 else {
      throw byte == nil ? fail("this parenthesis is not closed", at: open) : fail("expected ')'")
    }
    i += 1
    return inner
  }

  private mutating func match(_ left: Operand, negated: Bool, _ place: Int) throws(ConditionError) -> Expression {
    skipSpace()
    let start = i
    let pattern: [UInt8]
    if byte == 47 {
      i += 1
      let first = i
      while let c = byte, c != 47 { i += c == 92 && i + 1 < source.count && source[i + 1] == 47 ? 2 : 1 }
      guard byte == 47 else { throw fail("this expression has no closing '/'", at: start) }
      pattern = Array(source[first..<i])
      i += 1
    } else {
      guard byte == 34 || byte == 39, case .text(let bytes) = try operand() else {
        throw fail("an expression stands between slashes: =~ /…/")
      }
      pattern = bytes
    }
    do {
      let compiled = try RubyPattern.compileCondition(String(decoding: pattern, as: UTF8.self))
      return .match(left, compiled, negated: negated)
    } catch {
      throw fail("broken expression: \(error)", at: start + 1)
    }
  }

  private mutating func member(_ left: Operand, negated: Bool) throws(ConditionError) -> Expression {
    skipSpace()
    guard byte != nil else { throw fail("the condition ends too early") }
    let right = try operand(listAllowed: true)
    switch right {
    case .integer, .double: throw fail("a number holds nothing; write a list, a text or a field behind 'in'")
    default: return .member(left, of: right, negated: negated)
    }
  }

  /// Orders of constants that could never be decided are refused at start.
  private func check(_ left: Operand, _ comparison: Comparison, _ right: Operand, _ place: Int) throws(ConditionError) {
    guard comparison != .equal, comparison != .notEqual, let a = left.constant, let b = right.constant else { return }
    switch (a, b) {
    case (.text, .text), (.integer, .integer), (.double, .double): return
    default: throw fail("constants of different types have no order", at: place)
    }
  }

  // MARK: Operands

  private mutating func operand(listAllowed: Bool = false) throws(ConditionError) -> Operand {
    guard let c = byte else { throw fail("the condition ends too early") }
    switch c {
    case 34, 39: return .text(try text())
    case 45, 48...57: return try number()
    case 91: return try bracket(listAllowed: listAllowed)
    case 47: throw fail("an expression stands behind =~ or !~ alone")
    default:
      let start = i
      while let d = byte, d > 32, d != 41, d != 40 { i += 1; _ = d }
      let word = String(decoding: source[start..<i], as: UTF8.self)
      let hint =
        word == "true" || word == "false"
        ? "test a boolean by the field alone, as in [field] or ![field]"
        : "a field stands in brackets, a text in quotes"
      throw fail("'\(word)' is no operand: \(hint)", at: start)
    }
  }

  private mutating func text() throws(ConditionError) -> [UInt8] {
    let start = i
    let quote = source[i]
    i += 1
    // A backslash before the quote keeps the text open, even a doubled one, and stays in the value.
    while let c = byte, c != quote { i += c == 92 && i + 1 < source.count && source[i + 1] == quote ? 2 : 1 }
    guard byte == quote else { throw fail("this text has no closing quote", at: start) }
    defer { i += 1 }
    let bytes = Array(source[(start + 1)..<i])
    return bytes.contains(36) ? Array(replace(String(decoding: bytes, as: UTF8.self)).utf8) : bytes
  }

  private mutating func number() throws(ConditionError) -> Operand {
    let start = i
    if byte == 45 { i += 1 }
    let digits = i
    while let c = byte, c &- 48 < 10 { i += 1 }
    guard i > digits else { throw fail("expected a number behind '-'", at: start) }
    var isInteger = true
    if byte == 46 {
      isInteger = false
      i += 1
      let fraction = i
      while let c = byte, c &- 48 < 10 { i += 1 }
      guard i > fraction else { throw fail("a number needs digits behind its point", at: start) }
    }
    if let c = byte, c == 95 || c == 46 || (c | 32) &- 97 < 26 {
      // `1e3`, `0x10`, `1_000`; but `1and` is two tokens.
      let rest = source[i...].prefix(5)
      let joined = ["and", "or", "xor", "nand", "in", "not"].contains { rest.starts(with: $0.utf8) }
      if !joined { throw fail("broken number", at: start) }
    }
    let text = String(decoding: source[start..<i], as: UTF8.self)
    if isInteger {
      guard let value = Int64(text) else { throw fail("this integer is beyond 64 bits", at: start) }
      return .integer(value)
    }
    return .double(Double(text) ?? 0)
  }

  /// A field reference or a list of constants: a list begins with a quote, a digit or a minus sign, and holds commas or
  /// stands where a list is expected.
  private mutating func bracket(listAllowed: Bool) throws(ConditionError) -> Operand {
    let start = i
    if let list = try list(listAllowed) { return .list(list) }
    i = start
    while byte == 91 {
      i += 1
      let name = i
      while let c = byte, c != 93, c != 91, c != 44 { i += 1; _ = c }
      guard byte == 93 else {
        throw byte == nil
          ? fail("this bracket is not closed", at: start)
          : fail("no field reference, and no list of constants", at: start)
      }
      guard i > name else { throw fail("an empty name in a field reference", at: start) }
      i += 1
    }
    do {
      return .field(try FieldReference(String(decoding: source[start..<i], as: UTF8.self)))
    } catch {
      throw fail("\(error)", at: start)
    }
  }

  private mutating func list(_ listAllowed: Bool) throws(ConditionError) -> [Operand.Constant]? {
    i += 1
    skipSpace()
    if byte == 93 {
      i += 1
      return byte == 91 ? nil : []
    }
    var elements: [Operand.Constant] = []
    while true {
      skipSpace()
      guard let c = byte else { return nil }
      switch c {
      case 34, 39:
        guard let bytes = try? text() else { return nil }
        elements.append(.text(bytes))
      case 45, 48...57:
        guard let operand = try? number(), let constant = operand.constant else { return nil }
        elements.append(constant)
      default: return nil
      }
      skipSpace()
      if byte == 44 {
        i += 1
        continue
      }
      guard byte == 93 else { return nil }
      i += 1
      break
    }
    if byte == 91 { return nil }
    // A list of one text is a list where one can stand; `[1]` names a field, as upstream.
    if elements.count == 1 { if case .text = elements[0], listAllowed { return elements } else { return nil } }
    return elements
  }
}
