//  The values of a script. They outlive the batch that they came from, so they own their bytes, and lists and maps are
//  shared by reference, as the scripts' authors expect of Ruby.

internal import Diagnostics
internal import Events
internal import Glibc

/// Why a script stopped.
enum ScriptFailure: Error {
  case error(String)
  /// `return` or `next`: no mistake.
  case leave
}

/// What a script may build at most, so that no task can eat the memory.
enum ScriptLimit {
  static let elements = 100_000
  static let textBytes = 1 << 20
  static let depth = 64
  static let steps = 200_000
}

/// A value. Not thread-safe: lists and maps belong to one task, and whoever holds the task's lock.
enum ScriptValue {
  case null
  case boolean(Bool)
  case integer(Int64)
  case double(Double)
  case text([UInt8])
  case timestamp(Timestamp)
  case list(ScriptList)
  case map(ScriptMap)

  var isTrue: Bool {
    switch self {
    case .null: false
    case .boolean(let value): value
    default: true
    }
  }
  var isNull: Bool { if case .null = self { true } else { false } }
  var number: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }
  /// As messages name it.
  var kindName: String {
    switch self {
    case .null: "nil"
    case .boolean: "a boolean"
    case .integer, .double: "a number"
    case .text: "a text"
    case .timestamp: "a timestamp"
    case .list: "a list"
    case .map: "a map"
    }
  }
  var rubyClassNames: [String] {
    switch self {
    case .null: ["NilClass"]
    case .boolean(let value): [value ? "TrueClass" : "FalseClass"]
    case .integer: ["Integer", "Numeric"]
    case .double: ["Float", "Numeric"]
    case .text: ["String"]
    case .timestamp: ["Time", "Timestamp"]
    case .list: ["Array", "Enumerable"]
    case .map: ["Hash", "Enumerable"]
    }
  }
}

final class ScriptList {
  var elements: [ScriptValue]
  init(_ elements: [ScriptValue] = []) { self.elements = elements }

  func append(_ value: ScriptValue) throws(ScriptFailure) {
    guard elements.count < ScriptLimit.elements else { throw .error("a list grew beyond 100,000 elements") }
    elements.append(value)
  }
}

/// A map that keeps the order of its entries.
final class ScriptMap {
  private(set) var entries: [(key: [UInt8], value: ScriptValue)] = []
  /// Places by key, once there are many.
  private var places: [[UInt8]: Int] = [:]
  private static let indexedFrom = 16

  private func place(of key: [UInt8]) -> Int? {
    if entries.count < ScriptMap.indexedFrom { return entries.firstIndex { $0.key == key } }
    if places.count != entries.count {
      places = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.key, $0) })
    }
    return places[key]
  }

  subscript(key: [UInt8]) -> ScriptValue? { place(of: key).map { entries[$0].value } }

  func set(_ key: [UInt8], _ value: ScriptValue) throws(ScriptFailure) {
    if let place = place(of: key) {
      entries[place].value = value
      return
    }
    guard entries.count < ScriptLimit.elements else { throw .error("a map grew beyond 100,000 entries") }
    entries.append((key, value))
    if entries.count > ScriptMap.indexedFrom { places[key] = entries.count - 1 }
  }

  func remove(_ key: [UInt8]) -> ScriptValue? {
    guard let place = place(of: key) else { return nil }
    places.removeAll()
    return entries.remove(at: place).value
  }

  func removeAll() {
    entries.removeAll()
    places.removeAll()
  }
}

// MARK: To and from events

extension ScriptValue {
  /// A copy of an event's value.
  init(_ value: Value) {
    switch value.kind {
    case .null: self = .null
    case .boolean: self = .boolean(value.boolean ?? false)
    case .integer: self = .integer(value.integer ?? 0)
    case .double, .bigInteger: self = .double(value.number ?? 0)
    case .text: self = .text(value.text.map { Array($0) } ?? [])
    case .timestamp: self = value.timestamp.map { .timestamp($0) } ?? .null
    case .list:
      let list = ScriptList()
      var child = value.first
      while let element = child {
        list.elements.append(ScriptValue(element))
        child = element.next
      }
      self = .list(list)
    case .map: self = .map(ScriptMap(value))
    }
  }

  /// The value for a field of `event`.
  func bits(_ event: Event, depth: Int = 0) throws(ScriptFailure) -> ValueBits {
    guard depth < ScriptLimit.depth else { throw .error("values are nested more than 64 deep") }
    switch self {
    case .null: return .null
    case .boolean(let value): return .boolean(value)
    case .integer(let value): return .integer(value)
    case .double(let value): return .double(value)
    case .text(let bytes): return bytes.withUnsafeBytes { event.makeText($0) }
    case .timestamp(let time): return .timestamp(time)
    case .list(let list):
      let made = event.makeList()
      for element in list.elements { made.append(try element.bits(event, depth: depth + 1)) }
      return made.bits
    case .map(let map): return try map.value(event, depth: depth).bits
    }
  }
}

extension ScriptMap {
  /// A copy of an event's map.
  convenience init(_ value: Value) {
    self.init()
    var child = value.first
    while let member = child {
      try? set(Array(member.key.bytes), ScriptValue(member))
      child = member.next
    }
  }

  /// A map of `event`'s batch that stands nowhere yet.
  func value(_ event: Event, depth: Int = 0) throws(ScriptFailure) -> Value {
    let made = event.makeMap()
    for entry in entries {
      let bits = try entry.value.bits(event, depth: depth + 1)
      entry.key.withUnsafeBytes { made.set(name: $0, bits) }
    }
    return made
  }

  /// Puts the entries into a fresh event, as a document that arrives: `@timestamp` and `tags` count as such.
  func fill(_ event: Event) throws(ScriptFailure) {
    do {
      try event.merge(try value(event))
    } catch let failure as ScriptFailure {
      throw failure
    } catch {
      throw .error("an entry of the map cannot be a field of an event")
    }
  }
}

// MARK: Texts

extension ScriptValue {
  /// As Ruby's `to_s`.
  func appendText(to out: inout ByteBuffer) {
    switch self {
    case .null: break
    case .boolean(let value): value ? out.append("true") : out.append("false")
    case .integer(let value): out.append(decimal: value)
    case .double(let value): appendRubyDouble(value, to: &out)
    case .text(let bytes): out.append(contentsOf: bytes)
    case .timestamp(let time): time.appendISO8601(to: &out)
    case .list, .map: appendInspected(to: &out, depth: 0)
    }
  }

  private func appendInspected(to out: inout ByteBuffer, depth: Int) {
    guard depth < ScriptLimit.depth else { return out.append("...") }
    switch self {
    case .null: out.append("nil")
    case .text(let bytes): bytes.withUnsafeBytes { appendInspectedText($0, to: &out) }
    case .list(let list):
      out.append(91)
      for (i, element) in list.elements.enumerated() {
        if i > 0 { out.append(", ") }
        element.appendInspected(to: &out, depth: depth + 1)
      }
      out.append(93)
    case .map(let map):
      out.append(123)
      for (i, entry) in map.entries.enumerated() {
        if i > 0 { out.append(", ") }
        entry.key.withUnsafeBytes { appendInspectedText($0, to: &out) }
        out.append("=>")
        entry.value.appendInspected(to: &out, depth: depth + 1)
      }
      out.append(125)
    default: appendText(to: &out)
    }
  }

  var textBytes: [UInt8] {
    if case .text(let bytes) = self { return bytes }
    var out = ByteBuffer()
    appendText(to: &out)
    return out.array()
  }

  /// As JSON, with timestamps as maps of the one entry `$timestamp`; `init(stored:)` reads it back.
  func appendStored(to out: inout ByteBuffer, depth: Int = 0) throws(ScriptFailure) {
    guard depth < ScriptLimit.depth else { throw .error("values are nested more than 64 deep") }
    switch self {
    case .null: out.append("null")
    case .text(let bytes): bytes.withUnsafeBytes { appendQuoted($0, to: &out) }
    case .double(let value): value.isFinite ? out.append(text: "\(value)") : out.append("null")
    case .timestamp:
      out.append("{\"$timestamp\":\"")
      appendText(to: &out)
      out.append("\"}")
    case .list(let list):
      out.append(91)
      for (i, element) in list.elements.enumerated() {
        if i > 0 { out.append(44) }
        try element.appendStored(to: &out, depth: depth + 1)
      }
      out.append(93)
    case .map(let map):
      out.append(123)
      for (i, entry) in map.entries.enumerated() {
        if i > 0 { out.append(44) }
        entry.key.withUnsafeBytes { appendQuoted($0, to: &out) }
        out.append(58)
        try entry.value.appendStored(to: &out, depth: depth + 1)
      }
      out.append(125)
    default: appendText(to: &out)
    }
  }

  init(stored value: Value) {
    switch value.kind {
    case .list:
      let list = ScriptList()
      var child = value.first
      while let element = child {
        list.elements.append(ScriptValue(stored: element))
        child = element.next
      }
      self = .list(list)
    case .map:
      if value.count == 1, let text = value["$timestamp"]?.text, let time = Timestamp(arriving: text) {
        self = .timestamp(time)
        return
      }
      let map = ScriptMap()
      var child = value.first
      while let member = child {
        try? map.set(Array(member.key.bytes), ScriptValue(stored: member))
        child = member.next
      }
      self = .map(map)
    default: self = ScriptValue(value)
    }
  }
}

// MARK: Comparing and counting

extension ScriptValue {
  func equals(_ other: ScriptValue, depth: Int = 0) -> Bool {
    guard depth < ScriptLimit.depth else { return false }
    switch (self, other) {
    case (.null, .null): return true
    case (.boolean(let a), .boolean(let b)): return a == b
    case (.integer(let a), .integer(let b)): return a == b
    case (.text(let a), .text(let b)): return a == b
    case (.timestamp(let a), .timestamp(let b)): return a == b
    case (.list(let a), .list(let b)):
      return a === b
        || a.elements.count == b.elements.count
          && zip(a.elements, b.elements).allSatisfy { $0.equals($1, depth: depth + 1) }
    case (.map(let a), .map(let b)):
      return a === b
        || a.entries.count == b.entries.count
          && a.entries.allSatisfy { b[$0.key]?.equals($0.value, depth: depth + 1) ?? false }
    default:
      guard let a = number, let b = other.number else { return false }
      return a == b
    }
  }

  /// -1, 0 or 1; nil where the two have no order.
  func compared(to other: ScriptValue) -> Int? {
    switch (self, other) {
    case (.integer(let a), .integer(let b)): return a < b ? -1 : a == b ? 0 : 1
    case (.text(let a), .text(let b)): return a.lexicographicallyPrecedes(b) ? -1 : a == b ? 0 : 1
    case (.timestamp(let a), .timestamp(let b)): return a < b ? -1 : a == b ? 0 : 1
    default:
      guard let a = number, let b = other.number, !a.isNaN, !b.isNaN else { return nil }
      return a < b ? -1 : a == b ? 0 : 1
    }
  }
}

/// The operators of two values.
enum ScriptOperator: String, Sendable {
  case plus = "+"
  case minus = "-"
  case times = "*"
  case divide = "/"
  case modulo = "%"
  case power = "**"
  case append = "<<"
  case equal = "=="
  case unequal = "!="
  case less = "<"
  case lessOrEqual = "<="
  case greater = ">"
  case greaterOrEqual = ">="
  case order = "<=>"

  func apply(_ left: ScriptValue, _ right: ScriptValue) throws(ScriptFailure) -> ScriptValue {
    switch self {
    case .equal: return .boolean(left.equals(right))
    case .unequal: return .boolean(!left.equals(right))
    case .order: return left.compared(to: right).map { .integer(Int64($0)) } ?? .null
    case .less, .lessOrEqual, .greater, .greaterOrEqual:
      guard let order = left.compared(to: right) else {
        throw .error("'\(rawValue)' cannot compare \(left.kindName) with \(right.kindName)")
      }
      switch self {
      case .less: return .boolean(order < 0)
      case .lessOrEqual: return .boolean(order <= 0)
      case .greater: return .boolean(order > 0)
      default: return .boolean(order >= 0)
      }
    case .append: return try appended(left, right)
    case .plus, .minus, .times, .divide, .modulo, .power: return try calculated(left, right)
    }
  }

  private func appended(_ left: ScriptValue, _ right: ScriptValue) throws(ScriptFailure) -> ScriptValue {
    guard case .list(let list) = left else { throw misfit(left, right) }
    try list.append(right)
    return left
  }

  private func misfit(_ left: ScriptValue, _ right: ScriptValue) -> ScriptFailure {
    .error("'\(rawValue)' does not go with \(left.kindName) and \(right.kindName)")
  }

  private func calculated(_ left: ScriptValue, _ right: ScriptValue) throws(ScriptFailure) -> ScriptValue {
    switch (left, right) {
    case (.integer(let a), .integer(let b)):
      if let whole = try whole(a, b) { return .integer(whole) }
      return .double(real(Double(a), Double(b)))
    case (.integer, .double), (.double, .integer), (.double, .double):
      return .double(real(left.number ?? 0, right.number ?? 0))
    case (.text(let a), .text(let b)) where self == .plus:
      guard a.count + b.count <= ScriptLimit.textBytes else { throw .error("a text grew beyond 1 MiB") }
      return .text(a + b)
    case (.text(let a), .integer(let n)) where self == .times:
      guard n >= 0, n == 0 || a.count <= ScriptLimit.textBytes / Int(clamping: n) else {
        throw .error("a text grew beyond 1 MiB")
      }
      return .text(Array(repeatElement(a, count: Int(n)).joined()))
    case (.list(let a), .list(let b)) where self == .plus:
      guard a.elements.count + b.elements.count <= ScriptLimit.elements else {
        throw .error("a list grew beyond 100,000 elements")
      }
      return .list(ScriptList(a.elements + b.elements))
    case (.list(let a), .list(let b)) where self == .minus:
      guard a.elements.count <= 1000 || b.elements.count <= 1000 else { throw .error("the lists are too long for '-'") }
      return .list(ScriptList(a.elements.filter { element in !b.elements.contains { $0.equals(element) } }))
    case (.timestamp(let a), .timestamp(let b)) where self == .minus: return .double(a.seconds(since: b))
    case (.timestamp(let time), .integer), (.timestamp(let time), .double):
      guard self == .plus || self == .minus, let seconds = right.number, abs(seconds) < 1e15 else {
        throw misfit(left, right)
      }
      return .timestamp(time.advanced(by: self == .plus ? seconds : -seconds))
    default: throw misfit(left, right)
    }
  }

  /// Whole numbers stay whole; nil where the result does not fit.
  private func whole(_ a: Int64, _ b: Int64) throws(ScriptFailure) -> Int64? {
    let result: (Int64, Bool)
    switch self {
    case .plus: result = a.addingReportingOverflow(b)
    case .minus: result = a.subtractingReportingOverflow(b)
    case .times: result = a.multipliedReportingOverflow(by: b)
    case .divide, .modulo:
      guard b != 0 else { throw .error("division by zero") }
      // The quotient is rounded down, and the rest has the divisor's sign.
      if b == -1 { return self == .modulo ? 0 : a == .min ? nil : -a }
      let rest = a % b
      let isOff = rest != 0 && (rest < 0) != (b < 0)
      return self == .divide ? a / b - (isOff ? 1 : 0) : rest + (isOff ? b : 0)
    default:
      let power = pow(Double(a), Double(b))
      return b >= 0 && power.magnitude < 9e15 ? Int64(power) : nil
    }
    return result.1 ? nil : result.0
  }

  private func real(_ a: Double, _ b: Double) -> Double {
    switch self {
    case .plus: return a + b
    case .minus: return a - b
    case .times: return a * b
    case .divide: return a / b
    case .modulo:
      let rest = fmod(a, b)
      return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest
    default: return pow(a, b)
    }
  }
}

extension Timestamp {
  /// Seconds from `other` to this moment.
  func seconds(since other: Timestamp) -> Double {
    var nanos = Int64(self.nanos) - Int64(other.nanos)
    var (seconds, isFar) = self.seconds.subtractingReportingOverflow(other.seconds)
    if isFar { return Double(self.seconds) - Double(other.seconds) }
    // Both parts of one sign, so that nothing cancels out.
    if seconds > 0, nanos < 0 {
      seconds -= 1
      nanos += 1_000_000_000
    } else if seconds < 0, nanos > 0 {
      seconds += 1
      nanos -= 1_000_000_000
    }
    return Double(seconds) + Double(nanos) / 1e9
  }

  /// - Parameter seconds: Below 10^15 in magnitude.
  func advanced(by seconds: Double) -> Timestamp {
    let whole = seconds.rounded(.down)
    let nanos = Int64(self.nanos) + Int64(((seconds - whole) * 1e9).rounded())
    return Timestamp(
      seconds: self.seconds &+ Int64(whole) &+ nanos / 1_000_000_000, nanos: UInt32(nanos % 1_000_000_000))
  }

  /// Seconds since 1970.
  var secondsValue: Double { seconds(since: Timestamp(seconds: 0)) }
}
