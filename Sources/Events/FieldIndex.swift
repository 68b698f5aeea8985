//  Finding an event's own fields without walking them all.
//
//  Filters and conditions ask for dozens of fields by name, half of which are not there, and an event has dozens of
//  fields. So each event has a small table of 128 entries, found by the key's hash and probed in a row: the node's number
//  in the low 24 bits, 8 bits of the hash above them. It is filled at the first question and kept up by what is added or
//  removed through the event. Changes made past it (a `Value` of the root) are seen by the root's count and last member,
//  which the slot remembers, and `Arena.unlink` drops the table of a root it takes from; then it is filled anew. Events
//  with few fields are walked, and so are those with more than the table holds.

extension Event {
  @usableFromInline static let indexSize = 128
  /// Fewer members are walked: that costs less than the table.
  @usableFromInline static let indexedFrom: UInt32 = 16
  private static let indexedUpTo: UInt32 = 96
  private static let slotMask: UInt32 = 127
  private static let removed: UInt32 = 0xffff_ffff
  private static let nodeMask: UInt32 = 0x00ff_ffff

  private var table: UnsafeMutablePointer<UInt32> {
    @inline(__always) get { arena.pointee.indexes + Int(index) &* Event.indexSize }
  }

  /// The member of the event's own map with `key`; 0 when there is none.
  @usableFromInline
  func field(_ key: Key) -> UInt32 {
    let root = slot.pointee.root
    let bits = arena.pointee.node(root).pointee.bits
    if bits.a < Event.indexedFrom, !bits.has(ValueBits.unparsed) { return arena.pointee.find(key, in: root) }
    if bits.a != slot.pointee.indexedCount || bits.lastChild != slot.pointee.indexedLast {
      guard refreshIndex() else { return arena.pointee.find(key, in: root) }
    }
    let table = self.table
    let tag = key.hash >> 24
    var i = Int(key.hash & Event.slotMask)
    while true {
      let entry = table[i]
      if entry == 0 { return 0 }
      if entry >> 24 == tag, entry != Event.removed {
        let node = entry & Event.nodeMask
        if arena.pointee.node(node).pointee.key.equals(key) { return node }
      }
      i = (i &+ 1) & Int(Event.slotMask)
    }
  }

  /// Appends a member that is not there yet to the event's own map.
  func appendField(_ child: UInt32) {
    let root = slot.pointee.root
    let bits = arena.pointee.node(root).pointee.bits
    let isCurrent = bits.a == slot.pointee.indexedCount && bits.lastChild == slot.pointee.indexedLast
    arena.pointee.link(child, to: root)
    // The table must keep empty entries, where a search ends.
    guard isCurrent, bits.a &+ slot.pointee.indexHoles < Event.indexedUpTo, child < Event.nodeMask else { return }
    enter(child)
    slot.pointee.indexedCount = bits.a &+ 1
    slot.pointee.indexedLast = child
  }

  /// Takes a member out of the event's own map.
  func removeField(_ child: UInt32) {
    let root = slot.pointee.root
    let bits = arena.pointee.node(root).pointee.bits
    let isCurrent = bits.a == slot.pointee.indexedCount && bits.lastChild == slot.pointee.indexedLast
    let hash = arena.pointee.node(child).pointee.keyHash
    arena.pointee.unlink(child, from: root)
    guard isCurrent else { return }
    let table = self.table
    var i = Int(hash & Event.slotMask)
    while table[i] != 0 {
      if table[i] & Event.nodeMask == child, table[i] != Event.removed {
        table[i] = Event.removed
        break
      }
      i = (i &+ 1) & Int(Event.slotMask)
    }
    let left = arena.pointee.node(root).pointee.bits
    slot.pointee.indexedCount = left.a
    slot.pointee.indexedLast = left.lastChild
    slot.pointee.indexHoles &+= 1
  }

  @inline(__always)
  private func enter(_ child: UInt32) {
    let hash = arena.pointee.node(child).pointee.keyHash
    let table = self.table
    var i = Int(hash & Event.slotMask)
    while table[i] != 0 { i = (i &+ 1) & Int(Event.slotMask) }
    table[i] = child | hash & 0xff00_0000
  }

  /// Fills the table; false where the event has too few or too many fields for it.
  @inline(never)
  private func refreshIndex() -> Bool {
    let root = slot.pointee.root
    arena.pointee.materialize(root)
    let bits = arena.pointee.node(root).pointee.bits
    guard bits.a >= Event.indexedFrom, bits.a <= Event.indexedUpTo else { return false }
    table.update(repeating: 0, count: Event.indexSize)
    var child = bits.firstChild
    while child != 0 {
      if child >= Event.nodeMask {
        slot.pointee.indexedCount = .max
        return false
      }
      enter(child)
      child = arena.pointee.node(child).pointee.next
    }
    slot.pointee.indexedCount = bits.a
    slot.pointee.indexedLast = bits.lastChild
    slot.pointee.indexHoles = 0
    return true
  }
}
