//  HMAC (RFC 2104) for many messages under one key: the key's two blocks are made once, and a message costs no memory.

/// Makes HMACs with one key. Not thread-safe.
public final class KeyedDigester {
  private let digester: Digester
  private let inner: [UInt8]
  private let outer: [UInt8]
  private let room: UnsafeMutableRawBufferPointer

  /// Length of an HMAC in bytes.
  public var length: Int { digester.kind.length }

  public init(_ kind: DigestKind, key: [UInt8]) throws(DigestError) {
    digester = try Digester(kind)
    let block = kind.length > 32 ? 128 : 64
    var padded = key.count > block ? try Digest.compute(kind, key) : key
    padded += [UInt8](repeating: 0, count: block - padded.count)
    inner = padded.map { $0 ^ 0x36 }
    outer = padded.map { $0 ^ 0x5c }
    room = .allocate(byteCount: kind.length, alignment: 8)
    begin()
  }

  deinit { room.deallocate() }

  private func begin() { inner.withUnsafeBytes { digester.update($0) } }

  public func update(_ bytes: UnsafeRawBufferPointer) { digester.update(bytes) }

  /// Writes the HMAC of all that was given to the front of `output` and begins anew.
  ///
  /// - Precondition: `output` holds at least `length` bytes.
  public func finish(into output: UnsafeMutableRawBufferPointer) {
    digester.finish(into: room)
    outer.withUnsafeBytes { digester.update($0) }
    digester.update(UnsafeRawBufferPointer(room))
    digester.finish(into: output)
    begin()
  }
}
