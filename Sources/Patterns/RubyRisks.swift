//  Quantifiers that can make a match slow. A repetition inside a repetition is harmless where something stands between
//  two rounds that the inner one cannot match (`(?:\w+,)*`), and explodes where nothing does (`(?:\w+,?)*`): the same
//  text can then be cut into rounds in ever more ways, and all are tried before "no match" is certain. Two neighbouring
//  repetitions over the same characters (`\s*\s*`) do the same on a smaller scale.

/// Something in an expression that can make a match slow.
public struct PatternRisk: Equatable, Sendable {
  public enum Kind: Equatable, Sendable {
    /// The time doubles with each further character.
    case exponential
    /// The time grows with the square of the text, or worse.
    case polynomial

    public var sentence: String {
      switch self {
      case .exponential:
        "a repetition of a repetition over the same characters can take forever on text that does not match"
      case .polynomial: "neighbouring repetitions over the same characters get slow on long text that does not match"
      }
    }
  }

  public var kind: Kind
  /// The offending part, in characters of the expression that was read.
  public var range: Range<Int>
}

extension RubyPattern {
  /// What can make a match of this expression slow; empty for nearly every expression.
  public var risks: [PatternRisk] {
    var finder = RiskFinder()
    finder.visit(tree)
    return finder.found
  }
}

/// The characters something may start with or consist of: ASCII exactly, all others as one.
struct CharacterMask: Equatable {
  var low: UInt64 = 0
  var high: UInt64 = 0
  var others = false

  static let all = CharacterMask(low: .max, high: .max, others: true)
  static let none = CharacterMask()

  mutating func insert(_ from: UInt32, _ to: UInt32) {
    if to > 127 { others = true }
    guard from <= 127 else { return }
    for c in from...min(to, 127) {
      if c < 64 { low |= 1 << UInt64(c) } else { high |= 1 << UInt64(c - 64) }
    }
  }

  func overlaps(_ other: CharacterMask) -> Bool {
    low & other.low != 0 || high & other.high != 0 || (others && other.others)
  }
  func union(_ other: CharacterMask) -> CharacterMask {
    CharacterMask(low: low | other.low, high: high | other.high, others: others || other.others)
  }
  var inverted: CharacterMask { CharacterMask(low: ~low, high: ~high, others: true) }
}

extension RubySet {
  var mask: CharacterMask {
    var result = CharacterMask.all
    for operand in operands {
      var union = CharacterMask.none
      for item in operand {
        switch item {
        case .range(let low, let high): union.insert(low, high)
        case .shorthand(let shorthand, let negated):
          for (low, high) in negated ? shorthand.complement : shorthand.ranges { union.insert(low, high) }
        case .posix(let name, let negated):
          var set = CharacterMask.none
          for (low, high) in RubySet.posixRanges[name] ?? [(0, 127)] { set.insert(low, high) }
          set.others = true
          union = union.union(negated ? set.inverted : set)
        case .property: union = .all
        case .nested(let set): union = union.union(set.mask)
        }
      }
      result = CharacterMask(
        low: result.low & union.low, high: result.high & union.high, others: result.others && union.others)
    }
    return negated ? result.inverted : result
  }

  static let posixRanges: [String: [(UInt32, UInt32)]] = [
    "alnum": [(48, 57), (65, 90), (97, 122)], "alpha": [(65, 90), (97, 122)], "blank": [(9, 9), (32, 32)],
    "digit": [(48, 57)], "lower": [(97, 122)], "upper": [(65, 90)], "space": [(9, 13), (32, 32)],
    "word": [(48, 57), (65, 90), (95, 95), (97, 122)], "xdigit": [(48, 57), (65, 70), (97, 102)],
  ]
}

struct RiskFinder {
  /// What a part may match, roughly.
  struct Shape {
    /// All characters that may occur.
    var mask = CharacterMask.none
    /// Characters it may start with.
    var first = CharacterMask.none
    var nullable = true
    /// Characters of a repetition without bound that may stand at the end and give characters back.
    var tail = CharacterMask.none
    /// Such a repetition at the start.
    var head = CharacterMask.none
  }

  var found: [PatternRisk] = []

  @discardableResult
  mutating func visit(_ node: RubyNode) -> Shape {
    switch node {
    case .empty, .assertion: return Shape()
    case .character(let c):
      var mask = CharacterMask.none
      mask.insert(c, c)
      return Shape(mask: mask, first: mask, nullable: false)
    case .any(let newline):
      var mask = CharacterMask.all
      if !newline { mask.low &= ~(1 << 10) }
      return Shape(mask: mask, first: mask, nullable: false)
    case .set(let set): return Shape(mask: set.mask, first: set.mask, nullable: false)
    case .backreference, .call, .verbatim: return Shape(mask: .all, first: .all, nullable: false)
    case .conditional(_, let yes, let no): return either([visit(yes), visit(no)])
    case .alternation(let branches): return either(branches.map { visit($0) })
    case .sequence(let parts): return sequence(parts)
    case .group(let kind, let body):
      var shape = visit(body)
      switch kind {
      case .ahead, .behind: return Shape()
      case .atomic:
        shape.tail = .none
        shape.head = .none
        return shape
      default: return shape
      }
    case .repeated(let body, let quantifier): return repeated(body, quantifier)
    }
  }

  private func either(_ shapes: [Shape]) -> Shape {
    var result = Shape(nullable: false)
    for shape in shapes {
      result.mask = result.mask.union(shape.mask)
      result.first = result.first.union(shape.first)
      result.nullable = result.nullable || shape.nullable
      result.tail = result.tail.union(shape.tail)
      result.head = result.head.union(shape.head)
    }
    return result
  }

  private mutating func sequence(_ parts: [RubyNode]) -> Shape {
    var result = Shape()
    for part in parts {
      let shape = visit(part)
      // A single overlap is what every `.*` followed by `.*?` is; it becomes a risk where both are greedy and wide.
      if case .repeated(_, let quantifier) = part, quantifier.max == nil, quantifier.greed == .greedy,
        result.tail.overlaps(shape.head), result.tail == shape.head
      {
        found.append(PatternRisk(kind: .polynomial, range: quantifier.source))
      }
      if result.nullable {
        result.first = result.first.union(shape.first)
        result.head = result.head.union(shape.head)
      }
      result.tail = shape.nullable ? result.tail.union(shape.tail) : shape.tail
      result.mask = result.mask.union(shape.mask)
      result.nullable = result.nullable && shape.nullable
    }
    return result
  }

  private mutating func repeated(_ body: RubyNode, _ quantifier: RubyNode.Quantifier) -> Shape {
    let before = found.count
    var inner = visit(body)
    let possessive = quantifier.greed == .possessive
    if possessive { found.removeSubrange(before...) }
    if quantifier.max == nil, !possessive {
      // The end of one round gives characters to the start of the next.
      if inner.tail.overlaps(inner.first) {
        found.append(PatternRisk(kind: .exponential, range: quantifier.source))
      }
      inner.tail = inner.mask
      inner.head = inner.mask
    } else if possessive {
      inner.tail = .none
      inner.head = .none
    }
    if quantifier.min == 0 { inner.nullable = true }
    return inner
  }
}
