//  Internet addresses as numbers: reading them from text, writing them, and sets of networks. geoip, cidr and the threat
//  score share one reader, so that they agree on what is an address.

public import Diagnostics

/// An IPv4 or IPv6 address.
public struct IPAddress: Hashable, Sendable {
  /// The address as a number; an IPv4 address fills the lower 32 bits.
  public var value: UInt128
  public var isV4: Bool

  public init(v4 value: UInt32) {
    self.value = UInt128(value)
    isV4 = true
  }

  public init(v6 value: UInt128) {
    self.value = value
    isV4 = false
  }

  /// The width of the family in bits.
  public var bitCount: Int { isV4 ? 32 : 128 }

  /// Reads `a.b.c.d` in decimal without leading zeros, or IPv6 in any of its text forms. Nothing may stand around it.
  public init?(_ text: UnsafeRawBufferPointer) {
    guard text.count >= 2, text.count <= 45 else { return nil }
    if let v4 = readV4(text, allowsLeadingZeros: false) {
      self.init(v4: v4)
    } else if let v6 = readV6(text) {
      self.init(v6: v6)
    } else {
      return nil
    }
  }

  public init?(text: String) {
    guard let address = text.utf8.withContiguousStorageIfAvailable({ IPAddress(UnsafeRawBufferPointer($0)) }) ?? nil
    else {
      return nil
    }
    self = address
  }

  /// The IPv4 address inside an IPv4-mapped IPv6 address, any other as it is.
  public var unmapped: IPAddress {
    !isV4 && value >> 32 == 0xFFFF ? IPAddress(v4: UInt32(truncatingIfNeeded: value)) : self
  }

  /// Writes the address: dotted decimal, or eight groups of lower-case hexadecimal digits without `::`.
  public func append(to out: inout ByteBuffer) {
    if isV4 {
      for shift in [24, 16, 8, 0] {
        out.append(decimal: Int(truncatingIfNeeded: value >> UInt128(shift)) & 255)
        if shift > 0 { out.append(UInt8(ascii: ".")) }
      }
      return
    }
    for group in 0..<8 {
      if group > 0 { out.append(UInt8(ascii: ":")) }
      let bits = UInt32(truncatingIfNeeded: value >> UInt128(112 - 16 * group)) & 0xFFFF
      var isLeading = true
      for shift in [12, 8, 4, 0] {
        let digit = UInt8(bits >> UInt32(shift) & 15)
        if digit == 0, isLeading, shift > 0 { continue }
        isLeading = false
        out.append(digit < 10 ? digit &+ 48 : digit &+ 87)
      }
    }
  }
}

/// An address as geoip accepts it: beside the strict forms also leading zeros (decimal), one whole number, brackets
/// around IPv6 and a zone behind it. IPv4-mapped IPv6 counts as IPv4.
struct LenientAddress {
  var address: IPAddress
  /// Where the zone's text begins, its `%` included; the text's end where there is none.
  var zone: Range<Int>

  init?(_ text: UnsafeRawBufferPointer) {
    zone = text.count..<text.count
    guard text.count >= 1, text.count <= 128 else { return nil }
    if let v4 = readV4(text, allowsLeadingZeros: true) ?? readNumber(text) {
      address = IPAddress(v4: v4)
      return
    }
    var body = 0..<text.count
    if text[0] == UInt8(ascii: "["), text.count > 2, text[text.count - 1] == UInt8(ascii: "]") {
      body = 1..<text.count - 1
      zone = body.upperBound..<body.upperBound
    }
    if let percent = body.first(where: { text[$0] == UInt8(ascii: "%") }) {
      zone = percent..<body.upperBound
      body = body.lowerBound..<percent
      // A zone is the name or the number of an interface.
      guard zone.count > 1, zone.dropFirst().allSatisfy({ isZoneByte(text[$0]) }) else { return nil }
    }
    guard let v6 = readV6(UnsafeRawBufferPointer(rebasing: text[body])) else { return nil }
    address = IPAddress(v6: v6).unmapped
    if address.isV4 { zone = body.upperBound..<body.upperBound }
  }
}

private func isZoneByte(_ byte: UInt8) -> Bool {
  byte &- 48 < 10 || (byte | 32) &- 97 < 26 || byte == 45 || byte == 46 || byte == 95
}

private func readV4(_ text: UnsafeRawBufferPointer, allowsLeadingZeros: Bool) -> UInt32? {
  guard text.count >= 7, text.count <= 15 else { return nil }
  var value: UInt32 = 0
  var part: UInt32 = 0
  var digits = 0
  var dots = 0
  for byte in text {
    let digit = byte &- 48
    if digit < 10 {
      if digits > 0, part == 0, !allowsLeadingZeros { return nil }
      part = part &* 10 &+ UInt32(digit)
      digits &+= 1
      if digits > 3 || part > 255 { return nil }
    } else if byte == UInt8(ascii: "."), digits > 0, dots < 3 {
      value = value << 8 | part
      part = 0
      digits = 0
      dots &+= 1
    } else {
      return nil
    }
  }
  return dots == 3 && digits > 0 ? value << 8 | part : nil
}

/// One whole number of at most 32 bits, as old tools write IPv4.
private func readNumber(_ text: UnsafeRawBufferPointer) -> UInt32? {
  guard text.count <= 10 else { return nil }
  var value: UInt64 = 0
  for byte in text {
    guard byte &- 48 < 10 else { return nil }
    value = value &* 10 &+ UInt64(byte &- 48)
  }
  return UInt32(exactly: value)
}

private func readV6(_ text: UnsafeRawBufferPointer) -> UInt128? {
  guard text.count >= 2, text.count <= 45 else { return nil }
  var value: UInt128 = 0
  var groups = 0
  var gap: Int?  // the number of groups before `::`
  var i = 0
  if text[0] == UInt8(ascii: ":") {
    guard text[1] == UInt8(ascii: ":") else { return nil }
    gap = 0
    i = 2
  }
  while i < text.count {
    let start = i
    var group: UInt32 = 0
    while i < text.count, let digit = hexadecimalDigit(text[i]) {
      group = group << 4 | UInt32(digit)
      i += 1
      if i - start > 4 { return nil }
    }
    if i < text.count, text[i] == UInt8(ascii: ".") {
      guard groups <= 6, let v4 = readV4(UnsafeRawBufferPointer(rebasing: text[start...]), allowsLeadingZeros: false)
      else {
        return nil
      }
      value = value << 32 | UInt128(v4)
      groups += 2
      i = text.count
      break
    }
    guard i > start, groups < 8 else { return nil }
    value = value << 16 | UInt128(group)
    groups += 1
    if i == text.count { break }
    guard text[i] == UInt8(ascii: ":") else { return nil }
    i += 1
    if i < text.count, text[i] == UInt8(ascii: ":") {
      guard gap == nil else { return nil }
      gap = groups
      i += 1
    } else if i == text.count {
      return nil  // a single colon at the end
    }
  }
  guard let gap else { return groups == 8 ? value : nil }
  guard groups < 8 else { return nil }
  let behind = (groups - gap) * 16
  let low = behind == 0 ? 0 : value & (UInt128.max >> UInt128(128 - behind))
  let high = gap == 0 ? 0 : (value >> UInt128(behind)) << UInt128(128 - gap * 16)
  return high | low
}

private func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
  if byte &- 48 < 10 { return byte &- 48 }
  let letter = (byte | 32) &- 97
  return letter < 6 ? letter &+ 10 : nil
}

/// The addresses from `first` to `last` of one family.
public struct IPNetwork: Hashable, Sendable {
  public var first: IPAddress
  public var last: IPAddress

  /// Reads `ADDRESS`, `ADDRESS/BITS` or `a.b.c.d/MASK`; bits behind the prefix are ignored.
  public init?(_ text: UnsafeRawBufferPointer) {
    let slash = text.firstIndex(of: UInt8(ascii: "/")) ?? text.count
    guard let address = IPAddress(UnsafeRawBufferPointer(rebasing: text[..<slash])) else { return nil }
    var bits = address.bitCount
    if slash < text.count {
      let rest = UnsafeRawBufferPointer(rebasing: text[(slash + 1)...])
      if address.isV4, let mask = readV4(rest, allowsLeadingZeros: false) {
        bits = (~mask).leadingZeroBitCount
        guard mask == 0 || mask == UInt32.max << UInt32(32 - bits) else { return nil }
      } else {
        guard rest.count >= 1, rest.count <= 3, let number = readNumber(rest), number <= UInt32(address.bitCount) else {
          return nil
        }
        bits = Int(number)
      }
    }
    let host = address.bitCount - bits
    let mask = host == 128 ? UInt128.max : (UInt128(1) << UInt128(host)) - 1
    first = address
    first.value = address.value & ~mask
    last = address
    last.value = address.value | mask
  }

  public init?(text: String) {
    guard let network = text.utf8.withContiguousStorageIfAvailable({ IPNetwork(UnsafeRawBufferPointer($0)) }) ?? nil
    else {
      return nil
    }
    self = network
  }
}

/// A set of networks, asked by binary search. An address of one family never lies in a network of the other.
public struct NetworkSet: Sendable {
  private var v4First: [UInt32] = []
  private var v4Last: [UInt32] = []
  private var v6First: [UInt128] = []
  private var v6Last: [UInt128] = []

  public init(_ networks: some Sequence<IPNetwork>) {
    // Networks are nested or apart; of nested ones the widest is enough.
    for network in networks.sorted(by: { ($0.first.value, $1.last.value) < ($1.first.value, $0.last.value) }) {
      if network.first.isV4 {
        let last = UInt32(truncatingIfNeeded: network.last.value)
        if let widest = v4Last.last, last <= widest { continue }
        v4First.append(UInt32(truncatingIfNeeded: network.first.value))
        v4Last.append(last)
      } else {
        if let widest = v6Last.last, network.last.value <= widest { continue }
        v6First.append(network.first.value)
        v6Last.append(network.last.value)
      }
    }
  }

  public var isEmpty: Bool { v4First.isEmpty && v6First.isEmpty }

  public func contains(_ address: IPAddress) -> Bool { contains(address, through: address) }

  /// Whether one network of the set holds the whole range.
  public func contains(_ network: IPNetwork) -> Bool { contains(network.first, through: network.last) }

  private func contains(_ first: IPAddress, through last: IPAddress) -> Bool {
    if first.isV4 {
      let value = UInt32(truncatingIfNeeded: first.value)
      let index = count(of: v4First, upTo: value) - 1
      return index >= 0 && UInt32(truncatingIfNeeded: last.value) <= v4Last[index]
    }
    let index = count(of: v6First, upTo: first.value) - 1
    return index >= 0 && last.value <= v6Last[index]
  }

  private func count<Value: Comparable>(of sorted: [Value], upTo value: Value) -> Int {
    var low = 0
    var high = sorted.count
    while low < high {
      let middle = (low &+ high) >> 1
      if sorted[middle] <= value { low = middle &+ 1 } else { high = middle }
    }
    return low
  }
}
