//  The monitoring API: read-only figures as JSON in Logstash's shapes, and as Prometheus text.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
internal import Net
internal import Pipeline
internal import PluginKit
internal import Queue

/// Serves the API of a running daemon on its own port, loopback by default.
final class MonitoringServer: @unchecked Sendable {  // unchecked: written by `start` and `stop` on the main thread
  private let service: MonitoringService
  private let ports: ClosedRange<Int>
  private let host: String
  private let queues = IOQueues(count: 1)
  private var listener: Listener?

  init(_ daemon: Daemon) throws {
    let settings = daemon.configuration.settings.daemon
    service = MonitoringService(daemon)
    ports = settings.apiPort.ports
    host = settings.apiHost ?? "127.0.0.1"
  }

  /// Binds the first free port of the range.
  func start() throws {
    var last: ListenError?
    for port in ports {
      do {
        let service = self.service
        let made = try Listener(ListenerConfiguration(host: host, port: port), queues: queues) {
          HTTPServerConnection($0, service: service)
        }
        made.start()
        listener = made
        Log.info("api.listening", "The monitoring API listens.", ["host": .text(host), "port": .number(made.port)])
        return
      } catch {
        last = error
      }
    }
    if let last { throw last }
  }

  func stop() { listener?.stop() }
}

private final class MonitoringService: HTTPService {
  private let pipelines: [RunningPipeline]
  private let nodeName: String
  private let credentials: BasicCredentials?
  private let startedAt = Instant.now

  init(_ daemon: Daemon) {
    pipelines = daemon.pipelines
    let settings = daemon.configuration.settings.daemon
    credentials =
      settings.apiAuthentication == .basic
      ? BasicCredentials(user: settings.apiUser ?? "", password: settings.apiPassword?.revealed ?? "") : nil
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, 255)
    let host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    nodeName = settings.nodeName ?? host
  }

  func begin(_ request: HTTPRequest) -> HTTPResponse? {
    if let credentials, !credentials.accepts(request.head.header("authorization")) {
      var response = HTTPResponse(
        401, type: "application/json", text: #"{"error":"these credentials are not accepted here"}"#)
      response.headers.append(("WWW-Authenticate", "Basic realm=\"sluice\""))
      return response
    }
    return request.head.isMethod("GET") || request.head.isMethod("HEAD")
      ? nil : HTTPResponse(405, type: "application/json", text: #"{"error":"only GET is answered here"}"#)
  }

  func handle(_ request: HTTPRequest) {
    let path = String(request.head.target.prefix { $0 != "?" })
    var out = ByteBuffer(capacity: 4096)
    switch path {
    case "/":
      header(&out)
      out.append("}")
    case "/metrics":
      metrics(&out)
      request.answer(
        HTTPResponse(200, headers: [("Content-Type", "text/plain; version=0.0.4")], body: out.array()))
      return
    case "/_node", "/_node/pipelines":
      header(&out)
      out.append(",\"pipelines\":{")
      each(&out) { out, pipeline in
        out.append("{\"workers\":")
        out.append(decimal: pipeline.runtime.settings.workers)
        out.append(",\"batch_size\":")
        out.append(decimal: pipeline.runtime.settings.batchSize)
        out.append(",\"batch_delay\":")
        out.append(decimal: Int(pipeline.runtime.settings.batchDelay.ns / 1_000_000))
        out.append("}")
      }
      out.append("}}")
    case "/_node/stats", "/_node/stats/pipelines", "/_node/stats/pipeline":
      header(&out)
      out.append(",\"jvm\":{\"uptime_in_millis\":")
      out.append(decimal: Int((Instant.now - startedAt).ns / 1_000_000))
      out.append("},\"process\":{\"cpu\":{\"total_in_millis\":")
      out.append(decimal: Int(processCPUTime() / 1_000_000))
      out.append("}},\"pipelines\":{")
      each(&out, statistics)
      out.append("}}")
    case "/_node/stats/pipeline/dead_letter_queue":
      header(&out)
      out.append(",\"pipelines\":{")
      each(&out) { out, pipeline in
        out.append("{\"dead_letter_queue\":")
        letters(&out, pipeline)
        out.append("}")
      }
      out.append("}}")
    default:
      let prefix = "/_node/stats/pipelines/"
      guard path.hasPrefix(prefix), pipelines.contains(where: { $0.compiled.id == path.dropFirst(prefix.count) }) else {
        request.answer(
          HTTPResponse(
            404, type: "application/json", text: #"{"path":"","status":404,"error":{"message":"Not Found"}}"#))
        return
      }
      header(&out)
      out.append(",\"pipelines\":{")
      each(&out, only: String(path.dropFirst(prefix.count)), statistics)
      out.append("}}")
    }
    request.answer(HTTPResponse(200, headers: [("Content-Type", "application/json")], body: out.array()))
  }

  /// `{"host":…` without the closing brace.
  private func header(_ out: inout ByteBuffer) {
    out.append("{\"host\":")
    out.append(quoted: nodeName)
    out.append(",\"name\":")
    out.append(quoted: nodeName)
    out.append(",\"version\":")
    out.append(quoted: Version.text)
    out.append(",\"status\":\"")
    let isFull = pipelines.contains { DeadLetterStore.isNearlyFull($0.deadLetters.statistics) }
    let troubled = pipelines.contains { $0.runtime.outputs.contains { $0.output.statistics.trouble != nil } }
    out.append(text: isFull ? "red" : troubled ? "yellow" : "green")
    out.append("\"")
  }

  private func each(
    _ out: inout ByteBuffer, only id: String? = nil, _ body: (inout ByteBuffer, RunningPipeline) -> Void
  ) {
    var isFirst = true
    for pipeline in pipelines where id == nil || pipeline.compiled.id == id {
      if !isFirst { out.append(44) }
      isFirst = false
      out.append(quoted: pipeline.compiled.id)
      out.append(58)
      body(&out, pipeline)
    }
  }

  private func number(_ out: inout ByteBuffer, _ name: String, _ value: Int, isFirst: Bool = false) {
    if !isFirst { out.append(44) }
    out.append(quoted: name)
    out.append(58)
    out.append(decimal: value)
  }

  private func statistics(_ out: inout ByteBuffer, _ pipeline: RunningPipeline) {
    let runtime = pipeline.runtime
    out.append("{\"events\":{")
    number(&out, "in", runtime.eventsIn.value, isFirst: true)
    number(&out, "filtered", runtime.eventsFiltered.value)
    number(&out, "out", runtime.outputs.reduce(0) { $0 + $1.output.statistics.eventsOut })
    number(&out, "duration_in_millis", runtime.workerBusyNs.value / 1_000_000)
    out.append("},\"plugins\":{\"inputs\":[")
    for (i, input) in pipeline.compiled.inputs.enumerated() {
      let figures = input.input.statistics
      plugin(&out, i, input.id, input.kind)
      out.append(",\"events\":{")
      number(&out, "out", figures.events, isFirst: true)
      out.append("}")
      number(&out, "current_connections", figures.connections)
      number(&out, "peak_connections", figures.peakConnections)
      out.append("}")
    }
    out.append("],\"filters\":[")
    for (i, step) in filters(runtime.steps).enumerated() {
      plugin(&out, i, step.id, step.kind)
      out.append(",\"events\":{")
      number(&out, "in", step.statistics.eventsIn.value, isFirst: true)
      number(&out, "out", step.statistics.eventsOut.value)
      number(&out, "duration_in_millis", step.statistics.durationNs.value / 1_000_000)
      out.append("}}")
    }
    out.append("],\"outputs\":[")
    for (i, step) in runtime.outputs.enumerated() {
      let figures = step.output.statistics
      plugin(&out, i, step.id, step.kind)
      out.append(",\"events\":{")
      number(&out, "in", step.statistics.eventsIn.value, isFirst: true)
      number(&out, "out", figures.eventsOut)
      number(&out, "duration_in_millis", step.statistics.durationNs.value / 1_000_000)
      out.append("}")
      number(&out, "duplicates", figures.duplicates)
      number(&out, "dead_letters", figures.deadLetters)
      number(&out, "retries", figures.retries)
      out.append("}")
    }
    let queue = runtime.queue.statistics
    out.append("]},\"queue\":{\"type\":")
    out.append(quoted: queue.isPersisted ? "persisted" : "memory")
    number(&out, "events_count", queue.events)
    number(&out, "queue_size_in_bytes", queue.bytes)
    number(&out, "max_queue_size_in_bytes", queue.maxBytes)
    out.append("},\"dead_letter_queue\":")
    letters(&out, pipeline)
    out.append("}")
  }

  private func letters(_ out: inout ByteBuffer, _ pipeline: RunningPipeline) {
    let store = pipeline.deadLetters
    let figures = store.statistics
    out.append("{")
    number(&out, "queue_size_in_bytes", figures.bytes, isFirst: true)
    number(&out, "max_queue_size_in_bytes", figures.maxBytes)
    out.append(",\"storage_policy\":")
    out.append(quoted: store.settings.policy.rawValue)
    number(&out, "dropped_events", figures.droppedOlder + figures.droppedNewer)
    number(&out, "expired_events", figures.expired)
    out.append(",\"last_error\":")
    out.append(quoted: figures.lastError.isEmpty ? "no errors" : figures.lastError)
    number(&out, "events_count", figures.letters)
    number(&out, "written_events", figures.written)
    number(&out, "removed_events", figures.removed)
    number(&out, "damaged_segments", figures.damaged)
    out.append(",\"status\":\"")
    out.append(text: DeadLetterStore.isNearlyFull(figures) ? "red" : "green")
    out.append("\"}")
  }

  private func plugin(_ out: inout ByteBuffer, _ i: Int, _ id: String, _ kind: String) {
    if i > 0 { out.append(44) }
    out.append("{\"id\":")
    out.append(quoted: id)
    out.append(",\"name\":")
    out.append(quoted: kind)
  }

  private func filters(_ steps: [Step]) -> [FilterStep] {
    steps.flatMap { step -> [FilterStep] in
      switch step {
      case .filter(let filter): [filter]
      case .branch(let branch): filters(branch.then) + filters(branch.otherwise)
      }
    }
  }

  private func metrics(_ out: inout ByteBuffer) {
    func line(_ name: StaticString, _ pipeline: RunningPipeline, _ value: Int) {
      out.append(name)
      out.append(text: "{pipeline=\"\(pipeline.compiled.id)\"} ")
      out.append(decimal: value)
      out.append(10)
    }
    for (name, kind) in [
      ("events_in_total", "counter"), ("events_out_total", "counter"), ("queue_events", "gauge"),
      ("queue_bytes", "gauge"), ("dead_letters", "gauge"), ("dead_letters_bytes", "gauge"),
      ("dead_letters_total", "counter"), ("dead_letters_dropped_total", "counter"),
    ] { out.append(text: "# TYPE sluice_\(name) \(kind)\n") }
    for pipeline in pipelines {
      let queue = pipeline.runtime.queue.statistics
      line("sluice_events_in_total", pipeline, pipeline.runtime.eventsIn.value)
      line(
        "sluice_events_out_total", pipeline,
        pipeline.runtime.outputs.reduce(0) { $0 + $1.output.statistics.eventsOut })
      line("sluice_queue_events", pipeline, queue.events)
      line("sluice_queue_bytes", pipeline, queue.bytes)
      let letters = pipeline.deadLetters.statistics
      line("sluice_dead_letters", pipeline, letters.letters)
      line("sluice_dead_letters_bytes", pipeline, letters.bytes)
      line("sluice_dead_letters_total", pipeline, letters.written)
      line("sluice_dead_letters_dropped_total", pipeline, letters.droppedOlder + letters.droppedNewer + letters.expired)
    }
  }
}
