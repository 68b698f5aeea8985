//  Finding literal bytes in a text, and cutting a text at them.

internal import Glibc

/// The offset of `needle` in `text` from `start` on; nil where it does not occur, or is empty.
func find(_ needle: UnsafeRawBufferPointer, in text: UnsafeRawBufferPointer, from start: Int) -> Int? {
  guard let base = text.baseAddress, let wanted = needle.baseAddress, needle.count > 0 else { return nil }
  var i = start
  let last = text.count &- needle.count
  while i <= last {
    guard let hit = memchr(base + i, Int32(needle[0]), last &- i &+ 1) else { return nil }
    i = UnsafeRawPointer(hit) - base
    if memcmp(base + i, wanted, needle.count) == 0 { return i }
    i &+= 1
  }
  return nil
}

/// Whether all bytes are ASCII.
func isASCII(_ bytes: UnsafeRawBufferPointer) -> Bool {
  guard let p = bytes.baseAddress else { return true }
  var i = 0
  while i &+ 8 <= bytes.count {
    if p.loadUnaligned(fromByteOffset: i, as: UInt64.self) & 0x8080_8080_8080_8080 != 0 { return false }
    i &+= 8
  }
  while i < bytes.count {
    if p.load(fromByteOffset: i, as: UInt8.self) >= 0x80 { return false }
    i &+= 1
  }
  return true
}

extension UnsafeRawBufferPointer {
  /// The bytes from `start` up to `end`; the same memory.
  @inline(__always)
  func slice(_ start: Int, _ end: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: self[start..<end])
  }
}

/// How Ruby cuts a text at a separator: a single blank means runs of white space, an empty separator every character,
/// and empty pieces at the end fall away.
enum RubySplit {
  /// Calls `body` with each piece, in order.
  static func pieces(
    of text: UnsafeRawBufferPointer, at separator: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
  ) {
    if separator.count == 0 { return characters(of: text, body) }
    if separator.count == 1, separator[0] == 32 { return words(of: text, body) }
    var start = 0
    var pendingEmpty = 0  // empty pieces count only when something follows
    func piece(_ end: Int) {
      if end == start {
        pendingEmpty += 1
        return
      }
      for _ in 0..<pendingEmpty { body(text.slice(start, start)) }
      pendingEmpty = 0
      body(text.slice(start, end))
    }
    while let hit = find(separator, in: text, from: start) {
      piece(hit)
      start = hit + separator.count
    }
    piece(text.count)
  }

  private static func words(of text: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    var i = 0
    while i < text.count {
      while i < text.count, isSpace(text[i]) { i += 1 }
      let start = i
      while i < text.count, !isSpace(text[i]) { i += 1 }
      if i > start { body(text.slice(start, i)) }
    }
  }

  private static func characters(of text: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    var i = 0
    while i < text.count {
      var end = i + 1
      while end < text.count, text[end] & 0xc0 == 0x80 { end += 1 }
      body(text.slice(i, end))
      i = end
    }
  }
}

/// Blank, tab, newline, vertical tab, form feed, carriage return.
@inline(__always)
func isSpace(_ byte: UInt8) -> Bool { byte == 32 || byte &- 9 < 5 }
