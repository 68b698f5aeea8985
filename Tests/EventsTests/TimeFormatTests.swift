//  Date patterns, for what the recorded cases do not hold: places of mistakes, padding, names, and reading back.

import Diagnostics
import Events
import Testing

@Suite struct TimeFormatTests {
  private let time = Timestamp(seconds: 1_741_504_364, nanos: 120_133_004)  // Sunday 2025-03-09T07:12:44.120133004Z

  private func joda(_ pattern: String) throws -> String {
    var out = ByteBuffer()
    try JodaFormat(pattern).append(time, to: &out)
    return out.string()
  }

  private func java(_ pattern: String) throws -> String {
    var out = ByteBuffer()
    try JavaTimeFormat(pattern).append(time, to: &out)
    return out.string()
  }

  @Test(arguments: [("yyyy-bb", 6), ("üü Q", 4), ("'b' i", 5)])
  func `a Joda letter without meaning is named with its place`(_ pattern: String, _ character: Int) {
    #expect(throws: TimePatternError.self) { try JodaFormat(pattern) }
    do { _ = try JodaFormat(pattern) } catch { #expect(error.character == character, "\(error)") }
  }

  @Test(arguments: [("yyyy}", 5), ("'open", 1), ("yy]", 3), ("HH ddd", 4), ("cc", 1), ("ppp", 1), ("ü b", 3)])
  func `a mistake in a java pattern is named with its place`(_ pattern: String, _ character: Int) {
    #expect(throws: TimePatternError.self) { try JavaTimeFormat(pattern) }
    do { _ = try JavaTimeFormat(pattern) } catch { #expect(error.character == character, "\(error)") }
  }

  @Test func `fields print in both languages`() throws {
    #expect(try joda("yyyyyyyy SSSSSSSSS EEEE MMMM") == "00002025 120000000 Sunday March")
    #expect(try java("ppppppEEE|pppdd|pppppyyyy|ppVV|pppxx") == "   Sun| 09| 2025| Z|+0000")
    #expect(try java("SSSSSSSSS SSS QQQQ MMMMM [HH[:mm]") == "120133004 120 1st quarter M 07:12")
    #expect(try joda(String(repeating: "y", count: 300)).count == 128)
  }

  private func parse(_ text: String, _ formats: [String], zone: String = "UTC", locale: String = "en") throws
    -> Timestamp?
  {
    let parser = try DateParser(formats: formats, zone: TimeZoneRules.named(zone), locale: locale)
    var text = text
    return text.withUTF8 { parser.parse(UnsafeRawBufferPointer($0), now: time) }
  }

  @Test(arguments: [
    "dd/MMM/yyyy:HH:mm:ss.SSS Z", "yyyy-MM-dd'T'HH:mm:ss.SSSZZ", "EEEE, d MMMM yyyy hh:mm:ss a S ZZZ",
    "xxxx-'W'ww-e kk:mm:ss,SSS",
    "D yyyy HH'h'mm'm'ss's'SSS", "yyyyMMddHHmmssSSS", "YYYY-MM-dd KK:mm:ss.SSS a",
  ])
  func `what a pattern prints it reads`(_ pattern: String) throws {
    let format = try JodaFormat(pattern)
    let parser = try DateParser(formats: [pattern], zone: .utc, locale: "en")
    for _ in 0..<1000 {
      let millis = pattern.contains(" S ") ? Int64.random(in: 0...9) * 100 : Int64.random(in: 0...999)
      let time = Timestamp(milliseconds: Int64.random(in: -60_000_000_000...250_000_000_000) * 1000 + millis)
      var out = ByteBuffer()
      format.append(time, to: &out)
      #expect(parser.parse(out.bytes, now: self.time) == time, "\(out.string())")
    }
  }

  @Test func `ISO 8601 reads what a timestamp prints, to the millisecond`() throws {
    let parser = try DateParser(formats: ["ISO8601"], zone: .utc, locale: "en")
    for _ in 0..<3000 {
      let time = Timestamp(
        seconds: .random(in: -90_000_000_000...900_000_000_000), nanos: .random(in: 0..<1_000_000_000))
      var out = ByteBuffer()
      time.appendISO8601(to: &out)
      #expect(parser.parse(out.bytes, now: time) == time.cutToMilliseconds, "\(time)")
    }
  }

  @Test func `names of other languages are read`() throws {
    #expect(try parse("9. März 2025", ["d. MMM yyyy"], locale: "de_DE")?.iso8601 == "2025-03-09T00:00:00.000Z")
    #expect(try parse("9 Sept 2025", ["d MMM yyyy"], locale: "en-GB")?.iso8601 == "2025-09-09T00:00:00.000Z")
    #expect(try parse("9 Sep 2025", ["d MMM yyyy"], locale: "en-GB") == nil)
    #expect(try parse("9 МАРТА 2025", ["d MMMM yyyy"], locale: "ru")?.iso8601 == "2025-03-09T00:00:00.000Z")
    #expect(try parse("週日 2025-03-09", ["EEE yyyy-MM-dd"], locale: "zh-TW")?.iso8601 == "2025-03-09T00:00:00.000Z")
  }

  @Test func `slips in patterns are told`() throws {
    #expect(try DateParser(formats: ["yyyy-MM-DD"]).warnings.count == 1)
    #expect(try DateParser(formats: ["YYYY-'W'ww"]).warnings.count == 1)
    #expect(try DateParser(formats: ["yyyy-MM-dd", "xxxx-'W'ww", "DDD yyyy", "ISO8601"]).warnings.isEmpty)
    #expect(throws: DateFormatError.self) { try DateParser(formats: ["ISO8601", "iso8601"]) }
    do { _ = try DateParser(formats: ["ISO8601", "yyyy b"]) } catch {
      #expect(error.index == 1 && error.cause.character == 6)
    }
  }

  @Test func `no cut and no change of a text traps`() throws {
    let formats = [
      "ISO8601", "UNIX", "UNIX_MS", "TAI64N", "dd/MMM/yyyy:HH:mm:ss Z", "G CC xxxx ww e", "yy-D'x'EEEE a ZZZ",
      "YYYYMMddHHmmssSSSSSSSSSSSS z",
    ]
    let parser = try DateParser(formats: formats, locale: "de")
    let texts = [
      "2025-W10-7T07:12:44,123+01:00:30", "09/März/2025:07:12:44 +0100", "@4000000067cd3f7607270e00",
      "-1741504364.120999",
      "AD 20 2025 53 7", "25-68xSonntag AM Europe/Berlin", "999999999999999999999", "20250309071244123456 PST",
    ]
    var read = 0
    for text in texts {
      let bytes = Array(text.utf8)
      for _ in 0..<1000 {
        var cut = Array(bytes[.random(in: 0...bytes.count)...])
        if !cut.isEmpty, Bool.random() { cut[.random(in: 0..<cut.count)] = .random(in: 0...255) }
        if cut.withUnsafeBytes({ parser.parse($0, now: time) }) != nil { read += 1 }
      }
    }
    #expect(read > 0)
  }
}
