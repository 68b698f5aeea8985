//  The operations of the math filter. Whole numbers stay whole as long as 64 bits hold them, and become floating-point
//  numbers beyond.

internal import Events
internal import Glibc

/// A number of an event.
enum MathNumber: Sendable {
  case integer(Int64)
  case double(Double)

  var double: Double {
    switch self {
    case .integer(let value): Double(value)
    case .double(let value): value
    }
  }

  var bits: ValueBits {
    switch self {
    case .integer(let value): .integer(value)
    case .double(let value): .double(value)
    }
  }
}

enum MathOperation: String, CaseIterable, Sendable {
  case add, subtract, multiply, divide, modulo, power
  case floatDivide = "float divide"
  case minimum, maximum
  case round, floor, ceiling, absolute, negate, squareRoot = "square root"
  case logarithm, exponential

  /// How each is written in a configuration.
  private static let names: [String: MathOperation] = [
    "+": .add, "add": .add, "plus": .add,
    "-": .subtract, "sub": .subtract, "subtract": .subtract, "minus": .subtract,
    "*": .multiply, "mpy": .multiply, "mult": .multiply, "mul": .multiply, "times": .multiply, "multiply": .multiply,
    "/": .divide, "div": .divide, "divide": .divide,
    "fdiv": .floatDivide, "./": .floatDivide, "float divide": .floatDivide,
    "%": .modulo, "mod": .modulo, "modulo": .modulo,
    "**": .power, "^": .power, "pow": .power, "power": .power, "to the power of": .power,
    "min": .minimum, "max": .maximum,
    "round": .round, "floor": .floor, "ceil": .ceiling, "abs": .absolute, "neg": .negate, "sqrt": .squareRoot,
    "log": .logarithm, "exp": .exponential,
  ]

  static var allNames: [String] { names.keys.sorted() }

  init?(name: String) {
    guard let operation = MathOperation.names[name.lowercased()] else { return nil }
    self = operation
  }

  /// Whether it takes one number; `round` takes a second where one is given.
  var isUnary: Bool {
    switch self {
    case .floor, .ceiling, .absolute, .negate, .squareRoot, .logarithm, .exponential: true
    default: false
    }
  }

  /// The result; nil where there is none: a division by zero, a root or logarithm of what has none.
  func apply(_ left: MathNumber, _ right: MathNumber) -> MathNumber? {
    if case .integer(let a) = left, case .integer(let b) = right, let result = whole(a, b) { return result }
    switch self {
    case .divide, .floatDivide, .modulo: if right.double == 0 { return nil }
    default: break
    }
    let (a, b) = (left.double, right.double)
    let result: Double =
      switch self {
      case .add: a + b
      case .subtract: a - b
      case .multiply: a * b
      case .divide, .floatDivide: a / b
      case .modulo: a - b * (a / b).rounded(.down)
      case .power: pow(a, b)
      case .minimum: min(a, b)
      case .maximum: max(a, b)
      case .round: MathOperation.round(a, b)
      case .floor: a.rounded(.down)
      case .ceiling: a.rounded(.up)
      case .absolute: a.magnitude
      case .negate: -a
      case .squareRoot: a.squareRoot()
      case .logarithm: log(a)
      case .exponential: exp(a)
      }
    guard result.isFinite else { return nil }
    switch self {
    case .floor, .ceiling: return Int64(exactly: result).map { .integer($0) } ?? .double(result)
    case .round where b <= 0: return Int64(exactly: result).map { .integer($0) } ?? .double(result)
    default: return .double(result)
    }
  }

  /// The whole result of whole numbers; nil where there is none.
  private func whole(_ a: Int64, _ b: Int64) -> MathNumber? {
    func checked(_ result: (partialValue: Int64, overflow: Bool)) -> MathNumber? {
      result.overflow ? nil : .integer(result.partialValue)
    }
    switch self {
    case .add: return checked(a.addingReportingOverflow(b))
    case .subtract: return checked(a.subtractingReportingOverflow(b))
    case .multiply: return checked(a.multipliedReportingOverflow(by: b))
    case .divide:
      let (quotient, overflow) = a.dividedReportingOverflow(by: b)
      if overflow { return nil }
      // Rounded down, as remainders have the divisor's sign.
      return .integer(a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient)
    case .modulo:
      let (rest, overflow) = a.remainderReportingOverflow(dividingBy: b)
      if overflow { return b == -1 ? .integer(0) : nil }
      return .integer(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest)
    case .power: return b < 0 ? nil : MathOperation.power(a, b)
    case .minimum: return .integer(min(a, b))
    case .maximum: return .integer(max(a, b))
    case .floor, .ceiling: return .integer(a)
    case .round: return b >= 0 ? .integer(a) : nil
    case .absolute: return a == .min ? nil : .integer(abs(a))
    case .negate: return checked((0 as Int64).subtractingReportingOverflow(a))
    case .floatDivide, .squareRoot, .logarithm, .exponential: return nil
    }
  }

  private static func power(_ base: Int64, _ exponent: Int64) -> MathNumber? {
    var result: Int64 = 1
    var factor = base
    var rest = exponent
    while rest > 0 {
      if rest & 1 == 1 {
        let (product, overflow) = result.multipliedReportingOverflow(by: factor)
        if overflow { return nil }
        result = product
      }
      rest >>= 1
      if rest > 0 {
        let (square, overflow) = factor.multipliedReportingOverflow(by: factor)
        if overflow { return nil }
        factor = square
      }
    }
    return .integer(result)
  }

  private static func round(_ value: Double, _ digits: Double) -> Double {
    let places = max(-300, min(300, digits.rounded(.towardZero)))
    if places == 0 { return value.rounded(.toNearestOrAwayFromZero) }
    let scale = pow(10, places.magnitude)
    if places < 0 { return (value / scale).rounded(.toNearestOrAwayFromZero) * scale }
    let scaled = value * scale
    // So large a number has no such places.
    return scaled.isFinite && scaled.magnitude < 9e15 ? scaled.rounded(.toNearestOrAwayFromZero) / scale : value
  }
}
