//  The sender of the `elasticsearch` output: one thread that keeps several bulk requests under way, reads their answers
//  and decides what becomes of each document.

internal import CCurl
internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

/// One connection's handle with its buffers, reused from request to request. The sender's thread alone uses it.
private final class Slot {
  static let longestAnswer = 64 << 20
  let handle: UnsafeMutableRawPointer
  var request: BulkRequest?
  var host = 0
  var answer = ByteBuffer(capacity: 16 << 10)
  var compressed = ByteBuffer()

  init(_ handle: UnsafeMutableRawPointer) { self.handle = handle }
}

/// A document that is refused for good and waits to be written to the dead letters.
private struct Letter {
  let request: BulkRequest
  let document: BulkRequest.Document
  let reason: DeadLetterReason
}

private struct Host {
  let address: String
  let shown: String
  var failures = 0
  var leftOutUntil = Instant(ns: 0)
}

final class BulkSender: @unchecked Sendable {  // unchecked: all but `wake` is used by the sender's thread alone
  private let plan: BulkOutput.Plan
  private let context: OutputContext
  private let figures: BulkOutput.Figures
  private let flow: Gate<BulkFlow>
  private let multi: UnsafeMutableRawPointer
  private let headers: UnsafeMutablePointer<curl_slist>?
  private let deflater: Deflater?
  private var slots: [Slot] = []
  private var idle: [Slot] = []
  private var hosts: [Host]
  private var nextHost = 0
  private var ready: [BulkRequest] = []
  private var readyHead = 0
  private var delayed: [BulkRequest] = []
  private var letters: [Letter] = []
  private var lettersWritten = 0
  private var lettersNotBefore = Instant(ns: 0)
  private var limit: Int
  private var successes = 0
  private let reader = EventBatch()

  init(
    _ plan: BulkOutput.Plan, _ context: OutputContext, _ figures: BulkOutput.Figures, _ flow: Gate<BulkFlow>
  ) throws {
    self.plan = plan
    self.context = context
    self.figures = figures
    self.flow = flow
    hosts = plan.hosts.map { Host(address: $0.address, shown: $0.shown) }
    limit = plan.concurrentRequests
    deflater = plan.compressionLevel > 0 ? Deflater(level: plan.compressionLevel) : nil
    curl_global_init(3)  // SSL and Win32, as CURL_GLOBAL_DEFAULT
    guard let multi = curl_multi_init() else { throw SystemError(12, call: "curl_multi_init") }
    self.multi = multi
    var list = curl_slist_append(nil, "Content-Type: application/x-ndjson")
    list = curl_slist_append(list, "Expect:")
    if plan.compressionLevel > 0 { list = curl_slist_append(list, "Content-Encoding: gzip") }
    if let authorization = plan.authorization { list = curl_slist_append(list, authorization.revealed) }
    headers = list
    for _ in 0..<plan.concurrentRequests {
      guard let handle = curl_easy_init() else { throw SystemError(12, call: "curl_easy_init") }
      let slot = Slot(handle)
      prepare(slot)
      slots.append(slot)
    }
    idle = slots
  }

  deinit {
    for slot in slots { curl_easy_cleanup(slot.handle) }
    curl_multi_cleanup(multi)
    curl_slist_free_all(headers)
  }

  private func prepare(_ slot: Slot) {
    let handle = slot.handle
    _ = curl_set_long(handle, CURLOPT_NOSIGNAL, 1)
    // A name that is still being resolved does not hold up the end.
    _ = curl_set_long(handle, CURLOPT_QUICK_EXIT, 1)
    // The environment's proxies are for other programs.
    _ = curl_set_text(handle, CURLOPT_PROXY, "")
    _ = curl_set_long(handle, CURLOPT_POST, 1)
    _ = curl_set_pointer(handle, CURLOPT_HTTPHEADER, headers)
    let timeout = Int(max(1, plan.timeout.ns / 1_000_000))
    _ = curl_set_long(handle, CURLOPT_TIMEOUT_MS, timeout)
    _ = curl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, min(timeout, 10_000))
    _ = curl_set_text(handle, CURLOPT_PROTOCOLS_STR, "http,https")
    _ = curl_set_text(handle, CURLOPT_USERAGENT, "sluice")
    if let user = plan.user {
      _ = curl_set_text(handle, CURLOPT_USERNAME, user)
      _ = curl_set_text(handle, CURLOPT_PASSWORD, plan.password?.revealed ?? "")
    }
    if let file = plan.authorities { _ = curl_set_text(handle, CURLOPT_CAINFO, file) }
    _ = curl_set_long(handle, CURLOPT_SSL_VERIFYPEER, plan.verifies ? 1 : 0)
    _ = curl_set_long(handle, CURLOPT_SSL_VERIFYHOST, plan.verifies ? 2 : 0)
    _ = curl_set_write(
      handle,
      { bytes, size, count, context in
        guard let bytes, let context else { return 0 }
        let slot = Unmanaged<Slot>.fromOpaque(context).takeUnretainedValue()
        guard slot.answer.count + size * count <= Slot.longestAnswer else { return 0 }
        slot.answer.append(UnsafeRawPointer(bytes), size * count)
        return size * count
      }, Unmanaged.passUnretained(slot).toOpaque())
  }

  /// Makes the thread look for new requests; any thread may call it.
  func wake() { curl_multi_wakeup(multi) }

  /// The thread's loop; returns when all is done after `stop`, or at its deadline.
  func run() {
    while true {
      let (isStopping, deadline) = flow.withLock { state in
        ready.append(contentsOf: state.arrivals)
        state.arrivals.removeAll(keepingCapacity: true)
        return (state.isStopping, state.deadline)
      }
      let now = Instant.now
      writeLetters(now)
      if !isStopping { spillWaiting() }
      // What waits for a server that is down or refuses stays in the queue: waiting longer would not help the stop.
      if isStopping { letGo(now) }
      let isEmpty = readyHead == ready.count && letters.isEmpty && idle.count == slots.count
      if isStopping, isEmpty || now >= deadline { break }
      startRequests(now)
      var running: CInt = 0
      curl_multi_perform(multi, &running)
      readAnswers()
      writeLetters(.now)
      let hasNews = flow.withLock { !$0.arrivals.isEmpty }
      if !hasNews { curl_multi_poll(multi, nil, 0, pause(isStopping, deadline), nil) }
    }
    // What is left stays unanswered: the queue still has it.
    for slot in slots where slot.request != nil { curl_multi_remove_handle(multi, slot.handle) }
    for slot in slots { slot.request = nil }
    ready.removeAll()
    delayed.removeAll()
    letters.removeAll()
    let dropped = flow.update { state in
      state.hasEnded = true
      defer { state.arrivals = [] }
      return state.arrivals
    }
    _ = dropped  // freed outside of the lock, which their end takes
  }

  /// Moves what waits for the server to the overflow queue, so that its range of the queue is released.
  private func spillWaiting() {
    guard let overflow = flow.withLock({ $0.overflow }), overflow.isSpilling else { return }
    let moved = (delayed + ready[readyHead...]).filter(\.canSpill)
    if moved.isEmpty { return }
    delayed.removeAll(where: \.canSpill)
    ready = ready[readyHead...].filter { !$0.canSpill }
    readyHead = 0
    for request in moved {
      BulkOutput.spill(request, to: overflow, figures) { [flow] isKept in
        if !isKept { flow.update { if !$0.hasEnded { $0.arrivals.append(request) } } }
      }
    }
  }

  private func letGo(_ now: Instant) {
    delayed.removeAll()
    guard !hosts.contains(where: { $0.leftOutUntil <= now }) else { return }
    ready.removeAll()
    readyHead = 0
  }

  /// Milliseconds until something is due.
  private func pause(_ isStopping: Bool, _ deadline: Instant) -> CInt {
    let now = Instant.now
    if !idle.isEmpty, readyHead < ready.count, slots.count - idle.count < limit,
      hosts.contains(where: { $0.leftOutUntil <= now })
    {
      return 0
    }
    var due = now + .seconds(1)
    for request in delayed { due = min(due, request.notBefore) }
    if readyHead < ready.count { for host in hosts where host.leftOutUntil > now { due = min(due, host.leftOutUntil) } }
    if isStopping { due = min(due, deadline) }
    return CInt(max(1, (due - now).ns / 1_000_000 + 1))
  }

  private func startRequests(_ now: Instant) {
    delayed.removeAll { request in
      guard request.notBefore <= now else { return false }
      ready.append(request)
      return true
    }
    while readyHead < ready.count, slots.count - idle.count < limit, let host = chooseHost(now),
      let slot = idle.popLast()
    {
      let request = ready[readyHead]
      readyHead += 1
      slot.request = request
      slot.host = host
      slot.answer.removeAll()
      slot.answer.shrink(to: 1 << 20)
      var body = request.body.bytes
      if let deflater {
        slot.compressed.removeAll()
        deflater.gzip(body, into: &slot.compressed)
        body = slot.compressed.bytes
      }
      _ = curl_set_text(slot.handle, CURLOPT_URL, hosts[host].address)
      _ = curl_set_off(slot.handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
      _ = curl_set_pointer(slot.handle, CURLOPT_POSTFIELDS, body.baseAddress)
      figures.requests.add()
      figures.bytes.add(body.count)
      curl_multi_add_handle(multi, slot.handle)
    }
    if readyHead == ready.count {
      ready.removeAll(keepingCapacity: true)
      readyHead = 0
    } else if readyHead > 1024 {
      ready.removeFirst(readyHead)
      readyHead = 0
    }
  }

  private func chooseHost(_ now: Instant) -> Int? {
    for step in 0..<hosts.count {
      let host = (nextHost + step) % hosts.count
      if hosts[host].leftOutUntil <= now {
        nextHost = (host + 1) % hosts.count
        return host
      }
    }
    return nil
  }

  private func readAnswers() {
    var left: CInt = 0
    while let message = curl_multi_info_read(multi, &left) {
      guard message.pointee.msg == CURLMSG_DONE, let handle = message.pointee.easy_handle,
        let slot = slots.first(where: { $0.handle == handle })
      else { continue }
      let code = message.pointee.data.result
      var status = 0
      if code == CURLE_OK { _ = curl_get_long(handle, CURLINFO_RESPONSE_CODE, &status) }
      curl_multi_remove_handle(multi, handle)
      idle.append(slot)
      guard let request = slot.request else { continue }
      slot.request = nil
      settle(request, slot, status, code == CURLE_OK ? nil : String(cString: curl_easy_strerror(code)))
    }
  }

  private func settle(_ request: BulkRequest, _ slot: Slot, _ status: Int, _ failure: String?) {
    if status == 0 {
      fail(host: slot.host, "es.unreachable", failure ?? "no answer")
      let pause = Self.pause(.milliseconds(250), .seconds(5), request.connectionFailures)
      request.connectionFailures += 1
      sendAgain(request, after: pause)
      return
    }
    hosts[slot.host].failures = 0
    request.connectionFailures = 0
    if Decision.isOverload(status) { limit = max(1, limit / 2) }
    let error = errorOf(slot.answer.bytes, status)
    switch Decision.decide(requestStatus: status, type: error.type, reason: error.reason) {
    case .readItems: readItems(request, slot)
    case .halve: halve(request, status, slot.answer.bytes)
    default:
      report("es.refused", "answers \(status): \(Self.excerpt(slot.answer.bytes))", slot.host)
      sendAgain(request, after: refusalPause(request))
    }
  }

  /// What the answer to a whole request names as its error; empty where it is not the server's JSON.
  private func errorOf(_ answer: UnsafeRawBufferPointer, _ status: Int) -> (type: String, reason: String) {
    guard !(200..<300).contains(status) else { return ("", "") }
    reader.removeAll()
    let error = (try? reader.add(arrivalNs: 0).parseJSON(answer))?["error"]
    return (error?["type"]?.string ?? "", error?["reason"]?.string ?? "")
  }

  private func fail(host: Int, _ code: String, _ reason: String) {
    hosts[host].failures += 1
    hosts[host].leftOutUntil = .now + .seconds(min(5, hosts[host].failures))
    report(code, "cannot be reached: \(reason)", host)
  }

  private func report(_ code: String, _ what: String, _ host: Int) {
    figures.failures.add()
    let shown = hosts[host].shown
    figures.trouble.withLock { $0 = "\(shown) \(what)" }
    Log.warn(
      code, "Elasticsearch does not take events; they wait.",
      ["output": .text(context.stepID), "host": .text(shown), "reason": Log.foreign(what)])
  }

  private func sendAgain(_ request: BulkRequest, after pause: Duration) {
    figures.retries.add(request.documents.count)
    request.notBefore = .now + pause
    delayed.append(request)
  }

  private func refusalPause(_ request: BulkRequest) -> Duration {
    defer { request.refusals += 1 }
    return Self.pause(plan.firstPause, plan.longestPause, request.refusals)
  }

  /// The pause after so many failures, doubling, with 10 % of chance either way.
  static func pause(_ first: Duration, _ longest: Duration, _ failures: Int) -> Duration {
    let plain = min(Double(longest.ns), Double(first.ns) * Double(1 << min(failures, 30)))
    return .nanoseconds(Int64(plain * Double.random(in: 0.9...1.1)))
  }

  private func halve(_ request: BulkRequest, _ status: Int, _ answer: UnsafeRawBufferPointer) {
    let n = request.documents.count
    guard n > 1 else {
      bury(request, request.documents[0], status, "request", Self.excerpt(answer))
      return
    }
    figures.retries.add(n)
    ready.append(request.copy(of: request.documents[..<(n / 2)]))
    ready.append(request.copy(of: request.documents[(n / 2)...]))
  }

  private func readItems(_ request: BulkRequest, _ slot: Slot) {
    reader.removeAll()
    let event = reader.add(arrivalNs: 0)
    guard let answer = try? event.parseJSON(slot.answer.bytes), answer.isMap, let items = answer["items"], items.isList,
      items.count == request.documents.count
    else {
      report("es.refused", "answers with something that is no bulk answer", slot.host)
      sendAgain(request, after: refusalPause(request))
      return
    }
    let now = Instant.now
    var done = 0
    var duplicates = 0
    var again: [BulkRequest.Document] = []
    var isOverload = false
    var item = items.first
    var example = ""
    for var document in request.documents {
      let action = item?.first
      item = item?.next
      let status = Int(action?["status"]?.integer ?? 0)
      let error = action?["error"]
      let type = error?["type"]?.string ?? "unknown"
      let reason = error?["reason"]?.string ?? error?.string ?? ""
      if status == 0 {  // an answer that tells nothing of the document
        document.attempts += 1
        again.append(document)
        continue
      }
      let decision = Decision.decide(itemStatus: status, type: type, reason: reason, isCreate: plan.isCreate)
      document.attempts += 1
      let forbiddenSince = document.forbiddenSince ?? now
      document.forbiddenSince = nil
      var isAgain = false
      switch decision {
      case .done: done += 1
      case .duplicate: duplicates += 1
      case .retry: isAgain = true
      case .retryAttempts(let most):
        document.serverErrors += 1
        isAgain = document.serverErrors < most
      case .retryFor(let time):
        document.forbiddenSince = forbiddenSince
        isAgain = now - forbiddenSince < time
      default: break
      }
      isOverload = isOverload || Decision.isOverload(status)
      if isAgain {
        again.append(document)
        example = "answers \(status) for documents: \(type)"
      } else if decision != .done, decision != .duplicate {
        bury(request, document, status, type, Self.excerpt(text: reason))
      }
    }
    if isOverload { limit = max(1, limit / 2) } else { grow() }
    figures.eventsOut.add(done + duplicates)
    figures.duplicates.add(duplicates)
    figures.inFlight.add(-(done + duplicates))
    if again.isEmpty {
      figures.trouble.withLock { $0 = nil }
    } else {
      report("es.refused", example.isEmpty ? "gives no status for documents" : example, slot.host)
      let rest = request.copy(of: again)
      sendAgain(rest, after: refusalPause(rest))
    }
    if done + duplicates > 0 { request.delivery.finish(done + duplicates) }
  }

  private func grow() {
    successes += 1
    guard successes >= limit else { return }
    successes = 0
    limit = min(limit + 1, plan.concurrentRequests)
  }

  private func bury(
    _ request: BulkRequest, _ document: BulkRequest.Document, _ status: Int, _ type: String, _ message: String
  ) {
    let target = request.target(document)
    var reason = DeadLetterReason(
      stage: context.stepID, status: status, type: type, message: message, index: target.index,
      attempts: max(1, document.attempts), documentID: target.id, part: document.part)
    reason.action = Array(request.action(document))
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

  private static func excerpt(_ bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix(Log.reasonLimitBytes), as: UTF8.self)
  }
  private static func excerpt(text: String) -> String {
    var text = text
    return text.withUTF8 { excerpt(UnsafeRawBufferPointer($0)) }
  }
}
