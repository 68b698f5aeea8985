//  Scripts of the `aggregate` filter: a small language of its own, written as the Ruby that its users know. It has the
//  values, operators, conditions and calls that collecting over events takes, and nothing that reaches the world: no
//  files, no loops without an end, no classes. A script is parsed at start, where every mistake is reported with its
//  place, and then walked as a tree within bounds of steps and sizes.

internal import Events

/// A compiled script. Immutable; any thread may run it.
struct Script: Sendable {
  let body: ScriptNode
  let localCount: Int

  init(_ source: String) throws(ScriptSyntaxError) {
    let tokens = try ScriptLexer(Array(source.utf8)).tokens
    // The tree of a longer one might be deeper than a thread's stack.
    guard tokens.count <= 4000 else { throw ScriptSyntaxError(offset: 0, text: "a script has at most 4,000 words") }
    var parser = ScriptParser(tokens)
    body = try parser.script()
    localCount = parser.localCount
  }
}

/// What can be assigned to.
indirect enum ScriptTarget: Sendable {
  case local(Int)
  case element(ScriptNode, ScriptNode)
  case meta(ScriptMeta)
  case timestamp
}

/// What a script may set for its task.
enum ScriptMeta: String, Sendable, CaseIterable {
  case timeout
  case inactivityTimeout = "inactivity_timeout"
}

/// `{ |a, b| … }`
struct ScriptBlock: Sendable {
  var parameters: [Int]
  var body: ScriptNode
}

/// A field reference in a call: parsed at start where it is constant.
enum ScriptReference: Sendable {
  case constant(FieldReference)
  case computed(ScriptNode)
}

/// What a script asks of its event.
enum ScriptEventCall: Sendable {
  case get(ScriptReference)
  case set(ScriptReference, ScriptNode)
  case remove(ScriptReference)
  case includes(ScriptReference)
  case tag(ScriptNode)
  case cancel
  case isCancelled
  case sprintf(Template)
  case timestamp
  case fields
}

indirect enum ScriptNode: Sendable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case double(Double)
  case text([UInt8])
  case interpolated([ScriptNode])
  case list([ScriptNode])
  /// Keys and values by turns.
  case hash([ScriptNode])
  case map
  case now
  case local(Int)
  case meta(ScriptMeta)
  case element(ScriptNode, ScriptNode)
  case method(ScriptNode, ScriptMethod, [ScriptNode], ScriptBlock?, isSafe: Bool)
  case event(ScriptEventCall)
  case assign(ScriptTarget, ScriptNode)
  case change(ScriptTarget, ScriptOperator, ScriptNode)
  /// `||=`
  case fill(ScriptTarget, ScriptNode)
  case negate(ScriptNode)
  case not(ScriptNode)
  case binary(ScriptOperator, ScriptNode, ScriptNode)
  case both(ScriptNode, ScriptNode)
  case either(ScriptNode, ScriptNode)
  case choice(ScriptNode, ScriptNode, ScriptNode)
  case sequence([ScriptNode])
  case raise(ScriptNode)
  case emit(ScriptNode)
  case leave
}
