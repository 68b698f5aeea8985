//  What a text must contain for an expression to match it. A rule file of a thousand expressions is only fast when most
//  of them are never run; the literals found here feed a `LiteralAutomaton` that says which ones may match.
//
//  The expression is read as a tree that is folded at once: a part is either a small set of exact strings, or opaque
//  with at best a set of strings of which one must occur. All strings are in lower case, so the search must fold case.
//  Where the reader meets a construct that it does not know, it says so, and the expression counts as always possible.

/// The smallest set of strings of which every match of an expression contains at least one.
public struct RequiredLiterals {
  /// Longest string that is kept; longer ones are cut to their rarest part.
  public static let lengthMax = 8
  private static let exactMax = 64
  private static let choicesMax = 512
  private static let depthMax = 100

  private struct Unsupported: Error {}
  private struct Part {
    var exact: [[UInt8]]?
    var best: Choice?
  }
  private struct Choice {
    var strings: [[UInt8]]
    var cost: Double
  }

  private let pattern: [UInt8]
  private var at = 0
  private let cost: ([UInt8]) -> Double

  /// The literals of `pattern`, a PCRE expression without the extended option.
  ///
  /// - Parameter cost: How likely a string in lower case is to occur in an ordinary text, from 0 to 1.
  /// - Returns: Nil where nothing can be required.
  public static func of(_ pattern: [UInt8], cost: @escaping ([UInt8]) -> Double) -> [[UInt8]]? {
    var reader = RequiredLiterals(pattern: pattern, cost: cost)
    guard let part = try? reader.alternatives(depth: 0), reader.at == pattern.count else { return nil }
    return reader.choice(of: part)?.strings
  }

  private init(pattern: [UInt8], cost: @escaping ([UInt8]) -> Double) {
    self.pattern = pattern
    self.cost = cost
  }

  // MARK: Reading

  private mutating func alternatives(depth: Int) throws(Unsupported) -> Part {
    guard depth < RequiredLiterals.depthMax else { throw Unsupported() }
    var branches = [try sequence(depth: depth)]
    while at < pattern.count, pattern[at] == UInt8(ascii: "|") {
      at += 1
      branches.append(try sequence(depth: depth))
    }
    if branches.count == 1 { return branches[0] }
    var exact: [[UInt8]]? = []
    for branch in branches {
      guard let strings = branch.exact, let sum = exact, sum.count + strings.count <= RequiredLiterals.exactMax else {
        exact = nil
        break
      }
      exact = sum + strings
    }
    if let exact { return Part(exact: exact, best: nil) }
    var all: [[UInt8]] = []
    var sum = 0.0
    for branch in branches {
      guard let choice = choice(of: branch) else { return Part(exact: nil, best: nil) }
      all += choice.strings
      sum += choice.cost
    }
    return Part(exact: nil, best: all.count <= RequiredLiterals.choicesMax ? Choice(strings: all, cost: sum) : nil)
  }

  private mutating func sequence(depth: Int) throws(Unsupported) -> Part {
    var run: [[UInt8]] = [[]]
    var whole = true
    var best: Choice?
    while at < pattern.count, pattern[at] != UInt8(ascii: "|"), pattern[at] != UInt8(ascii: ")") {
      let part = try repeated(try atom(depth: depth))
      guard let strings = part.exact else {
        best = cheaper(best, choice(from: run))
        best = cheaper(best, part.best)
        run = [[]]
        whole = false
        continue
      }
      let longest = (run.map(\.count).max() ?? 0) + (strings.map(\.count).max() ?? 0)
      if run.count * strings.count <= RequiredLiterals.exactMax, longest <= 64 {
        if strings.count > 1 { best = cheaper(best, choice(from: run)) }
        run = run.flatMap { left in strings.map { left + $0 } }
      } else {
        best = cheaper(best, choice(from: run))
        run = strings
        whole = false
      }
      if strings.count > 1 { best = cheaper(best, choice(from: strings)) }
    }
    if whole { return Part(exact: run, best: best) }
    return Part(exact: nil, best: cheaper(best, choice(from: run)))
  }

  private mutating func repeated(_ part: Part) throws(Unsupported) -> Part {
    guard let (low, high) = bounds() else { return part }
    if at < pattern.count, pattern[at] == UInt8(ascii: "?") || pattern[at] == UInt8(ascii: "+") { at += 1 }
    guard bounds() == nil else { throw Unsupported() }
    if let strings = part.exact {
      if low == 1, high == 1 { return part }
      if low == 0, high == 1 { return Part(exact: strings.contains([]) ? strings : strings + [[]], best: nil) }
      if strings.count == 1, let high, high <= 3, low <= high {
        return Part(exact: (low...high).map { Array(repeatElement(strings[0], count: $0).joined()) }, best: nil)
      }
    }
    return Part(exact: nil, best: low > 0 ? choice(of: part) : nil)
  }

  /// A quantifier at the present place; nil where none stands there.
  private mutating func bounds() -> (low: Int, high: Int?)? {
    guard at < pattern.count else { return nil }
    switch pattern[at] {
    case UInt8(ascii: "*"): at += 1; return (0, nil)
    case UInt8(ascii: "+"): at += 1; return (1, nil)
    case UInt8(ascii: "?"): at += 1; return (0, 1)
    case UInt8(ascii: "{"):
      var i = at + 1
      var numbers: [Int?] = [nil]
      while i < pattern.count, i - at < 14 {
        let byte = pattern[i]
        i += 1
        if byte &- 48 < 10 {
          numbers[numbers.count - 1] = min((numbers[numbers.count - 1] ?? 0) * 10 + Int(byte) - 48, 65535)
        } else if byte == UInt8(ascii: ","), numbers.count == 1, numbers[0] != nil {
          numbers.append(nil)
        } else if byte == UInt8(ascii: "}"), let low = numbers[0] {
          at = i
          return (low, numbers.count == 1 ? low : numbers[1])
        } else {
          return nil  // a brace that is no quantifier stands for itself
        }
      }
      return nil
    default: return nil
    }
  }

  private mutating func atom(depth: Int) throws(Unsupported) -> Part {
    let byte = pattern[at]
    at += 1
    switch byte {
    case UInt8(ascii: "("): return try group(depth: depth)
    case UInt8(ascii: "["): return try set()
    case UInt8(ascii: "."): return Part(exact: nil, best: nil)
    case UInt8(ascii: "^"), UInt8(ascii: "$"): return Part(exact: [[]], best: nil)
    case UInt8(ascii: "\\"): return try escape()
    case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"): throw Unsupported()
    default: return Part(exact: [[lowerCase(byte)]], best: nil)
    }
  }

  private mutating func group(depth: Int) throws(Unsupported) -> Part {
    var isLookaround = false
    if at < pattern.count, pattern[at] == UInt8(ascii: "*") { throw Unsupported() }
    if at < pattern.count, pattern[at] == UInt8(ascii: "?") {
      at += 1
      guard at < pattern.count else { throw Unsupported() }
      let byte = pattern[at]
      switch byte {
      case UInt8(ascii: ":"), UInt8(ascii: ">"): at += 1
      case UInt8(ascii: "="), UInt8(ascii: "!"):
        at += 1
        isLookaround = true
      case UInt8(ascii: "<")
      where at + 1 < pattern.count && [UInt8(ascii: "="), UInt8(ascii: "!")].contains(pattern[at + 1]):
        at += 2
        isLookaround = true
      case UInt8(ascii: "<"), UInt8(ascii: "P"):
        guard let end = pattern[at...].firstIndex(of: UInt8(ascii: ">")),
          byte != UInt8(ascii: "P") || pattern[at + 1] == UInt8(ascii: "<")
        else { throw Unsupported() }
        at = end + 1
      default:
        // Options: case is folded in any case; only the extended option changes how the rest reads.
        while at < pattern.count, [UInt8]("imsU-".utf8).contains(pattern[at]) { at += 1 }
        guard at < pattern.count else { throw Unsupported() }
        if pattern[at] == UInt8(ascii: ")") {
          at += 1
          return Part(exact: [[]], best: nil)
        }
        guard pattern[at] == UInt8(ascii: ":") else { throw Unsupported() }
        at += 1
      }
    }
    let part = try alternatives(depth: depth + 1)
    guard at < pattern.count, pattern[at] == UInt8(ascii: ")") else { throw Unsupported() }
    at += 1
    return isLookaround ? Part(exact: [[]], best: nil) : part
  }

  private mutating func escape() throws(Unsupported) -> Part {
    guard at < pattern.count else { throw Unsupported() }
    let byte = pattern[at]
    at += 1
    switch byte {
    case UInt8(ascii: "b"), UInt8(ascii: "B"), UInt8(ascii: "A"), UInt8(ascii: "z"), UInt8(ascii: "Z"):
      return Part(exact: [[]], best: nil)
    case UInt8(ascii: "n"): return Part(exact: [[10]], best: nil)
    case UInt8(ascii: "r"): return Part(exact: [[13]], best: nil)
    case UInt8(ascii: "t"): return Part(exact: [[9]], best: nil)
    case UInt8(ascii: "d"), UInt8(ascii: "D"), UInt8(ascii: "w"), UInt8(ascii: "W"), UInt8(ascii: "s"),
      UInt8(ascii: "S"), UInt8(ascii: "h"), UInt8(ascii: "H"):
      return Part(exact: nil, best: nil)
    case UInt8(ascii: "x"):
      guard at + 1 < pattern.count, let high = hexadecimal(pattern[at]), let low = hexadecimal(pattern[at + 1]) else {
        throw Unsupported()
      }
      at += 2
      return Part(exact: high < 8 ? [[lowerCase(high << 4 | low)]] : nil, best: nil)
    case 48...57, 65...90, 97...122, 128...: throw Unsupported()
    default: return Part(exact: [[byte]], best: nil)
    }
  }

  /// A bracketed set, after its `[`: exact where it is positive and small.
  private mutating func set() throws(Unsupported) -> Part {
    var isNegated = false
    if at < pattern.count, pattern[at] == UInt8(ascii: "^") {
      isNegated = true
      at += 1
    }
    var members: Set<UInt8> = []
    var isOpen = isNegated
    var isFirst = true
    var before: UInt8?
    while true {
      guard at < pattern.count else { throw Unsupported() }
      var byte = pattern[at]
      at += 1
      if byte == UInt8(ascii: "]"), !isFirst { break }
      isFirst = false
      if byte == UInt8(ascii: "["), at < pattern.count, pattern[at] == UInt8(ascii: ":") { throw Unsupported() }
      if byte >= 128 { isOpen = true }
      if byte == UInt8(ascii: "\\") {
        guard at < pattern.count else { throw Unsupported() }
        byte = pattern[at]
        at += 1
        if byte &- 48 < 10 || lowerCase(byte) &- 97 < 26 {
          isOpen = true  // a class within the set, or a control character: too wide to list
          before = nil
          continue
        }
      } else if byte == UInt8(ascii: "-"), let low = before, at < pattern.count, pattern[at] != UInt8(ascii: "]") {
        let high = pattern[at]
        at += 1
        if high == UInt8(ascii: "\\") || high < low { throw Unsupported() }
        if high - low > 8 { isOpen = true } else { for member in low...high { members.insert(lowerCase(member)) } }
        before = nil
        continue
      }
      before = byte
      members.insert(lowerCase(byte))
    }
    return Part(exact: isOpen || members.count > 8 ? nil : members.sorted().map { [$0] }, best: nil)
  }

  // MARK: Choosing

  private func choice(of part: Part) -> Choice? {
    guard let exact = part.exact else { return part.best }
    return cheaper(part.best, choice(from: exact))
  }

  /// A choice among `strings`, each cut to its rarest part; nil where one of them is empty.
  private func choice(from strings: [[UInt8]]) -> Choice? {
    var kept: [[UInt8]] = []
    for string in strings {
      guard !string.isEmpty else { return nil }
      let part = rarest(string)
      if !kept.contains(part) { kept.append(part) }
    }
    return kept.isEmpty ? nil : Choice(strings: kept, cost: kept.reduce(0) { $0 + cost($1) })
  }

  private func rarest(_ string: [UInt8]) -> [UInt8] {
    guard string.count > RequiredLiterals.lengthMax else { return string }
    var best = Array(string[0..<RequiredLiterals.lengthMax])
    var lowest = cost(best)
    for start in 1...(string.count - RequiredLiterals.lengthMax) {
      let part = Array(string[start..<start + RequiredLiterals.lengthMax])
      let partCost = cost(part)
      if partCost < lowest { (best, lowest) = (part, partCost) }
    }
    return best
  }

  private func cheaper(_ left: Choice?, _ right: Choice?) -> Choice? {
    guard let left else { return right }
    guard let right else { return left }
    return right.cost < left.cost ? right : left
  }
}

/// How often three-byte sequences occur in a sample of ordinary texts: the `cost` of a literal.
public struct OrdinaryText: Sendable {
  private var counts = [UInt8](repeating: 0, count: 1 << 14)
  private let sampleCount: Double

  /// Learns from `samples`; each counts a sequence once.
  public init(_ samples: [String]) {
    sampleCount = Double(max(samples.count, 1))
    for sample in samples {
      let bytes = sample.utf8.map(lowerCase)
      var seen: Set<Int> = []
      guard bytes.count >= 3 else { continue }
      for i in 0...(bytes.count - 3) { seen.insert(OrdinaryText.slot(bytes, i)) }
      for slot in seen { counts[slot] = min(counts[slot], 254) + 1 }
    }
  }

  /// An estimate of how likely `string`, in lower case, is to occur in a text, from 0 to 1.
  public func likelihood(_ string: [UInt8]) -> Double {
    // Bare length: a byte occurs almost surely, each further one makes it rarer.
    var rarity = 1.0
    for _ in 1..<max(string.count, 1) { rarity *= 0.35 }
    guard string.count >= 3 else { return rarity }
    var share = 1.0
    for i in 0...(string.count - 3) { share = min(share, Double(counts[OrdinaryText.slot(string, i)]) / sampleCount) }
    return max(share, rarity * 0.5)
  }

  private static func slot(_ bytes: [UInt8], _ i: Int) -> Int {
    let key = UInt32(bytes[i]) | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2]) << 16
    return Int((key &* 0x9E37_79B1) >> 18)
  }
}

/// The value of a hexadecimal digit.
@inlinable
public func hexadecimal(_ byte: UInt8) -> UInt8? {
  if byte &- 48 < 10 { return byte &- 48 }
  let letter = lowerCase(byte) &- 97
  return letter < 6 ? letter &+ 10 : nil
}
