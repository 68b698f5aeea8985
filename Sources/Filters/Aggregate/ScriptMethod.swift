//  The methods of a script's values, by their Ruby names.

internal import Diagnostics
internal import Events
internal import Glibc

enum ScriptMethod: String, CaseIterable, Sendable {
  case isNil = "nil?"
  case isEmpty = "empty?"
  case isZero = "zero?"
  case isA = "is_a?"
  case length, size, count
  case toInteger = "to_i"
  case toFloat = "to_f"
  case toText = "to_s"
  case toList = "to_a"
  case toSymbol = "to_sym"
  case dup
  case includes = "include?"
  case hasKey = "key?"
  case hasKeyLong = "has_key?"
  case hasValue = "value?"
  case keys, values, first, last, push, unshift, pop, shift, concat, uniq, sort, reverse, max, min, sum, join, compact
  case flatten, split, upcase, downcase, capitalize, strip
  case startsWith = "start_with?"
  case endsWith = "end_with?"
  case sub, gsub, delete, clear, merge
  case mergeInPlace = "merge!"
  case update, dig, fetch, round, floor, ceil, abs
  case each
  case eachWithIndex = "each_with_index"
  case mapped = "map"
  case select, reject, find
  case any = "any?"
  case all = "all?"
  case none = "none?"
  case time

  private static let aliases: [String: ScriptMethod] = [
    "collect": .mapped, "filter": .select, "append": .push, "member?": .includes, "kind_of?": .isA,
    "each_pair": .each, "clone": .dup, "detect": .find, "prepend": .unshift,
  ]
  static let names = allCases.map(\.rawValue) + aliases.keys

  init?(rubyName: String) {
    guard let method = ScriptMethod(rawValue: rubyName) ?? ScriptMethod.aliases[rubyName] else { return nil }
    self = method
  }

  enum Block { case none, optional, required }

  var block: Block {
    switch self {
    case .each, .eachWithIndex, .mapped, .select, .reject, .find: .required
    case .any, .all, .none, .count, .sum: .optional
    default: .none
    }
  }

  var argumentCounts: ClosedRange<Int> {
    switch self {
    case .includes, .hasKey, .hasKeyLong, .hasValue, .startsWith, .endsWith, .delete, .merge, .mergeInPlace, .update,
      .concat, .isA:
      1...1
    case .push, .unshift, .dig: 1...16
    case .sub, .gsub: 2...2
    case .fetch: 1...2
    case .join, .split, .first, .last, .round: 0...1
    default: 0...0
    }
  }

  private func misfit(_ value: ScriptValue) -> ScriptFailure {
    .error("\(value.kindName) has no method '\(rawValue)'")
  }

  /// Calls the method without a block.
  func call(_ value: ScriptValue, _ arguments: [ScriptValue]) throws(ScriptFailure) -> ScriptValue {
    switch self {
    case .isNil: return .boolean(value.isNull)
    case .toText: return .text(value.textBytes)
    case .isA:
      guard case .text(let name) = arguments[0] else { throw misfit(value) }
      return .boolean(value.rubyClassNames.contains(String(decoding: name, as: UTF8.self)))
    case .dup: return copied(value)
    case .toInteger, .toFloat: return try converted(value)
    default: break
    }
    switch value {
    case .null:
      if self == .toList { return .list(ScriptList()) }
      throw misfit(value)
    case .integer, .double: return try numeric(value, arguments)
    case .text(let bytes): return try textual(bytes, arguments)
    case .list(let list): return try listed(list, arguments)
    case .map(let map): return try mapped(map, arguments)
    case .timestamp:
      if self == .time { return value }
      throw misfit(value)
    case .boolean: throw misfit(value)
    }
  }

  private func copied(_ value: ScriptValue) -> ScriptValue {
    switch value {
    case .list(let list): return .list(ScriptList(list.elements))
    case .map(let map):
      let copy = ScriptMap()
      for entry in map.entries { try? copy.set(entry.key, entry.value) }
      return .map(copy)
    default: return value
    }
  }

  /// `to_i` and `to_f`: of a text the number that it begins with, else 0.
  private func converted(_ value: ScriptValue) throws(ScriptFailure) -> ScriptValue {
    let number: Double
    switch value {
    case .null: return self == .toInteger ? .integer(0) : .double(0)
    case .integer(let whole): return self == .toInteger ? value : .double(Double(whole))
    case .double(let double): number = double
    case .timestamp(let time):
      return self == .toInteger ? .integer(time.seconds) : .double(time.secondsValue)
    case .text(let bytes):
      let text = ScriptMethod.numberPrefix(of: bytes, fraction: self == .toFloat)
      if self == .toInteger { return .integer(Int64(text) ?? 0) }
      return .double(Double(text) ?? 0)
    default: throw misfit(value)
    }
    if self == .toFloat { return .double(number) }
    guard number.magnitude < 9.2e18 else { throw .error("a number is too large to be whole") }
    return .integer(Int64(number))
  }

  private static func numberPrefix(of bytes: [UInt8], fraction: Bool) -> String {
    var rest = bytes.drop { $0 == 32 || $0 &- 9 < 5 }
    var kept: [UInt8] = []
    if rest.first == 45 || rest.first == 43 { kept.append(rest.removeFirst()) }
    var hasPoint = false
    var hasExponent = false
    while let byte = rest.first {
      if byte &- 48 < 10 {
        kept.append(byte)
      } else if fraction, byte == 46, !hasPoint, !hasExponent, rest.dropFirst().first.map({ $0 &- 48 < 10 }) ?? false {
        hasPoint = true
        kept.append(byte)
      } else if fraction, byte | 32 == 101, !hasExponent, !kept.isEmpty,
        rest.dropFirst().first.map({ $0 &- 48 < 10 || $0 == 45 || $0 == 43 }) ?? false
      {
        hasExponent = true
        kept.append(byte)
        if let sign = rest.dropFirst().first, sign == 45 || sign == 43 {
          kept.append(sign)
          rest.removeFirst()
        }
      } else if byte != 95 {
        break
      }
      rest.removeFirst()
    }
    if let last = kept.last, !(last &- 48 < 10) { kept.removeLast() }
    return String(decoding: kept, as: UTF8.self)
  }

  private func numeric(_ value: ScriptValue, _ arguments: [ScriptValue]) throws(ScriptFailure) -> ScriptValue {
    let number = value.number ?? 0
    switch self {
    case .isZero: return .boolean(number == 0)
    case .abs:
      if case .integer(let whole) = value { return whole == .min ? .double(-number) : .integer(Swift.abs(whole)) }
      return .double(Swift.abs(number))
    case .round, .floor, .ceil:
      if case .integer = value { return value }
      var digits = 0
      if let argument = arguments.first {
        guard case .integer(let wanted) = argument, (0...15).contains(wanted) else {
          throw .error("'round' takes 0 to 15 digits")
        }
        digits = Int(wanted)
      }
      let rule: FloatingPointRoundingRule =
        self == .round ? .toNearestOrAwayFromZero : self == .floor ? .down : .up
      if digits > 0 {
        let scale = pow(10, Double(digits))
        let scaled = (number * scale).rounded(rule) / scale
        return .double(scaled.isFinite ? scaled : number)
      }
      let whole = number.rounded(rule)
      guard whole.magnitude < 9.2e18 else { throw .error("a number is too large to be whole") }
      return .integer(Int64(whole))
    default: throw misfit(value)
    }
  }

  // MARK: Texts

  private func textual(_ bytes: [UInt8], _ arguments: [ScriptValue]) throws(ScriptFailure) -> ScriptValue {
    func argument(_ i: Int) throws(ScriptFailure) -> [UInt8] {
      guard case .text(let text) = arguments[i] else {
        throw .error("'\(rawValue)' takes a text, not \(arguments[i].kindName)")
      }
      return text
    }
    switch self {
    case .isEmpty: return .boolean(bytes.isEmpty)
    case .length, .size: return .integer(Int64(bytes.reduce(0) { $0 + ($1 & 0xc0 == 0x80 ? 0 : 1) }))
    case .toSymbol: return .text(bytes)
    case .includes: return .boolean(ScriptMethod.offset(of: try argument(0), in: bytes[...]) != nil)
    case .startsWith: return .boolean(bytes.starts(with: try argument(0)))
    case .endsWith: return .boolean(bytes.reversed().starts(with: try argument(0).reversed()))
    case .upcase: return .text(Array(String(decoding: bytes, as: UTF8.self).uppercased().utf8))
    case .downcase: return .text(Array(String(decoding: bytes, as: UTF8.self).lowercased().utf8))
    case .capitalize:
      let text = String(decoding: bytes, as: UTF8.self)
      return .text(Array((text.prefix(1).uppercased() + text.dropFirst().lowercased()).utf8))
    case .strip:
      let isBlank: (UInt8) -> Bool = { $0 == 32 || $0 &- 9 < 5 || $0 == 0 }
      let front = bytes.drop(while: isBlank)
      return .text(Array(front.prefix(front.count - front.reversed().prefix(while: isBlank).count)))
    case .reverse: return .text(Array(String(String.UnicodeScalarView(scalars(bytes).reversed())).utf8))
    case .split: return .list(try split(bytes, arguments.isEmpty ? [32] : try argument(0)))
    case .sub, .gsub: return .text(try replaced(bytes, try argument(0), try argument(1)))
    default: throw misfit(.text(bytes))
    }
  }

  private func scalars(_ bytes: [UInt8]) -> String.UnicodeScalarView {
    String(decoding: bytes, as: UTF8.self).unicodeScalars
  }

  private static func offset(of wanted: [UInt8], in bytes: ArraySlice<UInt8>) -> Int? {
    if wanted.isEmpty { return bytes.startIndex }
    return bytes.withUnsafeBytes { text in
      wanted.withUnsafeBytes { Filters.find($0, in: text, from: 0).map { $0 + bytes.startIndex } }
    }
  }

  /// At a text; a single blank stands for any white space. Empty pieces at the end are left out.
  private func split(_ bytes: [UInt8], _ separator: [UInt8]) throws(ScriptFailure) -> ScriptList {
    let list = ScriptList()
    if separator == [32] {
      for piece in bytes.split(whereSeparator: { $0 == 32 || $0 &- 9 < 5 }) { try list.append(.text(Array(piece))) }
      return list
    }
    if separator.isEmpty {
      for scalar in scalars(bytes) { try list.append(.text(Array(String(scalar).utf8))) }
      return list
    }
    var rest = bytes[...]
    while let found = ScriptMethod.offset(of: separator, in: rest) {
      try list.append(.text(Array(rest[..<found])))
      rest = rest[(found + separator.count)...]
    }
    try list.append(.text(Array(rest)))
    while case .text(let last)? = list.elements.last, last.isEmpty { list.elements.removeLast() }
    return list
  }

  private func replaced(_ bytes: [UInt8], _ wanted: [UInt8], _ other: [UInt8]) throws(ScriptFailure) -> [UInt8] {
    guard !wanted.isEmpty else { throw .error("'\(rawValue)' takes a text that is not empty") }
    var result: [UInt8] = []
    var rest = bytes[...]
    while let found = ScriptMethod.offset(of: wanted, in: rest) {
      result += rest[..<found] + other
      guard result.count <= ScriptLimit.textBytes else { throw .error("a text grew beyond 1 MiB") }
      rest = rest[(found + wanted.count)...]
      if self == .sub { break }
    }
    return result + rest
  }

  // MARK: Lists

  private func listed(_ list: ScriptList, _ arguments: [ScriptValue]) throws(ScriptFailure) -> ScriptValue {
    let elements = list.elements
    switch self {
    case .isEmpty: return .boolean(elements.isEmpty)
    case .length, .size, .count: return .integer(Int64(elements.count))
    case .toList: return .list(list)
    case .any: return .boolean(elements.contains { $0.isTrue })
    case .all: return .boolean(elements.allSatisfy { $0.isTrue })
    case .none: return .boolean(!elements.contains { $0.isTrue })
    case .includes: return .boolean(elements.contains { $0.equals(arguments[0]) })
    case .first: return try some(elements, arguments, fromEnd: false)
    case .last: return try some(elements, arguments, fromEnd: true)
    case .push:
      for argument in arguments { try list.append(argument) }
      return .list(list)
    case .unshift:
      for argument in arguments { try list.append(argument) }
      list.elements = arguments + list.elements.dropLast(arguments.count)
      return .list(list)
    case .pop: return list.elements.popLast() ?? .null
    case .shift: return elements.isEmpty ? .null : list.elements.removeFirst()
    case .concat:
      guard case .list(let other) = arguments[0] else { throw misfit(arguments[0]) }
      for element in other.elements { try list.append(element) }
      return .list(list)
    case .compact: return .list(ScriptList(elements.filter { !$0.isNull }))
    case .uniq: return .list(ScriptList(ScriptMethod.unique(elements)))
    case .reverse: return .list(ScriptList(elements.reversed()))
    case .sort: return .list(ScriptList(try sorted(elements)))
    case .max: return try sorted(elements).last ?? .null
    case .min: return try sorted(elements).first ?? .null
    case .sum: return try sum(elements)
    case .join:
      var out = ByteBuffer()
      let separator = arguments.first?.textBytes ?? []
      for (i, element) in elements.enumerated() {
        if i > 0 { out.append(contentsOf: separator) }
        element.appendText(to: &out)
        guard out.count <= ScriptLimit.textBytes else { throw .error("a text grew beyond 1 MiB") }
      }
      return .text(out.array())
    case .flatten:
      let flat = ScriptList()
      try flatten(list, into: flat, 0)
      return .list(flat)
    case .delete:
      list.elements.removeAll { $0.equals(arguments[0]) }
      return elements.first { $0.equals(arguments[0]) } ?? .null
    case .clear:
      list.elements.removeAll()
      return .list(list)
    case .dig, .fetch: return try reached(.list(list), arguments)
    default: throw misfit(.list(list))
    }
  }

  private func some(
    _ elements: [ScriptValue], _ arguments: [ScriptValue], fromEnd: Bool
  ) throws(ScriptFailure) -> ScriptValue {
    guard let argument = arguments.first else { return (fromEnd ? elements.last : elements.first) ?? .null }
    guard case .integer(let n) = argument, n >= 0 else { throw .error("'\(rawValue)' takes a number of elements") }
    let count = Int(clamping: n)
    return .list(ScriptList(Array(fromEnd ? elements.suffix(count) : elements.prefix(count))))
  }

  /// Each value once, the first of equal ones.
  private static func unique(_ elements: [ScriptValue]) -> [ScriptValue] {
    var seen: Set<[UInt8]> = []
    return elements.filter { element in
      var out = ByteBuffer()
      out.append(text: element.rubyClassNames[0])
      out.append(58)
      element.appendText(to: &out)
      return seen.insert(out.array()).inserted
    }
  }

  private func sorted(_ elements: [ScriptValue]) throws(ScriptFailure) -> [ScriptValue] {
    if let first = elements.first {
      for other in elements.dropFirst() where first.compared(to: other) == nil {
        throw .error("'\(rawValue)' cannot compare \(first.kindName) with \(other.kindName)")
      }
    }
    return elements.sorted { ($0.compared(to: $1) ?? 0) < 0 }
  }

  func sum(_ elements: [ScriptValue]) throws(ScriptFailure) -> ScriptValue {
    var total = ScriptValue.integer(0)
    for element in elements { total = try ScriptOperator.plus.apply(total, element) }
    return total
  }

  private func flatten(_ list: ScriptList, into flat: ScriptList, _ depth: Int) throws(ScriptFailure) {
    guard depth < ScriptLimit.depth else { throw .error("values are nested more than 64 deep") }
    for element in list.elements {
      if case .list(let inner) = element {
        try flatten(inner, into: flat, depth + 1)
      } else {
        try flat.append(element)
      }
    }
  }

  // MARK: Maps

  private func mapped(_ map: ScriptMap, _ arguments: [ScriptValue]) throws(ScriptFailure) -> ScriptValue {
    switch self {
    case .isEmpty: return .boolean(map.entries.isEmpty)
    case .any: return .boolean(!map.entries.isEmpty)
    case .none: return .boolean(map.entries.isEmpty)
    case .length, .size, .count: return .integer(Int64(map.entries.count))
    case .keys: return .list(ScriptList(map.entries.map { .text($0.key) }))
    case .values: return .list(ScriptList(map.entries.map(\.value)))
    case .toList: return .list(ScriptList(map.entries.map { .list(ScriptList([.text($0.key), $0.value])) }))
    case .includes, .hasKey, .hasKeyLong: return .boolean(map[arguments[0].textBytes] != nil)
    case .hasValue: return .boolean(map.entries.contains { $0.value.equals(arguments[0]) })
    case .first:
      return map.entries.first.map { .list(ScriptList([.text($0.key), $0.value])) } ?? .null
    case .delete: return map.remove(arguments[0].textBytes) ?? .null
    case .clear:
      map.removeAll()
      return .map(map)
    case .compact:
      let result = ScriptMap()
      for entry in map.entries where !entry.value.isNull { try result.set(entry.key, entry.value) }
      return .map(result)
    case .merge, .mergeInPlace, .update:
      guard case .map(let other) = arguments[0] else { throw misfit(arguments[0]) }
      guard self == .merge, case .map(let result) = copied(.map(map)) else {
        for entry in other.entries { try map.set(entry.key, entry.value) }
        return .map(map)
      }
      for entry in other.entries { try result.set(entry.key, entry.value) }
      return .map(result)
    case .dig, .fetch: return try reached(.map(map), arguments)
    default: throw misfit(.map(map))
    }
  }

  /// `dig(a, b, c)`, or `fetch(key, default)`.
  private func reached(_ value: ScriptValue, _ arguments: [ScriptValue]) throws(ScriptFailure) -> ScriptValue {
    if self == .fetch {
      let found = try ScriptMethod.element(value, arguments[0])
      if let found { return found }
      if arguments.count > 1 { return arguments[1] }
      throw .error("'fetch' finds nothing there")
    }
    var present = value
    for argument in arguments {
      if present.isNull { return .null }
      present = try ScriptMethod.element(present, argument) ?? .null
    }
    return present
  }

  /// `value[key]`; nil where there is nothing.
  static func element(_ value: ScriptValue, _ key: ScriptValue) throws(ScriptFailure) -> ScriptValue? {
    switch value {
    case .map(let map):
      if case .text(let bytes) = key { return map[bytes] }
      return map[key.textBytes]
    case .list(let list):
      guard case .integer(let index) = key else { throw .error("a list has no element '\(key.kindName)'") }
      let place = index < 0 ? index + Int64(list.elements.count) : index
      return place >= 0 && place < Int64(list.elements.count) ? list.elements[Int(place)] : nil
    default: throw .error("\(value.kindName) has no elements")
    }
  }
}
