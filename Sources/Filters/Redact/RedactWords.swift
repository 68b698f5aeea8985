//  What is announced by a word: tokens by the letters they begin with, secrets by the name in front of them, record and
//  social security numbers by their label. One pass over a text names the words in it.

internal import Patterns

struct RedactWords: Sendable {
  private enum Word: Sendable {
    /// A token that begins with these letters, in this case, and goes on for some of the signs.
    case begins([UInt8], Signs, least: Int, most: Int)
    /// `name = value`; some names are trusted with a colon as well, whatever the value.
    case names(isPassword: Bool)
    /// A scheme of HTTP authentication.
    case scheme
    case authorization
    case privateKey
    case webToken
    case record
    case socialSecurity
  }

  private enum Signs: Sendable {
    case capitals, letters, words, dashed

    func has(_ byte: UInt8) -> Bool {
      switch self {
      case .capitals: byte &- 65 < 26 || isDigit(byte)
      case .letters: isLetter(byte) || isDigit(byte)
      case .words: isLetter(byte) || isDigit(byte) || byte == 95
      case .dashed: isLetter(byte) || isDigit(byte) || byte == 95 || byte == 45
      }
    }
  }

  private let words: [(word: Word, kind: RedactKind)]
  private let automaton: LiteralAutomaton

  /// - Returns: Nil where none of the kinds is announced by a word.
  init?(_ kinds: [RedactKind]) {
    var words: [(word: Word, kind: RedactKind)] = []
    var literals: [(bytes: [UInt8], value: Int)] = []
    func add(_ text: String, _ word: Word, _ kind: RedactKind) {
      literals.append((Array(text.lowercased().utf8), words.count))
      words.append((word, kind))
    }
    if kinds.contains(.token) {
      for (start, signs, least, most) in RedactWords.tokens {
        add(start, .begins(Array(start.utf8), signs, least: least, most: most), .token)
      }
      for name in ["password", "passwd", "passphrase", "pwd", "secret"] { add(name, .names(isPassword: true), .token) }
      for name in ["token", "api_key", "apikey", "api-key", "access_key", "accesskey", "credential", "session_id"] {
        add(name, .names(isPassword: false), .token)
      }
      add("bearer ", .scheme, .token)
      add("authorization", .authorization, .token)
      add("-----begin ", .privateKey, .token)
      add("eyj", .webToken, .token)
    }
    if kinds.contains(.medicalRecord) {
      for name in ["mrn", "medical record", "medical_record", "patient id", "patient_id", "patientid", "patient no"] {
        add(name, .record, .medicalRecord)
      }
    }
    if kinds.contains(.ssn) {
      for name in ["ssn", "social security"] { add(name, .socialSecurity, .ssn) }
    }
    guard !literals.isEmpty, let automaton = LiteralAutomaton(literals, foldsCase: true) else { return nil }
    self.words = words
    self.automaton = automaton
  }

  /// How tokens of well-known services begin, and how many signs follow.
  private static let tokens: [(String, Signs, Int, Int)] = [
    ("AKIA", .capitals, 16, 16), ("ASIA", .capitals, 16, 16),
    ("ghp_", .letters, 20, 255), ("gho_", .letters, 20, 255), ("ghu_", .letters, 20, 255), ("ghs_", .letters, 20, 255),
    ("ghr_", .letters, 20, 255), ("github_pat_", .words, 22, 255), ("glpat-", .dashed, 20, 255),
    ("xoxb-", .dashed, 10, 255), ("xoxp-", .dashed, 10, 255), ("xoxa-", .dashed, 10, 255), ("xoxr-", .dashed, 10, 255),
    ("xoxs-", .dashed, 10, 255), ("sk_live_", .letters, 16, 255), ("sk_test_", .letters, 16, 255),
    ("rk_live_", .letters, 16, 255), ("AIza", .dashed, 35, 35), ("sk-", .dashed, 20, 255), ("npm_", .letters, 36, 36),
  ]

  /// Calls `found` with the place and the kind of each piece.
  func scan(_ text: UnsafeRawBufferPointer, _ found: (_ start: Int, _ end: Int, _ kind: RedactKind) -> Void) {
    automaton.forEachMatch(text) { value, end in
      let (word, kind) = words[value]
      let place: Range<Int>? =
        switch word {
        case .begins(let start, let signs, let least, let most): begins(text, end, start, signs, least, most)
        case .names(let isPassword): named(text, end, isPassword)
        case .scheme: scheme(text, end)
        case .authorization: authorization(text, end)
        case .privateKey: privateKey(text, end)
        case .webToken: webToken(text, end)
        case .record: record(text, end)
        case .socialSecurity: socialSecurity(text, end)
        }
      if let place { found(place.lowerBound, place.upperBound, kind) }
      return true
    }
  }

  private func begins(
    _ text: UnsafeRawBufferPointer, _ at: Int, _ start: [UInt8], _ signs: Signs, _ least: Int, _ most: Int
  ) -> Range<Int>? {
    let first = at - start.count
    guard text[first..<at].elementsEqual(start), first == 0 || !isWord(text[first - 1]) else { return nil }
    var end = at
    while end < text.count, signs.has(text[end]) { end += 1 }
    return end - at >= least && end - at <= most ? first..<end : nil
  }

  /// The value behind a name: `name=value`, `"name": "value"`, `name: value`.
  private func named(_ text: UnsafeRawBufferPointer, _ at: Int, _ isPassword: Bool) -> Range<Int>? {
    var i = at
    let isQuoted = i < text.count && (text[i] == 34 || text[i] == 39)
    if isQuoted { i += 1 }
    skipBlanks(text, &i)
    guard i < text.count, text[i] == UInt8(ascii: "=") || text[i] == UInt8(ascii: ":") else { return nil }
    let isColon = text[i] == UInt8(ascii: ":")
    i += 1
    if isColon, i < text.count, text[i] == 58 { return nil }
    if !isColon, i < text.count, text[i] == UInt8(ascii: ">") { i += 1 }
    skipBlanks(text, &i)
    guard let value = value(text, i) else { return nil }
    // `token: expired` is a sentence; `token: 8f3a…` is not.
    if isColon, !isPassword, !isQuoted {
      guard value.count >= 6, text[value].contains(where: { isDigit($0) }) else { return nil }
    }
    return value
  }

  /// A value, in quotes or up to a sign that ends one; nil where there is none.
  private func value(_ text: UnsafeRawBufferPointer, _ start: Int) -> Range<Int>? {
    var i = start
    guard i < text.count else { return nil }
    if text[i] == 34 || text[i] == 39 {
      let quote = text[i]
      i += 1
      let first = i
      while i < text.count, text[i] != quote {
        // What is escaped belongs to the value.
        if text[i] == 92, i + 1 < text.count { i += 1 }
        i += 1
      }
      return i > first ? first..<min(i, text.count) : nil
    }
    while i < text.count, !isSpace(text[i]) {
      switch text[i] {
      case 34, 38, 39, 41, 44, 59, 60, 62, 93, 125: return i > start ? start..<i : nil
      default: i += 1
      }
    }
    return i > start ? start..<i : nil
  }

  private func skipBlanks(_ text: UnsafeRawBufferPointer, _ i: inout Int) {
    while i < text.count, text[i] == 32 || text[i] == 9 { i += 1 }
  }

  /// `Bearer TOKEN`: long enough, and not of letters alone, to be no sentence.
  private func scheme(_ text: UnsafeRawBufferPointer, _ at: Int) -> Range<Int>? {
    guard at < 8 || !isWord(text[at - 8]), let value = value(text, at), value.count >= 8,
      text[value].contains(where: { !isLetter($0) && $0 < 0x80 })
    else { return nil }
    return value
  }

  /// `Authorization: Basic VALUE`
  private func authorization(_ text: UnsafeRawBufferPointer, _ at: Int) -> Range<Int>? {
    var i = at
    if i < text.count, text[i] == 34 || text[i] == 39 { i += 1 }
    skipBlanks(text, &i)
    guard i < text.count, text[i] == 58 || text[i] == 61 else { return nil }
    i += 1
    skipBlanks(text, &i)
    if i < text.count, text[i] == 34 || text[i] == 39 { i += 1 }
    guard let first = value(text, i) else { return nil }
    // A scheme is a word of letters with its value behind a blank.
    guard first.upperBound < text.count, text[first.upperBound] == 32,
      text[first].allSatisfy({ isLetter($0) || $0 == 45 })
    else { return first }
    var next = first.upperBound
    skipBlanks(text, &next)
    return value(text, next)
  }

  private func privateKey(_ text: UnsafeRawBufferPointer, _ at: Int) -> Range<Int>? {
    var i = at
    while i < text.count, text[i] &- 65 < 26 || text[i] == 32 { i += 1 }
    let words: StaticString = "PRIVATE KEY"
    let name = UnsafeRawBufferPointer(start: words.utf8Start, count: words.utf8CodeUnitCount)
    guard i - at >= name.count, text[(i - name.count)..<i].elementsEqual(name) else { return nil }
    let mark: StaticString = "-----END"
    let end = find(UnsafeRawBufferPointer(start: mark.utf8Start, count: mark.utf8CodeUnitCount), in: text, from: i)
    guard var last = end else { return (at - 11)..<text.count }
    last += mark.utf8CodeUnitCount
    while last < text.count, text[last] &- 65 < 26 || text[last] == 32 { last += 1 }
    while last < text.count, text[last] == 45 { last += 1 }
    return (at - 11)..<last
  }

  /// Three parts in base64 with points between, the first of which begins as JSON does.
  private func webToken(_ text: UnsafeRawBufferPointer, _ at: Int) -> Range<Int>? {
    let first = at - 3
    guard text[first + 2] == UInt8(ascii: "J"), text[first] == UInt8(ascii: "e"), first == 0 || !isWord(text[first - 1])
    else { return nil }
    var end = at
    for part in 0..<3 {
      let start = end
      while end < text.count, Signs.dashed.has(text[end]) { end += 1 }
      if part < 2 {
        guard end - start >= 6, end < text.count, text[end] == 46 else { return nil }
        end += 1
      }
    }
    return first..<end
  }

  /// Fillers between a label and its number.
  private static let fillers: [StaticString] = ["number", "no", "nr", "num", "is", "id"]

  private func skipFillers(_ text: UnsafeRawBufferPointer, _ i: inout Int) {
    while i < text.count {
      switch text[i] {
      case 9, 32, 34, 35, 39, 40, 45, 46, 58, 61, 91, 95: i += 1
      default:
        let start = i
        var end = i
        while end < text.count, isLetter(text[end]) { end += 1 }
        guard RedactWords.fillers.contains(where: { equalsFolded(text.slice(start, end), $0) }),
          end == text.count || !isDigit(text[end])
        else { return }
        i = end
      }
    }
  }

  /// A record's number behind its label: up to three letters, then digits and dashes.
  private func record(_ text: UnsafeRawBufferPointer, _ at: Int) -> Range<Int>? {
    // `mrn` is a word of its own or stands behind an underscore: `patient_mrn`.
    if at >= 4, isLetter(text[at - 4]), text[at - 3] | 32 == UInt8(ascii: "m"), text[at - 1] | 32 == UInt8(ascii: "n") {
      return nil
    }
    var i = at
    skipFillers(text, &i)
    guard i > at || i < text.count && isDigit(text[i]) else { return nil }
    let start = i
    while i < text.count, i - start < 3, isLetter(text[i]) { i += 1 }
    if i > start, i < text.count, text[i] == 45 { i += 1 }
    var digits = 0
    while i < text.count, isDigit(text[i]) || text[i] == 45 && i + 1 < text.count && isDigit(text[i + 1]) {
      if text[i] != 45 { digits += 1 }
      i += 1
    }
    guard digits >= 4, digits <= 16, i == text.count || !isWord(text[i]) else { return nil }
    return start..<i
  }

  /// Nine digits in a row behind their label; those with dashes are found without one.
  private func socialSecurity(_ text: UnsafeRawBufferPointer, _ at: Int) -> Range<Int>? {
    var i = at
    skipFillers(text, &i)
    let start = i
    while i < text.count, isDigit(text[i]) { i += 1 }
    guard i - start == 9, i == text.count || !isWord(text[i]),
      RedactScanner.isSocialSecurity(text, start, start + 3, start + 5)
    else { return nil }
    return start..<i
  }
}
