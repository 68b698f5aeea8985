//  Moments as texts and calendar dates, against glibc's calendar and against themselves.

import Diagnostics
import Events
import Glibc
import TestSupport
import Testing

extension Timestamp {
  init?(arrivingText text: String) {
    var text = text
    guard let time = text.withUTF8({ Timestamp(arriving: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = time
  }
}

@Suite struct TimestampTests {
  private static func random(_ years: ClosedRange<Int64>) -> Timestamp {
    let seconds = Int64.random(in: ((years.lowerBound - 1970) * 31_556_952)...((years.upperBound - 1970) * 31_556_952))
    let nanos = [0, 120_000_000, 120_133_000, 120_133_004, UInt32.random(in: 0..<1_000_000_000)].randomElement() ?? 0
    return Timestamp(seconds: seconds, nanos: nanos)
  }

  @Test func `calendar dates agree with glibc`() {
    for _ in 0..<4000 {
      let time = TimestampTests.random(-9000...12_000)
      var seconds = Int(time.seconds)
      var fields = tm()
      gmtime_r(&seconds, &fields)
      let days = Int((Double(time.seconds) / 86_400).rounded(.down))
      let date = CivilDate(daysSinceEpoch: days)
      #expect(
        date == CivilDate(year: Int(fields.tm_year) + 1900, month: Int(fields.tm_mon) + 1, day: Int(fields.tm_mday)))
      #expect(date.dayOfYear == Int(fields.tm_yday) + 1)
      #expect(CivilDate.weekday(daysSinceEpoch: days) % 7 == Int(fields.tm_wday))
      #expect(date.daysSinceEpoch == days)
      var text = [CChar](repeating: 0, count: 64)
      strftime(&text, 64, "%G-%V-%u", &fields)
      let week = CivilDate.isoWeek(daysSinceEpoch: days)
      if week.year >= 1000, week.year <= 9999 {
        let padded = week.week < 10 ? "0\(week.week)" : "\(week.week)"
        #expect(
          "\(week.year)-\(padded)-\(week.weekday)"
            == String(decoding: text.prefix { $0 != 0 }.map { UInt8($0) }, as: UTF8.self))
      }
    }
  }

  @Test func `a printed moment reads back as itself`() {
    for years in [1600...2400, -9999...99_999, -999_000_000...999_000_000] as [ClosedRange<Int64>] {
      for _ in 0..<3000 {
        let time = TimestampTests.random(years)
        #expect(Timestamp(arrivingText: time.iso8601) == time, "\(time)")
      }
    }
  }

  @Test func `the first and the last moment print and read`() {
    #expect(Timestamp.earliest.iso8601 == "-999999999-01-01T00:00:00.000Z")
    #expect(Timestamp.latest.iso8601 == "+999999999-12-31T23:59:59.999999999Z")
    #expect(Timestamp(arrivingText: "-999999999-01-01T00:00:00Z") == .earliest)
    #expect(Timestamp(arrivingText: "+999999999-12-31T23:59:59.999999999Z") == .latest)
  }

  @Test(arguments: [Int64.min, Int64.max, 0, -1]) func `no second of 64 bits traps`(_ seconds: Int64) throws {
    let time = Timestamp(seconds: seconds, nanos: .max)
    #expect(time.iso8601.hasSuffix("Z"))
    var out = ByteBuffer()
    try JodaFormat("GGGG CC yyyy yy xxxx ww e EEEE D MMMM dd a KK hh HH kk mm ss SSSSSSSSS").append(time, to: &out)
    try JavaTimeFormat("GGGGG yyyy uuuu YYYY QQQQ MMMM ww W D d F EEEE e a B h K k H m s S A n N g").append(
      time, to: &out)
    #expect(out.count > 100)
  }

  @Test func `@timestamp is read on arrival as recorded`() throws {
    var count = 0
    for item in try Fixtures.cases("Tests/Cases/logstash/event.jsonl") where item.id.hasPrefix("event-timestamp") {
      var (next, recorded) = (item["given"]?.first, item["expect"]?.first)
      while let given = next, let expected = recorded {
        (next, recorded) = (given.next, expected.next)
        guard let text = given["@timestamp"]?.string else { continue }
        let wanted = expected["@timestamp"]?.string
        let time = Timestamp(arrivingText: text)
        #expect(time?.iso8601 == (wanted == "__NOW__" ? nil : wanted), "\(item.id): \(text)")
        count += 1
      }
    }
    #expect(count > 40)
  }

  @Test(arguments: [
    ("2025-02-30", "2025-02-28T"), ("2024-02-30T24:00:00", "2024-03-01T"), ("-0044-03-15T00:00:00Z", "-0044-03-15T"),
    ("2025-03-09T07:12:44+010203", "2025-03-09T06:10:41"), ("2025-03-09T24:00Z", "2025-03-10T00:00:00"),
    ("2025-12-31T23:59:59.9Z", "2025-12-31T23:59:59.900Z"), ("2025-03-09T00:00:00UTC+01:00", "2025-03-08T23:00"),
  ])
  func `unusual texts are read`(_ text: String, _ begin: String) {
    let time = Timestamp(arrivingText: text)
    #expect(time?.iso8601.hasPrefix(begin) ?? false, "\(text): \(time?.iso8601 ?? "refused")")
  }

  @Test(arguments: [
    "", "2025", "2025-02-32", "2025-00-10", "2025-03-09T24:00:01Z", "+2025-03-09T00:00:00Z", "-0000-01-01",
    "12025-03-09T00:00:00Z", "2025-03-09T07:12:44+19:00", "2025-03-09T07:12:44+1", "2025-03-09T07:12:44CEST",
    "2025-03-09T07:12:4", "2025-03-09T07:1", "2025-03-09T07:12:44.5.5Z", "2025-03-09T07:12:44/etc/passwd",
    "2025-03-09T07:12:44Etc/../UTC", "+1000000000-01-01", "2025-03-09T07:12:44\u{0}",
  ])
  func `other texts are refused`(_ text: String) { #expect(Timestamp(arrivingText: text) == nil) }

  @Test func `no cut of a text traps`() {
    let texts = ["2025-03-09T07:12:44.123456789+01:00:30", "+12025-03-09T07:12:44Europe/Berlin", "-0044-02-30T24:00"]
    for text in texts {
      let bytes = Array(text.utf8)
      for start in 0...bytes.count {
        for end in start...bytes.count {
          let time = bytes[start..<end].withUnsafeBytes { Timestamp(arriving: $0) }
          #expect(time == nil || end - start >= 10)
        }
      }
    }
  }
}
