//  JSON made piece by piece, for answers of the monitoring API: names, values and commas in the right places.

internal import Diagnostics
internal import Events

/// One JSON object that grows. Members come in the order in which they are written.
struct JSONText: ~Copyable {
  private var out = ByteBuffer(capacity: 4096)
  private var needsComma = false

  /// The text of one object with the members that `body` writes.
  static func object(_ body: (inout JSONText) -> Void) -> [UInt8] {
    var text = JSONText()
    text.enclosed(123, 125, body)
    return text.out.array()
  }

  mutating func member(_ name: String, _ value: Int) {
    self.name(name)
    out.append(decimal: value)
  }
  mutating func member(_ name: String, _ value: Bool) {
    self.name(name)
    out.append(text: value ? "true" : "false")
  }
  mutating func member(_ name: String, _ value: String) {
    self.name(name)
    out.append(quoted: value)
  }
  mutating func null(_ name: String) {
    self.name(name)
    out.append(text: "null")
  }
  /// A number as JSON writes it.
  mutating func member(_ name: String, number: String) {
    self.name(name)
    out.append(text: number)
  }
  /// Members that are JSON already: `"a":1,"b":{}`.
  mutating func members(ready: String) {
    guard !ready.isEmpty else { return }
    separate()
    out.append(text: ready)
  }
  mutating func object(_ name: String, _ body: (inout JSONText) -> Void) {
    self.name(name)
    enclosed(123, 125, body)
  }
  /// A list of texts.
  mutating func list(_ name: String, texts: [String]) {
    self.name(name)
    enclosed(91, 93) { list in
      for text in texts {
        list.separate()
        list.out.append(quoted: text)
      }
    }
  }
  mutating func null(_ name: String, or value: String?) {
    if let value { member(name, value) } else { null(name) }
  }
  /// A list of objects.
  mutating func list<Elements: Sequence>(
    _ name: String, _ elements: Elements, _ body: (inout JSONText, Elements.Element) -> Void
  ) {
    self.name(name)
    enclosed(91, 93) { list in
      for element in elements {
        list.separate()
        list.enclosed(123, 125) { body(&$0, element) }
      }
    }
  }

  private mutating func name(_ name: String) {
    separate()
    out.append(quoted: name)
    out.append(58)
  }

  private mutating func separate() {
    if needsComma { out.append(44) }
    needsComma = true
  }

  private mutating func enclosed(_ open: UInt8, _ close: UInt8, _ body: (inout JSONText) -> Void) {
    out.append(open)
    needsComma = false
    body(&self)
    out.append(close)
    needsComma = true
  }
}

/// The same JSON over several lines, members indented by two.
func indented(_ json: [UInt8]) -> [UInt8] {
  var out: [UInt8] = []
  out.reserveCapacity(json.count * 2)
  var depth = 0
  var isText = false
  var isEscaped = false
  func line(_ out: inout [UInt8]) {
    out.append(10)
    out += repeatElement(32, count: depth * 2)
  }
  for (i, byte) in json.enumerated() {
    if isText {
      out.append(byte)
      if isEscaped { isEscaped = false } else if byte == 92 { isEscaped = true } else if byte == 34 { isText = false }
      continue
    }
    switch byte {
    case 34:
      isText = true
      out.append(byte)
    case 123, 91:
      out.append(byte)
      if i + 1 < json.count, json[i + 1] == byte + 2 { continue }
      depth += 1
      line(&out)
    case 125, 93:
      if i > 0, json[i - 1] == byte - 2 {
        out.append(byte)
        continue
      }
      depth -= 1
      line(&out)
      out.append(byte)
    case 44:
      out.append(byte)
      line(&out)
    case 58: out += [58, 32]
    default: out.append(byte)
    }
  }
  out.append(10)
  return out
}
