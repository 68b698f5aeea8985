//  Ruby's regular expressions and grok's: a text is compiled or refused at one of its characters, within bounded time and
//  memory; matches end in time, and groups lie within the text. The first line is the expression, the rest the text.

import Diagnostics
import Filters
import Patterns

private func split(_ bytes: UnsafeRawBufferPointer) -> (expression: String, text: [UInt8]) {
  (String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self), Array(bytes.drop { $0 != 10 }.dropFirst()))
}

@Sendable func fuzzPattern(_ bytes: UnsafeRawBufferPointer) {
  guard let first = bytes.first, bytes.count <= 2048 else { return }
  let (expression, text) = split(UnsafeRawBufferPointer(rebasing: bytes.dropFirst()))
  let dialect = RubyPattern.Dialect(rawValue: first & 7)
  do {
    let read = try RubyPattern(expression, dialect: dialect)
    let pattern = try Pattern(read)
    let scratch = MatchScratch()
    text.withUnsafeBytes { text in
      guard case .match = scratch.match(pattern, text, options: [], timeLimit: 20) else { return }
      for group in 0...read.groupNames.count { check(scratch, group, text.count) }
    }
  } catch {
    if error.offset < 0 || error.offset > expression.unicodeScalars.count {
      finding("no place in the expression: \(error.offset) \(error.message)")
    }
  }
}

private let library = GrokLibrary(.legacy)

@Sendable func fuzzGrok(_ bytes: UnsafeRawBufferPointer) {
  guard bytes.count <= 2048 else { return }
  let (expression, text) = split(bytes)
  guard let grok = try? GrokExpression(expression, library: library, position: SourcePosition(file: "fuzz")) else {
    return
  }
  let scratch = MatchScratch()
  text.withUnsafeBytes { text in
    guard case .match = grok.match(text, scratch, options: [], timeLimit: 20) else { return }
    grok.forEach(scratch) { capture, place, start, end in
      if start >= 0, start > end || end > text.count { finding("a capture outside the text: \(start) to \(end)") }
      if !grok.captures.indices.contains(capture) { finding("a capture that is none") }
      if !grok.captures[capture].places.indices.contains(place) { finding("a place that is none") }
    }
  }
}

private func check(_ scratch: MatchScratch, _ group: Int, _ count: Int) {
  let start = scratch.start(of: group)
  let end = scratch.end(of: group)
  // A look-behind may end a match in front of its start (`\K`); both are places in the text all the same.
  if start > count || end > count { finding("group \(group) outside the text: \(start) to \(end) of \(count)") }
}
