//  Which literal every match of an expression holds. A worker looks for it before it runs the expression.

extension RubyNode {
  /// The longest text that every match holds, in UTF-8; empty where there is none.
  package var requiredLiteral: [UInt8] { literals.best }

  private struct Literals {
    /// The only text that the part matches; nil if it matches several.
    var exact: [UInt8]?
    var best: [UInt8] = []

    static let unknown = Literals(exact: nil)
    static let nothing = Literals(exact: [])
  }

  private var literals: Literals {
    switch self {
    case .empty, .assertion: return .nothing
    case .character(let c):
      let bytes = Unicode.Scalar(c).map { Array(String(Character($0)).utf8) } ?? []
      return Literals(exact: bytes, best: bytes)
    case .set(let set):
      // An escaped blank or bracket is often written as a class of one.
      if !set.negated, set.operands.count == 1, set.operands[0].count == 1,
        case .range(let low, let high) = set.operands[0][0], low == high
      {
        return RubyNode.character(low).literals
      }
      return .unknown
    case .any, .backreference, .call, .conditional, .verbatim: return .unknown
    case .sequence(let parts):
      var run: [UInt8] = []
      var best: [UInt8] = []
      var exact = true
      for part in parts {
        let inner = part.literals
        if inner.best.count > best.count { best = inner.best }
        if let text = inner.exact {
          run += text
        } else {
          if run.count > best.count { best = run }
          run = []
          exact = false
        }
      }
      if run.count > best.count { best = run }
      return Literals(exact: exact ? run : nil, best: best)
    case .alternation(let branches):
      let all = branches.map(\.literals)
      if let first = all.first, all.allSatisfy({ $0.exact != nil && $0.exact == first.exact }) { return first }
      // A literal that one branch needs is found in the others only if it is the same.
      if let shortest = all.map(\.best).min(by: { $0.count < $1.count }), !shortest.isEmpty,
        all.allSatisfy({ $0.best.holds(shortest) })
      {
        return Literals(exact: nil, best: shortest)
      }
      return .unknown
    case .group(let kind, let body):
      switch kind {
      case .plain, .capture, .atomic: return body.literals
      case .caseless(let on): return on ? .unknown : body.literals
      case .ahead, .behind: return .nothing
      }
    case .repeated(let body, let quantifier):
      if quantifier.min == 0 { return .unknown }
      let inner = body.literals
      if let text = inner.exact, quantifier.max == quantifier.min, quantifier.min * text.count <= 64 {
        let all = Array(repeatElement(text, count: quantifier.min).joined())
        return Literals(exact: all, best: all)
      }
      return Literals(exact: nil, best: inner.best)
    }
  }
}

extension [UInt8] {
  fileprivate func holds(_ part: [UInt8]) -> Bool {
    guard part.count <= count else { return false }
    return (0...(count - part.count)).contains { self[$0..<($0 + part.count)].elementsEqual(part) }
  }
}
