//  Words that stand for numbers in dates: months, weekdays, halves of the day, eras. A table of them finds the longest
//  word at a place in a text with a few comparisons of eight bytes.

/// The words of one locale.
struct DateNames: Equatable, Sendable {
  /// January first.
  var months: [String]
  var shortMonths: [String]
  /// Monday first.
  var weekdays: [String]
  var shortWeekdays: [String]
  /// Before and after noon.
  var halfdays: [String]

  static let english = DateNames(
    months: (1...12).map { "\(EnglishNames.month($0))" },
    shortMonths: (1...12).map { String("\(EnglishNames.month($0))".prefix(3)) },
    weekdays: (1...7).map { "\(EnglishNames.weekday($0))" },
    shortWeekdays: (1...7).map { String("\(EnglishNames.weekday($0))".prefix(3)) },
    halfdays: ["AM", "PM"])
}

/// Words and their values. Each word also matches in lower and in upper case, but not mixed.
struct NameTable: Sendable {
  private struct Word: Sendable {
    /// The first eight bytes, zeros behind a shorter word.
    var head: UInt64
    var mask: UInt64
    var length: Int
    var value: Int
    /// What follows the first eight bytes.
    var tail: [UInt8]
  }
  private let words: [Word]
  /// For each first byte where its words begin; the next entry is their end. Longer words come first.
  private let starts: [UInt16]

  /// - Parameter lists: Lists of words; a word's value is its place in its list plus `first`.
  init(_ lists: [[String]], first: Int, more: [String: Int] = [:]) {
    var values: [[UInt8]: Int] = [:]
    func add(_ word: String, _ value: Int) {
      for form in [word, word.lowercased(), word.uppercased()] where !form.isEmpty {
        values[Array(form.utf8), default: value] = value
      }
    }
    for list in lists { for (i, word) in list.enumerated() { add(word, first + i) } }
    for (word, value) in more { add(word, value) }
    let sorted = values.sorted {
      ($0.key[0], -$0.key.count, $0.value) < ($1.key[0], -$1.key.count, $1.value)
    }
    var starts = [UInt16](repeating: UInt16(sorted.count), count: 257)
    var words: [Word] = []
    for (bytes, value) in sorted {
      if starts[Int(bytes[0])] == UInt16(sorted.count) { starts[Int(bytes[0])] = UInt16(words.count) }
      var head: UInt64 = 0
      for (i, byte) in bytes.prefix(8).enumerated() { head |= UInt64(byte) << UInt64(8 * i) }
      let mask = bytes.count >= 8 ? UInt64.max : (1 << UInt64(8 * bytes.count)) - 1
      words.append(Word(head: head, mask: mask, length: bytes.count, value: value, tail: Array(bytes.dropFirst(8))))
    }
    for i in stride(from: 255, through: 0, by: -1) where starts[i] == UInt16(sorted.count) { starts[i] = starts[i + 1] }
    self.words = words
    self.starts = starts
  }

  /// The longest word at `p`: its value and length, or a length of 0.
  @inline(__always)
  func match(_ p: UnsafeRawPointer, _ count: Int) -> (value: Int, length: Int) {
    guard count > 0 else { return (0, 0) }
    var head: UInt64 = 0
    if count >= 8 {
      head = UInt64(littleEndian: p.loadUnaligned(as: UInt64.self))
    } else {
      for i in 0..<count { head |= UInt64(byte(p, i)) << UInt64(truncatingIfNeeded: 8 &* i) }
    }
    let first = Int(truncatingIfNeeded: head & 0xff)
    return words.withUnsafeBufferPointer { words in
      for i in Int(starts[first])..<Int(starts[first &+ 1]) {
        if head & words[i].mask != words[i].head || words[i].length > count { continue }
        if words[i].length <= 8 || NameTable.matches(words[i].tail, p + 8) { return (words[i].value, words[i].length) }
      }
      return (0, 0)
    }
  }

  private static func matches(_ tail: [UInt8], _ p: UnsafeRawPointer) -> Bool {
    for i in 0..<tail.count where tail[i] != byte(p, i) { return false }
    return true
  }
}
