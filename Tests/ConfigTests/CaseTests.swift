//  Folders below `Tests/Cases/config`: a broken (or sound) file and everything that is said about it. With
//  SLUICE_UPDATE_GOLDEN=1 the expectations are written anew, and the run fails so that nobody takes it for a test.

import Config
import Diagnostics
import Glibc
import Testing

struct CaseFolder: CustomTestStringConvertible, Sendable {
  var name: String
  var testDescription: String { name }
  var path: String { casesFolder + "/config/" + name }

  static let all: [CaseFolder] = {
    guard let directory = opendir(casesFolder + "/config") else { return [CaseFolder(name: "no folder of cases")] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
        String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted().map(CaseFolder.init)
  }()

  func lines(_ file: String) -> [String] {
    (contents(of: path + "/" + file) ?? "").split(separator: "\n").map(String.init)
  }
}

@Suite struct CaseTests {
  @Test(arguments: CaseFolder.all) func `case`(folder: CaseFolder) throws {
    let problems = Problems()
    var environment: [String: String] = [:]
    for line in folder.lines("environment") {
      let equals = try #require(line.firstIndex(of: "="))
      environment[String(line[..<equals])] = String(line[line.index(after: equals)...])
    }
    let variables = VariableSource(environment: environment)
    if let text = contents(of: folder.path + "/sluice.yml") {
      let root = YAML.parse(text, file: "sluice.yml", problems: problems)
      _ = Settings(file: root, variables: variables, assignments: folder.lines("set"), problems: problems)
    } else {
      let text = try #require(contents(of: folder.path + "/pipeline.yml"))
      let settings = Settings(file: nil, variables: variables, problems: problems)
      if let file = PipelineFile.parse(text, path: "pipeline.yml", variables: variables, problems: problems) {
        _ = settings.pipeline(file, problems: problems)
      }
    }
    let found = problems.sorted.map { $0.description + "\n" }.joined()
    let golden = folder.path + "/expected.problems"
    if getenv("SLUICE_UPDATE_GOLDEN") != nil {
      let file = try #require(fopen(golden, "w"))
      fputs(found, file)
      fclose(file)
      Issue.record("recorded; run again without SLUICE_UPDATE_GOLDEN")
    }
    #expect(contents(of: golden) == found)
  }

  @Test func `there are cases, and most of them are broken`() {
    let broken = CaseFolder.all.count { !$0.lines("expected.problems").isEmpty }
    #expect(CaseFolder.all.count >= 30 && broken >= 25)
  }
}
