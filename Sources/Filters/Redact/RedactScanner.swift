//  Finding what must not be kept in a text.
//
//  Nearly every text holds nothing, and has to cost little: one table look-up per byte, which wakes a detector at a
//  digit, an at sign or a colon, and one pass of an automaton over the words that announce secrets and record numbers.
//  A detector then looks at the few bytes around, with checks that keep ordinary numbers apart: a card has an issuer
//  and a check digit, an address four numbers below 256.

internal import Events
internal import Patterns

/// A kind of what is found.
enum RedactKind: String, CaseIterable, Sendable {
  case address, email, card, ssn, token
  case medicalRecord = "medical_record"
}

/// Finds pieces of texts. One worker owns it; a text in which nothing is found allocates nothing.
final class RedactScanner {
  struct Hit {
    var start: Int
    var end: Int
    /// A kind's place among all kinds, or that of an expression behind them.
    var kind: Int
  }

  /// What was found last, in order and without overlaps.
  private(set) var hits: [Hit] = []
  /// An expression needed more than its share of time, so that the text was not looked at in full.
  private(set) var isUnfinished = false

  private let finds: [Bool]
  private let classes: UnsafeMutablePointer<UInt8>
  private let hasClasses: Bool
  private let words: RedactWords?
  private let patterns: [Pattern]
  private let scratch = MatchScratch()

  private static let digit: UInt8 = 1
  private static let at: UInt8 = 2
  private static let colon: UInt8 = 4

  init(_ kinds: [RedactKind], _ patterns: [Pattern]) {
    finds = RedactKind.allCases.map { kinds.contains($0) }
    self.patterns = patterns
    words = RedactWords(kinds)
    classes = .allocate(capacity: 256)
    classes.initialize(repeating: 0, count: 256)
    if kinds.contains(.address) || kinds.contains(.card) || kinds.contains(.ssn) {
      for byte in 48...57 { classes[byte] = RedactScanner.digit }
    }
    if kinds.contains(.email) { classes[64] = RedactScanner.at }
    if kinds.contains(.address) { classes[58] = RedactScanner.colon }
    hasClasses = (0..<256).contains { [classes] in classes[$0] != 0 }
    hits.reserveCapacity(32)
  }

  deinit { classes.deallocate() }

  /// Looks through `text`.
  ///
  /// - Returns: Whether something was found, or an expression was not finished.
  func scan(_ text: UnsafeRawBufferPointer) -> Bool {
    hits.removeAll(keepingCapacity: true)
    isUnfinished = false
    guard text.count > 0 else { return false }
    if hasClasses { scanBytes(text) }
    if let words {
      words.scan(text) { hits.append(Hit(start: $0, end: $1, kind: RedactScanner.place($2))) }
    }
    for i in 0..<patterns.count { scanPattern(i, text) }
    if hits.count > 1 { order() }
    return !hits.isEmpty || isUnfinished
  }

  private static func place(_ kind: RedactKind) -> Int {
    switch kind {
    case .address: 0
    case .email: 1
    case .card: 2
    case .ssn: 3
    case .token: 4
    case .medicalRecord: 5
    }
  }

  private func has(_ kind: RedactKind) -> Bool { finds[RedactScanner.place(kind)] }

  private func add(_ start: Int, _ end: Int, _ kind: RedactKind) {
    hits.append(Hit(start: start, end: end, kind: RedactScanner.place(kind)))
  }

  /// Sorts, and joins what overlaps; the piece that begins first, or else is longer, gives its kind.
  private func order() {
    hits.sort { $0.start != $1.start ? $0.start < $1.start : $0.end > $1.end }
    var kept = 0
    for i in 1..<hits.count {
      if hits[i].start < hits[kept].end {
        hits[kept].end = max(hits[kept].end, hits[i].end)
      } else {
        kept += 1
        hits[kept] = hits[i]
      }
    }
    hits.removeLast(hits.count - kept - 1)
  }

  private func scanPattern(_ i: Int, _ text: UnsafeRawBufferPointer) {
    let literal = patterns[i].requiredLiteral
    if !literal.isEmpty, literal.withUnsafeBytes({ find($0, in: text, from: 0) }) == nil { return }
    var position = 0
    while position <= text.count {
      switch scratch.match(patterns[i], text, from: position, options: [.validText, .notEmpty], timeLimit: 1000) {
      case .none: return
      case .limit, .badText:
        isUnfinished = true
        return
      case .match:
        // The first group, where there is one that took part, says what is to go.
        let group = scratch.start(of: 1) >= 0 && scratch.end(of: 1) > scratch.start(of: 1) ? 1 : 0
        hits.append(
          Hit(start: scratch.start(of: group), end: scratch.end(of: group), kind: RedactKind.allCases.count + i))
        position = max(scratch.end(of: 0), position + 1)
      }
    }
  }

  private func scanBytes(_ text: UnsafeRawBufferPointer) {
    let count = text.count
    var i = 0
    while true {
      while i < count, classes[Int(text[i])] == 0 { i &+= 1 }
      guard i < count else { return }
      switch classes[Int(text[i])] {
      case RedactScanner.digit: i = scanDigits(text, i)
      case RedactScanner.at:
        if let (start, end) = RedactScanner.mail(text, at: i) {
          add(start, end, .email)
          i = end
        } else {
          i &+= 1
        }
      default: i = scanColons(text, i)
      }
    }
  }

  // MARK: Numbers

  /// Looks at the number that begins at `start`.
  ///
  /// - Returns: Where to go on.
  private func scanDigits(_ text: UnsafeRawBufferPointer, _ start: Int) -> Int {
    var end = start
    while end < text.count, isDigit(text[end]) { end &+= 1 }
    // Within a word nothing begins; behind a point or dash of a longer number only an address may.
    var isInner = false
    if start > 0 {
      let before = text[start - 1]
      if isWord(before) { return end }
      if before == 46 || before == 45, start > 1, isWord(text[start - 2]) {
        if before == 46 { return end }
        isInner = true
      }
    }
    let length = end - start
    if has(.address), length <= 3, end < text.count, text[end] == 46, let last = v4(text, start) {
      add(start, last, .address)
      return last
    }
    if isInner { return end }
    if has(.ssn), length == 3, let last = socialSecurity(text, start) {
      add(start, last, .ssn)
      return last
    }
    if has(.card), length >= 4, length <= 19, let last = card(text, start) {
      add(start, last, .card)
      return last
    }
    return end
  }

  private func v4(_ text: UnsafeRawBufferPointer, _ start: Int) -> Int? {
    // `Chrome/120.0.0.0` is a version.
    if start > 1, text[start - 1] == UInt8(ascii: "/"), isLetter(text[start - 2]) { return nil }
    var i = start
    for part in 0..<4 {
      var value = 0
      let begin = i
      while i < text.count, i - begin < 4, isDigit(text[i]) {
        value = value * 10 + Int(text[i] - 48)
        i += 1
      }
      guard i > begin, value <= 255, i - begin <= 3 else { return nil }
      if part < 3 {
        guard i < text.count, text[i] == 46 else { return nil }
        i += 1
      }
    }
    guard i < text.count else { return i }
    return isWord(text[i]) || text[i] == 46 && i + 1 < text.count && isDigit(text[i + 1]) ? nil : i
  }

  /// `123-45-6789` or with blanks, in the ranges that are given out.
  private func socialSecurity(_ text: UnsafeRawBufferPointer, _ start: Int) -> Int? {
    let end = start + 11
    guard end <= text.count else { return nil }
    let mark = text[start + 3]
    guard mark == 45 || mark == 32, text[start + 6] == mark else { return nil }
    for i in [0, 1, 2, 4, 5, 7, 8, 9, 10] where !isDigit(text[start + i]) { return nil }
    guard endsNumber(text, end),
      end == text.count || text[end] != mark || end + 1 == text.count || !isDigit(text[end + 1])
    else { return nil }
    return RedactScanner.isSocialSecurity(text, start, start + 4, start + 7) ? end : nil
  }

  /// Whether area, group and serial number, which begin at these places, can be one's.
  static func isSocialSecurity(_ text: UnsafeRawBufferPointer, _ area: Int, _ group: Int, _ serial: Int) -> Bool {
    let first = number(text, area, 3)
    return first != 0 && first != 666 && first < 900 && number(text, group, 2) != 0 && number(text, serial, 4) != 0
  }

  private static func number(_ text: UnsafeRawBufferPointer, _ start: Int, _ count: Int) -> Int {
    var value = 0
    for i in start..<(start + count) { value = value * 10 + Int(text[i] &- 48) }
    return value
  }

  /// A card's number in a row or in groups with one sign between.
  private func card(_ text: UnsafeRawBufferPointer, _ start: Int) -> Int? {
    var digits: (UInt64, Int) = (0, 0)
    var i = start
    var mark: UInt8 = 0
    var groups: (Int, Int, Int, Int) = (0, 0, 0, 0)
    var groupCount = 0
    while i < text.count, groupCount < 4 {
      let begin = i
      while i < text.count, isDigit(text[i]) {
        guard digits.1 < 19 else { return nil }
        digits = (digits.0 * 10 + UInt64(text[i] - 48), digits.1 + 1)
        i += 1
      }
      switch groupCount {
      case 0: groups.0 = i - begin
      case 1: groups.1 = i - begin
      case 2: groups.2 = i - begin
      default: groups.3 = i - begin
      }
      groupCount += 1
      guard i + 1 < text.count, text[i] == 45 || text[i] == 32, mark == 0 || text[i] == mark, isDigit(text[i + 1])
      else {
        break
      }
      // A number of its own may follow behind a blank.
      if groupCount == 1, groups.0 >= 12 { break }
      if groupCount == 4 || groupCount == 3 && groups.1 == 6 { break }
      mark = text[i]
      i += 1
    }
    switch groupCount {
    case 1: break
    case 3: guard groups.0 == 4, groups.1 == 6, groups.2 == 4 || groups.2 == 5 else { return nil }
    case 4: guard groups.0 == 4, groups.1 == 4, groups.2 == 4, groups.3 <= 7 else { return nil }
    default: return nil
    }
    return endsNumber(text, i) && RedactScanner.isCard(digits.0, digits.1) ? i : nil
  }

  /// Whether a number has an issuer, that issuer's length, and the right check digit.
  static func isCard(_ number: UInt64, _ count: Int) -> Bool {
    guard count >= 12, count <= 19 else { return false }
    var scale: UInt64 = 1
    for _ in 0..<(count - 6) { scale *= 10 }
    let front = Int(number / scale)
    guard isIssued(front, count) else { return false }
    var sum: UInt64 = 0
    var rest = number
    var doubles = false
    while rest > 0 {
      let digit = rest % 10
      sum += doubles ? (digit * 2) / 10 + (digit * 2) % 10 : digit
      doubles.toggle()
      rest /= 10
    }
    return sum % 10 == 0
  }

  /// - Parameter front: The first six digits.
  private static func isIssued(_ front: Int, _ count: Int) -> Bool {
    switch front {
    case 400_000...499_999: count == 13 || count == 16 || count == 19
    case 510_000...559_999, 222_100...272_099: count == 16
    case 340_000...349_999, 370_000...379_999: count == 15
    case 300_000...305_999, 360_000...369_999, 380_000...399_999: count >= 14
    case 352_800...358_999, 601_100...601_199, 620_000...629_999, 644_000...659_999: count >= 16
    case 501_800...501_899, 502_000...502_099, 503_800...503_899, 589_300...589_399, 630_400...630_499,
      675_900...675_999, 676_100...676_399:
      true
    default: false
    }
  }

  /// Whether a number may end at `i`: no letter, digit or decimal fraction follows.
  private func endsNumber(_ text: UnsafeRawBufferPointer, _ i: Int) -> Bool {
    guard i < text.count else { return true }
    if isWord(text[i]) { return false }
    return !((text[i] == 46 || text[i] == 45) && i + 1 < text.count && isDigit(text[i + 1]))
  }

  // MARK: Addresses with colons, mail

  private func scanColons(_ text: UnsafeRawBufferPointer, _ at: Int) -> Int {
    var start = at
    while start > 0, at - start < 4, isHexadecimal(text[start - 1]) { start -= 1 }
    var end = at
    var colons = 0
    while end < text.count, end - start < 46, isHexadecimal(text[end]) || text[end] == 58 || text[end] == 46 {
      if text[end] == 58 { colons += 1 }
      end += 1
    }
    // Times and the like have too few colons, or none that stand together; the reader decides.
    guard colons >= 2, start == 0 || !isWord(text[start - 1]) && text[start - 1] != 58 else { return at + 1 }
    while end > start {
      let piece = text.slice(start, end)
      if end == text.count || !isWord(text[end]), piece.count > 2, let address = IPAddress(piece), !address.isV4 {
        add(start, end, .address)
        return end
      }
      // A colon or point of the sentence may stand behind.
      guard text[end - 1] == 58 || text[end - 1] == 46 else { break }
      end -= 1
    }
    return at + 1
  }

  private static func mail(_ text: UnsafeRawBufferPointer, at: Int) -> (start: Int, end: Int)? {
    var start = at
    while start > 0, at - start < 128, isLocal(text[start - 1]) { start -= 1 }
    while start < at, text[start] == 46 || text[start] == 45 { start += 1 }
    guard start < at, text[at - 1] != 46 else { return nil }
    var end = at + 1
    var label = end
    var lastLabel = 0..<0
    var dots = 0
    while end < text.count, end - at < 256 {
      let byte = text[end]
      if isLetter(byte) || isDigit(byte) || byte >= 0x80 || byte == 45 && end > label {
        end += 1
        lastLabel = label..<end
      } else if byte == 46, end > label, end + 1 < text.count,
        isLetter(text[end + 1]) || isDigit(text[end + 1]) || text[end + 1] >= 0x80
      {
        dots += 1
        end += 1
        label = end
      } else {
        break
      }
    }
    guard dots > 0, lastLabel.count >= 2, text[lastLabel].contains(where: { !isDigit($0) }) else { return nil }
    return (start, end)
  }

  private static func isLocal(_ byte: UInt8) -> Bool {
    isLetter(byte) || isDigit(byte) || byte >= 0x80 || byte == 46 || byte == 95 || byte == 37 || byte == 43
      || byte == 45
  }
}

@inline(__always) func isDigit(_ byte: UInt8) -> Bool { byte &- 48 < 10 }
@inline(__always) func isLetter(_ byte: UInt8) -> Bool { (byte | 32) &- 97 < 26 }
/// Letters of any script, digits and the underscore.
@inline(__always) func isWord(_ byte: UInt8) -> Bool { isLetter(byte) || isDigit(byte) || byte == 95 || byte >= 0x80 }
@inline(__always) func isHexadecimal(_ byte: UInt8) -> Bool { isDigit(byte) || (byte | 32) &- 97 < 6 }
