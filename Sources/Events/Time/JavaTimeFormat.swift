//  Prints moments by the patterns of `%{{…}}`: the letters of java.time.

public import Diagnostics

/// A compiled `%{{…}}` pattern. Immutable, so any number of threads may print with it.
public final class JavaTimeFormat: Sendable {
  private let program: TimeProgram

  /// - Throws: `TimePatternError` for letters that are no token or stand too often, open quotes, reserved characters
  ///   and brackets without their partner, with the place.
  public init(_ pattern: String) throws(TimePatternError) {
    var compiler = Compiler(pattern)
    program = try compiler.compile()
  }

  /// Appends the moment, in UTC. A field longer than its padding stays as long as it is.
  public func append(_ time: Timestamp, to buffer: inout ByteBuffer) { program.append(time, to: &buffer) }
}

private struct Compiler {
  let bytes: [UInt8]
  var program = TimeProgram()

  init(_ pattern: String) { bytes = Array(pattern.utf8) }

  func fault(_ text: String, at index: Int) -> TimePatternError {
    TimePatternError(
      text: text, character: String(decoding: bytes[..<min(index, bytes.count)], as: UTF8.self).count + 1)
  }

  mutating func compile() throws(TimePatternError) -> TimeProgram {
    var i = 0
    var open = 0
    while i < bytes.count {
      let character = bytes[i]
      if JodaToken.isLetter(character) {
        try letters(&i)
        continue
      }
      switch character {
      case UInt8(ascii: "'"): try quoted(&i)
      case UInt8(ascii: "["): open += 1
      case UInt8(ascii: "]"):
        guard open > 0 else { throw fault("\"]\" has no \"[\" before it", at: i) }
        open -= 1
      case UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "#"):
        throw fault("\"\(Character(UnicodeScalar(character)))\" is reserved and must be quoted", at: i)
      default: program.addLiteral([character])
      }
      i += 1
    }
    return program
  }

  /// From an opening quote to the closing one, where `i` is left.
  private mutating func quoted(_ i: inout Int) throws(TimePatternError) {
    let start = i
    var text: [UInt8] = []
    i += 1
    while i < bytes.count {
      if bytes[i] == UInt8(ascii: "'") {
        guard i + 1 < bytes.count, bytes[i + 1] == UInt8(ascii: "'") else { break }
        i += 1
      }
      text.append(bytes[i])
      i += 1
    }
    guard i < bytes.count else { throw fault("the quote is never closed", at: start) }
    program.addLiteral(text.isEmpty ? [UInt8(ascii: "'")] : text)
  }

  private func run(from start: Int) -> Int {
    var end = start
    while end < bytes.count, bytes[end] == bytes[start] { end += 1 }
    return end - start
  }

  private mutating func letters(_ i: inout Int) throws(TimePatternError) {
    var pad = 0
    if bytes[i] == UInt8(ascii: "p") {
      pad = run(from: i)
      i += pad
      guard i < bytes.count, JodaToken.isLetter(bytes[i]), pad <= 255 else {
        throw fault("\"p\" must stand before the letters that it pads", at: i - pad)
      }
    }
    let count = run(from: i)
    if let text = try zoneText(bytes[i], count, at: i) {
      if text.count < pad { program.addLiteral(Array(repeating: 32, count: pad - text.count)) }
      program.addLiteral(Array(text.utf8))
    } else {
      var step = try field(bytes[i], count, at: i)
      // The short way for two digits does not pad.
      if pad > 0, step.code == .twoDigits { step = TimeStep(code: .number, field: step.field, width: 2) }
      step.pad = UInt8(pad)
      program.add(step)
    }
    i += count
  }

  private func tooMany(_ letter: UInt8, at index: Int) -> TimePatternError {
    fault("\"\(Character(UnicodeScalar(letter)))\" stands too often", at: index)
  }

  /// What the zone letters print for UTC; nil for other letters.
  private func zoneText(_ letter: UInt8, _ count: Int, at index: Int) throws(TimePatternError) -> String? {
    switch letter {
    case UInt8(ascii: "z"):
      guard count <= 4 else { throw tooMany(letter, at: index) }
      return "Z"
    case UInt8(ascii: "V"):
      guard count == 2 else { throw fault("\"V\" must stand twice", at: index) }
      return "Z"
    case UInt8(ascii: "v"):
      guard count == 1 || count == 4 else { throw fault("\"v\" must stand once or four times", at: index) }
      return "Z"
    case UInt8(ascii: "O"):
      guard count == 1 || count == 4 else { throw fault("\"O\" must stand once or four times", at: index) }
      return "GMT"
    case UInt8(ascii: "X"):
      guard count <= 5 else { throw tooMany(letter, at: index) }
      return "Z"
    case UInt8(ascii: "x"):
      guard count <= 5 else { throw tooMany(letter, at: index) }
      return count == 1 ? "+00" : count % 2 == 0 ? "+0000" : "+00:00"
    case UInt8(ascii: "Z"):
      guard count <= 5 else { throw tooMany(letter, at: index) }
      return count < 4 ? "+0000" : count == 4 ? "GMT" : "Z"
    default: return nil
    }
  }

  private func field(_ letter: UInt8, _ count: Int, at index: Int) throws(TimePatternError) -> TimeStep {
    let width = UInt8(clamping: count)
    func limit(_ most: Int) throws(TimePatternError) {
      if count > most { throw tooMany(letter, at: index) }
    }
    func number(_ field: TimeField, most: Int) throws(TimePatternError) -> TimeStep {
      try limit(most)
      return TimeStep(code: .number, field: field, width: width)
    }
    func year(_ field: TimeField) throws(TimePatternError) -> TimeStep {
      try limit(19)
      if count == 2 { return TimeStep(code: .lastTwo, field: field) }
      return TimeStep(code: count < 4 ? .number : .signedNumber, field: field, width: width)
    }
    /// Words have three forms: three letters short, four full, five a single letter.
    let form: UInt8 = count == 4 ? 1 : count == 5 ? 2 : 0
    switch letter {
    case UInt8(ascii: "G"):
      try limit(5)
      return TimeStep(code: .era, form: form)
    case UInt8(ascii: "y"): return try year(.yearOfEra)
    case UInt8(ascii: "u"): return try year(.year)
    case UInt8(ascii: "Y"): return try year(.localYear)
    case UInt8(ascii: "M"), UInt8(ascii: "L"):
      try limit(5)
      if count >= 3 { return TimeStep(code: .monthName, form: form) }
      return count == 2 ? TimeStep(code: .twoDigits, field: .month) : try number(.month, most: 1)
    case UInt8(ascii: "Q"), UInt8(ascii: "q"):
      try limit(5)
      return count >= 3 ? TimeStep(code: .quarterName, form: form) : try number(.quarter, most: 2)
    case UInt8(ascii: "E"):
      try limit(5)
      return TimeStep(code: .weekdayName, form: form)
    case UInt8(ascii: "e"), UInt8(ascii: "c"):
      try limit(5)
      if letter == UInt8(ascii: "c"), count == 2 { throw fault("\"cc\" is no date token", at: index) }
      return count >= 3 ? TimeStep(code: .weekdayName, form: form) : try number(.localWeekday, most: 2)
    case UInt8(ascii: "D"): return try number(.dayOfYear, most: 3)
    case UInt8(ascii: "d"):
      return count == 2 ? TimeStep(code: .twoDigits, field: .day) : try number(.day, most: 2)
    case UInt8(ascii: "F"): return try number(.alignedWeekday, most: 1)
    case UInt8(ascii: "w"): return try number(.localWeek, most: 2)
    case UInt8(ascii: "W"): return try number(.localWeekOfMonth, most: 1)
    case UInt8(ascii: "a"):
      try limit(1)
      return TimeStep(code: .halfday)
    case UInt8(ascii: "B"):
      guard count == 1 || count == 4 || count == 5 else {
        throw fault("\"B\" must stand once, four or five times", at: index)
      }
      return TimeStep(code: .dayPeriod, form: form)
    case UInt8(ascii: "h"): return try number(.clockHalfdayHour, most: 2)
    case UInt8(ascii: "H"): return try number(.hour, most: 2)
    case UInt8(ascii: "k"): return try number(.clockHour, most: 2)
    case UInt8(ascii: "K"): return try number(.halfdayHour, most: 2)
    case UInt8(ascii: "m"): return try number(.minute, most: 2)
    case UInt8(ascii: "s"): return try number(.second, most: 2)
    case UInt8(ascii: "S"):
      try limit(9)
      return TimeStep(code: .fraction, width: width)
    case UInt8(ascii: "A"): return try number(.milliOfDay, most: 19)
    case UInt8(ascii: "n"): return try number(.nanoOfSecond, most: 19)
    case UInt8(ascii: "N"): return try number(.nanoOfDay, most: 19)
    case UInt8(ascii: "g"): return try number(.modifiedJulianDay, most: 19)
    default: throw fault("\"\(Character(UnicodeScalar(letter)))\" is no date token", at: index)
    }
  }
}
