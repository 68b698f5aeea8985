//  Reads texts by a pattern of Joda-Time's letters. A pattern becomes a list of steps, each of which takes bytes from the
//  front of the text; the fields they name are put together by `DateFields`.

internal import Diagnostics

/// One step of a reading pattern.
private struct DateStep: Sendable {
  enum Code: UInt8, Sendable {
    /// The byte `a`, which is no ASCII letter.
    case byte
    /// `b` bytes of the literals from `a`, ASCII letters in any case.
    case literal
    /// 1 to `width` digits.
    case number
    /// As `number`, with a sign before them.
    case signedNumber
    /// Two digits of a year near now; `width` 2 allows nothing else.
    case nearYear
    /// 1 to `width` digits of a second's fraction, cut to milliseconds.
    case fraction
    /// A word of the table `a`.
    case name
    case offset, zoneID, zoneAbbreviation
  }
  var code: Code
  var field: DateField = .year
  var width = 0
  var a = 0
  var b = 0
}

/// A compiled pattern. Immutable.
final class DatePattern: Sendable {
  private let steps: [DateStep]
  private let literals: [UInt8]
  private let tables: [NameTable]
  private let present: UInt32
  private let order: [DateField]
  /// The first of the hundred years that two digits mean.
  private let nearYears: Int
  /// Whether a year, or a week-year, stands in the pattern.
  let hasYear: Bool
  /// Whether words of a language stand in it.
  let hasNames: Bool
  /// What is probably meant otherwise.
  let warnings: [String]

  /// - Parameter year: The present one: two digits mean the years from 80 before it to 19 behind it.
  init(_ pattern: String, names: DateNames, year: Int) throws(TimePatternError) {
    var compiler = Compiler(names: names)
    let tokens = try JodaToken.split(pattern)
    for (i, token) in tokens.enumerated() {
      switch token {
      case .literal(let bytes): compiler.addLiteral(bytes)
      case .letter(let letter, let count):
        compiler.add(letter, count, numberFollows: i + 1 < tokens.count && DatePattern.isNumber(tokens[i + 1]))
      }
    }
    steps = compiler.steps
    literals = compiler.literals
    tables = compiler.tables
    let present = compiler.present
    self.present = present
    var order = DateField.allCases.filter { present & $0.bit != 0 }
    // Notions of a year are equally wide: the one that stands last wins.
    let yearsInTurn = compiler.years
    if yearsInTurn.count > 1 {
      order.removeAll { yearsInTurn.contains($0) }
      order.insert(
        contentsOf: yearsInTurn, at: order.firstIndex { $0.rawValue > DateField.century.rawValue } ?? order.count)
    }
    self.order = order
    nearYears = year - 80
    hasYear = present & (DateField.year.bit | DateField.yearOfEra.bit | DateField.weekYear.bit) != 0
    hasNames = compiler.hasNames
    warnings = DatePattern.warnings(tokens)
  }

  private static func isNumber(_ token: JodaToken) -> Bool {
    guard case .letter(let letter, let count) = token else { return false }
    return letter == UInt8(ascii: "M") ? count <= 2 : "CxyYdhHmsSeDwkK".utf8.contains(letter)
  }

  private static func warnings(_ tokens: [JodaToken]) -> [String] {
    func has(_ letter: Character, _ counts: ClosedRange<Int>) -> Bool {
      tokens.contains { token in
        guard case .letter(let found, let count) = token else { return false }
        return found == letter.asciiValue && counts.contains(count)
      }
    }
    var warnings: [String] = []
    if has("D", 1...2), has("M", 1...9) {
      warnings.append("\"D\" is the day of the year, beside which the month is lost; the day of the month is \"d\"")
    }
    if has("Y", 1...9), has("w", 1...2) {
      warnings.append("\"Y\" is no week-year: around New Year it names another week than meant; the week-year is \"x\"")
    }
    return warnings
  }

  // MARK: Reading

  /// Reads a whole text.
  ///
  /// - Returns: The fields and their local time, or nil where the text does not fit the pattern.
  @inline(__always)
  func read(_ p: UnsafeRawPointer, _ count: Int, defaultYear: Int, _ fields: inout DateFields)
    -> (seconds: Int64, milliseconds: Int)?
  {
    var i = 0
    let fits = steps.withUnsafeBufferPointer { steps -> Bool in
      for index in 0..<steps.count {
        let step = steps[index]
        switch step.code {
        case .byte:
          guard i < count, byte(p, i) == UInt8(truncatingIfNeeded: step.a) else { return false }
          i &+= 1
        case .number:
          // One or two digits are nearly everything.
          guard i < count else { return false }
          var value = Int(byte(p, i)) &- 48
          guard UInt(bitPattern: value) <= 9 else { return false }
          i &+= 1
          var left = step.width &- 1
          while left > 0, i < count {
            let digit = Int(byte(p, i)) &- 48
            guard UInt(bitPattern: digit) <= 9 else { break }
            value = value &* 10 &+ digit
            i &+= 1
            left &-= 1
          }
          fields.store(value, step.field)
        case .signedNumber:
          guard signedNumber(p, count, &i, step, &fields) else { return false }
        case .name:
          let (value, length) = tables[step.a].match(p + i, count &- i)
          guard length > 0 else { return false }
          i &+= length
          fields.store(value, step.field)
        case .offset:
          guard DatePattern.offset(p, count, &i, &fields) else { return false }
        default:
          guard rare(p, count, &i, step, &fields) else { return false }
        }
      }
      return i == count
    }
    guard fits else { return nil }
    return fields.local(present, order: order, defaultYear: defaultYear)
  }

  @inline(__always)
  private func signedNumber(
    _ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ step: DateStep, _ fields: inout DateFields
  ) -> Bool {
    guard i < count else { return false }
    let sign = byte(p, i)
    var negative = false
    if sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") {
      // A sign alone may not use up the digits that are allowed.
      guard step.width > 1 else { return false }
      negative = sign == UInt8(ascii: "-")
      i &+= 1
    }
    let start = i
    var value = 0
    while i < count, i &- start < step.width, byte(p, i) &- 48 <= 9 {
      value = value &* 10 &+ Int(byte(p, i) &- 48)
      i &+= 1
    }
    guard i > start else { return false }
    fields.store(negative ? 0 &- value : value, step.field)
    return true
  }

  @inline(never)
  private func rare(
    _ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ step: DateStep, _ fields: inout DateFields
  ) -> Bool {
    switch step.code {
    case .literal:
      guard count &- i >= step.b else { return false }
      for offset in 0..<step.b {
        let want = literals[step.a &+ offset]
        let have = byte(p, i &+ offset)
        guard want == have || (want ^ have == 32 && JodaToken.isLetter(want)) else { return false }
      }
      i &+= step.b
      return true
    case .nearYear: return nearYear(p, count, &i, step, &fields)
    case .fraction:
      var left = step.width
      var value = 0
      var unit = 100
      let start = i
      while left > 0, i < count, byte(p, i) &- 48 <= 9 {
        value &+= Int(byte(p, i) &- 48) &* unit
        unit /= 10
        i &+= 1
        left &-= 1
      }
      fields.store(value, step.field)
      return i > start
    case .zoneID: return zoneID(p, count, &i, &fields)
    case .zoneAbbreviation: return zoneAbbreviation(p, count, &i, &fields)
    default: return false
    }
  }

  private func nearYear(
    _ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ step: DateStep, _ fields: inout DateFields
  ) -> Bool {
    let start = i
    var negative = false
    if step.width != 2, i < count, byte(p, i) == UInt8(ascii: "-") || byte(p, i) == UInt8(ascii: "+") {
      negative = byte(p, i) == UInt8(ascii: "-")
      i &+= 1
    }
    let digits = i
    var value = 0
    while i < count, i &- digits < (step.width == 2 ? 2 : 10), byte(p, i) &- 48 <= 9 {
      value = value &* 10 &+ Int(byte(p, i) &- 48)
      i &+= 1
    }
    guard i > digits, step.width != 2 || i &- digits == 2 else { return false }
    if digits == start, i &- digits == 2 {
      let first = nearYears % 100
      value &+= nearYears &- first &+ (value < first ? 100 : 0)
    }
    fields.store(negative ? 0 &- value : value, step.field)
    return true
  }

  /// `Z`, `+hh`, `+hhmm`, `+hh:mm` and both with seconds, below 24 hours.
  @inline(__always)
  static func offset(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ fields: inout DateFields) -> Bool {
    guard i < count else { return false }
    let sign = byte(p, i)
    if sign | 32 == UInt8(ascii: "z") {
      i &+= 1
      fields.offset = 0
      fields.zone = nil
      return true
    }
    guard sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-"), count &- i >= 3 else { return false }
    var flaw = 0
    let hours = pair(p, i &+ 1, &flaw)
    guard flaw >= 0, hours <= 23 else { return false }
    i &+= 3
    var seconds = hours &* 3600
    if i < count, byte(p, i) == UInt8(ascii: ":") || byte(p, i) &- 48 <= 9 {
      let colon = byte(p, i) == UInt8(ascii: ":")
      i &+= colon ? 1 : 0
      guard count &- i >= 2 else { return false }
      let minutes = pair(p, i, &flaw)
      guard flaw >= 0, minutes <= 59 else { return false }
      seconds &+= minutes &* 60
      i &+= 2
      if i < count, colon ? byte(p, i) == UInt8(ascii: ":") : byte(p, i) &- 48 <= 9 {
        i &+= colon ? 1 : 0
        guard count &- i >= 2 else { return false }
        let rest = pair(p, i, &flaw)
        guard flaw >= 0, rest <= 59 else { return false }
        seconds &+= rest
        i &+= 2
      }
    }
    fields.offset = sign == UInt8(ascii: "-") ? 0 &- seconds : seconds
    fields.zone = nil
    return true
  }

  /// The longest id of a zone.
  private func zoneID(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ fields: inout DateFields) -> Bool {
    guard i < count, JodaToken.isLetter(byte(p, i)) else { return false }
    var end = i
    while end < count, end &- i < 64 {
      let character = byte(p, end)
      guard
        JodaToken.isLetter(character) || character &- 48 <= 9 || character == UInt8(ascii: "/")
          || character == UInt8(ascii: "_") || character == UInt8(ascii: "+") || character == UInt8(ascii: "-")
      else { break }
      end &+= 1
    }
    while end &- i >= 2 {
      if let zone = TimeZoneRules.region(UnsafeRawBufferPointer(start: p + i, count: end &- i)) {
        fields.zone = zone
        fields.offset = nil
        i = end
        return true
      }
      end &-= 1
    }
    return false
  }

  private static let abbreviations: [(text: [UInt8], zone: String)] = [
    ("UTC", "UTC"), ("GMT", "UTC"), ("EST", "America/New_York"), ("EDT", "America/New_York"),
    ("CST", "America/Chicago"), ("CDT", "America/Chicago"), ("MST", "America/Denver"), ("MDT", "America/Denver"),
    ("PST", "America/Los_Angeles"), ("PDT", "America/Los_Angeles"), ("UT", "UTC"),
  ].map { (Array($0.0.utf8), $0.1) }

  private static let abbreviatedZones = abbreviations.map { TimeZoneRules.named($0.zone) }

  private func zoneAbbreviation(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ fields: inout DateFields)
    -> Bool
  {
    for (index, abbreviation) in DatePattern.abbreviations.enumerated() where count &- i >= abbreviation.text.count {
      var same = true
      for offset in 0..<abbreviation.text.count where byte(p, i &+ offset) != abbreviation.text[offset] { same = false }
      guard same, let zone = DatePattern.abbreviatedZones[index] else { continue }
      i &+= abbreviation.text.count
      fields.zone = zone
      fields.offset = nil
      return true
    }
    return false
  }
}

// MARK: - Compiling

private struct Compiler {
  let names: DateNames
  var steps: [DateStep] = []
  var literals: [UInt8] = []
  var tables: [NameTable] = []
  var present: UInt32 = 0
  var years: [DateField] = []
  var hasNames = false

  init(names: DateNames) { self.names = names }

  mutating func addLiteral(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    if bytes.count == 1, !JodaToken.isLetter(first) {
      steps.append(DateStep(code: .byte, a: Int(first)))
    } else {
      steps.append(DateStep(code: .literal, a: literals.count, b: bytes.count))
      literals += bytes
    }
  }

  private mutating func add(_ step: DateStep) {
    present |= step.field.bit
    if [.year, .yearOfEra, .weekYear].contains(step.field) {
      years.removeAll { $0 == step.field }
      years.append(step.field)
    }
    steps.append(step)
  }

  private mutating func number(_ field: DateField, _ digits: Int, _ count: Int) {
    add(DateStep(code: .number, field: field, width: min(max(digits, count), 15)))
  }

  private mutating func words(_ field: DateField, _ table: NameTable) {
    tables.append(table)
    add(DateStep(code: .name, field: field, a: tables.count - 1))
  }

  mutating func add(_ letter: UInt8, _ count: Int, numberFollows: Bool) {
    switch letter {
    case UInt8(ascii: "G"):
      let more = names.months == DateNames.english.months ? ["BCE": 0, "CE": 1] : [:]
      words(.era, NameTable([["BC", "AD"]], first: 0, more: more))
    case UInt8(ascii: "C"): add(DateStep(code: .signedNumber, field: .century, width: min(count, 9)))
    case UInt8(ascii: "y"), UInt8(ascii: "x"), UInt8(ascii: "Y"):
      let width = numberFollows ? min(count, 9) : 9
      if count == 2 {
        let field: DateField = letter == UInt8(ascii: "x") ? .weekYear : .year
        add(DateStep(code: .nearYear, field: field, width: numberFollows ? 2 : 0))
      } else if letter == UInt8(ascii: "Y") {
        add(DateStep(code: .number, field: .yearOfEra, width: width))
      } else {
        add(DateStep(code: .signedNumber, field: letter == UInt8(ascii: "x") ? .weekYear : .year, width: width))
      }
    case UInt8(ascii: "M"):
      guard count >= 3 else { return number(.month, 2, count) }
      hasNames = true
      words(.month, NameTable([names.shortMonths, names.months], first: 1))
    case UInt8(ascii: "E"):
      hasNames = true
      words(.weekday, NameTable([names.shortWeekdays, names.weekdays], first: 1))
    case UInt8(ascii: "a"):
      hasNames = true
      words(.halfday, NameTable([names.halfdays], first: 0))
    case UInt8(ascii: "w"): number(.week, 2, count)
    case UInt8(ascii: "e"): number(.weekday, 1, count)
    case UInt8(ascii: "d"): number(.day, 2, count)
    case UInt8(ascii: "D"): number(.dayOfYear, 3, count)
    case UInt8(ascii: "K"): number(.halfdayHour, 2, count)
    case UInt8(ascii: "h"): number(.clockHalfdayHour, 2, count)
    case UInt8(ascii: "H"): number(.hour, 2, count)
    case UInt8(ascii: "k"): number(.clockHour, 2, count)
    case UInt8(ascii: "m"): number(.minute, 2, count)
    case UInt8(ascii: "s"): number(.second, 2, count)
    case UInt8(ascii: "S"): add(DateStep(code: .fraction, field: .millisecond, width: count))
    case UInt8(ascii: "Z"): steps.append(DateStep(code: count <= 2 ? .offset : .zoneID))
    default: steps.append(DateStep(code: .zoneAbbreviation))
    }
  }
}
