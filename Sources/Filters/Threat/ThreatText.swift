//  Text made plain before it is searched. Attackers write one thing in many ways: percent-encoded once or several times,
//  with comments for blanks, in odd case, as HTML entities or as overlong UTF-8. All of that is undone first, so that
//  the rules need to know one form. Case is left alone: automaton and expressions ignore it.

internal import Diagnostics

/// Undoes encodings in one text at a time; owned by one worker.
struct ThreatText: ~Copyable {
  /// More of a text is not searched.
  static let bytesMax = 8192
  /// How often percent-encoding is undone.
  private static let rounds = 3

  /// What kind of text it is, and so which bytes may begin an encoding there.
  enum Kind: UInt8 {
    /// Free text: semicolons and plus signs stand for themselves.
    case text = 1
    /// A path: entities may stand in it.
    case path = 3
    /// A query: `+` is a blank.
    case query = 7
  }

  private var first = ByteBuffer(capacity: 512)
  private var second = ByteBuffer(capacity: 512)
  private let marks: UnsafeMutablePointer<UInt8>

  init() {
    marks = .allocate(capacity: 256)
    for byte in 0..<256 {
      switch UInt8(byte) {
      case UInt8(ascii: "%"), UInt8(ascii: "*"), 0..<32, 0xC0, 0xC1, 0xEF: marks[byte] = 1
      case UInt8(ascii: "#"), UInt8(ascii: ";"): marks[byte] = 2
      case UInt8(ascii: "+"): marks[byte] = 4
      default: marks[byte] = 0
      }
    }
  }

  deinit { marks.deallocate() }

  /// The plain form of `text`, good until the next call; `text` itself where there is nothing to undo.
  mutating func plain(_ text: UnsafeRawBufferPointer, _ kind: Kind) -> UnsafeRawBufferPointer {
    let text = UnsafeRawBufferPointer(rebasing: text.prefix(ThreatText.bytesMax))
    guard isEncoded(text, kind) else { return text }
    first.removeAll()
    var isChanged = ThreatText.decode(text, isForm: kind == .query, &first)
    var round = 1
    while isChanged, round < ThreatText.rounds {
      second.removeAll()
      isChanged = ThreatText.decode(first.bytes, isForm: false, &second)
      swap(&first, &second)
      round += 1
    }
    second.removeAll()
    ThreatText.clean(first.bytes, &second)
    return second.bytes
  }

  /// Whether some byte of `text` may begin an encoding.
  @inline(__always)
  private func isEncoded(_ text: UnsafeRawBufferPointer, _ kind: Kind) -> Bool {
    var seen: UInt8 = 0
    for byte in text { seen |= marks[Int(byte)] }
    return seen & kind.rawValue != 0
  }

  /// One round of percent-decoding.
  ///
  /// - Returns: Whether anything was decoded.
  private static func decode(_ text: UnsafeRawBufferPointer, isForm: Bool, _ out: inout ByteBuffer) -> Bool {
    var isChanged = false
    var i = 0
    out.reserve(text.count)
    while i < text.count {
      let byte = text[i]
      if byte == UInt8(ascii: "%") {
        if let value = number(text, i + 1, 2) {
          out.append(UInt8(truncatingIfNeeded: value))
          isChanged = true
          i += 3
          continue
        }
        if i + 1 < text.count, text[i + 1] | 32 == UInt8(ascii: "u"), let value = number(text, i + 2, 4) {
          out.append(narrow(value))
          isChanged = true
          i += 6
          continue
        }
      }
      out.append(byte == UInt8(ascii: "+") && isForm ? 32 : byte)
      i += 1
    }
    return isChanged
  }

  /// Comments, entities, overlong characters and runs of blanks.
  private static func clean(_ text: UnsafeRawBufferPointer, _ out: inout ByteBuffer) {
    var i = 0
    out.reserve(text.count)
    func blank(_ out: inout ByteBuffer) {
      if out.count == 0 || out.pointer[out.count - 1] != 32 { out.append(32) }
    }
    while i < text.count {
      let byte = text[i]
      switch byte {
      case 0: i += 1
      case 1...32:
        blank(&out)
        i += 1
      case UInt8(ascii: "/") where i + 1 < text.count && text[i + 1] == UInt8(ascii: "*"):
        guard let end = commentEnd(text, i + 2) else {
          out.append(byte)
          i += 1
          continue
        }
        blank(&out)
        if i + 2 < text.count, text[i + 2] == UInt8(ascii: "!") {
          // MySQL runs what stands in such a comment.
          i += 3
          while i < end, text[i] &- 48 < 10 { i += 1 }
        } else {
          i = end
        }
      case UInt8(ascii: "*") where i + 1 < text.count && text[i + 1] == UInt8(ascii: "/"):
        blank(&out)
        i += 2
      case UInt8(ascii: "&"):
        let (value, length) = entity(text, i)
        out.append(value)
        i += length
      case 0xC0, 0xC1:
        // Two bytes for what fits in one: never written by honest programs.
        if i + 1 < text.count, text[i + 1] & 0x3F < 64 {
          out.append((byte & 1) << 6 | text[i + 1] & 0x3F)
          i += 2
        } else {
          i += 1
        }
      case 0xEF where i + 2 < text.count && text[i + 1] & 0xFE == 0xBC:
        // The wide twins of ASCII.
        let value = UInt32(byte & 15) << 12 | UInt32(text[i + 1] & 63) << 6 | UInt32(text[i + 2] & 63)
        out.append(narrow(value))
        i += 3
      default:
        out.append(byte)
        i += 1
      }
    }
  }

  private static func commentEnd(_ text: UnsafeRawBufferPointer, _ start: Int) -> Int? {
    var i = start
    while i + 1 < text.count {
      if text[i] == UInt8(ascii: "*"), text[i + 1] == UInt8(ascii: "/") { return i + 2 }
      i += 1
    }
    return nil
  }

  /// An entity at the `&` at `i`: its character and length, or the `&` itself.
  private static func entity(_ text: UnsafeRawBufferPointer, _ i: Int) -> (UInt8, Int) {
    if i + 2 < text.count, text[i + 1] == UInt8(ascii: "#") {
      let isHexadecimal = text[i + 2] | 32 == UInt8(ascii: "x")
      var at = i + (isHexadecimal ? 3 : 2)
      let start = at
      var value: UInt32 = 0
      while at < text.count, at - start < 8, let digit = hexadecimalValue(text[at]), isHexadecimal || digit < 10 {
        value = value &* (isHexadecimal ? 16 : 10) &+ UInt32(digit)
        at += 1
      }
      if at > start {
        if at < text.count, text[at] == UInt8(ascii: ";") { at += 1 }
        return (narrow(value), at - i)
      }
    }
    for (name, value) in [("lt;", 60), ("gt;", 62), ("quot;", 34), ("apos;", 39), ("amp;", 38)]
      as [(StaticString, UInt8)]
    {
      let count = name.utf8CodeUnitCount
      if i + count < text.count, (0..<count).allSatisfy({ text[i + 1 + $0] | 32 == name.utf8Start[$0] | 32 }) {
        return (value, count + 1)
      }
    }
    return (UInt8(ascii: "&"), 1)
  }

  /// ASCII and its wide twins as one byte; any other character as one that no rule asks for.
  private static func narrow(_ value: UInt32) -> UInt8 {
    if value < 128 { return UInt8(value) }
    if value >= 0xFF01, value <= 0xFF5E { return UInt8(value - 0xFEE0) }
    return 0xFF
  }

  private static func number(_ text: UnsafeRawBufferPointer, _ start: Int, _ count: Int) -> UInt32? {
    guard start + count <= text.count else { return nil }
    var value: UInt32 = 0
    for i in start..<start + count {
      guard let digit = hexadecimalValue(text[i]) else { return nil }
      value = value << 4 | UInt32(digit)
    }
    return value
  }

  private static func hexadecimalValue(_ byte: UInt8) -> UInt8? {
    if byte &- 48 < 10 { return byte &- 48 }
    let letter = (byte | 32) &- 97
    return letter < 6 ? letter &+ 10 : nil
  }
}
