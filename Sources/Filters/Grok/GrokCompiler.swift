//  From an expression of `match` to a compiled pattern with a table of captures.
//
//  References `%{NAME}` are replaced by the text of the named pattern, in brackets, again and again until none is left;
//  the result is one expression in Ruby's dialect. Beside the text a list of pieces is kept, which says from which
//  pattern and from where in it each stretch came, so that an error can name the character that somebody wrote.

package import Diagnostics
package import Patterns

package enum GrokType: Sendable { case text, integer, float }

/// One field of an expression and the groups that may fill it.
package struct GrokCapture: Sendable {
  package struct Place: Sendable {
    package var group: Int
    package var type: GrokType
  }

  /// The field's reference as it was written: `clientip`, `[source][ip]`.
  package var field: String
  /// In order of appearance.
  package var places: [Place]
}

struct GrokExpander {
  static let expansionsMax = 10_000
  static let depthMax = 60
  static let textMax = 1 << 20

  struct Piece {
    /// The first character of the output that the piece accounts for.
    var start: Int
    var origin: GrokOrigin
    /// The character of the origin that became it.
    var offset: Int
    /// False where every character of the piece came from the same one (brackets that were put around).
    var runs: Bool
  }

  let library: GrokLibrary
  /// False also captures references without a field, under the pattern's name.
  let namedOnly: Bool
  var inline: [String: String] = [:]
  var output: [Unicode.Scalar] = []
  var pieces: [Piece] = []
  var expansions = 0
  var path: [String] = []

  init(_ library: GrokLibrary, namedOnly: Bool) {
    self.library = library
    self.namedOnly = namedOnly
  }

  /// Origin and offset of a character of the output.
  func place(_ offset: Int) -> (GrokOrigin, Int) {
    guard let piece = pieces.last(where: { $0.start <= offset }) else {
      return (GrokOrigin(name: "", position: nil), offset)
    }
    return (piece.origin, piece.runs ? piece.offset + offset - piece.start : piece.offset)
  }

  mutating func expand(_ source: String, _ origin: GrokOrigin) throws(GrokError) {
    let text = Array(source.unicodeScalars)
    var i = 0
    pieces.append(Piece(start: output.count, origin: origin, offset: 0, runs: true))
    while i < text.count {
      guard text[i] == "%", let reference = Reference(text, i) else {
        output.append(text[i])
        i += 1
        continue
      }
      try replace(reference, origin, i)
      i = reference.end
      pieces.append(Piece(start: output.count, origin: origin, offset: i, runs: true))
    }
    if output.count > GrokExpander.textMax {
      throw GrokError(message: "the expression grows too long", origin: origin, offset: 0)
    }
  }

  private mutating func replace(_ reference: Reference, _ origin: GrokOrigin, _ at: Int) throws(GrokError) {
    expansions += 1
    if expansions > GrokExpander.expansionsMax {
      throw GrokError(
        message: "more than \(GrokExpander.expansionsMax) references are expanded", origin: origin, offset: at)
    }
    if let definition = reference.definition { inline[reference.name] = definition }
    let expression: String
    var inner = GrokOrigin(name: reference.name, position: nil)
    if let own = inline[reference.name] {
      expression = own
    } else if let found = library.definitions[reference.name] {
      expression = found.expression
      inner.position = found.position
    } else {
      throw GrokError(
        message: "there is no pattern \(reference.name)", origin: origin, offset: at + 2,
        hint: nearest(to: reference.name, among: library.definitions.keys.filter { !$0.hasPrefix("_") })
          .map { "did you mean \($0)?" })
    }
    if path.contains(reference.name) || path.count >= GrokExpander.depthMax {
      throw GrokError(message: "pattern \(reference.name) refers to itself", origin: origin, offset: at + 2)
    }
    path.append(reference.name)
    defer { path.removeLast() }
    pieces.append(Piece(start: output.count, origin: origin, offset: at, runs: false))
    if let field = reference.field {
      output += Array("(?<\(reference.name):\(field)>".unicodeScalars)
    } else if namedOnly || reference.name.hasPrefix("_") {
      output += Array("(?:".unicodeScalars)
    } else {
      output += Array("(?<\(reference.name)>".unicodeScalars)
    }
    try expand(expression, inner)
    pieces.append(Piece(start: output.count, origin: origin, offset: at, runs: false))
    output.append(")")
  }

  /// `%{NAME}`, `%{NAME:field}`, `%{NAME:field:type}`, `%{NAME=expression}`.
  struct Reference {
    var name: String
    /// With its type behind a colon.
    var field: String?
    var definition: String?
    /// Behind the closing brace.
    var end: Int

    /// nil where `%` is only text.
    init?(_ text: [Unicode.Scalar], _ start: Int) {
      var i = start + 1
      guard i < text.count, text[i] == "{" else { return nil }
      i += 1
      func take(_ belongs: (Unicode.Scalar) -> Bool) -> String {
        var result = String.UnicodeScalarView()
        while i < text.count, belongs(text[i]) {
          result.append(text[i])
          i += 1
        }
        return String(result)
      }
      name = take(GrokExpander.isNameCharacter)
      if name.isEmpty { return nil }
      if i < text.count, text[i] == ":" {
        i += 1
        let written = take { GrokExpander.isNameCharacter($0) || "@[]:.-".unicodeScalars.contains($0) }
        field = written.isEmpty ? nil : written
      }
      if i < text.count, text[i] == "=" {
        i += 1
        var result = String.UnicodeScalarView()
        while i < text.count, text[i] != "{", text[i] != "}" {
          if text[i] == "\\", i + 1 < text.count {
            result.append(text[i])
            i += 1
          }
          result.append(text[i])
          i += 1
        }
        if !result.isEmpty { definition = String(result) }
      }
      // Whatever else stands before the brace means nothing.
      guard i <= text.count, let close = text[i...].firstIndex(of: "}") else { return nil }
      end = close + 1
    }
  }

  static func isNameCharacter(_ c: Unicode.Scalar) -> Bool {
    (c >= "a" && c <= "z") || (c >= "A" && c <= "Z") || (c >= "0" && c <= "9") || c == "_"
  }
}

/// One expression of `match`, compiled. Shared by all workers.
package final class GrokExpression: Sendable {
  package let source: String
  package let pattern: Pattern
  /// In order of first appearance.
  package let captures: [GrokCapture]
  /// What may make a match slow, in the operator's words.
  package let warnings: [GrokError]

  /// Expands and compiles `source`.
  package init(
    _ source: String, library: GrokLibrary, namedCapturesOnly: Bool = true, position: SourcePosition? = nil
  ) throws(GrokError) {
    self.source = source
    var expander = GrokExpander(library, namedOnly: namedCapturesOnly)
    let origin = GrokOrigin(name: "", position: position)
    try expander.expand(source, origin)
    var text = String.UnicodeScalarView()
    text.append(contentsOf: expander.output)
    // A reference always counts as a named group, so plain parentheses beside one do not capture.
    let dialect: RubyPattern.Dialect = expander.expansions > 0 ? [.grok, .noPlainCaptures] : .grok
    let read: RubyPattern
    do {
      read = try RubyPattern(String(text), dialect: dialect)
      pattern = try Pattern(read)
    } catch {
      let (origin, offset) = expander.place(error.offset)
      throw GrokError(message: error.message, origin: origin, offset: offset)
    }
    captures = GrokExpression.table(read.groupNames)
    warnings = read.risks.map { risk in
      let (origin, offset) = expander.place(risk.range.lowerBound)
      let scalars = expander.output[risk.range.clamped(to: 0..<expander.output.count)]
      var part = String.UnicodeScalarView()
      part.append(contentsOf: scalars.prefix(60))
      return GrokError(
        message: "\(risk.kind.sentence): \(String(part))\(scalars.count > 60 ? "…" : "")", origin: origin,
        offset: offset)
    }
  }

  /// Fields and their groups, from the names of all groups.
  private static func table(_ names: [String?]) -> [GrokCapture] {
    var result: [GrokCapture] = []
    var index: [String: Int] = [:]
    for (i, name) in names.enumerated() {
      guard let name else { continue }
      let parts = name.split(separator: ":", omittingEmptySubsequences: false)
      let field = parts.count > 1 && !parts[1].isEmpty ? String(parts[1]) : String(parts[0])
      let type: GrokType =
        parts.count > 2 ? (parts[2] == "int" ? .integer : parts[2] == "float" ? .float : .text) : .text
      let place = GrokCapture.Place(group: i + 1, type: type)
      if let known = index[field] {
        result[known].places.append(place)
      } else {
        index[field] = result.count
        result.append(GrokCapture(field: field, places: [place]))
      }
    }
    return result
  }

  /// Searches `text`. On a match the captures are read with `forEach`.
  @inline(__always)
  package func match(
    _ text: UnsafeRawBufferPointer, _ scratch: MatchScratch, options: MatchScratch.Options = .validText,
    timeLimit: Int = 30_000
  ) -> MatchOutcome {
    scratch.match(pattern, text, options: options, timeLimit: timeLimit)
  }

  /// The groups of the last match, field by field: capture, its place, start and end in bytes; -1 for a group that took
  /// no part.
  @inline(__always)
  package func forEach(
    _ scratch: MatchScratch, _ body: (_ capture: Int, _ place: Int, _ start: Int, _ end: Int) -> Void
  ) {
    for capture in captures.indices {
      for place in captures[capture].places.indices {
        let group = captures[capture].places[place].group
        body(capture, place, scratch.start(of: group), scratch.end(of: group))
      }
    }
  }
}
