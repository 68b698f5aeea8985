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
    Recording(name: "date"),
    Recording(name: "drop"),
  ]

  @Test(arguments: recordings)
  func `a filter answers as recorded`(_ recording: Recording) throws {
    let runner = CaseRunner(filters: allFilters)
    let differences = try runner.differences(
      in: "Tests/Cases/logstash/\(recording.name).jsonl", known: recording.known)
    #expect(differences.isEmpty, "\(differences.count) differ:\n\(differences.prefix(60).joined(separator: "\n"))")
  }
}
