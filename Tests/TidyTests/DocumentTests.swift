//  What the pages for people name is there: files, tests, commands, plugins. A page that was true once is worse than none.

import Foundation
import TestSupport
import Testing

@Suite struct DocumentTests {
  /// Pages that were written by hand.
  private var pages: [TextFile] {
    Tree.files.filter { file in
      guard file.path.hasSuffix(".md"), !file.path.hasPrefix("docs/reference/"), !file.path.hasPrefix("Tests/"),
        file.path != "CHANGELOG.md"
      else { return false }
      return true
    }
  }

  /// The quoted words of a page: what stands between backticks, and the lines of indented and fenced blocks.
  private func quotations(_ file: TextFile) -> [(line: Int, text: String)] {
    var found: [(Int, String)] = []
    var isFenced = false
    for (i, line) in file.lines.enumerated() {
      if line.hasPrefix("```") {
        isFenced.toggle()
      } else if isFenced || line.hasPrefix("    ") {
        found.append((i + 1, line.trimmingCharacters(in: .whitespaces)))
      } else {
        for (n, part) in line.split(separator: "`", omittingEmptySubsequences: false).enumerated() where n % 2 == 1 {
          found.append((i + 1, String(part)))
        }
      }
    }
    return found
  }

  @Test func `files and folders that pages name are there`() {
    let roots = [
      "Sources/", "Tests/", "Fuzz/", "Benchmarks/", "script/", "config/", "pipelines/", "systemd/", "docs/", ".ci/",
    ]
    var findings = Findings()
    for page in pages {
      for (line, text) in quotations(page) {
        for word in text.split(whereSeparator: { " ,;()<>'\"|=".contains($0) }) {
          let path = word.drop { $0 == "." && word.hasPrefix("./") || $0 == "/" && word.hasPrefix("./") }
          guard roots.contains(where: { path.hasPrefix($0) }), !path.contains(where: { "*{$…".contains($0) }) else {
            continue
          }
          let name = path.split(separator: "#").first.map(String.init) ?? ""
          let isNamedByPattern = name.contains("NAME") || name.contains("FILE")
          if !isNamedByPattern,
            !Tree.exists(name.hasSuffix(":") || name.hasSuffix(".") ? String(name.dropLast()) : name)
          {
            findings.add(page, line: line, "there is no '\(path)'")
          }
        }
      }
      for (i, line) in page.lines.enumerated() {
        for link in line.matches(of: #/\]\(([^)#:]+)(?:#[^)]*)?\)/#) {
          let folder = page.path.split(separator: "/").dropLast().map { $0 + "/" }.joined()
          if !Tree.exists(folder + link.1) { findings.add(page, line: i + 1, "the link leads to no file: \(link.1)") }
        }
      }
    }
    findings.expectNone()
  }

  /// `QueueTests/DamageTests`: a target, or a suite or file of one.
  @Test func `tests that pages name are there`() {
    var findings = Findings()
    var count = 0
    for page in pages {
      for (line, text) in quotations(page) {
        for match in text.matches(of: #/(?:^|[ ,])(\w+Tests)(?:\/(\w+))?(?=$|[ ,.])/#) {
          count += 1
          let target = String(match.1)
          let files = Tree.files(below: "Tests", ending: ".swift").filter {
            $0.module == target || $0.lines.contains { $0.contains("struct \(target) ") }
          }
          if files.isEmpty {
            findings.add(page, line: line, "there are no tests '\(target)'")
          } else if let suite = match.2.map(String.init),
            !files.contains(where: { $0.lines.contains { $0.contains("struct \(suite) ") } })
          {
            findings.add(page, line: line, "there is no suite '\(suite)' in \(target)")
          }
        }
      }
    }
    #expect(count > 0)
    findings.expectNone()
  }

  // MARK: Commands

  /// The commands of the program, as they are declared.
  private func commands() throws -> Set<String> {
    var names: Set<String> = ["help", "version", "completions"]
    for file in Tree.files(below: "Sources/CLI", ending: ".swift") {
      for match in file.lines.joined(separator: "\n").matches(of: #/= Command\(\s*"([a-z ]+)"/#) {
        names.insert(String(match.1))
      }
    }
    #expect(names.count > 8)
    return names
  }

  @Test func `commands that pages show are there`() throws {
    let commands = try commands()
    let words = Set(commands.flatMap { $0.split(separator: " ").prefix(1).map(String.init) })
    var findings = Findings()
    for page in pages {
      let missing = page.path == "README.md" ? notThereYet(page) : []
      for (line, text) in quotations(page) {
        for match in text.matches(of: #/(?:^|[ \/(])sluice ([a-z]+)(?: ([a-z]+))?/#) {
          let first = String(match.1)
          if missing.contains(first) { continue }
          if !words.contains(first) {
            findings.add(page, line: line, "there is no command 'sluice \(first)'")
          } else if !commands.contains(first), let second = match.2, !commands.contains("\(first) \(second)") {
            findings.add(page, line: line, "there is no command 'sluice \(first) \(second)'")
          }
        }
      }
    }
    findings.expectNone()
  }

  /// What the README says is still missing.
  private func notThereYet(_ readme: TextFile) -> Set<String> {
    guard let start = readme.lines.firstIndex(where: { $0.hasPrefix("Not there yet") }) else { return [] }
    let paragraph = readme.lines[start...].prefix { !$0.isEmpty }.joined(separator: " ")
    return Set(paragraph.split(separator: "`").enumerated().filter { $0.offset % 2 == 1 }.map { String($0.element) })
  }

  @Test func `what the README misses is missing`() throws {
    let readme = try Tree.file("README.md")
    let there = notThereYet(readme).intersection(
      Set(try commands().map { $0.split(separator: " ").first.map(String.init) ?? "" }))
    #expect(there.isEmpty, "README.md says that these commands are not there yet, and they are: \(there.sorted())")
  }

  // MARK: The table of what works

  /// The cells of the README's table, by the words that begin the row.
  private func row(_ readme: TextFile, _ beginning: String) -> String? {
    readme.lines.first { $0.hasPrefix("| " + beginning) }
  }

  @Test func `the README's table names every command`() throws {
    let readme = try Tree.file("README.md")
    let text = try #require(row(readme, "commands"), "README.md has no row of commands")
    let told = Set(
      text.split(separator: "|").last?.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) } ?? [])
    let commands = try commands()
    #expect(
      told == commands,
      "missing \(commands.subtracting(told).sorted()), too many \(told.subtracting(commands).sorted())")
  }

  @Test func `the README's table names every plugin`() throws {
    let readme = try Tree.file("README.md")
    let table = readme.lines.filter { $0.hasPrefix("| ") }.joined(separator: "\n")
    let words = Set(table.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init))
    var findings = Findings()
    var count = 0
    for file in Tree.files(below: "Sources/Inputs", "Sources/Filters", "Sources/Outputs", ending: ".swift") {
      let text = file.lines.joined(separator: "\n")
      for match in text.matches(of: #/manual = Manual\(\s*name: "(\w+)"/#) {
        count += 1
        if !words.contains(String(match.1)) { findings.add("README.md: the table does not name '\(match.1)'") }
      }
    }
    #expect(count > 20)
    findings.expectNone()
  }
}
