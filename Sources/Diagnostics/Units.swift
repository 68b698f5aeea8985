//  Durations as people write and read them: in options, settings and on the command line.

extension Duration {
  /// Longest duration that is read from text, a century: enough for every option, and far from any overflow.
  public static let longestRead = Duration.seconds(3_155_760_000)

  public enum TextFailure: Error { case noDuration, tooLong }

  /// Reads `50ms`, `1.5s`, `7d`; units are ns (nanos), us (micros), ms, s, m (min), h, d.
  ///
  /// - Parameter bareUnit: The unit of a number alone; nil refuses one.
  public init(text: String, bareUnit: Duration? = nil) throws(TextFailure) {
    let number = text.utf8.prefix { (48...57).contains($0) || $0 == UInt8(ascii: ".") }
    let name = String(text[number.endIndex...].drop { $0 == " " })
    let unit = name.isEmpty ? bareUnit : Self.unit(named: name)
    let parts = number.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard let unit, (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else { throw .noDuration }
    let factor = unit.components.seconds * 1_000_000_000 + unit.components.attoseconds / 1_000_000_000
    let limit = Self.longestRead.components.seconds * 1_000_000_000
    if parts.count == 1 {  // whole numbers stay exact
      guard let whole = Int64(String(Substring(number))) else { throw .tooLong }
      let (product, overflow) = whole.multipliedReportingOverflow(by: factor)
      if overflow || product > limit { throw .tooLong }
      self = .nanoseconds(product)
    } else {
      guard let value = Double(String(Substring(number))) else { throw .noDuration }
      let product = value * Double(factor)
      guard product <= Double(limit) else { throw .tooLong }
      self = .nanoseconds(Int64(product.rounded()))
    }
  }

  private static func unit(named name: String) -> Duration? {
    switch name {
    case "ns", "nanos": .nanoseconds(1)
    case "us", "µs", "micros": .microseconds(1)
    case "ms": .milliseconds(1)
    case "s": .seconds(1)
    case "m", "min": .seconds(60)
    case "h": .seconds(3600)
    case "d": .seconds(86_400)
    default: nil
    }
  }

  /// The shortest exact text with one unit: `50ms`, `90s`, `2h`.
  public var text: String {
    let (seconds, attoseconds) = components
    let nanoseconds = attoseconds / 1_000_000_000
    if nanoseconds != 0, abs(seconds) < 1_000_000_000 {
      let all = seconds * 1_000_000_000 + nanoseconds
      if all % 1_000_000 == 0 { return "\(all / 1_000_000)ms" }
      return all % 1000 == 0 ? "\(all / 1000)us" : "\(all)ns"
    }
    for (factor, unit) in [(86_400, "d"), (3600, "h"), (60, "m")] as [(Int64, String)]
    where seconds != 0 && seconds % factor == 0 {
      return "\(seconds / factor)\(unit)"
    }
    return "\(seconds)s"
  }
}
