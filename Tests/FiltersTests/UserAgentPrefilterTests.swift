//  The parts below the look-ups: the automaton against a plain search, the literals of expressions against matches, and
//  the cache against a dictionary.

import Testing

@testable import Filters
@testable import Patterns

private func found(_ automaton: LiteralAutomaton, _ text: [UInt8]) -> Set<Int> {
  var words = [UInt64](repeating: 0, count: automaton.wordCount)
  words.withUnsafeMutableBufferPointer { words in
    guard let start = words.baseAddress else { return }
    _ = text.withUnsafeBytes { automaton.mark($0, start) }
  }
  return Set((0..<words.count * 64).filter { words[$0 >> 6] >> UInt64($0 & 63) & 1 == 1 })
}

private func occurs(_ literal: [UInt8], in text: [UInt8], foldsCase: Bool) -> Bool {
  func fold(_ bytes: [UInt8]) -> [UInt8] { foldsCase ? bytes.map(lowerCase) : bytes }
  let (literal, text) = (fold(literal), fold(text))
  guard text.count >= literal.count else { return false }
  return (0...(text.count - literal.count)).contains { text[$0..<$0 + literal.count].elementsEqual(literal) }
}

@Suite struct UserAgentPrefilterTests {
  @Test(arguments: [false, true]) func `the automaton finds what a plain search finds`(foldsCase: Bool) throws {
    var random = SystemRandomNumberGenerator()
    // Few letters, so that literals overlap, nest and repeat.
    let alphabet = Array("abAB\u{0}é".utf8)
    for _ in 0..<300 {
      let literals = (0..<Int.random(in: 1...70, using: &random)).map { value in
        (
          bytes: (0..<Int.random(in: 1...5, using: &random)).map { _ in
            alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
          }, value: value
        )
      }
      let automaton = try #require(LiteralAutomaton(literals, foldsCase: foldsCase))
      for _ in 0..<10 {
        let text = (0..<Int.random(in: 0...30, using: &random)).map { _ in
          alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
        }
        let expected = Set(
          literals.filter { occurs($0.bytes, in: text, foldsCase: foldsCase) }.map(\.value))
        #expect(found(automaton, text) == expected)
        var ends: Set<Int> = []
        text.withUnsafeBytes {
          automaton.forEachMatch($0) { value, end in
            let bytes = literals[value].bytes
            #expect(occurs(bytes, in: Array(text[(end - bytes.count)..<end]), foldsCase: foldsCase))
            ends.insert(value)
            return true
          }
        }
        #expect(ends == expected)
      }
    }
  }

  @Test func `literals that cannot be are refused`() {
    #expect(LiteralAutomaton([([], 0)], foldsCase: true) == nil)
    #expect(LiteralAutomaton([([65], -1)], foldsCase: true) == nil)
    let long = [UInt8](repeating: 65, count: LiteralAutomaton.byteLimit + 1)
    #expect(LiteralAutomaton([(long, 0)], foldsCase: true) == nil)
    #expect(LiteralAutomaton([], foldsCase: true)?.wordCount == 0)
  }

  @Test(arguments: [
    ("abc", ["abc"]), ("ab|cd", ["ab", "cd"]), ("x?abc", ["abc", "xabc"]), ("ab(c|d)ef", ["abcef", "abdef"]),
    ("[0-9]+abc", ["abc"]), ("abc.{0,9}de", ["abc"]), ("(?:abc)+", ["abc"]), ("(?i)ABC", ["abc"]),
    ("\\.env\\b", [".env"]),
    ("a{2}b", ["aab"]), ("^(?<name>abc)$", ["abc"]), ("(?!x)abc", ["abc"]), ("abc(?=xyzxyz)", ["abc"]),
    ("[ab]cd", ["acd", "bcd"]),
    ("\\x41bc", ["abc"]),
  ])
  func `the literals of an expression`(expression: String, expected: [String]) {
    let literals = RequiredLiterals.of(Array(expression.utf8)) { string in 1 / Double(string.count * string.count) }
    #expect(Set((literals ?? []).map { String(decoding: $0, as: UTF8.self) }) == Set(expected))
  }

  @Test(arguments: [
    "", "a?", ".*", "[a-z]+", "a|", "(a|b)?", "\\d+", "a|.", "(a)\\1", "\\p{L}", "(?x)a b", "a++b", "(a", "a)",
  ])
  func `nothing is required, or nothing is known`(expression: String) {
    let literals = RequiredLiterals.of(Array(expression.utf8)) { _ in 0.5 }
    // Possessive quantifiers are read as plain ones, which changes what matches and not what must occur.
    if expression == "a++b" { #expect(literals != nil) } else if expression != "(a)\\1" { #expect(literals == nil) }
  }

  @Test func `the cache gives back what was put in, forgets what is idle, and keeps its bounds`() {
    var cache = FragmentCache(entries: 64, bytesMax: 4096)
    var random = SystemRandomNumberGenerator()
    var hits = 0
    for round in 0..<20_000 {
      let number = Int.random(in: 0..<200, using: &random)
      let key = Array("key \(number)".utf8)
      let value = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: number)
      key.withUnsafeBytes { key in
        let hash = SeededHash.of(key)
        if let known = cache.find(key, hash: hash) {
          hits += 1
          #expect(known.elementsEqual(value))
        } else {
          value.withUnsafeBytes { cache.insert(key, hash: hash, $0) }
          #expect(cache.find(key, hash: hash)?.elementsEqual(value) == true)
        }
        #expect(cache.bytesHeld <= 4096)
      }
      if round == 10_000 {
        cache.removeAll()
        #expect(cache.bytesHeld == 0)
      }
    }
    #expect(hits > 1000)
    let long = [UInt8](repeating: 1, count: FragmentCache.keyLimit + 1)
    long.withUnsafeBytes { key in
      cache.insert(key, hash: 1, key)
      #expect(cache.find(key, hash: 1) == nil)
    }
    // Emptied first: a full cache may give up any entry, the newest too.
    cache.removeAll()
    UnsafeRawBufferPointer(start: nil, count: 0).withMemoryRebound(to: UInt8.self) { _ in
      let empty = UnsafeRawBufferPointer(start: nil, count: 0)
      cache.insert(empty, hash: 2, empty)
      #expect(cache.find(empty, hash: 2)?.count == 0)
    }
  }
}
