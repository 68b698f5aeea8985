//  Names with letters beyond ASCII, as servers know them: `xn--` and the letters in Punycode (RFC 3492), label by label.

/// Domain names between Unicode and ASCII.
public enum InternationalName {
  private static let prefix = Array("xn--".utf8)
  private static let (base, tMin, tMax, skew, damp) = (36, 1, 26, 38, 700)

  /// The name in ASCII; nil where it cannot be written so. ASCII stays as it is, other labels lose their case.
  public static func ascii(_ name: [UInt8]) -> [UInt8]? {
    if name.allSatisfy({ $0 < 0x80 }) { return name }
    guard name.count <= 1024 else { return nil }
    var result: [UInt8] = []
    for (i, label) in name.split(separator: 46, omittingEmptySubsequences: false).enumerated() {
      if i > 0 { result.append(46) }
      if label.allSatisfy({ $0 < 0x80 }) {
        result += label
      } else {
        let scalars = String(decoding: label, as: UTF8.self).lowercased().unicodeScalars.map(\.value)
        guard let encoded = encode(scalars) else { return nil }
        result += prefix + encoded
      }
    }
    return result
  }

  /// The name with its `xn--` labels as text; those that are damaged stay.
  public static func unicode(_ name: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    for (i, label) in name.split(separator: 46, omittingEmptySubsequences: false).enumerated() {
      if i > 0 { result.append(46) }
      let isEncoded = label.prefix(4).map { $0 &- 65 < 26 ? $0 | 32 : $0 } == prefix
      if isEncoded, let scalars = decode(label.dropFirst(4)) {
        var text = String.UnicodeScalarView()
        for value in scalars { if let scalar = Unicode.Scalar(value) { text.append(scalar) } }
        result += Array(String(text).utf8)
      } else {
        result += label
      }
    }
    return result
  }

  private static func adapt(_ delta: Int, _ count: Int, isFirst: Bool) -> Int {
    var delta = isFirst ? delta / damp : delta / 2
    delta += delta / count
    var k = 0
    while delta > (base - tMin) * tMax / 2 {
      delta /= base - tMin
      k += base
    }
    return k + (base - tMin + 1) * delta / (delta + skew)
  }

  private static func threshold(_ k: Int, _ bias: Int) -> Int { min(max(k - bias, tMin), tMax) }

  private static func digit(_ value: Int) -> UInt8 { UInt8(value < 26 ? value + 97 : value + 22) }

  private static func encode(_ scalars: [UInt32]) -> [UInt8]? {
    var out = scalars.filter { $0 < 0x80 }.map { UInt8($0) }
    let basic = out.count
    if basic > 0 { out.append(45) }
    var handled = basic
    var present: UInt32 = 0x80
    var delta = 0
    var bias = 72
    while handled < scalars.count {
      guard let next = scalars.filter({ $0 >= present }).min() else { return nil }
      delta += Int(next - present) * (handled + 1)
      present = next
      for scalar in scalars {
        if scalar < present { delta += 1 }
        guard scalar == present else { continue }
        var rest = delta
        var k = base
        while true {
          let t = threshold(k, bias)
          if rest < t { break }
          out.append(digit(t + (rest - t) % (base - t)))
          rest = (rest - t) / (base - t)
          k += base
        }
        out.append(digit(rest))
        guard out.count <= 59 else { return nil }
        bias = adapt(delta, handled + 1, isFirst: handled == basic)
        delta = 0
        handled += 1
      }
      delta += 1
      present += 1
    }
    return out
  }

  private static func decode(_ label: ArraySlice<UInt8>) -> [UInt32]? {
    guard label.count <= 63, label.allSatisfy({ $0 < 0x80 }) else { return nil }
    var out: [UInt32] = []
    var rest = label
    if let hyphen = label.lastIndex(of: 45) {
      out = label[..<hyphen].map { UInt32($0) }
      rest = label[(hyphen + 1)...]
    }
    var present = 0x80
    var i = 0
    var bias = 72
    while !rest.isEmpty {
      let before = i
      var weight = 1
      var k = base
      while true {
        guard let byte = rest.popFirst() else { return nil }
        let value: Int
        switch byte {
        case 48...57: value = Int(byte) - 22
        case 65...90: value = Int(byte) - 65
        case 97...122: value = Int(byte) - 97
        default: return nil
        }
        i += value * weight
        guard i < 1 << 40 else { return nil }
        let t = threshold(k, bias)
        if value < t { break }
        weight *= base - t
        guard weight < 1 << 40 else { return nil }
        k += base
      }
      bias = adapt(i - before, out.count + 1, isFirst: before == 0)
      present += i / (out.count + 1)
      i %= out.count + 1
      guard present <= 0x10ffff, Unicode.Scalar(UInt32(present)) != nil else { return nil }
      out.insert(UInt32(present), at: i)
      i += 1
    }
    return out
  }
}
