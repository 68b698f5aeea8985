//  JSON text to nodes: one pass, no allocation, strict RFC 8259 and UTF-8, bounded in depth and size.
//
//  Texts and numbers become spans of the source. Keys are compared as they arrive, so that the last of equal keys wins
//  at the place of the first: a 256-bit filter per map says at once that a key is new, and maps of very many keys are
//  deduplicated when they close.

internal import CScan
internal import Diagnostics
internal import Glibc

/// Why a text is no JSON value, and where.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: String, Sendable {
    case unexpectedByte = "unexpected character"
    case unexpectedEnd = "the text ends too early"
    case controlCharacter = "a control character in a text must be escaped"
    case badEscape = "broken escape sequence"
    case badNumber = "broken number"
    case badUTF8 = "invalid UTF-8"
    case tooDeep = "nested too deeply"
    case tooManyValues = "too many values"
    case keyTooLong = "a key is too long"
    case trailingBytes = "more text behind the value"
  }
  public let kind: Kind
  /// Bytes from the start of the text.
  public let offset: Int

  public var description: String { "\(kind.rawValue) at byte \(offset)" }
}

/// Bounds of one document.
public struct JSONLimits: Sendable {
  public var depth = 1000
  public var values = 1_000_000
  public init() {}
}

/// A map or list that the reader is in.
@usableFromInline
struct JSONFrame {
  var node: UInt32
  var isMap: Bool
  var needsDeduplication: Bool
  var seen: (UInt64, UInt64, UInt64, UInt64)
}

struct JSONReader {
  let arena: UnsafeMutablePointer<Arena>
  let begin: UnsafePointer<UInt8>
  let end: UnsafePointer<UInt8>
  let limits: JSONLimits
  /// True when a key of the outermost map begins with `@` or is `tags`: only then the caller must look for them.
  var sawSpecialKey = false
  /// Several values may follow each other; the last one counts.
  var takesSeveral = false

  /// - Parameter source: Bytes that stay until the batch is emptied, with 64 readable bytes behind them.
  init(_ arena: UnsafeMutablePointer<Arena>, _ source: UnsafeRawBufferPointer, limits: JSONLimits) {
    self.arena = arena
    begin = source.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? emptyText
    end = begin + source.count
    self.limits = limits
  }

  private func fail(_ kind: JSONError.Kind, _ p: UnsafePointer<UInt8>) -> JSONError {
    p >= end && kind != .tooDeep && kind != .tooManyValues && kind != .badUTF8
      ? JSONError(kind: .unexpectedEnd, offset: end - begin) : JSONError(kind: kind, offset: p - begin)
  }

  @inline(__always)
  private func skipSpace(_ p: inout UnsafePointer<UInt8>) {
    // The byte behind the end may be anything, so the end is tested; most values have no space before them.
    while p < end, p.pointee <= 32, p.pointee == 32 || p.pointee == 10 || p.pointee == 13 || p.pointee == 9 { p += 1 }
  }

  /// Parses the whole text, whose outermost value is a map, into the existing map node `root`.
  ///
  /// - Returns: False when the outermost value is no map; nothing was added then.
  mutating func parseMap(into root: UInt32) throws(JSONError) -> Bool {
    var p = begin
    skipSpace(&p)
    guard p < end, p.pointee == UInt8(ascii: "{") else { return false }
    try parse(p, root: root)
    return true
  }

  /// Parses the whole text into a fresh node.
  mutating func parseValue() throws(JSONError) -> UInt32 {
    var p = begin
    skipSpace(&p)
    return try parse(p, root: 0)
  }

  /// - Parameter root: The map node that takes the outermost members; 0 for a node of its own.
  @discardableResult
  private mutating func parse(_ start: UnsafePointer<UInt8>, root: UInt32) throws(JSONError) -> UInt32 {
    var p = start
    var valuesLeft = limits.values
    var depth = 0
    let depthLimit = max(1, min(limits.depth, 4096))
    var result = root
    var key = noKey
    var frames = arena.pointee.frames

    value: while true {
      guard p < end else { throw fail(.unexpectedEnd, p) }
      valuesLeft &-= 1
      if _slowPath(valuesLeft < 0) { throw fail(.tooManyValues, p) }
      switch p.pointee {
      case UInt8(ascii: "\""):
        p += 1
        let node = attach(key, try text(&p), depth, frames)
        if depth == 0 { result = node }
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        let isMap = p.pointee == UInt8(ascii: "{")
        if _slowPath(depth >= depthLimit) { throw fail(.tooDeep, p) }
        if _slowPath(depth == arena.pointee.frameCapacity) {
          arena.pointee.growFrames()
          frames = arena.pointee.frames
        }
        var node = root
        if depth > 0 || root == 0 {
          node = attach(key, ValueBits(kind: isMap ? .map : .list), depth, frames)
          if depth == 0 { result = node }
        }
        frames[depth] = JSONFrame(node: node, isMap: isMap, needsDeduplication: false, seen: (0, 0, 0, 0))
        if depth == 0, root != 0 { note(membersOf: root, in: frames) }
        depth &+= 1
        p += 1
        skipSpace(&p)
        if p < end, p.pointee == (isMap ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
          depth &-= 1
          p += 1
          break
        }
        key = isMap ? try readKey(&p, isOutermost: depth == 1) : noKey
        continue value
      default:
        let node = attach(key, try scalar(&p), depth, frames)
        if depth == 0 { result = node }
      }

      // Behind a value: the end, a comma, or the ends of what it stands in.
      while true {
        skipSpace(&p)
        if depth == 0 {
          if p == end { return result }
          guard takesSeveral, isSeparated(p) else { throw fail(.trailingBytes, p) }
          key = noKey
          continue value
        }
        guard p < end else { throw fail(.unexpectedEnd, p) }
        let isMap = frames[depth &- 1].isMap
        if p.pointee == UInt8(ascii: ",") {
          p += 1
          skipSpace(&p)
          if isMap { key = try readKey(&p, isOutermost: depth == 1) }
          continue value
        }
        guard p.pointee == (isMap ? UInt8(ascii: "}") : UInt8(ascii: "]")) else { throw fail(.unexpectedByte, p) }
        p += 1
        depth &-= 1
        if _slowPath(frames[depth].needsDeduplication) { deduplicate(frames[depth].node) }
        key = noKey
      }
    }
  }

  /// Whether a value may begin at `p`: behind a number or a word there must be a blank.
  private func isSeparated(_ p: UnsafePointer<UInt8>) -> Bool {
    guard p > begin else { return true }
    switch p[-1] {
    case UInt8(ascii: "}"), UInt8(ascii: "]"), UInt8(ascii: "\""), 32, 9, 10, 13: return true
    default: return false
    }
  }

  /// Makes the node of a value and links it below the innermost open container; an earlier member of the same key
  /// takes the value instead.
  @inline(__always)
  private func attach(_ key: Key, _ bits: ValueBits, _ depth: Int, _ frames: UnsafeMutablePointer<JSONFrame>) -> UInt32
  {
    guard depth > 0 else { return arena.pointee.makeNode(noKey, bits) }
    let frame = frames + (depth &- 1)
    if frame.pointee.isMap {
      let count = arena.pointee.node(frame.pointee.node).pointee.bits.a
      if _slowPath(count >= 96) {
        frame.pointee.needsDeduplication = true
      } else if _slowPath(frame.pointee.testAndSet(key.hash)) {
        let twin = arena.pointee.find(key, in: frame.pointee.node)
        if twin != 0 {
          arena.pointee.node(twin).pointee.bits = bits
          return twin
        }
      }
    }
    let node = arena.pointee.makeNode(key, bits)
    arena.pointee.link(node, to: frame.pointee.node)
    return node
  }

  /// Enters the members that `root` had before into the filter of the outermost frame.
  private func note(membersOf root: UInt32, in frames: UnsafeMutablePointer<JSONFrame>) {
    let bits = arena.pointee.node(root).pointee.bits
    var i = bits.a == 0 ? 0 : bits.firstChild
    while i != 0 {
      _ = frames.pointee.testAndSet(arena.pointee.node(i).pointee.keyHash)
      i = arena.pointee.node(i).pointee.next
    }
  }

  /// Of members with equal keys keeps the place of the first and the value of the last.
  private func deduplicate(_ map: UInt32) {
    let count = Int(arena.pointee.node(map).pointee.bits.a)
    var size = 256
    while size < count * 2 { size *= 2 }
    let table = UnsafeMutablePointer<UInt32>.allocate(capacity: size)
    table.initialize(repeating: 0, count: size)
    defer { table.deallocate() }
    var previous: UInt32 = 0
    var i = arena.pointee.node(map).pointee.bits.firstChild
    while i != 0 {
      let node = arena.pointee.node(i)
      let next = node.pointee.next
      var slot = Int(node.pointee.keyHash) & (size - 1)
      while table[slot] != 0, !arena.pointee.node(table[slot]).pointee.key.equals(node.pointee.key) {
        slot = (slot + 1) & (size - 1)
      }
      if table[slot] == 0 {
        table[slot] = i
        previous = i
      } else {
        arena.pointee.node(table[slot]).pointee.bits = node.pointee.bits
        arena.pointee.node(previous).pointee.next = next
        arena.pointee.node(map).pointee.bits.a &-= 1
        if next == 0 { arena.pointee.node(map).pointee.bits.lastChild = previous }
      }
      i = next
    }
  }

  @inline(__always)
  private mutating func readKey(_ p: inout UnsafePointer<UInt8>, isOutermost: Bool) throws(JSONError) -> Key {
    guard p < end, p.pointee == UInt8(ascii: "\"") else { throw fail(.unexpectedByte, p) }
    p += 1
    let keyStart = p
    let bits = try text(&p)
    skipSpace(&p)
    guard p < end, p.pointee == UInt8(ascii: ":") else { throw fail(.unexpectedByte, p) }
    p += 1
    skipSpace(&p)
    var span = bits.span
    if _slowPath(bits.has(ValueBits.escaped)) { span = arena.pointee.unescaped(bits).span }
    if _slowPath(span.count > Key.limitBytes) { throw fail(.keyTooLong, keyStart) }
    if isOutermost, span.count > 0, span[0] == UInt8(ascii: "@") || span.count == 4 { sawSpecialKey = true }
    let start = span.count == 0 ? emptyText : span.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
    return Key(padded: start, count: span.count)
  }

  /// A text whose opening quote lies behind `p`; `p` then stands behind the closing one.
  @inline(__always)
  private func text(_ p: inout UnsafePointer<UInt8>) throws(JSONError) -> ValueBits {
    let start = p
    var high: UInt32 = 0
    var flags = ValueBits.clean
    search: while true {
      // Bytes behind the closing quote may count as high too; then the text is only checked for nothing.
      let mask = scan_string16(p)
      high |= mask
      var stops = mask & 0xffff
      var step = 16
      while stops != 0 {
        let n = stops.trailingZeroBitCount
        let stop = p + n
        if _slowPath(stop >= end) { throw fail(.unexpectedEnd, stop) }
        if stop.pointee == UInt8(ascii: "\"") {
          p = stop
          break search
        }
        guard stop.pointee == UInt8(ascii: "\\") else { throw fail(.controlCharacter, stop) }
        flags = ValueBits.escaped
        var seen = n &+ 2
        let escaped = stop[1]
        if _slowPath(escaped != UInt8(ascii: "\"") && escaped != UInt8(ascii: "\\") && escaped != UInt8(ascii: "n"))
          || end - stop < 2
        {
          var behind = stop
          try skipEscape(&behind)
          seen = behind - p
        }
        if seen >= 16 {
          step = seen
          break
        }
        stops &= UInt32.max &<< UInt32(truncatingIfNeeded: seen)
      }
      p += step
      if _slowPath(p > end) { throw fail(.unexpectedEnd, p) }
    }
    let count = p - start
    if _slowPath(high >> 16 != 0), let bad = firstInvalidUTF8(start, count) { throw fail(.badUTF8, start + bad) }
    p += 1
    return ValueBits(
      kind: .text, flags: flags, a: UInt32(truncatingIfNeeded: count), b: UInt64(UInt(bitPattern: start)))
  }

  @inline(never)
  private func skipEscape(_ p: inout UnsafePointer<UInt8>) throws(JSONError) {
    guard end - p >= 2 else { throw fail(.unexpectedEnd, end) }
    switch p[1] {
    case 34, 92, 47, 98, 102, 110, 114, 116: p += 2  // " \ / b f n r t
    case 117:
      guard end - p >= 6 else { throw fail(.unexpectedEnd, end) }
      for i in 2..<6 where hexDigit(p[i]) == nil { throw fail(.badEscape, p) }
      p += 6
    default: throw fail(.badEscape, p)
    }
  }

  @inline(__always)
  private func scalar(_ p: inout UnsafePointer<UInt8>) throws(JSONError) -> ValueBits {
    switch p.pointee {
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number(&p)
    case UInt8(ascii: "t") where end - p >= 4 && load4(p) == 0x6575_7274:
      p += 4
      return .boolean(true)
    case UInt8(ascii: "f") where end - p >= 5 && load4(p + 1) == 0x6573_6c61:
      p += 5
      return .boolean(false)
    case UInt8(ascii: "n") where end - p >= 4 && load4(p) == 0x6c6c_756e:
      p += 4
      return .null
    default: throw fail(.unexpectedByte, p)
    }
  }

  /// A number, kept as it is written; the byte behind the text is never a digit, since it is tested against the end.
  @inline(__always)
  private func number(_ p: inout UnsafePointer<UInt8>) throws(JSONError) -> ValueBits {
    let start = p
    if p.pointee == UInt8(ascii: "-") { p += 1 }
    let digits = p
    while p < end, isDigit(p.pointee) { p += 1 }
    let digitCount = p - digits
    guard digitCount > 0 else { throw fail(.badNumber, p) }
    if digits.pointee == UInt8(ascii: "0"), digitCount > 1 { throw fail(.badNumber, digits) }
    var isInteger = true
    var hasExponent = false
    if p < end, p.pointee == UInt8(ascii: ".") {
      isInteger = false
      p += 1
      guard p < end, isDigit(p.pointee) else { throw fail(.badNumber, p) }
      while p < end, isDigit(p.pointee) { p += 1 }
    }
    if p < end, p.pointee | 32 == UInt8(ascii: "e") {
      isInteger = false
      hasExponent = true
      p += 1
      if p < end, p.pointee == UInt8(ascii: "+") || p.pointee == UInt8(ascii: "-") { p += 1 }
      guard p < end, isDigit(p.pointee) else { throw fail(.badNumber, p) }
      while p < end, isDigit(p.pointee) { p += 1 }
    }
    let span = UnsafeRawBufferPointer(start: start, count: p - start)
    let a = UInt32(truncatingIfNeeded: span.count)
    let b = UInt64(UInt(bitPattern: start))
    if isInteger {
      let fits = digitCount <= 18 || parseInteger(span) != nil
      return ValueBits(kind: fits ? .integer : .bigInteger, flags: ValueBits.raw, a: a, b: b)
    }
    // A float beyond the range of a double is infinity from here on and is written as a text.
    if _slowPath(hasExponent || digitCount > 300), let value = parseDouble(span), !value.isFinite {
      return .double(value)
    }
    return ValueBits(kind: .double, flags: ValueBits.raw, a: a, b: b)
  }
}

extension JSONFrame {
  /// Whether a key of this hash may have been seen; it has been from now on.
  @inline(__always)
  mutating func testAndSet(_ hash: UInt32) -> Bool {
    let bit: UInt64 = 1 &<< UInt64(hash >> 8 & 63)
    switch hash & 3 {
    case 0:
      defer { seen.0 |= bit }
      return seen.0 & bit != 0
    case 1:
      defer { seen.1 |= bit }
      return seen.1 & bit != 0
    case 2:
      defer { seen.2 |= bit }
      return seen.2 & bit != 0
    default:
      defer { seen.3 |= bit }
      return seen.3 & bit != 0
    }
  }
}

@inline(__always) func isDigit(_ byte: UInt8) -> Bool { byte &- 48 < 10 }

@inline(__always)
func load4(_ p: UnsafePointer<UInt8>) -> UInt32 { UnsafeRawPointer(p).loadUnaligned(as: UInt32.self) }

@inline(__always)
func hexDigit(_ byte: UInt8) -> UInt32? {
  switch byte {
  case 48...57: UInt32(byte) - 48
  case 65...70: UInt32(byte) - 55
  case 97...102: UInt32(byte) - 87
  default: nil
  }
}

extension Arena {
  /// The text without escapes; surrogates without their partner become U+FFFD.
  @usableFromInline @inline(never)
  mutating func unescaped(_ bits: ValueBits) -> ValueBits {
    let source = bits.start
    let count = Int(bits.a)
    let out = allocate(count)  // an escape is never shorter than what it stands for
    var n = 0
    var start = 0  // where the run begins that has not been copied
    var block = 0
    // Sixteen bytes are looked at and copied at once; bytes behind a run are overwritten by what comes next. The source
    // has readable bytes behind it, and `out` is the last allocation of its chunk, with room behind.
    while block < count {
      var stops = scan_string_stops16(source + block)
      while stops != 0 {
        let i = block &+ stops.trailingZeroBitCount
        if i >= count { break }
        memcpy(out + n, source + start, 16)
        n &+= i &- start
        let escaped = source[i &+ 1]
        if _fastPath(escaped == 34 || escaped == 92) {
          out[n] = escaped
          n &+= 1
          start = i &+ 2
        } else {
          start = i &+ unescape(source + i, count &- i, out, &n)
        }
        // A backslash within the escape stops nothing.
        let seen = start &- block
        stops = seen >= 32 ? 0 : stops & (UInt32.max &<< UInt32(truncatingIfNeeded: seen))
      }
      block &+= 16
      if start >= block {
        block = start
      } else {
        memcpy(out + n, source + start, 16)
        n &+= min(block, count) &- start
        start = block
      }
    }
    return ValueBits(kind: .text, a: UInt32(truncatingIfNeeded: n), b: UInt64(UInt(bitPattern: out)))
  }

  /// Writes what the escape at `p` stands for, and returns how many bytes of the source it took.
  private func unescape(
    _ p: UnsafePointer<UInt8>, _ left: Int, _ out: UnsafeMutablePointer<UInt8>, _ n: inout Int
  ) -> Int {
    func unit(_ at: Int) -> UInt32 {
      var value: UInt32 = 0
      for j in 2..<6 { value = value << 4 | (hexDigit(p[at + j]) ?? 0) }
      return value
    }
    switch p[1] {
    case 98: out[n] = 8
    case 102: out[n] = 12
    case 110: out[n] = 10
    case 114: out[n] = 13
    case 116: out[n] = 9
    case 117:
      var taken = 6
      var scalar = unit(0)
      if scalar >= 0xd800, scalar < 0xdc00, left >= 12, p[6] == 92, p[7] == 117 {
        let low = unit(6)
        if low >= 0xdc00, low < 0xe000 {
          scalar = 0x10000 + (scalar - 0xd800) << 10 + (low - 0xdc00)
          taken = 12
        }
      }
      if scalar >= 0xd800, scalar < 0xe000 { scalar = 0xfffd }
      n += encodeUTF8(scalar, out + n)
      return taken
    default: out[n] = p[1]
    }
    n += 1
    return 2
  }

  /// Turns a map or list that is JSON source into nodes. The source was checked or made by us; a broken one becomes
  /// an empty container.
  @usableFromInline @inline(never)
  mutating func parseInPlace(_ i: UInt32) {
    let source = node(i).pointee.bits
    let padded = copy(source.span)
    node(i).pointee.bits = ValueBits(kind: source.kind)
    var reader = JSONReader(&self, padded, limits: JSONLimits())
    if let parsed = try? reader.parseValue(), node(parsed).pointee.bits.kind == source.kind {
      node(i).pointee.bits = node(parsed).pointee.bits
    }
  }
}

/// Writes `scalar` as UTF-8 and returns the number of bytes.
@inline(__always)
func encodeUTF8(_ scalar: UInt32, _ out: UnsafeMutablePointer<UInt8>) -> Int {
  switch scalar {
  case 0..<0x80:
    out[0] = UInt8(scalar)
    return 1
  case 0x80..<0x800:
    out[0] = UInt8(0xc0 | scalar >> 6)
    out[1] = UInt8(0x80 | scalar & 63)
    return 2
  case 0x800..<0x10000:
    out[0] = UInt8(0xe0 | scalar >> 12)
    out[1] = UInt8(0x80 | scalar >> 6 & 63)
    out[2] = UInt8(0x80 | scalar & 63)
    return 3
  default:
    out[0] = UInt8(0xf0 | scalar >> 18 & 7)
    out[1] = UInt8(0x80 | scalar >> 12 & 63)
    out[2] = UInt8(0x80 | scalar >> 6 & 63)
    out[3] = UInt8(0x80 | scalar & 63)
    return 4
  }
}
