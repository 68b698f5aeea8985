//  What a real Logstash made of small inputs, filter by filter.

import Filters
import TestSupport
import Testing

@Suite struct RecordedCases {
  /// A filter's file of cases, and the ids of those that differ for a reason told beside them.
  struct Recording: Sendable, CustomTestStringConvertible {
    var name: String
    var known: Set<String> = []
    var testDescription: String { name }
  }

  static let recordings: [Recording] = [
    Recording(name: "aggregate"),
    Recording(name: "bytes"),
    Recording(name: "cidr"),
    Recording(name: "clone"),
    Recording(name: "common"),
    Recording(name: "csv"),
    Recording(name: "date"),
    Recording(name: "dissect"),
    Recording(name: "dns"),
    Recording(name: "drop"),
    Recording(name: "elapsed"),
    // A map that a value joins stays one element (as common-decorate-022 has it); a map as a text is refused at start.
    Recording(name: "event", known: ["event-decorate-002", "event-decorate-003", "event-decorate-004"]),
    Recording(name: "fingerprint"),
    // Upstream types the first of several equal captures only (643, 644), and puts the category of a name server's line
    // under a misspelt field, as its next release no longer does (743 to 750).
    Recording(
      name: "grok",
      known: [
        "grok-library-643", "grok-library-644", "grok-library-743", "grok-library-744", "grok-library-748",
        "grok-library-749", "grok-library-750",
      ]),
    // A number that nobody touched stays as it is written: 0.1e1, not 1.
    Recording(name: "json", known: ["json-parse-107"]),
    // A word without a value takes its whole separator with it, where upstream leaves half of it (022); trimming is for
    // the ends of a key, not of each of its lines (046).
    Recording(name: "kv", known: ["kv-random-022", "kv-random-046"]),
    Recording(name: "metrics"),
    // Upstream reads `-0905` as an octal number and fails; in a log it is decimal, as `007` is.
    Recording(name: "mutate", known: ["mutate-random-005"]),
    Recording(name: "prune"),
    Recording(name: "reports"),
    Recording(name: "split"),
    Recording(name: "syslog_pri"),
    Recording(name: "throttle"),
    Recording(name: "translate"),
    Recording(name: "truncate"),
    Recording(name: "urldecode"),
    Recording(name: "useragent"),
    Recording(name: "uuid"),
    Recording(name: "xml"),
  ]

  @Test(arguments: recordings)
  func `a filter answers as recorded`(_ recording: Recording) throws { try expectNoDifferences(recording) }

  @Test(.enabled(if: Fixtures.shared != nil, "MaxMind's test databases are not part of the project"))
  func `geoip answers as recorded`() throws { try expectNoDifferences(Recording(name: "geoip")) }

  private func expectNoDifferences(_ recording: Recording) throws {
    let runner = CaseRunner(filters: allFilters)
    let differences = try runner.differences(
      in: "Tests/Cases/logstash/\(recording.name).jsonl", known: recording.known, accepts: runner.hasFilters)
    #expect(differences.isEmpty, "\(differences.count) differ:\n\(differences.prefix(60).joined(separator: "\n"))")
  }
}
