//  Zones against glibc, which reads the same files by its own code.

import Events
import Glibc
import Testing

@Suite struct TimeZoneTests {
  static let names = [
    "Europe/Berlin", "Europe/Dublin", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "Asia/Kolkata",
    "Asia/Gaza", "Asia/Tehran", "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Apia", "Pacific/Chatham",
    "Africa/Casablanca", "Antarctica/Troll", "America/Scoresbysund", "EST5EDT", "Etc/GMT+5", "UTC",
  ]

  /// Setting TZ changes the whole process, so it happens in one of its own.
  @Test func `offsets agree with glibc`() async {
    await #expect(processExitsWith: .success) {
      for name in TimeZoneTests.names {
        let zone = try #require(TimeZoneRules.named(name))
        setenv("TZ", name, 1)
        tzset()
        for _ in 0..<1000 {
          var time = Int.random(in: -6_000_000_000...20_000_000_000)
          var fields = tm()
          localtime_r(&time, &fields)
          #expect(zone.offset(at: Int64(time)) == Int(fields.tm_gmtoff), "\(name) at \(time)")
        }
      }
    }
  }

  @Test(arguments: names) func `a local time leads back to its moment, or to the earlier of two`(_ name: String) throws
  {
    let zone = try #require(TimeZoneRules.named(name))
    for _ in 0..<1000 {
      let time = Int64.random(in: -6_000_000_000...40_000_000_000)
      let local = time + Int64(zone.offset(at: time))
      let back = try #require(zone.utc(local: local))
      #expect(back + Int64(zone.offset(at: back)) == local)
      #expect(back <= time && time - back <= 86_400)
    }
  }

  @Test func `skipped times do not exist and doubled ones are the first`() throws {
    let berlin = try #require(TimeZoneRules.named("Europe/Berlin"))
    func local(_ year: Int, _ month: Int, _ day: Int, _ minute: Int) -> Int64 {
      Int64(CivilDate(year: year, month: month, day: day).daysSinceEpoch * 86_400 + minute * 60)
    }
    for year in [2025, 2101, 2700] {
      let march = (25...31).first {
        CivilDate.weekday(daysSinceEpoch: CivilDate(year: year, month: 3, day: $0).daysSinceEpoch) == 7
      }
      let october = (25...31).first {
        CivilDate.weekday(daysSinceEpoch: CivilDate(year: year, month: 10, day: $0).daysSinceEpoch) == 7
      }
      let (spring, autumn) = (try #require(march), try #require(october))
      #expect(berlin.utc(local: local(year, 3, spring, 119)) == local(year, 3, spring, 59))
      #expect(berlin.utc(local: local(year, 3, spring, 120)) == nil)
      #expect(berlin.utc(local: local(year, 3, spring, 179)) == nil)
      #expect(berlin.utc(local: local(year, 3, spring, 180)) == local(year, 3, spring, 60))
      #expect(berlin.utc(local: local(year, 10, autumn, 150)) == local(year, 10, autumn, 30))
      #expect(berlin.utc(local: local(year, 10, autumn, 180)) == local(year, 10, autumn, 120))
    }
  }

  @Test(arguments: [
    ("+02:00", 7200), ("+02", 7200), ("-0330", -12_600), ("Z", 0), ("GMT", 0), ("GMT+2", 7200), ("UTC-01:30", -5400),
  ])
  func `offsets are zones`(_ id: String, _ seconds: Int) {
    #expect(TimeZoneRules.named(id)?.offset(at: 1_741_504_364) == seconds)
  }

  @Test(arguments: [
    "", "europe/berlin", "Mars/Base", "../../etc/passwd", "/etc/localtime", "Europe", "Europe/", "zone.tab",
    "posixrules",
    "right/UTC", "+25:00", "+2", "CEST", "Europe/Berlin\u{0}", "tzdata.zi",
  ])
  func `anything else is none`(_ id: String) { #expect(TimeZoneRules.named(id) == nil) }

  @Test func `a zone is loaded once`() throws {
    let zone = try #require(TimeZoneRules.named("Asia/Tokyo"))
    #expect(TimeZoneRules.named("Asia/Tokyo") === zone)
  }
}
