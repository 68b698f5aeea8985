//  Dead letters over the monitoring API: what the commands `sluice dlq …` do.
//
//      GET    /_dead_letters                               pipelines with their letters' figures
//      GET    /_dead_letters/ID                            letters, oldest first: ?limit= &from= &where=
//      GET    /_dead_letters/ID?by=cause|index|day         their number by what they have in common
//      GET    /_dead_letters/ID/17-3                       one letter, whole
//      GET    /_dead_letters/ID/_export                    all of it, a JSON object a line: ?from= &where=
//      DELETE /_dead_letters/ID/17-3                       removes one
//      POST   /_dead_letters/ID/_purge                     {"letters":[…]} or {"where":"…"} or {"all":true}
//      POST   /_dead_letters/ID/_replay                    the same and {"set":{…},"remove":[…],"pipeline":"…","dry_run":true}
//
//  A request has a thread of its own for as long as it reads, at most four of them; a scan ends after five seconds and says
//  in `next` where to go on. An export waits for its client and holds a megabyte. What changes letters is handed to the
//  replay service through the same folder that the commands use, so an answer of 202 outlives a crash.
//
//  Changes are taken from clients that have shown credentials (`api.auth.type: basic`), or else from this machine alone; and
//  never from a web page, which would come with an `Origin`, another `Host`, or without JSON's content type.

internal import Diagnostics
internal import Events
internal import Net
internal import Pipeline
internal import Queue
internal import Records

final class DeadLetterAPI: Sendable {
  private let state: DaemonState
  private let isGuarded: Bool
  private let running = Gauge()
  private static let runningLimit = 4
  private static let bodyLimit = 1 << 20
  private static let scanTime = Duration.seconds(5)
  private static let orderLetters = 500_000
  private static let groupLimit = 1000
  /// How long an export waits for a client that takes nothing.
  private static let stallTime = Duration.seconds(30)

  /// - Parameter isGuarded: Whoever gets here has shown credentials.
  init(_ state: DaemonState, isGuarded: Bool) {
    self.state = state
    self.isGuarded = isGuarded
  }

  static func isMeant(_ path: String) -> Bool { path == "/_dead_letters" || path.hasPrefix("/_dead_letters/") }

  // MARK: Who may

  /// Refuses a request before its body is read.
  func begin(_ request: HTTPRequest) -> HTTPResponse? {
    let head = request.head
    if head.isMethod("GET") || head.isMethod("HEAD") { return nil }
    guard head.isMethod("POST") || head.isMethod("DELETE") else {
      return refusal(405, "the methods are GET, POST, DELETE")
    }
    if !isGuarded, !Self.isLoopback(request.peer.ip) || !Self.isLocal(head.header("host")) {
      return refusal(403, "changes are taken from this machine alone, unless api.auth.type is 'basic'")
    }
    if let origin = head.header("origin"), !Self.isSame(origin, head.header("host")) {
      return refusal(403, "changes are not taken from another site's pages")
    }
    let type = (head.header("content-type") ?? "").prefix { $0 != ";" }
    if head.isMethod("POST"), type.lowercased().trimmed != "application/json" {
      return refusal(415, "the body must be JSON: Content-Type: application/json")
    }
    return (head.contentLength ?? 0) > Self.bodyLimit ? tooLarge : nil
  }

  func grow(_ request: HTTPRequest, by count: Int) -> HTTPResponse? {
    request.body.count + count > Self.bodyLimit ? tooLarge : nil
  }

  private var tooLarge: HTTPResponse { refusal(413, "the body is larger than \(Self.bodyLimit) bytes") }

  private static func isLoopback(_ ip: String) -> Bool { ip.hasPrefix("127.") || ip == "::1" }

  /// A name that somebody else's name service cannot lead here.
  private static func isLocal(_ host: String?) -> Bool {
    guard let host else { return true }
    let name = host.hasPrefix("[") ? String(host.dropFirst().prefix { $0 != "]" }) : String(host.prefix { $0 != ":" })
    return name.lowercased() == "localhost" || isLoopback(name)
  }

  private static func isSame(_ origin: String, _ host: String?) -> Bool {
    guard let host, let mark = origin.range(of: "://") else { return false }
    return origin[mark.upperBound...].lowercased() == host.lowercased()
  }

  // MARK: Requests

  func handle(_ request: HTTPRequest, _ question: Question) {
    guard running.add(1) <= Self.runningLimit else {
      running.add(-1)
      var busy = refusal(503, "\(Self.runningLimit) requests on dead letters are under way")
      busy.headers.append(("Retry-After", "1"))
      return request.answer(busy)
    }
    startThread("api-letters") { [self] in
      do throws(APIRefusal) {
        try answer(request, question)
      } catch {
        request.answer(refusal(error.status, error.text))
      }
      running.add(-1)
    }
  }

  private func answer(_ request: HTTPRequest, _ question: Question) throws(APIRefusal) {
    let parts = Array(question.parts.dropFirst())
    guard let id = parts.first else {
      guard request.head.isMethod("GET") || request.head.isMethod("HEAD") else { throw notFound(question) }
      return reply(request, question, pipelineList())
    }
    guard let pipeline = state.pipelines.first(where: { $0.compiled.id == id }) else {
      throw APIRefusal(404, "no pipeline '\(id.prefix(64))' runs here")
    }
    guard let queue = pipeline.deadLetters.queue else {
      throw APIRefusal(404, "pipeline '\(id)' keeps no dead letters: dead_letter_queue.enable is false")
    }
    let letters = Letters(id: id, folder: pipeline.deadLetters.folder, queue: queue)
    let name = parts.count == 2 ? parts[1] : nil
    switch (request.head.method, name) {
    case ("GET", nil) where parts.count == 1, ("HEAD", nil) where parts.count == 1:
      if let word = question.value("by") { return reply(request, question, try groups(letters, question, word)) }
      reply(request, question, try list(letters, question))
    case ("GET", "_export"), ("HEAD", "_export"): try export(letters, question, request)
    case ("GET", let name?), ("HEAD", let name?): reply(request, question, try show(letters, name))
    case ("DELETE", let name?):
      var order = ReplayRequest(.purge)
      order.positions = [try existing(letters, name)]
      try hand(order, letters, Scanned(), request, question)
    case ("POST", "_purge"):
      let wanted = try LetterOrder(request.takeBody(), allowsMending: false)
      var order = ReplayRequest(.purge)
      let scanned = try positions(letters, wanted, &order)
      try hand(order, letters, scanned, request, question)
    case ("POST", "_replay"): try replay(letters, request, question)
    default: throw notFound(question)
    }
  }

  private struct Letters {
    var id: String
    var folder: String
    var queue: DeadLetterQueue
  }

  private func notFound(_ question: Question) -> APIRefusal { APIRefusal(404, "there is nothing at \(question.path)") }

  private func refusal(_ status: Int, _ text: String) -> HTTPResponse {
    let body = JSONText.object {
      $0.member("status", status)
      $0.object("error") { $0.member("message", text) }
    }
    return HTTPResponse(status, headers: Self.headers, body: body)
  }

  private static let headers = [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")]

  private func reply(_ request: HTTPRequest, _ question: Question, _ body: [UInt8], status: Int = 200) {
    request.answer(
      HTTPResponse(status, headers: Self.headers, body: question.has("pretty") ? indented(body) : body))
  }

  // MARK: Scans

  /// How far a scan came.
  private struct Scanned {
    /// The scan ended before this letter.
    var next: DeadLetterPosition?
    var undecided = 0

    func write(_ text: inout JSONText) {
      if undecided > 0 { text.member("undecided", undecided) }
      if let next { text.member("next", next.description) }
    }
  }

  /// Calls `body` for the letters that are meant, until it says that it will take no more.
  ///
  /// - Parameter body: Returns false for a letter that it leaves for the next request.
  private func scan(
    _ letters: Letters, from start: DeadLetterPosition?, _ selection: LetterSelection,
    limit: Duration? = DeadLetterAPI.scanTime, _ body: (LetterView) -> Bool
  ) throws(APIRefusal) -> Scanned {
    var selection = selection
    var scanned = Scanned()
    let deadline = limit.map { Instant.now + $0 }
    do {
      try letters.queue.read(from: start) { entry in
        let view = LetterView(entry)
        if let deadline, Instant.now > deadline || (selection.holds(view) && !body(view)) {
          scanned.next = entry.position
          return false
        }
        if deadline == nil, selection.holds(view), !body(view) {
          scanned.next = entry.position
          return false
        }
        return true
      }
    } catch {
      throw APIRefusal(500, "the dead letters cannot be read: \(error)")
    }
    scanned.undecided = selection.undecided
    return scanned
  }

  private func selection(_ condition: String?) throws(APIRefusal) -> LetterSelection {
    var selection = LetterSelection()
    guard let condition else { return selection }
    do throws(ConditionError) { selection.condition = try Condition(condition) } catch {
      throw APIRefusal(400, "broken condition at character \(error.offset): \(error.text)")
    }
    return selection
  }

  private func start(_ question: Question) throws(APIRefusal) -> DeadLetterPosition? {
    guard let text = question.value("from") else { return nil }
    return try position(text)
  }

  private func position(_ name: String) throws(APIRefusal) -> DeadLetterPosition {
    guard let position = DeadLetterPosition(name) else {
      throw APIRefusal(400, "'\(name.prefix(64))' is no letter; they are named as 17-3 is")
    }
    return position
  }

  // MARK: Answers

  private func pipelineList() -> [UInt8] {
    let pipelines = state.pipelines
    return JSONText.object {
      $0.list("pipelines", pipelines) {
        let figures = $1.deadLetters.statistics
        $0.member("id", $1.compiled.id)
        $0.member("enabled", $1.deadLetters.queue != nil)
        $0.member("letters", figures.letters)
        $0.member("bytes", figures.bytes)
        $0.member("max_bytes", figures.maxBytes)
      }
    }
  }

  private func list(_ letters: Letters, _ question: Question) throws(APIRefusal) -> [UInt8] {
    var limit = 100
    if let text = question.value("limit") {
      guard let number = Int(text), (1...10_000).contains(number) else {
        throw APIRefusal(400, "'limit' is a number from 1 to 10000")
      }
      limit = number
    }
    var out = ByteBuffer(capacity: 64 << 10)
    out.append("{\"pipeline\":")
    out.append(quoted: letters.id)
    out.append(",\"letters\":[")
    var count = 0
    let scanned = try scan(letters, from: try start(question), try selection(question.value("where"))) { view in
      guard count < limit, out.count < 8 << 20 else { return false }
      if count > 0 { out.append(44) }
      count += 1
      view.appendSummary(to: &out)
      return true
    }
    out.append("]")
    if scanned.undecided > 0 {
      out.append(",\"undecided\":")
      out.append(decimal: scanned.undecided)
    }
    if let next = scanned.next {
      out.append(",\"next\":")
      out.append(quoted: next.description)
    }
    out.append("}")
    return out.array()
  }

  private struct Group {
    var write: (inout JSONText) -> Void
    var count = 0
    var firstNs = Int64.max
    var lastNs = Int64.min
    var example = ""
  }

  private func groups(_ letters: Letters, _ question: Question, _ word: String) throws(APIRefusal) -> [UInt8] {
    guard ["cause", "index", "day"].contains(word) else { throw APIRefusal(400, "'by' is cause, index or day") }
    var groups: [String: Group] = [:]
    let scanned = try scan(letters, from: try start(question), try selection(question.value("where"))) { view in
      let facts = view.facts
      let day = String(Timestamp(ns: view.entry.writtenNs).iso8601.prefix(10))
      let key =
        switch word {
        case "cause": "\(facts.stage)\u{0}\(facts.status ?? 0)\u{0}\(facts.type)"
        case "index": facts.index ?? ""
        default: day
        }
      var group =
        groups[key]
        ?? Group(
          write: {
            switch word {
            case "cause":
              $0.member("stage", facts.stage)
              if let status = facts.status { $0.member("status", status) }
              $0.member("type", facts.type)
            case "index": $0.null("index", or: facts.index)
            default: $0.member("day", day)
            }
          })
      if groups[key] == nil, groups.count >= Self.groupLimit { return false }
      if group.count == 0 { group.example = view.entry.position.description }
      group.count += 1
      group.firstNs = min(group.firstNs, view.entry.writtenNs)
      group.lastNs = max(group.lastNs, view.entry.writtenNs)
      groups[key] = group
      return true
    }
    return JSONText.object {
      $0.member("pipeline", letters.id)
      $0.list("groups", groups.sorted { ($1.value.count, $0.key) < ($0.value.count, $1.key) }.map(\.value)) {
        $1.write(&$0)
        $0.member("count", $1.count)
        $0.member("first", Timestamp(ns: $1.firstNs).iso8601)
        $0.member("last", Timestamp(ns: $1.lastNs).iso8601)
        $0.member("example", $1.example)
      }
      scanned.write(&$0)
    }
  }

  private func show(_ letters: Letters, _ name: String) throws(APIRefusal) -> [UInt8] {
    var out = ByteBuffer()
    let position = try position(name)
    _ = try scan(letters, from: position, LetterSelection()) { view in
      if view.entry.position == position { view.append(letters.id, to: &out) }
      return false
    }
    if out.isEmpty { throw APIRefusal(404, "there is no letter \(position); it may have been delivered since") }
    return out.array()
  }

  private func existing(_ letters: Letters, _ name: String) throws(APIRefusal) -> DeadLetterPosition {
    let position = try position(name)
    let scanned = try scan(letters, from: position, LetterSelection()) { _ in false }
    guard scanned.next == position else {
      throw APIRefusal(404, "there is no letter \(position); it may have been delivered since")
    }
    return position
  }

  private func export(_ letters: Letters, _ question: Question, _ request: HTTPRequest) throws(APIRefusal) {
    let selection = try selection(question.value("where"))
    let start = try start(question)
    let headers = [("Content-Type", "application/x-ndjson"), ("X-Content-Type-Options", "nosniff")]
    guard let stream = request.beginStream(HTTPResponse(200, headers: headers, body: [])) else { return }
    var out = ByteBuffer(capacity: 80 << 10)
    var isWhole = true
    do throws(APIRefusal) {
      let scanned = try scan(letters, from: start, selection, limit: nil) { view in
        view.append(letters.id, to: &out)
        out.append(10)
        guard out.count >= 64 << 10 else { return true }
        stream.write(out.array())
        out.removeAll()
        return stream.waitForRoom(below: 1 << 20, until: Instant.now + Self.stallTime)
      }
      isWhole = scanned.next == nil
    } catch {
      isWhole = false
    }
    // What is not whole must not look as if it were.
    guard isWhole else { return stream.abort() }
    stream.write(out.array())
    stream.end()
  }

  // MARK: Orders

  /// The letters that an order names; those that its condition or `all` means are looked for.
  private func positions(
    _ letters: Letters, _ wanted: LetterOrder, _ order: inout ReplayRequest
  ) throws(APIRefusal) -> Scanned {
    if wanted.condition == nil, !wanted.all {
      order.positions = wanted.letters
      return Scanned()
    }
    var found: [DeadLetterPosition] = []
    var selection = try selection(wanted.condition)
    selection.positions = Set(wanted.letters)
    let scanned = try scan(letters, from: wanted.from, selection) { view in
      guard found.count < Self.orderLetters else { return false }
      found.append(view.entry.position)
      return true
    }
    order.positions = found
    return scanned
  }

  private func hand(
    _ order: ReplayRequest, _ letters: Letters, _ scanned: Scanned, _ request: HTTPRequest, _ question: Question
  ) throws(APIRefusal) {
    if !order.positions.isEmpty {
      do { try order.hand(to: letters.folder) } catch {
        throw APIRefusal(500, "the order cannot be written to \(letters.folder): \(error)")
      }
      Log.info(
        "api.letters", "An order on dead letters came over the monitoring API.",
        [
          "pipeline": .text(letters.id), "action": .text(order.action.rawValue),
          "letters": .number(order.positions.count), "peer": .text(request.peer.description),
        ])
    }
    let body = JSONText.object {
      $0.member("acknowledged", true)
      $0.member("pipeline", letters.id)
      $0.member("letters", order.positions.count)
      scanned.write(&$0)
    }
    reply(request, question, body, status: 202)
  }

  private func replay(_ letters: Letters, _ request: HTTPRequest, _ question: Question) throws(APIRefusal) {
    let wanted = try LetterOrder(request.takeBody(), allowsMending: true)
    if let id = wanted.pipeline, !state.pipelines.contains(where: { $0.compiled.id == id }) {
      throw APIRefusal(404, "no pipeline '\(id.prefix(64))' runs here")
    }
    if wanted.isDryRun { return try dryRun(letters, wanted, request) }
    var order = ReplayRequest(.replay)
    order.pipeline = wanted.pipeline
    order.mending = wanted.mending
    let scanned = try positions(letters, wanted, &order)
    try hand(order, letters, scanned, request, question)
  }

  /// The events as they would be sent, a JSON object a line, up to 8 MiB of them.
  private func dryRun(_ letters: Letters, _ wanted: LetterOrder, _ request: HTTPRequest) throws(APIRefusal) {
    var selection = try selection(wanted.condition)
    selection.positions = Set(wanted.letters)
    let batch = EventBatch()
    let decoders = RecordDecoders()
    var out = ByteBuffer(capacity: 64 << 10)
    let scanned = try scan(letters, from: wanted.from, selection) { view in
      guard out.count < 8 << 20 else { return false }
      batch.removeAll()
      decoders.startBatch()
      let event = view.event(in: batch, decoders)
      if let complaint = wanted.mending.apply(to: event) {
        out.append("{\"letter\":")
        out.append(quoted: view.entry.position.description)
        out.append(",\"error\":")
        out.append(quoted: complaint)
        out.append("}\n")
      } else {
        event.appendJSON(to: &out)
        out.append(10)
      }
      return true
    }
    var headers = [("Content-Type", "application/x-ndjson"), ("X-Content-Type-Options", "nosniff")]
    if let next = scanned.next { headers.append(("X-Next-Letter", next.description)) }
    request.answer(HTTPResponse(200, headers: headers, body: out.array()))
  }
}

extension LetterView {
  /// What names the letter and its reason, as a JSON object.
  fileprivate func appendSummary(to out: inout ByteBuffer) {
    out.append("{\"letter\":")
    out.append(quoted: entry.position.description)
    out.append(",\"time\":\"")
    Timestamp(ns: entry.writtenNs).appendISO8601(to: &out)
    out.append("\",\"id\":")
    out.append(quoted: facts.eventID)
    facts.appendReason(to: &out)
    out.append("}")
  }
}

extension String {
  fileprivate var trimmed: String {
    var text = self[...]
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return String(text)
  }
  /// Where `text` stands first.
  fileprivate func range(of text: String) -> Range<String.Index>? {
    var at = startIndex
    while at < endIndex {
      if self[at...].hasPrefix(text) { return at..<index(at, offsetBy: text.count) }
      at = index(after: at)
    }
    return nil
  }
}
