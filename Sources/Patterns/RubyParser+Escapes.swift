//  What a backslash means, and character classes.

extension RubyParser {
  /// A backslash and what follows, outside a class.
  mutating func escape() throws(PatternError) -> RubyNode {
    let start = at
    guard at + 1 < text.count else { throw PatternError("the expression ends in a backslash", at: at) }
    let c = text[at + 1]
    if let item = try classEscape() { return .set(.one(item)) }
    switch c {
    case "A": return skip(.assertion(.textStart))
    case "z": return skip(.assertion(.textEnd))
    case "Z": return skip(.assertion(.textEndOrLastNewline))
    case "b": return skip(.assertion(.wordBoundary))
    case "B": return skip(.assertion(.notWordBoundary))
    case "G": return skip(.assertion(.searchStart))
    case "R": return skip(.verbatim("\\R"))
    case "X": return skip(.verbatim("\\X"))
    case "K": return skip(.verbatim("\\K"))
    case "k" where has("<", 2) || has("'", 2):
      return .backreference(try resolve(try reference(), start))
    case "g" where has("<", 2) || has("'", 2):
      let name = try reference()
      if name == "0" { return .call(nil) }
      let found = try resolve(name, start)
      if found.count > 1 { throw PatternError("several groups are named \(name), so it cannot be called", at: start) }
      return .call(found[0])
    case "1"..."9":
      var i = at + 1
      var number = 0
      while i < text.count, isDigit(text[i]), number < 1000 {
        number = number * 10 + Int(text[i].value - 48)
        i += 1
      }
      // Ruby reads a number above 9 without such a group as an octal character.
      if isScouting || number <= 9 || number <= groups.count {
        at = i
        return .backreference(try resolve(String(number), start))
      }
    default: break
    }
    return .character(try characterEscape())
  }

  private mutating func skip(_ node: RubyNode) -> RubyNode {
    at += 2
    return node
  }

  /// The name of `\k<…>` or `\g<…>`; `at` moves behind it.
  private mutating func reference() throws(PatternError) -> String {
    let end: Unicode.Scalar = has("<", 2) ? ">" : "'"
    guard let close = text[(at + 3)...].firstIndex(of: end) else {
      throw PatternError("a group name has no end", at: at)
    }
    let name = string(at + 3, close)
    at = close + 1
    return name
  }

  /// A backslash that means several characters, in a class or outside; nil, and nothing read, for any other.
  mutating func classEscape() throws(PatternError) -> RubySet.Item? {
    let item: RubySet.Item
    switch text[at + 1] {
    case "w": item = .shorthand(.word, negated: false)
    case "W": item = .shorthand(.word, negated: true)
    case "d": item = .shorthand(.digit, negated: false)
    case "D": item = .shorthand(.digit, negated: true)
    case "s": item = .shorthand(.space, negated: false)
    case "S": item = .shorthand(.space, negated: true)
    case "h": item = .shorthand(.hex, negated: false)
    case "H": item = .shorthand(.hex, negated: true)
    case "p", "P":
      guard has("{", 2) else { return nil }
      return try property()
    default: return nil
    }
    at += 2
    return item
  }

  private mutating func property() throws(PatternError) -> RubySet.Item {
    let start = at
    var negated = has("P", 1)
    guard let close = text[(at + 3)...].firstIndex(of: "}") else {
      throw PatternError("a property has no end", at: start)
    }
    var from = at + 3
    if from < close, text[from] == "^" {
      negated.toggle()
      from += 1
    }
    let written = string(from, close)
    at = close + 1
    for c in text[from..<close] where !(isWord(c) || c == " " || c == "-" || c == "=") {
      throw PatternError("there is no character property \(written)", at: start)
    }
    let plain = String(written.lowercased().filter { $0 != " " && $0 != "_" && $0 != "-" })
    if RubyParser.posixNames.contains(plain) { return .posix(plain, negated: negated) }
    return .property(RubyParser.categories[plain] ?? written, negated: negated)
  }

  static let posixNames: Set<String> = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
    "word", "xdigit",
  ]

  /// Ruby's long names of the general categories; PCRE2 knows the short ones.
  static let categories = [
    "letter": "L", "uppercaseletter": "Lu", "lowercaseletter": "Ll", "titlecaseletter": "Lt", "modifierletter": "Lm",
    "otherletter": "Lo", "mark": "M", "nonspacingmark": "Mn", "spacingmark": "Mc", "enclosingmark": "Me",
    "number": "N", "decimalnumber": "Nd", "letternumber": "Nl", "othernumber": "No", "punctuation": "P",
    "connectorpunctuation": "Pc", "dashpunctuation": "Pd", "openpunctuation": "Ps", "closepunctuation": "Pe",
    "initialpunctuation": "Pi", "finalpunctuation": "Pf", "otherpunctuation": "Po", "symbol": "S",
    "mathsymbol": "Sm", "currencysymbol": "Sc", "modifiersymbol": "Sk", "othersymbol": "So", "separator": "Z",
    "spaceseparator": "Zs", "lineseparator": "Zl", "paragraphseparator": "Zp", "other": "C", "control": "Cc",
    "format": "Cf", "surrogate": "Cs", "privateuse": "Co", "unassigned": "Cn", "any": "Any",
  ]

  /// A backslash that means one character.
  mutating func characterEscape() throws(PatternError) -> UInt32 {
    let start = at
    guard at + 1 < text.count else { throw PatternError("the expression ends in a backslash", at: at) }
    let c = text[at + 1]
    at += 2
    switch c {
    case "t": return 9
    case "n": return 10
    case "v": return 11
    case "f": return 12
    case "r": return 13
    case "a": return 7
    case "e": return 27
    case "0"..."7":
      var value = c.value - 48
      for _ in 0..<2 {
        guard at < text.count, text[at] >= "0", text[at] <= "7" else { break }
        value = value * 8 + text[at].value - 48
        at += 1
      }
      if value > 127 { throw PatternError("an octal number above 177 is no character", at: start) }
      return value
    case "x":
      if has("{") { return try braces(start) }
      return try bytes(start)
    case "u":
      if has("{") { return try braces(start) }
      guard let value = hex(4, 4) else { throw PatternError("\\u wants four hexadecimal digits", at: start) }
      return try scalar(value, start)
    case "c":
      guard at < text.count, text[at].value < 128 else {
        throw PatternError("a control character has no end", at: start)
      }
      at += 1
      return text[at - 1].value & 0x1f
    case "C" where has("-"):
      guard at + 1 < text.count, text[at + 1].value < 128 else {
        throw PatternError("a control character has no end", at: start)
      }
      at += 2
      return text[at - 1].value & 0x1f
    default: return c.value
    }
  }

  private mutating func hex(_ least: Int, _ most: Int) -> UInt32? {
    var value: UInt32 = 0
    var count = 0
    while count < most, at < text.count, let digit = text[at].hexDigit {
      value = value * 16 + digit
      count += 1
      at += 1
    }
    return count < least ? nil : value
  }

  private mutating func braces(_ start: Int) throws(PatternError) -> UInt32 {
    at += 1
    guard let value = hex(1, 6), has("}") else {
      throw PatternError("a character number stands in braces, in hexadecimal digits", at: start)
    }
    at += 1
    return try scalar(value, start)
  }

  private func scalar(_ value: UInt32, _ start: Int) throws(PatternError) -> UInt32 {
    guard Unicode.Scalar(value) != nil else { throw PatternError("there is no such Unicode character", at: start) }
    return value
  }

  /// `\xHH`, a byte; bytes above 127 are taken together until they are a character in UTF-8.
  private mutating func bytes(_ start: Int) throws(PatternError) -> UInt32 {
    guard let first = hex(1, 2) else { throw PatternError("\\x wants hexadecimal digits", at: start) }
    if first < 128 { return first }
    var units = [UInt8(truncatingIfNeeded: first)]
    while units.count < 4 {
      if let decoded = String(validating: units, as: UTF8.self), let scalar = decoded.unicodeScalars.first {
        return scalar.value
      }
      guard has("\\"), has("x", 1) else { break }
      at += 2
      guard let next = hex(2, 2) else { break }
      units.append(UInt8(truncatingIfNeeded: next))
    }
    if let decoded = String(validating: units, as: UTF8.self), let scalar = decoded.unicodeScalars.first {
      return scalar.value
    }
    throw PatternError("these bytes are no character in UTF-8", at: start)
  }

  // MARK: Classes

  mutating func characterClass() throws(PatternError) -> RubySet {
    let start = at
    depth += 1
    defer { depth -= 1 }
    if depth > RubyParser.depthMax { throw PatternError("classes are nested too deeply", at: at) }
    at += 1
    var set = RubySet()
    if has("^") {
      set.negated = true
      at += 1
    }
    var items: [RubySet.Item] = []
    var operands: [[RubySet.Item]] = []
    if has("]") {
      // A first bracket is text if another one closes the class.
      guard text[(at + 1)...].contains("]") else { throw PatternError("a character class is empty", at: start) }
      items.append(.range(0x5d, 0x5d))
      at += 1
    }
    while true {
      guard at < text.count else { throw PatternError("a character class is not closed", at: start) }
      if has("]") {
        at += 1
        break
      }
      if has("&"), has("&", 1) {
        operands.append(items)
        items = []
        at += 2
        continue
      }
      items.append(try classItem(start))
    }
    operands.append(items)
    set.operands = operands
    return set
  }

  private mutating func classItem(_ start: Int) throws(PatternError) -> RubySet.Item {
    if has("[") {
      if has(":", 1), let posix = posix() { return posix }
      return .nested(try characterClass())
    }
    if has("\\") {
      guard at + 1 < text.count else { throw PatternError("the expression ends in a backslash", at: at) }
      if let item = try classEscape() { return item }
      if has("R", 1) || has("X", 1) {
        at += 2
        return .range(text[at - 1].value, text[at - 1].value)
      }
    }
    let from = at
    let low = try classCharacter()
    // A hyphen is a range only between two characters.
    guard has("-"), at + 1 < text.count, text[at + 1] != "]", !(text[at + 1] == "[") else { return .range(low, low) }
    if text[at + 1] == "&", has("&", 2) { return .range(low, low) }
    let hyphen = at
    at += 1
    if has("\\"), at + 1 < text.count {
      let mark = at
      if try classEscape() != nil {
        at = hyphen
        return .range(low, low)
      }
      at = mark
    }
    let high = try classCharacter()
    if high < low { throw PatternError("a range in a character class runs backwards", at: from) }
    return .range(low, high)
  }

  private mutating func classCharacter() throws(PatternError) -> UInt32 {
    guard at < text.count else { throw PatternError("a character class is not closed", at: at) }
    if has("\\") {
      if has("b", 1) {
        at += 2
        return 8
      }
      return try characterEscape()
    }
    at += 1
    return text[at - 1].value
  }

  /// `[:name:]`; nil, and nothing read, for anything else.
  private mutating func posix() -> RubySet.Item? {
    var i = at + 2
    let negated = i < text.count && text[i] == "^"
    if negated { i += 1 }
    let from = i
    while i < text.count, isLetter(text[i]) { i += 1 }
    guard i + 1 < text.count, text[i] == ":", text[i + 1] == "]" else { return nil }
    let name = string(from, i)
    guard RubyParser.posixNames.contains(name) else { return nil }
    at = i + 2
    return .posix(name, negated: negated)
  }
}

extension Unicode.Scalar {
  fileprivate var hexDigit: UInt32? {
    switch self {
    case "0"..."9": value - 48
    case "a"..."f": value - 87
    case "A"..."F": value - 55
    default: nil
    }
  }
}
