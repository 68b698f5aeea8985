//  What a real Logstash answered: conditions, field references, sprintf.

import Diagnostics
import Events
import Patterns
import Pipeline
import TestSupport
import Testing

@Suite struct RecordedTests {
  private func event(_ batch: EventBatch, _ given: Value) throws -> Event {
    var out = ByteBuffer()
    given.appendJSON(to: &out)
    return try #require(try batch.add(json: out.bytes, arrivalNs: WallClock.ns))
  }

  @Test func `conditions answer as recorded`() throws {
    let scratch = MatchScratch()
    var failures: [String] = []
    for item in try Fixtures.cases("Tests/Cases/logstash/conditions.jsonl") {
      let text = try #require(item["condition"]?.string)
      let condition: Condition
      do {
        condition = try Condition(text)
      } catch {
        if item["error"] == nil { failures.append("\(item.id): \(text): \(error)") }
        continue
      }
      if item["error"] != nil {
        failures.append("\(item.id): \(text): was accepted")
        continue
      }
      let batch = EventBatch()
      for (given, expected) in zip(try #require(item["given"]).elements, try #require(item["expect"]).elements) {
        let event = try event(batch, given)
        let answer: String
        do { answer = try condition.evaluate(event, scratch) ? "true" : "false" } catch { answer = "\"error\"" }
        if answer != expected.json {
          failures.append("\(item.id): \(text) on \(given.json): \(answer), recorded \(expected.json)")
        }
      }
    }
    #expect(failures.isEmpty, "\(failures.count) differ:\n\(failures.prefix(40).joined(separator: "\n"))")
  }

  @Test func `field references read as recorded`() throws {
    var failures: [String] = []
    for item in try Fixtures.cases("Tests/Cases/logstash/fieldrefs.jsonl") {
      let text = try #require(item["reference"]?.string)
      let batch = EventBatch()
      let event = try event(batch, try #require(item["given"]))
      guard let reference = try? FieldReference(text) else {
        if item["error"] == nil { failures.append("\(item.id): \(text) was refused") }
        continue
      }
      if item["error"] != nil {
        failures.append("\(item.id): \(text) was accepted")
        continue
      }
      let expected = try #require(item["expect"])
      let actual = event.value(reference) ?? event.makeValue(.null)
      if let difference = difference(actual, expected) { failures.append("\(item.id): \(text): \(difference)") }
    }
    #expect(failures.isEmpty, "\(failures.count) differ:\n\(failures.prefix(40).joined(separator: "\n"))")
  }

  @Test func `templates print as recorded`() throws {
    var failures: [String] = []
    for item in try Fixtures.cases("Tests/Cases/logstash/sprintf.jsonl") {
      let text = try #require(item["template"]?.string)
      let batch = EventBatch()
      let event = try event(batch, try #require(item["given"]))
      if let now = item["now"]?.string { _ = now }
      let printed: String?
      do { printed = try Template(text).string(event) } catch { printed = nil }
      if item["error"]?.boolean == true {
        if let printed { failures.append("\(item.id): \(text) printed \(printed), recorded an error") }
        continue
      }
      let expected = item["expect"]?.string
      if expected == "__NOW__" { continue }
      if printed != expected {
        failures.append("\(item.id): \(text): \(printed ?? "error"), recorded \(expected ?? "?")")
      }
    }
    #expect(failures.isEmpty, "\(failures.count) differ:\n\(failures.prefix(40).joined(separator: "\n"))")
  }
}
