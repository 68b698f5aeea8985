//  Checks a JSON body and cuts it into its objects, in one pass and without building anything.
//
//  A body may hold one object, several (by lines or glued together), or arrays of objects; each object is a record,
//  byte for byte as it came. The check is that of RFC 8259 to the letter, with strict UTF-8, so that what is accepted
//  here decodes everywhere behind; the first fault refuses the whole body, with its place.

internal import CScan
internal import Diagnostics
internal import Records

struct JSONFault: Error, Equatable {
  /// Bytes of the body before the fault.
  var offset: Int
  /// What stands there, as the end of the sentence "the body is no valid JSON: …".
  var reason: String
}

struct JSONCutter: ~Copyable {
  private let depthLimit: Int
  /// One bit a level: set for an object.
  private let levels: UnsafeMutablePointer<UInt64>

  init(depthLimit: Int) {
    self.depthLimit = max(1, depthLimit)
    levels = .allocate(capacity: max(1, depthLimit) / 64 + 1)
    levels.initialize(repeating: 0, count: max(1, depthLimit) / 64 + 1)
  }

  deinit { levels.deallocate() }

  /// Appends every object of `bytes` to `batch`. After a fault `batch` holds those in front of it.
  ///
  /// - Parameter eventLimit: Objects above this many bytes are a fault with the reason `tooLarge`.
  /// - Returns: How many values there are at the outermost level.
  @discardableResult
  func cut(_ bytes: UnsafeRawBufferPointer, eventLimit: Int, into batch: RecordBatch) throws(JSONFault) -> Int {
    guard let base = bytes.baseAddress else { return 0 }
    var values = 0
    let text = base.assumingMemoryBound(to: UInt8.self)
    let count = bytes.count
    if count >= 3, text[0] == 0xef, text[1] == 0xbb, text[2] == 0xbf {
      throw JSONFault(offset: 0, reason: "a byte order mark")
    }
    var i = skipBlanks(text, 0, count)
    while i < count {
      values += 1
      switch text[i] {
      case UInt8(ascii: "{"): i = try cutObject(text, i, count, eventLimit, batch)
      case UInt8(ascii: "["):
        i = skipBlanks(text, i &+ 1, count)
        if i < count, text[i] == UInt8(ascii: "]") {
          i &+= 1
          break
        }
        elements: while true {
          guard i < count else { throw ended(i) }
          guard text[i] == UInt8(ascii: "{") else {
            throw JSONFault(offset: i, reason: "an element that is no object; events must be objects")
          }
          i = skipBlanks(text, try cutObject(text, i, count, eventLimit, batch), count)
          guard i < count else { throw ended(i) }
          switch text[i] {
          case UInt8(ascii: ","): i = skipBlanks(text, i &+ 1, count)
          case UInt8(ascii: "]"):
            i &+= 1
            break elements
          default: throw unexpected(text, i, "',' or ']'")
          }
        }
      case UInt8(ascii: "\""), UInt8(ascii: "-"), 48...57, UInt8(ascii: "t"), UInt8(ascii: "f"), UInt8(ascii: "n"):
        throw JSONFault(offset: i, reason: "a value that is no object; events must be objects")
      default: throw unexpected(text, i, "an object or an array")
      }
      i = skipBlanks(text, i, count)
    }
    return values
  }

  static let badUTF8 = "bytes that are no UTF-8"
  static let tooLarge = "an event that is larger than the limit"

  private func cutObject(
    _ text: UnsafePointer<UInt8>, _ start: Int, _ count: Int, _ eventLimit: Int, _ batch: RecordBatch
  ) throws(JSONFault) -> Int {
    let end = try scanObject(text, start, count)
    guard end &- start <= eventLimit else { throw JSONFault(offset: start, reason: JSONCutter.tooLarge) }
    batch.append(UnsafeRawBufferPointer(start: text + start, count: end &- start))
    return end
  }

  /// Checks the object at `start`; returns where it ends.
  private func scanObject(_ text: UnsafePointer<UInt8>, _ start: Int, _ count: Int) throws(JSONFault) -> Int {
    var i = start
    var depth = 0
    var isKeyNext = false
    while true {
      // A value or, in an object, a key and then its value.
      if isKeyNext {
        guard i < count else { throw ended(i) }
        guard text[i] == UInt8(ascii: "\"") else { throw unexpected(text, i, "a key in quotes") }
        i = skipBlanks(text, try scanString(text, i, count), count)
        guard i < count else { throw ended(i) }
        guard text[i] == UInt8(ascii: ":") else { throw unexpected(text, i, "':'") }
        i = skipBlanks(text, i &+ 1, count)
        isKeyNext = false
      }
      guard i < count else { throw ended(i) }
      switch text[i] {
      case UInt8(ascii: "\""): i = try scanString(text, i, count)
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        let isObject = text[i] == UInt8(ascii: "{")
        guard depth < depthLimit else { throw JSONFault(offset: i, reason: "more than \(depthLimit) levels") }
        let bit: UInt64 = 1 << UInt64(depth & 63)
        if isObject { levels[depth >> 6] |= bit } else { levels[depth >> 6] &= ~bit }
        depth &+= 1
        i = skipBlanks(text, i &+ 1, count)
        guard i < count else { throw ended(i) }
        if text[i] != (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
          isKeyNext = isObject
          continue
        }
        i &+= 1
        depth &-= 1
      case UInt8(ascii: "-"), 48...57: i = try scanNumber(text, i, count)
      case UInt8(ascii: "t"): i = try scanWord("true", text, i, count)
      case UInt8(ascii: "f"): i = try scanWord("false", text, i, count)
      case UInt8(ascii: "n"): i = try scanWord("null", text, i, count)
      default: throw unexpected(text, i, "a value")
      }
      // Behind a value: close levels, or a comma and the next.
      while true {
        if depth == 0 { return i }
        i = skipBlanks(text, i, count)
        guard i < count else { throw ended(i) }
        let isObject = levels[(depth &- 1) >> 6] >> UInt64((depth &- 1) & 63) & 1 == 1
        if text[i] == UInt8(ascii: ",") {
          i = skipBlanks(text, i &+ 1, count)
          isKeyNext = isObject
          break
        }
        guard text[i] == (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else {
          throw unexpected(text, i, isObject ? "',' or '}'" : "',' or ']'")
        }
        i &+= 1
        depth &-= 1
      }
    }
  }

  @inline(__always)
  private func scanString(_ text: UnsafePointer<UInt8>, _ start: Int, _ count: Int) throws(JSONFault) -> Int {
    var i = start &+ 1
    while true {
      // Plain runs, 16 bytes at a time.
      while i &+ 16 <= count {
        let stops = scan_string_stops16(text + i) | scan_high16(text + i)
        if stops != 0 {
          i &+= stops.trailingZeroBitCount
          break
        }
        i &+= 16
      }
      while i < count, text[i] >= 32, text[i] < 128, text[i] != 34, text[i] != 92 { i &+= 1 }
      guard i < count else { throw ended(i) }
      let byte = text[i]
      if byte == 34 { return i &+ 1 }
      if byte == 92 {
        i = try scanEscape(text, i, count)
      } else if byte >= 0x80 {
        let length = utf8Length(UnsafeRawBufferPointer(start: text, count: count), at: i)
        guard length > 0 else { throw JSONFault(offset: i, reason: JSONCutter.badUTF8) }
        i &+= length
      } else {
        throw JSONFault(offset: i, reason: "a control character within a string")
      }
    }
  }

  private func scanEscape(_ text: UnsafePointer<UInt8>, _ start: Int, _ count: Int) throws(JSONFault) -> Int {
    guard start &+ 1 < count else { throw ended(count) }
    switch text[start &+ 1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
      UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      return start &+ 2
    case UInt8(ascii: "u"):
      for k in 2..<6 {
        guard start &+ k < count else { throw ended(count) }
        switch text[start &+ k] {
        case 48...57, 65...70, 97...102: continue
        default: throw JSONFault(offset: start, reason: "an escape without four hexadecimal digits")
        }
      }
      return start &+ 6
    default: throw JSONFault(offset: start, reason: "an unknown escape")
    }
  }

  private func scanNumber(_ text: UnsafePointer<UInt8>, _ start: Int, _ count: Int) throws(JSONFault) -> Int {
    var i = start
    func digits() throws(JSONFault) {
      guard i < count else { throw ended(i) }
      guard text[i] >= 48, text[i] <= 57 else { throw unexpected(text, i, "a digit") }
      while i < count, text[i] >= 48, text[i] <= 57 { i &+= 1 }
    }
    if text[i] == UInt8(ascii: "-") { i &+= 1 }
    if i < count, text[i] == 48 { i &+= 1 } else { try digits() }
    if i < count, text[i] == UInt8(ascii: ".") {
      i &+= 1
      try digits()
    }
    if i < count, text[i] | 32 == UInt8(ascii: "e") {
      i &+= 1
      if i < count, text[i] == UInt8(ascii: "+") || text[i] == UInt8(ascii: "-") { i &+= 1 }
      try digits()
    }
    return i
  }

  private func scanWord(
    _ word: StaticString, _ text: UnsafePointer<UInt8>, _ start: Int, _ count: Int
  ) throws(JSONFault) -> Int {
    let length = word.utf8CodeUnitCount
    for k in 0..<length {
      guard start &+ k < count else { throw ended(count) }
      guard text[start &+ k] == word.utf8Start[k] else { throw unexpected(text, start &+ k, "'\(word)'") }
    }
    return start &+ length
  }

  @inline(__always)
  private func skipBlanks(_ text: UnsafePointer<UInt8>, _ start: Int, _ count: Int) -> Int {
    var i = start
    while i < count, text[i] <= 32, text[i] == 32 || text[i] == 10 || text[i] == 13 || text[i] == 9 { i &+= 1 }
    return i
  }

  private func ended(_ i: Int) -> JSONFault { JSONFault(offset: i, reason: "it ends within a value") }

  private func unexpected(_ text: UnsafePointer<UInt8>, _ i: Int, _ wanted: String) -> JSONFault {
    let byte = text[i]
    let found = byte > 32 && byte < 127 ? "'\(Character(UnicodeScalar(byte)))'" : "byte \(byte)"
    return JSONFault(offset: i, reason: "\(found) where \(wanted) was expected")
  }
}
