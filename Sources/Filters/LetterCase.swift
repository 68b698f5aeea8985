//  Upper case, lower case and capitals of any script. Nearly every text in a log is ASCII and takes the short way.

internal import Config
internal import Diagnostics
internal import Events

/// What happens to the letters of a text.
enum LetterCase: String, OptionEnum {
  case uppercase, lowercase
  /// The first letter large, all others small.
  case capitalize
}

extension Event {
  /// The text of `value` in another case; nil where it would not change.
  func changing(caseOf value: Value, to letterCase: LetterCase) -> ValueBits? {
    guard let text = value.text, let source = text.baseAddress?.assumingMemoryBound(to: UInt8.self), text.count > 0
    else { return nil }
    let count = text.count
    var high: UInt8 = 0
    var changes = false
    for i in 0..<count {
      let byte = source[i]
      high |= byte
      let upper = letterCase == .uppercase || letterCase == .capitalize && i == 0
      if upper ? byte &- 97 < 26 : byte &- 65 < 26 { changes = true }
    }
    if high >= 0x80 { return changingUnicode(text, letterCase) }
    guard changes else { return nil }
    let out = allocate(count)
    if letterCase == .uppercase {
      for i in 0..<count { out[i] = source[i] &- (source[i] &- 97 < 26 ? 32 : 0) }
    } else {
      for i in 0..<count { out[i] = source[i] &+ (source[i] &- 65 < 26 ? 32 : 0) }
      if letterCase == .capitalize { out[0] = out[0] &- (out[0] &- 97 < 26 ? 32 : 0) }
    }
    // Letters for letters: what needed no escape before needs none now.
    return .text(staying: UnsafeRawBufferPointer(start: out, count: count), isClean: value.isClean)
  }

  private func changingUnicode(_ text: UnsafeRawBufferPointer, _ letterCase: LetterCase) -> ValueBits {
    makeText { out in
      var isFirst = true
      for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
        let properties = scalar.properties
        switch letterCase {
        case .uppercase: out.append(text: properties.uppercaseMapping)
        case .lowercase: out.append(text: properties.lowercaseMapping)
        case .capitalize: out.append(text: isFirst ? properties.titlecaseMapping : properties.lowercaseMapping)
        }
        isFirst = false
      }
    }
  }
}
