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
    (403, "cluster_block_exception", "blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];", .retry),
  ])
  func item(status: Int, type: String, reason: String, expected: Decision) {
    #expect(Decision.decide(itemStatus: status, type: type, reason: reason) == expected)
  }

  @Test func `what a conflict or an absence means depends on the action`() {
    #expect(Decision.decide(itemStatus: 409, action: .index) == .deadLetter)
    #expect(Decision.decide(itemStatus: 409, action: .index, hasVersion: true) == .stale)
    #expect(Decision.decide(itemStatus: 409, action: .update) == .retryAttempts(5))
    #expect(Decision.decide(itemStatus: 404, action: .delete) == .done)
    #expect(Decision.decide(itemStatus: 404, type: "index_not_found_exception", action: .delete) == .deadLetter)
    #expect(Decision.decide(itemStatus: 404, type: "document_missing_exception", action: .update) == .deadLetter)
  }

  @Test(arguments: [
    (200, "", "", Decision.readItems), (413, "", "", .halve), (0, "", "", .retry), (301, "", "", .setAside),
    (401, "", "", .setAside), (403, "security_exception", "", .setAside), (404, "", "", .setAside),
    (405, "", "", .setAside), (406, "", "", .setAside), (408, "", "", .retry), (429, "", "", .retry),
    (500, "", "", .retry),
    (503, "", "", .retry),
    // The body is at fault.
    (400, "illegal_argument_exception", "Malformed action/metadata line [1]", .halve),
    (400, "x_content_parse_exception", "", .halve), (500, "json_parse_exception", "Invalid UTF-8", .halve),
    (
      429, "es_rejected_execution_exception",
      "[coordinating_operation_bytes=348080, max_coordinating_and_primary_bytes=204800]", .halve
    ),
    (
      429, "es_rejected_execution_exception",
      "[coordinating_operation_bytes=139280, max_coordinating_and_primary_bytes=204800]", .retry
    ),
    // The address, or something in front of the server, is at fault: no document suffers for it.
    (400, "", "The plain HTTP request was sent to HTTPS port", .setAside),
    (400, "illegal_argument_exception", "request [/_bulk] contains unrecognized parameter: [x]", .setAside),
    (400, "too_long_http_line_exception", "", .setAside),
  ])
  func request(status: Int, type: String, reason: String, expected: Decision) {
    #expect(Decision.decide(requestStatus: status, type: type, reason: reason) == expected)
  }
}
