//  The `bytes` filter: sizes such as `10 kB` become numbers.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Bytes: FilterPlugin {
  static let manual = Manual(
    name: "bytes",
    summary: "Turns sizes such as `1.5 MB` into numbers of bytes.",
    details: """
      A size is a number, perhaps a letter of k, m, g, t, p, e, and perhaps a `b`, in any case. Blanks, `_` and the other of \
      comma and dot may group digits. Blanks around the text are taken off in the source field.
      """,
    examples: [
      Example(
        "Units of 1,024", config: "{ source: size, target: size_bytes }", input: #"{"size": "10k"}"#,
        output: #"{"size": "10k", "size_bytes": 10240}"#),
      Example(
        "Units of 1,000", config: "{ source: size, target: size, conversion_method: metric }",
        input: #"{"size": "1.5 MB"}"#, output: #"{"size": 1500000}"#),
    ],
    failureTags: ["_bytesparsefailure"])

  enum Method: String, OptionEnum { case binary, metric }

  enum DecimalSeparator: String, OptionEnum {
    case dot = "."
    case comma = ","
  }

  struct Settings: PluginSettings {
    var source = FieldReference.message
    var target: FieldReference?
    var conversionMethod = Method.binary
    var decimalSeparator = DecimalSeparator.dot
    var tagOnFailure = ["_bytesparsefailure"]

    static let options: [Option<Settings>] = [
      .option("source", \.source, "The field with the size."),
      .option("target", \.target, "Where the number goes.", required: true, example: "size_bytes"),
      .option("conversion_method", \.conversionMethod, "Whether a k is 1,024 (binary) or 1,000 (metric)."),
      .option("decimal_separator", \.decimalSeparator, "The mark before the fraction."),
      .option("tag_on_failure", \.tagOnFailure, "Tags of events whose field holds no size."),
    ]
  }

  private let settings: Settings
  private let target: FieldReference
  private let tags: FailureTags

  init(_ settings: Settings, _ context: FilterContext) throws {
    guard let target = settings.target else { throw BuildFailure("target", "is required") }
    self.settings = settings
    self.target = target
    tags = FailureTags(settings.tagOnFailure)
  }

  func makeFilter() -> any Filter { Worker(settings, target, tags) }

  private final class Worker: Filter {
    private let settings: Settings
    private let target: FieldReference
    private let tags: FailureTags
    private let mark: UInt8

    init(_ settings: Settings, _ target: FieldReference, _ tags: FailureTags) {
      self.settings = settings
      self.target = target
      self.tags = tags
      mark = settings.decimalSeparator == .dot ? 46 : 44
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        if let bits = size(event), event.write(target, bits) { return true }
        tags.apply(to: event)
        return false
      }
    }

    private func size(_ event: Event) -> ValueBits? {
      guard let value = event.value(settings.source), let text = value.text else { return nil }
      var start = 0
      var end = text.count
      while start < end, isSpace(text[start]) || text[start] == 0 { start += 1 }
      while end > start, isSpace(text[end - 1]) || text[end - 1] == 0 { end -= 1 }
      let trimmed = text.slice(start, end)
      if trimmed.count < text.count { value.replace(with: .text(staying: trimmed, isClean: value.isClean)) }
      var lineStart = 0
      while lineStart <= trimmed.count {
        let lineEnd = trimmed[lineStart...].firstIndex(of: 10) ?? trimmed.count
        if let bytes = read(trimmed.slice(lineStart, lineEnd)) { return whole(bytes, event) }
        lineStart = lineEnd + 1
      }
      return nil
    }

    /// One line as a size.
    private func read(_ line: UnsafeRawBufferPointer) -> Double? {
      var i = 0
      var digits = ByteBuffer()
      var marks = 0
      while i < line.count {
        switch line[i] {
        case 48...57: digits.append(line[i])
        case mark:
          marks += 1
          if digits.isEmpty { digits.append(48) }
          digits.append(46)
        case 44, 46, 32, 95: break
        default:
          return finish(line, i, &digits, marks)
        }
        i += 1
      }
      return finish(line, i, &digits, marks)
    }

    private func finish(_ line: UnsafeRawBufferPointer, _ at: Int, _ digits: inout ByteBuffer, _ marks: Int) -> Double?
    {
      guard !digits.isEmpty, digits.count <= 400, marks <= 1 else { return nil }
      var i = at
      while i < line.count, isSpace(line[i]) { i += 1 }
      var power = 0
      if i < line.count {
        switch line[i] | 32 {
        case UInt8(ascii: "k"): power = 1
        case UInt8(ascii: "m"): power = 2
        case UInt8(ascii: "g"): power = 3
        case UInt8(ascii: "t"): power = 4
        case UInt8(ascii: "p"): power = 5
        case UInt8(ascii: "e"): power = 6
        default: break
        }
        if power > 0 { i += 1 }
        if i < line.count, line[i] | 32 == UInt8(ascii: "b") { i += 1 }
      }
      guard i == line.count else { return nil }
      // As JSON has numbers: no zeros in front, a digit behind the point.
      var zeros = 0
      while zeros + 1 < digits.count, digits.pointer[zeros] == 48, digits.pointer[zeros + 1] != 46 { zeros += 1 }
      digits.removeFirst(zeros)
      if digits.pointer[digits.count - 1] == 46 { digits.append(48) }
      guard var number = parseDouble(digits.bytes) else { return nil }
      for _ in 0..<power { number *= settings.conversionMethod == .binary ? 1024 : 1000 }
      return number.isFinite ? number : nil
    }

    private func whole(_ number: Double, _ event: Event) -> ValueBits {
      let rounded = number.rounded(.toNearestOrAwayFromZero)
      if let small = Int64(exactly: rounded) { return .integer(small) }
      return .bigInteger(staying: decimalDigits(of: rounded).withUnsafeBytes { event.copy($0) })
    }
  }
}
