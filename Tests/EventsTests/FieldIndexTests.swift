//  An event's table of its own fields against a plain list of pairs, over long random histories.

import Diagnostics
import Events
import TestSupport
import Testing

@Suite struct FieldIndexTests {
  /// Fields in order, as an event keeps them.
  private struct Model {
    var fields: [(name: String, value: Int)] = []
    func place(_ name: String) -> Int? { fields.firstIndex { $0.name == name } }
    mutating func set(_ name: String, _ value: Int) {
      if let i = place(name) { fields[i].value = value } else { fields.append((name, value)) }
    }
    mutating func remove(_ name: String) { fields.removeAll { $0.name == name } }
    var json: String { "{" + fields.map { "\"\($0.name)\":\($0.value)" }.joined(separator: ",") + "}" }
  }

  private func json(_ event: Event) -> String {
    var out = ByteBuffer()
    event.appendJSON(to: &out)
    return out.string()
  }

  @Test(arguments: 0..<40)
  func `reading, writing and removing fields in any order is what a list of pairs says`(_ seed: Int) throws {
    var random = SeededRandom(UInt64(seed))
    // Few names keep the table small, many pass its bound.
    let names = (0..<[10, 24, 40, 90][seed % 4]).map { "field\($0)" }
    let references = try names.map { try FieldReference($0) }
    let batch = EventBatch()
    for round in 0..<30 {
      batch.removeAll()
      var model = Model()
      for name in names where random.chance(0.5) { model.set(name, random.below(1000)) }
      var event = try #require(
        try Array(model.json.utf8).withUnsafeBytes { try batch.add(json: $0, arrivalNs: 0) })
      event.remove(.timestamp)
      event.remove(.version)
      for step in 0..<120 {
        let i = random.below(names.count)
        let value = random.below(1000)
        switch random.below(12) {
        case 0, 1, 2:
          try event.set(references[i], .integer(value))
          model.set(names[i], value)
        case 3:
          if try event.setUnlessPresent(references[i], .integer(value)) == nil { model.set(names[i], value) }
        case 4, 5:
          event.remove(references[i])
          model.remove(names[i])
        case 6:
          // Past the event: through the map of its fields.
          Array(names[i].utf8).withUnsafeBytes { event.fields.set(name: $0, .integer(value)) }
          model.set(names[i], value)
        case 7:
          if let member = event.value(references[i]) {
            member.remove(from: event.fields)
            model.remove(names[i])
          }
        case 8 where model.fields.count > 1:
          // Out and in again at the end, and another one away: count and last member stay the same.
          let (first, last) = (model.fields[0], model.fields[model.fields.count - 1])
          let text = Array(last.name.utf8)
          try #require(event.value(FieldReference(last.name))).remove(from: event.fields)
          text.withUnsafeBytes { event.fields.set(name: $0, .integer(last.value)) }
          try #require(event.value(FieldReference(first.name))).remove(from: event.fields)
          model.remove(last.name)
          model.set(last.name, last.value)
          model.remove(first.name)
        case 9:
          let added = (0..<random.below(8)).map { _ in (names[random.below(names.count)], random.below(1000)) }
          var other = Model()
          for (name, value) in added { other.set(name, value) }
          try Array(other.json.utf8).withUnsafeBytes { try event.merge(event.parseJSON($0)) }
          for (name, value) in other.fields { model.set(name, value) }
        case 10 where step % 40 == 0: event = event.spawnClone()
        default: break
        }
        for _ in 0..<3 {
          let asked = random.below(names.count)
          let expected = model.place(names[asked]).map { Int64(model.fields[$0].value) }
          #expect(event.value(references[asked])?.integer == expected, "seed \(seed), round \(round), step \(step)")
        }
      }
      #expect(json(event) == model.json, "seed \(seed), round \(round)")
    }
  }
}
