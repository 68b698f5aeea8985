//  The types that a column may be converted to. A text that is no value of its type stays a text.

internal import Config
internal import Events
internal import Glibc

/// A type of the option `convert`.
enum CSVType: String, OptionEnum {
  case integer, float, date, boolean
  case dateTime = "date_time"

  /// The converted value; nil where the text stays.
  func convert(_ text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits? {
    switch self {
    case .integer: RubyLiteral.integer(text, event)
    case .float: RubyLiteral.double(text).map { .double($0) }
    case .boolean: CSVType.boolean(text)
    case .date: CSVDate(text, hasTime: false)?.day.map { .timestamp($0) }
    case .dateTime: CSVDate(text, hasTime: true).map { .timestamp($0.moment) }
    }
  }

  private static func boolean(_ text: UnsafeRawBufferPointer) -> ValueBits? {
    let word = trimmed(text)
    if equalsFolded(word, "true") { return .boolean(true) }
    return equalsFolded(word, "false") ? .boolean(false) : nil
  }
}

/// `text` without white space at its ends.
func trimmed(_ text: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
  var start = 0
  var end = text.count
  while start < end, isSpace(text[start]) { start += 1 }
  while end > start, isSpace(text[end - 1]) { end -= 1 }
  return text.slice(start, end)
}

/// Whether `text` is `word`, which is in small letters, in letters of any case.
func equalsFolded(_ text: UnsafeRawBufferPointer, _ word: StaticString) -> Bool {
  guard text.count == word.utf8CodeUnitCount else { return false }
  for i in 0..<text.count {
    let byte = text[i]
    if (byte &- 65 < 26 ? byte | 32 : byte) != word.utf8Start[i] { return false }
  }
  return true
}

/// A date as the column types `date` and `date_time` know it: `2025-03-09` with or without a time, or
/// `Sun Mar 9 07:12:44 2025` with or without the weekday.
private struct CSVDate {
  private var year = 0
  private var month = 0
  private var dayOfMonth = 0
  private var secondOfDay = 0
  private var nanos: UInt32 = 0
  private var offset = 0

  /// Midnight at the machine's place; nil in a gap.
  var day: Timestamp? { TimeZoneRules.host.utc(local: Int64(days) * 86400).map { Timestamp(seconds: $0) } }
  /// UTC where no zone was written.
  var moment: Timestamp {
    Timestamp(seconds: Int64(days) * 86400 + Int64(secondOfDay - offset), nanos: nanos).cutToMilliseconds
  }
  private var days: Int { CivilDate(year: year, month: month, day: dayOfMonth).daysSinceEpoch }

  init?(_ text: UnsafeRawBufferPointer, hasTime: Bool) {
    guard text.count >= 8, text.count <= 64 else { return nil }
    var reader = Reader(text: text)
    if text[0] &- 48 < 10 {
      guard readISO(&reader, hasTime: hasTime) else { return nil }
    } else {
      guard readWords(&reader, hasTime: hasTime) else { return nil }
    }
    guard reader.isAtEnd, month >= 1, month <= 12, dayOfMonth >= 1,
      dayOfMonth <= CivilDate.daysIn(month: month, year: year)
    else { return nil }
  }

  private mutating func readISO(_ reader: inout Reader, hasTime: Bool) -> Bool {
    guard let year = reader.digits(4, 4), reader.take(45), let month = reader.digits(2, 2), reader.take(45),
      let day = reader.digits(2, 2)
    else { return false }
    (self.year, self.month, dayOfMonth) = (year, month, day)
    if reader.isAtEnd { return true }
    guard hasTime, reader.take(84) || reader.take(32), let hour = reader.digits(2, 2), reader.take(58),
      let minute = reader.digits(2, 2), hour < 24, minute < 60
    else { return false }
    secondOfDay = hour * 3600 + minute * 60
    if reader.take(58) {
      guard let second = reader.digits(2, 2), second < 60 else { return false }
      secondOfDay += second
      if reader.take(46) {
        guard let fraction = reader.fraction() else { return false }
        nanos = fraction
      }
    }
    if reader.isAtEnd || reader.take(90) { return true }
    let isWest = reader.take(45)
    guard isWest || reader.take(43), let hours = reader.digits(2, 2), reader.take(58),
      let minutes = reader.digits(2, 2),
      hours < 24, minutes < 60
    else { return false }
    offset = (hours * 60 + minutes) * (isWest ? -60 : 60)
    return true
  }

  private mutating func readWords(_ reader: inout Reader, hasTime: Bool) -> Bool {
    var word = reader.word()
    if CSVDate.index(of: word, in: CSVDate.weekdays) != nil {
      _ = reader.take(44)
      guard reader.blanks() else { return false }
      word = reader.word()
    }
    guard let month = CSVDate.index(of: word, in: CSVDate.months), reader.blanks(), let day = reader.digits(1, 2) else {
      return false
    }
    self.month = month + 1
    dayOfMonth = day
    if hasTime {
      guard reader.blanks(), let hour = reader.digits(1, 2), reader.take(58), let minute = reader.digits(1, 2),
        reader.take(58), let second = reader.digits(1, 2), hour < 24, minute < 60, second < 60
      else { return false }
      secondOfDay = hour * 3600 + minute * 60 + second
    }
    _ = reader.take(44)
    guard reader.blanks() else { return false }
    let start = reader.i
    guard let year = reader.digits(2, 4) else { return false }
    // Two digits mean 1969 to 2068.
    self.year = reader.i - start == 2 ? year + (year >= 69 ? 1900 : 2000) : year
    return true
  }

  private static let months: [StaticString] = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
  ]
  private static let weekdays: [StaticString] = [
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
  ]

  /// The place of a name, written in full or as its first three letters.
  private static func index(of word: UnsafeRawBufferPointer, in names: [StaticString]) -> Int? {
    guard word.count >= 3 else { return nil }
    return names.firstIndex { name in
      guard word.count == 3 || word.count == name.utf8CodeUnitCount else { return false }
      for i in 0..<word.count where word[i] | 32 != name.utf8Start[i] { return false }
      return true
    }
  }

  private struct Reader {
    let text: UnsafeRawBufferPointer
    var i = 0

    var isAtEnd: Bool { i == text.count }

    mutating func take(_ byte: UInt8) -> Bool {
      guard i < text.count, text[i] == byte else { return false }
      i += 1
      return true
    }

    mutating func digits(_ least: Int, _ most: Int) -> Int? {
      var value = 0
      let start = i
      while i < text.count, i - start < most, text[i] &- 48 < 10 {
        value = value * 10 + Int(text[i] - 48)
        i += 1
      }
      return i - start < least ? nil : value
    }

    /// Digits behind a point, as nanoseconds.
    mutating func fraction() -> UInt32? {
      var value: UInt32 = 0
      let start = i
      while i < text.count, text[i] &- 48 < 10 {
        if i - start < 9 { value = value * 10 + UInt32(text[i] - 48) }
        i += 1
      }
      guard i > start else { return nil }
      for _ in 0..<max(0, 9 - (i - start)) { value *= 10 }
      return value
    }

    mutating func word() -> UnsafeRawBufferPointer {
      let start = i
      while i < text.count, (text[i] | 32) &- 97 < 26 { i += 1 }
      return text.slice(start, i)
    }

    mutating func blanks() -> Bool {
      let start = i
      while i < text.count, isSpace(text[i]) { i += 1 }
      return i > start
    }
  }
}
