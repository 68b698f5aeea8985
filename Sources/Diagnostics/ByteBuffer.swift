//  A growing run of bytes with one owner. The JSON writer, bulk bodies and queue writes fill it; it is reused, so that
//  a steady load allocates nothing.

public import Glibc

/// Raw growing bytes. Not thread-safe; whoever holds it owns it.
public struct ByteBuffer: ~Copyable, @unchecked Sendable {  // unchecked: one owner, no sharing
  @usableFromInline var base: UnsafeMutablePointer<UInt8>
  @usableFromInline var room: Int
  public var count: Int

  public init(capacity: Int = 0) {
    room = max(capacity, 64)
    base = .allocate(capacity: room)
    count = 0
  }

  deinit { base.deallocate() }

  /// Bytes that it holds memory for.
  public var capacity: Int { room }
  @inlinable public var isEmpty: Bool { count == 0 }
  @inlinable public var pointer: UnsafeMutablePointer<UInt8> { base }
  @inlinable public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Makes room for `more` bytes behind the present ones.
  @inlinable @inline(__always)
  public mutating func reserve(_ more: Int) {
    if _slowPath(room &- count < more) { grow(more) }
  }

  @inline(never)
  public mutating func grow(_ more: Int) {
    let larger = max(room * 2, count + more)
    let fresh = UnsafeMutablePointer<UInt8>.allocate(capacity: larger)
    fresh.update(from: base, count: count)
    base.deallocate()
    base = fresh
    room = larger
  }

  @inlinable public mutating func removeAll() { count = 0 }

  /// Gives memory back when far more is held than `limit`.
  public mutating func shrink(to limit: Int) {
    guard room > limit, count <= limit else { return }
    let fresh = UnsafeMutablePointer<UInt8>.allocate(capacity: max(limit, 64))
    fresh.update(from: base, count: count)
    base.deallocate()
    base = fresh
    room = max(limit, 64)
  }

  /// Drops `n` bytes from the front; the rest moves.
  public mutating func removeFirst(_ n: Int) {
    precondition(n <= count)
    if n < count { memmove(base, base + n, count - n) }
    count -= n
  }

  @inlinable @inline(__always)
  public mutating func append(_ byte: UInt8) {
    reserve(1)
    base[count] = byte
    count &+= 1
  }

  @inlinable @inline(__always)
  public mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    append(start, bytes.count)
  }

  @inlinable @inline(__always)
  public mutating func append(_ start: UnsafeRawPointer, _ n: Int) {
    reserve(n)
    memcpy(base + count, start, n)
    count &+= n
  }

  @inlinable @inline(__always)
  public mutating func append(_ text: StaticString) {
    append(UnsafeRawPointer(text.utf8Start), text.utf8CodeUnitCount)
  }

  public mutating func append(contentsOf bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

  public mutating func append(text: String) {
    var text = text
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  /// Two digits a byte, letters in lower case.
  public mutating func append(hexadecimal bytes: UnsafeRawBufferPointer) {
    reserve(2 * bytes.count)
    func digit(_ value: UInt8) -> UInt8 { value < 10 ? 48 + value : 87 + value }
    for byte in bytes {
      append(digit(byte >> 4))
      append(digit(byte & 15))
    }
  }

  public mutating func append(bigEndian value: UInt32) {
    withUnsafeBytes(of: value.bigEndian) { append($0) }
  }
  public mutating func append<Value: FixedWidthInteger>(littleEndian value: Value) {
    withUnsafeBytes(of: value.littleEndian) { append($0) }
  }

  /// Decimal digits of `value`.
  public mutating func append(decimal value: Int64) {
    reserve(20)
    if value < 0 {
      base[count] = UInt8(ascii: "-")
      count &+= 1
    }
    appendDigits(value.magnitude)
  }

  public mutating func append(decimal value: Int) { append(decimal: Int64(value)) }

  @inline(__always)
  mutating func appendDigits(_ value: UInt64) {
    var rest = value
    var digits = 1
    var bound: UInt64 = 10
    while digits < 20, rest >= bound {
      digits &+= 1
      bound = digits < 20 ? bound &* 10 : .max
    }
    if digits == 20, rest < 10_000_000_000_000_000_000 { digits = 19 }
    reserve(digits)
    var i = count &+ digits
    count = i
    repeat {
      i &-= 1
      base[i] = UInt8(truncatingIfNeeded: rest % 10) &+ 48
      rest /= 10
    } while rest != 0
  }

  /// Digits of `value`, padded with zeros at the left to `width`.
  public mutating func append(decimal value: Int, width: Int) {
    reserve(width)
    var rest = value
    var i = width
    while i > 0 {
      i &-= 1
      base[count &+ i] = UInt8(truncatingIfNeeded: rest % 10) &+ 48
      rest /= 10
    }
    count &+= width
  }

  public func array() -> [UInt8] { Array(bytes) }
  public func string() -> String { String(decoding: bytes, as: UTF8.self) }
}
