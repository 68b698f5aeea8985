//  Several expressions for one text. Each expression needs some literal (` HTTP/`, `: session `); a text without it is
//  turned away by a search for that literal, which costs a tenth of a failed match.

internal import CSystem
package import Patterns

package final class GrokList: Sendable {
  package let expressions: [GrokExpression]
  /// Of each expression; empty where none is worth looking for.
  private let literals: [[UInt8]]

  package init(_ expressions: [GrokExpression]) {
    self.expressions = expressions
    literals = expressions.map { $0.pattern.requiredLiteral.count >= 2 ? $0.pattern.requiredLiteral : [] }
  }

  /// False if expression `i` cannot match `text`.
  @inline(__always)
  package func mayMatch(_ i: Int, _ text: UnsafeRawBufferPointer) -> Bool {
    let literal = literals[i]
    if literal.isEmpty { return true }
    guard let base = text.baseAddress, text.count >= literal.count else { return false }
    return literal.withUnsafeBytes { sys_memmem(base, text.count, $0.baseAddress, $0.count) != nil }
  }

  /// Tries the expressions from `first` on, in order.
  ///
  /// - Returns: The first one that ended otherwise than without a match, and how; nil if none did.
  package func firstMatch(
    _ text: UnsafeRawBufferPointer, _ scratch: MatchScratch, from first: Int = 0,
    options: MatchScratch.Options = .validText, timeLimit: Int = 30_000
  ) -> (index: Int, outcome: MatchOutcome)? {
    var i = first
    while i < expressions.count {
      if mayMatch(i, text) {
        let outcome = expressions[i].match(text, scratch, options: options, timeLimit: timeLimit)
        if outcome != .none { return (i, outcome) }
      }
      i += 1
    }
    return nil
  }
}
