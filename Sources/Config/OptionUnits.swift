//  Durations and byte counts: a number with its unit, or a bare number where the option says which unit it has.

extension Duration: OptionValue {
  public static var typeName: String { "duration" }
  public static var schema: OptionSchema { .oneOf([.integer, .text]) }
  public static func isOff(_ text: String) -> Bool { text == "-1" || text == "off" }

  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Duration? {
    let expected =
      context.unit.map { "a duration such as 50ms or 5s, or a number of \($0.rawValue)" }
      ?? "a duration such as 50ms or 5s"
    guard let text = context.text(node, expected: expected) else { return nil }
    let (number, unit) = numberAndUnit(text)
    if unit.isEmpty, context.unit == nil, isNumber(number, fraction: true) {
      return context.refuse(node, expected: expected, hint: "the unit is missing: \(number)s")
    }
    let factor = unit.isEmpty ? context.unit.flatMap { nanosecondsPer($0) } : nanosecondsPer(name: unit)
    guard let factor, isNumber(number, fraction: true), !number.hasPrefix("-"), let value = Double(number) else {
      return context.refuse(node, expected: expected)
    }
    // Whole numbers stay exact; a century is enough for every option and far from any overflow.
    let limit: Int64 = 3_155_760_000_000_000_000
    if let whole = Int64(number) {
      let (product, overflow) = whole.multipliedReportingOverflow(by: factor)
      guard !overflow, product <= limit else { return context.refuse(node, expected: "at most 100 years") }
      return .nanoseconds(product)
    }
    let product = value * Double(factor)
    guard product <= Double(limit) else { return context.refuse(node, expected: "at most 100 years") }
    return .nanoseconds(Int64(product.rounded()))
  }

  public var optionText: String? {
    let (seconds, attoseconds) = components
    let nanoseconds = attoseconds / 1_000_000_000
    if nanoseconds != 0 {
      if nanoseconds % 1_000_000 == 0 { return "\(seconds * 1000 + nanoseconds / 1_000_000)ms" }
      if nanoseconds % 1000 == 0, abs(seconds) < 1_000_000 { return "\(seconds * 1_000_000 + nanoseconds / 1000)us" }
      return abs(seconds) < 1_000_000 ? "\(seconds * 1_000_000_000 + nanoseconds)ns" : "\(seconds)s"
    }
    if seconds != 0 {
      for (factor, unit) in [(86_400, "d"), (3600, "h"), (60, "m")] as [(Int64, String)] where seconds % factor == 0 {
        return "\(seconds / factor)\(unit)"
      }
    }
    return "\(seconds)s"
  }

  private static func nanosecondsPer(_ unit: OptionUnit) -> Int64? {
    switch unit {
    case .nanoseconds: 1
    case .microseconds: 1000
    case .milliseconds: 1_000_000
    case .seconds: 1_000_000_000
    case .minutes: 60_000_000_000
    case .hours: 3_600_000_000_000
    case .days: 86_400_000_000_000
    default: nil
    }
  }

  private static func nanosecondsPer(name unit: String) -> Int64? {
    switch unit {
    case "ns", "nanos": 1
    case "us", "µs", "micros": 1000
    case "ms": 1_000_000
    case "s": 1_000_000_000
    case "m", "min": 60_000_000_000
    case "h": 3_600_000_000_000
    case "d": 86_400_000_000_000
    default: nil
    }
  }
}

/// A number at the front of a text, and what follows it without blanks between.
private func numberAndUnit(_ text: String) -> (number: String, unit: String) {
  let number = text.utf8.prefix { (48...57).contains($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
  let rest = text[number.endIndex...]
  return (String(Substring(number)), String(rest.drop { $0 == " " }))
}

/// A number of bytes.
public struct ByteCount: OptionValue, Hashable, Comparable, ExpressibleByIntegerLiteral {
  public var bytes: Int

  public init(_ bytes: Int) { self.bytes = bytes }
  public init(integerLiteral value: Int) { bytes = value }
  public static func kib(_ count: Int) -> ByteCount { ByteCount(count << 10) }
  public static func mib(_ count: Int) -> ByteCount { ByteCount(count << 20) }
  public static func gib(_ count: Int) -> ByteCount { ByteCount(count << 30) }
  public static func < (left: ByteCount, right: ByteCount) -> Bool { left.bytes < right.bytes }

  public static var typeName: String { "byte count" }
  public static var schema: OptionSchema { .oneOf([.integer, .text]) }

  public static func read(_ node: YAMLNode, _ context: OptionContext) -> ByteCount? {
    let expected = "a number of bytes such as 512kib, 64mb or 1048576"
    guard let text = context.text(node, expected: expected) else { return nil }
    let (number, unit) = numberAndUnit(text)
    guard isNumber(number, fraction: true), !number.hasPrefix("-"),
      let factor = factor(unit.lowercased(), kilo: context.unit == .binaryBytes ? 1024 : 1000)
    else { return context.refuse(node, expected: expected) }
    if let whole = Int(number) {
      let (product, overflow) = whole.multipliedReportingOverflow(by: factor)
      guard !overflow else { return context.refuse(node, expected: "fewer bytes") }
      return ByteCount(product)
    }
    guard !unit.isEmpty, let value = Double(number), value * Double(factor) < 9e18 else {
      return context.refuse(node, expected: expected)
    }
    return ByteCount(Int((value * Double(factor)).rounded(.down)))
  }

  private static func factor(_ unit: String, kilo: Int) -> Int? {
    switch unit {
    case "", "b": return 1
    default: break
    }
    let letters = ["k", "m", "g", "t", "p"]
    guard let first = unit.first, let power = letters.firstIndex(of: String(first)) else { return nil }
    let base: Int
    switch unit.dropFirst() {
    case "", "b": base = kilo
    case "ib", "i": base = 1024
    default: return nil
    }
    return (0...power).reduce(1) { product, _ in product * base }
  }

  public var optionText: String? {
    for (shift, unit) in [(40, "tib"), (30, "gib"), (20, "mib"), (10, "kib")]
    where bytes != 0 && bytes % (1 << shift) == 0 {
      return "\(bytes >> shift)\(unit)"
    }
    return String(bytes)
  }
}
