//  Package.swift as the rules need it: the targets in their order, and what each may import. Its own text is read, for
//  asking the package manager takes longer than all rules together.

import Foundation
import Testing

struct Manifest {
  struct Target {
    enum Kind { case system, c, swift, test }
    var name: String
    var kind: Kind
    var folder: String
    var dependencies: [String]
  }

  var targets: [Target] = []

  init() throws {
    let text = try Tree.file("Package.swift").lines.filter { !$0.trimmingCharacters(in: .whitespaces).hasPrefix("//") }
      .joined(separator: "\n")
    let start = try #require(text.range(of: "targets: [\n"), "Package.swift has no list of targets")
    var rest = text[start.upperBound...]
    while let match = rest.firstMatch(of: #/(library|system|tests|\.target|\.executableTarget|\.testTarget)\(/#) {
      rest = rest[match.range.upperBound...]
      let body = Manifest.balanced(rest)
      let names = body.matches(of: #/"([^"]*)"/#).map { String($0.1) }
      guard let name = names.first else { continue }
      let declared = body.firstMatch(of: #/\[([^\[\]]*)\]/#).map { list in
        list.1.matches(of: #/"(\w+)"/#).map { String($0.1) }
      }
      let path = body.firstMatch(of: #/path: "([^"]*)"/#).map { String($0.1) }
      switch match.1 {
      case "system": targets.append(Target(name: name, kind: .system, folder: "Sources/\(name)", dependencies: []))
      case "library":
        targets.append(Target(name: name, kind: .swift, folder: "Sources/\(name)", dependencies: declared ?? []))
      case "tests":
        targets.append(
          Target(
            name: name + "Tests", kind: .test, folder: "Tests/\(name)Tests",
            dependencies: (declared ?? []) + ["TestSupport"]))
      case ".testTarget":
        targets.append(Target(name: name, kind: .test, folder: path ?? "Tests/\(name)", dependencies: declared ?? []))
      default:
        let isSwift = body.contains("swiftSettings")
        targets.append(
          Target(
            name: name, kind: isSwift ? .swift : .c, folder: path ?? "Sources/\(name)",
            dependencies: body.contains("dependencies") ? declared ?? [] : []))
      }
    }
  }

  /// The text up to the parenthesis that closes what was opened in front of it.
  private static func balanced(_ text: Substring) -> Substring {
    var depth = 1
    for index in text.indices {
      if text[index] == "(" { depth += 1 }
      if text[index] == ")" { depth -= 1 }
      if depth == 0 { return text[..<index] }
    }
    return text
  }

  func target(of file: TextFile) -> Target? {
    targets.first { file.path.hasPrefix($0.folder + "/") }
  }
}
