//  Questions to name servers and their answers, as bytes (RFC 1035). What comes from a server is untrusted: every length is
//  checked, and a compressed name may jump only so often.

internal import Diagnostics
internal import Glibc

enum DNSMessage {
  enum Kind: UInt16, Sendable {
    case address = 1
    case pointer = 12
    case address6 = 28
  }

  enum Answer: Equatable {
    /// An address or a name, as text.
    case found([UInt8])
    /// The name is there, but has nothing of that kind.
    case empty
    case unknownName
    /// The server cannot or will not say.
    case refused
    /// No answer to this question.
    case foreign
  }

  /// The longest answer that is read.
  static let limitBytes = 4096
  private static let jumpsMax = 64

  /// Appends a question.
  ///
  /// - Parameter name: ASCII with dots between its labels.
  /// - Returns: False where that is no name; nothing was appended then.
  static func appendQuery(_ id: UInt16, _ name: [UInt8], _ kind: Kind, to out: inout ByteBuffer) -> Bool {
    let start = out.count
    appendNumber(id, &out)
    appendNumber(0x0100, &out)  // recursion is desired
    appendNumber(1, &out)
    for _ in 0..<3 { appendNumber(0, &out) }
    guard appendName(name, to: &out) else {
      out.count = start
      return false
    }
    appendNumber(kind.rawValue, &out)
    appendNumber(1, &out)
    return true
  }

  private static func appendNumber(_ value: UInt16, _ out: inout ByteBuffer) {
    out.append(UInt8(value >> 8))
    out.append(UInt8(value & 0xff))
  }

  private static func appendName(_ name: [UInt8], to out: inout ByteBuffer) -> Bool {
    let labels = (name.last == 46 ? name.dropLast() : name[...]).split(separator: 46, omittingEmptySubsequences: false)
    guard labels.reduce(0, { $0 + $1.count + 1 }) < 255 else { return false }
    for label in labels {
      guard (1...63).contains(label.count) else { return false }
      out.append(UInt8(label.count))
      for byte in label { out.append(byte) }
    }
    out.append(0)
    return true
  }

  static func isName(_ name: [UInt8]) -> Bool {
    var out = ByteBuffer(capacity: 256)
    return appendName(name, to: &out)
  }

  /// Reads a server's message as the answer to a question.
  static func read(_ bytes: UnsafeRawBufferPointer, id: UInt16, _ name: [UInt8], _ kind: Kind) -> Answer {
    guard bytes.count >= 12, number(bytes, 0) == id, bytes[2] & 0xf8 == 0x80, number(bytes, 4) == 1 else {
      return .foreign
    }
    var offset = 12
    let asked = name.last == 46 ? Array(name.dropLast()) : name
    guard let echo = readName(bytes, &offset), offset + 4 <= bytes.count, isEqual(echo, asked),
      number(bytes, offset) == kind.rawValue, number(bytes, offset + 2) == 1
    else { return .foreign }
    offset += 4
    switch bytes[3] & 15 {
    case 0: break
    case 3: return .unknownName
    default: return .refused
    }
    for _ in 0..<number(bytes, 6) {
      guard readName(bytes, &offset) != nil, offset + 10 <= bytes.count else { break }
      let type = number(bytes, offset)
      let length = Int(number(bytes, offset + 8))
      let data = offset + 10
      offset = data + length
      guard offset <= bytes.count else { break }
      if type == kind.rawValue, let text = text(bytes, data, length, kind) { return .found(text) }
    }
    // A message that was cut says nothing of what it left out.
    return bytes[2] & 2 == 0 ? .empty : .refused
  }

  private static func number(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt16 {
    UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
  }

  private static func text(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ length: Int, _ kind: Kind) -> [UInt8]? {
    switch kind {
    case .pointer:
      var offset = start
      guard let name = readName(bytes, &offset), !name.isEmpty else { return nil }
      return name
    case .address, .address6:
      guard length == (kind == .address ? 4 : 16), let base = bytes.baseAddress else { return nil }
      var text = [CChar](repeating: 0, count: 64)
      let family = kind == .address ? AF_INET : AF_INET6
      guard inet_ntop(family, base + start, &text, socklen_t(text.count)) != nil else { return nil }
      return text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    }
  }

  /// Reads a name, with dots between its labels; nil where it is damaged.
  private static func readName(_ bytes: UnsafeRawBufferPointer, _ offset: inout Int) -> [UInt8]? {
    var name: [UInt8] = []
    var place = offset
    var jumps = 0
    while true {
      guard place < bytes.count else { return nil }
      let length = Int(bytes[place])
      switch length {
      case 0:
        if jumps == 0 { offset = place + 1 }
        return name
      case 1...63:
        guard place + 1 + length <= bytes.count, name.count + length + 1 <= 255 else { return nil }
        if !name.isEmpty { name.append(46) }
        name.append(contentsOf: bytes[place + 1..<place + 1 + length])
        place += 1 + length
      case 0xc0...0xff:
        guard place + 1 < bytes.count, jumps < jumpsMax else { return nil }
        if jumps == 0 { offset = place + 2 }
        jumps += 1
        place = (length & 0x3f) << 8 | Int(bytes[place + 1])
      default: return nil
      }
    }
  }

  private static func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    func small(_ byte: UInt8) -> UInt8 { byte &- 65 < 26 ? byte | 32 : byte }
    return left.count == right.count && zip(left, right).allSatisfy { small($0) == small($1) }
  }
}
