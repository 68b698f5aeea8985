//  Reads compiled zone files (TZif, RFC 9636) and the POSIX rule at their end. Their bytes come from the system, yet every
//  count is checked against the size before it is used: a broken file is no zone, never a trap.

internal import Glibc

/// The moments at which a zone's offset changes.
struct ZoneTable {
  /// Ascending seconds since 1970.
  var transitions: [Int64] = []
  /// Seconds east of UTC: the first before all transitions, then one behind each.
  var offsets: [Int32] = [0]
  /// Above this moment the table repeats every 400 years; nil where the last offset stays.
  var repeatsAbove: Int64?

  /// Gregorian years and weekdays repeat after 400 years.
  static let cycle: Int64 = 146_097 * 86_400

  /// From the bytes of a TZif file of version 2 or later; nil where they are none.
  init?(file: [UInt8]) {
    guard let first = Header(file, at: 0), first.version >= 2, let header = Header(file, at: first.end(wide: false)),
      header.types >= 1, header.end(wide: true) <= file.count
    else { return nil }
    let wide = header.start
    let indexes = wide + header.times * 8
    let types = indexes + header.times
    var typeOffsets: [Int32] = []
    for i in 0..<header.types {
      let offset = Int32(truncatingIfNeeded: ZoneTable.bigEndian(file, types + i * 6, 4))
      guard offset > -93_600, offset < 93_600 else { return nil }
      typeOffsets.append(offset)
    }
    offsets = [typeOffsets[0]]
    for i in 0..<header.times {
      let time = ZoneTable.bigEndian(file, wide + i * 8, 8)
      let type = Int(file[indexes + i])
      guard type < typeOffsets.count, transitions.last.map({ $0 < time }) ?? true else { return nil }
      if offsets[offsets.count - 1] == typeOffsets[type] { continue }
      transitions.append(time)
      offsets.append(typeOffsets[type])
    }
    let footer = file[header.end(wide: true)...]
    guard footer.first == 10, let close = footer.dropFirst().firstIndex(of: 10) else { return }
    extend(by: Array(footer[(footer.startIndex + 1)..<close]))
  }

  /// From a rule as the variable TZ may hold it: `CET-1CEST,M3.5.0,M10.5.0/3`.
  init?(rule: [UInt8]) {
    guard let rule = ZoneRule(rule) else { return nil }
    offsets = [Int32(rule.standard)]
    extend(by: rule, from: 1900, after: .min)
  }

  private mutating func extend(by bytes: [UInt8]) {
    guard let rule = ZoneRule(bytes) else { return }
    let last = transitions.last ?? -2_208_988_800
    extend(by: rule, from: CivilDate(daysSinceEpoch: Int(floorDivide(last, 86_400).quotient)).year, after: last)
  }

  /// Writes 400 years of the rule out, so that looking up never has to think about rules.
  private mutating func extend(by rule: ZoneRule, from first: Int, after last: Int64) {
    guard let summer = rule.summer else { return }
    for year in first...(first + 401) {
      let start = rule.start.moment(year: year) - Int64(rule.standard)
      let end = rule.end.moment(year: year) - Int64(summer)
      for (time, offset) in start < end
        ? [(start, summer), (end, rule.standard)] : [(end, rule.standard), (start, summer)]
      where time > last && time > transitions.last ?? .min && offsets[offsets.count - 1] != Int32(offset) {
        transitions.append(time)
        offsets.append(Int32(offset))
      }
    }
    repeatsAbove = transitions.last
  }

  static func bigEndian(_ file: [UInt8], _ at: Int, _ count: Int) -> Int64 {
    var value: UInt64 = 0
    for byte in file[at..<(at + count)] { value = value << 8 | UInt64(byte) }
    return count == 4 ? Int64(Int32(truncatingIfNeeded: value)) : Int64(bitPattern: value)
  }

  /// The 44 bytes before each of the two blocks.
  private struct Header {
    var version: Int
    var start: Int
    var isUTC, isStandard, leaps, times, types, characters: Int

    init?(_ file: [UInt8], at: Int) {
      guard at + 44 <= file.count, file[at..<(at + 4)].elementsEqual("TZif".utf8) else { return nil }
      version = Int(file[at + 4]) - 48
      start = at + 44
      let counts = (0..<6).map { Int(ZoneTable.bigEndian(file, at + 20 + $0 * 4, 4)) }
      guard counts.allSatisfy({ $0 >= 0 && $0 <= file.count }) else { return nil }
      (isUTC, isStandard, leaps) = (counts[0], counts[1], counts[2])
      (times, types, characters) = (counts[3], counts[4], counts[5])
    }

    func end(wide: Bool) -> Int {
      let size = wide ? 8 : 4
      return start + times * (size + 1) + types * 6 + characters + leaps * (size + 4) + isStandard + isUTC
    }
  }
}

/// A POSIX zone rule: two offsets and the days on which they change.
private struct ZoneRule {
  /// Seconds east of UTC.
  var standard: Int
  var summer: Int?
  var start = Day(kind: .month(3, week: 2, weekday: 0), second: 7200)
  var end = Day(kind: .month(11, week: 1, weekday: 0), second: 7200)

  struct Day {
    enum Kind {
      /// 1…365, 29 February never counted.
      case julian(Int)
      /// 0…365, 29 February counted.
      case zeroBased(Int)
      /// Week 5 is the last of the month; weekday 0 is Sunday.
      case month(Int, week: Int, weekday: Int)
    }
    var kind: Kind
    /// Second of the local day, from -167 to 167 hours.
    var second: Int

    /// Local seconds since 1970.
    func moment(year: Int) -> Int64 {
      let days: Int
      switch kind {
      case .julian(let day):
        let leap = CivilDate.isLeap(year) && day >= 60 ? 1 : 0
        days = CivilDate(year: year, month: 1, day: 1).daysSinceEpoch + day - 1 + leap
      case .zeroBased(let day): days = CivilDate(year: year, month: 1, day: 1).daysSinceEpoch + day
      case .month(let month, let week, let weekday):
        let first = CivilDate(year: year, month: month, day: 1).daysSinceEpoch
        var day = (weekday - CivilDate.weekday(daysSinceEpoch: first) % 7 + 7) % 7 + (week - 1) * 7
        if day >= CivilDate.daysIn(month: month, year: year) { day -= 7 }
        days = first + day
      }
      return Int64(days * 86_400 + second)
    }
  }

  init?(_ text: [UInt8]) {
    var reader = Reader(text: text)
    guard reader.name(), let standard = reader.offset() else { return nil }
    self.standard = -standard
    if reader.atEnd { return }
    guard reader.name() else { return nil }
    if let offset = reader.offset() { summer = -offset } else { summer = self.standard + 3600 }
    if reader.atEnd { return }
    guard reader.take(UInt8(ascii: ",")), let start = reader.day(), reader.take(UInt8(ascii: ",")),
      let end = reader.day(), reader.atEnd
    else { return nil }
    self.start = start
    self.end = end
  }

  private struct Reader {
    let text: [UInt8]
    var i = 0

    var atEnd: Bool { i == text.count }
    var next: UInt8 { i < text.count ? text[i] : 0 }

    mutating func take(_ byte: UInt8) -> Bool {
      guard next == byte else { return false }
      i += 1
      return true
    }

    /// Letters, or anything between `<` and `>`.
    mutating func name() -> Bool {
      let start = i
      if take(UInt8(ascii: "<")) {
        while i < text.count, text[i] != UInt8(ascii: ">") { i += 1 }
        return take(UInt8(ascii: ">"))
      }
      while JodaToken.isLetter(next) { i += 1 }
      return i - start >= 3
    }

    mutating func number(_ most: Int) -> Int? {
      let start = i
      var value = 0
      while next &- 48 <= 9, value <= most {
        value = value * 10 + Int(next &- 48)
        i += 1
      }
      return i > start && value <= most ? value : nil
    }

    /// `[+-]h[:mm[:ss]]` in seconds.
    mutating func offset() -> Int? {
      let before = i
      let negative = next == UInt8(ascii: "-")
      if next == UInt8(ascii: "-") || next == UInt8(ascii: "+") { i += 1 }
      guard var seconds = number(167).map({ $0 * 3600 }) else {
        i = before
        return nil
      }
      for unit in [60, 1] where take(UInt8(ascii: ":")) {
        guard let value = number(59) else { return nil }
        seconds += value * unit
      }
      return negative ? -seconds : seconds
    }

    mutating func day() -> Day? {
      let kind: Day.Kind
      if take(UInt8(ascii: "M")) {
        guard let month = number(12), month >= 1, take(UInt8(ascii: ".")), let week = number(5), week >= 1,
          take(UInt8(ascii: ".")), let weekday = number(6)
        else { return nil }
        kind = .month(month, week: week, weekday: weekday)
      } else if take(UInt8(ascii: "J")) {
        guard let day = number(365), day >= 1 else { return nil }
        kind = .julian(day)
      } else {
        guard let day = number(365) else { return nil }
        kind = .zeroBased(day)
      }
      guard take(UInt8(ascii: "/")) else { return Day(kind: kind, second: 7200) }
      return offset().map { Day(kind: kind, second: $0) }
    }
  }
}
