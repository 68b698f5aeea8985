//  The YAML tree: places, aliases, merge keys, limits, and what is said about broken files.

import Config
import Diagnostics
import Testing

/// Reads a text that must be sound.
func tree(_ text: String) throws -> YAMLNode {
  let problems = Problems()
  let node = try #require(YAML.parse(text, file: "f.yml", problems: problems))
  #expect(problems.all.isEmpty, "\(problems.all)")
  return node
}

/// The messages about a text.
func messages(_ text: String) -> [String] {
  let problems = Problems()
  _ = YAML.parse(text, file: "f.yml", problems: problems)
  return problems.sorted.map(\.description)
}

@Suite struct YAMLTests {
  @Test func `scalars stay as written`() throws {
    let node = try tree("a: NO\nb: 01234\nc: 1.10\nd: 12:30:45\ne: 'x'\nf: ~\ng:\nh: !!str 7\n")
    let texts = node.entries?.map { $0.value.text }
    #expect(texts == ["NO", "01234", "1.10", "12:30:45", "x", "~", "", "7"])
    #expect(node["a"]?.isQuoted == false)
    #expect(node["e"]?.isQuoted == true)
    #expect(node["g"]?.isEmpty == true)
    #expect(node["h"]?.isQuoted == true)
  }

  @Test func `places count characters from 1, and a byte-order mark is no character`() throws {
    let node = try tree("\u{FEFF}ä: { ö: ü, b: [1, '✓', x] }\n")
    let inner = try #require(node["ä"])
    #expect(node.entries?.first?.keyPosition == SourcePosition(file: "f.yml", line: 1, column: 1))
    #expect(inner.position.column == 4)
    #expect(inner.entry("b")?.keyPosition.column == 12)
    #expect(inner["b"]?.items?.map(\.position.column) == [16, 19, 24])
  }

  @Test func `keys keep their written order`() throws {
    #expect(try tree("{z: 1, a: 2, m: 3}").entries?.map(\.key) == ["z", "a", "m"])
  }

  @Test func `anchors, aliases and merge keys work, and own keys win`() throws {
    let node = try tree(
      """
      base: &base { a: 1, b: 2 }
      other: &other { b: 3, c: 4 }
      one: { <<: *base, b: own }
      two: { x: 0, <<: [*base, *other], y: 9 }
      text: *base
      """)
    func pairs(_ key: String) -> [String] { node[key]?.entries?.map { "\($0.key)=\($0.value.text ?? "")" } ?? [] }
    #expect(pairs("one") == ["a=1", "b=own"])
    #expect(pairs("two") == ["x=0", "a=1", "b=2", "c=4", "y=9"])
    #expect(pairs("text") == ["a=1", "b=2"])
  }

  @Test func `a small file that names billions of values is refused`() {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1...12 {
      text += "a\(level): &a\(level) [" + Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ") + "]\n"
    }
    #expect(
      messages(text) == [
        "f.yml:6:10: error: the file has more than 100000 values, aliases counted as often as they are used "
          + "[config.too-large]"
      ])
  }

  @Test func `nesting is bounded`() {
    let text = String(repeating: "[", count: 101) + String(repeating: "]", count: 101)
    #expect(messages(text) == ["f.yml:1:101: error: the nesting is deeper than 100 levels [config.too-deep]"])
    let sound = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
    #expect(messages(sound).isEmpty)
  }

  @Test func `invalid UTF-8 has a place`() {
    let problems = Problems()
    _ = YAML.parse(Array("a: 1\nä: ".utf8) + [0xFF, 10], file: "f.yml", problems: problems)
    #expect(
      problems.all.map(\.description) == [
        "f.yml:2:4: error: byte 0xFF is not valid UTF-8; save the file as UTF-8 [config.encoding]"
      ])
  }

  @Test func `a file without a document is an empty scalar`() throws {
    #expect(try tree("").isEmpty)
    #expect(try tree("# only a comment\n").isEmpty)
    #expect(try tree("---\n...\n").isEmpty)
  }

  @Test(arguments: Block.all("config-syntax.txt"))
  func `what is wrong is said with its place`(block: Block) {
    #expect(messages(block.input) == block.expected)
  }
}
