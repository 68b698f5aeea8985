//  The health of the node: each pipeline's state, how busy its workers are, and what its outputs and dead letters say.

internal import Diagnostics
internal import Pipeline
internal import PluginKit
internal import Queue

enum Health: Int, Comparable {
  case green, unknown, yellow, red

  var text: String {
    switch self {
    case .green: "green"
    case .unknown: "unknown"
    case .yellow: "yellow"
    case .red: "red"
    }
  }
  var word: String {
    switch self {
    case .green: "healthy"
    case .unknown: "unknown"
    case .yellow: "concerning"
    case .red: "unhealthy"
    }
  }
  static func < (left: Health, right: Health) -> Bool { left.rawValue < right.rawValue }
}

/// One reason why a pipeline is not well, and what comes of it.
struct Diagnosis {
  var health: Health
  /// Behind `logstash:health:pipeline:`.
  var id: String
  var cause: String
  var action: String
  var impactID: String
  var severity: Int
  var impact: String
  /// Page and anchor of the manual; nil for what only Sluice has.
  var help: String?
}

struct PipelineHealth {
  let id: String
  let state: String
  var diagnoses: [Diagnosis] = []
  var utilization: [(name: String, value: Double)] = []

  var health: Health { diagnoses.map(\.health).max() ?? .green }

  init(_ pipeline: RunningPipeline) {
    id = pipeline.compiled.id
    state = pipeline.isDown ? "TERMINATED" : "RUNNING"
    if pipeline.isDown {
      diagnoses.append(
        Diagnosis(
          health: .red, id: "status:diagnosis:terminated",
          cause: "pipeline is not running, likely because it has encountered an error",
          action: "view logs to determine the cause of abnormal pipeline shutdown",
          impactID: "status:impact:not_processing", severity: 1,
          impact: "the pipeline is not currently processing", help: "health-report-pipeline-status.html#terminated"))
      return
    }
    let view = FlowView(pipeline.flow, flowValues(of: pipeline))
    utilization = workerUtilization(pipeline, view).filter { ["last_1_minute", "last_5_minutes"].contains($0.name) }
    judgeUtilization()
    judgeOutputs(pipeline)
    judgeLetters(pipeline)
    judgeQueue(pipeline)
  }

  private mutating func judgeUtilization() {
    func value(_ name: String) -> Double { utilization.first { $0.name == name }?.value ?? 0 }
    let (one, five) = (value("last_1_minute"), value("last_5_minutes"))
    func add(_ health: Health, _ name: String, _ cause: String, _ anchor: String, _ severity: Int, _ action: String) {
      diagnoses.append(
        Diagnosis(
          health: health, id: "flow:worker_utilization:diagnosis:\(name)", cause: "pipeline workers have been \(cause)",
          action: action, impactID: "flow:impact:blocked_processing", severity: severity,
          impact: "the pipeline is blocked", help: "health-report-pipeline-flow-worker-utilization.html#\(anchor)"))
    }
    let more = "address bottleneck or add resources"
    if five > 99.999 {
      add(.red, "5m-blocked", "completely blocked for at least five minutes", "blocked-5m", 1, more)
    } else if five >= 95 {
      let recovers = one <= 80
      add(
        .yellow, "5m-nearly-blocked",
        "nearly blocked for at least five minutes" + (recovers ? ", but they appear to be recovering" : ""),
        "nearly-blocked-5m", 1, recovers ? "continue to monitor" : more)
    } else if one > 99.999 {
      add(.yellow, "1m-blocked", "completely blocked for at least one minute", "blocked-1m", 2, more)
    } else if one >= 95 {
      add(.yellow, "1m-nearly-blocked", "nearly blocked for at least one minute", "nearly-blocked-1m", 2, more)
    }
  }

  private mutating func judgeOutputs(_ pipeline: RunningPipeline) {
    for step in pipeline.runtime.outputs {
      let figures = step.output.statistics
      for (name, text) in [("trouble", figures.trouble), ("concern", figures.concern)] {
        guard let text else { continue }
        diagnoses.append(
          Diagnosis(
            health: .yellow, id: "output:diagnosis:\(name)", cause: "output '\(step.id)': \(text)",
            action: "look at the place that the output writes to", impactID: "output:impact:delayed_delivery",
            severity: 2, impact: "events may wait in the queue"))
      }
    }
    guard let overflows = pipeline.overflows else { return }
    let spilling = overflows.queues.filter(\.isSpilling).map(\.step.id) + overflows.orphans.map(\.name)
    guard !spilling.isEmpty else { return }
    diagnoses.append(
      Diagnosis(
        health: .yellow, id: "overflow:diagnosis:spilled",
        cause: "events lie in overflow queues: \(spilling.joined(separator: ", "))",
        action: "look at the place that the output writes to; give an output that is gone its id and hosts back",
        impactID: "overflow:impact:delayed_delivery", severity: 2, impact: "events of an output are late"))
  }

  private mutating func judgeQueue(_ pipeline: RunningPipeline) {
    let figures = pipeline.runtime.queue.statistics
    guard figures.damagedPlaces > 0 else { return }
    diagnoses.append(
      Diagnosis(
        health: .red, id: "queue:diagnosis:damaged",
        cause: "the queue was damaged in \(figures.damagedPlaces) places; \(figures.damagedEvents) events are lost",
        action: "see the log for the files, check the disk, and restart once it is well",
        impactID: "queue:impact:lost_events",
        severity: 1, impact: "acknowledged events will not arrive"))
  }

  private mutating func judgeLetters(_ pipeline: RunningPipeline) {
    guard DeadLetterStore.isNearlyFull(pipeline.deadLetters.statistics) else { return }
    diagnoses.append(
      Diagnosis(
        health: .red, id: "dead_letters:diagnosis:nearly-full", cause: "the dead letters fill most of their space",
        action: "`sluice dlq list` shows them; mend and replay, or purge", impactID: "dead_letters:impact:lost_letters",
        severity: 1, impact: "dead letters may be dropped"))
  }

  func write(_ text: inout JSONText) {
    text.member("status", health.text)
    let (areas, count) = (Set(diagnoses.map(\.impactID)).count, diagnoses.count)
    text.member(
      "symptom",
      diagnoses.isEmpty
        ? "The pipeline is healthy"
        : "The pipeline is \(health.word); \(areas) \(areas == 1 ? "area is" : "areas are") impacted and "
          + "\(count) \(count == 1 ? "diagnosis is" : "diagnoses are") available")
    if !diagnoses.isEmpty {
      text.list("diagnosis", diagnoses) {
        $0.member("id", "logstash:health:pipeline:" + $1.id)
        $0.member("cause", $1.cause)
        $0.member("action", $1.action)
        if let help = $1.help { $0.member("help_url", "https://www.elastic.co/guide/en/logstash/master/" + help) }
      }
      var seen: Set<String> = []
      text.list("impacts", diagnoses.filter { seen.insert($0.impactID).inserted }) {
        $0.member("id", "logstash:health:pipeline:" + $1.impactID)
        $0.member("severity", $1.severity)
        $0.member("description", $1.impact)
        $0.list("impact_areas", texts: ["pipeline_execution"])
      }
    }
    text.object("details") { details in
      details.object("status") { $0.member("state", state) }
      if !utilization.isEmpty { details.object("flow") { $0.flow("worker_utilization", utilization) } }
    }
  }
}

struct HealthReport {
  let pipelines: [PipelineHealth]

  init(_ pipelines: [RunningPipeline]) { self.pipelines = pipelines.map { PipelineHealth($0) } }

  var health: Health { pipelines.map(\.health).max() ?? .green }

  /// ``1 indicator is concerning (`slow`) and 1 indicator is healthy (`main`)``
  private static func symptom(_ parts: [(id: String, health: Health)]) -> String {
    var phrases: [String] = []
    for health in [Health.red, .yellow, .unknown, .green] {
      let names = parts.filter { $0.health == health }.map { "`\($0.id)`" }
      if names.isEmpty { continue }
      phrases.append(
        "\(names.count) \(names.count == 1 ? "indicator is" : "indicators are") \(health.word) "
          + "(\(names.joined(separator: ", ")))")
    }
    guard let last = phrases.last else { return "no indicators" }
    if phrases.count < 3 { return phrases.joined(separator: " and ") }
    return phrases.dropLast().joined(separator: ", ") + ", and " + last
  }

  /// The members behind the node's own: status, symptom and indicators.
  func write(_ text: inout JSONText) {
    text.member("symptom", HealthReport.symptom([("pipelines", health)]))
    text.object("indicators") { outer in
      outer.object("pipelines") { inner in
        inner.member("status", health.text)
        inner.member("symptom", HealthReport.symptom(pipelines.map { ($0.id, $0.health) }))
        inner.object("indicators") { all in for one in pipelines { all.object(one.id) { one.write(&$0) } } }
      }
    }
  }
}
