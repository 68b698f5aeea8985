//  Text for people in lines of one width: help pages of commands, plugins and options.

/// `text` in lines of at most `columns` characters; a longer word has a line of its own.
///
/// - Parameters:
///   - indent: Blanks in front of every line.
///   - hanging: Further blanks in front of every line but the first.
package func wrapped(_ text: String, columns: Int = 80, indent: Int = 0, hanging: Int = 0) -> String {
  var lines: [String] = []
  var line = ""
  for word in text.split(separator: " ") {
    let room = columns - indent - (lines.isEmpty ? 0 : hanging)
    if !line.isEmpty, line.count + 1 + word.count > room {
      lines.append(line)
      line = ""
    }
    line += (line.isEmpty ? "" : " ") + word
  }
  lines.append(line)
  return lines.enumerated().map { index, line in
    String(repeating: " ", count: indent + (index == 0 ? 0 : hanging)) + line
  }.joined(separator: "\n")
}

/// The paragraphs of a text: what stands between empty lines, each in one line.
package func paragraphs(_ text: String) -> [String] {
  var result: [String] = []
  for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
    if line.allSatisfy({ $0 == " " }) {
      result.append("")
    } else if let last = result.indices.last, !result[last].isEmpty {
      result[last] += " " + line
    } else {
      result.append(String(line))
    }
  }
  return result.filter { !$0.isEmpty }
}
