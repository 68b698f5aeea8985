//  What one worker does with an event: reads the source, tries the expressions, stores the captures.

internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit

final class GrokWorker: Filter {
  private enum Verdict { case match, none, timeout }

  private let plugin: Grok
  private let scratch: MatchScratch
  /// Whether this filter has stored a field into the event at hand, by the field's number.
  private let isStored: UnsafeMutablePointer<Bool>
  private var buffer = ByteBuffer()
  private var hasWarned = false

  init(_ plugin: Grok) {
    self.plugin = plugin
    scratch = MatchScratch(groups: 64)
    isStored = .allocate(capacity: plugin.fieldCount)
  }

  deinit { isStored.deallocate() }

  func process(_ batch: FilterBatch) {
    var (matches, failures) = (0, 0)
    defer {
      plugin.outcomes?.matches.add(matches)
      plugin.outcomes?.failures.add(failures)
    }
    batch.forEach { event in
      isStored.update(repeating: false, count: plugin.fieldCount)
      var isMatch = false
      for i in plugin.entries.indices {
        switch tryEntry(i, event) {
        case .match: isMatch = true
        case .none: break
        case .timeout:
          failures += 1
          plugin.timeoutTag.withUnsafeBytes { event.addTag($0, unlessPresent: true) }
          return false
        }
        if isMatch, plugin.breakOnMatch { break }
      }
      if isMatch {
        matches += 1
        return true
      }
      failures += 1
      for tag in plugin.failureTags { tag.withUnsafeBytes { event.addTag($0, unlessPresent: true) } }
      return false
    }
  }

  private func tryEntry(_ entry: Int, _ event: Event) -> Verdict {
    guard let value = event.value(plugin.entries[entry].source) else {
      return tryText(entry, event, UnsafeRawBufferPointer(start: nil, count: 0), isClean: true)
    }
    if let text = value.text { return tryText(entry, event, text, isClean: value.isClean) }
    guard value.isList else { return tryText(entry, event, printed(value, event), isClean: false) }
    var verdict = Verdict.none
    // A capture may go into this very list; what it adds is not matched again.
    var left = value.count
    var element = value.first
    while let present = element, left > 0 {
      let text = present.text ?? printed(present, event)
      switch tryText(entry, event, text, isClean: present.isClean) {
      case .match: verdict = .match
      case .none: break
      case .timeout: return .timeout
      }
      left -= 1
      element = present.next
    }
    return verdict
  }

  private func tryText(_ entry: Int, _ event: Event, _ text: UnsafeRawBufferPointer, isClean: Bool) -> Verdict {
    let list = plugin.entries[entry].list
    let shared = plugin.timeoutScope == .event && plugin.timeLimit > 0 && list.expressions.count > 1
    let began = shared ? Instant.now : Instant(ns: 0)
    var verdict = Verdict.none
    var i = 0
    while i < list.expressions.count {
      defer { i += 1 }
      guard list.mayMatch(i, text) else {
        verdict = .none
        continue
      }
      var timeLimit = plugin.timeLimit
      if shared {
        timeLimit -= Int((Instant.now.ns - began.ns) / 1_000_000)
        if timeLimit <= 0 { return .timeout }
      }
      switch list.expressions[i].match(text, scratch, timeLimit: timeLimit) {
      case .match:
        // A capture that cannot be stored ends the entry without success.
        guard store(entry, i, event, text, isClean: isClean) else { return .none }
        verdict = .match
        if plugin.breakOnMatch { return .match }
      case .none, .badText: verdict = .none
      case .limit: return .timeout
      }
    }
    return verdict
  }

  // MARK: Storing

  /// - Returns: False if a capture has no place.
  private func store(
    _ entry: Int, _ expression: Int, _ event: Event, _ text: UnsafeRawBufferPointer, isClean: Bool
  ) -> Bool {
    plugin.entries[entry].slots[expression].withUnsafeBufferPointer { slots in
      // By number, so that the references in the slots are not retained.
      for i in 0..<slots.count {
        let group = slots[i].group
        let start = scratch.start(of: group)
        let bits: ValueBits
        if start < 0 {
          if !plugin.keepEmpty { continue }
          bits = .null
        } else {
          let part = UnsafeRawBufferPointer(rebasing: text[start..<max(start, scratch.end(of: group))])
          switch slots[i].type {
          case .text:
            if part.isEmpty, !plugin.keepEmpty { continue }
            bits = .text(staying: part, isClean: isClean)
          case .integer: bits = leadingInteger(part, event)
          case .float: bits = .double(leadingDouble(part))
          }
        }
        if let name = slots[i].name, !slots[i].isOverwritten, event.setUnlessPresent(name, bits) == nil {
          isStored[slots[i].field] = true
          continue
        }
        guard let reference = slots[i].reference, put(bits, reference, slots[i], event) else {
          warn(slots[i])
          return false
        }
      }
      return true
    }
  }

  @inline(__always)
  private func put(_ bits: ValueBits, _ reference: FieldReference, _ slot: Grok.Slot, _ event: Event) -> Bool {
    let wasStored = isStored[slot.field]
    do throws(WriteError) {
      if !slot.isOverwritten {
        guard let present = try event.setUnlessPresent(reference, bits) else {
          isStored[slot.field] = true
          return true
        }
        if !present.isNull || wasStored { return join(bits, to: present, reference, event, wasStored: wasStored) }
      }
      isStored[slot.field] = true
      try event.set(reference, bits)
      return true
    } catch {
      // The event's time takes no text; such a capture is dropped without a word.
      return error == .notATimestamp
    }
  }

  /// Adds to a field that has a value.
  @inline(never)
  private func join(
    _ bits: ValueBits, to present: Value, _ reference: FieldReference, _ event: Event, wasStored: Bool
  ) -> Bool {
    if present.isList {
      if reference == .tags, bits.kind != .text { return false }
      present.append(bits)
      return true
    }
    // A null of this filter (an absent group) gives way to the first real capture.
    if present.isNull {
      if bits.kind == .null { return true }
      return write(bits, reference, event)
    }
    // A number, boolean or map that was there before stays as it is.
    guard present.isText || wasStored, bits.kind != .null else { return true }
    let list = event.makeList()
    list.append(present.bits)
    list.append(bits)
    return write(list.bits, reference, event)
  }

  private func write(_ bits: ValueBits, _ reference: FieldReference, _ event: Event) -> Bool {
    do throws(WriteError) {
      try event.set(reference, bits)
      return true
    } catch {
      // The event's time takes no text; such a capture is dropped without a word.
      return error == .notATimestamp
    }
  }

  private func warn(_ slot: Grok.Slot) {
    if hasWarned { return }
    hasWarned = true
    Log.warn(
      "grok.unstorable", "A capture cannot be stored where its name says; the match counts as none.",
      ["step": .text(plugin.stepID), "field": .text(slot.reference?.description ?? "a broken reference")])
  }

  // MARK: Conversions

  /// The value as text in memory of the batch.
  private func printed(_ value: Value, _ event: Event) -> UnsafeRawBufferPointer {
    if value.isNull { return UnsafeRawBufferPointer(start: nil, count: 0) }
    buffer.removeAll()
    value.appendRubyText(to: &buffer)
    return event.copy(buffer.bytes)
  }

  /// The integer at the front, else 0: `12ms` is 12, `1_000` is 1000.
  private func leadingInteger(_ text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits {
    var i = skipBlanks(text)
    var isNegative = false
    if i < text.count, text[i] == 0x2d || text[i] == 0x2b {
      isNegative = text[i] == 0x2d
      i += 1
    }
    let first = i
    var value: Int64 = 0
    var isLarge = false
    while i < text.count {
      let digit = text[i] &- 48
      if digit < 10 {
        let (product, overflow) = value.multipliedReportingOverflow(by: 10)
        let (sum, carry) = product.subtractingReportingOverflow(Int64(digit))
        if overflow || carry { isLarge = true }
        value = sum
      } else if text[i] != 0x5f || i == first || i + 1 >= text.count || text[i + 1] &- 48 > 9 {
        break
      }
      i += 1
    }
    // Digits are summed below zero, where there is room for one number more.
    if !isLarge, isNegative || value != .min { return .integer(isNegative ? value : -value) }
    buffer.removeAll()
    if isNegative { buffer.append(0x2d) }
    for byte in text[first..<i].drop(while: { $0 == 0x30 || $0 == 0x5f }) where byte != 0x5f { buffer.append(byte) }
    return (try? event.parseJSON(buffer.bytes))?.bits ?? .integer(0)
  }

  /// The decimal number at the front, else 0: `1.5s` is 1.5.
  private func leadingDouble(_ text: UnsafeRawBufferPointer) -> Double {
    buffer.removeAll()
    var i = skipBlanks(text)
    if i < text.count, text[i] == 0x2d || text[i] == 0x2b {
      if text[i] == 0x2d { buffer.append(0x2d) }
      i += 1
    }
    func digits() -> Int {
      let before = buffer.count
      while i < text.count {
        if text[i] &- 48 < 10 {
          buffer.append(text[i])
        } else if text[i] != 0x5f || buffer.count == before || i + 1 >= text.count || text[i + 1] &- 48 > 9 {
          break
        }
        i += 1
      }
      return buffer.count - before
    }
    if digits() == 0 { buffer.append(0x30) }
    if i + 1 < text.count, text[i] == 0x2e, text[i + 1] &- 48 < 10 {
      buffer.append(0x2e)
      i += 1
      _ = digits()
    }
    if i + 1 < text.count, text[i] | 0x20 == 0x65 {
      var next = i + 1
      if text[next] == 0x2d || text[next] == 0x2b { next += 1 }
      if next < text.count, text[next] &- 48 < 10 {
        buffer.append(0x65)
        if next == i + 2 { buffer.append(text[i + 1]) }
        i = next
        _ = digits()
      }
    }
    return parseDouble(buffer.bytes) ?? 0
  }

  private func skipBlanks(_ text: UnsafeRawBufferPointer) -> Int {
    var i = 0
    while i < text.count, text[i] == 32 || (text[i] >= 9 && text[i] <= 13) { i += 1 }
    return i
  }
}
