//  What the `http` input does with a request: refuse it early, or check, cut and append its body, and answer once the
//  queue has kept it. Everything here runs on the connection's queue, except the sink's completion.

internal import Codecs
internal import Diagnostics
internal import Net
internal import Records

final class HTTPInputService: HTTPService {
  let metrics = InputMetrics()
  let connections = ConnectionRegistry<HTTPServerConnection>()
  private let configuration: HTTPInputConfiguration
  private let sink: any RecordSink
  private let cutter: BodyCutter
  private let budget: InFlightBudget
  private let credentials: BasicCredentials?
  private let pending = PendingRequests()
  private let stopping = Gauge()
  /// 1 from the moment a request had to be sent away until the queue takes events again.
  private let blocked = Gauge()
  /// Where those are looked at that wait.
  private let queue: IOQueue

  init(
    _ configuration: HTTPInputConfiguration, sink: any RecordSink, cutter: BodyCutter, budget: InFlightBudget,
    queue: IOQueue
  ) {
    self.queue = queue
    self.configuration = configuration
    self.sink = sink
    self.cutter = cutter
    self.budget = budget
    if let user = configuration.user, let password = configuration.password {
      credentials = BasicCredentials(user: user, password: password)
    } else {
      credentials = nil
    }
  }

  func refuseNew() { stopping.set(1) }

  // MARK: Before the body

  func begin(_ request: HTTPRequest) -> HTTPResponse? {
    if stopping.value != 0 { return refusal(503, "http.stopping", "this input is stopping", retry: true, closes: true) }
    let head = request.head
    let reads = head.isMethod("GET") || head.isMethod("HEAD")
    if reads, head.path == "/health" { return nil }
    if let credentials, !credentials.accepts(head.header("authorization")) {
      var response = refusal(401, "http.unauthorized", "these credentials are not accepted here")
      response.headers.append(("WWW-Authenticate", "Basic realm=\"sluice\""))
      return response
    }
    if reads { return nil }
    guard head.isMethod("POST") || head.isMethod("PUT") else {
      var response = refusal(405, "http.method", "events are sent by POST or PUT")
      response.headers.append(("Allow", "GET, HEAD, POST, PUT"))
      return response
    }
    if pending.count >= configuration.maxPendingRequests {
      return refusal(429, "http.busy", "too many requests wait for the queue", retry: true)
    }
    // While the queue is known to be blocked one request at a time finds out whether it still is.
    if let since = pending.oldest, blocked.value != 0 || Instant.now - since > configuration.blockedAfter {
      return refusal(429, "http.busy", "the queue does not take events at present", retry: true)
    }
    if let name = head.header("content-encoding")?.lowercased(), name != "identity",
      BodyEncoding(contentEncoding: name) == nil
    {
      var response = refusal(415, "http.encoding", "this content encoding is not known here")
      response.headers.append(("Accept-Encoding", "gzip, deflate, zstd"))
      return response
    }
    return nil
  }

  func grow(_ request: HTTPRequest, by count: Int) -> HTTPResponse? {
    let size = request.body.count + count
    guard size > configuration.freeBodyBytes else { return nil }
    // In steps, so that a long body does not touch the common counter with every read.
    let wanted = max(size - request.reservedBytes, 0)
    guard wanted > 0 else { return nil }
    let step = wanted + (256 << 10)
    if budget.reserve(step) {
      request.reservedBytes += step
      return nil
    }
    release(request)
    return refusal(429, "http.memory", "too much waits for the queue", retry: true)
  }

  func abandoned(_ request: HTTPRequest) { release(request) }

  private func release(_ request: HTTPRequest) {
    budget.add(-request.reservedBytes)
    request.reservedBytes = 0
  }

  // MARK: The whole request

  func handle(_ request: HTTPRequest) {
    if request.head.isMethod("GET") || request.head.isMethod("HEAD") {
      release(request)
      return request.answer(answerToGet(request.head.path))
    }
    do throws(Refusal) {
      let batches = try makeBatches(request).filter { $0.count > 0 }
      release(request)
      append(batches[...], request)
    } catch {
      release(request)
      request.answer(error.response)
    }
  }

  private func answerToGet(_ path: String) -> HTTPResponse {
    switch path {
    case "/", "/health": HTTPResponse(200, type: "text/plain", text: "ok")
    default: refusal(404, "http.path", "there is nothing at this path; events are sent by POST or PUT")
    }
  }

  private struct Refusal: Error { var response: HTTPResponse }

  private func makeBatches(_ request: HTTPRequest) throws(Refusal) -> [RecordBatch] {
    var body = request.takeBody()
    let encoding = request.head.header("content-encoding").flatMap { BodyEncoding(contentEncoding: $0.lowercased()) }
    if let encoding, !body.isEmpty {
      var unpacked = ByteBuffer(capacity: min(configuration.limits.bodyBytes, body.count * 4))
      do throws(InflateError) {
        try unpack(body.bytes, encoding, limit: configuration.limits.bodyBytes, into: &unpacked)
      } catch {
        if case .tooLarge(let limit) = error {
          throw Refusal(response: refusal(413, "http.too-large", "the body unpacks to more than \(limit) bytes"))
        }
        throw Refusal(response: refusal(400, "http.bad-encoding", "the body cannot be unpacked: \(error)"))
      }
      swap(&body, &unpacked)
    }
    let context = ContextText.request(request, length: body.count, isDecoded: encoding != nil)
    do throws(BodyFault) {
      return try cutter.cut(body, contentType: request.head.header("content-type") ?? "", context)
    } catch {
      throw Refusal(response: refusal(error.status, error.code, error.reason, offset: error.offset))
    }
  }

  /// Appends one batch behind the other; there are several only where a codec joins lines and a bound ended an event.
  private func append(_ batches: ArraySlice<RecordBatch>, _ request: HTTPRequest, isRest: Bool = false) {
    guard let batch = batches.first else { return request.answer(accepted) }
    let bytes = batch.byteCount
    let count = batch.count
    budget.add(bytes)
    let (ticket, needsWatch) = pending.add(request, batch, isRest: isRest)
    if needsWatch { watch(from: .now) }
    sink.append(batch) { [self] result in
      budget.add(-bytes)
      pending.remove(ticket)
      switch result {
      case .success:
        blocked.set(0)
        metrics.events.add(count)
        metrics.bytes.add(bytes)
        metrics.batches.add()
        // Who was sent away meanwhile sends all of it again.
        if !request.isAnswered { append(batches.dropFirst(), request, isRest: true) }
      case .failure(.closed):
        request.answer(
          isRest
            ? keptInPart(closes: true)
            : refusal(503, "http.stopping", "the queue is closing", retry: true, closes: true))
      case .failure(.tooLarge(let limit)):
        request.answer(refusal(413, "http.too-large", "the queue takes at most \(limit) bytes at a time"))
      }
    }
  }

  // MARK: Those that wait too long

  /// Looks after those that wait, once the oldest has waited as long as it may.
  private func watch(from oldest: Instant) {
    let wait = max(.milliseconds(10), oldest + configuration.blockedAfter - Instant.now)
    queue.async(after: wait) { [weak self] in
      guard let self else { return }
      sendAway(waitingSince: Instant(ns: Instant.now.ns - configuration.blockedAfter.ns))
      if let next = pending.nextToWatch() { watch(from: next) }
    }
  }

  /// Answers those that wait since then or longer. What the queue has not touched is taken back, so that it is not
  /// written once the client was told to come again.
  private func sendAway(waitingSince moment: Instant) {
    for entry in pending.waiting(since: moment) {
      if sink.withdraw(entry.batch) {
        blocked.set(1)
        pending.remove(entry.ticket)
        budget.add(-entry.batch.byteCount)
        entry.request.answer(
          entry.isRest
            ? keptInPart(closes: false)
            : refusal(429, "http.busy", "the queue has not taken the events in time; none of it was kept", retry: true))
      } else if Instant.now - entry.since > configuration.blockedAfter + configuration.blockedAfter {
        // It is being written, to a disk that does not answer or fails again and again.
        entry.request.answer(
          refusal(
            503, "http.unknown",
            "the queue has not confirmed the events in time; they may be kept, and come twice when they are sent again",
            retry: true))
      }
    }
  }

  /// At the end of a stop: nobody is left without an answer.
  func giveUp() {
    for entry in pending.waiting(since: .now) where sink.withdraw(entry.batch) {
      pending.remove(entry.ticket)
      budget.add(-entry.batch.byteCount)
      entry.request.answer(
        entry.isRest
          ? keptInPart(closes: true)
          : refusal(503, "http.stopping", "this input is stopping", retry: true, closes: true))
    }
  }

  private func keptInPart(closes: Bool) -> HTTPResponse {
    refusal(
      503, "http.kept-in-part",
      "the queue has taken only the first of the events; they come twice when all are sent again",
      retry: true, closes: closes)
  }

  // MARK: Answers

  private var accepted: HTTPResponse {
    guard configuration.responseCode != 204 else { return HTTPResponse(204, headers: configuration.responseHeaders) }
    var headers = configuration.responseHeaders.filter { $0.name.lowercased() != "content-type" }
    headers.append(("Content-Type", "text/plain"))
    return HTTPResponse(configuration.responseCode, headers: headers, body: Array("ok".utf8))
  }

  /// `{"error":{"status":400,"code":"http.bad-json","reason":"…","offset":17}}`
  private func refusal(
    _ status: Int, _ code: String, _ reason: String, offset: Int? = nil, retry: Bool = false, closes: Bool = false
  ) -> HTTPResponse {
    metrics.errors.add()
    var out = ByteBuffer(capacity: 256)
    out.append("{\"error\":{\"status\":")
    out.append(decimal: status)
    out.append(",\"code\":")
    appendJSON(code, to: &out)
    out.append(",\"reason\":")
    appendJSON(reason, to: &out)
    if let offset {
      out.append(",\"offset\":")
      out.append(decimal: offset)
    }
    out.append("}}")
    var response = HTTPResponse(status, headers: [("Content-Type", "application/json")], body: out.array())
    if retry { response.headers.append(("Retry-After", String(max(1, configuration.retryAfter.ns / 1_000_000_000)))) }
    response.closes = closes
    return response
  }

  func answer(to failure: HTTPFailure, peer: PeerAddress) -> HTTPResponse {
    Log.warn(
      "http.refused", "A request was refused.",
      ["peer": "\(peer)", "status": .number(failure.status), "reason": Log.foreign(failure.reason)])
    return refusal(failure.status, "http.request", failure.reason)
  }

  func closed(_ connection: HTTPServerConnection, _ reason: CloseReason) {
    connections.remove(connection)
    guard case .tls(let text) = reason else { return }
    metrics.errors.add()
    Log.warn(
      "net.tls", "A connection was closed: TLS failed.", ["peer": "\(connection.peer)", "reason": Log.foreign(text)])
  }
}
