//  From the text of a user agent to browser, system and device, with the meaning of the ua-parser rule file: in each
//  list the first rule found anywhere in the text wins.

internal import Diagnostics
internal import Patterns

/// What a user agent is. Parts are ranges of `text`; an absent one is nil.
struct UserAgentParts: ~Copyable {
  enum Part: Int, CaseIterable {
    case name, major, minor, patch, fourth
    case systemName, systemMajor, systemMinor, systemPatch, systemFourth
    case device, brand, model
  }
  private var ranges: [Range<Int>?] = Array(repeating: nil, count: Part.allCases.count)
  private(set) var text = ByteBuffer(capacity: 512)

  mutating func clear() {
    for i in ranges.indices { ranges[i] = nil }
    text.removeAll()
  }

  /// The bytes of a part, good until the next change.
  subscript(part: Part) -> UnsafeRawBufferPointer? {
    ranges[part.rawValue].map { UnsafeRawBufferPointer(rebasing: text.bytes[$0]) }
  }

  /// Writes a part by `body`; one that ends up blank is absent.
  ///
  /// - Returns: Whether it is there.
  @discardableResult
  mutating func set(_ part: Part, trimmed: Bool = false, _ body: (inout ByteBuffer) -> Void) -> Bool {
    var start = text.count
    body(&text)
    var end = text.count
    while end > start, text.bytes[end - 1] <= 32, trimmed { end -= 1 }
    while end > start, text.bytes[start] <= 32, trimmed { start += 1 }
    let isBlank = text.bytes[start..<end].allSatisfy { $0 <= 32 }
    ranges[part.rawValue] = isBlank ? nil : start..<end
    return !isBlank
  }
}

/// One worker's parser. Not thread-safe.
struct UserAgentParser: ~Copyable {
  /// Longer texts are cut: no browser sends them, and expressions cost with length.
  static let textMax = 4096
  /// Milliseconds for one expression; none of the rule file's comes near.
  private static let timeLimit = 50

  private let rules: UserAgentRules
  private let scratch: MatchScratch
  private var found: [UInt64]

  init(_ rules: UserAgentRules, scratch: MatchScratch) {
    self.rules = rules
    self.scratch = scratch
    found = rules.always
  }

  /// How many expressions the prefilter leaves for `text`; for measurements.
  mutating func candidateCount(_ text: UnsafeRawBufferPointer) -> Int {
    prepare(text)
    return found.reduce(0) { $0 + $1.nonzeroBitCount }
  }

  private mutating func prepare(_ text: UnsafeRawBufferPointer) {
    for i in found.indices { found[i] = rules.always[i] }
    found.withUnsafeMutableBufferPointer {
      if let words = $0.baseAddress { _ = rules.automaton?.mark(text, words) }
    }
  }

  /// Fills `parts` from `text`.
  mutating func parse(_ whole: UnsafeRawBufferPointer, _ parts: inout UserAgentParts) {
    let text = UnsafeRawBufferPointer(rebasing: whole.prefix(UserAgentParser.textMax))
    parts.clear()
    prepare(text)
    let isASCII = text.allSatisfy { $0 < 128 }
    for section in UserAgentRules.Section.allCases {
      let range = rules.ranges[section.rawValue]
      var index = range.lowerBound
      while let candidate = next(from: index, in: range) {
        index = candidate + 1
        guard matches(candidate, text, isASCII: isASCII) else { continue }
        if take(rules.rules[candidate], text, &parts) { break }
      }
    }
    if parts[.name] == nil { parts.set(.name) { $0.append("Other") } }
    if parts[.systemName] == nil { parts.set(.systemName) { $0.append("Other") } }
    if parts[.device] == nil { parts.set(.device) { $0.append("Other") } }
  }

  private func next(from index: Int, in range: Range<Int>) -> Int? {
    var word = index >> 6
    guard index < range.upperBound else { return nil }
    var bits = found[word] & (UInt64.max << UInt64(index & 63))
    while bits == 0 {
      word += 1
      guard word < found.count else { return nil }
      bits = found[word]
    }
    let candidate = word << 6 + bits.trailingZeroBitCount
    return candidate < range.upperBound ? candidate : nil
  }

  private func matches(_ index: Int, _ text: UnsafeRawBufferPointer, isASCII: Bool) -> Bool {
    guard let pattern = rules.pattern(index, isASCII: isASCII) else { return false }
    switch scratch.match(pattern, text, timeLimit: UserAgentParser.timeLimit) {
    case .match: return true
    case .badText where !isASCII:
      // No UTF-8: read as bytes, which is as good as anything.
      guard let plain = rules.pattern(index, isASCII: true) else { return false }
      if case .match = scratch.match(plain, text, timeLimit: UserAgentParser.timeLimit) { return true }
      return false
    default: return false
    }
  }

  /// Takes the parts from a rule that matched.
  ///
  /// - Returns: False where the rule yields no name and the search goes on.
  private func take(_ rule: UserAgentRules.Rule, _ text: UnsafeRawBufferPointer, _ parts: inout UserAgentParts) -> Bool
  {
    func group(_ number: Int, _ out: inout ByteBuffer) {
      let (start, end) = (scratch.start(of: number), scratch.end(of: number))
      if start >= 0, end > start, end <= text.count { out.append(UnsafeRawBufferPointer(rebasing: text[start..<end])) }
    }
    func put(_ part: UserAgentParts.Part, _ template: ReplacementText?, else number: Int, trimmed: Bool = false) -> Bool
    {
      parts.set(part, trimmed: trimmed) { out in
        guard let template else { return group(number, &out) }
        for piece in template.pieces {
          out.append(contentsOf: piece.literal)
          if piece.group > 0 { group(piece.group, &out) }
        }
      }
    }
    switch rule.section {
    case .browser:
      guard put(.name, rule.name, else: 1) else { return false }
      _ = put(.major, rule.parts.0, else: 2)
      _ = put(.minor, rule.parts.1, else: 3)
      if rule.parts.1 == nil || rule.parts.2 != nil { _ = put(.patch, rule.parts.2, else: 4) }
      _ = put(.fourth, rule.parts.3, else: 5)
    case .system:
      guard put(.systemName, rule.name, else: 1) else { return false }
      _ = put(.systemMajor, rule.parts.0, else: 2)
      _ = put(.systemMinor, rule.parts.1, else: 3)
      _ = put(.systemPatch, rule.parts.2, else: 4)
      _ = put(.systemFourth, rule.parts.3, else: 5)
    case .device:
      guard put(.device, rule.name, else: 1, trimmed: true) else { return false }
      if rule.parts.0 != nil { _ = put(.brand, rule.parts.0, else: 0, trimmed: true) }
      _ = put(.model, rule.parts.1, else: 1, trimmed: true)
    }
    return true
  }
}
