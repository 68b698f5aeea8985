//  Variables in scalar values.

import Config
import Diagnostics
import Testing

@Suite struct VariableTests {
  let source = VariableSource(
    environment: ["HOST": "es1", "EMPTY": "", "a.b": "dot", "BAD": "x: [${HOST}]", "CREDENTIALS_DIRECTORY": "/nowhere"])

  @Test(arguments: [
    ("${HOST}", "es1"), ("http://${HOST}:${PORT:9200}/", "http://es1:9200/"), ("${a.b}", "dot"),
    ("${NONE:}", ""), ("${EMPTY:x}", ""), ("${NONE:a:b c}", "a:b c"), ("$${HOST}", "${HOST}"),
    ("$$${HOST}", "$${HOST}"), ("$${HOST:x}${HOST}", "${HOST:x}es1"), ("${1A:x}", "${1A:x}"), ("${A-B:x}", "${A-B:x}"),
    ("${}", "${}"), ("a$", "a$"), ("${HOST", "${HOST"), ("^\\$${1}", "^\\$${1}"), ("${BAD}", "x: [${HOST}]"),
    ("${NONE:${HOST}}", "es1"), ("${NONE:${NONE2:${NONE3:last}}}!", "last!"),
    ("${!HOST:x}", ""), ("${!NONE:x}", "x"), ("${!EMPTY:${HOST}}", "es1"), ("${NONE:${!HOST:${NONE2}}}", ""),
    ("${!HOST}", "${!HOST}"), ("${!:x}", "${!:x}"),
  ])
  func `a variable is replaced once`(text: String, expected: String) {
    let problems = Problems()
    let result = source.expand(text, at: SourcePosition(file: "f"), problems: problems)
    #expect(result.text == expected)
    #expect(problems.all.isEmpty)
  }

  @Test func `values are replaced after parsing, and keys never`() throws {
    let problems = Problems()
    let node = try tree("${HOST}: ['${BAD}', b]\nc: { d: '$${HOST}' }\n").expanded(by: source, problems: problems)
    #expect(node.entries?.map(\.key) == ["${HOST}", "c"])
    #expect(node["${HOST}"]?.items?.map(\.text) == ["x: [${HOST}]", "b"])
    #expect(node["${HOST}"]?.items?.map(\.heldVariable) == [true, false])
    #expect(node["${HOST}"]?.items?.first?.writtenText == "${BAD}")
    #expect(problems.all.isEmpty)
  }

  @Test func `an unset variable without default is an error with its place`() throws {
    let problems = Problems()
    _ = try tree("a: 1\nb: '${NOPE}'").expanded(by: source, problems: problems)
    #expect(
      problems.all.map(\.description) == [
        "f.yml:2:4: error: the variable 'NOPE' is not set; set it, or give a default: ${NOPE:…}; "
          + "the literal is written $${NOPE} [config.unset-variable]"
      ])
  }

  @Test func `texts come from files and credentials, and are secret`() throws {
    let folder = try TemporaryFolder()
    try folder.write("password", "geheim\n")
    let source = VariableSource(environment: ["CREDENTIALS_DIRECTORY": folder.path])
    let problems = Problems()
    for text in ["${file:\(folder.path)/password}", "${credential:password}"] {
      let result = source.expand(text, at: SourcePosition(file: "f"), problems: problems)
      #expect(result.text == "geheim" && result.isSecret && !result.isUnresolved)
    }
    #expect(problems.all.isEmpty)
    _ = source.expand(
      "${credential:../password}", at: SourcePosition(file: "f", line: 1, column: 1), problems: problems)
    _ = source.expand(
      "${file:\(folder.path)/none}", at: SourcePosition(file: "f", line: 2, column: 1), problems: problems)
    #expect(
      problems.sorted.map(\.description) == [
        "f:1:1: error: '../password' is no name of a systemd credential [config.unset-variable]",
        "f:2:1: error: '\(folder.path)/none' cannot be read: No such file or directory [config.unreadable-file]",
      ])
  }

  @Test func `a pure run opens no file and blames nobody for it`() {
    let pure = VariableSource(environment: [:], opensFiles: false)
    let problems = Problems()
    let result = pure.expand("${file:/nowhere/at/all}", at: SourcePosition(file: "f"), problems: problems)
    #expect(result.isUnresolved && result.text == "***" && problems.all.isEmpty)
  }

  @Test func `defaults that nest without end are refused`() {
    let text = String(repeating: "${N:", count: 40) + "x" + String(repeating: "}", count: 40)
    let problems = Problems()
    _ = source.expand(text, at: SourcePosition(file: "f"), problems: problems)
    #expect(problems.all.map(\.code) == ["config.too-deep"])
  }
}
