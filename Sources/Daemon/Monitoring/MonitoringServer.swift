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

/// The TLS of the API; nil without it.
func apiTLS(_ settings: DaemonSettings) throws -> TLSServerContext? {
  guard settings.apiTLS, let keystore = settings.apiKeystore, let password = settings.apiKeystorePassword else {
    return nil
  }
  var tls = TLSConfiguration(keystore: Configuration.absolute(keystore.text), password: password.revealed)
  let versions = settings.apiProtocols.compactMap { TLSVersion(name: $0.rawValue) }
  tls.minVersion = versions.min() ?? .v1_2
  tls.maxVersion = versions.max() ?? .v1_3
  return try TLSServerContext(tls)
}

/// Serves the API of a running daemon on its own port, loopback by default.
final class MonitoringServer: @unchecked Sendable {  // unchecked: written by `start` and `stop` on the main thread
  private let service: MonitoringService
  private let ports: ClosedRange<Int>
  private let host: String
  private let tls: TLSServerContext?
  private let queues = IOQueues(count: 1)
  private var listener: Listener?

  init(_ daemon: Daemon) throws {
    let settings = daemon.configuration.settings.daemon
    ports = settings.apiPort.ports
    tls = try apiTLS(settings)
    host = MonitoringServer.host(settings)
    service = MonitoringService(daemon, host: host)
  }

  /// The address on which the API listens with these settings.
  static func host(_ settings: DaemonSettings) -> String {
    let isGuarded = settings.apiTLS && settings.apiAuthentication == .basic
    return settings.apiHost ?? (isGuarded ? "0.0.0.0" : "127.0.0.1")
  }

  /// Binds the first free port of the range.
  func start() throws {
    var last: ListenError?
    for port in ports {
      do {
        let service = self.service
        var configuration = ListenerConfiguration(host: host, port: port)
        configuration.tls = tls
        let made = try Listener(configuration, queues: queues) { HTTPServerConnection($0, service: service) }
        service.port.set(made.port)
        made.start()
        listener = made
        Log.info("api.listening", "The monitoring API listens.", ["host": .text(host), "port": .number(made.port)])
        sample()
        return
      } catch {
        last = error
      }
    }
    if let last { throw last }
  }

  /// Notes the counters that rates are worked out from, every five seconds as long as the API is there.
  private func sample() {
    queues.all[0].async(after: .seconds(5)) { [weak self] in
      self?.service.note()
      self?.sample()
    }
  }

  func stop() { listener?.stop() }
}

/// A question, cut up.
struct Question {
  let path: String
  /// Parts of the path, without empty ones.
  let parts: [String]
  let endsWithSlash: Bool
  private let parameters: [(name: String, value: String?)]

  init(_ head: HTTPHead) {
    path = head.path
    parts = path.split(separator: "/").map(String.init)
    endsWithSlash = path.count > 1 && path.hasSuffix("/")
    parameters = (head.query ?? "").split(separator: "&").map { pair in
      let words = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return (String(words[0]), words.count > 1 ? unescaped(words[1]) : nil)
    }
  }

  func has(_ name: String) -> Bool { parameters.contains { $0.name == name } }
  func value(_ name: String) -> String? { parameters.first { $0.name == name }?.value }

  /// A boolean word of a parameter; blank and missing are false.
  func flag(_ name: String) throws(BadParameter) -> Bool {
    guard let text = value(name), !text.isEmpty else { return false }
    switch text.lowercased() {
    case "true", "t", "yes", "y", "1": return true
    case "false", "f", "no", "n", "0": return false
    default: throw BadParameter(text: "invalid value for Boolean: \"\(text)\"")
    }
  }
}

struct BadParameter: Error { let text: String }

/// A text of a query without its percent signs; as it is where they are no escapes.
private func unescaped(_ text: Substring) -> String {
  let bytes = Array(text.utf8)
  var out: [UInt8] = []
  var i = 0
  while i < bytes.count {
    if bytes[i] == UInt8(ascii: "%"), i + 2 < bytes.count,
      let value = UInt8(String(decoding: bytes[i + 1...i + 2], as: UTF8.self), radix: 16)
    {
      out.append(value)
      i += 3
    } else {
      out.append(bytes[i] == UInt8(ascii: "+") ? 32 : bytes[i])
      i += 1
    }
  }
  return String(decoding: out, as: UTF8.self)
}

private final class MonitoringService: HTTPService {
  private let state: DaemonState
  private let nodeName: String
  private let hostName: String
  private let host: String
  /// Bound before the first request.
  let port = Gauge()
  private let nodeID: String
  private let processID = makeUUID()
  private let credentials: BasicCredentials?
  private let defaults: PipelineSettings
  private let shown: Shown
  private let workers: Int
  /// The node's counters, whatever is reloaded.
  private let flow = FlowRecorder()
  private let letters: DeadLetterAPI

  init(_ daemon: Daemon, host: String) {
    state = daemon.state
    self.host = host
    let settings = daemon.configuration.settings.daemon
    defaults = settings.pipeline
    shown = Shown(reloadsAutomatically: settings.reloadAutomatic, reloadInterval: settings.reloadInterval)
    workers = settings.pipeline.workers ?? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    credentials =
      settings.apiAuthentication == .basic
      ? BasicCredentials(user: settings.apiUser ?? "", password: settings.apiPassword?.revealed ?? "") : nil
    letters = DeadLetterAPI(daemon.state, isGuarded: credentials != nil)
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, 255)
    hostName = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    nodeName = settings.nodeName ?? hostName
    nodeID = nodeIdentity(in: daemon.configuration.dataFolder)
    _ = ProcessFigures.start
    flow.add(flowValues(of: state.eventTotals))
  }

  /// Notes the counters, on the API's own thread.
  func note() {
    flow.add(flowValues(of: state.eventTotals))
    for pipeline in state.pipelines where !pipeline.isDown { pipeline.flow.add(flowValues(of: pipeline)) }
    ProcessPeaks.note(ProcessFigures())
  }

  // MARK: Requests

  func begin(_ request: HTTPRequest) -> HTTPResponse? {
    if let credentials, !credentials.accepts(request.head.header("authorization")) {
      var response = HTTPResponse(401, type: "text/plain", text: "these credentials are not accepted here\n")
      response.headers.append(("WWW-Authenticate", "Basic realm=\"logstash-api\""))
      return response
    }
    if DeadLetterAPI.isMeant(request.head.path) { return letters.begin(request) }
    if request.head.isMethod("GET") || request.head.isMethod("HEAD") { return nil }
    return reply(404, notFound(request.head.path), isPretty: false)
  }

  func grow(_ request: HTTPRequest, by count: Int) -> HTTPResponse? { letters.grow(request, by: count) }

  func handle(_ request: HTTPRequest) {
    let question = Question(request.head)
    if DeadLetterAPI.isMeant(question.path) { return letters.handle(request, question) }
    if question.path == "/metrics" {
      return request.answer(
        HTTPResponse(
          200, headers: [("Content-Type", "text/plain; version=0.0.4"), ("X-Content-Type-Options", "nosniff")],
          body: Array(prometheusText(state.pipelines).utf8)))
    }
    if question.parts.isEmpty, question.has("wait_for_status") || question.has("timeout") {
      return waitForStatus(question, request)
    }
    if question.parts == ["_node", "hot_threads"] || question.parts == ["_stats", "jvm", "hot_threads"] {
      return request.answer(hotThreads(question))
    }
    let isPretty = question.has("pretty")
    do throws(BadParameter) {
      guard let body = try answer(question) else {
        return request.answer(reply(404, notFound(question.path), isPretty: isPretty))
      }
      request.answer(reply(200, body, isPretty: isPretty))
    } catch {
      request.answer(fault(error, request))
    }
  }

  private func reply(_ status: Int, _ body: [UInt8], isPretty: Bool) -> HTTPResponse {
    HTTPResponse(
      status, headers: [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")],
      body: isPretty ? indented(body) : body)
  }

  private func notFound(_ path: String) -> [UInt8] { refusal(404, path, "Not Found") }

  private func refusal(_ status: Int, _ path: String, _ text: String) -> [UInt8] {
    JSONText.object {
      $0.member("path", path)
      $0.member("status", status)
      $0.object("error") { $0.member("message", text) }
    }
  }

  /// What Logstash answers to a parameter that it cannot read.
  private func fault(_ problem: BadParameter, _ request: HTTPRequest) -> HTTPResponse {
    let head = request.head
    let body = JSONText.object {
      $0.member("status", 500)
      $0.member("request_method", head.method)
      $0.member("path_info", head.path)
      $0.member("query_string", head.query ?? "")
      $0.member("http_version", "HTTP/1.\(head.minorVersion)")
      $0.member("http_accept", head.header("accept") ?? "")
      $0.member("error", "Unexpected Internal Error")
      $0.member("class", "ArgumentError")
      $0.member("message", problem.text)
      $0.list("backtrace", texts: [])
    }
    return HTTPResponse(500, headers: [("Content-Type", "application/json")], body: body)
  }

  // MARK: Answers

  /// The answer to a question; nil where there is nothing at its path.
  private func answer(_ question: Question) throws(BadParameter) -> [UInt8]? {
    let parts = question.parts
    switch parts.first {
    case nil: return root()
    case "_health_report" where parts.count == 1: return healthReport()
    case "_stats": return legacyStatistics(Array(parts.dropFirst()))
    case "_node" where parts.count > 1 && parts[1] == "stats":
      var show = shown
      show.vertices = try question.flag("vertices")
      return statistics(Array(parts.dropFirst(2)), show, endsWithSlash: question.endsWithSlash)
    case "_node":
      var show = shown
      show.graph = try question.flag("graph")
      return node(Array(parts.dropFirst()), show, endsWithSlash: question.endsWithSlash)
    default: return nil
    }
  }

  private func root() -> [UInt8] {
    answer {
      $0.member("build_date", isoText(Version.builtAt * 1_000_000_000))
      $0.member("build_sha", "sluice-" + Version.text)
      $0.member("build_snapshot", false)
    }
  }

  /// `/_node`, its sections, and one pipeline's settings.
  private func node(_ parts: [String], _ show: Shown, endsWithSlash: Bool) -> [UInt8]? {
    let pipelines = state.pipelines.filter { !$0.isDown }
    if parts.first == "pipelines" {
      if endsWithSlash { return nil }
      if parts.count == 2 {
        let named = pipelines.filter { $0.compiled.id == parts[1] }
        return named.isEmpty ? nil : answer { pipelineSettings(&$0, named, show) }
      }
    }
    if parts == ["plugins"] { return pluginList() }
    return sections(
      [
        ("pipelines", { pipelineSettings(&$0, pipelines, show) }), ("os", systemSection),
        ("jvm", { [self] in runtimeSection(&$0, startedAtNs: state.startedAtNs) }),
      ], parts)
  }

  private func pluginList() -> [UInt8] {
    let kinds: [PluginDescription.Kind] = [.codec, .filter, .input, .output]
    let names = kinds.flatMap { kind in
      Registry.all.descriptions(kind).map { "logstash-\(kind.rawValue)-\($0.manual.name)" }
    }
    return answer {
      $0.member("total", names.count)
      $0.list("plugins", names.sorted()) {
        $0.member("name", $1)
        $0.member("version", Version.text)
      }
    }
  }

  /// `/_node/stats`, its sections, and one pipeline's figures.
  private func statistics(_ parts: [String], _ show: Shown, endsWithSlash: Bool) -> [UInt8]? {
    let pipelines = state.pipelines
    switch parts {
    case ["pipeline"]: return statistics(["pipelines"], show, endsWithSlash: false)
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
      return named.isEmpty ? nil : answer { [self] in pipelineStatistics(&$0, named, state, show) }
    default: break
    }
    let totals = state.eventTotals
    return sections(
      [
        ("jvm", { [self] in runtimeStatistics(&$0, state.startedAt) }), ("process", processStatistics),
        ("events", { eventStatistics(&$0, totals) }),
        ("flow", { [self] in flowStatistics(&$0, flow, totals) }),
        ("pipelines", { [self] in pipelineStatistics(&$0, pipelines, state, show) }),
        ("reloads", { [self] in reloadStatistics(&$0, state.reloadTotals) }), ("os", controlGroupSection),
        ("queue", { queueStatistics(&$0, pipelines) }),
      ], parts)
  }

  /// The paths of old readers.
  private func legacyStatistics(_ parts: [String]) -> [UInt8]? {
    let process = ProcessFigures()
    func memory(_ text: inout JSONText) {
      text.object("memory") {
        $0.member("heap_used_in_bytes", process.residentBytes)
        $0.member("heap_max_in_bytes", process.memoryBytes)
      }
    }
    switch parts {
    case []:
      return answer { [self] text in
        eventStatistics(&text, state.eventTotals)
        text.object("jvm") {
          $0.member("timestamp", Int(WallClock.ns / 1_000_000_000))
          $0.member("uptime_in_millis", milliseconds(Instant.now - state.startedAt))
          memory(&$0)
        }
        controlGroupSection(&text)
      }
    case ["jvm", "memory"]: return answer(memory)
    default: return nil
    }
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
      identity(&$0, HealthReport(state.pipelines).health)
      $0.object("pipeline") {
        $0.member("workers", workers)
        $0.member("batch_size", defaults.batchSize)
        $0.member("batch_delay", milliseconds(defaults.batchDelay))
      }
      body(&$0)
    }
  }

  private func identity(_ text: inout JSONText, _ health: Health) {
    text.member("host", hostName)
    text.member("version", Version.emulated)
    text.member("http_address", "\(host):\(port.value)")
    text.member("id", nodeID)
    text.member("name", nodeName)
    text.member("ephemeral_id", processID)
    text.member("snapshot", false)
    text.member("status", health.text)
  }

  // MARK: Health

  private func healthReport() -> [UInt8] {
    let report = HealthReport(state.pipelines)
    return JSONText.object {
      identity(&$0, report.health)
      report.write(&$0)
    }
  }

  /// `/?wait_for_status=green&timeout=30s`: answers once the node is that well or better.
  private func waitForStatus(_ question: Question, _ request: HTTPRequest) {
    let isPretty = question.has("pretty")
    func refuse(_ text: String) { request.answer(reply(400, refusal(400, "/", text), isPretty: isPretty)) }
    var limit: Duration?
    if question.has("timeout") {
      let text = question.value("timeout") ?? ""
      limit = timeValue(text)
      if limit == nil { return refuse("Invalid timeout '\(text)' provided.") }
    }
    guard question.has("wait_for_status") else { return request.answer(reply(200, root(), isPretty: isPretty)) }
    let word = (question.value("wait_for_status") ?? "").lowercased()
    guard let wanted = [Health.green, .yellow, .red].first(where: { $0.text == word }) else {
      return refuse(
        "Invalid status '\(question.value("wait_for_status") ?? "")' provided. The valid statuses are: green, yellow, "
          + "red.")
    }
    guard let limit else { return refuse("A timeout must be provided along with a status.") }
    wait(for: wanted, until: .now + limit, pause: .milliseconds(200), isPretty, request)
  }

  private func wait(
    for wanted: Health, until deadline: Instant, pause: Duration, _ isPretty: Bool, _ request: HTTPRequest
  ) {
    if HealthReport(state.pipelines).health <= wanted {
      return request.answer(reply(200, root(), isPretty: isPretty))
    }
    let left = deadline - Instant.now
    if left <= .zero {
      let text = "Timed out waiting for status '\(wanted.text)'."
      return request.answer(reply(408, refusal(408, "/", text), isPretty: isPretty))
    }
    request.later(after: min(pause, left)) { [self] in
      wait(for: wanted, until: deadline, pause: pause + pause, isPretty, request)
    }
  }

  // MARK: Threads

  private func hotThreads(_ question: Question) -> HTTPResponse {
    let isHuman: Bool
    do throws(BadParameter) {
      isHuman = question.has("human") && (question.value("human") ?? "").isEmpty ? true : try question.flag("human")
      _ = try question.flag("ignore_idle_threads")
    } catch {
      return reply(400, answer { $0.member("error", error.text) }, isPretty: question.has("pretty"))
    }
    let limit = question.has("threads") ? Int(question.value("threads") ?? "") ?? 0 : 10
    let ignoresIdle = question.has("ignore_idle_threads") ? (try? question.flag("ignore_idle_threads")) ?? true : true
    let busy = ThreadFigures.all().filter { !ignoresIdle || $0.cpuPercent > 0 }.prefix(max(0, limit))
    func state(_ thread: ThreadFigures) -> String {
      switch thread.state {
      case "R": "runnable"
      case "D": "blocked"
      default: "timed_waiting"
      }
    }
    func share(_ thread: ThreadFigures) -> String { significant((thread.cpuPercent * 100).rounded() / 100) }
    let time = isoText(WallClock.ns / 1_000_000_000 * 1_000_000_000)
    guard isHuman else {
      let body = answer {
        $0.object("hot_threads") { hot in
          hot.member("time", time)
          hot.member("busiest_threads", busy.count)
          hot.list("threads", busy) {
            $0.member("name", $1.name)
            $0.member("thread_id", $1.id)
            $0.member("percent_of_cpu_time", number: share($1))
            $0.member("state", state($1))
            $0.list("traces", texts: [])
          }
        }
      }
      return reply(200, body, isPretty: question.has("pretty"))
    }
    var text = "::: {}\nHot threads at \(time), busiestThreads=\(busy.count): \n" + String(repeating: "=", count: 80)
    for thread in busy {
      text += "\n\(share(thread)) % of cpu usage, state: \(state(thread)), thread name: '\(thread.name)', thread id: "
      text += "\(thread.id) \n" + String(repeating: "-", count: 80)
    }
    return HTTPResponse(
      200, headers: [("Content-Type", "text/plain;charset=utf-8"), ("X-Content-Type-Options", "nosniff")],
      body: Array((text + "\n").utf8))
  }
}

/// `500ms`, `30s`, `2m`, `1h`; nil for anything else.
private func timeValue(_ text: String) -> Duration? {
  let digits = text.prefix { $0.isASCII && $0.isNumber }
  guard let count = Int64(digits), count <= 1_000_000_000 else { return nil }
  switch text.dropFirst(digits.count) {
  case "nanos": return .nanoseconds(count)
  case "micros": return .microseconds(count)
  case "ms": return .milliseconds(count)
  case "s": return .seconds(count)
  case "m": return .seconds(count * 60)
  case "h": return .seconds(count * 3600)
  case "d": return .seconds(count * 86_400)
  default: return nil
  }
}
