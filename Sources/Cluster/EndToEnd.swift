//  A marked event through a running daemon: sent to its HTTP input, and looked for in the cluster until it is found.

internal import Diagnostics
internal import Events
internal import Outputs

/// What each hop took.
public struct EndToEndTimes: Sendable {
  public var accepted: Duration
  public var found: Duration
  public var index: String
  public var mark: String
}

/// Waits for a moment between two questions.
func pauseBriefly() { waitOut(.milliseconds(200)) }

extension ClusterClient {
  /// - Parameter input: The daemon's HTTP input: `http://localhost:5000`.
  public func sendThrough(_ input: String, timeout: Duration) throws -> EndToEndTimes {
    var generator = SystemRandomNumberGenerator()
    let mark = "sluice-test-" + String(generator.next(), radix: 36) + String(generator.next(), radix: 36)
    var connection = ClusterConnection()
    connection.timeout = .seconds(20)
    let session = try ClusterSession(connection)
    let event: JSONValue = [
      "message": "a test of the way from the input to the index", "levelname": "INFO", "logger": "sluice.test",
      "correlation_id": .text(mark), "tags": ["sluice_test"],
    ]
    let start = Instant.now
    let answer: ClusterSession.Answer
    do { answer = try session.send("POST", input, Array(event.text.utf8)) } catch {
      throw ClusterFailure("the daemon cannot be reached: \(error)")
    }
    guard answer.status == 200 else {
      throw ClusterFailure(
        "the daemon answers \(answer.status): \(String(decoding: answer.body.prefix(256), as: UTF8.self))")
    }
    let accepted = Instant.now - start
    while Instant.now - start < timeout {
      let search = try request(
        "POST", "/aura-logs-*/_search", ["size": 1, "query": ["term": ["correlation_id": .text(mark)]]])
      // Without the template the field is text with an exact form beside it.
      let plain = try request(
        "POST", "/aura-logs-*/_search", ["size": 1, "query": ["match_phrase": ["correlation_id": .text(mark)]]])
      for found in [search, plain] where found.status == 200 {
        if let hit = found.json.at("hits.hits")?.elements.first {
          return EndToEndTimes(
            accepted: accepted, found: Instant.now - start, index: hit["_index"]?.string ?? "", mark: mark)
        }
      }
      pauseBriefly()
    }
    throw ClusterFailure("the event \(mark) was accepted but is not found after \(timeout.ns / 1_000_000_000) s")
  }
}
