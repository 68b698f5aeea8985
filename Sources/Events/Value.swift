//  A value in an event: a handle to its node, valid until the batch is emptied.

public import Diagnostics
internal import Glibc

/// A value of an event. Freely copied; good until its batch is emptied or the value is removed.
public struct Value {
  @usableFromInline let arena: UnsafeMutablePointer<Arena>
  @usableFromInline let node: UInt32

  @usableFromInline @inline(__always)
  init(_ arena: UnsafeMutablePointer<Arena>, _ node: UInt32) {
    self.arena = arena
    self.node = node
  }

  /// The value without its place, for setting elsewhere in the same batch. Maps and lists must be `copied()` first.
  public var bits: ValueBits { @inline(__always) get { arena.pointee.node(node).pointee.bits } }
  public var kind: Kind { @inline(__always) get { bits.kind } }
  public var isNull: Bool { @inline(__always) get { bits.kind == .null } }
  public var isMap: Bool { @inline(__always) get { bits.kind == .map } }
  public var isList: Bool { @inline(__always) get { bits.kind == .list } }
  public var isText: Bool { @inline(__always) get { bits.kind == .text } }

  /// A copy that shares no node with this value.
  public func copied() -> ValueBits { arena.pointee.deepCopy(bits) }

  /// The bytes of a text, UTF-8 without escapes; they stay until the batch is emptied. Nil for other kinds.
  public var text: UnsafeRawBufferPointer? {
    @inline(__always) get { bits.kind == .text ? arena.pointee.text(node) : nil }
  }

  /// Whether the text is known to need no escaping in JSON; slices of it are clean as well.
  public var isClean: Bool { @inline(__always) get { bits.has(ValueBits.clean) } }

  public var string: String? { text.map { String(decoding: $0, as: UTF8.self) } }

  public var boolean: Bool? { @inline(__always) get { bits.kind == .boolean ? bits.b != 0 : nil } }

  public var integer: Int64? {
    @inline(__always) get {
      let bits = self.bits
      guard bits.kind == .integer else { return nil }
      return bits.has(ValueBits.raw) ? parseInteger(bits.span) ?? 0 : Int64(bitPattern: bits.b)
    }
  }

  public var double: Double? {
    let bits = self.bits
    guard bits.kind == .double else { return nil }
    return bits.has(ValueBits.raw) ? parseDouble(bits.span) ?? 0 : Double(bitPattern: bits.b)
  }

  /// Integers, big integers and floats as a double.
  public var number: Double? {
    switch bits.kind {
    case .integer: integer.map { Double($0) }
    case .double: double
    case .bigInteger: parseDouble(bits.span)
    default: nil
    }
  }

  public var timestamp: Timestamp? {
    let bits = self.bits
    return bits.kind == .timestamp ? Timestamp(seconds: Int64(bitPattern: bits.b), nanos: bits.a) : nil
  }

  /// Children of a map or list; 0 for other kinds.
  public var count: Int {
    guard isMap || isList else { return 0 }
    arena.pointee.materialize(node)
    return Int(bits.a)
  }

  public var first: Value? {
    guard isMap || isList else { return nil }
    arena.pointee.materialize(node)
    let bits = self.bits
    return bits.a == 0 ? nil : Value(arena, bits.firstChild)
  }

  /// The next sibling in the map or list that this value stands in.
  public var next: Value? {
    @inline(__always) get {
      let next = arena.pointee.node(node).pointee.next
      return next == 0 ? nil : Value(arena, next)
    }
  }

  /// The key of this value in its map.
  public var key: Key { @inline(__always) get { arena.pointee.node(node).pointee.key } }

  /// The member of a map, or element of a list, that `name` leads to from here.
  public subscript(name: String) -> Value? {
    guard isMap else { return nil }
    arena.pointee.materialize(node)
    let bytes = Array(name.utf8)
    var child = first
    while let present = child {
      if present.key.count == bytes.count, bytes.elementsEqual(present.key.bytes) { return present }
      child = present.next
    }
    return nil
  }

  /// The member of a map with `key`.
  public func member(_ key: Key) -> Value? {
    guard isMap else { return nil }
    arena.pointee.materialize(node)
    let found = arena.pointee.find(key, in: node)
    return found == 0 ? nil : Value(arena, found)
  }

  public subscript(index: Int) -> Value? {
    guard isList else { return nil }
    arena.pointee.materialize(node)
    let found = arena.pointee.element(index, of: node)
    return found == 0 ? nil : Value(arena, found)
  }

  /// Puts another value at this place.
  public func replace(with bits: ValueBits) { arena.pointee.node(node).pointee.bits = bits }

  /// Appends to a list.
  public func append(_ bits: ValueBits) {
    guard isList else { return }
    arena.pointee.materialize(node)
    let fresh = arena.pointee.makeNode(noKey, bits)
    arena.pointee.link(fresh, to: node)
  }

  /// Sets a member of a map; an equal key takes the new value at its old place.
  public func set(_ key: Key, _ bits: ValueBits) {
    guard isMap else { return }
    arena.pointee.materialize(node)
    let found = arena.pointee.find(key, in: node)
    if found != 0 {
      arena.pointee.node(found).pointee.bits = bits
    } else {
      let fresh = arena.pointee.makeNode(key, bits)
      arena.pointee.link(fresh, to: node)
    }
  }

  /// Sets a member by a name whose bytes are copied.
  public func set(name: UnsafeRawBufferPointer, _ bits: ValueBits) { set(arena.pointee.makeKey(name), bits) }

  /// Removes this value from `parent`.
  public func remove(from parent: Value) { arena.pointee.unlink(node, from: parent.node) }

  /// Whether both are the value at the same place of the same event.
  public func isSame(as other: Value) -> Bool { arena == other.arena && node == other.node }

  /// Equality as conditions have it: type and value, nothing is converted; lists and maps by content.
  public func equals(_ other: Value) -> Bool {
    let (left, right) = (bits, other.bits)
    guard left.kind == right.kind else { return false }
    switch left.kind {
    case .null: return true
    case .boolean: return left.b == right.b
    case .integer: return integer == other.integer
    case .double: return double == other.double
    case .timestamp: return left.a == right.a && left.b == right.b
    case .bigInteger: return left.span.elementsEqual(right.span)
    case .text:
      guard let a = text, let b = other.text else { return false }
      return equal(a, b)
    case .list:
      guard count == other.count else { return false }
      var (a, b) = (first, other.first)
      while let left = a, let right = b {
        guard left.equals(right) else { return false }
        (a, b) = (left.next, right.next)
      }
      return true
    case .map:
      guard count == other.count else { return false }
      var child = first
      while let member = child {
        let twin = arena == other.arena || other.count > 0 ? other.arena.pointee.find(member.key, in: other.node) : 0
        guard twin != 0, member.equals(Value(other.arena, twin)) else { return false }
        child = member.next
      }
      return true
    }
  }

  /// The value as a text, as sprintf prints it: numbers as Java does, lists joined by commas, maps as JSON.
  public func appendText(to out: inout ByteBuffer) {
    switch bits.kind {
    case .null: break
    case .boolean: bits.b != 0 ? out.append("true") : out.append("false")
    case .integer: out.append(decimal: integer ?? 0)
    case .bigInteger: out.append(bits.span)
    case .double: appendJavaDouble(double ?? 0, to: &out)
    case .timestamp: timestamp?.appendISO8601(to: &out)
    case .text: if let text { out.append(text) }
    case .map: appendJavaJSON(to: &out)
    case .list:
      var isFirst = true
      appendElements(to: &out, &isFirst)
    }
  }

  /// Elements of nested lists stand in one row; a map inside a list prints as `{k=v, k2=v2}`.
  private func appendElements(to out: inout ByteBuffer, _ isFirst: inout Bool) {
    var child = first
    while let element = child {
      if element.isList {
        element.appendElements(to: &out, &isFirst)
      } else {
        if !isFirst { out.append(44) }
        isFirst = false
        if element.isMap { element.appendBraced(to: &out) } else { element.appendText(to: &out) }
      }
      child = element.next
    }
  }

  /// The value as Java prints collections: `{k=v, k2=v2}`, `[a, b]`; null as `null`, all else as `appendText`.
  public func appendBraced(to out: inout ByteBuffer) {
    switch bits.kind {
    case .map:
      out.append(123)
      var child = first
      while let member = child {
        out.append(member.key.bytes)
        out.append(61)
        member.appendBraced(to: &out)
        child = member.next
        if child != nil { out.append(", ") }
      }
      out.append(125)
    case .list:
      out.append(91)
      var child = first
      while let element = child {
        element.appendBraced(to: &out)
        child = element.next
        if child != nil { out.append(", ") }
      }
      out.append(93)
    case .null: out.append("null")
    default: appendText(to: &out)
    }
  }
}

extension Arena {
  /// A key whose bytes are copied into the arena; names beyond the limit are cut.
  @usableFromInline
  mutating func makeKey(_ name: UnsafeRawBufferPointer) -> Key {
    let bounded = UnsafeRawBufferPointer(rebasing: name.prefix(Key.limitBytes))
    let bytes = copy(bounded)
    let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? emptyText
    return Key(padded: start, count: bytes.count)
  }
}
