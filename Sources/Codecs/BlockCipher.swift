//  Encryption of a queue's blocks at rest: AES-256-GCM under a key that is derived for each segment, so that random
//  nonces never come near their limit and a block cannot be moved into another segment.

internal import COpenSSL
public import Diagnostics
internal import Glibc

/// A secret of 32 bytes with the id that files carry. The id is derived from the secret, so a wrong key is known at once.
public struct BlockKey: Sendable, CustomStringConvertible {
  public static let byteCount = 32
  private let secret: [UInt8]
  /// Stands in files; tells nothing about the secret.
  public let id: UInt64

  /// - Returns: nil unless `secret` has 32 bytes.
  public init?(_ secret: [UInt8]) {
    guard secret.count == BlockKey.byteCount else { return nil }
    self.secret = secret
    let digest = keyedDigest(secret, Array("sluice block key id".utf8))
    guard digest.count >= 8 else { return nil }
    // Zero means "not encrypted" in files.
    id = max(1, digest.prefix(8).reduce(0) { $0 << 8 | UInt64($1) })
  }

  public var description: String { "***" }

  /// The cipher for blocks of the segment (or whatever else) that `salt` names.
  public func cipher(salt: [UInt8]) -> BlockCipher? {
    let derived = keyedDigest(secret, salt)
    return derived.count == BlockKey.byteCount ? BlockCipher(derived) : nil
  }
}

/// HMAC-SHA-256.
private func keyedDigest(_ key: [UInt8], _ message: [UInt8]) -> [UInt8] {
  var digest = [UInt8](repeating: 0, count: 32)
  var length: UInt32 = 32
  let done = HMAC(EVP_sha256(), key, Int32(key.count), message, message.count, &digest, &length)
  return done == nil || length != 32 ? [] : digest
}

/// Seals and opens blocks. One owner, no sharing between threads.
public final class BlockCipher {
  /// What sealing adds: a nonce in front and a tag behind.
  public static let overhead = 12 + 16
  private let key: [UInt8]
  private let context: OpaquePointer?

  init(_ key: [UInt8]) {
    self.key = key
    context = EVP_CIPHER_CTX_new()
  }

  deinit { EVP_CIPHER_CTX_free(context) }

  /// Appends nonce, ciphertext and tag of `input` to `output`; `associated` is authenticated and not stored.
  ///
  /// - Returns: False where OpenSSL refuses; `output` is then as before.
  public func seal(
    _ input: UnsafeRawBufferPointer, associated: UnsafeRawBufferPointer, into output: inout ByteBuffer
  ) -> Bool {
    guard let context, input.count < 1 << 30 else { return false }
    let start = output.count
    output.reserve(input.count + BlockCipher.overhead)
    let nonce = output.pointer + start
    let text = nonce + 12
    guard RAND_bytes(nonce, 12) == 1, EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1 else {
      return false
    }
    var written: Int32 = 0
    if associated.count > 0 {
      guard EVP_EncryptUpdate(context, nil, &written, bytePointer(associated), Int32(associated.count)) == 1 else {
        return false
      }
    }
    var count = 0
    if input.count > 0 {
      guard EVP_EncryptUpdate(context, text, &written, bytePointer(input), Int32(input.count)) == 1 else {
        return false
      }
      count = Int(written)
    }
    guard EVP_EncryptFinal_ex(context, text + count, &written) == 1 else { return false }
    count += Int(written)
    guard EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, text + count) == 1 else { return false }
    output.count = start + 12 + count + 16
    return true
  }

  /// Opens what `seal` made into `output`, which must have exactly `input.count - overhead` bytes.
  ///
  /// - Returns: False where key, bytes or associated bytes are not those of the sealing.
  public func open(
    _ input: UnsafeRawBufferPointer, associated: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
  ) -> Bool {
    guard let context, let start = bytePointer(input), input.count >= BlockCipher.overhead, input.count < 1 << 30,
      output.count == input.count - BlockCipher.overhead
    else { return false }
    guard EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nil, key, start) == 1 else { return false }
    var written: Int32 = 0
    if associated.count > 0 {
      guard EVP_DecryptUpdate(context, nil, &written, bytePointer(associated), Int32(associated.count)) == 1 else {
        return false
      }
    }
    var scratch: UInt8 = 0
    let target = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    if let target, output.count > 0 {
      guard EVP_DecryptUpdate(context, target, &written, start + 12, Int32(output.count)) == 1 else { return false }
    }
    let tag = UnsafeMutableRawPointer(mutating: start + 12 + output.count)
    guard EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, tag) == 1 else { return false }
    // GCM writes nothing at the end; the call checks the tag.
    return EVP_DecryptFinal_ex(context, &scratch, &written) == 1
  }

  private func bytePointer(_ bytes: UnsafeRawBufferPointer) -> UnsafePointer<UInt8>? {
    bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
  }
}
