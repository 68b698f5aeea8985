//  The words of a script.

internal import Events

/// A place in a script at which it is broken, and why.
struct ScriptSyntaxError: Error {
  /// Bytes from the start.
  var offset: Int
  var text: String
}

enum ScriptToken: Equatable {
  case integer(Int64)
  case double(Double)
  case text([UInt8])
  /// Text with `#{…}`: the pieces between, and the source of those within.
  case interpolated([ScriptPiece])
  case symbol([UInt8])
  /// `name:` in a map or in front of an argument.
  case label([UInt8])
  case name(String)
  case constant(String)
  case sign(String)
  case newline
  case end
}

enum ScriptPiece: Equatable {
  case text([UInt8])
  case code([UInt8], offset: Int)
}

struct ScriptLexer {
  private let source: [UInt8]
  private let base: Int
  private var i = 0
  /// Open brackets; newlines count for nothing within `[`.
  private var brackets: [UInt8] = []
  private(set) var tokens: [(token: ScriptToken, offset: Int)] = []

  private static let signs = [
    "**=", "<=>", "||=", "&&=", "===", "**", "==", "!=", "<=", ">=", "&&", "||", "<<", "+=", "-=", "*=", "/=", "%=",
    "=>", "=~", "&.", "::", "..", "+", "-", "*", "/", "%", "=", "<", ">", "!", "?", ":", ",", ".", "(", ")", "[", "]",
    "{", "}", "|", "&",
  ].map { Array($0.utf8) }

  /// - Parameter base: Where the source begins in the whole script.
  init(_ source: [UInt8], base: Int = 0) throws(ScriptSyntaxError) {
    self.source = source
    self.base = base
    while try next() {}
    tokens.append((.end, base + source.count))
  }

  private func byte(_ at: Int) -> UInt8 { at < source.count ? source[at] : 0 }
  private static func isLetter(_ byte: UInt8) -> Bool { (byte | 32) &- 97 < 26 || byte == 95 || byte >= 0x80 }
  private static func isDigit(_ byte: UInt8) -> Bool { byte &- 48 < 10 }

  private mutating func next() throws(ScriptSyntaxError) -> Bool {
    while i < source.count, source[i] == 32 || source[i] == 9 || source[i] == 13 { i += 1 }
    guard i < source.count else { return false }
    let start = i
    let first = source[i]
    switch first {
    case UInt8(ascii: "#"): while i < source.count, source[i] != 10 { i += 1 }
    case UInt8(ascii: "\\") where byte(i + 1) == 10: i += 2
    case 10, UInt8(ascii: ";"):
      i += 1
      let isHidden = first == 10 && (brackets.last == 91 || isChained)
      if !isHidden, tokens.last?.token != .newline { tokens.append((.newline, base + start)) }
    case UInt8(ascii: "'"), UInt8(ascii: "\""): tokens.append((try text(first), base + start))
    case _ where ScriptLexer.isDigit(first): tokens.append((number(), base + start))
    case _ where ScriptLexer.isLetter(first): tokens.append((word(), base + start))
    case UInt8(ascii: ":") where ScriptLexer.isLetter(byte(i + 1)) && byte(i + 1) < 0x80 && !isAfterLabelPlace:
      i += 1
      let name = i
      while i < source.count, ScriptLexer.isLetter(source[i]) || ScriptLexer.isDigit(source[i]) { i += 1 }
      tokens.append((.symbol(Array(source[name..<i])), base + start))
    default:
      guard let sign = ScriptLexer.signs.first(where: { source[i...].starts(with: $0) }) else {
        throw ScriptSyntaxError(offset: base + i, text: "this character is not known")
      }
      i += sign.count
      switch first {
      case 40, 91, 123: brackets.append(first)
      case 41, 93, 125: _ = brackets.popLast()
      default: break
      }
      tokens.append((.sign(String(decoding: sign, as: UTF8.self)), base + start))
    }
    return true
  }

  /// `a ? b :c` and `"x":y` are no symbols; a symbol stands behind a blank, a bracket, a comma or an operator.
  private var isAfterLabelPlace: Bool {
    guard i > 0 else { return false }
    let before = source[i - 1]
    return ScriptLexer.isLetter(before) || ScriptLexer.isDigit(before) || before == 34 || before == 39 || before == 41
      || before == 93
  }

  /// The next line goes on with `.method`.
  private var isChained: Bool {
    var k = i
    while k < source.count, source[k] == 32 || source[k] == 9 || source[k] == 13 || source[k] == 10 { k += 1 }
    return byte(k) == 46 && byte(k + 1) != 46 || byte(k) == 38 && byte(k + 1) == 46
  }

  private mutating func number() -> ScriptToken {
    let start = i
    func digits(_ from: Int) -> Int {
      var k = from
      while ScriptLexer.isDigit(byte(k)) || byte(k) == 95 && ScriptLexer.isDigit(byte(k + 1)) { k += 1 }
      return k
    }
    i = digits(i)
    if byte(i) == 46, ScriptLexer.isDigit(byte(i + 1)) { i = digits(i + 1) }
    if byte(i) | 32 == 101 {
      let sign = byte(i + 1) == 43 || byte(i + 1) == 45 ? 1 : 0
      if ScriptLexer.isDigit(byte(i + 1 + sign)) { i = digits(i + 1 + sign) }
    }
    let text = String(decoding: source[start..<i].filter { $0 != 95 }, as: UTF8.self)
    if let whole = Int64(text) { return .integer(whole) }
    return .double(Double(text) ?? 0)
  }

  private mutating func word() -> ScriptToken {
    let start = i
    while i < source.count, ScriptLexer.isLetter(source[i]) || ScriptLexer.isDigit(source[i]) { i += 1 }
    let mark = byte(i)
    if mark == UInt8(ascii: "?") || mark == UInt8(ascii: "!"), byte(i + 1) != UInt8(ascii: "=") || byte(i + 2) == 61 {
      i += 1
    }
    let bytes = Array(source[start..<i])
    if byte(i) == UInt8(ascii: ":"), byte(i + 1) != UInt8(ascii: ":"), mark != UInt8(ascii: "?") {
      i += 1
      return .label(bytes)
    }
    let name = String(decoding: bytes, as: UTF8.self)
    return bytes[0] &- 65 < 26 ? .constant(name) : .name(name)
  }

  private mutating func text(_ quote: UInt8) throws(ScriptSyntaxError) -> ScriptToken {
    let start = i
    i += 1
    var pieces: [ScriptPiece] = []
    var bytes: [UInt8] = []
    while true {
      guard i < source.count else { throw ScriptSyntaxError(offset: base + start, text: "this text never ends") }
      let present = source[i]
      i += 1
      if present == quote { break }
      if present == UInt8(ascii: "\\"), i < source.count {
        appendEscape(source[i], quote, &bytes)
        i += 1
      } else if quote == 34, present == 35, byte(i) == 123 {
        let from = i + 1
        var depth = 1
        i = from
        while i < source.count, depth > 0 {
          if source[i] == 123 { depth += 1 }
          if source[i] == 125 { depth -= 1 }
          i += 1
        }
        guard depth == 0 else { throw ScriptSyntaxError(offset: base + from - 2, text: "'#{' has no '}'") }
        if !bytes.isEmpty { pieces.append(.text(bytes)) }
        bytes = []
        pieces.append(.code(Array(source[from..<i - 1]), offset: base + from))
      } else {
        bytes.append(present)
      }
    }
    if pieces.isEmpty { return .text(bytes) }
    if !bytes.isEmpty { pieces.append(.text(bytes)) }
    return .interpolated(pieces)
  }

  private func appendEscape(_ byte: UInt8, _ quote: UInt8, _ bytes: inout [UInt8]) {
    if quote == 39 {
      if byte != 39, byte != 92 { bytes.append(92) }
      bytes.append(byte)
      return
    }
    switch byte {
    case UInt8(ascii: "n"): bytes.append(10)
    case UInt8(ascii: "t"): bytes.append(9)
    case UInt8(ascii: "r"): bytes.append(13)
    case UInt8(ascii: "0"): bytes.append(0)
    case UInt8(ascii: "e"): bytes.append(27)
    case UInt8(ascii: "s"): bytes.append(32)
    default: bytes.append(byte)
    }
  }
}
