//  Durations and byte counts: a number with its unit, or a bare number where the option says which unit it has.

internal import Diagnostics

extension Duration: OptionValue {
  public static var typeName: String { "duration" }
  public static var schema: OptionSchema { .oneOf([.integer, .text]) }
  public static func isOff(_ text: String) -> Bool { text == "-1" || text == "off" }

  public static func read(_ node: YAMLNode, _ context: OptionContext) -> Duration? {
    let expected =
      context.unit.map { "a duration such as 50ms or 5s, or a number of \($0.rawValue)" }
      ?? "a duration such as 50ms or 5s"
    guard let text = context.text(node, expected: expected) else { return nil }
    do throws(TextFailure) {
      return try Duration(text: text, bareUnit: context.unit.flatMap { duration(of: $0) })
    } catch {
      switch error {
      case .tooLong: return context.refuse(node, expected: "at most 100 years")
      case .noDuration:
        let isBare = context.unit == nil && isNumber(text, fraction: true)
        return context.refuse(node, expected: expected, hint: isBare ? "the unit is missing: \(text)s" : nil)
      }
    }
  }

  public var optionText: String? { text }

  private static func duration(of unit: OptionUnit) -> Duration? {
    switch unit {
    case .nanoseconds: .nanoseconds(1)
    case .microseconds: .microseconds(1)
    case .milliseconds: .milliseconds(1)
    case .seconds: .seconds(1)
    case .minutes: .seconds(60)
    case .hours: .seconds(3600)
    case .days: .seconds(86_400)
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
