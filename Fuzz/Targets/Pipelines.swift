//  Pipeline files as `sluice check` reads them: YAML, the shape of the file, every plugin's options, conditions and
//  expressions. Whatever stands in the file, it compiles or there is a problem, and every problem has a place in it.

import Config
import Daemon
import Diagnostics
import Pipeline
import PluginKit

private let services = Services(resolves: false, folder: "/nowhere", dataFolder: "/nowhere", configFolder: "/nowhere")

@Sendable func fuzzPipeline(_ bytes: UnsafeRawBufferPointer) {
  guard bytes.count <= 4096 else { return }
  let text = String(decoding: bytes, as: UTF8.self)
  let variables = VariableSource(environment: ["A": "1", "B": "a,b c", "EMPTY": ""], opensFiles: false)
  let problems = Problems()
  let file = PipelineFile.parse(text, path: "fuzz.yml", variables: variables, problems: problems)
  if file == nil, !problems.hasErrors { finding("no pipeline, and no problem either") }
  if let file {
    let settings = Settings(file: nil, variables: variables, problems: problems).pipeline(file, problems: problems)
    let environment = CompileEnvironment(registry: .all, services: services, variables: variables)
    let pipeline = CompiledPipeline.compile(file, settings: settings, environment: environment, problems: problems)
    if pipeline == nil, !problems.hasErrors { finding("it does not compile, and there is no problem") }
  }
  // The end of a text without a last line end counts as the beginning of the next line.
  let lineCount = 2 + text.unicodeScalars.count { ["\n", "\r", "\u{85}", "\u{2028}", "\u{2029}"].contains($0) }
  for problem in problems.sorted where problem.position.file == "fuzz.yml" && problem.position.line > lineCount {
    finding("a problem behind the file's end: \(problem)")
  }
}
