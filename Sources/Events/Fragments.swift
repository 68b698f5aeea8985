//  Maps that are still JSON source: joined with what stands in their place and looked into without making nodes of them.
//  A look-up filter's answer is mostly written out as it came, and a condition that asks for one text in it should not
//  cost the whole parse.

internal import CScan
internal import Diagnostics

extension Event {
  /// The value at `reference` for reading alone: what is written to it may be lost.
  @inline(__always)
  public func peek(_ reference: FieldReference) -> Value? {
    if reference.root == .data, reference.count == 2 {
      let holder = field(reference.parts.pointee.key)
      if holder == 0 { return nil }
      let bits = arena.pointee.node(holder).pointee.bits
      if _slowPath(bits.kind == .map && bits.has(ValueBits.unparsed)),
        let text = textMember(reference.parts[1].key, ofFragment: bits)
      {
        return Value(arena, arena.pointee.makeNode(noKey, text))
      }
      let node = child(of: holder, reference.parts + 1)
      return node == 0 ? nil : Value(arena, node)
    }
    return value(reference)
  }

  /// The text that stands under `key` in the object `fragment`.
  ///
  /// - Returns: Nil where there is none, or where only the parser can tell.
  private func textMember(_ key: Key, ofFragment fragment: ValueBits) -> ValueBits? {
    // The source was checked or made by us; it is read with its end in view all the same.
    var p = fragment.start + 1
    let end = fragment.start + Int(fragment.a)
    while p < end, p.pointee == UInt8(ascii: "\"") {
      guard let name = plainText(&p, end), p < end, p.pointee == UInt8(ascii: ":") else { return nil }
      p += 1
      let isWanted = equal(name, key.bytes)
      if p < end, p.pointee == UInt8(ascii: "\"") {
        guard let text = plainText(&p, end) else { return nil }
        if isWanted { return .text(staying: text, isClean: true) }
      } else if isWanted || !skip(&p, end) {
        return nil
      }
      guard p < end, p.pointee == UInt8(ascii: ",") else { return nil }
      p += 1
    }
    return nil
  }

  /// A text without escapes whose opening quote is at `p`, which then stands behind the closing one.
  private func plainText(_ p: inout UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>) -> UnsafeRawBufferPointer? {
    let start = p + 1
    var i = start
    while i < end {
      let stops = scan_string_stops16(i)
      if stops == 0 {
        i += 16
        continue
      }
      i += stops.trailingZeroBitCount
      guard i < end, i.pointee == UInt8(ascii: "\"") else { return nil }
      p = i + 1
      return UnsafeRawBufferPointer(start: start, count: i - start)
    }
    return nil
  }

  /// Goes past a number, a word, or a map or list of them and of texts without escapes.
  private func skip(_ p: inout UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>) -> Bool {
    var depth = 0
    while p < end {
      switch p.pointee {
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        if depth == 0 { return true }
        depth -= 1
      case UInt8(ascii: ","): if depth == 0 { return true }
      case UInt8(ascii: "\""):
        guard plainText(&p, end) != nil else { return false }
        continue
      default: break
      }
      p += 1
    }
    return false
  }
}

extension Value {
  /// Joins a small map with the JSON object `json` into one text, where no name of the map can stand in `json` too.
  ///
  /// - Parameter json: Sound JSON of an object without blanks around its braces; copied.
  /// - Returns: False where only a look at each member can tell; nothing is changed then.
  public func join(_ json: UnsafeRawBufferPointer) -> Bool {
    guard isMap, json.count > 2, (1...4).contains(count) else { return false }
    var next = first
    while let member = next {
      let name = member.key.bytes
      guard name.allSatisfy({ $0 > 34 && $0 < 127 && $0 != 92 }), findBytes(name, in: json) == nil else { return false }
      next = member.next
    }
    let scratch = arena.pointee.scratch
    scratch.pointee.removeAll()
    arena.pointee.appendJSON(node, to: &scratch.pointee)
    scratch.pointee.count -= 1
    scratch.pointee.append(44)
    scratch.pointee.append(UnsafeRawBufferPointer(rebasing: json[1...]))
    let text = arena.pointee.copy(scratch.pointee.bytes)
    replace(
      with: ValueBits(
        kind: .map, flags: ValueBits.unparsed, a: UInt32(truncatingIfNeeded: text.count),
        b: UInt64(UInt(bitPattern: text.baseAddress))))
    return true
  }
}
