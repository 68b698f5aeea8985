//  Words for YAML's syntax errors. Most of them come from texts that are ordinary in a pipeline and special in YAML
//  (`%{host}`, `[a][b]`, `@timestamp`, `${PORT}` between braces), so the message shows the line's text in quotes, ready
//  to paste.

import Diagnostics

/// What libyaml said, and where.
struct YAMLSyntaxFailure {
  var reason: String
  var context: String
  var position: SourcePosition
  /// Where the value began that could not be read.
  var contextPosition: SourcePosition

  func problem(in composer: YAMLComposer) -> Problem {
    let flow = context.contains("flow") ? true : nil
    let quoted = composer.quotedForm(at: position, inFlow: flow).map { "write it in quotes: \($0)" }
    func syntax(_ text: String, _ hint: String? = nil, at place: SourcePosition? = nil) -> Problem {
      Problem(place ?? position, text, code: "config.syntax", hint: hint)
    }
    switch reason {
    case "found character that cannot start any token":
      let character = composer.character(at: position)
      if character == "\t" { return syntax("a tab cannot indent", "use spaces") }
      return syntax("a value cannot begin with '\(character.map(String.init) ?? "")' without quotes", quoted)
    case "mapping values are not allowed in this context":
      return syntax("a second ': ' is not allowed here", quoted ?? "check the indentation, or write the text in quotes")
    case "did not find expected key":
      return syntax("expected a new key here", quoted ?? "check the indentation and the quotes above")
    case "did not find expected '-' indicator":
      return syntax("expected the next '- ' of the list here", quoted ?? "check the indentation and the quotes above")
    case "did not find expected ',' or '}'":
      return syntax("expected ',' or '}' here", quoted ?? "the map begins at \(place(contextPosition))")
    case "did not find expected ',' or ']'":
      return syntax("expected ',' or ']' here", quoted ?? "the list begins at \(place(contextPosition))")
    case "found unexpected end of stream" where context.contains("quoted"):
      return syntax("the quote that begins here is never closed", at: contextPosition)
    case "found unknown escape character":
      let letter = SourcePosition(file: position.file, line: position.line, column: position.column + 1)
      return syntax(
        "there is no escape '\\\(composer.character(at: letter).map(String.init) ?? "")' in double quotes",
        "in single quotes a backslash is a plain character")
    case "could not find expected ':'":
      let key = composer.quotedForm(at: contextPosition, inFlow: flow).map { "write it in quotes: \($0)" }
      return syntax("expected ':' after this key", key, at: contextPosition)
    case "did not find expected <document start>":
      return syntax("expected the end of the file here", quoted ?? "check the indentation")
    case _ where context.hasSuffix("a tag") || context.hasSuffix("an alias") || context.hasSuffix("an anchor"):
      let mark = composer.character(at: contextPosition).map(String.init) ?? ""
      let kind = context.hasSuffix("a tag") ? "a tag" : context.hasSuffix("an alias") ? "an alias" : "an anchor"
      return syntax("'\(mark)' begins \(kind) in YAML, and this is none", quoted, at: contextPosition)
    default:
      return syntax("the YAML cannot be read: \(reason)\(context.isEmpty ? "" : " \(context)")", quoted)
    }
  }

  private func place(_ position: SourcePosition) -> String { "\(position.line):\(position.column)" }
}

extension YAMLComposer {
  /// The text of one line; lines count from 1.
  private func line(_ number: Int) -> [Unicode.Scalar] {
    var current = 1
    var start = 0
    for (index, byte) in bytes.enumerated() where byte == 10 {
      if current == number {
        return Array(String(decoding: bytes[start..<index], as: UTF8.self).unicodeScalars).filter { $0 != "\r" }
      }
      current += 1
      start = index + 1
    }
    return current == number ? Array(String(decoding: bytes[start...], as: UTF8.self).unicodeScalars) : []
  }

  func character(at position: SourcePosition) -> Unicode.Scalar? {
    let line = line(position.line)
    let index = position.column - 1
    return line.indices.contains(index) ? line[index] : nil
  }

  /// The text around a place as it would stand in quotes; nil where quotes are no cure.
  func quotedForm(at position: SourcePosition, inFlow: Bool? = nil) -> String? {
    let line = line(position.line)
    let middle = min(position.column - 1, line.count)
    let start = valueStart(line, before: middle)
    guard start < line.count else { return nil }
    let flow = inFlow ?? opensFlow(line[..<start])
    var text = String(String.UnicodeScalarView(line[start..<valueEnd(line, from: start, inFlow: flow)]))
    while text.last == " " { text.removeLast() }
    let special = ["%", "$", "@", "[", "{", "*", "!", "&", "`", "\"", "'"]
    guard special.contains(where: text.contains) || text.contains(": ") else { return nil }
    guard text.count <= 120, text != "[", text != "{", text != "\"", text != "'" else { return nil }
    return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
  }

  /// Where the value that `middle` is in begins: behind `: `, `- `, or a bracket or comma that is not part of a text.
  private func valueStart(_ line: [Unicode.Scalar], before middle: Int) -> Int {
    func isBlank(_ index: Int) -> Bool { index >= line.count || line[index] == " " || line[index] == "\t" }
    var closed = 0
    var index = middle
    while index > 0 {
      let previous = line[index - 1]
      let before = index >= 2 ? line[index - 2] : " "
      switch previous {
      case "]", "}": closed += 1
      case "[", "{":
        if closed > 0 {
          closed -= 1
        } else if previous == "[" || (before != "%" && before != "$") {
          return skipBlanks(line, index)
        }
      case ":" where closed == 0 && isBlank(index) && index != middle + 1: return skipBlanks(line, index)
      case "," where closed == 0 && isBlank(index): return skipBlanks(line, index)
      case "-" where closed == 0 && isBlank(index) && line[..<(index - 1)].allSatisfy { $0 == " " }:
        return skipBlanks(line, index)
      default: break
      }
      index -= 1
    }
    return skipBlanks(line, 0)
  }

  private func skipBlanks(_ line: [Unicode.Scalar], _ index: Int) -> Int {
    var index = index
    while index < line.count, line[index] == " " || line[index] == "\t" { index += 1 }
    return index
  }

  /// A list or map between brackets is open at the end of `head`.
  private func opensFlow(_ head: ArraySlice<Unicode.Scalar>) -> Bool {
    var depth = 0
    for scalar in head {
      if scalar == "{" || scalar == "[" { depth += 1 }
      if scalar == "}" || scalar == "]" { depth -= 1 }
    }
    return depth > 0
  }

  private func valueEnd(_ line: [Unicode.Scalar], from start: Int, inFlow: Bool) -> Int {
    var depth = 0
    var index = start
    while index < line.count {
      let scalar = line[index]
      let isLast = index + 1 >= line.count
      if scalar == "#", index > start, line[index - 1] == " " { return index }
      if scalar == "{" || scalar == "[" { depth += 1 }
      if inFlow, depth == 0, scalar == "," || scalar == "}" || scalar == "]" { return index }
      if scalar == "}" || scalar == "]" { depth -= 1 }
      if depth == 0, scalar == ":", inFlow, isLast || line[index + 1] == " " { return index }
      index += 1
    }
    return index
  }
}
