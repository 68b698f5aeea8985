//  Texts with escapes: what is read is what was meant, wherever the escapes fall.

import Diagnostics
import Events
import Testing

@Suite struct EscapedTextTests {
  /// One character of a text and ways to write it.
  private static let characters: [(meant: String, written: [String])] = [
    ("a", ["a", "\\u0061"]), ("\"", ["\\\"", "\\u0022"]), ("\\", ["\\\\", "\\u005c"]), ("/", ["/", "\\/"]),
    ("\n", ["\\n", "\\u000A"]), ("\t", ["\\t"]), ("\r", ["\\r"]), ("\u{8}", ["\\b"]), ("\u{c}", ["\\f"]),
    ("ä", ["ä", "\\u00e4"]), ("€", ["€", "\\u20AC"]), ("😀", ["😀", "\\ud83d\\ude00"]), ("\u{fffd}", ["\\ud800"]),
    ("0123456789abcdef", ["0123456789abcdef"]),
  ]

  @Test(arguments: 0..<40)
  func `escapes stand for what they should at any offset`(_ seed: Int) throws {
    var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 | 1
    func draw(_ below: Int) -> Int {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return Int(state % UInt64(below))
    }
    let batch = EventBatch()
    let event = batch.add(arrivalNs: 0)
    for _ in 0..<200 {
      var meant = ""
      var written = "\""
      for _ in 0..<draw(40) {
        let character = EscapedTextTests.characters[draw(EscapedTextTests.characters.count)]
        meant += character.meant
        written += character.written[draw(character.written.count)]
      }
      written += "\""
      let value = try Array(written.utf8).withUnsafeBytes { try event.parseJSON($0) }
      let read = withExtendedLifetime(batch) { value.string }
      #expect(read == meant, "\(written), seed \(seed)")
    }
  }
}

@Suite struct SeveralValueTests {
  @Test(arguments: [
    ("1 2", "2"), (#"{"a":1}{"b":2}"#, #"{"b":2}"#), (#""a""b""#, #""b""#), ("[1][2]", "[2]"), ("\u{feff}true", "true"),
    (" 7 ", "7"),
  ])
  func `the last of several values counts`(_ text: String, _ last: String) throws {
    let batch = EventBatch()
    let event = batch.add(arrivalNs: 0)
    let value = try Array(text.utf8).withUnsafeBytes { try event.parseLastJSON($0) }
    var out = ByteBuffer()
    withExtendedLifetime(batch) { value.appendJSON(to: &out) }
    #expect(out.string() == last)
  }

  @Test(arguments: ["", " ", "1 x", "1{}", "true[]", "{} }", "[1],[2]", "1,"])
  func `what is no run of values is refused`(_ text: String) {
    let batch = EventBatch()
    let event = batch.add(arrivalNs: 0)
    _ = withExtendedLifetime(batch) {
      #expect(throws: JSONError.self) { try Array(text.utf8).withUnsafeBytes { try event.parseLastJSON($0) } }
    }
  }
}

@Suite struct RubyNumberTests {
  @Test(arguments: [
    (1.0, "1.0"), (0.25, "0.25"), (-0.0, "-0.0"), (1e15, "1000000000000000.0"), (1e16, "1.0e+16"), (1.5e20, "1.5e+20"),
    (0.0001, "0.0001"), (0.00012, "0.00012"), (0.00001, "1.0e-05"), (1.25e-7, "1.25e-07"), (1e100, "1.0e+100"),
    (123456789.125, "123456789.125"), (16777217.0, "16777217.0"), (.infinity, "Infinity"),
    (0.1 + 0.2, "0.30000000000000004"),
  ])
  func `a float prints as in Ruby`(_ value: Double, _ text: String) {
    var out = ByteBuffer()
    appendRubyDouble(value, to: &out)
    #expect(out.string() == text)
  }
}

@Suite struct QuotedTextTests {
  /// What each byte below 128 is in a JSON text.
  private static func written(_ byte: UInt8) -> String {
    switch byte {
    case 34: return "\\\""
    case 92: return "\\\\"
    case 8: return "\\b"
    case 9: return "\\t"
    case 10: return "\\n"
    case 12: return "\\f"
    case 13: return "\\r"
    case 0..<16: return "\\u000" + String(byte, radix: 16)
    case 16..<32: return "\\u001" + String(byte - 16, radix: 16)
    default: return String(UnicodeScalar(byte))
    }
  }

  @Test func `every byte is escaped as it must be, at every place of texts of every length`() {
    for length in 1...50 {
      for place in 0..<length {
        for byte: UInt8 in [0, 8, 9, 10, 12, 13, 15, 16, 31, 32, 33, 34, 35, 91, 92, 93, 127] {
          var text = [UInt8](repeating: UInt8(ascii: "x"), count: length)
          text[place] = byte
          // Exactly as long as the text, so that reading behind it is found by the sanitizer.
          let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 1)
          defer { memory.deallocate() }
          memory.copyBytes(from: text)
          var out = ByteBuffer()
          appendQuoted(UnsafeRawBufferPointer(memory), to: &out)
          let x = String(repeating: "x", count: length)
          #expect(out.string() == "\"\(x.prefix(place))\(Self.written(byte))\(x.dropFirst(place + 1))\"")
        }
      }
    }
  }

  @Test(arguments: ["", "é", "…", "naïve café über", "0123456é", "0123456789abcdé", "0123456789abcdef…", "😀😀😀😀😀"])
  func `other characters stay as they are`(_ text: String) {
    var out = ByteBuffer()
    out.append(quoted: text)
    #expect(out.string() == "\"\(text)\"")
  }
}
