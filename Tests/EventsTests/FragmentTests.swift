//  Maps that are still JSON source: what is seen in them and what they are joined with is the same as after the parse.

import Diagnostics
import Events
import Testing

@Suite struct FragmentTests {
  // Keys of references stand in the events, so they must outlive them.
  private static let map = FieldReference.known("m")
  private static let a = FieldReference.known("[m][a]")
  private static let b = FieldReference.known("[m][b]")

  private func json(_ event: Event) -> String {
    var out = ByteBuffer()
    event.appendJSON(to: &out)
    return out.string()
  }

  private func fragment(_ text: String, in event: Event) -> ValueBits {
    Array(text.utf8).withUnsafeBytes { event.makeFragment(staying: event.copy($0), kind: .map) }
  }

  @Test(arguments: [
    #"{"a":"x"}"#, #"{"b":1,"a":"x"}"#, #"{"b":{"a":"no","c":[1,{"a":"}"}]},"a":"x"}"#,
    #"{"b":"a","c":"\"a\":","a":"x"}"#,
    #"{"a":1}"#, #"{"a":{"a":"x"}}"#, #"{"a":"x\ny"}"#, #"{"ab":"x"}"#, #"{"b":true,"c":null,"d":-1.5e3,"a":""}"#, "{}",
    #"{ "a" : "x" }"#, #"{"b" : 2, "a":"x"}"#, #"{"b":[],"a":"0123456789abcdefghijklmnopqrstuvwxyz"}"#,
  ])
  func `a look into a fragment sees what the parse sees`(_ text: String) throws {
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    let event = batch.add(arrivalNs: 0)
    try event.set(Self.map, fragment(text, in: event))
    let before = json(event)
    let seen = event.peek(Self.a).map { ($0.kind, $0.string, $0.number) }
    let wanted = event.value(Self.a).map { ($0.kind, $0.string, $0.number) }
    #expect(seen?.0 == wanted?.0 && seen?.1 == wanted?.1 && seen?.2 == wanted?.2, "\(text)")
    #expect(before.contains(text))
  }

  @Test func `a text in a fragment is seen without parsing it`() throws {
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    let event = batch.add(arrivalNs: 0)
    // Written as it came, blanks included, as long as nobody made nodes of it.
    try event.set(Self.map, fragment(#"{"a":"x", "b":2}"#, in: event))
    #expect(event.peek(Self.a)?.string == "x")
    #expect(json(event).contains(#"{"a":"x", "b":2}"#))
    #expect(event.peek(Self.b)?.integer == 2)
    #expect(json(event).contains(#"{"a":"x","b":2}"#))
  }

  @Test(arguments: [
    (#"{"original":"curl"}"#, #"{"name":"curl","version":"8"}"#, true),
    (#"{"a":1,"b":{"c":[]},"d":null}"#, #"{"x":"y"}"#, true),
    (#"{"name":"old"}"#, #"{"name":"new"}"#, false), (#"{"name":"old"}"#, #"{"x":"name"}"#, false),
    ("{}", #"{"x":1}"#, false),
    (#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#, #"{"x":1}"#, false), (#"{"ä":1}"#, #"{"x":1}"#, false),
    (#"{"q":1}"#, "{}", false),
  ])
  func `a small map and a fragment become one text where no names can meet`(
    _ map: String, _ added: String, _ joins: Bool
  )
    throws
  {
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    let event = batch.add(arrivalNs: 0)
    try event.set(Self.map, try Array(map.utf8).withUnsafeBytes { try event.parseJSON($0) }.bits)
    let present = try #require(event.value(Self.map))
    #expect(Array(added.utf8).withUnsafeBytes { present.join($0) } == joins)
    var out = ByteBuffer()
    present.appendJSON(to: &out)
    #expect(out.string() == (joins ? "\(map.dropLast()),\(added.dropFirst())" : map))
  }
}
