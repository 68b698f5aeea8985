//  Finds key–value pairs in a text.
//
//  Where the splitters are sets of characters, the text is walked once with a table of bytes. Where one is an expression,
//  the whole shape of a pair becomes one expression. Both read the same language:
//
//      pair    = key splitter [value] (separator | end of line)
//      key     = one or more of: a backslash with its next character, or a character that splits nothing
//      value   = "…" or '…', then (…), […], <…>, else text up to a separator
//
//  A value's first form that is followed by a separator or the end of a line counts. Within quotes a backslash protects
//  the closing mark, unless the text cannot be read that way; so `"C:\"` is `C:\` where nothing else closes it.

internal import Patterns

/// How pairs are written. Immutable; any thread may use it.
struct PairSyntax: Sendable {
  static let field: UInt8 = 1
  static let value: UInt8 = 2

  /// What each byte splits; empty where `pattern` does the work.
  fileprivate let table: [UInt8]
  fileprivate let isLenient: Bool
  fileprivate let hasBrackets: Bool
  fileprivate let pattern: Pattern?
  fileprivate let keyGroup: Int
  fileprivate let valueGroups: [Int]
  /// Finds a splitter between key and value, where that is no set of bytes.
  fileprivate let splitter: Pattern?

  struct Options {
    var fieldSplit = " "
    var fieldPattern: String?
    var valueSplit = "="
    var valuePattern: String?
    var isLenient = true
    var hasBrackets = true
  }

  /// - Throws: Where an expression cannot be read.
  init(_ options: Options) throws(PatternError) {
    isLenient = options.isLenient
    hasBrackets = options.hasBrackets
    if options.fieldPattern == nil, options.valuePattern == nil, let fields = CharacterClass(options.fieldSplit),
      let values = CharacterClass(options.valueSplit), fields.wide.isEmpty, values.wide.isEmpty
    {
      var table = [UInt8](repeating: 0, count: 256)
      for i in 0..<128 {
        if fields.ascii[i] { table[i] |= PairSyntax.field }
        if values.ascii[i] { table[i] |= PairSyntax.value }
      }
      self.table = table
      pattern = nil
      splitter = nil
      keyGroup = 0
      valueGroups = []
      return
    }
    table = []
    let field = options.fieldPattern ?? "[\(options.fieldSplit)]"
    let value = options.valuePattern ?? "[\(options.valueSplit)]"
    let isPattern = options.fieldPattern != nil || options.valuePattern != nil
    let split = isLenient ? " *(?:\(value)) *" : "(?:\(value))"
    // With an expression, a key ends where either splitter begins, its blanks included.
    let key =
      isPattern
      ? "(?:(?!(?:\(field))|\(split)).)+" : "(?:\\\\.|[^\(options.fieldSplit)\(options.valueSplit)])+"
    let plain = isPattern ? "(?:\\\\.|(?!(?:\(field))).)+" : "(?:\\\\.|[^\(options.fieldSplit)])+"
    var forms = [PairSyntax.quoted("\"", "\"", "kvd"), PairSyntax.quoted("'", "'", "kvs")]
    if hasBrackets {
      forms.append(PairSyntax.quoted("\\(", "\\)", "kvr"))
      forms.append(PairSyntax.quoted("\\[", "\\]", "kvb"))
      forms.append(PairSyntax.quoted("<", ">", "kva"))
    }
    forms.append("(?<kvp>\(plain))")
    // A word without a value is passed over together with the separator behind it.
    let whole = "(?<kvkey>\(key))\(split)(?:\(forms.joined(separator: "|")))?(?:(?:\(field))|$)|(?:\(field))"
    let compiled = try Pattern(ruby: whole, dialect: .condition)
    pattern = compiled
    splitter = try Pattern(ruby: value, dialect: .condition)
    keyGroup = compiled.groupNumbers("kvkey").first ?? 0
    valueGroups = ["kvd", "kvs", "kvr", "kvb", "kva", "kvp"].compactMap { compiled.groupNumbers($0).first }
  }

  private static func quoted(_ open: String, _ close: String, _ name: String) -> String {
    "\(open)(?<\(name)>(?:\\\\.|[^\(close)])*)\(close)"
  }
}

/// A walk over the pairs of one text.
struct PairScanner {
  let syntax: PairSyntax
  let text: UnsafeRawBufferPointer
  private var position = 0
  /// The expression took too long; there are no more pairs.
  private(set) var timedOut = false

  init(_ syntax: PairSyntax, _ text: UnsafeRawBufferPointer) {
    self.syntax = syntax
    self.text = text
  }

  /// The next pair, as places in the text.
  @inline(__always)
  mutating func next(_ scratch: MatchScratch, timeLimit: Int) -> (key: Range<Int>, value: Range<Int>)? {
    if let pattern = syntax.pattern { return next(pattern, scratch, timeLimit) }
    return syntax.table.withUnsafeBufferPointer { walk($0) }
  }

  // MARK: By a table

  private mutating func walk(_ table: UnsafeBufferPointer<UInt8>) -> (key: Range<Int>, value: Range<Int>)? {
    let count = text.count
    var start = position
    var wasMisread = false
    while start < count {
      if table[Int(text[start])] != 0, text[start] != 92 {
        start &+= 1
        continue
      }
      var end = start
      var lastEscapedSplitter = -1
      var secondBackslash = -1
      while end < count {
        let byte = text[end]
        if byte == 92, end &+ 1 < count, text[end &+ 1] != 10 {
          if table[Int(text[end &+ 1])] & PairSyntax.value != 0 { lastEscapedSplitter = end &+ 1 }
          if secondBackslash < 0, text[end &+ 1] == 92 { secondBackslash = end &+ 1 }
          end &+= 2
        } else if table[Int(byte)] == 0 {
          end &+= 1
        } else {
          break
        }
      }
      if end == start {  // a backslash that is itself a splitter
        start &+= 1
        continue
      }
      var splitter = end
      if syntax.isLenient { while splitter < count, text[splitter] == 32 { splitter &+= 1 } }
      // A blank may be the splitter itself; then it was not to be passed over.
      if splitter == count || table[Int(text[splitter])] & PairSyntax.value == 0 { splitter = end }
      if splitter < count, table[Int(text[splitter])] & PairSyntax.value != 0 {
        return (start..<end, value(behind: splitter, table))
      }
      if lastEscapedSplitter > start {
        return (start..<lastEscapedSplitter, value(behind: lastEscapedSplitter, table))
      }
      // Read from the second of two backslashes the same bytes may hold a pair; that is tried once for each run.
      if secondBackslash > start, !wasMisread {
        wasMisread = true
        start = secondBackslash
      } else {
        wasMisread = false
        start = end
      }
    }
    position = count
    return nil
  }

  /// The value behind the splitter at `splitter`; the walk goes on behind its separator.
  private mutating func value(behind splitter: Int, _ table: UnsafeBufferPointer<UInt8>) -> Range<Int> {
    let count = text.count
    var start = splitter &+ 1
    if syntax.isLenient { while start < count, text[start] == 32 { start &+= 1 } }
    if start < count {
      var close: UInt8 = 0
      switch text[start] {
      case 34, 39: close = text[start]
      case 40 where syntax.hasBrackets: close = 41
      case 91 where syntax.hasBrackets: close = 93
      case 60 where syntax.hasBrackets: close = 62
      default: break
      }
      if close != 0, let end = closing(close, from: start &+ 1, table) {
        position = end &+ 2
        // At the end of a line nothing was taken behind the closing mark.
        if end &+ 1 >= count || table[Int(text[end &+ 1])] & PairSyntax.field == 0 { position = end &+ 1 }
        return start &+ 1..<end
      }
    }
    var end = start
    while end < count {
      let byte = text[end]
      if byte == 92, end &+ 1 < count, text[end &+ 1] != 10 {
        end &+= 2
      } else if table[Int(byte)] & PairSyntax.field == 0 {
        end &+= 1
      } else {
        break
      }
    }
    position = min(end &+ 1, count)
    return start..<end
  }

  /// Where the quoted value that begins at `start` closes, with a separator or the end of a line behind it.
  private func closing(_ close: UInt8, from start: Int, _ table: UnsafeBufferPointer<UInt8>) -> Int? {
    let count = text.count
    func isFollowed(_ i: Int) -> Bool {
      i &+ 1 >= count || text[i &+ 1] == 10 || table[Int(text[i &+ 1])] & PairSyntax.field != 0
    }
    var i = start
    var hasEscape = false
    while i < count, text[i] != close {
      if text[i] == 92 {
        hasEscape = true
        i &+= i &+ 1 < count && text[i &+ 1] != 10 ? 2 : 1
      } else {
        i &+= 1
      }
    }
    if i < count, isFollowed(i) { return i }
    guard hasEscape else { return nil }
    // A backslash may stand for itself: the last closing mark that some reading reaches counts. No reading gets past a
    // mark without a backslash before it.
    var bound = start
    while bound < count, text[bound] != close || (bound > start && text[bound &- 1] == 92) { bound &+= 1 }
    var behind: (one: Int, two: Int) = (-1, -1)  // the answers for the next byte and the one after it
    i = min(bound, count &- 1)
    while i >= start {
      let answer: Int
      if text[i] == close {
        answer = isFollowed(i) ? i : -1
      } else if text[i] == 92 {
        let escaped = i &+ 1 < count && text[i &+ 1] != 10 ? behind.two : -1
        answer = escaped >= 0 ? escaped : behind.one
      } else {
        answer = behind.one
      }
      behind = (answer, behind.one)
      i &-= 1
    }
    return behind.one >= 0 ? behind.one : nil
  }

  // MARK: By an expression

  private mutating func next(
    _ pattern: Pattern, _ scratch: MatchScratch, _ timeLimit: Int
  ) -> (key: Range<Int>, value: Range<Int>)? {
    if position == 0, let splitter = syntax.splitter, scratch.match(splitter, text, options: .validText) == .none {
      position = text.count + 1
    }
    while position <= text.count {
      switch scratch.match(pattern, text, from: position, options: .validText, timeLimit: timeLimit) {
      case .match: break
      case .limit:
        timedOut = true
        position = text.count + 1
        return nil
      case .none, .badText:
        position = text.count + 1
        return nil
      }
      let end = scratch.end(of: 0)
      position = end > scratch.start(of: 0) ? end : stepped(end)
      guard scratch.start(of: syntax.keyGroup) >= 0 else { continue }
      let key = scratch.start(of: syntax.keyGroup)..<scratch.end(of: syntax.keyGroup)
      for group in syntax.valueGroups where scratch.start(of: group) >= 0 {
        return (key, scratch.start(of: group)..<scratch.end(of: group))
      }
      return (key, end..<end)
    }
    return nil
  }

  private func stepped(_ i: Int) -> Int {
    var next = i + 1
    while next < text.count, text[next] & 0xc0 == 0x80 { next += 1 }
    return next
  }
}
