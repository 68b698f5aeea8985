//  A Ruby expression as a tree. The tree is what gets written for PCRE2, searched for literals that every match holds,
//  and searched for quantifiers that make a match slow.

/// A part of an expression.
package indirect enum RubyNode {
  case empty
  /// One character.
  case character(UInt32)
  /// `.`; with a newline or without.
  case any(newline: Bool)
  case set(RubySet)
  case assertion(Assertion)
  case sequence([RubyNode])
  case alternation([RubyNode])
  case group(Group, RubyNode)
  case repeated(RubyNode, Quantifier)
  /// To group number `group` of the parser (an index into its groups), or to all groups of one name.
  case backreference([Int])
  /// Runs a group's expression again; nil is the whole expression.
  case call(Int?)
  case conditional([Int], RubyNode, RubyNode)
  /// PCRE2 has the same with the same meaning: `\R`, `\X`, `\K`.
  case verbatim(String)

  package enum Assertion {
    case lineStart, lineEnd, textStart, textEnd, textEndOrLastNewline, wordBoundary, notWordBoundary, searchStart
  }

  package enum Group {
    case plain
    /// Index into the parser's groups.
    case capture(Int)
    case atomic
    case ahead(negated: Bool)
    case behind(negated: Bool)
    case caseless(Bool)
  }

  package enum Greed { case greedy, lazy, possessive }

  package struct Quantifier {
    var min: Int
    /// nil is no limit.
    var max: Int?
    var greed: Greed
    /// The quantified part with its quantifier, in characters of the source.
    var source: Range<Int>
  }
}

/// A character class: the characters that are in every one of `operands`, each a union; or all others.
package struct RubySet {
  package enum Shorthand { case word, digit, space, hex }

  package enum Item {
    case range(UInt32, UInt32)
    case shorthand(Shorthand, negated: Bool)
    /// A POSIX class by its name in lower case.
    case posix(String, negated: Bool)
    /// A Unicode property as PCRE2 spells it.
    case property(String, negated: Bool)
    case nested(RubySet)
  }

  var negated = false
  var operands: [[Item]] = [[]]

  static func one(_ item: Item) -> RubySet { RubySet(negated: false, operands: [[item]]) }
}

extension RubySet.Shorthand {
  /// Code point ranges in ascending order: these classes are ASCII in log expressions.
  var ranges: [(UInt32, UInt32)] {
    switch self {
    case .word: [(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)]
    case .digit: [(0x30, 0x39)]
    case .space: [(0x09, 0x0d), (0x20, 0x20)]
    case .hex: [(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)]
    }
  }

  /// Everything else.
  var complement: [(UInt32, UInt32)] {
    var result: [(UInt32, UInt32)] = []
    var next: UInt32 = 0
    for (low, high) in ranges {
      if low > next { result.append((next, low - 1)) }
      next = high + 1
    }
    result.append((next, 0x10ffff))
    return result
  }
}
