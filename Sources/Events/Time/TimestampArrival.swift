//  Reads the text of `@timestamp` as documents bring it: ISO 8601 in the form that java.time takes, strict in the count
//  of digits and lenient about zones.
//
//  The common forms have their digits and marks at fixed places, so they are read without a loop and judged once at the
//  end: each digit adds its complaint to the sign bit of one integer.

extension Timestamp {
  /// Reads `@timestamp` text: `yyyy-MM-dd`, then perhaps `T` and a time (seconds and up to nine digits of their fraction
  /// may be missing), then perhaps a zone (`Z`, `+hh`, `+hhmm`, `+hh:mm`, `+hh:mm:ss`, or an id directly behind). Nil
  /// where the text is anything else.
  ///
  /// Without a zone the machine's own applies. `24:00` is the next midnight; a day beyond the end of its month, up to 31,
  /// is the month's last.
  public init?(arriving text: UnsafeRawBufferPointer) {
    guard let start = text.baseAddress, text.count >= 10 else { return nil }
    self.init(start, text.count)
  }

  @inline(__always)
  private init?(_ p: UnsafeRawPointer, _ count: Int) {
    // With one byte more: everything usual.
    if count >= 20, let local = plainSeconds(p) {
      self.init(local: local, p, count, from: 19)
      return
    }
    self.init(rare: p, count)
  }

  /// Reads fraction and zone behind the seconds.
  @inline(__always)
  private init?(local: Int64, _ p: UnsafeRawPointer, _ count: Int, from: Int) {
    var i = from
    var nanos: UInt32 = 0
    if byte(p, i) == UInt8(ascii: ".") {
      i &+= 1
      if count &- i >= 4 {
        // Three digits and something behind them: milliseconds, as nearly always.
        let a = byte(p, i) &- 48
        let b = byte(p, i &+ 1) &- 48
        let c = byte(p, i &+ 2) &- 48
        if a <= 9, b <= 9, c <= 9, byte(p, i &+ 3) &- 48 > 9 {
          nanos = (UInt32(a) &* 100 &+ UInt32(b) &* 10 &+ UInt32(c)) &* 1_000_000
          i &+= 3
        } else {
          nanos = fraction(p, count, &i)
        }
      } else {
        nanos = fraction(p, count, &i)
      }
    }
    if i &+ 1 == count, byte(p, i) | 32 == UInt8(ascii: "z") {
      self.init(seconds: local, nanos: nanos)
      return
    }
    guard let seconds = utcSeconds(local: local, p + i, count &- i) else { return nil }
    self.init(seconds: seconds, nanos: nanos)
  }

  @inline(never)
  private init?(rare p: UnsafeRawPointer, _ count: Int) {
    var i = 0
    guard let year = signedYear(p, count, &i), count &- i >= 6 else { return nil }
    var flaw = 0
    let month = pair(p, i &+ 1, &flaw)
    let day = pair(p, i &+ 4, &flaw)
    guard flaw >= 0, byte(p, i) == UInt8(ascii: "-"), byte(p, i &+ 3) == UInt8(ascii: "-"), month >= 1, month <= 12,
      day >= 1, day <= 31
    else { return nil }
    i &+= 6
    let last = CivilDate.daysIn(month: month, year: year)
    var local = Int64(CivilDate(year: year, month: month, day: min(day, last)).daysSinceEpoch) &* 86_400
    guard i < count, byte(p, i) | 32 == UInt8(ascii: "t") else {
      guard let seconds = utcSeconds(local: local, p + i, count &- i) else { return nil }
      self.init(seconds: seconds)
      return
    }
    guard count &- i >= 6 else { return nil }
    let hour = pair(p, i &+ 1, &flaw)
    let minute = pair(p, i &+ 4, &flaw)
    guard flaw >= 0, byte(p, i &+ 3) == UInt8(ascii: ":"), hour <= 24, minute <= 59 else { return nil }
    i &+= 6
    var second = 0
    var nanos: UInt32 = 0
    if count &- i >= 3, byte(p, i) == UInt8(ascii: ":") {
      second = pair(p, i &+ 1, &flaw)
      guard flaw >= 0, second <= 59 else { return nil }
      i &+= 3
      if i < count, byte(p, i) == UInt8(ascii: ".") {
        i &+= 1
        nanos = fraction(p, count, &i)
      }
    }
    if hour == 24, minute | second | Int(nanos) != 0 { return nil }
    local &+= Int64(hour &* 3600 &+ minute &* 60 &+ second)
    guard let seconds = utcSeconds(local: local, p + i, count &- i) else { return nil }
    self.init(seconds: seconds, nanos: nanos)
  }
}

@inline(__always)
func byte(_ p: UnsafeRawPointer, _ offset: Int) -> UInt8 { p.load(fromByteOffset: offset, as: UInt8.self) }

/// The seconds since 1970 of `yyyy-MM-ddTHH:mm:ss` with everything at its place, without regard to a zone; nil for
/// anything else.
///
/// - Parameter p: At least 19 bytes.
@inline(__always)
func plainSeconds(_ p: UnsafeRawPointer) -> Int64? {
  var flaw = 0
  let year = pair(p, 0, &flaw) &* 100 &+ pair(p, 2, &flaw)
  let month = pair(p, 5, &flaw)
  let day = pair(p, 8, &flaw)
  let hour = pair(p, 11, &flaw)
  let minute = pair(p, 14, &flaw)
  let second = pair(p, 17, &flaw)
  let marks = UInt32(byte(p, 4) ^ 45) | UInt32(byte(p, 7) ^ 45) | UInt32((byte(p, 10) | 32) ^ 116)
  let colons = UInt32(byte(p, 13) ^ 58) | UInt32(byte(p, 16) ^ 58)
  flaw |= (month &- 1) | (12 &- month) | (day &- 1) | (31 &- day) | (23 &- hour) | (59 &- minute)
  flaw |= 59 &- second
  guard flaw >= 0, marks | colons == 0, day <= 28 || day <= CivilDate.daysIn(month: month, year: year) else {
    return nil
  }
  let days = CivilDate(year: year, month: month, day: day).daysSinceEpoch
  return Int64(days &* 86_400 &+ hour &* 3600 &+ minute &* 60 &+ second)
}

/// The value of two digits; anything else makes `flaw` negative.
@inline(__always)
func pair(_ p: UnsafeRawPointer, _ offset: Int, _ flaw: inout Int) -> Int {
  let tens = Int(byte(p, offset)) &- 48
  let ones = Int(byte(p, offset &+ 1)) &- 48
  flaw |= tens | ones | (9 &- tens) | (9 &- ones)
  return tens &* 10 &+ ones
}

/// Up to nine digits behind the decimal mark, as nanoseconds; what follows is the caller's to judge.
@inline(never)
private func fraction(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int) -> UInt32 {
  var value: UInt32 = 0
  var left = 9
  while left > 0, i < count, byte(p, i) &- 48 <= 9 {
    value = value &* 10 &+ UInt32(byte(p, i) &- 48)
    i &+= 1
    left &-= 1
  }
  for _ in 0..<left { value &*= 10 }
  return value
}

/// Four digits, more of them only behind `+` or `-`; `-0000` and a `+` before four digits are refused.
private func signedYear(_ p: UnsafeRawPointer, _ count: Int, _ i: inout Int) -> Int? {
  let sign = byte(p, 0)
  let signed = sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-")
  i = signed ? 1 : 0
  let start = i
  var year = 0
  while i < count, i &- start < 10, byte(p, i) &- 48 <= 9 {
    year = year &* 10 &+ Int(byte(p, i) &- 48)
    i &+= 1
  }
  let digits = i &- start
  guard year <= 999_999_999 else { return nil }
  switch sign {
  case UInt8(ascii: "+"): return digits > 4 ? year : nil
  case UInt8(ascii: "-"): return digits >= 4 && year > 0 ? -year : nil
  default: return digits == 4 ? year : nil
  }
}

/// Takes the zone at `p` off a local time; nil where it is none.
@inline(__always)
private func utcSeconds(local: Int64, _ p: UnsafeRawPointer, _ count: Int) -> Int64? {
  // `+01:00`, the usual form beside `Z`.
  if count == 6, byte(p, 3) == UInt8(ascii: ":") {
    let sign = byte(p, 0)
    var flaw = 0
    let hours = pair(p, 1, &flaw)
    let minutes = pair(p, 4, &flaw)
    flaw |= (59 &- minutes) | (1080 &- hours &* 60 &- minutes)
    if flaw >= 0, sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") {
      let offset = Int64(hours &* 3600 &+ minutes &* 60)
      return sign == UInt8(ascii: "+") ? local &- offset : local &+ offset
    }
  }
  return rareZone(local: local, p, count)
}

@inline(never)
private func rareZone(local: Int64, _ p: UnsafeRawPointer, _ count: Int) -> Int64? {
  if count == 0 { return utc(local: local, in: TimeZoneRules.host) }
  if count == 1 { return byte(p, 0) | 32 == UInt8(ascii: "z") ? local : nil }
  if let offset = ZoneOffset.read(p, count) { return local &- Int64(offset) }
  guard let zone = TimeZoneRules.named(UnsafeRawBufferPointer(start: p, count: count)), JodaToken.isLetter(byte(p, 0))
  else { return nil }
  return utc(local: local, in: zone)
}

/// A local time that clocks skipped is read with the offset before the gap, as java.time does.
private func utc(local: Int64, in zone: TimeZoneRules) -> Int64 {
  zone.utc(local: local) ?? local &- Int64(zone.offset(at: local &- 93_600))
}
