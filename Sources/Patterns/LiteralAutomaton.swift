//  Many literals, one pass. User-agent rules and threat rules each hold hundreds of expressions of which a handful can
//  match a given text; an Aho-Corasick automaton over the literals that those expressions require names the handful.
//
//  The automaton is a complete transition table, so that a byte costs one load. A row is one state; its first column
//  says where the state's values stand, the others are the next states, one column per class of bytes: bytes that occur
//  in no literal share a class, and so do upper and lower case where case is folded. States are stored as offsets of
//  their rows, and those at which a literal ends come last, so that one comparison finds them.

/// A fixed set of byte strings, each with a value of the caller's, found in one pass over a text.
///
/// Never written after `init`, so any thread may scan with it. A scan allocates nothing.
public final class LiteralAutomaton: @unchecked Sendable {  // unchecked: read-only once built
  /// Most bytes of all literals together; beyond it the table would outgrow what a prefilter is worth.
  public static let byteLimit = 1 << 20

  /// Words of the bit set that `mark` fills: one bit per value from 0 to the highest one.
  public let wordCount: Int
  /// Bytes that the tables hold.
  public let tableBytes: Int

  @usableFromInline let classes: UnsafeMutablePointer<UInt16>
  @usableFromInline let table: UnsafeMutablePointer<UInt32>
  @usableFromInline let outputs: UnsafeMutablePointer<UInt32>
  @usableFromInline let firstEnd: UInt32

  /// Builds the automaton.
  ///
  /// - Parameters:
  ///   - literals: Not empty strings; the same string may stand for several values.
  ///   - foldsCase: Whether ASCII letters match in either case.
  /// - Returns: Nil where a literal is empty, a value is negative or above 2^24, or `byteLimit` is passed.
  public init?(_ literals: [(bytes: [UInt8], value: Int)], foldsCase: Bool) {
    var total = 0
    var highest = -1
    for literal in literals {
      guard !literal.bytes.isEmpty, literal.value >= 0, literal.value < 1 << 24 else { return nil }
      total += literal.bytes.count
      highest = max(highest, literal.value)
    }
    guard total <= LiteralAutomaton.byteLimit else { return nil }
    wordCount = (highest + 64) / 64

    // Classes: column 0 of a row is the state's values, column 1 the bytes that no literal has.
    var classOf = [UInt16](repeating: 1, count: 256)
    var columns = 2
    for literal in literals {
      for byte in literal.bytes {
        let folded = foldsCase ? lowerCase(byte) : byte
        if classOf[Int(folded)] == 1 {
          classOf[Int(folded)] = UInt16(columns)
          columns += 1
        }
      }
    }
    if foldsCase { for byte in 65...90 { classOf[byte] = classOf[byte + 32] } }

    // The trie, as rows of children; 0 is the root and also "no child", since no edge leads to the root.
    var rows = [UInt32](repeating: 0, count: columns)
    var stateCount = 1
    var own: [[UInt32]] = [[]]
    for literal in literals {
      var state = 0
      for byte in literal.bytes {
        let slot = state * columns + Int(classOf[Int(byte)])
        if rows[slot] == 0 {
          rows[slot] = UInt32(stateCount)
          rows.append(contentsOf: repeatElement(0, count: columns))
          own.append([])
          stateCount += 1
        }
        state = Int(rows[slot])
      }
      if !own[state].contains(UInt32(literal.value)) { own[state].append(UInt32(literal.value)) }
    }
    guard stateCount * columns < Int(UInt32.max) else { return nil }

    // Breadth first: a missing child is the child of the state's longest proper suffix, whose row is complete by then.
    var suffix = [UInt32](repeating: 0, count: stateCount)
    var queue: [Int] = [0]
    queue.reserveCapacity(stateCount)
    var next = 0
    while next < queue.count {
      let state = queue[next]
      next += 1
      let fallback = Int(suffix[state])
      if state != 0 { for value in own[fallback] where !own[state].contains(value) { own[state].append(value) } }
      for column in 1..<columns {
        let slot = state * columns + column
        let child = Int(rows[slot])
        let other = state == 0 ? 0 : rows[fallback * columns + column]
        if child == 0 {
          rows[slot] = other
        } else {
          suffix[child] = other
          queue.append(child)
        }
      }
    }

    // States where something ends move to the back.
    var place = [UInt32](repeating: 0, count: stateCount)
    var order: [Int] = []
    order.reserveCapacity(stateCount)
    for ends in [false, true] {
      for state in queue where own[state].isEmpty != ends {
        place[state] = UInt32(order.count * columns)
        order.append(state)
      }
    }
    firstEnd = UInt32((order.firstIndex { !own[$0].isEmpty } ?? stateCount) * columns)
    table = .allocate(capacity: stateCount * columns)
    var lists: [UInt32] = [0]  // list 0 is the empty one
    for (index, state) in order.enumerated() {
      let row = table + index * columns
      row[0] = own[state].isEmpty ? 0 : UInt32(lists.count)
      if !own[state].isEmpty {
        lists.append(UInt32(own[state].count))
        lists.append(contentsOf: own[state])
      }
      for column in 1..<columns { row[column] = place[Int(rows[state * columns + column])] }
    }
    outputs = .allocate(capacity: lists.count)
    outputs.initialize(from: lists, count: lists.count)
    classes = .allocate(capacity: 256)
    classes.initialize(from: classOf, count: 256)
    tableBytes = (stateCount * columns + lists.count) * 4 + 512
  }

  deinit {
    table.deallocate()
    outputs.deallocate()
    classes.deallocate()
  }

  /// Sets the bit of every value whose literal occurs in `text`. Bits that are set already stay.
  ///
  /// - Parameter found: At least `wordCount` words.
  /// - Returns: Whether anything was found.
  @inlinable @discardableResult
  public func mark(_ text: UnsafeRawBufferPointer, _ found: UnsafeMutablePointer<UInt64>) -> Bool {
    guard let start = text.baseAddress else { return false }
    let bytes = start.assumingMemoryBound(to: UInt8.self)
    let (table, classes, outputs, firstEnd) = (self.table, self.classes, self.outputs, self.firstEnd)
    var state: UInt32 = 0
    var last: UInt32 = 0
    var any = false
    for i in 0..<text.count {
      state = table[Int(state &+ UInt32(classes[Int(bytes[i])]))]
      // The same end twice in a row of hits says nothing new.
      if _slowPath(state >= firstEnd), state != last {
        last = state
        any = true
        let list = outputs + Int(table[Int(state)])
        for k in 1...Int(list[0]) {
          let value = list[k]
          found[Int(value >> 6)] |= 1 &<< UInt64(value & 63)
        }
      }
    }
    return any
  }

  /// Calls `body` with the value and the end of every occurrence, in order of their ends, until it returns false.
  @inlinable
  public func forEachMatch(_ text: UnsafeRawBufferPointer, _ body: (_ value: Int, _ end: Int) -> Bool) {
    guard let start = text.baseAddress else { return }
    let bytes = start.assumingMemoryBound(to: UInt8.self)
    var state: UInt32 = 0
    for i in 0..<text.count {
      state = table[Int(state &+ UInt32(classes[Int(bytes[i])]))]
      if _slowPath(state >= firstEnd) {
        let list = outputs + Int(table[Int(state)])
        for k in 1...Int(list[0]) where !body(Int(list[k]), i &+ 1) { return }
      }
    }
  }
}

/// `byte` with an ASCII capital made small.
@inlinable
public func lowerCase(_ byte: UInt8) -> UInt8 { byte &- 65 < 26 ? byte | 32 : byte }
