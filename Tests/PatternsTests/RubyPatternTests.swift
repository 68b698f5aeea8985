//  Ruby's dialect: what an expression matches, what is refused, which literal it needs.

import Patterns
import Testing

struct DialectCase: Sendable, CustomTestStringConvertible {
  let source: String
  let text: String
  /// Group 0; nil for no match.
  let found: String?
  var dialect = RubyPattern.Dialect.condition
  init(_ source: String, _ text: String, _ found: String?, _ dialect: RubyPattern.Dialect = .condition) {
    self.source = source
    self.text = text
    self.found = found
    self.dialect = dialect
  }
  var testDescription: String { "\(source) on \(text)" }
}

@Suite struct RubyPatternTests {
  @Test(arguments: [
    DialectCase("^b", "a\nb", "b"), DialectCase("a$", "a\nb", "a"), DialectCase("^$", "a\n", nil),
    DialectCase("\\Ab", "a\nb", nil), DialectCase("a\\z", "a\n", nil), DialectCase("a\\Z", "a\n", "a"),
    DialectCase("a.b", "a\nb", nil), DialectCase("(?m)a.b", "a\nb", "a\nb"),
    DialectCase("a.b", "a\nb", "a\nb", .grok), DialectCase("(?-m:a.b)", "a\nb", nil, .grok),
    DialectCase("(?m:a.b).", "a\nb\n", nil),
    DialectCase("\\h+", "xyz1fG", "1f"), DialectCase("\\H+", "1fG-", "G-"), DialectCase("\\v", "\r\u{b}", "\u{b}"),
    DialectCase("\\w+", "äö_1", "_1"), DialectCase("\\W", "ä", "ä"), DialectCase("[\\W]", "aä", "ä"),
    DialectCase("[^\\W]", "äa", "a"), DialectCase("\\d", "٣", nil), DialectCase("\\s", "\u{a0}", nil),
    DialectCase("[[:alpha:]]+", "1äö", "äö"), DialectCase("[[:^alpha:]]", "ä1", "1"),
    DialectCase("\\bve", "naïve", nil), DialectCase("\\bve", "na-ve", "ve"),
    DialectCase("\\p{Alpha}+", "1ä", "ä"), DialectCase("\\p{^Alpha}", "ä1", "1"), DialectCase("\\P{L}", "ä1", "1"),
    DialectCase("\\p{Letter}\\p{Lu}", "aÄ", "aÄ"), DialectCase("\\p{Greek}", "aλ", "λ"),
    DialectCase("[a-z&&[^aeiou]]+", "aeixyz", "xyz"), DialectCase("[^a-z&&[^aeiou]]+", "xyzaei1", "aei1"),
    DialectCase("[ab[cd]]+", "xabcd", "abcd"), DialectCase("[a[^b]]+", "bcab", "ca"),
    DialectCase("[a&&b]", "ab", nil), DialectCase("[]a]+", "a]", "a]"), DialectCase("[a\\]]+", "]a", "]a"),
    DialectCase("[\\w.-]+", " a-.b", "a-.b"), DialectCase("[+--]+", ",-+", ",-+"),
    DialectCase("[a-\\d]+", "-1a", "-1a"),
    DialectCase("a{,2}b", "aaab", "aab"), DialectCase("a{2}?b", "b", "b"), DialectCase("a{1,2}?", "aa", "a"),
    DialectCase("a{1,2}+b", "aaaab", "aaaab"), DialectCase("a++a", "aaa", nil), DialectCase("a*+b", "aab", "aab"),
    DialectCase("(?:ab)**c", "ababc", "ababc"), DialectCase("a+?+b", "aab", "aab"), DialectCase("a{x}", "a{x}", "a{x}"),
    DialectCase("x{,}", "x{,}", "x{,}"), DialectCase("a(?i)b|c", "aC", "aC"), DialectCase("a(?i)b|c", "C", nil),
    DialectCase("(?i:É)t", "ét", "ét"), DialectCase("(?x) a b # c\n c", "abc", "abc"),
    DialectCase("(?<y>\\d+)-\\k<y>", "12-12", "12-12"), DialectCase("(?<y>a)|(?<y>b)\\k<y>", "bb", "bb"),
    DialectCase("(a)(b)\\2\\1", "abba", "abba"), DialectCase("(?<p>\\((?:\\g<p>|x)*\\))", "((x)", "(x)"),
    DialectCase("(?<q>[ab])\\g<q>", "ab", "ab"), DialectCase("(?<=ab|c)d", "abd", "d"),
    DialectCase("(?<!x)d", "xd", nil), DialectCase("(?>a|ab)c", "abc", nil),
    DialectCase("\\u00e9\\u{e9}\\xc3\\xa9\\x41", "éééA", "éééA"), DialectCase("\\Qa\\E", "QaE", "QaE"),
    DialectCase("a/b\\/c", "a/b/c", "a/b/c"), DialectCase("a(?#note \\) )b", "ab", "ab"), DialectCase("]}", "]}", "]}"),
    DialectCase("(?<a>x)?(?(<a>)y|z)", "z", "z"), DialectCase("\\-\\#\\ ", "-# ", "-# "), DialectCase("ä?x", "x", "x"),
    DialectCase("\\e\\a\\f\\t\\x0\\012", "\u{1b}\u{7}\u{c}\t\0\n", "\u{1b}\u{7}\u{c}\t\0\n"),
    // What looks like a parenthesis or a class and is none: groups are counted as they are read.
    DialectCase("\\c[(a)\\1", "\u{1b}aa", "\u{1b}aa"), DialectCase("[\\c]](a)]\\1", "\u{1d}a]a", "\u{1d}a]a"),
    DialectCase("(?x)# (\n (a) (b)\\2", "abb", "abb"), DialectCase("\\C-[(a)\\1", "\u{1b}aa", "\u{1b}aa"),
    DialectCase("a||b", "b", ""), DialectCase("\\R", "\r\n", "\r\n"), DialectCase("", "x", ""),
  ])
  func `an expression means what it means in Ruby`(item: DialectCase) throws {
    let pattern = try Pattern(ruby: item.source, dialect: item.dialect)
    #expect(groups(pattern, item.text)?.first.flatMap { $0 } == item.found)
  }

  @Test func `plain parentheses capture only where no group has a name`() throws {
    #expect(groups(try Pattern(ruby: "(a)(b)", dialect: .condition), "ab") == ["ab", "a", "b"])
    let named = try Pattern(ruby: "(a)(?<x>b)(?<[y][z]>c)", dialect: .grok)
    #expect(groups(named, "abc") == ["abc", "b", "c"])
    #expect(named.groupNumbers("[y][z]") == [2])
  }

  @Test(arguments: [
    ("*a", 0), ("a(", 1), ("a)", 1), ("(*UTF)a", 1), ("(*ACCEPT)", 1), ("(?R)", 2), ("(?1)(a)", 2), ("(?P<a>b)", 2),
    ("(?C1)", 2), ("(?&a)", 2), ("(?|a)", 2), ("[z-a]", 1), ("[", 0), ("[]", 0), ("\\", 0), ("(?<a>x)\\1", 7),
    ("(a)\\2", 3),
    ("\\k<b>", 0), ("(?<1a>x)", 3), ("(?<a-b>x)", 4), ("(?<>x)", 3), ("\\u12", 0), ("\\xff", 0), ("\\x{110000}", 0),
    ("a{70000}", 1), ("\\p{Nonsense}", 0), ("(?~a)", 0), ("(?<=a+)b", 0), ("\\p{L", 0), ("(?<a", 0), ("\\777", 0),
  ])
  func `a broken expression is refused with its place`(source: String, offset: Int) throws {
    let error = try #require(throws: PatternError.self) { try Pattern(ruby: source, dialect: .condition) }
    #expect(error.offset == offset, "\(error)")
  }

  @Test func `nesting without end is refused, not followed`() {
    for (open, close) in [("(", ")"), ("[", "]"), ("(?i)(", ")")] {
      let source = String(repeating: open, count: 100_000) + "a" + String(repeating: close, count: 100_000)
      #expect(throws: PatternError.self) { try Pattern(ruby: source, dialect: .condition) }
    }
  }

  @Test(arguments: [
    ("abc", "abc"), ("a+bcd", "bcd"), ("^foo (?:bar)?baz$", "foo "), ("(?i)abc", ""), ("x|y", ""), ("ab|ab", "ab"),
    ("(?<n>\\d+) ms in (?<x>\\w+)", " ms in "), ("(ab){3}", "ababab"), ("(?:longer|long)x", "long"),
    ("(?=look)a", "a"), ("(?!never)b", "b"), ("\\[ä\\]", "[ä]"), ("a?b*c{0,3}", ""), ("[[]x", "[x"),
    ("x(?>ab)y", "xaby"),
  ])
  func `the literal that every match holds is found`(source: String, literal: String) throws {
    let pattern = try Pattern(ruby: source.replacing("[[]", with: "[\\[]"), dialect: .grok)
    #expect(String(decoding: pattern.requiredLiteral, as: UTF8.self) == literal)
  }
}
