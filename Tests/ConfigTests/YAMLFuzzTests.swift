//  Mutated files never trap, never hang and never grow without bound, whatever they hold. The seed is in the name of a
//  failing case.

import Config
import Diagnostics
import TestSupport
import Testing

@Suite struct YAMLFuzzTests {
  static let sources: [[UInt8]] = CaseFolder.all.compactMap {
    (contents(of: $0.path + "/pipeline.yml") ?? contents(of: $0.path + "/sluice.yml")).map { Array($0.utf8) }
  }
  static let pieces: [[UInt8]] =
    [
      "&a ", "*a", "<<: ", "- ", ": ", "? ", "{", "}", "[", "]", "'", "\"", "\\", "\n", "  ", "\t", "#", "|", ">", "!",
      "!!str ",
      "%", "@", "---\n", "...\n", "${A}", "${A:${B:", "}}", "$${A}", "\u{FEFF}", "é", "\u{2028}", "if: ", "then: ",
      "else: ",
      "id: ", "when: ", "pipeline: ", "tests: ", ",", "~", "-1", "99999999999999999999", "1e999", "9999pb",
    ].map { Array($0.utf8) } + [[0xFF], [0], [0xC3]]

  @Test(arguments: 0..<8) func `no mutation traps`(seed: Int) {
    #expect(Self.sources.count > 20)
    var random = SeededRandom(UInt64(seed))
    var trees = 0
    for _ in 0..<250 {
      var bytes = Self.sources.randomElement(using: &random) ?? []
      for _ in 0..<Int.random(in: 1...6, using: &random) { mutate(&bytes, &random) }
      let problems = Problems()
      let variables = VariableSource(environment: ["A": "a, b", "B": ""], opensFiles: false)
      let text = String(decoding: bytes, as: UTF8.self)
      _ = YAML.parse(bytes, file: "f", problems: problems)
      let settings = Settings(
        file: YAML.parse(text, file: "f", problems: problems), variables: variables, problems: problems)
      if let file = PipelineFile.parse(text, path: "f", variables: variables, problems: problems) {
        trees += 1
        _ = settings.pipeline(file, problems: problems)
        for step in file.inputs + file.filterSteps + file.outputs {
          _ = Everything.read(step.options, of: step.owner, problems: problems)
        }
      }
      // Every finding has its words, its code, and a place within the file.
      for problem in problems.sorted {
        #expect(!problem.text.isEmpty && problem.code.hasPrefix("config.") && !problem.text.contains("\n"))
        #expect(problem.position.line <= bytes.count + 2)
      }
    }
    #expect(trees > 10)
  }

  private func mutate(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
    let place = Int.random(in: 0...bytes.count, using: &random)
    switch Int.random(in: 0..<5, using: &random) {
    case 0, 1: bytes.insert(contentsOf: Self.pieces.randomElement(using: &random) ?? [], at: place)
    case 2: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 0...12, using: &random)))
    case 3:
      let other = Self.sources.randomElement(using: &random) ?? []
      let start = Int.random(in: 0...other.count, using: &random)
      bytes.insert(contentsOf: other[start..<min(other.count, start + 40)], at: place)
    default: if place < bytes.count { bytes[place] = UInt8.random(in: 0...127, using: &random) }
    }
  }
}
