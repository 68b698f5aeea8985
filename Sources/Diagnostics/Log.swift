//  The daemon's log: fixed sentences with facts as fields, one line each, on standard error.
//
//  A repeating fault is written once a minute and code, with the number of those in between. Foreign text is quoted and
//  cut, and no line is longer than 8 KiB. Event contents stay out of it.

internal import Glibc
internal import Synchronization

public enum Log {
  public enum Level: Int, Comparable, Sendable, CaseIterable {
    case trace, debug, info, warn, error

    public static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
    public init?(name: String) {
      switch name.lowercased() {
      case "trace": self = .trace
      case "debug": self = .debug
      case "info": self = .info
      case "warn": self = .warn
      case "error", "fatal": self = .error
      default: return nil
      }
    }
    public var name: String { "\(self)" }
  }

  public enum Format: String, Sendable { case plain, json }

  public static let lineLimitBytes = 8192
  public static let foreignLimitBytes = 256
  /// Longest text of a server's reason for a refusal.
  public static let reasonLimitBytes = 512

  private struct Recent { var since: Instant; var held: Int }
  private struct State {
    var level = Level.info
    var format = Format.plain
    var recent: [String: Recent] = [:]
    var sink: (@Sendable (String) -> Void)?
  }
  private static let state = Lock(State())
  private static let threshold = Atomic<Int>(Level.info.rawValue)

  public static func configure(level: Level, format: Format) {
    state.withLock {
      $0.level = level
      $0.format = format
    }
    threshold.store(level.rawValue, ordering: .relaxed)
  }

  /// Sends lines elsewhere; for tests.
  public static func redirect(to sink: (@Sendable (String) -> Void)?) { state.withLock { $0.sink = sink } }

  public static func isEnabled(_ level: Level) -> Bool { level.rawValue >= threshold.load(ordering: .relaxed) }

  /// A value of a log field.
  public enum Value: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByStringInterpolation
  {
    case text(String)
    case number(Int)
    public init(stringLiteral value: String) { self = .text(value) }
    public init(integerLiteral value: Int) { self = .number(value) }
  }

  public static func error(_ code: String, _ message: String, _ fields: KeyValuePairs<String, Value> = [:]) {
    write(.error, code, message, fields)
  }
  public static func warn(_ code: String, _ message: String, _ fields: KeyValuePairs<String, Value> = [:]) {
    write(.warn, code, message, fields)
  }
  public static func info(_ code: String, _ message: String, _ fields: KeyValuePairs<String, Value> = [:]) {
    write(.info, code, message, fields)
  }
  public static func debug(
    _ code: String, _ message: @autoclosure () -> String, _ fields: KeyValuePairs<String, Value> = [:]
  ) {
    if isEnabled(.debug) { write(.debug, code, message(), fields) }
  }

  /// What came of an operator's order: never held back, however often it is given.
  public static func outcome(
    _ level: Level, _ code: String, _ message: String, _ fields: KeyValuePairs<String, Value> = [:]
  ) {
    write(level, code, message, fields, mayStorm: false)
  }

  /// Text from outside, made safe for a line: cut to `limit` bytes, control characters as `\u00XX`.
  public static func foreign(_ text: String, limit: Int = foreignLimitBytes) -> Value {
    if text.utf8.count <= limit { return .text(text) }
    var cut = text.utf8.index(text.utf8.startIndex, offsetBy: limit)
    while cut > text.startIndex, cut.samePosition(in: text.unicodeScalars) == nil { cut = text.utf8.index(before: cut) }
    return .text(String(text[..<cut]) + "…")
  }

  private static func write(
    _ level: Level, _ code: String, _ message: String, _ fields: KeyValuePairs<String, Value>,
    mayStorm: Bool = true
  ) {
    guard isEnabled(level) else { return }
    let now = Instant.now
    // info confirms what the operator did; only warnings and errors can storm.
    let (allowed, held, format, sink) = state.withLock { state -> (Bool, Int, Format, (@Sendable (String) -> Void)?) in
      guard mayStorm, level >= .warn else { return (true, 0, state.format, state.sink) }
      if var recent = state.recent[code], now - recent.since < .seconds(60) {
        recent.held += 1
        state.recent[code] = recent
        return (false, 0, state.format, state.sink)
      }
      let held = state.recent[code]?.held ?? 0
      state.recent[code] = Recent(since: now, held: 0)
      return (true, held, state.format, state.sink)
    }
    guard allowed else { return }
    var buffer = ByteBuffer(capacity: 512)
    switch format {
    case .json: writeJSON(&buffer, level, code, message, fields, held)
    case .plain: writePlain(&buffer, level, code, message, fields, held)
    }
    if buffer.count > lineLimitBytes - 1 { buffer.count = lineLimitBytes - 1 }
    if let sink {
      sink(buffer.string())
      return
    }
    buffer.append(10)
    _ = Glibc.write(2, buffer.pointer, buffer.count)
  }

  private static func writePlain(
    _ out: inout ByteBuffer, _ level: Level, _ code: String, _ message: String, _ fields: KeyValuePairs<String, Value>,
    _ held: Int
  ) {
    appendTime(&out)
    out.append(text: " \(level.name.uppercased()) [\(code)] \(message)")
    for (key, value) in fields {
      out.append(text: " \(key)=")
      switch value {
      case .number(let n): out.append(decimal: n)
      case .text(let text): appendQuoted(&out, text, always: false)
      }
    }
    if held > 0 { out.append(text: " repeated=\(held)") }
  }

  private static func writeJSON(
    _ out: inout ByteBuffer, _ level: Level, _ code: String, _ message: String, _ fields: KeyValuePairs<String, Value>,
    _ held: Int
  ) {
    out.append("{\"time\":\"")
    appendTime(&out)
    out.append(text: "\",\"level\":\"\(level.name)\",\"code\":\"\(code)\",\"msg\":")
    appendQuoted(&out, message, always: true)
    for (key, value) in fields {
      out.append(text: ",\"\(key)\":")
      switch value {
      case .number(let n): out.append(decimal: n)
      case .text(let text): appendQuoted(&out, text, always: true)
      }
    }
    if held > 0 { out.append(text: ",\"repeated\":\(held)") }
    out.append("}")
  }

  private static func appendQuoted(_ out: inout ByteBuffer, _ text: String, always: Bool) {
    let plain = !text.isEmpty && text.utf8.allSatisfy { $0 > 32 && $0 != 34 && $0 != 92 && $0 != 127 }
    if plain, !always {
      out.append(text: text)
      return
    }
    out.append(34)
    for byte in text.utf8 {
      switch byte {
      case 34, 92:
        out.append(92)
        out.append(byte)
      case 10: out.append("\\n")
      case 9: out.append("\\t")
      case 13: out.append("\\r")
      case 0..<32, 127:
        out.append("\\u00")
        let digits = Array("0123456789abcdef".utf8)
        out.append(digits[Int(byte >> 4)])
        out.append(digits[Int(byte & 15)])
      default: out.append(byte)
      }
    }
    out.append(34)
  }

  private static func appendTime(_ out: inout ByteBuffer) {
    let ns = WallClock.ns
    var seconds = time_t(ns / 1_000_000_000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    out.append(decimal: Int(parts.tm_year) + 1900, width: 4)
    out.append(45)
    out.append(decimal: Int(parts.tm_mon) + 1, width: 2)
    out.append(45)
    out.append(decimal: Int(parts.tm_mday), width: 2)
    out.append(84)
    out.append(decimal: Int(parts.tm_hour), width: 2)
    out.append(58)
    out.append(decimal: Int(parts.tm_min), width: 2)
    out.append(58)
    out.append(decimal: Int(parts.tm_sec), width: 2)
    out.append(46)
    out.append(decimal: Int(ns / 1_000_000 % 1000), width: 3)
    out.append(90)
  }
}
