//  Settings of the daemon and of pipelines: which layer wins, and that every name can be given everywhere.

import Config
import Diagnostics
import Testing

/// Settings that must be sound.
func settings(
  file: String? = nil, environment: [String: String] = [:], set: [String] = [], systemd: Bool = false
) -> Settings {
  let problems = Problems()
  let root = file.flatMap { YAML.parse($0, file: "sluice.yml", problems: problems) }
  let result = Settings(
    file: root, variables: VariableSource(environment: environment), assignments: set, systemd: systemd,
    problems: problems)
  #expect(problems.all.isEmpty, "\(problems.all)")
  return result
}

@Suite struct SettingsTests {
  @Test func `the defaults are those of the design`() {
    let daemon = settings().daemon
    #expect(daemon.pathData == "./data" && daemon.apiPort == 9600 && daemon.shutdownTimeout == .seconds(25))
    #expect(daemon.pipeline.queueType == .persisted && daemon.pipeline.deadLettersPolicy == .dropOlder)
    #expect(daemon.pipeline.batchSize == 125 && daemon.pipeline.batchDelay == .milliseconds(50))
    #expect(daemon.pipeline.queueMinFree == .mib(256) && daemon.memoryInFlight == .mib(64))
    #expect(settings(systemd: true).daemon.pathData == "/var/lib/sluice")
    #expect(settings(file: "path.data: /x", systemd: true).daemon.pathData == "/x")
  }

  @Test func `set beats the pipeline, the environment, the file and the default`() throws {
    let problems = Problems()
    let file = "pipeline: { workers: 2, batch: { size: 20, delay: 2 } }\nqueue: { max_events: 2, drain: true }"
    let all = settings(
      file: file,
      environment: [
        "SLUICE_PIPELINE_BATCH_SIZE": "30", "SLUICE_PIPELINE_BATCH_DELAY": "3", "SLUICE_QUEUE_MAX_EVENTS": "3",
      ],
      set: ["queue.max_events=4", "queue.max_events=5"])
    let own = try pipeline("pipeline: { batch.delay: 40ms, queue: { max_events: 6 } }")
    let result = all.pipeline(own, problems: problems)
    #expect(problems.all.isEmpty)
    #expect(result.workers == 2 && result.queueDrain)  // the file
    #expect(result.batchSize == 30)  // the environment
    #expect(result.batchDelay == .milliseconds(40))  // the pipeline
    #expect(result.queueMaxEvents == 5)  // --set, the last one
    #expect(all.daemon.pipeline.batchDelay == .milliseconds(3))
  }

  @Test func `empty counts as not given`() {
    let all = settings(
      file: "queue.max_events: '${NONE:}'\nlog.level: warn", environment: ["SLUICE_LOG_LEVEL": ""], set: ["log.format="]
    )
    #expect(all.daemon.pipeline.queueMaxEvents == 0 && all.daemon.logLevel == .warn && all.daemon.logFormat == .plain)
  }

  @Test(arguments: [
    ("sluice.yml", "api.auth.basic: { username: a, password: '' }", "sluice.yml:2:42", "password"),
    ("sluice.yml", "api.auth.basic: { username: a, password: '${NONE:}' }", "sluice.yml:2:42", "password"),
    ("sluice.yml", "api.auth.basic: { username: \"\", password: p }", "sluice.yml:2:29", "username"),
    ("SLUICE_API_AUTH_BASIC_PASSWORD", "api.auth.basic.username: a", "SLUICE_API_AUTH_BASIC_PASSWORD", "password"),
  ]) func `an empty user or password of the API is refused at its place`(
    source: String, line: String, place: String, part: String
  ) {
    let problems = Problems()
    let root = YAML.parse("api.auth.type: basic\n" + line, file: "sluice.yml", problems: problems)
    _ = Settings(
      file: root, variables: VariableSource(environment: source == "sluice.yml" ? [:] : [source: ""]),
      problems: problems)
    #expect(
      problems.sorted.map(\.description) == [
        "\(place): error: 'api.auth.basic.\(part)' is empty, which is no protection; give it a value, or set "
          + "'api.auth.type: none' [config.bad-value]"
      ])
  }

  @Test(arguments: ["api.auth.basic.password: '${file:/none/secret}'", "api.auth.basic.password: '${UNSET}'"])
  func `of a password that cannot be had only the cause is told`(line: String) {
    let problems = Problems()
    let text = "api.auth.type: basic\napi.auth.basic.username: a\n" + line
    let root = YAML.parse(text, file: "sluice.yml", problems: problems)
    _ = Settings(file: root, variables: VariableSource(environment: [:]), problems: problems)
    #expect(problems.all.count == 1 && problems.all[0].position.line == 3, "\(problems.all)")
    // A run that opens no files cannot judge it.
    let silent = Problems()
    let unopened = VariableSource(environment: ["UNSET": "x"], opensFiles: false)
    _ = Settings(file: YAML.parse(text, file: "sluice.yml", problems: silent), variables: unopened, problems: silent)
    #expect(silent.all.isEmpty, "\(silent.all)")
  }

  @Test func `a misspelt name of the environment has a nearest setting, a foreign one has none`() {
    #expect(Settings.nearestVariable(to: "SLUICE_QUEUE_TYP") == "SLUICE_QUEUE_TYPE")
    #expect(Settings.nearestVariable(to: "SLUICE_PIPELINE_BATCHSIZE") == "SLUICE_PIPELINE_BATCH_SIZE")
    #expect(Settings.nearestVariable(to: "SLUICE_SERVICE_HOST") == nil)
  }

  @Test func `names of the environment that are no setting are kept for one line`() {
    let all = settings(environment: ["SLUICE_PORT_9600_TCP": "tcp://10.0.0.1", "SLUICE_SERVICE_HOST": "x", "HOME": "/"])
    #expect(all.unknownEnvironment == ["SLUICE_PORT_9600_TCP", "SLUICE_SERVICE_HOST"])
  }

  @Test(arguments: DaemonSettings.descriptions.map(\.name))
  func `every setting can be given flat, nested, in the environment and by set`(name: String) throws {
    let option = try #require(DaemonSettings.descriptions.first { $0.name == name })
    let value = sample(option)
    func shown(_ all: Settings) -> String { "\(all.daemon)" }
    let flat = settings(file: "\(name): \(value)\n" + partners(name))
    var nested = ""
    for (depth, part) in name.split(separator: ".").enumerated() {
      nested += (depth == 0 ? "" : "\n") + String(repeating: " ", count: depth) + part + ":"
    }
    nested += " \(value)\n" + partners(name)
    let variable = "SLUICE_" + name.uppercased().split(separator: ".").joined(separator: "_")
    #expect(shown(flat) == shown(settings(file: nested)))
    #expect(shown(flat) == shown(settings(file: partners(name), environment: [variable: value])))
    #expect(shown(flat) == shown(settings(file: partners(name), set: ["\(name)=\(value)"])))
    #expect(shown(flat) != shown(settings(file: partners(name))) || option.schema == .secret)
    #expect(option.sentence.hasSuffix("."))
  }

  /// A value that is not the default.
  private func sample(_ option: OptionDescription) -> String {
    if let other = option.allowedValues.first(where: { $0 != option.defaultText && $0 != "true" }) { return other }
    switch option.typeName {
    case "true or false": return option.defaultText == "true" ? "false" : "true"
    case "duration": return "7s"
    case "byte count": return "97mb"
    case "port or range of ports": return "9700-9800"
    case "whole number": return "7"
    default: return "/some/text"
    }
  }

  /// What some settings need beside them.
  private func partners(_ name: String) -> String {
    switch name {
    case "api.auth.type": "api.auth.basic: { username: u, password: p }\n"
    case "api.ssl.enabled": "api.ssl.keystore: { path: /k, password: p }\n"
    default: ""
    }
  }
}
