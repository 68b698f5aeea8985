//  Texts as Ruby prints values: what maps, lists and floats become where a filter turns them into text, and the escaped
//  form of a text that is no UTF-8. Configurations from Logstash rely on these forms.

internal import Diagnostics
internal import Events

extension Value {
  /// The value as Ruby's `to_s`: a text as it is, null empty, lists and maps in their inspected form.
  func appendRubyText(to out: inout ByteBuffer) {
    switch kind {
    case .null: break
    case .double: appendRubyDouble(double ?? 0, to: &out)
    case .list, .map: appendInspected(to: &out)
    default: appendText(to: &out)
    }
  }

  /// The value as Ruby's `inspect`: `"text"`, `nil`, `["a", 1]`, `{"k"=>"v"}`.
  func appendInspected(to out: inout ByteBuffer) {
    switch kind {
    case .null: out.append("nil")
    case .text: if let text { appendInspectedText(text, to: &out) }
    case .list:
      out.append(91)
      var child = first
      while let element = child {
        element.appendInspected(to: &out)
        child = element.next
        if child != nil { out.append(", ") }
      }
      out.append(93)
    case .map:
      out.append(123)
      var child = first
      while let member = child {
        appendInspectedText(member.key.bytes, to: &out)
        out.append("=>")
        member.appendInspected(to: &out)
        child = member.next
        if child != nil { out.append(", ") }
      }
      out.append(125)
    default: appendRubyText(to: &out)
    }
  }
}

/// Appends `bytes` in quotes, escaped as Ruby inspects a text.
func appendInspectedText(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
  out.append(34)
  appendRubyEscaped(bytes, to: &out)
  out.append(34)
}

/// Appends `bytes` as they stand between the quotes of Ruby's `inspect`: control characters, quotes, backslashes and
/// bytes that are no UTF-8 in escaped form.
func appendRubyEscaped(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
  guard let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
  var i = 0
  while i < bytes.count {
    let byte = start[i]
    if byte < 0x80 {
      appendRubyEscaped(ascii: byte, next: i + 1 < bytes.count ? start[i + 1] : 0, to: &out)
      i += 1
      continue
    }
    let length = characterLength(start + i, bytes.count - i)
    if length == 0 {
      out.append("\\x")
      appendHex(byte, to: &out)
      i += 1
      continue
    }
    if byte == 0xc2, start[i + 1] < 0xa0 {
      out.append("\\u00")
      appendHex(start[i + 1], to: &out)
    } else {
      out.append(UnsafeRawPointer(start + i), length)
    }
    i += length
  }
}

private func appendRubyEscaped(ascii byte: UInt8, next: UInt8, to out: inout ByteBuffer) {
  switch byte {
  case 34, 92:
    out.append(92)
    out.append(byte)
  case 35:  // `#{`, `#$` and `#@` would be filled in
    if next == 123 || next == 36 || next == 64 { out.append(92) }
    out.append(35)
  case 7: out.append("\\a")
  case 8: out.append("\\b")
  case 9: out.append("\\t")
  case 10: out.append("\\n")
  case 11: out.append("\\v")
  case 12: out.append("\\f")
  case 13: out.append("\\r")
  case 27: out.append("\\e")
  case 0..<32, 127:
    out.append("\\u00")
    appendHex(byte, to: &out)
  default: out.append(byte)
  }
}

private func appendHex(_ byte: UInt8, to out: inout ByteBuffer) {
  for digit in [byte >> 4, byte & 15] { out.append(digit < 10 ? 48 + digit : 55 + digit) }
}

/// The length of the character at `p`, 0 where its bytes are no UTF-8.
func characterLength(_ p: UnsafePointer<UInt8>, _ left: Int) -> Int {
  var length = 1
  switch p[0] {
  case 0..<0x80: return 1
  case 0xc2...0xdf: length = 2
  case 0xe0...0xef: length = 3
  case 0xf0...0xf4: length = 4
  default: return 0
  }
  guard length <= left, firstInvalidUTF8(p, length) == nil else { return 0 }
  return length
}
