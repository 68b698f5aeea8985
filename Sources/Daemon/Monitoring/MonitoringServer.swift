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

  init(_ daemon: Daemon) {
    let settings = daemon.configuration.settings.daemon
    ports = settings.apiPort.ports
    host = settings.apiHost ?? "127.0.0.1"
    service = MonitoringService(daemon, host: host)
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
        service.port.set(made.port)
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
  private let hostName: String
  private let host: String
  /// Bound before the first request.
  let port = Gauge()
  private let nodeID: String
  private let processID = makeUUID()
  private let credentials: BasicCredentials?
  private let defaults: PipelineSettings
  private let workers: Int
  private let startedAt = Instant.now

  init(_ daemon: Daemon, host: String) {
    pipelines = daemon.pipelines
    self.host = host
    let settings = daemon.configuration.settings.daemon
    defaults = settings.pipeline
    workers = settings.pipeline.workers ?? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    credentials =
      settings.apiAuthentication == .basic
      ? BasicCredentials(user: settings.apiUser ?? "", password: settings.apiPassword?.revealed ?? "") : nil
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, 255)
    hostName = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    nodeName = settings.nodeName ?? hostName
    nodeID = nodeIdentity(in: daemon.configuration.dataFolder)
    _ = ProcessFigures.start
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
    if path == "/metrics" {
      request.answer(
        HTTPResponse(
          200, headers: [("Content-Type", "text/plain; version=0.0.4")], body: Array(prometheusText(pipelines).utf8)))
      return
    }
    guard let body = answer(path) else {
      let text = JSONText.object {
        $0.member("path", path)
        $0.member("status", 404)
        $0.object("error") { $0.member("message", "Not Found") }
      }
      request.answer(HTTPResponse(404, headers: [("Content-Type", "application/json")], body: text))
      return
    }
    request.answer(HTTPResponse(200, headers: [("Content-Type", "application/json")], body: body))
  }

  /// The answer at a path; nil where there is nothing.
  private func answer(_ path: String) -> [UInt8]? {
    let parts = path.split(separator: "/").map(String.init)
    switch parts.first {
    case nil: return answer { $0.member("build_snapshot", false) }
    case "_node" where parts.count > 1 && parts[1] == "stats": return statistics(Array(parts.dropFirst(2)))
    case "_node": return node(Array(parts.dropFirst()))
    default: return nil
    }
  }

  /// `/_node`, its sections, and one pipeline's settings.
  private func node(_ parts: [String]) -> [UInt8]? {
    let all: [(name: String, write: (inout JSONText) -> Void)] = [
      ("pipelines", { [self] in pipelineSettings(&$0, pipelines) }), ("os", systemSection), ("jvm", runtimeSection),
    ]
    if parts.first == "pipelines", parts.count == 2 {
      let named = pipelines.filter { $0.compiled.id == parts[1] }
      return named.isEmpty ? nil : answer { pipelineSettings(&$0, named) }
    }
    return sections(all, parts)
  }

  /// `/_node/stats`, its sections, and one pipeline's figures.
  private func statistics(_ parts: [String]) -> [UInt8]? {
    switch parts {
    case ["pipeline"]: return statistics(["pipelines"])
    case ["pipeline", "dead_letter_queue"]:
      return answer {
        $0.object("pipelines") { all in
          for pipeline in pipelines {
            all.object(pipeline.compiled.id) { deadLetterSection(&$0, pipeline) }
          }
        }
      }
    case let parts where parts.count == 2 && parts[0] == "pipelines":
      let named = pipelines.filter { $0.compiled.id == parts[1] }
      return named.isEmpty ? nil : answer { pipelineStatistics(&$0, named) }
    default: break
    }
    let all: [(name: String, write: (inout JSONText) -> Void)] = [
      ("jvm", { [self] in runtimeStatistics(&$0, startedAt) }), ("process", processStatistics),
      ("events", { [self] in eventStatistics(&$0, pipelines) }),
      ("pipelines", { [self] in pipelineStatistics(&$0, pipelines) }),
      ("reloads", reloadStatistics), ("os", { $0.object("os") { _ in } }),
      ("queue", { [self] in queueStatistics(&$0, pipelines) }),
    ]
    return sections(all, parts)
  }

  /// All sections, or those that the path names, separated by commas; nil where it names none that is known.
  private func sections(_ all: [(name: String, write: (inout JSONText) -> Void)], _ parts: [String]) -> [UInt8]? {
    guard parts.count < 2 else { return nil }
    let wanted = parts.first.map { Set($0.split(separator: ",").map(String.init)) }
    let chosen = wanted.map { wanted in all.filter { wanted.contains($0.name) } } ?? all
    return chosen.isEmpty ? nil : answer { text in chosen.forEach { $0.write(&text) } }
  }

  /// One object: the node's own members, then what `body` writes.
  private func answer(_ body: (inout JSONText) -> Void) -> [UInt8] {
    JSONText.object {
      $0.member("host", hostName)
      $0.member("version", Version.text)
      $0.member("http_address", "\(host):\(port.value)")
      $0.member("id", nodeID)
      $0.member("name", nodeName)
      $0.member("ephemeral_id", processID)
      $0.member("snapshot", false)
      let isTroubled = pipelines.contains { pipeline in
        pipeline.runtime.outputs.contains {
          let figures = $0.output.statistics
          return figures.trouble != nil || figures.concern != nil
        } || pipeline.overflows.map { $0.queues.contains(where: \.isSpilling) || !$0.orphans.isEmpty } ?? false
      }
      let isFull = pipelines.contains { DeadLetterStore.isNearlyFull($0.deadLetters.statistics) }
      $0.member("status", isFull ? "red" : isTroubled ? "yellow" : "green")
      $0.object("pipeline") {
        $0.member("workers", workers)
        $0.member("batch_size", defaults.batchSize)
        $0.member("batch_delay", milliseconds(defaults.batchDelay))
      }
      body(&$0)
    }
  }
}
