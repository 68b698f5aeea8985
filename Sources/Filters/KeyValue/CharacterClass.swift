//  A set of characters as options such as `field_split` write it: what stands between the brackets of a regular
//  expression. Simple ones become a table of bytes; the rest is left to the expression.

internal import Patterns

/// The characters of an option. Immutable; any thread may use it.
struct CharacterClass: Sendable {
  /// One flag for each ASCII character.
  private(set) var ascii: [Bool] = Array(repeating: false, count: 128)
  /// Single characters beyond ASCII, in UTF-8.
  private(set) var wide: [[UInt8]] = []
  /// The option as it was written.
  let source: String

  /// - Returns: Nil where the text is more than characters, ranges and plain escapes.
  init?(_ source: String) {
    self.source = source
    let scalars = Array(source.unicodeScalars)
    if scalars.first == "^" { return nil }
    var i = 0
    var previous: Unicode.Scalar?
    while i < scalars.count {
      let scalar = scalars[i]
      switch scalar {
      case "[", "]", "&": return nil
      case "-" where previous != nil && i + 1 < scalars.count:
        guard let first = previous, scalars[i + 1] != "\\", scalars[i + 1] != "[", first.value < 128,
          scalars[i + 1].value < 128, first.value <= scalars[i + 1].value
        else { return nil }
        for value in first.value...scalars[i + 1].value { ascii[Int(value)] = true }
        previous = nil
        i += 2
        continue
      case "\\":
        guard i + 1 < scalars.count, let escaped = CharacterClass.unescaped(scalars[i + 1]) else { return nil }
        insert(escaped)
        previous = escaped
        i += 2
        continue
      default:
        insert(scalar)
        previous = scalar
      }
      i += 1
    }
  }

  private mutating func insert(_ scalar: Unicode.Scalar) {
    if scalar.value < 128 { ascii[Int(scalar.value)] = true } else { wide.append(Array(String(scalar).utf8)) }
  }

  private static func unescaped(_ scalar: Unicode.Scalar) -> Unicode.Scalar? {
    switch scalar {
    case "n": "\n"
    case "t": "\t"
    case "r": "\r"
    case "f": "\u{c}"
    case "v": "\u{b}"
    case "0"..."9", "A"..."Z", "a"..."z": nil
    default: scalar.value < 128 ? scalar : nil
    }
  }

  /// The length of the character of the class at `i`; 0 where another character stands there.
  @inline(__always)
  func length(_ text: UnsafeRawBufferPointer, _ i: Int) -> Int {
    let byte = text[i]
    if byte < 128 { return ascii[Int(byte)] ? 1 : 0 }
    for character in wide where i + character.count <= text.count {
      if text[i..<(i + character.count)].elementsEqual(character) { return character.count }
    }
    return 0
  }
}

/// Taking characters off the ends of a text, or out of it.
struct CharacterRemoval: Sendable {
  private let characters: CharacterClass?
  /// One character of the class, where it is more than a list.
  private let pattern: Pattern?

  init(_ source: String) throws(PatternError) {
    characters = CharacterClass(source)
    pattern = characters == nil ? try Pattern(ruby: "\\A[\(source)]", dialect: .condition) : nil
  }

  private func length(_ text: UnsafeRawBufferPointer, _ i: Int, _ scratch: MatchScratch) -> Int {
    if let characters { return characters.length(text, i) }
    guard let pattern, case .match = scratch.match(pattern, text.slice(i, text.count), options: .validText) else {
      return 0
    }
    return scratch.end(of: 0)
  }

  /// The text without such characters at its ends.
  func trimmed(_ text: UnsafeRawBufferPointer, _ scratch: MatchScratch) -> UnsafeRawBufferPointer {
    var start = 0
    while start < text.count {
      let n = length(text, start, scratch)
      if n == 0 { break }
      start += n
    }
    var end = text.count
    while end > start {
      var last = end - 1
      while last > start, text[last] & 0xc0 == 0x80 { last -= 1 }
      if length(text.slice(last, end), 0, scratch) == 0 { break }
      end = last
    }
    return text.slice(start, end)
  }

  /// Whether such a character stands anywhere in the text.
  func occurs(in text: UnsafeRawBufferPointer, _ scratch: MatchScratch) -> Bool {
    var i = 0
    while i < text.count {
      if length(text, i, scratch) > 0 { return true }
      i += 1
      while i < text.count, text[i] & 0xc0 == 0x80 { i += 1 }
    }
    return false
  }

  /// Writes the text without such characters and returns how many bytes were written.
  func remove(from text: UnsafeRawBufferPointer, to out: UnsafeMutablePointer<UInt8>, _ scratch: MatchScratch) -> Int {
    var i = 0
    var n = 0
    while i < text.count {
      let skipped = length(text, i, scratch)
      if skipped > 0 {
        i += skipped
        continue
      }
      repeat {
        out[n] = text[i]
        n += 1
        i += 1
      } while i < text.count && text[i] & 0xc0 == 0x80
    }
    return n
  }
}
