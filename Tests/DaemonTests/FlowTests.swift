//  Rates over windows, and how they are written.

import Diagnostics
import Testing

@testable import Daemon

@Suite struct FlowTests {
  @Test(arguments: [
    (0, "0.0"), (603.14, "603.1"), (0.93749, "0.9375"), (6.0291e-5, "6.029E-5"), (1, "1.0"), (100, "100.0"),
    (99999, "100000.0"), (123_456.7, "123500.0"), (0.001, "0.001"), (0.00099996, "0.001"), (-2.5, "-2.5"),
    (12_345_678, "1.235E7"), (9.9999, "10.0"),
  ])
  func `numbers have four significant digits`(value: Double, text: String) { #expect(significant(value) == text) }

  /// A day of notes every five seconds, of a counter that grows by ten a second and by a hundred in the last minute.
  @Test func `windows appear when they have passed, and notes stay few`() {
    let recorder = FlowRecorder()
    let start = Instant(ns: 1_000_000_000_000)
    var value = 0
    recorder.add([0], at: start)
    var names: [Int: [String]] = [:]
    let end = 25 * 3600
    for second in stride(from: 5, through: end, by: 5) {
      value += second > end - 60 ? 500 : 50
      let now = start + .seconds(second)
      recorder.add([value], at: now)
      if [5, 60, 300, 3600].contains(second) {
        names[second] = FlowView(recorder, [value], at: now).perSecond(0).map(\.name)
      }
    }
    #expect(names[5] == ["current", "lifetime"])
    #expect(names[60] == ["current", "last_1_minute", "lifetime"])
    #expect(names[300] == ["current", "last_1_minute", "last_5_minutes", "lifetime"])
    #expect(
      names[3600] == [
        "current", "last_1_minute", "last_5_minutes", "last_15_minutes", "last_1_hour", "lifetime",
      ])
    #expect(recorder.noteCount < 300, "\(recorder.noteCount)")
    let rates = FlowView(recorder, [value], at: start + .seconds(end)).perSecond(0)
    let byName = Dictionary(uniqueKeysWithValues: rates.map { ($0.name, $0.value) })
    #expect(byName.count == 7)
    #expect(byName["current"] == 100 && byName["last_1_minute"] == 100)
    #expect(abs((byName["last_5_minutes"] ?? 0) - 28) < 2)
    #expect(abs((byName["last_24_hours"] ?? 0) - 10) < 0.2)
  }

  @Test func `work without events is infinite, and nothing at all has no rate`() {
    let recorder = FlowRecorder()
    recorder.add([0, 0], at: Instant(ns: 0))
    let view = FlowView(recorder, [0, 5], at: Instant(ns: 1_000_000_000))
    let perEvent = view.rates({ view.growth(1, since: $0) }, by: { view.growth(0, since: $0) })
    #expect(perEvent.allSatisfy { $0.value.isInfinite } && perEvent.count == 2)
    #expect(view.rates({ view.growth(0, since: $0) }, by: { view.growth(0, since: $0) }).isEmpty)
  }
}
