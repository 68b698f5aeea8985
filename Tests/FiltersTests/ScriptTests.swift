//  The language of aggregate's scripts: what it gives, what it refuses, and that nothing in it runs away.

import Diagnostics
import Events
import TestSupport
import Testing

@testable import Filters

@Suite struct ScriptTests {
  private final class Keeper: @unchecked Sendable {  // unchecked: `kept` is touched under the lock alone
    private let lock = Lock(())
    private var kept: [Script] = []
    func keep(_ script: Script) { lock.withLock { _ in kept.append(script) } }
  }
  private static let keeper = Keeper()

  /// The value of the last expression, as Ruby inspects it, or the reason of the failure.
  private func result(_ source: String, event json: String = "{}") throws -> String {
    let script = try Script("map['result'] = (\n\(source)\n)")
    ScriptTests.keeper.keep(script)
    let batch = EventBatch()
    let event = try Array(json.utf8).withUnsafeBytes { try batch.add(json: $0, arrivalNs: 0) }
    let runner = ScriptRunner()
    if let reason = runner.run(script, try #require(event), emit: { _ in }) { return "failure: " + reason }
    let value = ScriptValue.list(ScriptList([runner.task.map[Array("result".utf8)] ?? .null]))
    let text = String(decoding: value.textBytes, as: UTF8.self)
    return String(text.dropFirst().dropLast())
  }

  @Test(arguments: [
    ("1 + 2 * 3", "7"), ("(1 + 2) * 3", "9"), ("7 / 2", "3"), ("-7 / 2", "-4"), ("-7 % 3", "2"), ("7.0 / 2", "3.5"),
    ("2 ** 10", "1024"), ("2 ** -1", "0.5"), ("10 - 2 - 3", "5"), ("1_000", "1000"), ("1.5e3", "1500.0"),
    ("9223372036854775807 + 1", "9.223372036854776e+18"), ("-9223372036854775807 - 1", "-9223372036854775808"),
    ("'a' + \"b\\n\"", #""ab\n""#), ("\"x#{1 + 1}y#{'z'}\"", #""x2yz""#), ("'a#{1}'", ##""a\#{1}""##),
    ("'ab' * 2", #""abab""#),
    ("nil || 5", "5"), ("false && 5", "false"), ("not nil", "true"), ("!5", "false"), ("nil.nil?", "true"),
    ("1 == 1.0", "true"), ("'1' == 1", "false"), ("'a' < 'b'", "true"), ("1 <=> 2", "-1"), ("1 <=> 'a'", "nil"),
    ("true ? 'y' : 'n'", #""y""#), ("nil ? 1 : 2 + 3", "5"), ("[1, 'a', nil, 2.5]", #"[1, "a", nil, 2.5]"#),
    ("{'a' => 1, b: 2, 'c': 3}", #"{"a"=>1, "b"=>2, "c"=>3}"#), ("{a: 1}[:a]", "1"), ("[1,2,3][-1]", "3"),
    ("[1,2,3][7]", "nil"), ("[3,1,2].sort", "[1, 2, 3]"), ("[1,2,2].uniq.size", "2"), ("[1,2.5].sum", "3.5"),
    ("[[1,[2]],3].flatten", "[1, 2, 3]"), ("[1,nil].compact", "[1]"), ("[1,2,3].first(2)", "[1, 2]"),
    ("['a','b'].join('-')", #""a-b""#), ("'a,b,,'.split(',')", #"["a", "b"]"#), ("' a  b '.split", #"["a", "b"]"#),
    ("'Abc'.upcase + 'X'.downcase", #""ABCx""#), ("'naïve'.length", "5"), ("'  x '.strip", #""x""#),
    ("'abc'.include?('bc')", "true"), ("'abc'.start_with?('b')", "false"), ("'abc'.end_with?('bc')", "true"),
    ("'a.b.c'.gsub('.', '-')", #""a-b-c""#), ("'a.b.c'.sub('.', '')", #""ab.c""#), ("'12abc'.to_i", "12"),
    ("'-3.5e2x'.to_f", "-350.0"), ("nil.to_i", "0"), ("2.7.to_i", "2"), ("2.5.round", "3"), ("2.345.round(2)", "2.35"),
    ("-2.5.abs", "2.5"), ("5.to_s + ''", #""5""#), ("1.0.to_s", #""1.0""#), ("nil&.length", "nil"),
    ("{'a' => {'b' => 2}}.dig('a', 'b')", "2"), ("{'a' => nil}.dig('a', 'b')", "nil"),
    ("{'a' => 1}.fetch('b', 9)", "9"), ("{'a' => 1}.merge({'b' => 2}).keys", #"["a", "b"]"#),
    ("{'a' => 1}.key?('a')", "true"), ("[1,2,3].map { |x| x * 2 }", "[2, 4, 6]"),
    ("[1,2,3].select { |x| x > 1 }.reject { |x| x > 2 }", "[2]"), ("[1,2,3].find { |x| x > 1 }", "2"),
    ("{'a' => 1, 'b' => 2}.select { |k, v| v > 1 }", #"{"b"=>2}"#), ("[1,2].any? { |x| x > 1 }", "true"),
    ("[1,2].all? { |x| x > 1 }", "false"), ("[1,2,3].count { |x| x > 1 }", "2"), ("[1,2].sum { |x| x * 10 }", "30"),
    ("s = 0; [1,2,3].each do |x|\n s += x\n end; s", "6"), ("[5].each_with_index { |x, i| x + i }", "[5]"),
    ("x = 1; [9].each { |x| x }; x", "1"),
    ("x = 5\nif x > 3\n 'big'\nelsif x > 1\n 'mid'\nelse\n 'small'\nend", #""big""#),
    ("x = 0 unless true; x", "nil"), ("x = 1 if true; x", "1"), ("x = nil; x ||= 4; x += 1; x", "5"),
    ("a = [1]; b = a; b << 2; a", "[1, 2]"), ("a = [1]; b = a.dup; b << 2; a", "[1]"),
    ("m = {}; m['x'] ||= []; m['x'] << 1 << 2; m", #"{"x"=>[1, 2]}"#), ("a = []; a[2] = 1; a", "[nil, nil, 1]"),
    ("x = 1 # a remark\nx", "1"), ("[\n 1,\n 2\n]", "[1, 2]"), ("'a'\n  .upcase\n  .downcase", #""a""#),
    ("5.is_a?(Integer) and not 5.is_a?(String)", "true"), ("[3,1].max - [3,1].min", "2"),
    ("{'k' => 1}.to_a", #"[["k", 1]]"#),
    ("[1,2] + [3]", "[1, 2, 3]"), ("[1,2,2] - [2]", "[1]"), ("m = {'a' => 1}; m.delete('a'); m", "{}"),
  ])
  func `an expression gives what Ruby gives`(_ source: String, _ expected: String) throws {
    #expect(try result(source) == expected)
  }

  @Test(arguments: [
    ("event.get('n') + 1", "6"), ("event.get('[a][b]')", #""deep""#), ("event.get('none')", "nil"),
    ("event.include?('n')", "true"), ("event.set('x', [1, {'y' => 2}]); event.get('[x][1][y]')", "2"),
    ("event.remove('n'); event.get('n')", "nil"), ("event.sprintf('n=%{n}')", #""n=5""#),
    ("event.get('@timestamp') - event.timestamp", "0.0"), ("(event.timestamp + 1.5) - event.timestamp", "1.5"),
    ("event.timestamp.to_i", "1741504364"), ("event.timestamp.to_f", "1741504364.25"), ("event.to_hash['n']", "5"),
    ("f = 'n'; event.get(f)", "5"), ("event.get('l').map { |x| x['v'] }.sum", "3"),
    ("event.get('big')", "1.2345678901234568e+22"),
    ("event.tag('t'); event.tag('t'); event.get('tags')", #"["t"]"#),
    ("event.get('@timestamp').to_s", #""2025-03-09T07:12:44.250Z""#),
  ])
  func `an event is read and written`(_ source: String, _ expected: String) throws {
    let json = """
      {"@timestamp":"2025-03-09T07:12:44.250Z","n":5,"a":{"b":"deep"},"l":[{"v":1},{"v":2}],"big":12345678901234567890123}
      """
    #expect(try result(source, event: json) == expected)
  }

  @Test(arguments: [
    ("1 / 0", "division by zero"), ("nil + 1", "'+' does not go with nil and a number"), ("1 < 'a'", "cannot compare"),
    ("nil.length", "nil has no method 'length'"), ("raise 'no'", "raised 'no'"), ("5['a']", "a number has no elements"),
    ("event.set('[n][x]', 1)", "cannot be written"), ("event.set('@timestamp', 5)", "cannot be written"),
    ("a = [1]; a << a; event.set('x', a)", "nested more than 64 deep"), ("{'a' => 1}.fetch('b')", "finds nothing"),
    ("s = 'x' * 1000000; s + s", "1 MiB"), ("'x' * 9000000000000000000", "1 MiB"), ("'x' * -1", "1 MiB"),
    ("l = (1..2)", ""), ("a = []; a[100000000] = 1", "no element"), ("1e300.to_i", "too large"),
    ("x = [1] * 2", "does not go with"),
    (
      "l = [1,2,3,4,5,6,7,8,9,10]; l.each { |a| l.each { |b| l.each { |c| l.each { |d| l.each { |e| l.each { |f| f } } } } } }",
      "200,000 steps"
    ),
    (
      "l = [0]; l.concat(l).concat(l); 20.abs; [1,2,3,4,5,6,7,8,9].each { |x| l.concat(l) ; l.concat(l) }; l.size",
      "100,000 elements"
    ),
  ])
  func `a failure says why`(_ source: String, _ expected: String) throws {
    if expected.isEmpty {
      #expect(throws: ScriptSyntaxError.self) { try Script(source) }
    } else {
      let reason = try result(source, event: #"{"n": 5}"#)
      #expect(reason.hasPrefix("failure: ") && reason.contains(expected), "\(reason)")
    }
  }

  @Test(arguments: [
    ("map['a'", "']' is missing", 7), ("1 +", "a value is missing", 3), ("foo", "'foo' is not known", 0),
    ("maps['a']", "did you mean 'map'?", 0), ("event.gett('a')", "did you mean 'get'?", 6),
    ("event.get()", "does not take 0 arguments", 6), ("[1].lenght", "did you mean 'length'?", 4),
    ("if true; 1", "ends too early", 10), ("while true; end", "has no place", 0),
    ("File.read('x')", "'File' is not known", 0),
    ("`ls`", "not known", 0), ("'abc", "never ends", 0), ("\"#{1\"", "has no '}'", 1),
    ("map = 5", "cannot be assigned", 0),
    ("5 = 6", "cannot be assigned", 0), ("x += 1", "has no value yet", 0), ("1 2", "more follows", 2),
    ("event", "used by its methods", 5), ("event.get('[a')", "no field reference", 6), ("[1].each", "needs a block", 4),
    ("[1].size { 1 }", "takes no block", 4), ("map_meta.foo = 1", "'timeout' and 'inactivity_timeout'", 9),
    ("LogStash::Event.foo", "is not known", 0), ("\"a#{foo}\"", "'foo' is not known", 4),
  ])
  func `a mistake is found at start, at its place`(_ source: String, _ text: String, _ offset: Int) throws {
    let error = try #require(throws: ScriptSyntaxError.self) { try Script(source) }
    #expect(error.text.contains(text), "\(error.text)")
    #expect(error.offset == offset)
  }

  @Test func `deep and long scripts are refused`() {
    for source in [
      String(repeating: "(", count: 5000), String(repeating: "[", count: 500) + String(repeating: "]", count: 500),
      String(repeating: "!", count: 1000) + "1", String(repeating: "-", count: 3000) + "1",
      Array(repeating: "1", count: 5000).joined(separator: "+"), String(repeating: "if 1; ", count: 300),
      String(repeating: "\"#{", count: 200), String(repeating: "{1=>", count: 500),
      String(repeating: "1 ? 1 : ", count: 1000),
    ] { #expect(throws: ScriptSyntaxError.self) { try Script(source) } }
  }

  @Test func `words in any order never trap`() throws {
    let words = [
      "map", "event", ".get('a')", ".set('b', 1)", "['k']", "=", "+=", "||=", "<<", "+", "-", "*", "/", "%", "**", "(",
      ")",
      "[", "]", "{", "}", "|x|", ",", "=>", ":", "?", "if", "unless", "else", "end", "do", "1", "2.5", "'t'",
      "\"#{1}\"",
      ".each", ".map", ".size", ".to_i", ".split", ".sort", ".first(1)", "x", "nil", "true", "\n", ";", "!", "&&", "||",
      "raise",
      "return", ".round(3)", ".sum", ".join", ".merge({'a' => 1})", "9223372036854775807", "-", "map_meta.timeout",
      "Time.now",
    ]
    var random = SeededRandom(11)
    var ran = 0
    let batch = EventBatch()
    for _ in 0..<8000 {
      let source = (0..<Int.random(in: 1...9, using: &random)).map { _ in words.randomElement(using: &random) ?? "" }
        .joined(separator: " ")
      guard let script = try? Script(source) else { continue }
      ran += 1
      ScriptTests.keeper.keep(script)
      batch.removeAll()
      let event = batch.add(arrivalNs: 0)
      _ = ScriptRunner().run(script, event) { try $0.fill(event.spawn()) }
      batch.takeSpawned { _, _ in }
    }
    #expect(ran > 100)
  }
}
