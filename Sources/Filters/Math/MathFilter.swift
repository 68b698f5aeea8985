//  The `math` filter: reckons with the numbers of an event.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct MathFilter: FilterPlugin {
  static let manual = Manual(
    name: "math",
    summary: "Reckons with numbers of the event.",
    details: """
      Each calculation is `[operation, first, second, target]`, run in order; one may use what those before it made. \
      An operand is a number, or a field that holds a number or the text of one. Operations are add, sub, mult, div, \
      fdiv, mod, pow, min, max (also +, -, *, /, %, **), and with one operand, `[operation, operand, target]`, round, \
      floor, ceil, abs, neg, sqrt, log and exp; `[round, operand, places, target]` rounds to decimal places. Whole \
      numbers stay whole: `div` rounds down, `fdiv` does not. What `MEM[0]` to `MEM[99]` hold is forgotten after the \
      event. Where an operand is missing or no number, or there is no result, as behind a division by zero, the event \
      is tagged and the calculations behind are left out; those before stay.
      """,
    examples: [
      Example(
        "A rate", config: "{ calculate: [[add, in, out, total], [fdiv, total, secs, rate]] }",
        input: #"{"in": 300, "out": 200, "secs": 8}"#,
        output: #"{"in": 300, "out": 200, "secs": 8, "total": 500, "rate": 62.5}"#),
      Example(
        "Milliseconds of text, rounded",
        config: #"{ calculate: [["*", "[t][took]", 1000, "MEM[0]"], [round, "MEM[0]", 1, "[t][ms]"]] }"#,
        input: #"{"t": {"took": "0.04327"}}"#, output: #"{"t": {"took": "0.04327", "ms": 43.3}}"#),
      Example(
        "Nothing divides by zero", config: "{ calculate: [[div, a, b, c]] }", input: #"{"a": 1, "b": 0}"#,
        output: #"{"a": 1, "b": 0, "tags": ["_mathfailure"]}"#),
    ],
    failureTags: ["_mathfailure"])

  struct Settings: PluginSettings {
    var calculate: [Calculation] = []
    var tagOnFailure = ["_mathfailure"]

    static let options: [Option<Settings>] = [
      .option(
        "calculate", \.calculate, "Operations with their operands and targets.", required: true,
        example: "[[add, a, b, sum], [round, sum, rounded]]", check: { $0.isEmpty ? "must not be empty" : nil }),
      .option("tag_on_failure", \.tagOnFailure, "Tags of events with a calculation that failed."),
    ]
  }

  static let registerCount = 100

  enum Operand: Sendable {
    case number(MathNumber)
    case field(FieldReference)
    case register(Int)
  }

  enum Target: Sendable {
    case field(FieldReference)
    case register(Int)
  }

  private let calculations: [Calculation]
  private let tags: FailureTags

  init(_ settings: Settings, _ context: FilterContext) {
    calculations = settings.calculate
    tags = FailureTags(settings.tagOnFailure)
  }

  func makeFilter() -> any Filter { Worker(calculations, tags) }

  private final class Worker: Filter {
    private let calculations: [Calculation]
    private let tags: FailureTags
    private var registers = [MathNumber?](repeating: nil, count: MathFilter.registerCount)
    private let usesRegisters: Bool

    init(_ calculations: [Calculation], _ tags: FailureTags) {
      self.calculations = calculations
      self.tags = tags
      usesRegisters = calculations.contains { if case .register = $0.target { true } else { false } }
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        if usesRegisters { for i in registers.indices { registers[i] = nil } }
        for calculation in calculations where !run(calculation, event) {
          tags.apply(to: event)
          return false
        }
        return true
      }
    }

    private func run(_ calculation: Calculation, _ event: Event) -> Bool {
      guard let left = number(calculation.left, event), let right = number(calculation.right, event),
        let result = calculation.operation.apply(left, right)
      else { return false }
      switch calculation.target {
      case .field(let field): return event.write(field, result.bits)
      case .register(let i):
        registers[i] = result
        return true
      }
    }

    private func number(_ operand: Operand, _ event: Event) -> MathNumber? {
      switch operand {
      case .number(let number): return number
      case .register(let i): return registers[i]
      case .field(let field):
        guard let value = event.value(field) else { return nil }
        switch value.kind {
        case .integer: return value.integer.map { .integer($0) }
        case .double, .bigInteger: return value.number.map { .double($0) }
        case .text:
          guard let text = value.text else { return nil }
          if let whole = parseInteger(text) { return .integer(whole) }
          return DecimalText.double(text).map { .double($0) }
        default: return nil
        }
      }
    }
  }
}

/// One calculation of the option `calculate`.
struct Calculation: OptionValue {
  var operation: MathOperation
  var left: MathFilter.Operand
  var right: MathFilter.Operand
  var target: MathFilter.Target
  let optionText: String?

  static var typeName: String { "list of operation, operands and target" }
  static var schema: OptionSchema { .list(.anything) }

  static func read(_ node: YAMLNode, _ context: OptionContext) -> Calculation? {
    let expected = "a list of an operation, one or two operands, and a target"
    guard let items = node.items, items.count == 3 || items.count == 4, let name = items[0].text else {
      return context.refuse(node, expected: expected, hint: "[[add, a, b, sum]]")
    }
    guard let operation = MathOperation(name: name) else {
      let names = MathOperation.allNames.joined(separator: ", ")
      return context.complain(items[0], "knows no operation '\(name)'", hint: "the operations are \(names)")
    }
    let isShort = items.count == 3
    if isShort, !operation.isUnary, operation != .round {
      return context.complain(node, "needs two operands and a target for '\(name)'")
    }
    if !isShort, operation.isUnary { return context.complain(node, "needs one operand and a target for '\(name)'") }
    guard let left = operand(items[1], context),
      let right = isShort ? .number(.integer(0)) : operand(items[2], context),
      let target = target(items[items.count - 1], context)
    else { return nil }
    return Calculation(operation: operation, left: left, right: right, target: target, optionText: node.optionText)
  }

  private static func operand(_ node: YAMLNode, _ context: OptionContext) -> MathFilter.Operand? {
    guard let text = context.text(node, expected: "a number or a field") else { return nil }
    if !node.isQuoted, let number = Array(text.utf8).withUnsafeBytes({ parseNumber($0) }) {
      switch number {
      case .integer(let value): return .number(.integer(value))
      case .double(let value) where value.isFinite: return .number(.double(value))
      default: return context.complain(node, "has a number that is too large: '\(text)'")
      }
    }
    switch target(node, context) {
    case .field(let field): return .field(field)
    case .register(let i): return .register(i)
    case nil: return nil
    }
  }

  private static func target(_ node: YAMLNode, _ context: OptionContext) -> MathFilter.Target? {
    guard let text = context.text(node, expected: "a field") else { return nil }
    if text.hasPrefix("MEM["), text.hasSuffix("]") {
      guard let i = Int(text.dropFirst(4).dropLast()), (0..<MathFilter.registerCount).contains(i) else {
        return context.complain(node, "has no register '\(text)'", hint: "there are MEM[0] to MEM[99]")
      }
      return .register(i)
    }
    do {
      return .field(try FieldReference(text))
    } catch {
      return context.complain(node, "takes a number or a field: \(error)")
    }
  }
}
