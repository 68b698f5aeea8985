//  Pages and schemas printed from declarations.

import Config
import Foundation
import Testing

@Suite struct OptionReferenceTests {
  @Test func `pages are as they were looked at`() throws {
    try expectGolden("config/help.txt", Everything.descriptions.helpText())
    try expectGolden("config/options.md", (Everything.descriptions + Needy.descriptions).markdownTable())
    try expectGolden("config/settings.md", DaemonSettings.descriptions.markdownTable())
    #expect(Everything.descriptions.helpText().split(separator: "\n").allSatisfy { $0.count <= 80 })
  }

  /// Foundation's parser is the other opinion on whether the schema is JSON.
  @Test func `the schema is JSON and names every option`() throws {
    for (schema, names) in [
      (Everything.descriptions.jsonSchema(), Everything.descriptions.filter { !$0.isObsolete }.map(\.name)),
      (Needy.descriptions.jsonSchema(allowingOthers: true), ["hosts", "index"]),
    ] {
      let object = try #require(try JSONSerialization.jsonObject(with: Data(schema.utf8)) as? [String: Any])
      let properties = try #require(object["properties"] as? [String: Any])
      #expect(Set(properties.keys) == Set(names))
    }
    let needy = Needy.descriptions.jsonSchema()
    #expect(needy.hasSuffix(#""required":["hosts","index"],"additionalProperties":false}"#))
    let bounded = Everything.descriptions.first { $0.name == "level" }.map { [$0].jsonSchema() }
    #expect(
      bounded == #"{"type":"object","properties":{"level":{"description":"A level.","default":"low","anyOf":["#
        + #"{"enum":["low","high","Mixed"]},{"type":"string","pattern":"\\$\\{"}]}},"additionalProperties":false}"#)
  }
}
