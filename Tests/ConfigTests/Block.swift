//  Tables of broken texts and what is said about them, kept as text files: an input, then lines that begin with `=> `,
//  then a line `----` before the next.

import Diagnostics
import Glibc
import Testing

/// The folder `Tests/Cases` beside this source file.
let casesFolder: String = {
  let parts = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2)
  return parts.joined(separator: "/") + "/Cases"
}()

func contents(of path: String) -> String? {
  let file = open(path, O_RDONLY)
  guard file >= 0 else { return nil }
  defer { close(file) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = read(file, &chunk, chunk.count)
    if count <= 0 { return String(decoding: bytes, as: UTF8.self) }
    bytes += chunk.prefix(count)
  }
}

struct Block: CustomTestStringConvertible, Sendable {
  var input: String
  var expected: [String]
  var testDescription: String { input }

  /// The blocks of a file below `Tests/Cases`; a missing or empty file is one block that fails.
  static func all(_ name: String) -> [Block] {
    let missing = [Block(input: "missing: \(name)", expected: ["a table of cases"])]
    guard let text = contents(of: casesFolder + "/" + name) else { return missing }
    var blocks: [Block] = []
    var block = Block(input: "", expected: [])
    let lines = (text + "----").split(separator: "\n", omittingEmptySubsequences: false)
    for line in lines {
      if line == "----" {
        if !block.expected.isEmpty { blocks.append(block) }
        block = Block(input: "", expected: [])
      } else if line.hasPrefix("=> ") {
        block.expected.append(String(line.dropFirst(3)))
      } else if block.expected.isEmpty {
        block.input += line + "\n"
      }
    }
    return blocks.isEmpty ? missing : blocks
  }
}
