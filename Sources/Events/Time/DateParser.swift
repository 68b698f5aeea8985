//  The engine of the date filter: a list of formats, compiled once and tried in turn, a zone for texts without one, and
//  the year that short dates leave out.
//
//  Reading allocates nothing. All results are cut to milliseconds, as the filter has always given them.

internal import Diagnostics
internal import Glibc

/// A date format that cannot be used.
public struct DateFormatError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The format's place in the list, from 0.
  public var index: Int
  public var cause: TimePatternError

  public var description: String { cause.description }
}

/// Compiled date formats. Immutable, so any number of threads may read with it.
public final class DateParser: Sendable {
  private enum Format: Sendable {
    case iso8601, seconds, milliseconds, tai64n
    case pattern(DatePattern)
  }
  private let formats: [Format]
  private let zone: TimeZoneRules
  /// Things in the formats that work and are probably meant otherwise.
  public let warnings: [String]

  /// - Parameter formats: `ISO8601`, `UNIX`, `UNIX_MS`, `TAI64N`, or patterns of Joda-Time's letters.
  /// - Parameter zone: For texts without one; nil is the machine's.
  /// - Parameter locale: A language tag (`de`, `pt_BR`); nil is the machine's, beside which English names are read too.
  /// - Parameter now: Two digits of a year mean the hundred years around it.
  public init(formats: [String], zone: TimeZoneRules? = nil, locale: String? = nil, now: Timestamp = .now)
    throws(DateFormatError)
  {
    var compiled: [Format] = []
    var warnings: [String] = []
    let names = LocaleNames.find(locale ?? LocaleNames.host)
    let year = CivilDate(daysSinceEpoch: now.dayAndSecond.day).year
    for (index, format) in formats.enumerated() {
      switch format {
      case "ISO8601": compiled.append(.iso8601)
      case "UNIX": compiled.append(.seconds)
      case "UNIX_MS": compiled.append(.milliseconds)
      case "TAI64N": compiled.append(.tai64n)
      default:
        do throws(TimePatternError) {
          let pattern = try DatePattern(format, names: names, year: year)
          compiled.append(.pattern(pattern))
          warnings += pattern.warnings
          if locale == nil, pattern.hasNames, names != .english {
            compiled.append(.pattern(try DatePattern(format, names: .english, year: year)))
          }
        } catch {
          throw DateFormatError(index: index, cause: error)
        }
      }
    }
    self.formats = compiled
    self.zone = zone ?? .host
    self.warnings = warnings
  }

  /// Reads a text.
  ///
  /// - Parameter now: Gives the year to texts without one.
  /// - Parameter zone: Overrides the parser's, for events that bring their own.
  /// - Returns: Nil where no format fits.
  public func parse(_ text: UnsafeRawBufferPointer, now: Timestamp, zone: TimeZoneRules? = nil) -> Timestamp? {
    guard let p = text.baseAddress, text.count > 0 else { return nil }
    return formats.withUnsafeBufferPointer { formats in
      for i in 0..<formats.count {
        let time: Timestamp?
        switch formats[i] {
        case .iso8601: time = iso8601(p, text.count, zone)
        case .seconds: time = DateEpoch.seconds(p, text.count)
        case .milliseconds: time = DateEpoch.milliseconds(p, text.count)
        case .tai64n: time = DateEpoch.tai64n(p, text.count)
        case .pattern(let pattern): time = read(pattern, p, text.count, now, zone)
        }
        if let time { return time }
      }
      return nil
    }
  }

  /// Reads a text by the formats that count alone, for which no zone has to be known.
  public func parse(counted text: UnsafeRawBufferPointer) -> Timestamp? {
    guard let p = text.baseAddress, text.count > 0 else { return nil }
    for format in formats {
      let time: Timestamp?
      switch format {
      case .seconds: time = DateEpoch.seconds(p, text.count)
      case .milliseconds: time = DateEpoch.milliseconds(p, text.count)
      case .tai64n: time = DateEpoch.tai64n(p, text.count)
      case .iso8601, .pattern: time = nil
      }
      if let time { return time }
    }
    return nil
  }

  /// Reads a whole number, which only the formats that count take.
  public func parse(integer value: Int64) -> Timestamp? {
    for format in formats {
      switch format {
      case .seconds: if let time = DateEpoch.seconds(value) { return time }
      case .milliseconds: return Timestamp(milliseconds: value)
      default: continue
      }
    }
    return nil
  }

  /// Reads a float, which only the formats that count take.
  public func parse(double value: Double) -> Timestamp? {
    for format in formats {
      switch format {
      case .seconds: if let time = DateEpoch.seconds(value) { return time }
      case .milliseconds: if let time = DateEpoch.milliseconds(value) { return time }
      default: continue
      }
    }
    return nil
  }

  @inline(__always)
  private func iso8601(_ p: UnsafeRawPointer, _ count: Int, _ zone: TimeZoneRules?) -> Timestamp? {
    guard let moment = DateISO8601.read(p, count) else { return nil }
    let nanos = UInt32(truncatingIfNeeded: moment.milliseconds) &* 1_000_000
    if let offset = moment.offset { return Timestamp(seconds: moment.seconds &- Int64(offset), nanos: nanos) }
    guard let seconds = (zone ?? self.zone).utc(local: moment.seconds) else { return nil }
    return Timestamp(seconds: seconds, nanos: nanos)
  }

  @inline(__always)
  private func read(
    _ pattern: DatePattern, _ p: UnsafeRawPointer, _ count: Int, _ now: Timestamp, _ zone: TimeZoneRules?
  ) -> Timestamp? {
    var fields = DateFields()
    var thisMonth = 0
    var thisYear = 0
    if !pattern.hasYear {
      let host = TimeZoneRules.host
      let local = now.seconds &+ Int64(host.offset(at: now.seconds))
      let today = CivilDate(daysSinceEpoch: Int(floorDivide(local, 86_400).quotient))
      (thisYear, thisMonth) = (today.year, today.month)
    }
    guard let local = pattern.read(p, count, defaultYear: thisYear, &fields) else { return nil }
    var utc: Int64
    if let offset = fields.offset {
      utc = local.seconds &- Int64(offset)
    } else {
      guard let seconds = (fields.zone ?? zone ?? self.zone).utc(local: local.seconds) else { return nil }
      utc = seconds
    }
    if !pattern.hasYear {
      guard let seconds = withYear(utc, thisYear, thisMonth, zone ?? self.zone) else { return nil }
      utc = seconds
    }
    return Timestamp(seconds: utc, nanos: UInt32(truncatingIfNeeded: local.milliseconds) &* 1_000_000)
  }

  /// Moves a moment into the present year: into the last one for a December that is read in January, into the next one
  /// for a January that is read in December.
  private func withYear(_ utc: Int64, _ year: Int, _ month: Int, _ zone: TimeZoneRules) -> Int64? {
    let (day, second) = floorDivide(utc &+ Int64(zone.offset(at: utc)), 86_400)
    var days = Int(day)
    let eventMonth = CivilDate(daysSinceEpoch: days).month
    let shift = eventMonth == 12 && month == 1 ? -1 : eventMonth == 1 && month == 12 ? 1 : 0
    guard DateFields.setYear(&days, year &+ shift, false) else { return nil }
    return zone.utc(local: Int64(days) &* 86_400 &+ second)
  }
}
