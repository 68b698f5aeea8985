//  The `ISO8601` format of the date filter: calendar, ordinal and week dates, times with parts missing from the right,
//  fractions of the second, minute or hour, and the form with a blank that many programs write.

enum DateISO8601 {
  /// A local time, and what the text says of its zone.
  struct Moment {
    var seconds: Int64
    var milliseconds: Int
    /// Seconds east of UTC; nil where the text says nothing.
    var offset: Int?
  }

  /// Reads a whole text; nil where it is no such date.
  @inline(__always)
  static func read(_ p: UnsafeRawPointer, _ count: Int) -> Moment? {
    if count >= 19, let seconds = plainSeconds(p) {
      var moment = Moment(seconds: seconds, milliseconds: 0, offset: nil)
      var i = 19
      if i < count, byte(p, i) == UInt8(ascii: ".") || byte(p, i) == UInt8(ascii: ",") {
        i &+= 1
        guard let fraction = fraction(p, count, &i, of: 1000) else { return nil }
        moment.milliseconds = fraction
      }
      return zone(p, count, i, &moment) ? moment : nil
    }
    return rare(p, count)
  }

  @inline(__always)
  private static func zone(_ p: UnsafeRawPointer, _ count: Int, _ i: Int, _ moment: inout Moment) -> Bool {
    if i == count { return true }
    if byte(p, i) | 32 == UInt8(ascii: "z") {
      moment.offset = 0
      return i &+ 1 == count
    }
    var i = i
    var fields = DateFields()
    guard DatePattern.offset(p, count, &i, &fields), i == count else { return false }
    moment.offset = fields.offset
    return true
  }

  /// Up to nine digits as a part of `whole` milliseconds. Digits that stand for less than one are cut.
  @inline(__always)
  private static func fraction(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, of whole: Int) -> Int? {
    let start = i
    var unit = whole
    var value = 0
    while i < count, i &- start < 9, byte(p, i) &- 48 <= 9 {
      value &+= Int(byte(p, i) &- 48) &* unit
      unit /= 10
      i &+= 1
    }
    return i > start ? value / 10 : nil
  }

  /// 1 to `most` digits.
  private static func number(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ most: Int) -> Int? {
    let start = i
    var value = 0
    while i < count, i &- start < most, byte(p, i) &- 48 <= 9 {
      value = value &* 10 &+ Int(byte(p, i) &- 48)
      i &+= 1
    }
    return i > start ? value : nil
  }

  private static func at(_ p: UnsafeRawPointer, _ count: Int, _ i: Int, _ mark: UInt8) -> Bool {
    i < count && byte(p, i) == mark
  }

  @inline(never)
  private static func rare(_ p: UnsafeRawPointer, _ count: Int) -> Moment? {
    var i = 0
    var moment = Moment(seconds: 0, milliseconds: 0, offset: nil)
    guard count > 0 else { return nil }
    if byte(p, 0) | 32 == UInt8(ascii: "t") {
      i = 1
      guard time(p, count, &i, &moment) else { return nil }
      return zone(p, count, i, &moment) ? moment : nil
    }
    guard let days = date(p, count, &i) else { return nil }
    moment.seconds = Int64(days.value &* 86_400)
    if i == count { return moment }
    if byte(p, i) == UInt8(ascii: " "), days.isCalendar {
      i &+= 1
      return blankTime(p, count, &i, &moment) && zone(p, count, i, &moment) ? moment : nil
    }
    guard byte(p, i) | 32 == UInt8(ascii: "t") else { return nil }
    i &+= 1
    if i < count, byte(p, i) &- 48 <= 9, !time(p, count, &i, &moment) { return nil }
    return zone(p, count, i, &moment) ? moment : nil
  }

  /// Days since 1970 of `yyyy`, `yyyy-MM`, `yyyy-MM-dd`, `yyyy-DDD`, `xxxx-Www` or `xxxx-Www-e`. Of the readings that
  /// are possible the longest counts, and of equally long ones the calendar date.
  private static func date(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int) -> (value: Int, isCalendar: Bool)? {
    var negative = false
    if byte(p, 0) == UInt8(ascii: "-") || byte(p, 0) == UInt8(ascii: "+") {
      negative = byte(p, 0) == UInt8(ascii: "-")
      i = 1
    }
    guard var year = number(p, count, &i, 9) else { return nil }
    if negative { year = 0 &- year }
    guard DateFields.years.contains(year) else { return nil }
    let first = CivilDate(year: year, month: 1, day: 1).daysSinceEpoch
    guard at(p, count, i, UInt8(ascii: "-")) else { return (first, false) }
    if i &+ 1 < count, byte(p, i &+ 1) | 32 == UInt8(ascii: "w") {
      i &+= 2
      guard let week = number(p, count, &i, 2), week >= 1, week <= CivilDate.isoWeeks(year: year) else { return nil }
      var weekday = 1
      if at(p, count, i, UInt8(ascii: "-")) {
        i &+= 1
        guard let value = number(p, count, &i, 1), value >= 1, value <= 7 else { return nil }
        weekday = value
      }
      return (CivilDate.firstISOMonday(year: year) &+ (week &- 1) &* 7 &+ weekday &- 1, false)
    }
    let start = i &+ 1
    var calendarEnd = start
    guard let month = number(p, count, &calendarEnd, 2) else { return nil }
    var day = 1
    var hasDay = false
    if at(p, count, calendarEnd, UInt8(ascii: "-")) {
      var dayEnd = calendarEnd &+ 1
      if let value = number(p, count, &dayEnd, 2) {
        day = value
        hasDay = true
        calendarEnd = dayEnd
      }
    }
    var ordinalEnd = start
    if let dayOfYear = number(p, count, &ordinalEnd, 3), ordinalEnd > calendarEnd {
      guard dayOfYear >= 1, dayOfYear <= (CivilDate.isLeap(year) ? 366 : 365) else { return nil }
      i = ordinalEnd
      return (first &+ dayOfYear &- 1, false)
    }
    i = calendarEnd
    guard month >= 1, month <= 12, day >= 1, day <= CivilDate.daysIn(month: month, year: year) else { return nil }
    return (CivilDate(year: year, month: month, day: day).daysSinceEpoch, hasDay)
  }

  /// `HH[:mm[:ss]]` with a fraction of the last.
  private static func time(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ moment: inout Moment) -> Bool {
    guard let hour = number(p, count, &i, 2), hour <= 23 else { return false }
    moment.seconds &+= Int64(hour &* 3600)
    var unit = 3_600_000
    for seconds in [60, 1] where at(p, count, i, UInt8(ascii: ":")) {
      i &+= 1
      guard let value = number(p, count, &i, 2), value <= 59 else { return false }
      moment.seconds &+= Int64(value &* seconds)
      unit = seconds &* 1000
    }
    if at(p, count, i, UInt8(ascii: ".")) || at(p, count, i, UInt8(ascii: ",")) {
      i &+= 1
      guard let value = fraction(p, count, &i, of: unit) else { return false }
      moment.seconds &+= Int64(value / 1000)
      moment.milliseconds = value % 1000
    }
    return true
  }

  /// `HH:mm:ss.SSS`, the fraction being what tells this form from others.
  private static func blankTime(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ moment: inout Moment) -> Bool {
    var fields = (0, 0, 0)
    guard let hour = number(p, count, &i, 2), hour <= 23, at(p, count, i, UInt8(ascii: ":")) else { return false }
    i &+= 1
    guard let minute = number(p, count, &i, 2), minute <= 59, at(p, count, i, UInt8(ascii: ":")) else { return false }
    i &+= 1
    guard let second = number(p, count, &i, 2), second <= 59,
      at(p, count, i, UInt8(ascii: ".")) || at(p, count, i, UInt8(ascii: ","))
    else { return false }
    i &+= 1
    fields = (hour, minute, second)
    let start = i
    guard let value = fraction(p, count, &i, of: 1000), i &- start <= 3 else { return false }
    moment.seconds &+= Int64(fields.0 &* 3600 &+ fields.1 &* 60 &+ fields.2)
    moment.milliseconds = value
    return true
  }
}
