//  What keeps filters within bounds, and what happens where a success action cannot be carried out.

import Diagnostics
import Events
import Filters
import Glibc
import Pipeline
import TestSupport
import Testing

@Suite struct FilterBoundsTests {
  @Test func `a decoration that fails tags the event and leaves out the rest`() throws {
    let fields = try FilterHarness("json", #"{ source: m, add_field: { "[a][b]": x }, add_tag: [t] }"#)
      .result(#"{"m": "{}", "a": "text"}"#)
    #expect(fields["tags"]?.json == #"["_decoratefailure"]"#)
    #expect(fields["a"]?.string == "text")
  }

  @Test func `a text of very many pieces is not split`() throws {
    let harness = FilterHarness("split", "{ terminator: ',' }")
    let event = try harness.add(#"{"message": "\#(String(repeating: "a,", count: 100_001))"}"#)
    let results = harness.run(event)
    #expect(results.count == 1)
    #expect(results.first?.fields["tags"]?.json == #"["_split_type_failure"]"#)
  }

  @Test func `a text of backslashes alone is walked in little time`() throws {
    let harness = FilterHarness("kv", "{}")
    let start = Instant.now
    let fields = try harness.result(#"{"message": "a=\"\#(String(repeating: "\\\\", count: 200_000))x b=1"}"#)
    #expect(fields["b"]?.string == "1")
    _ = try harness.result(#"{"message": "\#(String(repeating: "\\\\", count: 400_000))"}"#)
    #expect((Instant.now - start).ns < 5_000_000_000)
  }

  @Test(arguments: [
    (#"k=\"C:\\\\\" b=1"#, #"{"k":"C:\\\\","b":"1"}"#),
    (#"k=\"a\\\" b=1"#, #"{"k":"a\\","b":"1"}"#),
    (#"k=\"a\\\" b\" c=1"#, #"{"k":"a\\\" b","c":"1"}"#),
    (#"k=\"a\"b c=1"#, #"{"k":"\"a\"b","c":"1"}"#),
    (#"a\\=b"#, #"{"a\\":"b"}"#),
    (#"a=1=2 =3 b=4"#, #"{"a":"1=2","b":"4"}"#),
    ("", "{}"), ("=", "{}"), ("a=", "{}"), (" a", "{}"),
  ])
  func `pairs are read as the expression of old would read them`(_ message: String, _ pairs: String) throws {
    let fields = try FilterHarness("kv", "{ target: kv }").result(#"{"message": "\#(message)"}"#)
    #expect(fields["kv"]?.json ?? "{}" == pairs)
  }

  @Test func `a changed file of networks is read again`() throws {
    let path = "/tmp/sluice-cidr-\(getpid())"
    func write(_ text: String) {
      let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
      _ = Array(text.utf8).withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      close(descriptor)
    }
    write("10.0.0.0/8\n")
    defer { unlink(path) }
    let harness = FilterHarness(
      "cidr", #"{ address: ["%{ip}"], network_path: "\#(path)", refresh_interval: 1, add_tag: [in] }"#)
    #expect(!harness.problems.hasErrors)
    #expect(harness.run(try harness.add(#"{"ip": "192.0.2.1"}"#)).first?.fields["tags"] == nil)
    write("192.0.2.0/24\n")
    var stamp = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)]
    utimensat(AT_FDCWD, path, &stamp, 0)
    #expect(
      try waitUntil { harness.run(try harness.add(#"{"ip": "192.0.2.1"}"#)).first?.fields["tags"] != nil })
  }
}
