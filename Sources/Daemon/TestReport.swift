//  Which tests `sluice test` runs, and how it prints the results: for people, as TAP, or as JUnit XML.

internal import Config
package import Diagnostics
internal import Events
internal import Glibc
internal import Pipeline
internal import PluginKit
internal import Records

/// Runs the tests of all pipelines and case folders that `options.pipelines` names.
package func runTests(_ options: LaunchOptions, problems: Problems) -> [TestOutcome] {
  let folders = options.pipelines.flatMap(caseFolders)
  var plain = options
  plain.pipelines = options.pipelines.filter { caseFolders($0).isEmpty }
  var outcomes: [TestOutcome] = []
  if !plain.pipelines.isEmpty || options.pipelines.isEmpty {
    let configuration = Configuration.load(plain, opensFiles: true, problems: problems)
    for pipeline in configuration.compile(resolves: true, problems: problems) {
      outcomes += PipelineTester(pipeline).run()
    }
  }
  for folder in folders { outcomes.append(runCase(folder, options, problems)) }
  return outcomes
}

/// The case folders at or below `path`: those that hold `input.jsonl`.
private func caseFolders(_ path: String) -> [String] {
  guard Configuration.isFolder(path) else { return [] }
  if access(path + "/input.jsonl", F_OK) == 0 { return [path] }
  guard let listing = opendir(path) else { return [] }
  defer { closedir(listing) }
  var names: [String] = []
  while let entry = readdir(listing) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if !name.hasPrefix(".") { names.append(name) }
  }
  return names.sorted().flatMap { caseFolders(path + "/" + $0) }
}

private func runCase(_ folder: String, _ options: LaunchOptions, _ problems: Problems) -> TestOutcome {
  let start = Instant.now
  var outcome = TestOutcome(name: folder, position: SourcePosition(file: folder + "/pipeline.yml"))
  var launch = options
  launch.pipelines = [folder + "/pipeline.yml"]
  let configuration = Configuration.load(launch, opensFiles: true, problems: problems)
  guard let pipeline = configuration.compile(resolves: true, parts: .filters, problems: problems).first else {
    outcome.failures = ["the pipeline does not compile"]
    return outcome
  }
  do {
    outcome.failures = try differences(
      pipeline, input: readFile(folder + "/input.jsonl"), expected: readFile(folder + "/expected.jsonl"))
  } catch {
    outcome.failures = ["\(error)"]
  }
  outcome.durationNs = (Instant.now - start).ns
  return outcome
}

private func differences(_ pipeline: CompiledPipeline, input: [UInt8], expected: [UInt8]) throws -> [String] {
  let batch = EventBatch()
  let maker = batch.add(arrivalNs: 0)
  let decoder = RecordDecoder(
    RecordDescription(input: "test", inputID: "test", codec: "json").descriptor)
  let nowNs = WallClock.ns
  var selection: [Int32] = []
  for line in input.split(separator: 10) {
    line.withUnsafeBytes { bytes in
      decoder.decode(bytes, context: nil, record: -1, arrivalNs: nowNs, into: batch) { selection.append($0.index) }
    }
  }
  let runner = StepRunner(pipeline.steps, handler: nil)
  runner.run(batch, &selection)
  selection += runner.flush(batch, nowNs: nowNs, isFinal: true)
  let wanted = expected.split(separator: 10)
  var result: [String] = []
  if wanted.count != selection.count { result.append("expected \(wanted.count) events, got \(selection.count)") }
  for (line, i) in zip(wanted, selection) {
    let value = try line.withUnsafeBytes { try maker.parseJSON($0) }
    // Arrival time and version count only where the case speaks of them.
    let actual = maker.makeValue(batch[i].fields.copied())
    for name in ["@timestamp", "@version"] where value[name] == nil { actual[name]?.remove(from: actual) }
    if let difference = difference(actual, value) { result.append(difference) }
  }
  return result
}

/// The results as text that ends in a line feed.
package func testReport(_ outcomes: [TestOutcome], format: String) -> String {
  switch format {
  case "tap": tap(outcomes)
  case "junit": junit(outcomes)
  default: pretty(outcomes)
  }
}

private func pretty(_ outcomes: [TestOutcome]) -> String {
  var text = ""
  for outcome in outcomes {
    text += "\(outcome.passed ? "ok  " : "FAIL") \(outcome.name)\n"
    for failure in outcome.failures { text += "     \(outcome.position): \(failure)\n" }
  }
  let failed = outcomes.filter { !$0.passed }.count
  return text + "\(outcomes.count - failed) passed, \(failed) failed\n"
}

private func tap(_ outcomes: [TestOutcome]) -> String {
  var text = "TAP version 13\n1..\(outcomes.count)\n"
  for (i, outcome) in outcomes.enumerated() {
    text += "\(outcome.passed ? "ok" : "not ok") \(i + 1) - \(outcome.name)\n"
    for failure in outcome.failures {
      text += failure.split(separator: "\n").map { "# \($0)\n" }.joined()
    }
  }
  return text
}

private func junit(_ outcomes: [TestOutcome]) -> String {
  let failed = outcomes.filter { !$0.passed }.count
  var text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
  text += "<testsuite name=\"sluice\" tests=\"\(outcomes.count)\" failures=\"\(failed)\">\n"
  for outcome in outcomes {
    let seconds = Double(outcome.durationNs) / 1e9
    text +=
      "  <testcase classname=\"\(escaped(outcome.position.file))\" name=\"\(escaped(outcome.name))\" time=\"\(seconds)\""
    if outcome.passed {
      text += "/>\n"
    } else {
      text += ">\n    <failure>\(escaped(outcome.failures.joined(separator: "\n")))</failure>\n  </testcase>\n"
    }
  }
  return text + "</testsuite>\n"
}

private func escaped(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "&": result += "&amp;"
    case "\"": result += "&quot;"
    case "\n", "\t": result.unicodeScalars.append(scalar)
    default: if scalar.value >= 32 { result.unicodeScalars.append(scalar) }
    }
  }
  return result
}
