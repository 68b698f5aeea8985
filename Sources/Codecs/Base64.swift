//  Base64 (RFC 4648), with the standard and the URL alphabet.

public import Diagnostics

public enum Base64 {
  public enum Alphabet: Sendable {
    /// `+` and `/`, padded with `=`.
    case standard
    /// `-` and `_`, without padding.
    case url
  }

  private static let standardDigits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  private static let urlDigits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
  private static let standardValues = values(of: standardDigits)
  private static let urlValues = values(of: urlDigits)

  private static func values(of digits: [UInt8]) -> [UInt8] {
    var table = [UInt8](repeating: 255, count: 256)
    for (value, digit) in digits.enumerated() { table[Int(digit)] = UInt8(value) }
    return table
  }

  /// Appends the text of `bytes` to `output`.
  public static func encode(_ bytes: UnsafeRawBufferPointer, _ alphabet: Alphabet = .standard, into output: inout ByteBuffer) {
    let digits = alphabet == .standard ? standardDigits : urlDigits
    output.reserve((bytes.count + 2) / 3 * 4)
    var i = 0
    while i + 3 <= bytes.count {
      let group = UInt32(bytes[i]) << 16 | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2])
      output.append(digits[Int(group >> 18)])
      output.append(digits[Int(group >> 12 & 63)])
      output.append(digits[Int(group >> 6 & 63)])
      output.append(digits[Int(group & 63)])
      i += 3
    }
    let left = bytes.count - i
    guard left > 0 else { return }
    let group = UInt32(bytes[i]) << 16 | (left == 2 ? UInt32(bytes[i + 1]) << 8 : 0)
    output.append(digits[Int(group >> 18)])
    output.append(digits[Int(group >> 12 & 63)])
    if left == 2 { output.append(digits[Int(group >> 6 & 63)]) }
    if alphabet == .standard {
      for _ in left..<3 { output.append(UInt8(ascii: "=")) }
    }
  }

  public static func encode(_ bytes: [UInt8], _ alphabet: Alphabet = .standard) -> String {
    var output = ByteBuffer(capacity: bytes.count / 3 * 4 + 4)
    bytes.withUnsafeBytes { encode($0, alphabet, into: &output) }
    return output.string()
  }

  /// The bytes of `text`; nil where it is not base64. Padding may be left away; anything else must be exact, also the
  /// unused bits of the last digit, so that one value has one text.
  public static func decode(_ text: some Collection<UInt8>, _ alphabet: Alphabet = .standard) -> [UInt8]? {
    let values = alphabet == .standard ? standardValues : urlValues
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count / 4 * 3 + 3)
    var group: UInt32 = 0
    var digits = 0
    var padding = 0
    for byte in text {
      if byte == UInt8(ascii: "=") {
        padding += 1
        continue
      }
      let value = values[Int(byte)]
      guard value != 255, padding == 0 else { return nil }
      group = group << 6 | UInt32(value)
      digits += 1
      if digits == 4 {
        bytes.append(UInt8(truncatingIfNeeded: group >> 16))
        bytes.append(UInt8(truncatingIfNeeded: group >> 8))
        bytes.append(UInt8(truncatingIfNeeded: group))
        group = 0
        digits = 0
      }
    }
    guard padding == 0 || padding == (4 - digits) % 4, padding <= 2 else { return nil }
    switch digits {
    case 0: return padding == 0 ? bytes : nil
    case 2:
      guard group & 0xf == 0 else { return nil }
      bytes.append(UInt8(truncatingIfNeeded: group >> 4))
      return bytes
    case 3:
      guard group & 0x3 == 0 else { return nil }
      bytes.append(UInt8(truncatingIfNeeded: group >> 10))
      bytes.append(UInt8(truncatingIfNeeded: group >> 2))
      return bytes
    default: return nil
    }
  }
}
