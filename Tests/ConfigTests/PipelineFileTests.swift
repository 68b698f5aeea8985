//  The tree of steps that a pipeline file becomes.

import Config
import Diagnostics
import Testing

func pipeline(_ text: String, _ environment: [String: String] = [:], path: String = "aura.yml") throws -> PipelineFile {
  let problems = Problems()
  let source = VariableSource(environment: environment)
  let file = try #require(PipelineFile.parse(text, path: path, variables: source, problems: problems))
  #expect(problems.all.isEmpty, "\(problems.all)")
  return file
}

@Suite struct PipelineFileTests {
  /// Steps as one text: `json-1 [when] { if … }`.
  func outline(_ steps: [PipelineStep]) -> String {
    steps.map { step in
      switch step {
      case .plugin(let step): step.id + (step.condition.map { " when \($0.text)" } ?? "")
      case .branch(let branch):
        "if \(branch.condition.text) (\(outline(branch.then))) else (\(outline(branch.otherwise)))"
      }
    }.joined(separator: ", ")
  }

  @Test func `steps, branches and conditions keep their order`() throws {
    let file = try pipeline(
      """
      filters:
        - json: { source: message }
          when: '[a] == "${NOT_REPLACED}"'
        - if: '[a]'
          then:
            - grok: {}
            - json:
          else:
            if: '[b]'
            then: [drop]
            else:
              - mutate: { id: last }
      """)
    #expect(
      outline(file.filters)
        == #"json-1 when [a] == "${NOT_REPLACED}", if [a] (grok-1, json-2) else (if [b] (drop-1) else (last))"#)
    #expect(file.filterSteps.map(\.id) == ["json-1", "grok-1", "json-2", "drop-1", "last"])
    #expect(file.filterSteps.last?.options?.entries?.isEmpty == true)
    #expect(file.filterSteps[2].options == nil)
    #expect(file.filterSteps[0].position == SourcePosition(file: "aura.yml", line: 2, column: 5))
  }

  @Test func `default ids count within a section and leave given ones alone`() throws {
    let file = try pipeline(
      """
      inputs: [http: {port: 1}, http: {port: 2}]
      outputs:
        - http: {}
        - http: {}
          id: http-2
        - http: {}
        - http: { id: '${ID}' }
        - http: {}
      """, ["ID": "http-4"])
    #expect(file.inputs.map(\.id) == ["http-1", "http-2"])
    #expect(file.outputs.map(\.id) == ["http-1", "http-2", "http-3", "http-4", "http-5"])
    #expect(file.outputs.map(\.isIDGiven) == [false, true, false, true, false])
  }

  @Test func `a missing id is the file's name`() throws {
    #expect(try pipeline("inputs: []", path: "/etc/sluice/pipelines/web-1.yaml").id == "web-1")
    #expect(try pipeline("pipeline: { id: '${ID:x}' }").id == "x")
    #expect(try pipeline("pipeline: { pipeline.id: y }").id == "y")
    #expect(try pipeline("pipeline: { id: '${ID:}' }").id == "aura")
  }

  @Test func `options are expanded and test events keep their style`() throws {
    let file = try pipeline(
      """
      inputs: [beats: { port: '${PORT}', ssl: { '${PORT}': x } }]
      tests:
        - name: n
          given: [{ a: 1, b: '1' }, { a: 2 }]
          expect: { a: 1 }
          absent: b
          outputs: [x]
      """, ["PORT": "5044"])
    #expect(file.inputs[0].options?["port"]?.text == "5044")
    #expect(file.inputs[0].options?["ssl"]?.entries?.first?.key == "${PORT}")
    let test = try #require(file.tests.first)
    #expect(test.given.count == 2 && test.expect?.count == 1 && test.absent == ["b"] && test.outputs == ["x"])
    #expect(test.given[0]["a"]?.isQuoted == false && test.given[0]["b"]?.isQuoted == true)
    #expect(test.dropped == nil && test.position.line == 3)
  }

  @Test func `equal ids name both places`() throws {
    let files = [
      try pipeline("inputs: []", path: "a.yml"), try pipeline("pipeline: {id: b}", path: "c.yml"),
      try pipeline("pipeline:\n  id: a", path: "d.yml"),
    ]
    let problems = Problems()
    PipelineFile.checkIDs(of: files, problems: problems)
    #expect(
      problems.all.map(\.description) == [
        "d.yml:2:7: error: the pipeline id 'a' is taken; the other is at a.yml:1:1 [config.duplicate-id]"
      ])
  }

  @Test func `a character of a condition has a place`() throws {
    func column(_ text: String, _ index: Int) throws -> Int {
      try #require(try tree("when: " + text)["when"]).position(ofCharacter: index).column
    }
    #expect(try column("plain text", 3) == 10)
    #expect(try column("'[a] == 1'", 4) == 12)
    #expect(try column("'it''s x'", 5) == 14)
    #expect(try column(#""ab" "#, 1) == 9)
    #expect(try column(#""a\"b""#, 2) == 7)
    #expect(try column("a\n  b", 2) == 7)
  }

  @Test func `the pipelines of a folder are its yml and yaml files by name`() throws {
    let folder = try TemporaryFolder()
    for name in ["b.yml", "a.yaml", ".hidden.yml", "c.yml.bak", "B.yml", "readme.md"] { try folder.write(name, "x") }
    try folder.makeFolder("d.yml")
    #expect(try pipelineFiles(in: folder.path).map { $0.split(separator: "/").last } == ["B.yml", "a.yaml", "b.yml"])
    #expect(throws: SystemError.self) { try pipelineFiles(in: folder.path + "/none") }
  }

  @Test func `a file that is not there is a problem with its name`() {
    let problems = Problems()
    let file = PipelineFile.load("/nowhere/x.yml", variables: VariableSource(environment: [:]), problems: problems)
    #expect(file == nil)
    #expect(
      problems.all.map(\.description) == [
        "/nowhere/x.yml: error: the file cannot be read: No such file or directory [config.unreadable-file]"
      ])
  }
}
