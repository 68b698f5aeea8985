//  A dictionary of translate, ready to be asked in one of three ways: by the whole text (a hash table over the keys'
//  bytes), by expressions in order, or by every key that occurs within a text.
//
//  A table is never changed. One read from a file is replaced as a whole when the file changes, so values are copied into
//  the batch that asks for them.

internal import Config
internal import Diagnostics
internal import Events
internal import Patterns

/// A value of a dictionary.
enum TranslateValue: Sendable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case double(Double)
  /// - Parameter isClean: Whether the text needs no escaping in JSON.
  case text([UInt8], isClean: Bool)
  case bigInteger([UInt8])
  /// A list or map as JSON.
  case nested([UInt8], Kind)

  init(text: [UInt8]) { self = .text(text, isClean: !text.contains { $0 < 32 || $0 == 34 || $0 == 92 }) }

  init(_ value: TypedValue) {
    switch value.content {
    case .null, .plain(.bigInteger): self = .null
    case .boolean(let value): self = .boolean(value)
    case .plain(.integer(let value)): self = .integer(value)
    case .plain(.double(let value)): self = .double(value)
    case .text(let text): self.init(text: Array(text.constantBytes))
    case .nested(let json, let kind): self = .nested(Array(json.constantBytes), kind)
    }
  }

  func bits(_ event: Event) -> ValueBits {
    switch self {
    case .null: .null
    case .boolean(let value): .boolean(value)
    case .integer(let value): .integer(value)
    case .double(let value): .double(value)
    case .text(let text, let isClean): text.withUnsafeBytes { event.makeText($0, isClean: isClean) }
    case .bigInteger(let digits): .bigInteger(staying: digits.withUnsafeBytes { event.copy($0) })
    case .nested(let json, let kind): event.makeFragment(staying: json.withUnsafeBytes { event.copy($0) }, kind: kind)
    }
  }
}

/// The entries of a dictionary while it is read: in order of their keys' first places, the last of equal keys wins.
struct TranslateEntries {
  private(set) var keys: [[UInt8]] = []
  private(set) var values: [TranslateValue] = []
  private var places: [[UInt8]: Int] = [:]

  mutating func set(_ key: [UInt8], _ value: TranslateValue) {
    if let place = places[key] {
      values[place] = value
    } else {
      places[key] = keys.count
      keys.append(key)
      values.append(value)
    }
  }
}

/// Immutable; any thread may use it.
final class TranslateTable: Sendable {
  enum Mode: Sendable { case exact, expression, within }

  /// Why a dictionary cannot be used.
  struct Fault: Error, CustomStringConvertible { let description: String }

  let keys: [[UInt8]]
  let values: [TranslateValue]
  /// A power of two of places, each an entry's number from 1, or 0.
  private let slots: [UInt32]
  private let hashes: [UInt32]
  private let patterns: [Pattern]
  /// For each first byte the keys that begin with it, in order.
  private let beginnings: [[Int]]
  /// Which bytes some key begins with.
  private let isBeginning: [Bool]
  /// The values as they stand within a text.
  private let texts: [[UInt8]]

  /// - Throws: `Fault` where a key is no expression.
  init(_ entries: TranslateEntries, _ mode: Mode) throws(Fault) {
    keys = entries.keys
    values = entries.values
    var slots: [UInt32] = []
    var hashes: [UInt32] = []
    var patterns: [Pattern] = []
    var beginnings: [[Int]] = []
    var texts: [[UInt8]] = []
    switch mode {
    case .exact:
      var capacity = 16
      while capacity < keys.count * 2 { capacity *= 2 }
      slots = [UInt32](repeating: 0, count: capacity)
      for (i, key) in keys.enumerated() {
        let hash = key.withUnsafeBytes { TranslateTable.hash($0) }
        hashes.append(hash)
        var place = Int(hash) & (capacity - 1)
        while slots[place] != 0 { place = (place + 1) & (capacity - 1) }
        slots[place] = UInt32(i + 1)
      }
    case .expression:
      for key in keys {
        let source = String(decoding: key, as: UTF8.self)
        do {
          patterns.append(try Pattern(ruby: source, dialect: .condition))
        } catch {
          throw Fault(description: "the key '\(source)' is no regular expression: \(error)")
        }
      }
    case .within:
      beginnings = [[Int]](repeating: [], count: 256)
      for (i, key) in keys.enumerated() { if let first = key.first { beginnings[Int(first)].append(i) } }
      let batch = EventBatch()
      let event = batch.add(arrivalNs: 0)
      var text = ByteBuffer()
      for value in values {
        text.removeAll()
        event.makeValue(value.bits(event)).appendRubyText(to: &text)
        texts.append(text.array())
      }
      extendLifetime(batch)
    }
    self.slots = slots
    self.hashes = hashes
    self.patterns = patterns
    self.beginnings = beginnings
    isBeginning = beginnings.map { !$0.isEmpty }
    self.texts = texts
  }

  private static let seed: UInt64 = .random(in: 1 ... .max)

  private static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var hash = seed ^ UInt64(truncatingIfNeeded: bytes.count)
    func mix(_ word: UInt64) {
      let product = (hash ^ word).multipliedFullWidth(by: 0x9e37_79b9_7f4a_7c15)
      hash = product.high ^ product.low
    }
    var i = 0
    while i &+ 8 <= bytes.count {
      mix(bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self))
      i &+= 8
    }
    var rest: UInt64 = 0
    while i < bytes.count {
      rest = rest << 8 | UInt64(bytes[i])
      i &+= 1
    }
    mix(rest)
    return UInt32(truncatingIfNeeded: hash ^ hash >> 32)
  }

  /// The number of the entry whose key is `text`.
  func exact(_ text: UnsafeRawBufferPointer) -> Int? {
    let hash = TranslateTable.hash(text)
    var place = Int(hash) & (slots.count - 1)
    while slots[place] != 0 {
      let i = Int(slots[place]) - 1
      if hashes[i] == hash, keys[i].withUnsafeBytes({ equal($0, text) }) { return i }
      place = (place + 1) & (slots.count - 1)
    }
    return nil
  }

  /// The number of the first entry whose expression is found in `text`.
  func expression(_ text: UnsafeRawBufferPointer, _ scratch: MatchScratch) -> Int? {
    for i in 0..<patterns.count {
      if case .match = scratch.match(patterns[i], text, options: .validText) { return i }
    }
    return nil
  }

  /// `text` with every key in it replaced; nil where nothing changes.
  func within(_ text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits? {
    guard let first = nextKey(in: text, from: 0) else { return nil }
    let made = event.makeText { out in
      var hit: (start: Int, entry: Int)? = first
      var done = 0
      while let (start, entry) = hit {
        out.append(text.slice(done, start))
        out.append(contentsOf: texts[entry])
        done = start + keys[entry].count
        hit = nextKey(in: text, from: done)
      }
      out.append(text.slice(done, text.count))
    }
    return event.makeValue(made).text.map { equal($0, text) } == true ? nil : made
  }

  /// The first place where a key stands; where several fit there, the first of the dictionary.
  private func nextKey(in text: UnsafeRawBufferPointer, from start: Int) -> (start: Int, entry: Int)? {
    var i = start
    while true {
      isBeginning.withUnsafeBufferPointer { isBeginning in
        while i < text.count, !isBeginning[Int(text[i])] { i &+= 1 }
      }
      guard i < text.count else { return nil }
      for entry in beginnings[Int(text[i])] {
        let count = keys[entry].count
        if text.count - i >= count, keys[entry].withUnsafeBytes({ equal($0, text.slice(i, i + count)) }) {
          return (i, entry)
        }
      }
      i &+= 1
    }
  }
}
