//  The `threat_score` filter: how much an event looks like an attack, by the rules of a file and by what was seen lately
//  of its address and user.

internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
internal import PluginKit

struct ThreatScoreFilter: FilterPlugin {
  static let manual = Manual(
    name: "threat_score",
    summary: "Scores how much an event looks like an attack.",
    details: """
      The score is the sum of the weights of the rules that an event matches, at most 100. Every event gets \
      `threat_score`, `threat_level` (none 0, low from 1, medium 30, high 60, critical 80) and `security_event` (true from \
      medium on, and where the event says so of itself). Where a rule matched, `threat_type` is the type of the strongest \
      one and `threat_types` lists all.

      Rules look at path, query, user agent, headers and message after all encoding is undone, at method, status and the \
      size of the body, and count in sliding windows per address and per user. Windows are shared by the pipeline's \
      workers, follow the events' own time, and are bounded. Each option that names fields takes the first that an event \
      has.
      """,
    examples: [
      Example(
        "An injection, percent-encoded", config: "{}",
        input: #"{"path": "/search?q=1%27%20OR%20%271%27%3D%271", "method": "GET", "status_code": 200}"#,
        output: #"{"path": "/search?q=1%27%20OR%20%271%27%3D%271", "method": "GET", "status_code": 200, "#
          + #""threat_score": 60, "threat_level": "high", "security_event": true, "threat_type": "sql_injection", "#
          + #""threat_types": ["sql_injection"]}"#)
    ])

  struct Settings: PluginSettings {
    var rules: FilePath?
    var window: Duration?
    var allow: [String] = []
    var keys = 65_536
    var path: [FieldReference] = [.known("path"), .known("request")]
    var query: [FieldReference] = [.known("query_string")]
    var method: [FieldReference] = [.known("method"), .known("verb")]
    var status: [FieldReference] = [.known("status_code"), .known("response")]
    var address: [FieldReference] = [.known("client_ip"), .known("clientip")]
    var user: [FieldReference] = [.known("user_id"), .known("username"), .known("user")]
    var userAgent: [FieldReference] = [.known("[user_agent][original]"), .known("user_agent"), .known("agent")]
    var country: [FieldReference] = [.known("[geoip][country_code2]"), .known("[geoip][country_iso_code]")]
    var message: [FieldReference] = [.known("message")]
    var headers: [FieldReference] = [.known("headers"), .known("referrer")]
    var event: [FieldReference] = [.known("event_type")]
    var bodyBytes: [FieldReference] = [.known("request_size"), .known("content_length")]

    static let options: [Option<Settings>] = [
      .option("rules", \.rules, "The file of rules.", defaultText: "threat-rules.yml in the configuration's folder"),
      .option(
        "window", \.window, "Replaces the length of the windows in which failures are counted.", unit: .seconds,
        defaultText: "each rule's own",
        check: { window in
          guard let window else { return nil }
          return window >= .seconds(1) && window <= .seconds(604_800) ? nil : "must be from 1s to 7d"
        }),
      .option("allow", \.allow, "Networks and users that are never scored, beside those of the file."),
      .option(
        "keys_max", \.keys, "Most addresses or users that one window remembers; the longest idle go first.",
        in: 1024...10_000_000),
      .option("path", \.path, "Fields with the request's path, with or without its query."),
      .option("query", \.query, "Fields with the query where it stands apart."),
      .option("method", \.method, "Fields with the request's method."),
      .option("status", \.status, "Fields with the response's status."),
      .option("client_ip", \.address, "Fields with the client's address."),
      .option("user", \.user, "Fields that name the user."),
      .option("user_agent", \.userAgent, "Fields with the user agent's text."),
      .option("country", \.country, "Fields with the country of the client's address."),
      .option("message", \.message, "Fields with the event's text."),
      .option("headers", \.headers, "Fields with the request's headers: a text, or a map of texts."),
      .option("event", \.event, "Fields that tell the kind of event, such as login_failed."),
      .option("body_bytes", \.bodyBytes, "Fields with the size of the request's body."),
    ]
  }

  fileprivate let settings: Settings
  fileprivate let rules: ThreatRules?
  fileprivate let windows: ThreatWindows?

  init(_ settings: Settings, _ context: FilterContext) throws {
    self.settings = settings
    let services = context.services
    guard services.resolves else {
      rules = nil
      windows = nil
      return
    }
    let path = settings.rules.map { services.path($0.text) } ?? services.configFolder + "/threat-rules.yml"
    let problems = Problems()
    let bytes: [UInt8]
    do {
      bytes = try services.read(path, limitBytes: 8 << 20)
    } catch {
      throw BuildFailure(
        "rules", "the threat rules '\(path)' cannot be read: \(error.reason)", code: "threat.rules-missing",
        hint: settings.rules == nil
          ? "the file is looked for beside the settings; name these with -c, or give the rules' path as 'rules'"
          : "give the path of a rules file; one ships as config/threat-rules.yml")
    }
    let within = settings.window.map { UInt32(clamping: $0.components.seconds) }
    guard
      let rules = ThreatRules.read(bytes, file: path, within: within, allow: settings.allow, problems: problems)
    else {
      throw BuildFailure(
        "rules", problems.sorted.map(\.description).joined(separator: "; "), code: "threat.bad-rule")
    }
    self.rules = rules
    windows = ThreatWindows(rules, keysMax: settings.keys)
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private static let score = FieldReference.known("threat_score")
    private static let level = FieldReference.known("threat_level")
    private static let security = FieldReference.known("security_event")
    private static let type = FieldReference.known("threat_type")
    private static let types = FieldReference.known("threat_types")
    private static let headerBytesMax = 8192
    private static let anonymousNames: [StaticString] = ["AnonymousUser", "anonymous", "None", "null"]

    private let fields: Settings
    private let scorer: ThreatScorer?
    private var userText = ByteBuffer(capacity: 64)
    private var headerText = ByteBuffer(capacity: 64)

    init(_ plugin: ThreatScoreFilter) {
      fields = plugin.settings
      scorer = if let rules = plugin.rules, let windows = plugin.windows { ThreatScorer(rules, windows) } else { nil }
    }

    func process(_ batch: FilterBatch) {
      guard let scorer else { return }
      scorer.begin()
      for index in batch.selection where !batch.events[index].isCancelled { scorer.add(request(batch.events[index])) }
      scorer.finish()
      var number = 0
      batch.forEach { event in
        let verdict = scorer.verdict(number)
        number += 1
        return write(verdict, event)
      }
    }

    private func first(_ references: [FieldReference], _ event: Event) -> Value? {
      for reference in references { if let value = event.value(reference), !value.isNull { return value } }
      return nil
    }

    private func text(_ references: [FieldReference], _ event: Event) -> UnsafeRawBufferPointer {
      for reference in references { if let text = event.peek(reference)?.text { return text } }
      return UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// A whole number, also where it is written as a text; 0 where there is none.
    private func number(_ references: [FieldReference], _ event: Event) -> Int {
      guard let value = first(references, event) else { return 0 }
      if let integer = value.integer { return Int(integer) }
      guard let text = value.text, text.count <= 18 else {
        return value.number.flatMap { Int(exactly: $0.rounded()) } ?? 0
      }
      var result = 0
      for byte in text {
        guard byte &- 48 < 10 else { return 0 }
        result = result * 10 + Int(byte &- 48)
      }
      return result
    }

    private func request(_ event: Event) -> ThreatRequest {
      var request = ThreatRequest()
      request.path = text(fields.path, event)
      request.query = text(fields.query, event)
      request.method = text(fields.method, event)
      request.userAgent = text(fields.userAgent, event)
      request.message = text(fields.message, event)
      request.event = text(fields.event, event)
      request.country = text(fields.country, event)
      request.headers = headers(event)
      request.user = user(event)
      request.address = IPAddress(text(fields.address, event))
      request.status = number(fields.status, event)
      request.bodyBytes = number(fields.bodyBytes, event)
      request.time = (event.timestamp ?? event.arrival).seconds
      return request
    }

    private func user(_ event: Event) -> UnsafeRawBufferPointer {
      let nobody = UnsafeRawBufferPointer(start: nil, count: 0)
      guard let value = first(fields.user, event), !value.isMap, !value.isList else { return nobody }
      if let text = value.text {
        // Web servers and frameworks name nobody so.
        let isNobody = text.count == 1 && text[0] == UInt8(ascii: "-") || isAnonymous(text)
        return isNobody ? nobody : text
      }
      userText.removeAll()
      value.appendText(to: &userText)
      return userText.bytes
    }

    private func isAnonymous(_ text: UnsafeRawBufferPointer) -> Bool {
      Worker.anonymousNames.contains { name in
        text.count == name.utf8CodeUnitCount
          && equal(text, UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
      }
    }

    /// The texts of a map of headers in one, a line each.
    private func headers(_ event: Event) -> UnsafeRawBufferPointer {
      guard let value = first(fields.headers, event) else { return UnsafeRawBufferPointer(start: nil, count: 0) }
      if let text = value.text { return text }
      guard value.isMap else { return UnsafeRawBufferPointer(start: nil, count: 0) }
      headerText.removeAll()
      var next = value.first
      while let member = next, headerText.count < Worker.headerBytesMax {
        next = member.next
        guard let text = member.text else { continue }
        headerText.append(UnsafeRawBufferPointer(rebasing: text.prefix(Worker.headerBytesMax)))
        headerText.append(UInt8(ascii: "\n"))
      }
      return headerText.bytes
    }

    private func write(_ verdict: ThreatVerdict, _ event: Event) -> Bool {
      do {
        try event.set(Worker.score, .integer(verdict.score))
        try event.set(Worker.level, verdict.level.text)
        // An application's own word stands: what it calls a security event need not match a rule.
        let isTold = event.peek(Worker.security)?.boolean == true
        try event.set(Worker.security, .boolean(verdict.isSecurityEvent || isTold))
        guard let type = verdict.type else { return true }
        try event.set(Worker.type, type.text)
        let list = event.makeList()
        for (ordinal, type) in ThreatType.allCases.enumerated() where verdict.types >> UInt32(ordinal) & 1 == 1 {
          list.append(type.text)
        }
        try event.set(Worker.types, list.bits)
        return true
      } catch {
        return false
      }
    }
  }
}

extension ThreatLevel {
  fileprivate var text: ValueBits {
    switch self {
    case .none: .text("none")
    case .low: .text("low")
    case .medium: .text("medium")
    case .high: .text("high")
    case .critical: .text("critical")
    }
  }
}

extension ThreatType {
  fileprivate var text: ValueBits {
    switch self {
    case .authenticationFailed: .text("authentication_failed")
    case .bruteForce: .text("brute_force")
    case .credentialStuffing: .text("credential_stuffing")
    case .sqlInjection: .text("sql_injection")
    case .xss: .text("xss")
    case .pathTraversal: .text("path_traversal")
    case .commandInjection: .text("command_injection")
    case .scanner: .text("scanner")
    case .badAgent: .text("bad_agent")
    case .tokenProbe: .text("token_probe")
    case .impossibleTravel: .text("impossible_travel")
    case .unusualMethod: .text("unusual_method")
    case .largeBody: .text("large_body")
    case .errorBurst: .text("error_burst")
    }
  }
}
