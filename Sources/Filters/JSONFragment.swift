//  JSON text of filters' results. Look-ups keep their answers as ready JSON, so that a repeated one costs no encoding.

internal import Diagnostics

extension ByteBuffer {
  /// Writes `text` as a JSON string with its quotes. What is not UTF-8 becomes the replacement character, so that a
  /// damaged database or a value cut within a character never makes a damaged document.
  mutating func appendJSON(_ text: UnsafeRawBufferPointer) {
    append(UInt8(ascii: "\""))
    appendJSONContent(text)
    append(UInt8(ascii: "\""))
  }

  /// The same without the quotes.
  mutating func appendJSONContent(_ text: UnsafeRawBufferPointer) {
    reserve(text.count)
    var i = 0
    while i < text.count {
      let byte = text[i]
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        append(UInt8(ascii: "\\"))
        append(byte)
        i += 1
      case 0..<32:
        append("\\u00")
        append(byte >> 4 &+ 48)
        append(byte & 15 < 10 ? byte & 15 &+ 48 : byte & 15 &+ 87)
        i += 1
      case 32..<128:
        append(byte)
        i += 1
      default:
        let length = characterLength(text, i)
        if length == 0 {
          append("\u{FFFD}")
          i += 1
        } else {
          for k in i..<i + length { append(text[k]) }
          i += length
        }
      }
    }
  }

  mutating func appendJSON(_ text: StaticString) {
    append(UInt8(ascii: "\""))
    append(text)
    append(UInt8(ascii: "\""))
  }

  /// Writes a finite number in the fewest digits that give it back.
  mutating func appendJSON(_ number: Double) {
    // Up to nine places before and six behind the point, printing an integer is exact and ten times as fast.
    let scaled = (number * 1_000_000).rounded()
    guard number.magnitude < 1e9, number.magnitude >= 0.0001, scaled / 1_000_000 == number else {
      append(text: number.isFinite ? "\(number)" : "null")
      return
    }
    let whole = Int64(scaled.magnitude)
    if number < 0 { append(UInt8(ascii: "-")) }
    append(decimal: whole / 1_000_000)
    append(UInt8(ascii: "."))
    append(decimal: Int(whole % 1_000_000), width: 6)
    while pointer[count - 1] == UInt8(ascii: "0"), pointer[count - 2] != UInt8(ascii: ".") { count -= 1 }
  }
}

/// The length of the well-formed UTF-8 character of two to four bytes at `i`, or 0.
private func characterLength(_ text: UnsafeRawBufferPointer, _ i: Int) -> Int {
  func follows(_ k: Int, _ low: UInt8 = 0x80, _ high: UInt8 = 0xBF) -> Bool {
    i + k < text.count && text[i + k] >= low && text[i + k] <= high
  }
  switch text[i] {
  case 0xC2...0xDF: return follows(1) ? 2 : 0
  case 0xE0: return follows(1, 0xA0) && follows(2) ? 3 : 0
  case 0xED: return follows(1, 0x80, 0x9F) && follows(2) ? 3 : 0
  case 0xE1...0xEF: return follows(1) && follows(2) ? 3 : 0
  case 0xF0: return follows(1, 0x90) && follows(2) && follows(3) ? 4 : 0
  case 0xF1...0xF3: return follows(1) && follows(2) && follows(3) ? 4 : 0
  case 0xF4: return follows(1, 0x80, 0x8F) && follows(2) && follows(3) ? 4 : 0
  default: return 0
  }
}
