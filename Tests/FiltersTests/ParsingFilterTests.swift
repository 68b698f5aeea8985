//  What the recorded cases of dissect, csv, translate and xml cannot say: bounds, files that change, and documents that
//  mean harm.

import Diagnostics
import Events
import Filters
import Glibc
import Pipeline
import TestSupport
import Testing

@Suite struct ParsingFilterTests {
  // MARK: dissect

  @Test func `appended pieces that stand apart are put together`() throws {
    let fields = try FilterHarness("dissect", #"{ mapping: { message: "%{+a} x %{+a}-%{b}-%{+a}" } }"#).result(
      #"{"message": "1 x 2-3-4"}"#)
    #expect(fields["a"]?.string == "1 x 2-4")
    #expect(fields["b"]?.string == "3")
  }

  @Test(arguments: [
    ("1e2000", "int"), ("1e999999999999", "int"), ("1e400", "float"), ("-", "int"), (".", "float"), ("1e", "int"),
    ("+-1", "int"),
  ])
  func `what is no number of a sensible size stays a text`(_ text: String, _ type: String) throws {
    let fields = try FilterHarness("dissect", "{ convert_datatype: { n: \(type) } }").result(#"{"n": "\#(text)"}"#)
    #expect(fields["n"]?.string == text)
    #expect(fields["tags"]?.json == #"["_dataconversionuncoercible_n_\#(type)"]"#)
  }

  @Test(arguments: [
    ("0e999999999", "int", "0"), ("-0.9", "int", "0"), ("12345678901234567890e2", "int", "1234567890123456789000"),
    ("+.5e1", "float", "5.0"), ("0012.50", "float", "12.5"),
  ])
  func `numbers of any form convert`(_ text: String, _ type: String, _ wanted: String) throws {
    let fields = try FilterHarness("dissect", "{ convert_datatype: { n: \(type) } }").result(#"{"n": "\#(text)"}"#)
    #expect(fields["n"]?.json == wanted)
  }

  // MARK: csv

  @Test func `a row of very many columns is malformed`() throws {
    let row = String(repeating: ",", count: 10_001)
    let fields = try FilterHarness("csv", "{}").result(#"{"message": "\#(row)"}"#)
    #expect(fields["tags"]?.json == #"["_csvparsefailure"]"#)
    #expect(fields["column1"] == nil)
  }

  @Test(arguments: [
    ("0_17", "15"), ("0d12", "12"), ("0x_1", nil), ("0b", nil), ("08", nil), ("1__0", nil), ("- 5", nil), ("5_", nil),
    ("-0x8000000000000000", "-9223372036854775808"), ("0xffffffffffffffff", "18446744073709551615"),
    ("0b1_1", "3"), ("+0o7", "7"), ("00", "0"), (" 42 ", "42"), ("-", nil), ("0x", nil),
    ("-123456789012345678901234567890", "-123456789012345678901234567890"),
  ])
  func `whole numbers are read as Ruby reads them`(_ text: String, _ wanted: String?) throws {
    let fields = try FilterHarness("csv", "{ columns: [v], convert: { v: integer } }").result(
      #"{"message": "\#(text)"}"#)
    #expect(fields["v"]?.json == wanted ?? "\"\(text)\"")
  }

  @Test(arguments: [
    ("1_0.5_0", "10.5"), (".5", "0.5"), ("0x.8", nil), ("1e", nil), ("1._5", nil), ("_1", nil), ("0x", nil),
    ("+", nil),
    ("1e1_0", "1.0E10"), ("-1.5e-2", "-0.015"),
  ])
  func `floating-point numbers are read as Ruby reads them`(_ text: String, _ wanted: String?) throws {
    let fields = try FilterHarness("csv", "{ columns: [v], convert: { v: float } }").result(#"{"message": "\#(text)"}"#)
    #expect(fields["v"]?.json == wanted ?? "\"\(text)\"")
  }

  @Test func `a header is taken from one event although two workers read`() throws {
    let harness = FilterHarness("csv", "{ autodetect_column_names: true }")
    let events = harness.run(
      try harness.add(#"{"message": "a,\"b\"\"\",,"}"#), try harness.add(#"{"message": "1,2,3,4"}"#))
    #expect(events.count == 1)
    #expect(events.first?.fields["a"]?.string == "1")
    #expect(events.first?.fields["b\""]?.string == "2")
    #expect(events.first?.fields["column3"]?.string == "3")
  }

  // MARK: translate

  private func write(_ path: String, _ text: String, seconds: Int) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    _ = Array(text.utf8).withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    close(descriptor)
    var stamp = [timespec(tv_sec: seconds, tv_nsec: 0), timespec(tv_sec: seconds, tv_nsec: 0)]
    utimensat(AT_FDCWD, path, &stamp, 0)
  }

  @Test(arguments: ["merge", "replace"])
  func `a changed dictionary is read again and a broken one is not`(_ behaviour: String) throws {
    let path = "/tmp/sluice-dictionary-\(getpid())-\(behaviour).csv"
    write(path, "a,1\nb,2\n", seconds: 100)
    defer { unlink(path) }
    let harness = FilterHarness(
      "translate",
      "{ source: v, target: o, dictionary_path: '\(path)', refresh_interval: 1, refresh_behaviour: \(behaviour) }")
    #expect(!harness.problems.hasErrors, "\(harness.problems.sorted)")
    func answer(_ text: String) throws -> String? {
      harness.run(try harness.add(#"{"v": "\#(text)"}"#)).first?.fields["o"]?.string
    }
    func wait(_ text: String, _ wanted: String) throws -> Bool {
      try waitUntil(seconds: 20) { try answer(text) == wanted }
    }
    #expect(try answer("a") == "1")
    write(path, "c,\"3\n", seconds: 200)
    write(path, "b,22\nc,3\n", seconds: 300)
    #expect(try wait("c", "3"))
    #expect(try answer("b") == "22")
    #expect(try answer("a") == (behaviour == "merge" ? "1" : nil))
    write(path, "d,\"4", seconds: 400)
    write(path + ".next", "e,5\n", seconds: 500)
    // The broken file is looked at before the next one is put in its place.
    #expect(try stays(for: .milliseconds(1500)) { try answer("c") == "3" })
    rename(path + ".next", path)
    #expect(try wait("e", "5"))
  }

  @Test(
    arguments: [
      ("d.yml", "- a\n- b\n"), ("d.yml", "a: [b\n"), ("d.json", "[1]"), ("d.csv", "a,\"b\n"), ("gone.csv", nil),
    ] as [(String, String?)])
  func `a dictionary that cannot be read is refused at start`(_ name: String, _ text: String?) {
    let path = "/tmp/sluice-broken-\(getpid())-\(name)"
    if let text { write(path, text, seconds: 1) }
    defer { unlink(path) }
    let problems = FilterHarness("translate", "{ source: v, dictionary_path: '\(path)' }").problems
    #expect(problems.sorted.contains { $0.text.contains("'dictionary_path'") })
  }

  @Test func `a large dictionary answers by whole texts`() throws {
    let path = "/tmp/sluice-large-\(getpid()).csv"
    write(path, (0..<50_000).map { "key\($0),value\($0)\n" }.joined(), seconds: 1)
    defer { unlink(path) }
    let harness = FilterHarness("translate", "{ source: v, target: o, dictionary_path: '\(path)' }")
    for i in stride(from: 0, to: 50_000, by: 997) {
      #expect(harness.run(try harness.add(#"{"v": "key\#(i)"}"#)).first?.fields["o"]?.string == "value\(i)")
    }
    #expect(harness.run(try harness.add(#"{"v": "key50000"}"#)).first?.fields["o"] == nil)
  }

  // MARK: xml

  private func xml(_ text: String, _ config: String) throws -> Value {
    let harness = FilterHarness("xml", config)
    #expect(!harness.problems.hasErrors, "\(harness.problems.sorted)")
    let event = harness.batch.add(arrivalNs: 0)
    try event.set(.message, event.makeText(text))
    return harness.run(event).first?.fields ?? event.makeMap()
  }

  @Test func `entities are neither expanded nor fetched`() throws {
    let bomb = """
      <!DOCTYPE o [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>\
      <o>&c;</o>
      """
    let file = #"<!DOCTYPE o [<!ENTITY f SYSTEM "file:///etc/hostname">]><o>&f;</o>"#
    for document in [bomb, file] {
      for config in ["{ target: doc }", "{ store_xml: false, xpath: { '/o/text()': t } }"] {
        let fields = try xml(document, "{ source: message, " + config.dropFirst(1))
        #expect(fields["doc"] == nil)
        #expect(fields["t"] == nil)
        #expect(fields["tags"]?.json == #"["_xmlparsefailure"]"#)
      }
    }
    // A document type alone does no harm, and nothing is fetched for it.
    let plain = try xml(
      #"<!DOCTYPE o SYSTEM "http://127.0.0.1:1/none.dtd"><o><i>A</i></o>"#, "{ source: message, target: doc }")
    #expect(plain["doc"]?.json == #"{"i":["A"]}"#)
  }

  @Test func `nesting and size are bounded`() throws {
    let deep = String(repeating: "<a>", count: 5000) + String(repeating: "</a>", count: 5000)
    #expect(try xml(deep, "{ source: message, target: doc }")["tags"]?.json == #"["_xmlparsefailure"]"#)
    let long = "<o>" + String(repeating: "x", count: 10_000_001) + "</o>"
    #expect(try xml(long, "{ source: message, target: doc }")["tags"]?.json == #"["_xmlparsefailure"]"#)
  }

  @Test(arguments: [
    ("<o/>x", true), ("x<o/>", true), ("<o/><p/>", true), ("<o a='1' a='2'/>", true), ("<o>&nope;</o>", true),
    ("  <o>t</o>\n", false), ("<?xml version='1.0' encoding='latin1'?><o>ü</o>", false),
  ])
  func `only a whole document converts`(_ text: String, _ isBroken: Bool) throws {
    let fields = try xml(text, "{ source: message, target: doc }")
    #expect(fields["tags"]?.json == (isBroken ? #"["_xmlparsefailure"]"# : nil))
    #expect((fields["doc"] == nil) == isBroken)
    if text.contains("ü") { #expect(fields["doc"]?.string == "ü") }
  }

  @Test func `expressions give elements, values and what functions return`() throws {
    let config = """
      { source: message, store_xml: false, force_array: false, namespaces: { q: 'urn:x' }, xpath: { '//q:i': whole, \
      '//q:i/@n': attribute, 'string(//q:j)': text, 'count(//q:*)': number, '//none': nothing, 'false()': no } }
      """
    let fields = try xml(#"<p:o xmlns:p="urn:x"><p:i n="1">A&lt;</p:i><p:j>B&lt;</p:j></p:o>"#, config)
    #expect(fields["whole"]?.string == #"<p:i n="1">A&lt;</p:i>"#)
    #expect(fields["attribute"]?.string == "1")
    #expect(fields["text"]?.string == "B<")
    #expect(fields["number"]?.string == "3.0")
    #expect(fields["nothing"] == nil && fields["no"] == nil && fields["tags"] == nil)
  }

  @Test func `an expression that cannot be read, or runs too long, tags the event`() throws {
    let broken = try xml("<o/>", "{ source: message, store_xml: false, xpath: { '//[': a } }")
    #expect(broken["tags"]?.json == #"["_xmlparsefailure"]"#)
    let wide = "<o>" + String(repeating: "<i/>", count: 2000) + "</o>"
    let start = Instant.now
    let slow = try xml(
      wide,
      "{ source: message, store_xml: false, xpath: { 'count(//i[count(//i[count(//i[count(//i) > 1]) > 1]) > 1])': n } }"
    )
    #expect(slow["tags"]?.json == #"["_xmlparsefailure"]"#)
    #expect((Instant.now - start).ns < 20_000_000_000)
  }

  @Test func `broken documents are still looked through unless strictness is asked for`() throws {
    let lenient = try xml("<o><i>A</i><j>", "{ source: message, store_xml: false, xpath: { '//i/text()': i } }")
    #expect(lenient["i"]?.json == #"["A"]"#)
    let strict = try xml(
      "<o><i>A</i><j>", "{ source: message, store_xml: false, parse_options: strict, xpath: { '//i/text()': i } }")
    #expect(strict["i"] == nil)
    #expect(strict["tags"]?.json == #"["_xmlparsefailure"]"#)
  }

  @Test func `random bytes do no harm`() throws {
    var random = SeededRandom(7)
    let pieces = [
      "<", ">", "</", "/>", "o", "=", "\"", "'", "&", ";", "<!--", "-->", "<![CDATA[", "]]>", "<?", "?>", "x", " ",
      "<!DOCTYPE o [",
    ]
    let harness = FilterHarness("xml", "{ source: message, target: doc, xpath: { '//o': o } }")
    for _ in 0..<2000 {
      var text = ""
      for _ in 0..<random.below(16) { text += pieces[random.below(pieces.count)] }
      let event = harness.batch.add(arrivalNs: 0)
      try event.set(.message, event.makeText(text))
      _ = harness.run(event)
    }
  }
}
