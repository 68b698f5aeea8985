//  The sender of the `elasticsearch` output: one thread that keeps several bulk requests under way, probes hosts that are
//  set aside, reads answers and decides what becomes of each document.
//
//  A request is in one place at a time: `ready` (in order), `waiting` for the end of a pause, or a slot's. It goes to a
//  ready host; while there is none, nothing is sent but probes. On a stop, what waits is let go at once, and what is under
//  way too when no answer has come for some seconds: the queue still has it, and no state of the cluster holds up the end.

internal import CCurl
internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

/// One connection's handle with its buffers, reused from request to request. The sender's thread alone uses it.
final class Slot {
  enum Work {
    case nothing
    case bulk(BulkRequest)
    case health
    case sniff
  }

  /// More than this is read of no answer.
  static let longestAnswer = 64 << 20
  /// More than this is kept of no text in an answer.
  static let longestText = 1024
  let handle: UnsafeMutableRawPointer
  var work = Work.nothing
  var host: Host
  var began = Instant(ns: 0)
  var answer = ByteBuffer(capacity: 16 << 10)
  var cutter = AnswerCutter(limit: longestText)
  var isTooLong = false
  var compressed = ByteBuffer()

  init(_ handle: UnsafeMutableRawPointer, _ host: Host) {
    self.handle = handle
    self.host = host
  }

  func open() {
    answer.removeAll()
    answer.shrink(to: 1 << 20)
    cutter = AnswerCutter(limit: Slot.longestText)
    isTooLong = false
    began = .now
  }
}

/// A document that is refused for good and waits to be written to the dead letters.
struct Letter {
  let request: BulkRequest
  let document: BulkRequest.Document
  let reason: DeadLetterReason
}

final class BulkSender: @unchecked Sendable {  // unchecked: all but `wake` is used by the sender's thread alone
  let plan: BulkOutput.Plan
  let context: OutputContext
  let figures: BulkFigures
  let flow: Gate<BulkFlow>
  private let multi: UnsafeMutableRawPointer
  private let headers: UnsafeMutablePointer<curl_slist>?
  private let probeHeaders: UnsafeMutablePointer<curl_slist>?
  private let deflater: Deflater?
  private var slots: [Slot] = []
  private var idle: [Slot] = []
  /// For health checks and sniffing.
  private let prober: Slot
  var pool: HostPool
  private var nextSniff = Instant(ns: 0)
  private var ready: [BulkRequest] = []
  private var readyHead = 0
  private var waiting = WaitingRequests()
  private var letters: [Letter] = []
  private var lettersWritten = 0
  private var lettersNotBefore = Instant(ns: 0)
  var limit: AdaptiveLimit
  private var lastProgress = Instant(ns: 0)
  let reader = EventBatch()

  init(_ plan: BulkOutput.Plan, _ context: OutputContext, _ figures: BulkFigures, _ flow: Gate<BulkFlow>) throws {
    self.plan = plan
    self.context = context
    self.figures = figures
    self.flow = flow
    pool = HostPool(plan.hosts.map { Host(base: $0.base, shown: $0.shown) })
    limit = AdaptiveLimit(most: plan.concurrentRequests)
    deflater = plan.compressionLevel > 0 ? Deflater(level: plan.compressionLevel) : nil
    guard ClusterConnection.isReady, let multi = curl_multi_init() else {
      throw SystemError(12, call: "curl_multi_init")
    }
    self.multi = multi
    var own = [(name: "Content-Type", value: "application/x-ndjson")]
    if plan.compressionLevel > 0 { own.append(("Content-Encoding", "gzip")) }
    headers = plan.connection.headerList(own)
    probeHeaders = plan.connection.headerList([])
    func slot() throws -> Slot {
      guard let handle = curl_easy_init() else { throw SystemError(12, call: "curl_easy_init") }
      let slot = Slot(handle, Host(base: "", shown: ""))
      plan.connection.configure(handle)
      _ = curl_set_write(
        handle,
        { bytes, size, count, context in
          guard let bytes, let context else { return 0 }
          let slot = Unmanaged<Slot>.fromOpaque(context).takeUnretainedValue()
          slot.cutter.append(UnsafeRawBufferPointer(start: bytes, count: size * count), to: &slot.answer)
          slot.isTooLong = slot.answer.count > Slot.longestAnswer
          return slot.isTooLong ? 0 : size * count
        }, Unmanaged.passUnretained(slot).toOpaque())
      return slot
    }
    prober = try slot()
    _ = curl_set_pointer(prober.handle, CURLOPT_HTTPHEADER, probeHeaders)
    _ = curl_set_long(
      prober.handle, CURLOPT_TIMEOUT_MS, min(10_000, Int(max(1, plan.connection.timeout.ns / 1_000_000))))
    for _ in 0..<plan.concurrentRequests {
      let made = try slot()
      _ = curl_set_long(made.handle, CURLOPT_POST, 1)
      _ = curl_set_pointer(made.handle, CURLOPT_HTTPHEADER, headers)
      slots.append(made)
    }
    idle = slots
    showHosts()
  }

  deinit {
    for slot in slots + [prober] { curl_easy_cleanup(slot.handle) }
    curl_multi_cleanup(multi)
    curl_slist_free_all(headers)
    curl_slist_free_all(probeHeaders)
  }

  /// Makes the thread look for new requests; any thread may call it.
  func wake() { curl_multi_wakeup(multi) }

  /// The thread's loop; returns when all is done after `stop`, or when nothing more can be hoped for.
  func run() {
    var stopped: Instant?
    while true {
      let (isStopping, deadline) = flow.withLock { state in
        ready.append(contentsOf: state.arrivals)
        state.arrivals.removeAll(keepingCapacity: true)
        return (state.isStopping, state.deadline)
      }
      let now = Instant.now
      writeLetters(now)
      if !isStopping { spillWaiting() }
      var end = deadline
      if isStopping {
        if stopped == nil {
          stopped = now
          lastProgress = now
        }
        letGo()
        end = min(deadline, lastProgress + patience)
      }
      let isEmpty = readyHead == ready.count && letters.isEmpty && idle.count == slots.count
      if isStopping, isEmpty || now >= end { break }
      startRequests(now)
      if !isStopping { startProbe(now) }
      var running: CInt = 0
      curl_multi_perform(multi, &running)
      readAnswers()
      writeLetters(.now)
      let hasNews = flow.withLock { !$0.arrivals.isEmpty }
      if !hasNews { curl_multi_poll(multi, nil, 0, pause(isStopping ? end : nil), nil) }
    }
    // What is left stays unanswered: the queue still has it.
    for slot in slots {
      guard case .bulk = slot.work else { continue }
      curl_multi_remove_handle(multi, slot.handle)
      slot.work = .nothing
    }
    curl_multi_remove_handle(multi, prober.handle)
    ready.removeAll()
    waiting.removeAll()
    letters.removeAll()
    let dropped = flow.update { state in
      state.hasEnded = true
      defer { state.arrivals = [] }
      return state.arrivals
    }
    _ = dropped  // freed outside of the lock, which their end takes
  }

  /// How long a stop waits for the next answer: well beyond what answers take, so that a slow cluster is waited for and
  /// one that hangs is not.
  private var patience: Duration { max(.seconds(2), limit.latency * 8) }

  /// Moves what waits for the server to the overflow queue, so that its range of the queue is released.
  private func spillWaiting() {
    guard let overflow = flow.withLock({ $0.overflow }), overflow.isSpilling else { return }
    let moved = waiting.take(where: \.canSpill) + ready[readyHead...].filter(\.canSpill)
    if moved.isEmpty { return }
    ready = ready[readyHead...].filter { !$0.canSpill }
    readyHead = 0
    for request in moved {
      BulkOutput.spill(request, to: overflow, figures) { [flow] isKept in
        if !isKept { flow.update { if !$0.hasEnded { $0.arrivals.append(request) } } }
      }
    }
  }

  /// What waits for a server that is down or refuses stays in the queue: waiting longer would not help a stop.
  private func letGo() {
    waiting.removeAll()
    guard !pool.hasReady else { return }
    ready.removeAll()
    readyHead = 0
  }

  /// Milliseconds until something is due.
  private func pause(_ end: Instant?) -> CInt {
    let now = Instant.now
    let hasWork = readyHead < ready.count
    if hasWork, !idle.isEmpty, slots.count - idle.count < limit.value, pool.hasReady { return 0 }
    var due = now + .seconds(1)
    if let next = waiting.nextDue { due = min(due, next) }
    if let next = pool.nextDue { due = min(due, next) }
    if plan.sniffPath != nil { due = min(due, nextSniff) }
    if let end { due = min(due, end) }
    return CInt(max(1, (due - now).ns / 1_000_000 + 1))
  }

  private func startRequests(_ now: Instant) {
    while let request = waiting.popDue(now) { ready.append(request) }
    while readyHead < ready.count, slots.count - idle.count < limit.value, !idle.isEmpty, let host = pool.choose(now) {
      let request = ready[readyHead]
      let n = request.documents.count
      if n > 1, host.state == .refusing {
        // One document finds out whether the host takes them again.
        guard let least = (0..<n).min(by: { request.documents[$0].size < request.documents[$1].size }) else { return }
        ready[readyHead] = request.copy(of: [request.documents[least]])
        var others = request.documents
        others.remove(at: least)
        ready.insert(request.copy(of: others), at: readyHead + 1)
        continue
      }
      readyHead += 1
      if n > 1, request.body.count > host.limit(now) {
        figures.splits.add()
        ready.append(request.copy(of: request.documents[..<(n / 2)]))
        ready.append(request.copy(of: request.documents[(n / 2)...]))
        continue
      }
      guard let slot = idle.popLast() else { return }
      host.isProbing = host.state == .refusing
      start(request, to: host, slot)
    }
    if readyHead == ready.count {
      ready.removeAll(keepingCapacity: true)
      readyHead = 0
    } else if readyHead > 1024 {
      ready.removeFirst(readyHead)
      readyHead = 0
    }
  }

  private func start(_ request: BulkRequest, to host: Host, _ slot: Slot) {
    slot.work = .bulk(request)
    slot.host = host
    slot.open()
    host.underWay += 1
    var body = request.body.bytes
    figures.plainBytes.add(body.count)
    if let deflater {
      slot.compressed.removeAll()
      deflater.gzip(body, into: &slot.compressed)
      body = slot.compressed.bytes
    }
    _ = curl_set_text(slot.handle, CURLOPT_URL, host.base + plan.bulkPath)
    _ = curl_set_off(slot.handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
    _ = curl_set_pointer(slot.handle, CURLOPT_POSTFIELDS, body.baseAddress)
    figures.requests.add()
    figures.bytes.add(body.count)
    figures.requestsInFlight.add(1)
    figures.requestLimit.set(limit.value)
    curl_multi_add_handle(multi, slot.handle)
  }

  /// Starts a health check or asks for the cluster's nodes, one at a time.
  private func startProbe(_ now: Instant) {
    guard case .nothing = prober.work else { return }
    if let host = pool.unreachableDue(now) {
      prober.work = .health
      host.isProbing = true
      prober.host = host
      _ = curl_set_long(prober.handle, CURLOPT_NOBODY, 1)
      _ = curl_set_text(prober.handle, CURLOPT_URL, host.base + plan.healthPath)
    } else if let path = plan.sniffPath, now >= nextSniff, let host = pool.choose(now), host.state == .ready {
      nextSniff = now + plan.sniffPause
      prober.work = .sniff
      prober.host = host
      _ = curl_set_long(prober.handle, CURLOPT_HTTPGET, 1)
      _ = curl_set_text(prober.handle, CURLOPT_URL, host.base + path)
    } else {
      return
    }
    prober.open()
    curl_multi_add_handle(multi, prober.handle)
  }

  private func readAnswers() {
    var left: CInt = 0
    while let message = curl_multi_info_read(multi, &left) {
      guard message.pointee.msg == CURLMSG_DONE, let handle = message.pointee.easy_handle else { continue }
      let code = message.pointee.data.result
      var status = 0
      if code == CURLE_OK { _ = curl_get_long(handle, CURLINFO_RESPONSE_CODE, &status) }
      curl_multi_remove_handle(multi, handle)
      let failure = code == CURLE_OK ? nil : String(cString: curl_easy_strerror(code))
      if handle == prober.handle {
        readProbe(status, failure)
        continue
      }
      guard let slot = slots.first(where: { $0.handle == handle }) else { continue }
      idle.append(slot)
      guard case .bulk(let request) = slot.work else { continue }
      slot.work = .nothing
      slot.host.underWay -= 1
      lastProgress = .now
      figures.requestsInFlight.add(-1)
      var retryAfter: curl_off_t = 0
      if status == 429 || status == 503 { _ = curl_get_off(handle, CURLINFO_RETRY_AFTER, &retryAfter) }
      settle(
        request, slot, status, failure, isTimeout: code == CURLE_OPERATION_TIMEDOUT,
        retryAfter: .seconds(min(300, max(0, retryAfter))))
    }
  }

  private func readProbe(_ status: Int, _ failure: String?) {
    let work = prober.work
    let host = prober.host
    prober.work = .nothing
    switch work {
    case .health:
      // Whoever answers can be spoken to; what it thinks of a body is that body's matter. Only a gateway whose server is
      // away says nothing of the server.
      if status > 0, !(502...504).contains(status) {
        host.state = .ready
        host.isProbing = false
        Log.info(
          "es.reachable", "Elasticsearch can be reached again.",
          ["output": .text(context.stepID), "host": .text(host.shown)])
      } else {
        host.setAside(.unreachable, .now, first: .seconds(1), longest: plan.resurrectPause)
        report(
          "es.unreachable", "cannot be reached: \(failure ?? "its gateway answers \(status)")", host,
          countsFailure: false)
      }
      showHosts()
    case .sniff:
      guard status == 200 else {
        Log.warn(
          "es.no-nodes", "The cluster does not tell its nodes.",
          [
            "output": .text(context.stepID), "host": .text(host.shown), "status": .text(String(status)),
            "reason": Log.foreign(failure ?? ""),
          ])
        return
      }
      if pool.replace(with: HostPool.sniffed(prober.answer.bytes, like: host.base)) {
        showHosts()
        Log.info(
          "es.nodes", "The cluster's nodes are used.",
          [
            "output": .text(context.stepID),
            "hosts": .text(pool.hosts.map(\.shown).joined(separator: " ")),
          ])
      }
    default: break
    }
  }

  /// Puts the hosts' states where the monitoring API reads them.
  func showHosts() {
    var out = ByteBuffer()
    out.append(123)
    for (i, host) in pool.hosts.enumerated() {
      if i > 0 { out.append(44) }
      out.append(quoted: host.shown)
      out.append(58)
      out.append(quoted: host.state.rawValue)
    }
    out.append(125)
    let text = out.string()
    figures.hosts.withLock { $0 = text }
  }

  func report(_ code: String, _ what: String, _ host: Host, countsFailure: Bool = true) {
    if countsFailure { figures.failures.add() }
    figures.trouble.withLock { $0 = "\(host.shown) \(what)" }
    Log.warn(
      code, "Elasticsearch does not take events; they wait.",
      ["output": .text(context.stepID), "host": .text(host.shown), "reason": Log.foreign(what)])
  }

  func sendAgain(_ request: BulkRequest, after pause: Duration) {
    figures.retries.add(request.documents.count)
    request.notBefore = .now + pause
    waiting.add(request)
  }

  /// Sends it before all others, as soon as a host takes it.
  func sendNext(_ request: BulkRequest) {
    figures.retries.add(request.documents.count)
    if readyHead > 0 {
      readyHead -= 1
      ready[readyHead] = request
    } else {
      ready.insert(request, at: 0)
    }
  }

  func sendHalves(_ request: BulkRequest) {
    let n = request.documents.count
    figures.splits.add()
    figures.retries.add(n)
    ready.append(request.copy(of: request.documents[..<(n / 2)]))
    ready.append(request.copy(of: request.documents[(n / 2)...]))
  }

  func refusalPause(_ request: BulkRequest) -> Duration {
    defer { request.refusals += 1 }
    return Self.pause(plan.firstPause, plan.longestPause, request.refusals)
  }

  /// The pause after so many failures, doubling, with 10 % of chance either way.
  static func pause(_ first: Duration, _ longest: Duration, _ failures: Int) -> Duration {
    let plain = min(Double(longest.ns), Double(first.ns) * Double(1 << min(failures, 30)))
    return .nanoseconds(Int64(plain * Double.random(in: 0.9...1.1)))
  }

  func bury(
    _ request: BulkRequest, _ document: BulkRequest.Document, _ status: Int, _ type: String, _ message: String
  ) {
    let target = request.target(document)
    var reason = DeadLetterReason(
      stage: context.stepID, status: status, type: type, message: message, index: target.index,
      attempts: max(1, document.attempts), documentID: target.id, part: document.part)
    if document.action == .create || document.action == .index { reason.action = Array(request.action(document)) }
    letters.append(Letter(request: request, document: document, reason: reason))
  }

  /// Writes the letters that wait, makes them durable, and only then answers for them.
  private func writeLetters(_ now: Instant) {
    guard !letters.isEmpty, now >= lettersNotBefore else { return }
    while lettersWritten < letters.count {
      let letter = letters[lettersWritten]
      guard
        context.deadLetters.write(
          letter.reason, source: letter.request.delivery.source, record: letter.document.record,
          document: letter.request.json(letter.document))
      else { break }
      lettersWritten += 1
    }
    guard lettersWritten == letters.count, context.deadLetters.sync() else {
      lettersNotBefore = .now + .seconds(1)
      Log.warn(
        "es.no-dead-letters", "Dead letters cannot be kept; the output waits.", ["output": .text(context.stepID)])
      return
    }
    figures.deadLetters.add(letters.count)
    figures.inFlight.add(-letters.count)
    let answered = letters
    letters.removeAll()
    lettersWritten = 0
    for letter in answered { letter.request.delivery.finish(1) }
  }

  static func excerpt(_ bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix(Log.reasonLimitBytes), as: UTF8.self)
  }
  static func excerpt(text: String) -> String {
    var text = text
    return text.withUTF8 { excerpt(UnsafeRawBufferPointer($0)) }
  }
}

extension BulkRequest.Document {
  var size: Int { end - start }
}
