//  Rules of this tree that no compiler knows. They read files and run nothing, so they take seconds; what they find is
//  printed as a compiler would.

import Foundation
import TestSupport
import Testing

@Suite struct TidyTests {
  // MARK: Imports

  @Test func `modules import downwards: what Package.swift names, and that stands above them in it`() throws {
    let manifest = try Manifest()
    #expect(manifest.targets.count { $0.kind == .swift } > 15 && manifest.targets.count { $0.kind == .test } > 10)
    var findings = Findings()
    for (i, target) in manifest.targets.enumerated() where target.kind == .swift {
      for name in target.dependencies where !manifest.targets[..<i].contains(where: { $0.name == name }) {
        findings.add("Package.swift: '\(target.name)' needs '\(name)', which does not stand above it")
      }
    }
    let system: Set<String> = ["Glibc", "Dispatch", "Synchronization"]
    for file in Tree.product {
      guard let target = manifest.target(of: file) else {
        findings.add("\(file.path) belongs to no target of Package.swift")
        continue
      }
      for (number, line, name) in imports(of: file) {
        if system.contains(name) { continue }
        if name.hasPrefix("Foundation") {
          findings.add(
            file, line: number, "Foundation stays out of the program; Glibc and Diagnostics have what is needed")
        } else if !target.dependencies.contains(name) {
          findings.add(file, line: number, "'\(target.name)' imports '\(name)', which Package.swift does not give it")
        }
        let isC = manifest.targets.contains { $0.name == name && ($0.kind == .system || $0.kind == .c) }
        // Scanning is inlined into callers of Events; no other C type is seen outside its module.
        if isC, line.hasPrefix("public ") || line.hasPrefix("package "), name != "CScan" {
          findings.add(file, line: number, "a C module is imported internally")
        }
      }
    }
    findings.expectNone()
  }

  @Test func `a module needs every module that Package.swift gives it`() throws {
    var findings = Findings()
    for target in try Manifest().targets where target.kind == .swift {
      let used = Set(Tree.files(below: target.folder, ending: ".swift").flatMap { imports(of: $0).map(\.name) })
      for name in target.dependencies where !used.contains(name) {
        findings.add("Package.swift: '\(target.name)' does not import '\(name)'")
      }
    }
    findings.expectNone()
  }

  private func imports(of file: TextFile) -> [(line: Int, text: String, name: String)] {
    file.lines.enumerated().compactMap { i, line in
      guard line.contains("import "), !line.hasPrefix("//"), !line.hasPrefix(" ") else { return nil }
      let words = line.split(separator: " ")
      guard let at = words.firstIndex(of: "import"), at + 1 < words.count, at <= 2 else { return nil }
      let name = words[at + 1].split(separator: ".").first.map(String.init) ?? ""
      return (i + 1, line, name)
    }
  }

  // MARK: Calls

  @Test func `outside data meets no trap, and only commands print`() {
    let banned = [
      ("try!", "throws at run time what `try` would hand on"), ("as!", "traps; use `as?`"),
      ("fatalError(", "ends the daemon; report and go on"), ("print(", "only commands print; use Log or writeError"),
      ("NSString", "is Foundation's"), ("@unknown default: break", "hides a case"),
      ("usleep(", "nothing ends it; wait on a gate for what comes, or call waitOut"),
    ]
    var findings = Findings()
    for file in Tree.product {
      let suspects = banned.filter { word, _ in file.lines.contains { $0.contains(word) } }
      if suspects.isEmpty { continue }
      for (i, code) in codeOnly(file.lines).enumerated() {
        for (word, reason) in suspects where code.contains(word) {
          if word == "print(", file.module == "CLI" || code.contains("case print(") || isPartOfName(word, in: code) {
            continue
          }
          findings.add(file, line: i + 1, "'\(word)' \(reason)")
        }
      }
    }
    findings.expectNone()
  }

  /// `fingerprint(` and `.print(` are other functions.
  private func isPartOfName(_ word: String, in code: Substring) -> Bool {
    guard let place = code.firstRange(of: word), place.lowerBound > code.startIndex else { return false }
    let before = code[code.index(before: place.lowerBound)]
    return before.isLetter || before == "." || before == "_"
  }

  // MARK: Size

  /// Tables whose lines are data.
  private static let tables = ["Sources/Filters/Grok/Library", "Sources/Events/Time/LocaleNamesData.swift"]

  /// The formatter keeps code within 120 characters and passes over comments and texts, which this rule does not.
  @Test func `files stay below 550 lines and lines within 130 characters`() {
    var findings = Findings()
    for file in Tree.files(below: "Sources", "Tests", "Fuzz", ending: ".swift") {
      if file.lines.count - 1 > 550 {
        findings.add(file, line: 550, "\(file.lines.count - 1) lines, at most 550; look for a second idea in it")
      }
      if Self.tables.contains(where: { file.path.hasPrefix($0) }) { continue }
      for (i, line) in file.lines.enumerated() where line.utf8.count > 130 && line.count > 130 {
        findings.add(file, line: i + 1, "\(line.count) characters, at most 130")
      }
    }
    findings.expectNone()
  }

  // MARK: Words

  @Test func `nothing is left for later`() {
    // In two parts, so that this file does not find itself.
    let words = ["TO" + "DO", "FIX" + "ME", "XX" + "X:", "HA" + "CK:"]
    var findings = Findings()
    for file in Tree.files where !file.path.hasPrefix("Tests/Cases/") {
      for (i, line) in file.lines.enumerated() {
        for word in words where line.contains(word) {
          findings.add(file, line: i + 1, "'\(word)': do it, or say in the README what is missing")
        }
      }
    }
    findings.expectNone()
  }

  @Test func `no file names a folder of the machine where it was written`() {
    // Attackers ask for such places, and cases are what other programs wrote.
    let allowed = ["Tests/Cases/", "Tests/Golden/", "config/threat-rules.yml"]
    let places = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/"]
    var findings = Findings()
    for file in Tree.files where !allowed.contains(where: { file.path.hasPrefix($0) }) {
      for (i, line) in file.lines.enumerated() {
        for place in places where line.contains(place) {
          findings.add(file, line: i + 1, "'\(place)' is there no more")
        }
      }
    }
    findings.expectNone()
  }

  @Test func `every Swift file and script opens with why it exists`() {
    var findings = Findings()
    for file in Tree.files(below: "Sources", "Tests", "Fuzz", ending: ".swift") {
      if file.lines.first?.hasPrefix("//  ") != true || (file.lines.first?.count ?? 0) < 12 {
        findings.add(file, line: 1, "opens with a paragraph, '//  …', that says why the file exists")
      }
    }
    for file in Tree.files(below: "script", ".ci") where file.lines.first?.hasPrefix("#!") == true {
      if file.lines.count < 2 || !file.lines[1].hasPrefix("#  ") {
        findings.add(file, line: 2, "opens with a paragraph, '#  …', that says what the script does")
      }
    }
    findings.expectNone()
  }

  // MARK: Tests and scripts

  @Test func `every folder of tests is a target and has tests`() throws {
    let manifest = try Manifest()
    var findings = Findings()
    let folders = Set(Tree.files(below: "Tests", ending: ".swift").map(\.module)).filter { $0.hasSuffix("Tests") }
    #expect(folders.count > 10)
    for folder in folders.sorted() {
      if !manifest.targets.contains(where: { $0.kind == .test && $0.folder == "Tests/\(folder)" }) {
        findings.add("Tests/\(folder) is no target of Package.swift")
      }
      if !Tree.files(below: "Tests/" + folder).contains(where: { $0.lines.contains { $0.contains("@Test") } }) {
        findings.add("Tests/\(folder) has no test")
      }
    }
    for target in manifest.targets where target.kind == .test && !folders.contains(target.name) {
      findings.add("Package.swift: the tests '\(target.name)' have no folder")
    }
    findings.expectNone()
  }

  @Test func `every module is a target, and every target is there`() throws {
    let manifest = try Manifest()
    var findings = Findings()
    for folder in Set(Tree.files(below: "Sources").map(\.module)).sorted()
    where !manifest.targets.contains(where: { $0.folder == "Sources/" + folder }) {
      findings.add("Sources/\(folder) is no target of Package.swift")
    }
    for target in manifest.targets where !Tree.exists(target.folder) { findings.add("\(target.folder) is missing") }
    findings.expectNone()
  }

  @Test func `every script can be run`() {
    var findings = Findings()
    let scripts = Tree.files(below: "script", ".ci").filter { !$0.path.hasSuffix(".txt") }
    #expect(scripts.count > 8)
    for file in scripts {
      if file.lines.first?.hasPrefix("#!/usr/bin/env ") != true { findings.add(file, line: 1, "has no interpreter") }
      if !file.isExecutable { findings.add(file, line: 1, "is not executable") }
      let isBash = file.lines.first?.contains("bash") == true
      if isBash, !file.lines.contains(where: { $0.hasPrefix("set -") && $0.contains("u") && $0.contains("o pipefail") })
      {
        findings.add(file, line: 1, "a shell script sets -u and pipefail")
      }
    }
    findings.expectNone()
  }
}
