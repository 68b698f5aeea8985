//  Several expressions for one text. Each expression needs some literal (` HTTP/`, `: session `); a text without it is
//  turned away by a search for that literal, which costs a tenth of a failed match.

package import Patterns

package final class GrokList: Sendable {
  package let expressions: [GrokExpression]

  package init(_ expressions: [GrokExpression]) { self.expressions = expressions }

  /// False if expression `i` cannot match `text`.
  @inline(__always)
  package func mayMatch(_ i: Int, _ text: UnsafeRawBufferPointer) -> Bool { expressions[i].pattern.mayMatch(text) }

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
