//  The math filter: what each operation gives, and when it gives up.

import Diagnostics
import Events
import Filters
import Pipeline
import TestSupport
import Testing

@Suite struct MathTests {
  @Test(arguments: [
    ("[add, 2, 3, r]", "5"), ("['+', 2, 0.5, r]", "2.5"), ("[sub, 2, 3, r]", "-1"), ("[mult, 4, 2.5, r]", "10.0"),
    ("[div, 7, 2, r]", "3"), ("[div, -7, 2, r]", "-4"), ("[div, 7, 2.0, r]", "3.5"), ("[fdiv, 7, 2, r]", "3.5"),
    ("[mod, 7, 3, r]", "1"), ("[mod, -7, 3, r]", "2"), ("[mod, 7, -3, r]", "-2"), ("[mod, 7.5, 2, r]", "1.5"),
    ("[pow, 2, 10, r]", "1024"), ("['**', 2, -1, r]", "0.5"), ("[pow, 10, 18, r]", "1000000000000000000"),
    ("[pow, 10, 20, r]", "1.0E20"), ("[add, 9223372036854775807, 1, r]", "9.223372036854775807E18"),
    ("[div, -9223372036854775808, -1, r]", "9.223372036854775807E18"), ("[mod, -9223372036854775808, -1, r]", "0"),
    ("[min, 3, 2.5, r]", "2.5"), ("[max, 3, 4, r]", "4"), ("[round, 2.5, r]", "3"), ("[round, -2.5, r]", "-3"),
    ("[round, 2.345, 2, r]", "2.35"), ("[round, 1234, -2, r]", "1200"), ("[floor, -1.5, r]", "-2"),
    ("[ceil, 1.2, r]", "2"), ("[abs, -3, r]", "3"), ("[neg, 3, r]", "-3"), ("[sqrt, 9, r]", "3.0"),
    ("[exp, 0, r]", "1.0"), ("[log, 1, r]", "0.0"), ("[add, n, '[t][x]', r]", "9"), ("[add, s, 1, r]", "13"),
    ("[add, f, 1, r]", "2.5"),
  ])
  func `operations give what they should`(_ calculation: String, _ wanted: String) throws {
    let harness = FilterHarness("math", "{ calculate: [\(calculation)] }")
    #expect(!harness.problems.hasErrors, "\(harness.problems.sorted)")
    let fields = try harness.result(#"{"n": 4, "t": {"x": 5}, "s": "12", "f": "1.5"}"#)
    let result = try #require(fields["r"])
    let parsed = try Array(wanted.utf8).withUnsafeBytes { try harness.batch.add(arrivalNs: 0).parseJSON($0) }
    #expect(result.kind == parsed.kind, "\(result.json)")
    #expect(result.number == parsed.number, "\(result.json)")
    #expect(fields["tags"] == nil)
  }

  @Test(arguments: [
    "[div, 1, 0, r]", "[mod, 1, 0, r]", "[fdiv, 1, 0.0, r]", "[sqrt, -1, r]", "[log, 0, r]", "[add, s, 1, r]",
    "[add, gone, 1, r]", "[add, l, 1, r]", "[add, 1, 1, '[s][x]']", "[pow, 10.0, 400, r]", "[add, 'MEM[3]', 1, r]",
    "[add, 1, 1, '@timestamp']",
  ])
  func `what has no result is tagged and ends the calculations`(_ calculation: String) throws {
    let fields = try FilterHarness(
      "math", "{ calculate: [[add, 1, 1, before], \(calculation), [add, 1, 1, after]], add_tag: [done] }"
    ).result(#"{"s": "text", "l": [1], "e": ""}"#)
    #expect(fields["tags"]?.json == #"["_mathfailure"]"#)
    #expect(fields["before"]?.integer == 2)
    #expect(fields["after"] == nil)
  }

  @Test func `registers are forgotten after the event`() throws {
    let harness = FilterHarness("math", "{ calculate: [[add, a, 1, 'MEM[0]'], [mult, 'MEM[0]', 2, r]] }")
    let events = harness.run(try harness.add(#"{"a": 1}"#), try harness.add(#"{"b": 1}"#))
    #expect(events.first?.fields["r"]?.integer == 4)
    #expect(events.last?.fields["tags"]?.json == #"["_mathfailure"]"#)
  }

  @Test(arguments: [
    "{}", "{ calculate: [] }", "{ calculate: [[add, a, b]] }", "{ calculate: [[sqrt, a, b, c]] }",
    "{ calculate: [[frobnicate, a, b, c]] }", "{ calculate: [[add, a, b, '[c']] }",
    "{ calculate: [[add, a, 'MEM[100]', c]] }",
    "{ calculate: [add, a, b, c] }",
  ])
  func `calculations that cannot be are refused`(_ config: String) {
    #expect(FilterHarness("math", config).problems.hasErrors)
  }
}
