//  Numbers as texts, against the standard library.

import Diagnostics
import Events
import Testing

@Suite struct NumberTests {
  private func printed(_ value: Double) -> String {
    var out = ByteBuffer()
    appendJavaDouble(value, to: &out)
    return out.string()
  }

  private func number(_ text: String) -> NumberText? {
    var text = text
    return text.withUTF8 { parseNumber(UnsafeRawBufferPointer($0)) }
  }

  @Test(arguments: [
    (1.0, "1.0"), (0.25, "0.25"), (-0.0, "-0.0"), (0, "0.0"), (1e7, "1.0E7"), (9_999_999, "9999999.0"),
    (12_345_678, "1.2345678E7"),
    (0.001, "0.001"), (0.0001, "1.0E-4"), (0.00012345, "1.2345E-4"), (1_741_504_364.5, "1.7415043645E9"),
    (123.456, "123.456"),
    (-1.5, "-1.5"), (100, "100.0"), (3.141592653589793, "3.141592653589793"),
    (1.7976931348623157e308, "1.7976931348623157E308"), (.leastNonzeroMagnitude, "5.0E-324"),
    (0.1 + 0.2, "0.30000000000000004"),
    (1e22, "1.0E22"), (1.2e-7, "1.2E-7"),
    (1e100, "1.0E100"),
    (.infinity, "Infinity"), (-.infinity, "-Infinity"), (.nan, "NaN"),
    (2_251_799_813_685_248.5, "2.2517998136852485E15"),
  ])
  func `doubles print as in Java`(_ value: Double, _ text: String) { #expect(printed(value) == text) }

  @Test func `a printed double reads back, with no more digits than the shortest`() {
    for i in 0..<20_000 {
      let value: Double =
        switch i % 4 {
        case 0: Double(bitPattern: .random(in: 0...UInt64.max))
        case 1: .random(in: -1000...1000)
        case 2: Double(Int64.random(in: -1_000_000_000...1_000_000_000)) / [1, 10, 100, 1000, 1_000_000][i / 4 % 5]
        default: Double(Int64.random(in: Int64.min...Int64.max))
        }
      guard value.isFinite else { continue }
      let text = printed(value)
      #expect(Double(text) == value)
      #expect(number(text) == .double(value))
      func digits(_ text: String) -> Int {
        let mantissa = text.split(whereSeparator: { $0 == "e" || $0 == "E" })[0].filter(\.isNumber)
        let front = mantissa.drop { $0 == "0" }
        return max(1, front.count - front.reversed().prefix { $0 == "0" }.count)
      }
      #expect(digits(text) <= digits(value.description), "\(text), \(value)")
    }
  }

  @Test(
    arguments: [
      ("0", .integer(0)), ("-0", .integer(0)), ("42", .integer(42)), ("9223372036854775807", .integer(.max)),
      ("-9223372036854775808", .integer(.min)), ("9223372036854775808", .bigInteger),
      ("-9223372036854775809", .bigInteger),
      ("123456789012345678901234567890", .bigInteger), ("1.5", .double(1.5)), ("1e3", .double(1000)),
      ("-2.5E-3", .double(-0.0025)),
      ("1e400", .double(.infinity)), ("-1e99999999999999999999", .double(-.infinity)), ("1e-400", .double(0)),
      ("3.14159265358979323846", .double(3.141592653589793)), ("9007199254740993.0", .double(9_007_199_254_740_992)),
      ("0.1", .double(0.1)), ("0e0", .double(0)),
    ] as [(String, NumberText)])
  func `JSON numbers are read`(_ text: String, _ value: NumberText) { #expect(number(text) == value) }

  @Test(arguments: [
    "", "-", "+1", "01", "-01", ".5", "1.", "1.e5", "1e", "1e+", "1 ", " 1", "0x10", "NaN", "1_0", "1e5.5", "--1",
  ])
  func `other texts are no numbers`(_ text: String) { #expect(number(text) == nil) }

  @Test func `decimals are rounded as by the standard library`() {
    for _ in 0..<10_000 {
      let whole = String(UInt64.random(in: 0...UInt64.max) >> UInt64.random(in: 0...63))
      let fraction = String((0..<Int.random(in: 1...22)).map { _ in Character("\(Int.random(in: 0...9))") })
      let text = "\(whole).\(fraction)e\(Int.random(in: -40...40))"
      #expect(number(text) == Double(text).map { .double($0) }, "\(text)")
    }
  }
}
