//  Reads YAML into a tree with libyaml's event parser. We compose the tree ourselves, because libyaml's own composer
//  keeps no duplicate keys, and because aliases must be bounded before they are followed: a file of a few hundred bytes
//  can name billions of nodes.

internal import CYAML
public import Diagnostics

public enum YAML {
  /// What bounds a file.
  public struct Limits: Sendable {
    public var bytes = 8 << 20
    /// Aliases count as often as they are used.
    public var nodes = 100_000
    public var depth = 100
    /// Errors after which the rest of a file is not looked at.
    public var errors = 100
    /// Keys that a map holds twice are kept, in their order, instead of being errors: for data that others wrote.
    public var keepsDuplicateKeys = false
    public init() {}
  }

  /// Reads one document. Scalars stay as written; see `YAMLNode.expanded(by:problems:)` for variables.
  ///
  /// - Returns: The document; an empty scalar for a file without one; nil where the syntax allows no tree.
  ///   All errors go to `problems`, so a returned tree may come with some.
  public static func parse(_ bytes: [UInt8], file: String, problems: Problems, limits: Limits = Limits()) -> YAMLNode? {
    guard bytes.count <= limits.bytes else {
      problems.error(
        SourcePosition(file: file), "the file is larger than \(limits.bytes) bytes", code: "config.too-large")
      return nil
    }
    var bytes = bytes
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
    if let bad = firstInvalidByte(in: bytes) {
      let utf16 = bytes.starts(with: [0xFF, 0xFE]) || bytes.starts(with: [0xFE, 0xFF])
      problems.error(
        position(of: bad, in: bytes, file: file),
        utf16 ? "the file is UTF-16, not UTF-8" : "byte 0x\(hexadecimal(bytes[bad])) is not valid UTF-8",
        code: "config.encoding", hint: "save the file as UTF-8")
      return nil
    }
    let composer = YAMLComposer(bytes, file: file, problems: problems, limits: limits)
    do { return try composer.compose() } catch {
      problems.add(error)
      return nil
    }
  }

  public static func parse(_ text: String, file: String, problems: Problems, limits: Limits = Limits()) -> YAMLNode? {
    parse(Array(text.utf8), file: file, problems: problems, limits: limits)
  }

  static func firstInvalidByte(in bytes: [UInt8]) -> Int? {
    do {
      _ = try UTF8Span(validating: bytes.span)
      return nil
    } catch { return error.byteOffsets.lowerBound }
  }

  /// The place of a byte; everything before it is valid UTF-8.
  static func position(of offset: Int, in bytes: [UInt8], file: String) -> SourcePosition {
    var line = 1
    var column = 1
    for byte in bytes.prefix(offset) {
      if byte == 10 {
        line += 1
        column = 1
      } else if byte & 0b1100_0000 != 0b1000_0000 {
        column += 1
      }
    }
    return SourcePosition(file: file, line: line, column: column)
  }

  private static func hexadecimal(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return digits.count == 1 ? "0" + digits : digits
  }
}

/// One run over one file. Confined to the caller's thread.
final class YAMLComposer {
  let bytes: [UInt8]
  let file: String
  private let problems: Problems
  private let limits: YAML.Limits
  // libyaml's parser points into itself and into its input, so both live in memory that does not move.
  private let parser: UnsafeMutablePointer<yaml_parser_t>
  private let input: UnsafeMutablePointer<UInt8>
  private var anchors: [String: YAMLNode] = [:]
  private var openAnchors: Set<String> = []
  private var nodeCount = 0
  private var errorCount = 0
  /// Offsets of the first byte of each line, worked out with the first error that shows a line.
  lazy var lineStarts: [Int] = {
    var starts = [0]
    bytes.withUnsafeBufferPointer { bytes in
      for index in bytes.indices where bytes[index] == 10 { starts.append(index + 1) }
    }
    return starts
  }()

  init(_ bytes: [UInt8], file: String, problems: Problems, limits: YAML.Limits) {
    self.bytes = bytes
    self.file = file
    self.problems = problems
    self.limits = limits
    parser = .allocate(capacity: 1)
    parser.initialize(to: yaml_parser_t())
    input = .allocate(capacity: max(bytes.count, 1))
    input.initialize(repeating: 0, count: max(bytes.count, 1))
    bytes.withUnsafeBufferPointer { if let base = $0.baseAddress { input.update(from: base, count: $0.count) } }
    if yaml_parser_initialize(parser) != 0 {
      yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
      yaml_parser_set_input_string(parser, input, bytes.count)
    }
  }

  deinit {
    yaml_parser_delete(parser)
    parser.deallocate()
    input.deallocate()
  }

  /// A libyaml event, taken over into Swift.
  private struct Event {
    enum Kind {
      case scalar(String, YAMLNode.Style)
      case alias(String)
      case listStart, listEnd, mapStart, mapEnd, documentStart, end, other
    }
    var kind: Kind
    var anchor: String?
    var tag: String?
    var position: SourcePosition
    var width = 0
  }

  func compose() throws(Problem) -> YAMLNode {
    var root: YAMLNode?
    while true {
      let event = try next()
      switch event.kind {
      case .end: return root ?? YAMLNode(.scalar(""), SourcePosition(file: file, line: 1, column: 1))
      case .documentStart:
        if root != nil {
          throw Problem(
            event.position, "a second document begins here", code: "config.syntax",
            hint: "a file holds one document; remove this '---' or move what follows into a file of its own")
        }
        root = try node(from: try next(), depth: 1)
      default: continue
      }
    }
  }

  private func node(from event: Event, depth: Int) throws(Problem) -> YAMLNode {
    guard depth <= limits.depth else {
      throw Problem(event.position, "the nesting is deeper than \(limits.depth) levels", code: "config.too-deep")
    }
    try count(1, at: event.position)
    if let anchor = event.anchor { openAnchors.insert(anchor) }
    let isText = try checkTag(event)
    let node: YAMLNode
    switch event.kind {
    case .scalar(let text, let style):
      node = YAMLNode(
        .scalar(text), event.position, style: isText && style == .plain ? .block : style,
        width: isText ? 0 : event.width)
    case .listStart: node = YAMLNode(.list(try list(depth: depth)), event.position)
    case .mapStart: node = YAMLNode(.map(try map(depth: depth)), event.position)
    case .alias(let name): return try alias(name, event.position)
    default: throw Problem(event.position, "a value is missing here", code: "config.syntax")
    }
    if let anchor = event.anchor {
      openAnchors.remove(anchor)
      anchors[anchor] = node
    }
    return node
  }

  private func list(depth: Int) throws(Problem) -> [YAMLNode] {
    var items: [YAMLNode] = []
    while true {
      let event = try next()
      if case .listEnd = event.kind { return items }
      items.append(try node(from: event, depth: depth + 1))
    }
  }

  private func map(depth: Int) throws(Problem) -> [YAMLEntry] {
    var entries: [YAMLEntry] = []
    var places: [String: SourcePosition] = [:]
    var merges: [(index: Int, node: YAMLNode)] = []
    while true {
      let event = try next()
      if case .mapEnd = event.kind { break }
      guard case .scalar(let key, let style) = event.kind else {
        let key = try node(from: event, depth: depth + 1)
        // Told once the value is read: where that fails, the failure says it better.
        _ = try node(from: try next(), depth: depth + 1)
        try tell(
          event.position, "a key must be text, not \(key.phrase)", code: "config.bad-key",
          hint: quotedForm(at: event.position, inFlow: true).map { "write it in quotes: \($0)" })
        continue
      }
      _ = try checkTag(event)
      let value = try node(from: try next(), depth: depth + 1)
      if let anchor = event.anchor { anchors[anchor] = YAMLNode(.scalar(key), event.position, style: style) }
      if let first = places[key], !limits.keepsDuplicateKeys {
        try tell(
          event.position, "the key '\(excerpt(of: key))' is given twice", code: "config.duplicate-key",
          hint: "the first is in line \(first.line)")
        continue
      }
      places[key] = event.position
      if key == "<<", style == .plain {
        merges.append((entries.count, value))
      } else {
        entries.append(
          YAMLEntry(key: key, keyPosition: event.position, value: value, isKeyQuoted: style != .plain))
      }
    }
    return try merges.isEmpty ? entries : merged(entries, merges, places)
  }

  /// Puts the entries of merge keys in their place. A map's own keys win, then the earlier of several merged maps.
  private func merged(
    _ own: [YAMLEntry], _ merges: [(index: Int, node: YAMLNode)], _ places: [String: SourcePosition]
  ) throws(Problem) -> [YAMLEntry] {
    var taken = Set(places.keys)
    var result = own
    for (index, node) in merges.reversed() {
      var added: [YAMLEntry] = []
      for source in node.items ?? [node] {
        guard let entries = source.entries else {
          try tell(
            source.position, "'<<' takes a map or a list of maps, not \(source.phrase)", code: "config.bad-merge")
          continue
        }
        for entry in entries where taken.insert(entry.key).inserted {
          try count(entry.value.nodeCount, at: node.position)
          added.append(entry)
        }
      }
      result.insert(contentsOf: added, at: index)
    }
    return result
  }

  private func alias(_ name: String, _ position: SourcePosition) throws(Problem) -> YAMLNode {
    if openAnchors.contains(name) {
      throw Problem(position, "'*\(name)' stands inside the value that it names", code: "config.bad-alias")
    }
    guard let node = anchors[name] else {
      try tell(
        position, "there is no anchor '&\(name)' above", code: "config.bad-alias",
        hint: quotedForm(at: position).map { "if text is meant, write it in quotes: \($0)" })
      return YAMLNode(.scalar(""), position, style: .block)
    }
    try count(node.nodeCount - 1, at: position)
    return node
  }

  /// Tells of an error after which reading goes on; ends it where a file has far too many.
  private func tell(
    _ position: SourcePosition, _ text: String, code: String, hint: @autoclosure () -> String? = nil
  ) throws(Problem) {
    errorCount += 1
    if errorCount > limits.errors {
      throw Problem(position, "the file has more than \(limits.errors) errors", code: "config.too-many-errors")
    }
    problems.error(position, text, code: code, hint: hint())
  }

  private func count(_ more: Int, at position: SourcePosition) throws(Problem) {
    nodeCount += more
    if nodeCount > limits.nodes {
      throw Problem(
        position, "the file has more than \(limits.nodes) values, aliases counted as often as they are used",
        code: "config.too-large")
    }
  }

  /// Refuses tags that we do not know. What a value is follows from its option, so the known ones change nothing
  /// but `!!str` and `!`, which make a text.
  private func checkTag(_ event: Event) throws(Problem) -> Bool {
    guard let tag = event.tag else { return false }
    if tag == "!" { return true }
    let prefix = "tag:yaml.org,2002:"
    if tag.hasPrefix(prefix) {
      let name = tag.dropFirst(prefix.count)
      if name == "str" { return true }
      if ["int", "float", "bool", "null", "map", "seq"].contains(name) { return false }
      try tell(
        event.position, "the tag '!!\(excerpt(of: String(name)))' is not known", code: "config.unknown-tag")
      return false
    }
    try tell(
      event.position, "the tag '\(excerpt(of: tag))' is not known", code: "config.unknown-tag",
      hint: quotedForm(at: event.position).map { "if text is meant, write it in quotes: \($0)" })
    return false
  }

  private func next() throws(Problem) -> Event {
    var event = yaml_event_t()
    guard yaml_parser_parse(parser, &event) != 0 else { throw syntaxProblem() }
    defer { yaml_event_delete(&event) }
    let place = position(event.start_mark)
    switch event.type {
    case YAML_SCALAR_EVENT:
      let scalar = event.data.scalar
      let text = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
      let width =
        event.end_mark.line == event.start_mark.line ? Int(event.end_mark.column) - Int(event.start_mark.column) : 0
      return Event(
        kind: .scalar(text, style(scalar.style)), anchor: string(scalar.anchor), tag: string(scalar.tag),
        position: place, width: max(width, 0))
    case YAML_ALIAS_EVENT:
      return Event(kind: .alias(string(event.data.alias.anchor) ?? ""), position: place)
    case YAML_SEQUENCE_START_EVENT:
      let start = event.data.sequence_start
      return Event(kind: .listStart, anchor: string(start.anchor), tag: string(start.tag), position: place)
    case YAML_MAPPING_START_EVENT:
      let start = event.data.mapping_start
      return Event(kind: .mapStart, anchor: string(start.anchor), tag: string(start.tag), position: place)
    case YAML_SEQUENCE_END_EVENT: return Event(kind: .listEnd, position: place)
    case YAML_MAPPING_END_EVENT: return Event(kind: .mapEnd, position: place)
    case YAML_DOCUMENT_START_EVENT: return Event(kind: .documentStart, position: place)
    case YAML_STREAM_END_EVENT, YAML_NO_EVENT: return Event(kind: .end, position: place)
    default: return Event(kind: .other, position: place)
    }
  }

  private func style(_ style: yaml_scalar_style_t) -> YAMLNode.Style {
    switch style {
    case YAML_SINGLE_QUOTED_SCALAR_STYLE: .singleQuoted
    case YAML_DOUBLE_QUOTED_SCALAR_STYLE: .doubleQuoted
    case YAML_PLAIN_SCALAR_STYLE: .plain
    default: .block
    }
  }

  private func string(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
    guard let pointer else { return nil }
    var count = 0
    while pointer[count] != 0 { count += 1 }
    return String(decoding: UnsafeBufferPointer(start: pointer, count: count), as: UTF8.self)
  }

  private func position(_ mark: yaml_mark_t) -> SourcePosition {
    SourcePosition(file: file, line: Int(mark.line) + 1, column: Int(mark.column) + 1)
  }

  /// libyaml's last error in our words.
  private func syntaxProblem() -> Problem {
    let parser = parser.pointee
    let reason = parser.problem.map { String(cString: $0) } ?? "out of memory"
    if parser.error == YAML_READER_ERROR {
      let place = YAML.position(of: min(parser.problem_offset, bytes.count), in: bytes, file: file)
      return Problem(
        place, "character U+\(String(max(parser.problem_value, 0), radix: 16, uppercase: true)) is not allowed in YAML",
        code: "config.encoding", hint: "write it as an escape in double quotes")
    }
    let failure = YAMLSyntaxFailure(
      reason: reason, context: parser.context.map { String(cString: $0) } ?? "",
      position: position(parser.problem_mark), contextPosition: position(parser.context_mark))
    return failure.problem(in: self)
  }
}
