//  Mapping conflicts: which field a server's words name, and what a document looks like without the conflict.

import Config
import Diagnostics
import Events
import PluginKit
import TestSupport
import Testing

@testable import Outputs

@Suite struct MappingConflictTests {
  @Test(arguments: [
    (
      "[1:27] failed to parse field [request_duration] of type [float] in document with id 'a3'. Preview of field's value: ''",
      "request_duration", "float"
    ),
    ("failed to parse field [geo] of type [geo_point]", "geo", "geo_point"),
    (
      "[1:9] object mapping for [n1.n2] tried to parse field [n2] as object, but found a concrete value", "n1.n2",
      "object"
    ),
    ("mapper [q] cannot be changed from type [long] to [text]", "q", "long"),
    ("can't merge a non object mapping [q] with an object mapping", "q", ""),
    (
      "Could not dynamically add mapping for field [t.b]. Existing mapping for [t] must be of type object but found [text].",
      "t", "text"
    ),
    (
      "Document contains at least one immense term in field=\"kw\" (whose UTF8 encoding is longer than the max length 32766)",
      "kw", "keyword"
    ),
  ])
  func `the field is found in the server's words`(reason: String, field: String, type: String) {
    #expect(MappingConflict([reason]) == MappingConflict(field: field, type: type))
    #expect(MappingConflict(["failed to parse", reason]) == MappingConflict(field: field, type: type))
  }

  @Test(arguments: [
    "failed to parse field [_id] of type [_id] in document with id '1'. Preview of field's value: ''",
    "Limit of total fields [1000] has been exceeded", "", "blocked by: [FORBIDDEN/8/index write (api)];",
  ])
  func `other refusals are no conflicts`(reason: String) { #expect(MappingConflict([reason]) == nil) }

  private func cured(_ document: String, _ field: String, _ type: String, _ cure: ConflictCure) -> String? {
    Array(document.utf8).withUnsafeBytes {
      MappingConflict(field: field, type: type).cured($0, by: cure).map { String(decoding: $0, as: UTF8.self) }
    }
  }

  @Test func `a field is coerced where nothing is lost`() {
    #expect(cured(#"{"n":true,"a":1}"#, "n", "long", .coerce) == #"{"n":1,"a":1}"#)
    #expect(cured(#"{"n":"1_000"}"#, "n", "integer", .coerce) == #"{"n":1000}"#)
    #expect(cured(#"{"n":"many"}"#, "n", "long", .coerce) == nil)
    #expect(cured(#"{"b":"Yes"}"#, "b", "boolean", .coerce) == #"{"b":true}"#)
    #expect(cured(#"{"b":2}"#, "b", "boolean", .coerce) == nil)
    #expect(cured(#"{"o":{"k":{"x":[1]}}}"#, "o.k", "keyword", .coerce) == #"{"o":{"k":"{\"x\":[1]}"}}"#)
    #expect(cured(#"{"a":1}"#, "b", "long", .coerce) == nil)
    #expect(cured(#"{"b":"yes"}"#, "b", "boolean", .deadLetter) == nil)
  }

  @Test func `a field is moved to a name of its own kind`() {
    #expect(cured(#"{"n":"many","a":1}"#, "n", "long", .rename) == #"{"a":1,"n_text":"many"}"#)
    #expect(cured(#"{"o":{"k":{"x":1}}}"#, "o.k", "keyword", .rename) == #"{"o":{"k_object":{"x":1}}}"#)
    #expect(cured(#"{"u":"text"}"#, "u", "object", .rename) == #"{"u_text":"text"}"#)
    #expect(cured(#"{"a.b":[true]}"#, "a.b", "long", .rename) == #"{"a.b_boolean":[true]}"#)
    #expect(cured(#"{"t":{"b":1}}"#, "t", "text", .rename) == #"{"t_object":{"b":1}}"#)
    #expect(cured(#"{"t.b":1}"#, "t", "text", .rename) == #"{"t.b_number":1}"#)
    #expect(cured(#"{"n":"many","n_text":"kept"}"#, "n", "long", .rename) == #"{"n_text":"kept","n_text_":"many"}"#)
  }

  @Test func `a document that is refused again and again becomes a dead letter`() throws {
    let endpoint = try BulkEndpoint { _, _ in
      .refuse(
        status: 400, type: "document_parsing_exception", text: "message",
        reason: "failed to parse field [n] of type [long]")
    }
    defer { endpoint.stop() }
    let letters = KeptLetters()
    let output = try started(endpoint.address, letters) { $0.mappingConflicts = .rename }
    let isDone = try write([#"{"message":"x","n":"many"}"#], to: output)
    #expect(waitUntil { isDone.withLock { $0 } })
    // The renamed field is not the one that is named again.
    #expect(letters.all.count == 1 && endpoint.requests == 2)
    #expect(letters.all.first?.document.contains("n_text") == true)
    output.stop(deadline: .now + .seconds(5))
  }

  @Test(.enabled(if: RunningEngine.isThere, Comment(rawValue: RunningEngine.why)))
  func `a real engine takes what was cured, and the figures name the fields`() throws {
    let engine = try RunningEngine(settings: ["node.name=conflicts"])
    let mapping = """
      {"mappings":{"properties":{"n":{"type":"long"},"b":{"type":"boolean"},"k":{"type":"keyword"},
      "o":{"properties":{"x":{"type":"long"}}}}}}
      """
    for index in ["logs-coerce", "logs-rename", "logs-letters"] {
      #expect(try engine.request("PUT", "/" + index, mapping).status == 200)
    }
    let documents = [
      #"{"n":true}"#, #"{"b":"yes"}"#, #"{"k":{"deep":1}}"#, #"{"n":"many","b":"perhaps"}"#, #"{"o":"text"}"#,
      #"{"n":7}"#,
    ]
    func send(_ index: String, _ cure: ConflictCure) throws -> (letters: Int, figures: OutputStatistics) {
      let letters = KeptLetters()
      let output = try started(engine.address, letters) {
        $0.index = Template(index)
        $0.mappingConflicts = cure
      }
      let isDone = try write(documents, to: output)
      #expect(waitUntil(seconds: 30) { isDone.withLock { $0 } })
      output.stop(deadline: .now + .seconds(5))
      return (letters.all.count, output.statistics)
    }
    let kept = try send("logs-letters", .deadLetter)
    #expect(try kept.letters == 5 && engine.count("logs-letters") == 1)
    let coerced = try send("logs-coerce", .coerce)
    #expect(try coerced.letters == 2 && engine.count("logs-coerce") == 4)
    #expect(try engine.count("logs-coerce", "n:1") == 1 && engine.count("logs-coerce", "b:true") == 1)
    let renamed = try send("logs-rename", .rename)
    #expect(try renamed.letters == 0 && engine.count("logs-rename") == 6)
    #expect(try engine.count("logs-rename", "n_text:many AND b_text:perhaps") == 1)
    let figures = try PlainJSON("{\(renamed.figures.extra)}")["mapping_conflicts"]
    #expect(figures?["logs-rename/n"]?["refused"]?.integer == 2 && figures?["logs-rename/n"]?["cured"]?.integer == 2)
    #expect(figures?["logs-rename/o"]?["type"]?.string == "object")
  }
}
