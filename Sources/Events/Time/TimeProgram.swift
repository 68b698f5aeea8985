//  What the two kinds of date patterns become: a short list of steps that write into raw memory. Both languages mean the
//  same fields, so one machine prints them; only the compilers differ.

internal import Diagnostics
internal import Glibc

/// A date pattern that cannot be used.
public struct TimePatternError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What is wrong, in one sentence without a full stop.
  public var text: String
  /// The pattern's character at fault, counted from 1.
  public var character: Int

  public var description: String { "\(text) at character \(character) of the date pattern" }
}

/// A number that a moment has. Weeks named `local` are those of the United States: from Sunday, week 1 with 1 January.
enum TimeField: UInt8 {
  case year, yearOfEra, distanceOfYear, century
  case month, quarter, day, dayOfYear, alignedWeekday
  case isoYear, isoWeek, isoWeekday
  case localYear, localWeek, localWeekday, localWeekOfMonth
  case hour, clockHour, halfdayHour, clockHalfdayHour, minute, second
  case milliOfDay, nanoOfSecond, nanoOfDay, modifiedJulianDay
}

/// The calendar's view of a moment in UTC.
struct TimeParts {
  let days: Int
  let second: Int
  let nanos: Int
  let date: CivilDate

  @inline(__always)
  init(_ time: Timestamp) {
    (days, second) = time.dayAndSecond
    nanos = Int(time.nanos)
    date = CivilDate(daysSinceEpoch: days)
  }

  func value(_ field: TimeField) -> Int {
    switch field {
    case .year: return date.year
    case .yearOfEra: return date.year > 0 ? date.year : 1 &- date.year
    case .distanceOfYear: return date.year >= 0 ? date.year : 0 &- date.year
    case .century: return (date.year >= 0 ? date.year : 0 &- date.year) / 100
    case .month: return date.month
    case .quarter: return (date.month &+ 2) / 3
    case .day: return date.day
    case .dayOfYear: return date.dayOfYear
    case .alignedWeekday: return (date.day &- 1) % 7 &+ 1
    case .isoYear: return CivilDate.isoWeek(daysSinceEpoch: days).year
    case .isoWeek: return CivilDate.isoWeek(daysSinceEpoch: days).week
    case .isoWeekday: return CivilDate.weekday(daysSinceEpoch: days)
    case .localYear: return localWeek.year
    case .localWeek: return localWeek.week
    case .localWeekday: return sundayBased &+ 1
    case .localWeekOfMonth:
      let first = (sundayBased &+ 35 &- (date.day &- 1)) % 7
      return (date.day &- 1 &+ first) / 7 &+ 1
    case .hour: return second / 3600
    case .clockHour: return second < 3600 ? 24 : second / 3600
    case .halfdayHour: return second / 3600 % 12
    case .clockHalfdayHour: return (second / 3600 &+ 11) % 12 &+ 1
    case .minute: return second / 60 % 60
    case .second: return second % 60
    case .milliOfDay: return second &* 1000 &+ nanos / 1_000_000
    case .nanoOfSecond: return nanos
    case .nanoOfDay: return second &* 1_000_000_000 &+ nanos
    case .modifiedJulianDay: return days &+ 40_587
    }
  }

  /// 0 is Sunday.
  private var sundayBased: Int { CivilDate.weekday(daysSinceEpoch: days) % 7 }

  private var localWeek: (year: Int, week: Int) {
    let dayOfYear = date.dayOfYear
    let length = CivilDate.isLeap(date.year) ? 366 : 365
    if dayOfYear &+ 6 &- sundayBased > length { return (date.year &+ 1, 1) }
    let first = (sundayBased &+ 371 &- (dayOfYear &- 1)) % 7
    return (date.year, (dayOfYear &- 1 &+ first) / 7 &+ 1)
  }
}

/// One step of a compiled pattern.
struct TimeStep {
  enum Code: UInt8 {
    /// The byte `a`.
    case byte
    /// `b` bytes of the program's literals from `a`.
    case literal
    /// `field`, at least `width` digits, a minus sign where negative.
    case number
    /// As `number`, and a plus sign where more than `width` digits are needed.
    case signedNumber
    /// The last two digits of `field`.
    case lastTwo
    /// Month or day, always two digits.
    case twoDigits
    /// `width` digits of the second's fraction; `fractionOfMillis` knows no more than milliseconds.
    case fraction, fractionOfMillis
    case monthName, weekdayName, halfday, era, quarterName, dayPeriod
  }

  var code: Code
  var field: TimeField = .year
  var width: UInt8 = 0
  /// 0 is the short form, 1 the full one, 2 a single letter.
  var form: UInt8 = 0
  /// Blanks are put in front until the step's text has this length.
  var pad: UInt8 = 0
  var a: UInt32 = 0
  var b: UInt32 = 0
}

/// Compiled steps; immutable.
struct TimeProgram: Sendable {
  private(set) var steps: [TimeStep] = []
  private var literals: [UInt8] = []
  private(set) var maxLength = 0

  /// Marks the year in four digits, which all notions of a year print alike between 1 and 9999.
  private static let plainYear: UInt32 = 1

  mutating func add(_ step: TimeStep) {
    var step = step
    if step.code == .number || step.code == .signedNumber, step.width == 4, step.pad == 0,
      step.field == .year || step.field == .yearOfEra || step.field == .distanceOfYear
    {
      step.a = TimeProgram.plainYear
    }
    steps.append(step)
    // No number has more than 20 characters, no name more than 32.
    maxLength += max(32, Int(step.width) + 1, Int(step.pad))
  }

  mutating func addLiteral(_ bytes: some Collection<UInt8>) {
    guard let first = bytes.first else { return }
    if bytes.count == 1 {
      add(TimeStep(code: .byte, a: UInt32(first)))
      return
    }
    add(TimeStep(code: .literal, a: UInt32(literals.count), b: UInt32(bytes.count)))
    literals.append(contentsOf: bytes)
    maxLength += bytes.count
  }

  @inline(__always)
  func append(_ time: Timestamp, to buffer: inout ByteBuffer) {
    buffer.reserve(maxLength)
    let parts = TimeParts(time)
    let start = UnsafeMutableRawPointer(buffer.pointer + buffer.count)
    let end = steps.withUnsafeBufferPointer { steps in
      var p = start
      for i in 0..<steps.count {
        let step = steps[i]
        switch step.code {
        case .byte:
          p.storeByte(UInt8(truncatingIfNeeded: step.a), at: 0)
          p += 1
        case .twoDigits:
          p.storeTwo(step.field == .month ? parts.date.month : parts.date.day, at: 0)
          p += 2
        case .number where step.a == TimeProgram.plainYear && UInt(bitPattern: parts.date.year &- 1) < 9999,
          .signedNumber where step.a == TimeProgram.plainYear && UInt(bitPattern: parts.date.year &- 1) < 9999:
          let century = parts.date.year / 100
          p.storeTwo(century, at: 0)
          p.storeTwo(parts.date.year &- century &* 100, at: 2)
          p += 4
        default: p = other(step, parts, p)
        }
      }
      return p
    }
    buffer.count &+= end - start
  }

  @inline(never)
  private func other(_ step: TimeStep, _ parts: TimeParts, _ start: UnsafeMutableRawPointer)
    -> UnsafeMutableRawPointer
  {
    var p = start
    switch step.code {
    case .byte, .twoDigits: break
    case .literal:
      literals.withUnsafeBytes { bytes in
        if let base = bytes.baseAddress { memcpy(p, base + Int(step.a), Int(step.b)) }
      }
      p += Int(step.b)
    case .number: p = TimeProgram.digits(parts.value(step.field), Int(step.width), plus: false, p)
    case .signedNumber: p = TimeProgram.digits(parts.value(step.field), Int(step.width), plus: true, p)
    case .lastTwo:
      p.storeTwo(Int(parts.value(step.field).magnitude % 100), at: 0)
      p += 2
    case .fraction: p = TimeProgram.fraction(parts.nanos, Int(step.width), p)
    case .fractionOfMillis: p = TimeProgram.fraction(parts.nanos / 1_000_000 &* 1_000_000, Int(step.width), p)
    case .monthName: p = name(EnglishNames.month(parts.date.month), step.form, p)
    case .weekdayName: p = name(EnglishNames.weekday(parts.value(.isoWeekday)), step.form, p)
    case .halfday: p = text(parts.second < 43_200 ? "AM" : "PM", p)
    case .era:
      let before = parts.date.year <= 0
      switch step.form {
      case 0: p = text(before ? "BC" : "AD", p)
      case 1: p = text(before ? "Before Christ" : "Anno Domini", p)
      default: p = text(before ? "B" : "A", p)
      }
    case .quarterName:
      let quarter = parts.value(.quarter)
      switch step.form {
      case 0: p = TimeProgram.digits(quarter, 1, plus: false, text("Q", p))
      case 1: p = text(EnglishNames.quarter(quarter), p)
      default: p = TimeProgram.digits(quarter, 1, plus: false, p)
      }
    case .dayPeriod: p = text(EnglishNames.dayPeriod(minute: parts.second / 60, narrow: step.form == 2), p)
    }
    let length = p - start
    if length < Int(step.pad) {
      let blanks = Int(step.pad) &- length
      memmove(start + blanks, start, length)
      memset(start, 32, blanks)
      p += blanks
    }
    return p
  }

  @inline(__always)
  private func text(_ text: StaticString, _ p: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    memcpy(p, text.utf8Start, text.utf8CodeUnitCount)
    return p + text.utf8CodeUnitCount
  }

  private func name(_ name: StaticString, _ form: UInt8, _ p: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    let length = form == 1 ? name.utf8CodeUnitCount : form == 0 ? 3 : 1
    memcpy(p, name.utf8Start, length)
    return p + length
  }

  private static func digits(_ value: Int, _ width: Int, plus: Bool, _ start: UnsafeMutableRawPointer)
    -> UnsafeMutableRawPointer
  {
    var p = start
    var count = 1
    var rest = value.magnitude / 10
    while rest != 0 {
      count &+= 1
      rest /= 10
    }
    if value < 0 {
      p.storeByte(UInt8(ascii: "-"), at: 0)
      p += 1
    } else if plus, count > width {
      p.storeByte(UInt8(ascii: "+"), at: 0)
      p += 1
    }
    count = max(count, width)
    rest = value.magnitude
    var i = count
    while i > 0 {
      i &-= 1
      p.storeByte(UInt8(truncatingIfNeeded: rest % 10) &+ 48, at: i)
      rest /= 10
    }
    return p + count
  }

  private static func fraction(_ nanos: Int, _ width: Int, _ start: UnsafeMutableRawPointer)
    -> UnsafeMutableRawPointer
  {
    var rest = nanos
    for i in 0..<width {
      rest &*= 10
      let digit = rest / 1_000_000_000
      start.storeByte(UInt8(truncatingIfNeeded: digit) &+ 48, at: i)
      rest &-= digit &* 1_000_000_000
    }
    return start + width
  }
}

/// The words of en_US. Months and days are cut to three letters for their short form.
enum EnglishNames {
  static func month(_ month: Int) -> StaticString {
    switch month {
    case 1: "January"
    case 2: "February"
    case 3: "March"
    case 4: "April"
    case 5: "May"
    case 6: "June"
    case 7: "July"
    case 8: "August"
    case 9: "September"
    case 10: "October"
    case 11: "November"
    default: "December"
    }
  }

  /// 1 is Monday.
  static func weekday(_ day: Int) -> StaticString {
    switch day {
    case 1: "Monday"
    case 2: "Tuesday"
    case 3: "Wednesday"
    case 4: "Thursday"
    case 5: "Friday"
    case 6: "Saturday"
    default: "Sunday"
    }
  }

  static func quarter(_ quarter: Int) -> StaticString {
    switch quarter {
    case 1: "1st quarter"
    case 2: "2nd quarter"
    case 3: "3rd quarter"
    default: "4th quarter"
    }
  }

  static func dayPeriod(minute: Int, narrow: Bool) -> StaticString {
    switch minute {
    case 0: narrow ? "mi" : "midnight"
    case 720: narrow ? "n" : "noon"
    case 360..<720: "in the morning"
    case 720..<1080: "in the afternoon"
    case 1080..<1260: "in the evening"
    default: "at night"
    }
  }
}
