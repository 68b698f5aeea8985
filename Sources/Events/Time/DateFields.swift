//  From the fields that a text named to a moment, by the rules of Joda-Time: fields are set one after another on
//  1970-01-01T00:00, the widest first, and every value must exist where it is set.

internal import Diagnostics

/// What a date text can name, widest first: the order in which fields are set.
enum DateField: UInt8, CaseIterable {
  case era, century, year, yearOfEra, weekYear
  case month, week, dayOfYear, day, weekday
  case halfday, hour, clockHour, halfdayHour, clockHalfdayHour, minute, second, millisecond

  var bit: UInt32 { 1 << UInt32(rawValue) }

  /// With one of these as the widest field the year is the default one.
  static let wantsYear: UInt32 = [DateField.month, .week, .dayOfYear, .day, .weekday].reduce(0) { $0 | $1.bit }
  static let years: UInt32 = [DateField.era, .century, .year, .yearOfEra, .weekYear].reduce(0) { $0 | $1.bit }
  /// Fields that need the general way.
  static let rare: UInt32 = [DateField.era, .century, .yearOfEra, .weekYear, .week, .dayOfYear]
    .reduce(0) { $0 | $1.bit }
}

/// Values read from a text. Which of them count is known from the pattern.
struct DateFields {
  var era = 0
  var century = 0
  var year = 0
  var yearOfEra = 0
  var weekYear = 0
  var month = 1
  var week = 0
  var dayOfYear = 0
  var day = 1
  var weekday = 0
  var halfday = 0
  var hour = 0
  var clockHour = 0
  var halfdayHour = 0
  var clockHalfdayHour = 0
  var minute = 0
  var second = 0
  var millisecond = 0
  /// Seconds east of UTC, where the text has an offset.
  var offset: Int?
  /// Where the text names a zone.
  var zone: TimeZoneRules?

  @inline(__always)
  mutating func store(_ value: Int, _ field: DateField) {
    switch field {
    case .era: era = value
    case .century: century = value
    case .year: year = value
    case .yearOfEra: yearOfEra = value
    case .weekYear: weekYear = value
    case .month: month = value
    case .week: week = value
    case .dayOfYear: dayOfYear = value
    case .day: day = value
    case .weekday: weekday = value
    case .halfday: halfday = value
    case .hour: hour = value
    case .clockHour: clockHour = value
    case .halfdayHour: halfdayHour = value
    case .clockHalfdayHour: clockHalfdayHour = value
    case .minute: minute = value
    case .second: second = value
    case .millisecond: millisecond = value
    }
  }

  func value(_ field: DateField) -> Int {
    switch field {
    case .era: era
    case .century: century
    case .year: year
    case .yearOfEra: yearOfEra
    case .weekYear: weekYear
    case .month: month
    case .week: week
    case .dayOfYear: dayOfYear
    case .day: day
    case .weekday: weekday
    case .halfday: halfday
    case .hour: hour
    case .clockHour: clockHour
    case .halfdayHour: halfdayHour
    case .clockHalfdayHour: clockHalfdayHour
    case .minute: minute
    case .second: second
    case .millisecond: millisecond
    }
  }

  /// Years that milliseconds in 64 bits reach.
  static let years = -292_275_054...292_278_993

  /// Local seconds since 1970 and milliseconds, or nil where a value does not exist.
  ///
  /// - Parameter present: The bits of the fields that the pattern names.
  /// - Parameter order: Those fields as they are to be set.
  @inline(__always)
  func local(_ present: UInt32, order: [DateField], defaultYear: Int) -> (seconds: Int64, milliseconds: Int)? {
    guard let second = secondOfDay(present) else { return nil }
    if present & DateField.rare != 0 {
      guard let days = rareDays(order: order, present, defaultYear: defaultYear) else { return nil }
      return (Int64(days &* 86_400 &+ second), millisecond)
    }
    if present & (DateField.year.bit | DateField.wantsYear) == 0 { return (Int64(second), millisecond) }
    let year = present & DateField.year.bit != 0 ? year : defaultYear
    guard month &- 1 >= 0, month <= 12, day >= 1, day <= 28 || day <= CivilDate.daysIn(month: month, year: year),
      DateFields.years.contains(year)
    else { return nil }
    var days = CivilDate(year: year, month: month, day: day).daysSinceEpoch
    if present & DateField.weekday.bit != 0 {
      guard weekday >= 1, weekday <= 7 else { return nil }
      days &+= weekday &- CivilDate.weekday(daysSinceEpoch: days)
    }
    return (Int64(days &* 86_400 &+ second), millisecond)
  }

  @inline(__always)
  private func secondOfDay(_ present: UInt32) -> Int? {
    var hours = hour
    var flaw = hours | (23 &- hours) | minute | (59 &- minute) | second | (59 &- second)
    let others =
      DateField.halfday.bit | DateField.clockHour.bit | DateField.halfdayHour.bit
      | DateField.clockHalfdayHour.bit
    if present & others != 0 {
      if present & DateField.halfday.bit != 0, present & DateField.hour.bit == 0 { hours = halfday &* 12 }
      if present & DateField.clockHour.bit != 0 {
        flaw |= (clockHour &- 1) | (24 &- clockHour)
        hours = clockHour % 24
      }
      if present & DateField.halfdayHour.bit != 0 {
        flaw |= halfdayHour | (11 &- halfdayHour)
        hours = hours / 12 &* 12 &+ halfdayHour
      }
      if present & DateField.clockHalfdayHour.bit != 0 {
        flaw |= (clockHalfdayHour &- 1) | (12 &- clockHalfdayHour)
        hours = hours / 12 &* 12 &+ clockHalfdayHour % 12
      }
    }
    return flaw < 0 ? nil : hours &* 3600 &+ minute &* 60 &+ second
  }

  // MARK: The general way

  /// Sets one field after another, twice: at first everything narrower falls back to its beginning, then the values
  /// meet each other.
  @inline(never)
  private func rareDays(order: [DateField], _ present: UInt32, defaultYear: Int) -> Int? {
    var days = 0
    for floor in [true, false] {
      if present & DateField.years == 0, !DateFields.set(&days, .year, defaultYear, floor) { return nil }
      for field in order where field.rawValue <= DateField.weekday.rawValue {
        guard DateFields.set(&days, field, value(field), floor) else { return nil }
      }
    }
    return days
  }

  private static func set(_ days: inout Int, _ field: DateField, _ value: Int, _ floor: Bool) -> Bool {
    let date = CivilDate(daysSinceEpoch: days)
    switch field {
    case .era:
      guard value == 0 || value == 1 else { return false }
      if (date.year > 0) != (value == 1), !setYear(&days, 0 &- date.year, false) { return false }
      if floor { days = CivilDate(year: value == 1 ? 1 : years.lowerBound, month: 1, day: 1).daysSinceEpoch }
    case .century:
      guard value >= 0, value <= 2_922_789 else { return false }
      let year = value &* 100 &+ (floor ? 0 : Int(date.year.magnitude % 100))
      return setYear(&days, date.year < 0 ? 0 &- year : year, floor)
    case .year: return setYear(&days, value, floor)
    case .yearOfEra: return value >= 0 && setYear(&days, date.year < 0 ? 0 &- value : value, floor)
    case .weekYear:
      guard years.contains(value) else { return false }
      let old = CivilDate.isoWeek(daysSinceEpoch: days)
      days = CivilDate.firstISOMonday(year: value)
      if !floor { days &+= (min(old.week, CivilDate.isoWeeks(year: value)) &- 1) &* 7 &+ old.weekday &- 1 }
    case .month:
      guard value >= 1, value <= 12 else { return false }
      let day = floor ? 1 : min(date.day, CivilDate.daysIn(month: value, year: date.year))
      days = CivilDate(year: date.year, month: value, day: day).daysSinceEpoch
    case .week:
      let old = CivilDate.isoWeek(daysSinceEpoch: days)
      guard value >= 1, value <= 52 || value <= CivilDate.isoWeeks(year: old.year) else { return false }
      days &+= (value &- old.week) &* 7 &- (floor ? old.weekday &- 1 : 0)
    case .dayOfYear:
      guard value >= 1, value <= (CivilDate.isLeap(date.year) ? 366 : 365) else { return false }
      days &+= value &- date.dayOfYear
    case .day:
      guard value >= 1, value <= CivilDate.daysIn(month: date.month, year: date.year) else { return false }
      days &+= value &- date.day
    case .weekday:
      guard value >= 1, value <= 7 else { return false }
      days &+= value &- CivilDate.weekday(daysSinceEpoch: days)
    default: break
    }
    return true
  }

  /// The same day of another year; 29 February becomes the 28th where there is none.
  static func setYear(_ days: inout Int, _ year: Int, _ floor: Bool) -> Bool {
    guard years.contains(year) else { return false }
    let date = CivilDate(daysSinceEpoch: days)
    let day = floor ? 1 : min(date.day, CivilDate.daysIn(month: date.month, year: year))
    days = CivilDate(year: year, month: floor ? 1 : date.month, day: day).daysSinceEpoch
    return true
  }
}
