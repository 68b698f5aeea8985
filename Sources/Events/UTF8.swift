//  Validation and repair of UTF-8. Everything in an event is valid UTF-8, so this is done once, where bytes arrive.

internal import CScan
public import Diagnostics

/// The offset of the first byte that is not part of valid UTF-8, or nil.
///
/// - Parameter p: Need not be padded.
public func firstInvalidUTF8(_ p: UnsafePointer<UInt8>, _ count: Int) -> Int? {
  var i = 0
  while i < count {
    while i &+ 16 <= count, scan_high16(p + i) == 0 { i &+= 16 }
    while i < count, p[i] < 0x80 { i &+= 1 }
    guard i < count else { return nil }
    let length = validSequence(p + i, count &- i)
    if length == 0 { return i }
    i &+= length
  }
  return nil
}

public func firstInvalidUTF8(_ bytes: UnsafeRawBufferPointer) -> Int? {
  guard let start = bytes.baseAddress else { return nil }
  return firstInvalidUTF8(start.assumingMemoryBound(to: UInt8.self), bytes.count)
}

/// The length of the multi-byte sequence at `p`, 0 when it is broken (RFC 3629).
@inline(__always)
func validSequence(_ p: UnsafePointer<UInt8>, _ left: Int) -> Int {
  @inline(__always) func continues(_ i: Int) -> Bool { p[i] & 0xc0 == 0x80 }
  switch p[0] {
  case 0xc2...0xdf: return left >= 2 && continues(1) ? 2 : 0
  case 0xe0: return left >= 3 && p[1] & 0xe0 == 0xa0 && continues(2) ? 3 : 0
  case 0xed: return left >= 3 && p[1] & 0xe0 == 0x80 && continues(2) ? 3 : 0
  case 0xe1...0xef: return left >= 3 && continues(1) && continues(2) ? 3 : 0
  case 0xf0: return left >= 4 && p[1] >= 0x90 && p[1] <= 0xbf && continues(2) && continues(3) ? 4 : 0
  case 0xf1...0xf3: return left >= 4 && continues(1) && continues(2) && continues(3) ? 4 : 0
  case 0xf4: return left >= 4 && p[1] >= 0x80 && p[1] <= 0x8f && continues(2) && continues(3) ? 4 : 0
  default: return 0
  }
}

/// Appends `bytes` to `out`, each byte that is no valid UTF-8 replaced by U+FFFD (one for each cut-off sequence).
public func appendRepairedUTF8(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
  guard let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
  var i = 0
  while i < bytes.count {
    let bad = firstInvalidUTF8(start + i, bytes.count - i) ?? bytes.count - i
    out.append(UnsafeRawPointer(start + i), bad)
    i += bad
    guard i < bytes.count else { return }
    out.append("\u{fffd}")
    i += brokenLength(start + i, bytes.count - i)
  }
}

/// Appends `bytes` to `out`, each byte that is no valid UTF-8 written as `\xNN`.
public func appendEscapedUTF8(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
  guard let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
  var i = 0
  while i < bytes.count {
    let sound = firstInvalidUTF8(start + i, bytes.count - i) ?? bytes.count - i
    out.append(UnsafeRawPointer(start + i), sound)
    i += sound
    guard i < bytes.count else { return }
    out.append("\\x")
    for digit in [start[i] >> 4, start[i] & 15] { out.append(digit < 10 ? 48 + digit : 55 + digit) }
    i += 1
  }
}

/// How many bytes one replacement character stands for: the longest beginning of a sequence, at least one.
private func brokenLength(_ p: UnsafePointer<UInt8>, _ left: Int) -> Int {
  let wanted: Int
  switch p[0] {
  case 0xc2...0xdf: wanted = 2
  case 0xe0...0xef: wanted = 3
  case 0xf0...0xf4: wanted = 4
  default: return 1
  }
  var n = 1
  while n < wanted, n < left, p[n] & 0xc0 == 0x80 {
    if n == 1 {
      let second = p[1]
      switch p[0] {
      case 0xe0 where second < 0xa0, 0xed where second > 0x9f, 0xf0 where second < 0x90, 0xf4 where second > 0x8f:
        return 1
      default: break
      }
    }
    n += 1
  }
  return n
}
