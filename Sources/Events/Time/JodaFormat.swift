//  Prints moments by the patterns of `%{+…}`: the letters of Joda-Time.

public import Diagnostics

/// A compiled `%{+…}` pattern. Immutable, so any number of threads may print with it.
public final class JodaFormat: Sendable {
  private let program: TimeProgram

  /// - Throws: `TimePatternError` for a letter that is no token, with its place.
  public init(_ pattern: String) throws(TimePatternError) {
    var program = TimeProgram()
    for token in try JodaToken.read(pattern) {
      switch token {
      case .literal(let bytes): program.addLiteral(bytes)
      case .letter(let letter, let count): program.add(JodaFormat.step(letter, UInt8(clamping: min(count, 128))))
      }
    }
    self.program = program
  }

  /// Appends the moment, in UTC.
  public func append(_ time: Timestamp, to buffer: inout ByteBuffer) { program.append(time, to: &buffer) }

  private static func step(_ letter: UInt8, _ count: UInt8) -> TimeStep {
    func number(_ field: TimeField) -> TimeStep { TimeStep(code: .number, field: field, width: count) }
    switch letter {
    case UInt8(ascii: "G"): return TimeStep(code: .era)
    case UInt8(ascii: "C"): return number(.century)
    case UInt8(ascii: "y"), UInt8(ascii: "Y"):
      if count == 2 { return TimeStep(code: .lastTwo, field: .year) }
      return number(letter == UInt8(ascii: "y") ? .year : .distanceOfYear)
    case UInt8(ascii: "x"): return count == 2 ? TimeStep(code: .lastTwo, field: .isoYear) : number(.isoYear)
    case UInt8(ascii: "w"): return number(.isoWeek)
    case UInt8(ascii: "e"): return number(.isoWeekday)
    case UInt8(ascii: "E"): return TimeStep(code: .weekdayName, form: count >= 4 ? 1 : 0)
    case UInt8(ascii: "M"):
      if count >= 3 { return TimeStep(code: .monthName, form: count >= 4 ? 1 : 0) }
      return count == 2 ? TimeStep(code: .twoDigits, field: .month) : number(.month)
    case UInt8(ascii: "d"): return count == 2 ? TimeStep(code: .twoDigits, field: .day) : number(.day)
    case UInt8(ascii: "D"): return number(.dayOfYear)
    case UInt8(ascii: "a"): return TimeStep(code: .halfday)
    case UInt8(ascii: "K"): return number(.halfdayHour)
    case UInt8(ascii: "h"): return number(.clockHalfdayHour)
    case UInt8(ascii: "H"): return number(.hour)
    case UInt8(ascii: "k"): return number(.clockHour)
    case UInt8(ascii: "m"): return number(.minute)
    case UInt8(ascii: "s"): return number(.second)
    default: return TimeStep(code: .fractionOfMillis, width: count)
    }
  }
}

/// A piece of a Joda pattern.
enum JodaToken: Equatable {
  /// A run of `count` equal letters that is a field.
  case letter(UInt8, count: Int)
  case literal([UInt8])

  static let letters: [UInt8] = Array("GCxyYwEeMdDaKhHkmsSzZ".utf8)

  /// Splits a pattern. Zone letters are left as they are; `''` is a quote everywhere, and an open quote ends with the
  /// pattern.
  static func split(_ pattern: String) throws(TimePatternError) -> [JodaToken] {
    let bytes = Array(pattern.utf8)
    var tokens: [JodaToken] = []
    var i = 0
    while i < bytes.count {
      if isLetter(bytes[i]) {
        let letter = bytes[i]
        let start = i
        while i < bytes.count, bytes[i] == letter { i += 1 }
        guard letters.contains(letter) else {
          throw TimePatternError(
            text: "\"\(Character(UnicodeScalar(letter)))\" is no date token",
            character: String(decoding: bytes[..<start], as: UTF8.self).count + 1)
        }
        tokens.append(.letter(letter, count: i - start))
        continue
      }
      var text: [UInt8] = []
      var quoted = false
      while i < bytes.count, quoted || !isLetter(bytes[i]) {
        if bytes[i] == UInt8(ascii: "'") {
          if i + 1 < bytes.count, bytes[i + 1] == UInt8(ascii: "'") {
            text.append(bytes[i])
            i += 1
          } else {
            quoted.toggle()
          }
        } else {
          text.append(bytes[i])
        }
        i += 1
      }
      tokens.append(.literal(text))
    }
    return tokens
  }

  /// As `split`, with the zone letters replaced by what they print for UTC.
  static func read(_ pattern: String) throws(TimePatternError) -> [JodaToken] {
    try split(pattern).map { token in
      guard case .letter(let letter, let count) = token else { return token }
      switch (letter, count) {
      case (UInt8(ascii: "Z"), 1): return .literal(Array("+0000".utf8))
      case (UInt8(ascii: "Z"), 2): return .literal(Array("+00:00".utf8))
      case (UInt8(ascii: "Z"), _): return .literal(Array("UTC".utf8))
      case (UInt8(ascii: "z"), 4...): return .literal(Array("Coordinated Universal Time".utf8))
      case (UInt8(ascii: "z"), _): return .literal(Array("UTC".utf8))
      default: return token
      }
    }
  }

  static func isLetter(_ byte: UInt8) -> Bool { (byte | 32) &- UInt8(ascii: "a") < 26 }
}
