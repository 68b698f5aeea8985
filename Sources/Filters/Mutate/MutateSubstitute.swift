//  gsub: every place where an expression matches is replaced.
//
//  An expression without special characters is searched as bytes. One that holds placeholders is made anew for each
//  event, and kept while the next events make the same. The replacement is read into parts: literal bytes and groups.

internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit

final class Substitute: Change, @unchecked Sendable {
  private let field: FieldReference
  /// The expression, where it holds no placeholders.
  private let pattern: Pattern?
  /// The expression as literal bytes, where no character of it is special.
  private let literal: Template?
  private let expression: Template
  private let replacement: Template
  /// The parts of a replacement without placeholders.
  private let parts: Replacement?

  init(_ field: String, _ expression: String, _ replacement: String) throws {
    do {
      self.field = try FieldReference(field)
    } catch {
      throw BuildFailure("gsub", "\(error)")
    }
    self.expression = Template(expression)
    self.replacement = Template(replacement)
    parts = self.replacement.isConstant ? Replacement(self.replacement.constantBytes) : nil
    let isPlain = !expression.isEmpty && !expression.utf8.contains { Substitute.special.contains($0) }
    literal = self.expression.isConstant && isPlain ? self.expression : nil
    guard self.expression.isConstant else {
      pattern = nil
      return
    }
    do {
      pattern = try RubyPattern.compileSubstitution(expression)
    } catch {
      throw BuildFailure("gsub", "the expression '\(expression)' cannot be read: \(error)", code: "config.regex")
    }
  }

  private static let special = Set(#"\^$.|?*+()[]{}"#.utf8)

  override func apply(to event: Event, _ room: MutateRoom) -> Bool {
    guard let value = event.value(field), value.isText || value.isList else { return true }
    guard let pattern = pattern ?? made(event, room) else { return false }
    guard let parts = parts ?? madeParts(event) else { return false }
    if value.isText { return substitute(value, pattern, parts, event, room) }
    var child = value.first
    while let element = child {
      if element.isText, !substitute(element, pattern, parts, event, room) { return false }
      child = element.next
    }
    return true
  }

  private func madeParts(_ event: Event) -> Replacement? {
    guard let bits = try? replacement.bits(event), let text = event.makeValue(bits).text else { return nil }
    return Replacement(text)
  }

  private func made(_ event: Event, _ room: MutateRoom) -> Pattern? {
    guard let bits = try? expression.bits(event), let text = event.makeValue(bits).text else { return nil }
    if text.elementsEqual(room.madeExpression.text) { return room.madeExpression.pattern }
    let pattern = try? RubyPattern.compileSubstitution(String(decoding: text, as: UTF8.self))
    room.madeExpression = (Array(text), pattern)
    return pattern
  }

  private func substitute(
    _ value: Value, _ pattern: Pattern, _ parts: Replacement, _ event: Event, _ room: MutateRoom
  ) -> Bool {
    guard let text = value.text else { return true }
    if let literal, parts.isLiteral {
      substitute(literal.constantBytes, in: value, text, parts, event)
      return true
    }
    var options: MatchScratch.Options = .validText
    if isASCII(text) { options.insert(.asciiText) }
    switch room.scratch.match(pattern, text, options: options) {
    case .match: break
    case .none: return true
    case .limit, .badText: return false
    }
    var isSound = true
    let bits = event.makeText { out in
      var copied = 0
      while true {
        let start = room.scratch.start(of: 0)
        let end = room.scratch.end(of: 0)
        out.append(text.slice(copied, max(copied, start)))
        parts.append(text, pattern, room.scratch, to: &out)
        copied = max(copied, end)
        var next = end
        if start >= end {
          // Behind an empty match the next character stays, and the search goes on behind it.
          guard end < text.count else { break }
          next = end + 1
          while next < text.count, text[next] & 0xc0 == 0x80 { next += 1 }
          out.append(text.slice(end, next))
          copied = next
        }
        let outcome = room.scratch.match(pattern, text, from: next, options: options)
        if case .match = outcome { continue }
        if outcome != .none { isSound = false }
        break
      }
      out.append(text.slice(copied, text.count))
    }
    if isSound { value.replace(with: bits) }
    return isSound
  }

  private func substitute(
    _ needle: UnsafeRawBufferPointer, in value: Value, _ text: UnsafeRawBufferPointer, _ parts: Replacement,
    _ event: Event
  ) {
    guard var hit = find(needle, in: text, from: 0) else { return }
    let bits = event.makeText { out in
      var copied = 0
      while true {
        out.append(text.slice(copied, hit))
        parts.appendLiteral(to: &out)
        copied = hit + needle.count
        guard let next = find(needle, in: text, from: copied) else { break }
        hit = next
      }
      out.append(text.slice(copied, text.count))
    }
    value.replace(with: bits)
  }
}

/// A replacement in Ruby's form: `\1` to `\9`, `\0` and `\&`, `\k<name>`, the text before and behind.
struct Replacement: Sendable {
  private enum Part {
    case literal([UInt8])
    case group(Int)
    case name(String)
    case before, behind
  }

  private var parts: [Part] = []
  let isLiteral: Bool

  init(_ text: UnsafeRawBufferPointer) {
    var parts: [Part] = []
    var literal: [UInt8] = []
    var i = 0
    func add(_ part: Part) {
      if !literal.isEmpty { parts.append(.literal(literal)) }
      literal.removeAll()
      parts.append(part)
    }
    while i < text.count {
      guard text[i] == 92, i + 1 < text.count else {
        literal.append(text[i])
        i += 1
        continue
      }
      let next = text[i + 1]
      i += 2
      switch next {
      case 48...57: add(.group(Int(next) - 48))
      case 38: add(.group(0))
      case 96: add(.before)
      case 39: add(.behind)
      case 92: literal.append(92)
      case 107 where i < text.count && text[i] == 60:
        if let end = text[i...].firstIndex(of: 62) {
          add(.name(String(decoding: text[(i + 1)..<end], as: UTF8.self)))
          i = end + 1
        } else {
          literal += [92, 107]
        }
      default: literal += [92, next]
      }
    }
    if !literal.isEmpty { parts.append(.literal(literal)) }
    self.parts = parts
    isLiteral = parts.allSatisfy { if case .literal = $0 { true } else { false } }
  }

  func appendLiteral(to out: inout ByteBuffer) {
    for part in parts { if case .literal(let bytes) = part { out.append(contentsOf: bytes) } }
  }

  func append(
    _ text: UnsafeRawBufferPointer, _ pattern: Pattern, _ scratch: MatchScratch, to out: inout ByteBuffer
  ) {
    func group(_ n: Int) {
      let start = scratch.start(of: n)
      let end = scratch.end(of: n)
      if start >= 0, end > start { out.append(text.slice(start, end)) }
    }
    for part in parts {
      switch part {
      case .literal(let bytes): out.append(contentsOf: bytes)
      case .group(let n): group(n)
      case .name(let name):
        if let n = pattern.groupNumbers(name).last(where: { scratch.start(of: $0) >= 0 }) { group(n) }
      case .before: out.append(text.slice(0, max(0, scratch.start(of: 0))))
      case .behind: out.append(text.slice(max(0, scratch.end(of: 0)), text.count))
      }
    }
  }
}
