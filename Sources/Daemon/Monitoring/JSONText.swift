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
