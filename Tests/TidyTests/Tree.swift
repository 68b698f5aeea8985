//  The files of this tree as text, read once for all rules, and the words with which a rule says where it is broken.

import Foundation
import TestSupport
import Testing

struct TextFile: Sendable {
  /// From the project's root: `Sources/Net/Listener.swift`.
  let path: String
  let lines: [String]
  let isExecutable: Bool

  var name: String { path.split(separator: "/").last.map(String.init) ?? path }
  /// `Net` of `Sources/Net/Listener.swift`.
  var module: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }
}

enum Tree {
  /// Every text file that the project keeps, in order of path.
  static let files: [TextFile] = {
    let places = [
      "Sources", "Tests", "Fuzz", "Benchmarks", "config", "docs", "pipelines", "script", "systemd", ".ci",
    ]
    var paths = (try? FileManager.default.contentsOfDirectory(atPath: Fixtures.root)) ?? []
    paths.removeAll { $0 == "Package.resolved" || $0 == ".git" }
    for place in places {
      let below = FileManager.default.enumerator(atPath: Fixtures.root + "/" + place)
      while let name = below?.nextObject() as? String { paths.append(place + "/" + name) }
    }
    return paths.sorted().compactMap { path in
      let full = Fixtures.root + "/" + path
      var info = stat()
      guard lstat(full, &info) == 0, info.st_mode & S_IFMT == S_IFREG, !path.contains("__pycache__"),
        info.st_size < 1 << 20, let data = FileManager.default.contents(atPath: full),
        let text = String(validating: data, as: UTF8.self), !text.utf8.contains(0)
      else { return nil }
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
      return TextFile(path: path, lines: lines, isExecutable: info.st_mode & S_IXUSR != 0)
    }
  }()

  static func files(below folders: String..., ending: String = "") -> [TextFile] {
    files.filter { file in folders.contains { file.path.hasPrefix($0 + "/") } && file.path.hasSuffix(ending) }
  }

  static func file(_ path: String) throws -> TextFile {
    try #require(files.first { $0.path == path }, "\(path) is missing")
  }

  static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: Fixtures.root + "/" + path) }

  /// Swift that goes into the program.
  static let product = files(below: "Sources", ending: ".swift")
}

/// What breaks a rule; a test shows all of it at once.
struct Findings {
  private(set) var texts: [String] = []

  mutating func add(_ file: TextFile, line: Int, _ text: String) {
    texts.append("\(file.path):\(line): error: \(text)")
  }
  mutating func add(_ text: String) { texts.append("error: \(text)") }

  func expectNone(_ location: SourceLocation = #_sourceLocation) {
    #expect(texts.isEmpty, "\n\(texts.joined(separator: "\n"))", sourceLocation: location)
  }
}

/// A line of Swift without its comment and without what stands in its texts.
func codeOnly(_ lines: [String]) -> [Substring] {
  var isInText = false
  return lines.map { line in
    let quotes = line.components(separatedBy: "\"\"\"").count - 1
    if isInText {
      if quotes % 2 == 1 { isInText = false }
      return ""
    }
    if quotes % 2 == 1 {
      isInText = true
      return line.prefix { $0 != "\"" }
    }
    guard line.utf8.contains(UInt8(ascii: "\"")) || line.contains("//") else { return line[...] }
    var code = ""
    var isQuoted = false
    var rest = line[...]
    while let character = rest.popFirst() {
      if isQuoted, character == "\\" {
        _ = rest.popFirst()
      } else if character == "\"" {
        isQuoted.toggle()
      } else if !isQuoted {
        if character == "/", rest.first == "/" { break }
        code.append(character)
      }
    }
    return code[...]
  }
}
