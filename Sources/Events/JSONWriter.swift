//  Events and values to JSON. Texts that came clean from JSON are copied as they are; others are scanned 16 bytes at a
//  time for what must be escaped.

internal import CScan
public import Diagnostics
internal import Glibc

extension Value {
  /// Appends the value as JSON: untouched numbers as they were written, timestamps as ISO 8601 texts, floats that no
  /// JSON number can show as the texts "Infinity", "-Infinity" and "NaN".
  public func appendJSON(to out: inout ByteBuffer) { arena.pointee.appendJSON(node, to: &out) }

  /// As JSON, but floats as Java prints them: what a map is in a text.
  func appendJavaJSON(to out: inout ByteBuffer) {
    switch kind {
    case .map, .list:
      out.append(isMap ? 123 : 91)
      var child = first
      while let member = child {
        if isMap { arena.pointee.appendKey(member.key, to: &out) }
        member.appendJavaJSON(to: &out)
        child = member.next
        if child != nil { out.append(44) }
      }
      out.append(isMap ? 125 : 93)
    case .double where double?.isFinite == true: appendJavaDouble(double ?? 0, to: &out)
    default: appendJSON(to: &out)
    }
  }
}

extension Arena {
  mutating func appendJSON(_ i: UInt32, to out: inout ByteBuffer) {
    let bits = node(i).pointee.bits
    switch bits.kind {
    case .text:
      if bits.flags & (ValueBits.clean | ValueBits.escaped) != 0 {
        let count = Int(bits.a)
        out.reserve(count &+ 2)
        let p = out.pointer + out.count
        p[0] = 34
        memcpy(p + 1, bits.start, count)
        p[count &+ 1] = 34
        out.count &+= count &+ 2
      } else {
        appendQuoted(bits.span, to: &out)
      }
    case .map, .list:
      if bits.has(ValueBits.unparsed) {
        out.append(bits.span)
        return
      }
      let isMap = bits.kind == .map
      out.append(isMap ? 123 : 91)
      var child = bits.a == 0 ? 0 : bits.firstChild
      while child != 0 {
        if isMap { appendKey(node(child).pointee.key, to: &out) }
        appendJSON(child, to: &out)
        child = node(child).pointee.next
        if child != 0 { out.append(44) }
      }
      out.append(isMap ? 125 : 93)
    case .integer:
      if bits.has(ValueBits.raw) { out.append(bits.span) } else { out.append(decimal: Int64(bitPattern: bits.b)) }
    case .bigInteger: out.append(bits.span)
    case .double:
      if bits.has(ValueBits.raw) {
        out.append(bits.span)
      } else {
        appendJSONDouble(Double(bitPattern: bits.b), to: &out)
      }
    case .boolean: bits.b != 0 ? out.append("true") : out.append("false")
    case .null: out.append("null")
    case .timestamp:
      out.append(34)
      Timestamp(seconds: Int64(bitPattern: bits.b), nanos: bits.a).appendISO8601(to: &out)
      out.append(34)
    }
  }

  @inline(__always)
  func appendKey(_ key: Key, to out: inout ByteBuffer) {
    let count = key.count
    let start = key.start
    // Keys have 64 readable bytes behind them, so the look at 16 bytes needs no tail.
    if _fastPath(count <= 16), scan_string_stops16(start) & ((1 &<< UInt32(count)) &- 1) == 0 {
      out.reserve(20)
      let p = out.pointer + out.count
      p[0] = 34
      memcpy(p + 1, start, 16)
      p[count &+ 1] = 34
      p[count &+ 2] = 58
      out.count &+= count &+ 3
    } else {
      appendQuoted(key.bytes, to: &out)
      out.append(58)
    }
  }
}

/// Appends `bytes` (UTF-8) as a JSON text with its quotes.
public func appendQuoted(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
  let count = bytes.count
  out.reserve(count &+ 2)
  out.append(34)
  guard let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), count > 0 else {
    out.append(34)
    return
  }
  if isPlain(start, count) {
    out.append(start, count)
    out.append(34)
    return
  }
  var i = 0
  var run = 0
  while i < count {
    if i &+ 16 <= count {
      let stops = scan_string_stops16(start + i)
      if stops == 0 {
        i &+= 16
        continue
      }
      i &+= stops.trailingZeroBitCount
    } else if start[i] >= 32, start[i] != 34, start[i] != 92 {
      i &+= 1
      continue
    }
    out.append(start + run, i &- run)
    appendEscape(start[i], to: &out)
    i &+= 1
    run = i
  }
  out.append(start + run, count &- run)
  out.append(34)
}

/// Whether no byte must be escaped. Where the length is no multiple of a block, the last block begins within the one
/// before it, so that nothing behind the text is read.
@inline(__always)
private func isPlain(_ start: UnsafePointer<UInt8>, _ count: Int) -> Bool {
  if count >= 16 {
    var i = 0
    while i < count &- 16 {
      if scan_string_stops16(start + i) != 0 { return false }
      i &+= 16
    }
    return scan_string_stops16(start + (count &- 16)) == 0
  }
  if count >= 8 { return isPlain(load8(start)) && isPlain(load8(start + (count &- 8))) }
  if count >= 4 { return isPlain(UInt64(load4(start)) | UInt64(load4(start + (count &- 4))) &<< 32) }
  for i in 0..<count where start[i] < 32 || start[i] == 34 || start[i] == 92 { return false }
  return true
}

/// The same of eight bytes at once. A byte above the wanted one may be named as well, which only costs the long way.
@inline(__always)
private func isPlain(_ word: UInt64) -> Bool {
  let ones: UInt64 = 0x0101_0101_0101_0101
  let quotes = word ^ (ones &* 34)
  let backslashes = word ^ (ones &* 92)
  let control = (word &- ones &* 32) & ~word
  let found = control | (quotes &- ones) & ~quotes | (backslashes &- ones) & ~backslashes
  return found & (ones &* 128) == 0
}

private func appendEscape(_ byte: UInt8, to out: inout ByteBuffer) {
  switch byte {
  case 34: out.append("\\\"")
  case 92: out.append("\\\\")
  case 8: out.append("\\b")
  case 12: out.append("\\f")
  case 10: out.append("\\n")
  case 13: out.append("\\r")
  case 9: out.append("\\t")
  default:
    out.append(byte < 16 ? "\\u000" : "\\u001")
    let low = byte & 15
    out.append(low < 10 ? 48 + low : 87 + low)
  }
}

extension ByteBuffer {
  /// Appends `text` as a JSON text with its quotes.
  public mutating func append(quoted text: String) {
    var text = text
    text.withUTF8 { appendQuoted(UnsafeRawBufferPointer($0), to: &self) }
  }
}
