//  The tables that decide about answers of Elasticsearch.

import Testing

@testable import Outputs

@Suite struct DecisionTests {
  @Test(arguments: [
    (200, "", "", Decision.done), (201, "", "", .done),
    (409, "version_conflict_engine_exception", "", .duplicate),
    (429, "es_rejected_execution_exception", "", .retry), (503, "unavailable_shards_exception", "", .retry),
    (400, "validation_exception", "this cluster currently has [1000]/[1000] maximum shards open", .retry),
    (400, "validation_exception", "other", .deadLetter), (400, "mapper_parsing_exception", "shards open", .deadLetter),
    (500, "", "", .retryAttempts(5)), (502, "", "", .retryAttempts(5)), (504, "", "", .retryAttempts(5)),
    (403, "cluster_block_exception", "", .retryFor(.seconds(300))), (404, "", "", .deadLetter),
  ])
  func item(status: Int, type: String, reason: String, expected: Decision) {
    #expect(Decision.decide(itemStatus: status, type: type, reason: reason) == expected)
  }

  @Test func conflictOfAnotherActionIsNoDuplicate() {
    #expect(Decision.decide(itemStatus: 409, isCreate: false) == .deadLetter)
  }

  @Test(arguments: [
    (200, Decision.readItems), (400, .halve), (413, .halve), (0, .retry), (401, .retry), (403, .retry), (404, .retry),
    (429, .retry), (500, .retry), (503, .retry),
  ])
  func request(status: Int, expected: Decision) { #expect(Decision.decide(requestStatus: status) == expected) }
}
