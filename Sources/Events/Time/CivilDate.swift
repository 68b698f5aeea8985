//  Days since 1970 and dates of the Gregorian calendar, carried backwards without end as ISO 8601 does. Everything that
//  prints or reads a time stands on these few multiplications.

/// A date of the proleptic Gregorian calendar; year 0 is 1 BC.
public struct CivilDate: Hashable, Sendable {
  public var year: Int
  /// 1…12.
  public var month: Int
  /// 1…31.
  public var day: Int

  @inline(__always)
  public init(year: Int, month: Int, day: Int) {
    self.year = year
    self.month = month
    self.day = day
  }

  /// The date of a day, counted from 1970-01-01. Every day that a `Timestamp` can hold is safe.
  ///
  /// The calendar repeats after 400 years (146,097 days). Inside such an era the year starts in March, so that the leap
  /// day comes last, and multiplications by scaled reciprocals take the place of the divisions.
  @inline(__always)
  public init(daysSinceEpoch: Int) {
    let shifted = daysSinceEpoch &+ 719_468
    let era = (shifted >= 0 ? shifted : shifted &- 146_096) / 146_097
    let dayOfEra = UInt32(truncatingIfNeeded: shifted &- era &* 146_097)
    let quarters = 4 &* dayOfEra &+ 3
    let century = quarters / 146_097
    let centuryQuarters = (quarters % 146_097) | 3
    let product = 2_939_745 &* UInt64(centuryQuarters)
    let yearOfCentury = UInt32(truncatingIfNeeded: product >> 32)
    let dayOfYear = UInt32(truncatingIfNeeded: product) / 2_939_745 / 4
    let scaled = 2141 &* dayOfYear &+ 197_913
    let late = dayOfYear >= 306
    year = era &* 400 &+ Int(century &* 100 &+ yearOfCentury) &+ (late ? 1 : 0)
    month = Int(scaled >> 16) &- (late ? 12 : 0)
    day = Int((scaled & 0xffff) / 2141) &+ 1
  }

  /// Days since 1970-01-01. `month` must be 1…12; a day outside of the month counts on. Years within ±10¹² are safe.
  @inline(__always)
  public var daysSinceEpoch: Int {
    let early = month <= 2
    let shiftedYear = year &- (early ? 1 : 0)
    let era = (shiftedYear >= 0 ? shiftedYear : shiftedYear &- 399) / 400
    let yearOfEra = shiftedYear &- era &* 400
    let shiftedMonth = month &+ (early ? 9 : -3)
    let dayOfYear = (153 &* shiftedMonth &+ 2) / 5 &+ day &- 1
    let dayOfEra = yearOfEra &* 365 &+ yearOfEra / 4 &- yearOfEra / 100 &+ dayOfYear
    return era &* 146_097 &+ dayOfEra &- 719_468
  }

  /// 1…366.
  public var dayOfYear: Int { Self.daysBefore(month: month, leap: Self.isLeap(year)) &+ day }

  @inline(__always)
  public static func isLeap(_ year: Int) -> Bool { year & 3 == 0 && (year % 100 != 0 || year % 400 == 0) }

  /// Length of a month 1…12: 28…31.
  @inline(__always)
  public static func daysIn(month: Int, year: Int) -> Int {
    month == 2 ? (isLeap(year) ? 29 : 28) : 30 | (month ^ (month >> 3))
  }

  @inline(__always)
  static func daysBefore(month: Int, leap: Bool) -> Int {
    month > 2 ? (153 &* (month &- 3) &+ 2) / 5 &+ (leap ? 60 : 59) : (month &- 1) &* 31
  }

  /// 1 is Monday, 7 is Sunday.
  @inline(__always)
  public static func weekday(daysSinceEpoch days: Int) -> Int {
    let rest = (days &+ 3) % 7
    return (rest < 0 ? rest &+ 7 : rest) &+ 1
  }

  /// ISO 8601: weeks start on Monday, and week 1 holds the year's first Thursday.
  public static func isoWeek(daysSinceEpoch days: Int) -> (year: Int, week: Int, weekday: Int) {
    let weekday = weekday(daysSinceEpoch: days)
    let thursday = days &+ 4 &- weekday
    let date = CivilDate(daysSinceEpoch: thursday)
    return (date.year, (date.dayOfYear &- 1) / 7 &+ 1, weekday)
  }

  /// The Monday of ISO week 1 of a year, in days since 1970-01-01.
  public static func firstISOMonday(year: Int) -> Int {
    let fourth = CivilDate(year: year, month: 1, day: 4).daysSinceEpoch
    return fourth &+ 1 &- weekday(daysSinceEpoch: fourth)
  }

  /// 52 or 53.
  public static func isoWeeks(year: Int) -> Int { (firstISOMonday(year: year &+ 1) &- firstISOMonday(year: year)) / 7 }
}
