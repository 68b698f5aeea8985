//  Named patterns: the two built-in sets, and the operator's own on top of them. Later definitions replace earlier ones
//  of the same name, and every pattern that refers to the name sees the new one.

package import Diagnostics
internal import Glibc

/// Where a definition or an expression was written.
package struct GrokOrigin: Hashable, Sendable {
  /// The pattern's name; empty for an expression of `match`.
  package var name: String
  /// File and line; nil for built-in patterns and options.
  package var position: SourcePosition?
}

/// Why an expression or a pattern file was refused.
package struct GrokError: Error, Equatable, Sendable, CustomStringConvertible {
  package var message: String
  /// The named pattern or the expression that is meant.
  package var origin: GrokOrigin
  /// Where in it, in characters from 0.
  package var offset: Int
  package var hint: String?

  package var description: String {
    var place = origin.name.isEmpty ? "" : " in pattern \(origin.name)"
    if let position = origin.position { place += " (\(position))" }
    return "\(message)\(place), at character \(offset + 1)\(hint.map { "; \($0)" } ?? "")"
  }
}

package struct GrokLibrary: Sendable {
  package enum Names: Sendable { case legacy, ecs }

  struct Definition: Sendable {
    var expression: String
    var position: SourcePosition?
  }

  var definitions: [String: Definition]

  /// A built-in set.
  package init(_ names: Names) {
    definitions = names == .legacy ? GrokLibrary.legacyNames : GrokLibrary.ecsNames
  }

  /// All names an operator may use, sorted.
  package var names: [String] { definitions.keys.filter { !$0.hasPrefix("_") }.sorted() }

  package func expression(_ name: String) -> String? { definitions[name]?.expression }

  package mutating func define(_ name: String, _ expression: String, at position: SourcePosition? = nil) {
    definitions[name] = Definition(expression: expression, position: position)
  }

  // MARK: Files of patterns

  static let fileBytesMax = 16 << 20

  /// Reads pattern files: `path` is a file, or a folder of which the files that fit `glob` are read in order of name.
  package mutating func load(_ path: String, glob: String = "*") throws(SystemError) {
    var status = stat()
    try systemCall("stat \(path)") { stat(path, &status) }
    if status.st_mode & S_IFMT == S_IFDIR {
      guard let folder = opendir(path) else { throw SystemError(errno, call: "opendir \(path)") }
      defer { closedir(folder) }
      var files: [String] = []
      while let entry = readdir(folder) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        guard name != ".", name != "..", fnmatch(glob, name, FNM_PERIOD) == 0 else { continue }
        files.append("\(path)/\(name)")
      }
      for file in files.sorted() {
        guard stat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
        try loadFile(file)
      }
    } else {
      try loadFile(path)
    }
  }

  private mutating func loadFile(_ path: String) throws(SystemError) {
    let fd = try systemCall("open \(path)") { open(path, O_RDONLY | O_CLOEXEC) }
    defer { close(fd) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count < GrokLibrary.fileBytesMax {
      let n = try systemCall("read \(path)") { read(fd, &chunk, chunk.count) }
      if n == 0 { break }
      bytes += chunk[..<n]
    }
    load(text: String(decoding: bytes, as: UTF8.self), file: path)
  }

  /// Reads the text of a pattern file: `NAME EXPRESSION` lines, `#` comments, lines without an expression ignored.
  package mutating func load(text: String, file: String) {
    var number = 0
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      number += 1
      var rest = line.drop { $0 == " " || $0 == "\t" }
      if rest.last == "\r" { rest = rest.dropLast() }
      guard let first = rest.first, first != "#" else { continue }
      let name = rest.prefix { $0 != " " && $0 != "\t" }
      let expression = rest.dropFirst(name.count).drop { $0 == " " || $0 == "\t" }
      if expression.isEmpty { continue }
      define(String(name), String(expression), at: SourcePosition(file: file, line: number, column: 1))
    }
  }

  // MARK: The built-in sets

  private static let legacyNames = builtIn(legacy: true)
  private static let ecsNames = builtIn(legacy: false)

  private static func builtIn(legacy: Bool) -> [String: Definition] {
    var result: [String: Definition] = [:]
    result.reserveCapacity(400)
    for part in [base, firewalls, servers, monitors, mail] {
      for line in part.utf8.split(separator: UInt8(ascii: "\n")) {
        guard var first = line.first, first != UInt8(ascii: "#") else { continue }
        var rest = line
        if first == UInt8(ascii: "<") || first == UInt8(ascii: ">") {
          if legacy != (first == UInt8(ascii: "<")) { continue }
          rest = rest.dropFirst(2)
          first = rest.first ?? 0
        }
        guard let blank = rest.firstIndex(of: UInt8(ascii: " ")) else { continue }
        let name = String(rest[..<blank]) ?? ""
        result[name] = Definition(
          expression: String(decoding: choose(rest[rest.index(after: blank)...], legacy: legacy), as: UTF8.self))
      }
    }
    return result
  }

  /// Takes the left or the right field of every `%{NAME:left|right}` and `(?<left|right>…)`.
  private static func choose(_ text: Substring.UTF8View, legacy: Bool) -> [UInt8] {
    let bytes = Array(text)
    var result: [UInt8] = []
    var i = 0
    while i < bytes.count {
      let reference = bytes[i] == UInt8(ascii: "%") && i + 1 < bytes.count && bytes[i + 1] == UInt8(ascii: "{")
      let capture =
        bytes[i] == UInt8(ascii: "(") && i + 3 < bytes.count && bytes[i + 1] == UInt8(ascii: "?")
        && bytes[i + 2] == UInt8(ascii: "<") && bytes[i + 3] != UInt8(ascii: "=") && bytes[i + 3] != UInt8(ascii: "!")
      guard reference || capture,
        let close = bytes[i...].firstIndex(of: UInt8(ascii: reference ? "}" : ">")),
        let bar = bytes[i..<close].firstIndex(of: UInt8(ascii: "|"))
      else {
        result.append(bytes[i])
        i += 1
        continue
      }
      let start = reference ? (bytes[i..<bar].firstIndex(of: UInt8(ascii: ":")) ?? bar) + 1 : i + 3
      let field = legacy ? bytes[start..<bar] : bytes[(bar + 1)..<close]
      if reference {
        result += bytes[i..<(field.isEmpty ? start - 1 : start)]
        result += field
        result.append(UInt8(ascii: "}"))
      } else if field.isEmpty {
        result += Array("(?:".utf8)
      } else {
        result += bytes[i..<start]
        result += field
        result.append(UInt8(ascii: ">"))
      }
      i = close + 1
    }
    return result
  }
}
