//  What recorded cases cannot show of `throttle` and `sample`: memory that stays bounded, workers that count together,
//  and a choice that is the same every time.

import Diagnostics
import Events
import TestSupport
import Testing

@testable import Filters

@Suite struct ThrottleTests {
  private func apply(_ counters: ThrottleCounters, keys: Range<UInt64>, time: Int64, now: Instant = .now) {
    var groups = ShardGroups()
    // Spread over the shards as hashes are.
    var updates = keys.map { ThrottleUpdate(key: $0 &* 0x9E37_79B9_7F4A_7C15, time: time, period: 60) }
    counters.apply(&updates, &groups, now: now)
  }

  @Test func `workers count the events of a key together`() {
    let counters = ThrottleCounters(maxAge: 3600, countersMax: 1000)
    let done = Gate(0)
    let seen = Lock<Set<Int>>([])
    for _ in 0..<4 {
      TestThread.run {
        var groups = ShardGroups()
        for _ in 0..<500 {
          var updates = [ThrottleUpdate(key: 7, time: 100, period: 60), ThrottleUpdate(key: 9, time: 100, period: 60)]
          counters.apply(&updates, &groups)
          seen.withLock { _ = $0.insert(updates[0].count) }
        }
        done.update { $0 += 1 }
      }
    }
    #expect(done.wait(until: .now + .seconds(20)) { $0 == 4 ? true : nil } == true)
    #expect(seen.withLock { $0 } == Set(1...2000))
  }

  @Test func `many keys at once stay bounded`() {
    let counters = ThrottleCounters(maxAge: 3600, countersMax: 1600)
    for round in 0..<100 as Range<UInt64> { apply(counters, keys: round * 1000..<round * 1000 + 1000, time: 100) }
    #expect(counters.count <= 16 * 200)
    #expect(counters.count > 1000)
  }

  @Test func `above the limit the age shrinks, and old counters go first`() {
    let start = Instant.now
    let counters = ThrottleCounters(maxAge: 1000, countersMax: 100, now: start)
    apply(counters, keys: 0..<40, time: 0, now: start)
    apply(counters, keys: 100..<180, time: 900, now: start)
    #expect(counters.count == 120)
    var now = start
    for _ in 0..<5 {
      now = now + .seconds(6)
      apply(counters, keys: 500..<501, time: 900, now: now)
    }
    // At 17 twentieths the slots that ended at 60 are too old at 950, but those of 900 stay.
    #expect(counters.count == 81)
  }

  @Test func `counters of keys that came no more are forgotten`() {
    let start = Instant.now
    let counters = ThrottleCounters(maxAge: 100, countersMax: 1000, now: start)
    apply(counters, keys: 0..<50, time: 0, now: start)
    apply(counters, keys: 90..<91, time: 500, now: start + .seconds(6))
    #expect(counters.count == 1)
  }

  @Test func `times at the ends of the calendar do no harm`() throws {
    let harness = FilterHarness("throttle", #"{ key: k, after_count: 1, period: "%{p}", add_tag: [t] }"#)
    for time in ["-999999999-01-01T00:00:00Z", "+999999999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"] {
      for period in ["1", "99999999999999999999", "-7", ""] {
        _ = try harness.result(#"{"@timestamp": "\#(time)", "p": "\#(period)"}"#)
      }
    }
    let last = #"{"@timestamp": "+999999999-12-31T23:59:59Z", "p": "1"}"#
    #expect(try harness.result(last)["tags"] != nil)
  }

  @Test func `a sample has its share, is the same again, and grows with the percentage`() throws {
    func kept(_ percentage: String) throws -> Set<Int> {
      let harness = FilterHarness("sample", #"{ percentage: \#(percentage), key: "%{k}" }"#)
      var result: Set<Int> = []
      for i in 0..<4000 where !harness.run(try harness.add(#"{"k": "user-\#(i)"}"#)).isEmpty { result.insert(i) }
      return result
    }
    let quarter = try kept("25")
    #expect((900...1100).contains(quarter.count))
    #expect(try kept("25") == quarter)
    #expect(try kept("40").isSuperset(of: quarter))
    #expect(try kept("0").isEmpty)
    #expect(try kept("100").count == 4000)
  }

  @Test func `without a key the record's id decides`() throws {
    let harness = FilterHarness("sample", "{ percentage: 50, add_tag: [kept] }")
    let ids = NumberedIDs()
    harness.batch.recordIDs = ids
    func kept() throws -> [Int] {
      try (0..<200).filter { !harness.run(try harness.add(#"{"same": 1}"#, record: $0)).isEmpty }
    }
    let first = try kept()
    #expect((60...140).contains(first.count))
    #expect(try kept() == first)
  }

  private final class NumberedIDs: RecordIDs {
    func appendID(_ record: Int, to out: inout ByteBuffer) { out.append(text: "record-number-\(100_000 + record)") }
  }
}
