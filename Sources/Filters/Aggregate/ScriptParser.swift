//  A script's words to a tree: statements, then expressions by the strength of their operators.

internal import Diagnostics
internal import Events

struct ScriptParser {
  private let tokens: [(token: ScriptToken, offset: Int)]
  private var i = 0
  private var depth = 0
  private var locals: [String: Int] = [:]
  private(set) var localCount = 0

  private static let reserved: Set<String> = [
    "if", "unless", "then", "elsif", "else", "end", "do", "and", "or", "not", "while", "until", "for", "def", "class",
    "module", "begin", "rescue", "ensure", "case", "when", "in", "yield", "self", "super", "break", "redo", "retry",
    "loop", "require",
  ]

  init(_ tokens: [(token: ScriptToken, offset: Int)]) { self.tokens = tokens }

  // MARK: Words

  private var token: ScriptToken { tokens[i].token }
  private var following: ScriptToken { i + 1 < tokens.count ? tokens[i + 1].token : .end }
  private var offset: Int { tokens[i].offset }
  private mutating func advance() { if i + 1 < tokens.count { i += 1 } }

  private mutating func skip(_ wanted: ScriptToken) -> Bool {
    guard token == wanted else { return false }
    advance()
    return true
  }
  private mutating func skip(_ sign: String) -> Bool { skip(.sign(sign)) }
  private mutating func skipLines() { while skip(.newline) {} }

  private mutating func expect(_ sign: String) throws(ScriptSyntaxError) {
    if !skip(sign) { throw fail("'\(sign)' is missing here") }
  }
  private mutating func expectEnd() throws(ScriptSyntaxError) {
    if !skip(.name("end")) { throw fail("'end' is missing here") }
  }
  private func fail(_ text: String) -> ScriptSyntaxError { ScriptSyntaxError(offset: offset, text: text) }

  private mutating func local(_ name: String) -> Int {
    if let place = locals[name] { return place }
    locals[name] = localCount
    localCount += 1
    return localCount - 1
  }

  // MARK: Statements

  mutating func script() throws(ScriptSyntaxError) -> ScriptNode {
    let body = try statements { $0 == .end }
    return body
  }

  private mutating func statements(_ isEnd: (ScriptToken) -> Bool) throws(ScriptSyntaxError) -> ScriptNode {
    var result: [ScriptNode] = []
    skipLines()
    while !isEnd(token) {
      if token == .end { throw fail("the script ends too early here") }
      result.append(try statement())
      guard token == .newline || token == .end || isEnd(token) else {
        throw fail("a statement ends here, but more follows")
      }
      skipLines()
    }
    return result.count == 1 ? result[0] : .sequence(result)
  }

  /// An expression with `if` or `unless` behind it.
  private mutating func statement() throws(ScriptSyntaxError) -> ScriptNode {
    var node = try logical()
    while true {
      if skip(.name("if")) {
        node = .choice(try logical(), node, .null)
      } else if skip(.name("unless")) {
        node = .choice(try logical(), .null, node)
      } else {
        return node
      }
    }
  }

  /// `not`, `and`, `or`: weaker than an assignment.
  private mutating func logical() throws(ScriptSyntaxError) -> ScriptNode {
    var left = try negation()
    while true {
      if skip(.name("and")) {
        skipLines()
        left = .both(left, try negation())
      } else if skip(.name("or")) {
        skipLines()
        left = .either(left, try negation())
      } else {
        return left
      }
    }
  }

  private mutating func negation() throws(ScriptSyntaxError) -> ScriptNode {
    if skip(.name("not")) { return .not(try negation()) }
    return try expression()
  }

  // MARK: Expressions

  private mutating func expression() throws(ScriptSyntaxError) -> ScriptNode {
    depth += 1
    defer { depth -= 1 }
    guard depth < ScriptLimit.depth else { throw fail("this is nested too deep") }
    let start = i
    // A name that is assigned to is a local variable from here on.
    if case .name(let name) = token, case .sign(let sign) = following, ScriptParser.assignments.contains(sign),
      !["event", "map", "map_meta", "new_event_block"].contains(name), !ScriptParser.reserved.contains(name)
    {
      if sign != "=", locals[name] == nil { throw fail("the variable '\(name)' has no value yet") }
      _ = local(name)
    }
    let left = try choice()
    guard case .sign(let sign) = token, ScriptParser.assignments.contains(sign) else { return left }
    guard let target = target(of: left) else {
      i = start
      throw fail("this cannot be assigned to")
    }
    advance()
    skipLines()
    let value = try expression()
    switch sign {
    case "=": return .assign(target, value)
    case "||=": return .fill(target, value)
    case "&&=": return .both(left, .assign(target, value))
    default:
      guard let change = ScriptOperator(rawValue: String(sign.dropLast())) else { throw fail("'\(sign)' is not known") }
      return .change(target, change, value)
    }
  }

  private static let assignments: Set<String> = ["=", "+=", "-=", "*=", "/=", "%=", "**=", "||=", "&&="]

  private func target(of node: ScriptNode) -> ScriptTarget? {
    switch node {
    case .local(let place): .local(place)
    case .element(let holder, let key): .element(holder, key)
    case .meta(let meta): .meta(meta)
    case .event(.timestamp): .timestamp
    default: nil
    }
  }

  private mutating func choice() throws(ScriptSyntaxError) -> ScriptNode {
    let condition = try binary(0)
    guard skip("?") else { return condition }
    skipLines()
    let then = try expression()
    skipLines()
    try expect(":")
    skipLines()
    return .choice(condition, then, try expression())
  }

  /// Operators from the weakest on.
  private static let levels: [[String]] = [
    ["||"], ["&&"], ["==", "!=", "<=>", "==="], ["<", "<=", ">", ">="], ["<<"], ["+", "-"], ["*", "/", "%"],
  ]

  private mutating func binary(_ level: Int) throws(ScriptSyntaxError) -> ScriptNode {
    guard level < ScriptParser.levels.count else { return try unary() }
    var left = try binary(level + 1)
    while case .sign(let sign) = token, ScriptParser.levels[level].contains(sign) {
      advance()
      skipLines()
      let right = try binary(level + 1)
      switch sign {
      case "||": left = .either(left, right)
      case "&&": left = .both(left, right)
      default:
        guard let known = ScriptOperator(rawValue: sign == "===" ? "==" : sign) else {
          throw fail("'\(sign)' is not known")
        }
        left = .binary(known, left, right)
      }
    }
    return left
  }

  private mutating func unary() throws(ScriptSyntaxError) -> ScriptNode {
    depth += 1
    defer { depth -= 1 }
    guard depth < ScriptLimit.depth * 4 else { throw fail("this is nested too deep") }
    if skip("!") { return .not(try unary()) }
    if skip("-") {
      // The sign belongs to a number that follows, but not to its power.
      let number: ScriptNode
      switch (token, following) {
      case (_, .sign("**")): return .negate(try unary())
      case (.integer(let value), _): number = .integer(0 &- value)
      case (.double(let value), _): number = .double(-value)
      default: return .negate(try unary())
      }
      advance()
      return try postfix(behind: number)
    }
    if skip("+") { return try unary() }
    let base = try postfix()
    return skip("**") ? .binary(.power, base, try unary()) : base
  }

  /// Calls and indexes behind a value.
  private mutating func postfix() throws(ScriptSyntaxError) -> ScriptNode { try postfix(behind: try primary()) }

  private mutating func postfix(behind value: ScriptNode) throws(ScriptSyntaxError) -> ScriptNode {
    var node = value
    while true {
      if token == .sign("[") {
        advance()
        let key = try expression()
        try expect("]")
        node = .element(node, key)
      } else if token == .sign(".") || token == .sign("&.") {
        let isSafe = token == .sign("&.")
        advance()
        node = try method(of: node, isSafe: isSafe)
      } else {
        return node
      }
    }
  }

  private mutating func method(of node: ScriptNode, isSafe: Bool) throws(ScriptSyntaxError) -> ScriptNode {
    let start = i
    let name: String
    switch token {
    case .name(let text): name = text
    case .label(let text):
      // `a ? b.c: d`
      name = String(decoding: text, as: UTF8.self)
    default: throw fail("the name of a method is missing here")
    }
    advance()
    guard let known = ScriptMethod(rubyName: name) else {
      i = start
      let near = nearest(to: name, among: ScriptMethod.names)
      throw fail("the method '\(name)' is not known" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }
    let arguments = try self.arguments()
    let block = try self.block()
    guard known.argumentCounts.contains(arguments.count) else {
      i = start
      throw fail("'\(name)' does not take \(arguments.count) arguments")
    }
    guard known.block != .required || block != nil, known.block != .none || block == nil else {
      i = start
      throw fail(block == nil ? "'\(name)' needs a block" : "'\(name)' takes no block")
    }
    return .method(node, known, arguments, block, isSafe: isSafe)
  }

  private mutating func arguments() throws(ScriptSyntaxError) -> [ScriptNode] {
    guard skip("(") else { return [] }
    var result: [ScriptNode] = []
    skipLines()
    while !skip(")") {
      result.append(try expression())
      skipLines()
      defer { skipLines() }
      guard skip(",") || token == .sign(")") else { throw fail("')' is missing here") }
    }
    return result
  }

  private mutating func block() throws(ScriptSyntaxError) -> ScriptBlock? {
    let isBraces = token == .sign("{")
    guard isBraces || token == .name("do") else { return nil }
    advance()
    skipLines()
    let outer = locals
    var parameters: [Int] = []
    if skip("|") {
      while !skip("|") {
        guard case .name(let name) = token else { throw fail("the name of a parameter is missing here") }
        advance()
        // A parameter hides a variable of the same name.
        locals[name] = nil
        parameters.append(local(name))
        guard skip(",") || token == .sign("|") else { throw fail("'|' is missing here") }
      }
    }
    let body: ScriptNode
    if isBraces {
      body = try statements { $0 == .sign("}") }
      try expect("}")
    } else {
      body = try statements { $0 == .name("end") }
      try expectEnd()
    }
    locals = outer
    return ScriptBlock(parameters: parameters, body: body)
  }

  // MARK: Values

  private mutating func primary() throws(ScriptSyntaxError) -> ScriptNode {
    let start = i
    switch token {
    case .integer(let value): advance(); return .integer(value)
    case .double(let value): advance(); return .double(value)
    case .text(let bytes), .symbol(let bytes): advance(); return .text(bytes)
    case .interpolated(let pieces): advance(); return try interpolated(pieces)
    case .sign("("):
      advance()
      let node = try statements { $0 == .sign(")") }
      try expect(")")
      return node
    case .sign("["):
      advance()
      var elements: [ScriptNode] = []
      while !skip("]") {
        elements.append(try expression())
        guard skip(",") || token == .sign("]") else { throw fail("']' is missing here") }
      }
      return .list(elements)
    case .sign("{"): return try hash()
    case .constant(let name): return try constant(name)
    case .name(let name): return try named(name)
    case .newline, .end: throw fail("a value is missing here")
    default:
      i = start
      throw fail("a value is missing here")
    }
  }

  private mutating func interpolated(_ pieces: [ScriptPiece]) throws(ScriptSyntaxError) -> ScriptNode {
    var nodes: [ScriptNode] = []
    for piece in pieces {
      switch piece {
      case .text(let bytes): nodes.append(.text(bytes))
      case .code(let source, let offset):
        var inner = ScriptParser(try ScriptLexer(source, base: offset).tokens)
        inner.locals = locals
        inner.localCount = localCount
        inner.depth = depth + 1
        guard depth < ScriptLimit.depth else { throw fail("this is nested too deep") }
        nodes.append(try inner.script())
        localCount = inner.localCount
      }
    }
    return .interpolated(nodes)
  }

  private mutating func hash() throws(ScriptSyntaxError) -> ScriptNode {
    advance()
    var nodes: [ScriptNode] = []
    skipLines()
    while !skip("}") {
      if case .label(let name) = token {
        advance()
        nodes.append(.text(name))
      } else {
        nodes.append(try expression())
        guard skip("=>") || skip(":") else { throw fail("'=>' is missing here") }
      }
      skipLines()
      nodes.append(try expression())
      skipLines()
      guard skip(",") || token == .sign("}") else { throw fail("'}' is missing here") }
      skipLines()
    }
    return .hash(nodes)
  }

  /// `Time.now`, `LogStash::Event.new({…})`, `LogStash::Timestamp.now`, and names of classes for `is_a?`.
  private mutating func constant(_ first: String) throws(ScriptSyntaxError) -> ScriptNode {
    let start = i
    advance()
    var name = first
    while token == .sign("::"), case .constant(let part) = following {
      advance()
      advance()
      name += "::" + part
    }
    switch name {
    case "Time", "LogStash::Timestamp":
      guard skip("."), skip(.name("now")) || skip(.name("new")) else { break }
      guard try arguments().isEmpty else { break }
      return .now
    case "LogStash::Event":
      guard skip("."), skip(.name("new")) else { break }
      let arguments = try self.arguments()
      guard arguments.count <= 1 else { break }
      return arguments.first ?? .hash([])
    case "String", "Integer", "Float", "Numeric", "Array", "Hash", "NilClass", "TrueClass", "FalseClass",
      "Enumerable":
      return .text(Array(name.utf8))
    default: break
    }
    i = start
    throw fail("'\(name)' is not known here")
  }

  private mutating func named(_ name: String) throws(ScriptSyntaxError) -> ScriptNode {
    switch name {
    case "nil": advance(); return .null
    case "true": advance(); return .boolean(true)
    case "false": advance(); return .boolean(false)
    case "map": advance(); return .map
    case "if", "unless": return try condition(name == "unless")
    case "return", "next":
      advance()
      switch token {
      case .newline, .end, .sign("}"), .name: return .leave
      default:
        _ = try expression()
        return .leave
      }
    case "raise":
      advance()
      switch token {
      case .newline, .end, .sign("}"), .name("if"), .name("unless"), .name("end"): return .raise(.text([]))
      default: return .raise(try expression())
      }
    case "event":
      advance()
      guard skip(".") else { throw fail("'event' is used by its methods: event.get('field')") }
      return .event(try eventCall())
    case "map_meta":
      advance()
      guard skip("."), case .name(let member) = token, let meta = ScriptMeta(rawValue: member) else {
        throw fail("'map_meta' has 'timeout' and 'inactivity_timeout'")
      }
      advance()
      return .meta(meta)
    case "new_event_block":
      advance()
      guard skip("."), skip(.name("call")) else { throw fail("'new_event_block' is used by its method 'call'") }
      let arguments = try self.arguments()
      guard arguments.count == 1 else { throw fail("'new_event_block.call' takes one event") }
      return .emit(arguments[0])
    default:
      if let place = locals[name] {
        advance()
        return .local(place)
      }
      if ScriptParser.reserved.contains(name) { throw fail("'\(name)' has no place in these scripts") }
      let near = nearest(to: name, among: ["event", "map", "map_meta", "new_event_block"] + locals.keys)
      throw fail("'\(name)' is not known" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }
  }

  private mutating func condition(_ isNegated: Bool) throws(ScriptSyntaxError) -> ScriptNode {
    advance()
    let condition = try logical()
    _ = skip(.name("then"))
    let isEnd: (ScriptToken) -> Bool = { $0 == .name("end") || $0 == .name("else") || $0 == .name("elsif") }
    let then = try statements(isEnd)
    var otherwise = ScriptNode.null
    if !isNegated, token == .name("elsif") {
      otherwise = try self.condition(false)
      return .choice(condition, then, otherwise)
    }
    if skip(.name("else")) { otherwise = try statements { $0 == .name("end") } }
    try expectEnd()
    return isNegated ? .choice(condition, otherwise, then) : .choice(condition, then, otherwise)
  }

  // MARK: The event

  private mutating func eventCall() throws(ScriptSyntaxError) -> ScriptEventCall {
    let start = i
    guard case .name(let name) = token else { throw fail("the name of a method is missing here") }
    advance()
    let arguments = try self.arguments()
    switch (name, arguments.count) {
    case ("get", 1): return .get(try reference(arguments[0], start))
    case ("set", 2): return .set(try reference(arguments[0], start), arguments[1])
    case ("remove", 1): return .remove(try reference(arguments[0], start))
    case ("include?", 1): return .includes(try reference(arguments[0], start))
    case ("tag", 1): return .tag(arguments[0])
    case ("cancel", 0): return .cancel
    case ("cancelled?", 0): return .isCancelled
    case ("timestamp", 0): return .timestamp
    case ("to_hash", 0), ("clone", 0): return .fields
    case ("sprintf", 1):
      guard case .text(let bytes) = arguments[0] else {
        i = start
        throw fail("'event.sprintf' takes a text that is written out")
      }
      let template = Template(String(decoding: bytes, as: UTF8.self))
      if let fault = template.fault {
        i = start
        throw fail(fault.description)
      }
      return .sprintf(template)
    default:
      i = start
      let names = ["get", "set", "remove", "include?", "tag", "cancel", "sprintf", "timestamp", "to_hash"]
      if names.contains(name) { throw fail("'event.\(name)' does not take \(arguments.count) arguments") }
      let near = nearest(to: name, among: names)
      throw fail("the event has no method '\(name)'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }
  }

  private mutating func reference(_ node: ScriptNode, _ start: Int) throws(ScriptSyntaxError) -> ScriptReference {
    guard case .text(let bytes) = node else { return .computed(node) }
    do {
      return .constant(try FieldReference(bytes: bytes))
    } catch {
      i = start
      throw fail("\(error)")
    }
  }
}
