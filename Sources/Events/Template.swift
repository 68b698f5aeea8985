//  sprintf: texts with placeholders, `%{field}`, `%{+yyyy.MM.dd}`, `%{{uuuu-MM-dd}}`. Compiled once.

public import Diagnostics
internal import Glibc

/// Why a template cannot be printed.
public struct TemplateError: Error, Equatable, Sendable, CustomStringConvertible {
  public let template: String
  public let reason: String
  public var description: String { "'\(template)' cannot be printed: \(reason)" }
}

/// A compiled text with placeholders. Immutable; any thread may use it.
public final class Template: @unchecked Sendable, Hashable, CustomStringConvertible {
  // unchecked: `bytes` is written in `init` alone
  private enum Part {
    case literal(start: Int, count: Int)
    case field(FieldReference, start: Int, count: Int)
    case joda(JodaFormat)
    case java(JavaTimeFormat)
    case epochSeconds
    case now
  }

  /// The template as it was written.
  public let description: String
  /// True when there is nothing to fill in.
  public let isConstant: Bool
  /// Why every use fails; the checker reports it at start.
  public let fault: TemplateError?

  private let parts: [Part]
  private let bytes: UnsafeMutablePointer<UInt8>
  private let byteCount: Int
  /// Set where the whole template is one field, whose value can be looked at as it is.
  public let soleField: FieldReference?

  public init(_ text: String) {
    description = text
    let source = Array(text.utf8)
    byteCount = source.count
    bytes = .allocate(capacity: source.count + 64)
    bytes.initialize(repeating: 0, count: source.count + 64)
    for (i, byte) in source.enumerated() { bytes[i] = byte }
    var parts: [Part] = []
    var reason: String?
    var literal = 0
    var i = 0
    while i + 1 < source.count {
      guard source[i] == 37, source[i + 1] == 123 else {
        i += 1
        continue
      }
      let isJava = i + 2 < source.count && source[i + 2] == 123
      guard let end = Template.end(of: source, from: i + 2, doubled: isJava) else {
        if isJava, source[(i + 2)...].contains(125) { reason = "the closing braces of '%{{' are missing" }
        break
      }
      if i > literal { parts.append(.literal(start: literal, count: i - literal)) }
      let inner = String(decoding: source[(isJava ? i + 3 : i + 2)..<end], as: UTF8.self)
      let after = end + (isJava ? 2 : 1)
      do {
        parts.append(try Template.part(inner, isJava: isJava, start: i, count: after - i))
      } catch {
        reason = reason ?? "\(error)"
      }
      i = after
      literal = i
    }
    if literal < source.count { parts.append(.literal(start: literal, count: source.count - literal)) }
    self.parts = parts
    fault = reason.map { TemplateError(template: text, reason: $0) }
    isConstant = reason == nil && parts.allSatisfy { if case .literal = $0 { true } else { false } }
    if parts.count == 1, case .field(let reference, _, _) = parts[0] { soleField = reference } else { soleField = nil }
  }

  /// The texts between the placeholders.
  public var literals: [UnsafeRawBufferPointer] {
    parts.compactMap { part in
      guard case .literal(let start, let count) = part else { return nil }
      return UnsafeRawBufferPointer(start: bytes + start, count: count)
    }
  }

  deinit { bytes.deallocate() }

  public static func == (left: Template, right: Template) -> Bool { left.description == right.description }
  public func hash(into hasher: inout Hasher) { hasher.combine(description) }

  /// The bytes of a constant template; they live as long as it does.
  public var constantBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: byteCount) }

  /// The fields it names.
  public var fields: [FieldReference] {
    parts.compactMap { if case .field(let reference, _, _) = $0 { reference } else { nil } }
  }

  private static func end(of source: [UInt8], from start: Int, doubled: Bool) -> Int? {
    var i = start
    while i < source.count {
      if source[i] == 125 {
        if !doubled { return i }
        if i + 1 < source.count, source[i + 1] == 125 { return i }
      }
      i += 1
    }
    return nil
  }

  private static func part(_ inner: String, isJava: Bool, start: Int, count: Int) throws -> Part {
    if isJava { return inner == "TIME_NOW" ? .now : .java(try JavaTimeFormat(inner)) }
    if inner.isEmpty || inner == "+" || inner == "+%s" { return .epochSeconds }
    if inner.utf8.first == 43 { return .joda(try JodaFormat(String(inner.dropFirst()))) }
    return .field(try FieldReference(inner), start: start, count: count)
  }

  /// Prints for `event`; a placeholder without a value stays as it is written.
  ///
  /// - Returns: False when a field, or the time that a date needs, was missing.
  @discardableResult
  public func append(_ event: Event, to out: inout ByteBuffer) throws(TemplateError) -> Bool {
    if let fault { throw fault }
    var isComplete = true
    for part in parts {
      switch part {
      case .literal(let start, let count): out.append(UnsafeRawPointer(bytes + start), count)
      case .field(let reference, let start, let count):
        if let value = event.value(reference), !value.isNull {
          value.appendText(to: &out)
        } else {
          out.append(UnsafeRawPointer(bytes + start), count)
          isComplete = false
        }
      case .joda(let format):
        if let time = event.timestamp { format.append(time, to: &out) } else { isComplete = false }
      case .java(let format):
        if let time = event.timestamp { format.append(time, to: &out) } else { isComplete = false }
      case .epochSeconds:
        if let time = event.timestamp { out.append(decimal: time.seconds) } else { isComplete = false }
      case .now: Timestamp(ns: WallClock.ns).appendISO8601(to: &out)
      }
    }
    return isComplete
  }

  /// The printed text as a value of the event's batch.
  public func bits(_ event: Event) throws(TemplateError) -> ValueBits {
    if isConstant { return .text(staying: constantBytes) }
    let scratch = event.arena.pointee.scratch
    scratch.pointee.removeAll()
    try append(event, to: &scratch.pointee)
    return event.makeText(scratch.pointee.bytes)
  }

  /// The printed text; for settings and logs.
  public func string(_ event: Event) throws(TemplateError) -> String {
    var out = ByteBuffer()
    try append(event, to: &out)
    return out.string()
  }
}
