//  What is wrong with a configuration, and where.

/// A place in a text file; line and column count characters from 1, and 0 means unknown.
public struct SourcePosition: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var file: String
  public var line: Int
  public var column: Int

  public init(file: String, line: Int = 0, column: Int = 0) {
    self.file = file
    self.line = line
    self.column = column
  }

  public var description: String { line == 0 ? file : "\(file):\(line):\(column)" }

  public static func < (left: SourcePosition, right: SourcePosition) -> Bool {
    (left.file, left.line, left.column) < (right.file, right.line, right.column)
  }
}

/// One finding of the checker.
public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Severity: String, Sendable { case error, warning }

  public var position: SourcePosition
  public var severity: Severity
  /// What is wrong, in one sentence without a full stop.
  public var text: String
  /// The stable code: `config.unknown-option`.
  public var code: String
  /// What to do next; nil where the text says it.
  public var hint: String?

  public init(
    _ position: SourcePosition, _ text: String, code: String, hint: String? = nil, severity: Severity = .error
  ) {
    self.position = position
    self.severity = severity
    self.text = text
    self.code = code
    self.hint = hint
  }

  /// `FILE:LINE:COLUMN: error: TEXT [code]`
  public var description: String {
    "\(position): \(severity.rawValue): \(text)\(hint.map { "; \($0)" } ?? "") [\(code)]"
  }
}

/// Collects problems, so that one run reports them all.
public final class Problems {
  public private(set) var all: [Problem] = []

  public init() {}

  public func add(_ problem: Problem) { all.append(problem) }

  public func error(_ position: SourcePosition, _ text: String, code: String, hint: String? = nil) {
    all.append(Problem(position, text, code: code, hint: hint))
  }

  public func warning(_ position: SourcePosition, _ text: String, code: String, hint: String? = nil) {
    all.append(Problem(position, text, code: code, hint: hint, severity: .warning))
  }

  public var hasErrors: Bool { all.contains { $0.severity == .error } }

  /// In order of place, each finding once.
  public var sorted: [Problem] {
    var seen = Set<Problem>()
    return all.filter { seen.insert($0).inserted }.enumerated()
      .sorted { ($0.element.position, $0.offset) < ($1.element.position, $1.offset) }.map(\.element)
  }
}

/// The candidate nearest to `name` by edit distance, if it is near enough to be a slip of the hand.
public func nearest(to name: String, among candidates: some Sequence<String>) -> String? {
  let wanted = Array(name.utf8)
  var best: (name: String, distance: Int)?
  for candidate in candidates {
    let distance = editDistance(wanted, Array(candidate.utf8))
    let limit = max(1, min(wanted.count, candidate.utf8.count) / 3)
    if distance <= limit, distance < best?.distance ?? .max { best = (candidate, distance) }
  }
  return best?.name
}

/// Edits between two names: insert, remove, replace, or swap two neighbours.
func editDistance(_ left: [UInt8], _ right: [UInt8]) -> Int {
  if left.isEmpty || right.isEmpty { return max(left.count, right.count) }
  var before: [Int] = []
  var previous = Array(0...right.count)
  for i in 1...left.count {
    var current = [i]
    for j in 1...right.count {
      let same = left[i - 1] == right[j - 1]
      var distance = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (same ? 0 : 1))
      if i > 1, j > 1, left[i - 1] == right[j - 2], left[i - 2] == right[j - 1] {
        distance = min(distance, before[j - 2] + 1)
      }
      current.append(distance)
    }
    before = previous
    previous = current
  }
  return previous[right.count]
}
