//  Compression, digests, encryption and charsets: known answers, and that what was packed comes out again.

import Codecs
import Diagnostics
import Testing

private func text(_ count: Int) -> [UInt8] {
  var bytes: [UInt8] = []
  var i = 0
  while bytes.count < count {
    bytes.append(contentsOf: "line \(i) of a log that repeats itself, status=\(i % 7)\n".utf8)
    i += 1
  }
  return Array(bytes.prefix(count))
}

private func deflate(_ bytes: [UInt8], gzip: Bool, level: Int = 6) -> [UInt8] {
  var output = ByteBuffer()
  let deflater = Deflater(level: level)
  bytes.withUnsafeBytes { gzip ? deflater.gzip($0, into: &output) : deflater.zlib($0, into: &output) }
  return output.array()
}

private func unpacked(_ bytes: [UInt8], _ encoding: BodyEncoding, limit: Int = 1 << 24) throws(InflateError) -> [UInt8]
{
  var output = ByteBuffer()
  let result: Result<Void, InflateError> = bytes.withUnsafeBytes { bytes in
    do throws(InflateError) {
      try unpack(bytes, encoding, limit: limit, into: &output)
      return .success(())
    } catch {
      return .failure(error)
    }
  }
  try result.get()
  return output.array()
}

@Suite struct InflateTests {
  @Test(arguments: [1, 2, 7, 1000, 70_000], [1, 3, 100, 65_536])
  func `a zlib stream in pieces of any size comes out whole`(input: Int, output: Int) throws {
    let plain = text(100_003)
    let packed = deflate(plain, gzip: false)
    let inflater = Inflater(.zlib)
    for _ in 0..<2 {
      inflater.reset(.zlib)
      var made: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: output)
      var offset = 0
      while !inflater.isFinished, offset <= packed.count {
        let end = min(packed.count, offset + input)
        let (used, n) = try Array(packed[offset..<end]).withUnsafeBytes { bytes in
          try buffer.withUnsafeMutableBytes { try inflater.inflate(bytes, into: $0) }
        }
        made.append(contentsOf: buffer[..<n])
        offset += used
        if used == 0, n == 0 { break }
      }
      #expect(inflater.isFinished)
      #expect(offset == packed.count)
      #expect(made == plain)
    }
  }

  @Test func `bytes behind the stream are not used`() throws {
    let packed = deflate(text(5000), gzip: false) + Array(repeating: 0x5a, count: 50)
    let inflater = Inflater(.zlib)
    var buffer = [UInt8](repeating: 0, count: 10_000)
    let (used, made) = try packed.withUnsafeBytes { bytes in
      try buffer.withUnsafeMutableBytes { try inflater.inflate(bytes, into: $0) }
    }
    #expect(made == 5000)
    #expect(used - inflater.overreadBytes == packed.count - 50)
  }

  @Test func `bodies of every encoding are unpacked`() throws {
    let plain = text(50_000)
    #expect(try unpacked(deflate(plain, gzip: true), .gzip) == plain)
    #expect(try unpacked(deflate(plain, gzip: true) + deflate(plain, gzip: true, level: 1), .gzip) == plain + plain)
    let zlib = deflate(plain, gzip: false)
    #expect(try unpacked(zlib, .deflate) == plain)
    #expect(try unpacked(Array(zlib.dropFirst(2).dropLast(4)), .deflate) == plain)
    #expect(try unpacked(deflate([], gzip: true), .gzip) == [])
  }

  @Test func `a zstd body is unpacked and bounded`() throws {
    // `printf 'hello hello hello hello\n' | zstd -c`, twice over below.
    let frame: [UInt8] = [
      0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x6d, 0x00, 0x00, 0x38, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20, 0x0a,
      0x01, 0x00, 0x99, 0x4b, 0x11, 0xa8, 0x7c, 0x2e, 0xa8,
    ]
    guard let plain = try? unpacked(frame, .zstd) else {
      Issue.record("the frame did not unpack")
      return
    }
    #expect(String(decoding: plain, as: UTF8.self) == "hello hello hello hello\n")
    #expect(try unpacked(frame + frame, .zstd) == plain + plain)
    #expect(throws: InflateError.tooLarge(limitBytes: 23)) { try unpacked(frame, .zstd, limit: 23) }
    #expect(throws: InflateError.truncated) { try unpacked(Array(frame.dropLast(6)), .zstd) }
    #expect(throws: InflateError.self) { try unpacked(Array("plain text".utf8), .zstd) }
    #expect(throws: InflateError.self) { try unpacked([], .zstd) }
  }

  @Test func `an output of exactly the limit passes and one byte more does not`() throws {
    let packed = deflate(text(70_000), gzip: true)
    #expect(try unpacked(packed, .gzip, limit: 70_000).count == 70_000)
    #expect(throws: InflateError.tooLarge(limitBytes: 69_999)) { try unpacked(packed, .gzip, limit: 69_999) }
  }

  @Test func `a bomb stops at the limit`() {
    let bomb = deflate([UInt8](repeating: 0, count: 64 << 20), gzip: true)
    #expect(bomb.count < 100_000)
    #expect(throws: InflateError.tooLarge(limitBytes: 1 << 20)) { try unpacked(bomb, .gzip, limit: 1 << 20) }
  }

  @Test func `damage is told`() {
    let packed = deflate(text(3000), gzip: true)
    #expect(throws: InflateError.self) { try unpacked(Array("not gzip at all".utf8), .gzip) }
    #expect(throws: InflateError.self) { try unpacked([], .gzip) }
    var wrong = packed
    wrong[packed.count - 6] ^= 1
    #expect(throws: InflateError.badChecksum) { try unpacked(wrong, .gzip) }
    for length in 1..<packed.count {
      #expect(throws: InflateError.self) { try unpacked(Array(packed[..<length]), .gzip) }
    }
    #expect(throws: InflateError.self) { try unpacked(packed + [1, 2, 3], .gzip) }
  }

  @Test func `any single changed byte either fails or is found by the checksum`() {
    let plain = text(400)
    let packed = deflate(plain, gzip: false)
    for i in packed.indices {
      var changed = packed
      changed[i] ^= UInt8(1 << (i % 8))
      if let made = try? unpacked(changed, .deflate) { #expect(made == plain) }
    }
  }
}

@Suite struct Base64Tests {
  @Test(arguments: [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy"),
  ])
  func `the examples of the standard hold`(plain: String, encoded: String) {
    #expect(Base64.encode(Array(plain.utf8)) == encoded)
    #expect(Base64.decode(encoded.utf8) == Array(plain.utf8))
    #expect(Base64.decode(encoded.utf8.filter { $0 != 61 }, .url) == Array(plain.utf8))
  }

  @Test func `all bytes survive both alphabets`() {
    let bytes = (0...255).map { UInt8($0) } + [255, 254]
    #expect(Base64.decode(Base64.encode(bytes).utf8) == bytes)
    #expect(Base64.decode(Base64.encode(bytes, .url).utf8, .url) == bytes)
    #expect(Base64.encode([0xfb, 0xff], .url) == "-_8")
  }

  @Test(arguments: ["A", "AAAAA", "A===", "AA=A", "Zh==", "Zm9=", "Zg= =", "Zg\n==", "-_8=", "===", "AAAA="])
  func `what is not base64 is refused`(text: String) { #expect(Base64.decode(text.utf8) == nil) }
}

@Suite struct DigestTests {
  private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  @Test(arguments: [
    (DigestKind.md5, "900150983cd24fb0d6963f7d28e17f72"),
    (.sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
    (.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      .sha384,
      "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
    ),
    (
      .sha512,
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        + "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    ),
  ])
  func `digests of abc are those of the standards`(kind: DigestKind, expected: String) throws {
    #expect(hex(try Digest.compute(kind, Array("abc".utf8))) == expected)
    let digester = try Digester(kind)
    for _ in 0..<2 {
      for byte in "abc".utf8 { [byte].withUnsafeBytes { digester.update($0) } }
      #expect(hex(digester.finish()) == expected)
    }
  }

  @Test func `HMAC gives the values of RFC 4231 and of an empty key`() throws {
    let made = try Digest.hmac(.sha256, key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8))
    #expect(hex(made) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    let empty = try Digest.hmac(.sha256, key: [], [UInt8]())
    #expect(hex(empty) == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
  }

  @Test(arguments: DigestKind.allCases)
  func `one keyed digester gives the HMACs of many messages`(_ kind: DigestKind) throws {
    for keyLength in [0, 1, 63, 64, 65, 127, 128, 129, 300] {
      let key = [UInt8](repeating: 7, count: keyLength)
      let digester = try KeyedDigester(kind, key: key)
      var made = [UInt8](repeating: 0, count: digester.length)
      for message in [[], [1, 2, 3], text(1000)] as [[UInt8]] {
        message.withUnsafeBytes { digester.update($0) }
        made.withUnsafeMutableBytes { digester.finish(into: $0) }
        #expect(made == (try Digest.hmac(kind, key: key, message)))
      }
    }
  }

  @Test func `murmur gives its published values at every length of tail`() {
    func short(_ text: String, _ seed: UInt32 = 0) -> UInt32 {
      Array(text.utf8).withUnsafeBytes { Murmur3.hash32($0, seed: seed) }
    }
    #expect(short("") == 0)
    #expect(short("", 1) == 0x514e_28b7)
    #expect(short("test") == 0xba6b_d213)
    #expect(short("Hello, world!", 0x9747_b28c) == 0x2488_4cba)
    #expect(short("The quick brown fox jumps over the lazy dog") == 0x2e4f_f723)
    let long = Array("The quick brown fox jumps over the lazy dog".utf8).withUnsafeBytes { Murmur3.hash128($0) }
    #expect(long.0 == 0xe34b_bc7b_bc07_1b6c && long.1 == 0x7a43_3ca9_c49a_9347)
    let nothing = Murmur3.hash128(UnsafeRawBufferPointer(start: nil, count: 0))
    #expect(nothing.0 == 0 && nothing.1 == 0)
  }

  @Test func `comparison sees every byte`() {
    #expect(Digest.isEqual([1, 2, 3], [1, 2, 3]))
    #expect(!Digest.isEqual([1, 2, 3], [1, 2, 4]))
    #expect(!Digest.isEqual([1, 2, 3], [1, 2]))
    #expect(Digest.isEqual([], []))
  }
}
