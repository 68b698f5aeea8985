//  Conditions: compiled once, evaluated per event without look-ups by name.
//
//  Odd results are Logstash's: equality never converts and never fails, order between what has no order is an error
//  that takes the event out of the pipeline, membership compares text forms where the list is constant.

internal import Diagnostics
internal import Glibc
public import Patterns

/// A condition that has no answer for an event: a number compared with nothing, a text with a number.
public struct ConditionFailure: Error, Equatable, Sendable {
  /// The operator that failed and the kinds it met.
  public let reason: StaticReason

  public enum StaticReason: String, Sendable {
    case noOrder = "values of these types have no order"
    case missingInList = "a missing field looked for in a list"
    case expressionLimit = "the expression took too many steps"
  }
}

/// A compiled condition. Immutable; any thread may evaluate it with match memory of its own.
public final class Condition: Sendable, CustomStringConvertible {
  public let description: String
  /// The answer, where it depends on no event.
  public let constantValue: Bool?
  private let term: Term

  /// - Parameter replacing: Puts values for variables into the condition's constant texts; their values are never read
  ///   as part of the condition.
  public init(_ text: String, replacing: @escaping (String) -> String = { $0 }) throws(ConditionError) {
    description = text
    let expression = try ConditionParser.parse(text, replacing: replacing)
    constantValue = Condition.constant(expression)
    term = Condition.compile(expression)
  }

  public func evaluate(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
    try term.holds(event, scratch)
  }

  private static func constant(_ expression: Expression) -> Bool? {
    switch expression {
    case .and(let a, let b):
      switch (constant(a), constant(b)) {
      case (false?, _), (_, false?): return false
      case (true?, true?): return true
      default: return nil
      }
    case .or(let a, let b):
      switch (constant(a), constant(b)) {
      case (true?, _), (_, true?): return true
      case (false?, false?): return false
      default: return nil
      }
    case .xor(let a, let b): if let a = constant(a), let b = constant(b) { return a != b }
    case .nand(let a, let b): if let a = constant(a), let b = constant(b) { return !(a && b) }
    case .not(let a): if let a = constant(a) { return !a }
    case .truth(let operand):
      if case .list = operand { return true }
      return operand.constant.map(truth)
    case .compare(let a, let comparison, let b):
      if let a = a.constant, let b = b.constant { return compare(a, comparison, b) }
    case .match(let a, let pattern, let negated):
      if case .text(let bytes)? = a.constant { return Condition.isFound(pattern, bytes) != negated }
    case .member(let a, let b, let negated):
      if a.constant != nil, b.constant != nil { return negated }
      if a.constant != nil, case .list = b { return negated }
    }
    return nil
  }

  private static func isFound(_ pattern: Pattern, _ bytes: [UInt8]) -> Bool {
    if case .match = bytes.withUnsafeBytes({ MatchScratch().match(pattern, $0) }) { return true }
    return false
  }

  // MARK: Terms

  /// The tree that is walked per event: objects that hold what they compare, since an indirect enumeration is retained
  /// and released at every step. What is constant on the left of an operator is decided here; on the right it stays,
  /// because the left side may have no answer.
  private static func compile(_ expression: Expression) -> Term {
    switch expression {
    case .and(let a, let b):
      if let known = constant(a) { return known ? compile(b) : Always(false) }
      return constant(b) == true ? compile(a) : And(compile(a), compile(b))
    case .or(let a, let b):
      if let known = constant(a) { return known ? Always(true) : compile(b) }
      return constant(b) == false ? compile(a) : Or(compile(a), compile(b))
    case .xor(let a, let b): return Xor(compile(a), compile(b))
    case .nand(let a, let b): return Not(compile(.and(a, b)))
    case .not(let a): return Not(compile(a))
    case .truth(let operand):
      if case .field(let reference) = operand { return IsTrue(reference) }
      return Always(constant(expression) ?? true)
    case .compare(let a, let comparison, let b): return compile(a, comparison, b)
    case .match(let operand, let pattern, let negated):
      if case .field(let reference) = operand { return Matches(reference, pattern, negated) }
      return Always(constant(expression) ?? negated)
    case .member(let a, let b, let negated):
      return constant(expression).map(Always.init) ?? IsMember(a, b, negated)
    }
  }

  private static func compile(_ left: Operand, _ comparison: Comparison, _ right: Operand) -> Term {
    switch (left, right) {
    case (.field(let a), .field(let b)): return ComparesFields(a, comparison, b)
    case (.field(let a), .list(let list)):
      // Upstream compares with the first element alone.
      guard list.count > 1, let first = list.first else { return Always(comparison == .notEqual) }
      return Compares(a, comparison, first)
    case (.field(let a), _):
      return right.constant.map { Compares(a, comparison, $0) } ?? Always(comparison == .notEqual)
    case (_, .field(let b)):
      return left.constant.map { Compares(b, comparison.turned, $0) } ?? Always(comparison == .notEqual)
    default:
      guard let a = left.constant, let b = right.constant else { return Always(comparison == .notEqual) }
      return Always(compare(a, comparison, b))
    }
  }

  private class Term: @unchecked Sendable {  // unchecked: subclasses hold constants alone
    func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool { false }
  }

  private final class Always: Term, @unchecked Sendable {
    private let value: Bool
    init(_ value: Bool) { self.value = value }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool { value }
  }

  private final class And: Term, @unchecked Sendable {
    private let a: Term
    private let b: Term
    init(_ a: Term, _ b: Term) { (self.a, self.b) = (a, b) }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      guard try a.holds(event, scratch) else { return false }
      return try b.holds(event, scratch)
    }
  }

  private final class Or: Term, @unchecked Sendable {
    private let a: Term
    private let b: Term
    init(_ a: Term, _ b: Term) { (self.a, self.b) = (a, b) }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      if try a.holds(event, scratch) { return true }
      return try b.holds(event, scratch)
    }
  }

  private final class Xor: Term, @unchecked Sendable {
    private let a: Term
    private let b: Term
    init(_ a: Term, _ b: Term) { (self.a, self.b) = (a, b) }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      let left = try a.holds(event, scratch)
      return try b.holds(event, scratch) != left
    }
  }

  private final class Not: Term, @unchecked Sendable {
    private let term: Term
    init(_ term: Term) { self.term = term }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      try !term.holds(event, scratch)
    }
  }

  private final class IsTrue: Term, @unchecked Sendable {
    private let reference: FieldReference
    init(_ reference: FieldReference) { self.reference = reference }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      truth(event.peek(reference))
    }
  }

  private final class Compares: Term, @unchecked Sendable {
    private let reference: FieldReference
    private let comparison: Comparison
    private let constant: Operand.Constant
    init(_ reference: FieldReference, _ comparison: Comparison, _ constant: Operand.Constant) {
      self.reference = reference
      self.comparison = comparison
      self.constant = constant
    }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      try compare(event.peek(reference), comparison, constant)
    }
  }

  private final class ComparesFields: Term, @unchecked Sendable {
    private let left: FieldReference
    private let comparison: Comparison
    private let right: FieldReference
    init(_ left: FieldReference, _ comparison: Comparison, _ right: FieldReference) {
      self.left = left
      self.comparison = comparison
      self.right = right
    }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      try compare(event.value(left), comparison, event.value(right))
    }
  }

  private final class Matches: Term, @unchecked Sendable {
    private let reference: FieldReference
    private let pattern: Pattern
    private let negated: Bool
    init(_ reference: FieldReference, _ pattern: Pattern, _ negated: Bool) {
      self.reference = reference
      self.pattern = pattern
      self.negated = negated
    }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      guard let text = event.peek(reference)?.text, pattern.mayMatch(text) else { return negated }
      switch scratch.match(pattern, text, options: .validText) {
      case .match: return !negated
      case .none: return negated
      default: throw ConditionFailure(reason: .expressionLimit)
      }
    }
  }

  private final class IsMember: Term, @unchecked Sendable {
    private let value: Operand
    private let holder: Operand
    private let negated: Bool
    init(_ value: Operand, _ holder: Operand, _ negated: Bool) {
      self.value = value
      self.holder = holder
      self.negated = negated
    }
    override func holds(_ event: Event, _ scratch: MatchScratch) throws(ConditionFailure) -> Bool {
      try isMember(value, holder, event) != negated
    }
  }

  // MARK: Truth

  private static func truth(_ value: Value?) -> Bool {
    guard let value else { return false }
    switch value.kind {
    case .null: return false
    case .boolean: return value.boolean ?? false
    case .text: return value.text.map { $0.count > 0 && !isFalse($0) } ?? false
    default: return true
    }
  }

  private static func truth(_ constant: Operand.Constant) -> Bool {
    if case .text(let bytes) = constant { return !bytes.isEmpty && !bytes.withUnsafeBytes(isFalse) }
    return true
  }

  private static let falseText = Array("false".utf8)
  private static func isFalse(_ text: UnsafeRawBufferPointer) -> Bool {
    text.elementsEqual(falseText)
  }

  // MARK: Comparison

  private static func compare(_ a: Operand.Constant, _ comparison: Comparison, _ b: Operand.Constant) -> Bool {
    switch comparison {
    case .equal: return a == b
    case .notEqual: return a != b
    default: break
    }
    switch (a, b) {
    case (.integer(let a), .integer(let b)): return comparison.holds(a < b ? -1 : a > b ? 1 : 0)
    case (.double(let a), .double(let b)): return comparison.holds(a < b ? -1 : a > b ? 1 : 0)
    case (.text(let a), .text(let b)):
      return comparison.holds(a.lexicographicallyPrecedes(b) ? -1 : a == b ? 0 : 1)
    default: return false
    }
  }

  private static func compare(
    _ value: Value?, _ comparison: Comparison, _ constant: Operand.Constant
  ) throws(ConditionFailure) -> Bool {
    if comparison == .equal || comparison == .notEqual {
      return equals(value, constant) == (comparison == .equal)
    }
    guard let value else { throw ConditionFailure(reason: .noOrder) }
    switch (value.kind, constant) {
    case (.null, _), (.boolean, _), (.timestamp, _): return comparison.holds(0)
    case (.text, .text(let bytes)):
      guard let text = value.text else { return false }
      return comparison.holds(bytes.withUnsafeBytes { order(text, $0) })
    case (.integer, .integer(let b)):
      let a = value.integer ?? 0
      return comparison.holds(a < b ? -1 : a > b ? 1 : 0)
    case (.integer, .double(let b)), (.double, .double(let b)), (.bigInteger, .double(let b)):
      return comparison.holds(order(value.number ?? 0, b))
    case (.double, .integer(let b)), (.bigInteger, .integer(let b)):
      return comparison.holds(order(value.number ?? 0, Double(b)))
    default: throw ConditionFailure(reason: .noOrder)
    }
  }

  private static func equals(_ value: Value?, _ constant: Operand.Constant) -> Bool {
    guard let value else { return false }
    switch (value.kind, constant) {
    case (.text, .text(let bytes)): return value.text.map { text in bytes.withUnsafeBytes { equal(text, $0) } } ?? false
    case (.integer, .integer(let b)): return value.integer == b
    case (.double, .double(let b)): return value.double == b
    default: return false
    }
  }

  private static func compare(
    _ left: Value?, _ comparison: Comparison, _ right: Value?
  ) throws(ConditionFailure) -> Bool {
    if comparison == .equal || comparison == .notEqual {
      let same: Bool
      if let left, let right { same = left.equals(right) } else { same = left == nil && right == nil }
      return same == (comparison == .equal)
    }
    guard let left else { throw ConditionFailure(reason: .noOrder) }
    switch left.kind {
    case .null, .boolean:
      if let right, right.isList || right.isMap { throw ConditionFailure(reason: .noOrder) }
      return comparison.holds(0)
    case .timestamp:
      guard let a = left.timestamp, let b = right?.timestamp else {
        if let right, right.isList || right.isMap { throw ConditionFailure(reason: .noOrder) }
        return comparison.holds(0)
      }
      return comparison.holds(a < b ? -1 : a > b ? 1 : 0)
    case .text:
      guard let a = left.text, let b = right?.text else { throw ConditionFailure(reason: .noOrder) }
      return comparison.holds(order(a, b))
    case .integer where right?.kind == .integer:
      let (a, b) = (left.integer ?? 0, right?.integer ?? 0)
      return comparison.holds(a < b ? -1 : a > b ? 1 : 0)
    case .integer, .double, .bigInteger:
      guard let a = left.number, let b = right?.number else { throw ConditionFailure(reason: .noOrder) }
      return comparison.holds(order(a, b))
    case .list, .map: throw ConditionFailure(reason: .noOrder)
    }
  }

  private static func order(_ a: Double, _ b: Double) -> Int { a < b ? -1 : a > b ? 1 : 0 }

  private static func order(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
    guard let left = a.baseAddress, let right = b.baseAddress else { return a.count - b.count }
    let result = Int(memcmp(left, right, min(a.count, b.count)))
    return result != 0 ? result : a.count - b.count
  }

  // MARK: Membership

  private static func isMember(_ left: Operand, _ right: Operand, _ event: Event) throws(ConditionFailure) -> Bool {
    switch (left, right) {
    case (.field(let a), .list(let list)):
      guard let value = event.value(a), !value.isList, !value.isMap else { return false }
      return list.contains { textEquals(value, $0) }
    case (.field(let a), .text(let bytes)):
      guard let text = event.value(a)?.text else { return false }
      return bytes.withUnsafeBytes { contains($0, text) }
    case (.field(let a), .field(let b)): return try isMember(event.value(a), event.value(b))
    case (_, .field(let b)):
      guard let constant = left.constant, let holder = event.value(b) else { return false }
      if let text = holder.text, case .text(let bytes) = constant {
        return bytes.withUnsafeBytes { contains(text, $0) }
      }
      guard holder.isList else { return false }
      var child = holder.first
      while let element = child {
        if equals(element, constant) { return true }
        child = element.next
      }
      return false
    default: return false
    }
  }

  private static func isMember(_ value: Value?, _ holder: Value?) throws(ConditionFailure) -> Bool {
    guard let value else {
      if let holder, holder.isList, holder.count > 0 { throw ConditionFailure(reason: .missingInList) }
      return false
    }
    guard let holder, !value.isList, !value.isMap else { return false }
    if holder.isList {
      var child = holder.first
      while let element = child {
        if element.equals(value) { return true }
        child = element.next
      }
      return false
    }
    if let text = value.text, let outer = holder.text { return contains(outer, text) }
    return value.equals(holder)
  }

  private static func contains(_ text: UnsafeRawBufferPointer, _ part: UnsafeRawBufferPointer) -> Bool {
    findBytes(part, in: text) != nil
  }

  /// Whether the text form of `value` is the text form of `constant`; null counts as the empty text.
  private static func textEquals(_ value: Value, _ constant: Operand.Constant) -> Bool {
    switch (value.kind, constant) {
    case (.text, .text(let bytes)): return value.text.map { text in bytes.withUnsafeBytes { equal(text, $0) } } ?? false
    case (.integer, .integer(let b)): return value.integer == b
    case (.null, .text(let bytes)): return bytes.isEmpty
    default:
      var left = ByteBuffer()
      value.appendText(to: &left)
      var right = ByteBuffer()
      switch constant {
      case .text(let bytes): right.append(contentsOf: bytes)
      case .integer(let b): right.append(decimal: b)
      case .double(let b): appendJavaDouble(b, to: &right)
      }
      return equal(left.bytes, right.bytes)
    }
  }
}

extension Comparison {
  /// The comparison with its sides exchanged.
  var turned: Comparison {
    switch self {
    case .less: .greater
    case .greater: .less
    case .atMost: .atLeast
    case .atLeast: .atMost
    case .equal, .notEqual: self
    }
  }

  /// Whether it holds for an order that is negative, 0 or positive.
  func holds(_ order: Int) -> Bool {
    switch self {
    case .equal: order == 0
    case .notEqual: order != 0
    case .less: order < 0
    case .greater: order > 0
    case .atMost: order <= 0
    case .atLeast: order >= 0
    }
  }
}

/// The offset of `part` in `text`, or nil.
public func findBytes(_ part: UnsafeRawBufferPointer, in text: UnsafeRawBufferPointer) -> Int? {
  guard part.count <= text.count else { return nil }
  guard part.count > 0, let first = text.baseAddress, let wanted = part.baseAddress else { return 0 }
  var from = 0
  let lead = CInt(part[0])
  while from <= text.count - part.count {
    guard let hit = memchr(first + from, lead, text.count - part.count - from + 1) else { return nil }
    let at = UnsafeRawPointer(hit) - first
    if memcmp(hit, wanted, part.count) == 0 { return at }
    from = at + 1
  }
  return nil
}
