//  Addresses and networks: what is accepted, how it is written, and what a set of networks holds.

import Diagnostics
import Glibc
import Testing

@testable import Filters

private func written(_ address: IPAddress) -> String {
  var out = ByteBuffer()
  address.append(to: &out)
  return out.string()
}

private func withBytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
  Array(text.utf8).withUnsafeBytes(body)
}

@Suite struct GeoIPAddressTests {
  @Test(arguments: [
    ("81.2.69.142", "81.2.69.142"), ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"),
    ("::", "0:0:0:0:0:0:0:0"), ("::1", "0:0:0:0:0:0:0:1"), ("1::", "1:0:0:0:0:0:0:0"),
    ("2607:F0D0:1002:51::4", "2607:f0d0:1002:51:0:0:0:4"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
    ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
    ("::ffff:1.2.3.4", "0:0:0:0:0:ffff:102:304"), ("64:ff9b::192.0.2.33", "64:ff9b:0:0:0:0:c000:221"),
    ("fe80::0001:00ff", "fe80:0:0:0:0:0:1:ff"),
  ])
  func `reads an address and writes it in full`(text: String, expected: String) throws {
    #expect(written(try #require(withBytes(text) { IPAddress($0) })) == expected)
  }

  @Test(arguments: [
    "", ".", "1", "1.2.3", "1.2.3.", "1.2.3.4.", ".1.2.3", "1..2.3", "256.1.1.1", "1.2.3.1000", "01.2.3.4", " 1.2.3.4",
    "1.2.3.4 ", "1.2.3.4/8", "1.2.3.4:80", ":", ":1", "1:", "1:::2", "::1::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "12345::", "g::1", "::1.2.3", "1.2.3.4::", "::1.2.3.4:5", "fe80::1%eth0",
    "[::1]", "1:2:3:4:5:6:7:1.2.3.4",
  ])
  func `refuses what is no address`(text: String) {
    #expect(withBytes(text) { IPAddress($0) } == nil)
  }

  @Test func `agrees with the system's reader on many texts near to addresses`() {
    // The alphabet makes valid texts likely; every answer is compared with inet_pton's.
    let alphabet = Array("0123456789abf::::....1".utf8)
    var random = SystemRandomNumberGenerator()
    var accepted = 0
    for _ in 0..<100_000 {
      let length = Int.random(in: 1...18, using: &random)
      let text = (0..<length).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &random)] }
      var v4 = in_addr()
      var v6 = in6_addr()
      let terminated = text.map { CChar(bitPattern: $0) } + [0]
      let isV4 = inet_pton(AF_INET, terminated, &v4) == 1
      let isV6 = inet_pton(AF_INET6, terminated, &v6) == 1
      let ours = text.withUnsafeBytes { IPAddress($0) }
      #expect((ours != nil) == (isV4 || isV6), "\(String(decoding: text, as: UTF8.self))")
      guard let ours else { continue }
      accepted += 1
      if isV4 { #expect(UInt32(truncatingIfNeeded: ours.value).bigEndian == v4.s_addr) }
      if isV6 {
        withUnsafeBytes(of: &v6) { #expect(UInt128(bigEndian: $0.loadUnaligned(as: UInt128.self)) == ours.value) }
      }
    }
    #expect(accepted > 50)
  }

  @Test(arguments: [
    ("081.002.069.142", "81.2.69.142"), ("1359103374", "81.2.69.142"), ("[2001:218::1]", "2001:218:0:0:0:0:0:1"),
    ("2001:218::1%eth0", "2001:218:0:0:0:0:0:1"), ("::ffff:81.2.69.142", "81.2.69.142"),
  ])
  func `geoip takes looser forms`(text: String, expected: String) throws {
    let lenient = try #require(withBytes(text) { LenientAddress($0) })
    #expect(written(lenient.address) == expected)
  }

  @Test(arguments: [
    "0x51024501", "81.2.69", "4294967296", "[1.2.3.4", "::1%", "::1%a b", "not an address", "-", "[", "[]", "%", " ",
  ])
  func `geoip refuses the rest`(text: String) {
    #expect(withBytes(text) { LenientAddress($0) } == nil)
  }

  @Test func `a set of networks holds its members, first and last included, and nothing else`() throws {
    let set = NetworkSet(
      try [
        "10.0.0.0/8", "10.1.0.0/16", "192.168.1.99/24", "172.16.0.0/255.240.0.0", "203.0.113.7", "2001:db8::/32", "::1",
      ]
      .map { try #require(IPNetwork(text: $0)) })
    for inside in [
      "10.0.0.0", "10.255.255.255", "10.1.2.3", "192.168.1.0", "192.168.1.255", "172.16.0.0", "172.31.255.255",
      "203.0.113.7", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "::1",
    ] { #expect(set.contains(try #require(IPAddress(text: inside))), "\(inside)") }
    for outside in [
      "9.255.255.255", "11.0.0.0", "192.168.0.255", "192.168.2.0", "172.15.255.255", "172.32.0.0", "203.0.113.6",
      "203.0.113.8", "2001:db7:ffff::", "2001:db9::", "::2", "::", "::a00:1",
    ] { #expect(!set.contains(try #require(IPAddress(text: outside))), "\(outside)") }
    #expect(set.contains(try #require(IPNetwork(text: "10.4.0.0/15"))))
    #expect(!set.contains(try #require(IPNetwork(text: "192.168.0.0/23"))))
    #expect(!NetworkSet([]).contains(IPAddress(v4: 0)))
    #expect(NetworkSet([try #require(IPNetwork(text: "0.0.0.0/0"))]).contains(IPAddress(v4: .max)))
    #expect(!NetworkSet([try #require(IPNetwork(text: "0.0.0.0/0"))]).contains(IPAddress(v6: 0)))
  }

  @Test(arguments: [
    "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "10.0.0.0/255.0.255.0", "/8", "x/8", "::/255.0.0.0",
  ])
  func `refuses what is no network`(text: String) {
    #expect(IPNetwork(text: text) == nil)
  }
}
