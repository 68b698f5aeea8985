//  Digests and HMAC through OpenSSL.

internal import COpenSSL

public enum DigestKind: String, Sendable, CaseIterable {
  case md5 = "MD5"
  case sha1 = "SHA1"
  case sha256 = "SHA256"
  case sha384 = "SHA384"
  case sha512 = "SHA512"

  /// Length of the digest in bytes.
  public var length: Int {
    switch self {
    case .md5: 16
    case .sha1: 20
    case .sha256: 32
    case .sha384: 48
    case .sha512: 64
    }
  }

  /// OpenSSL's own object, which lives as long as the program.
  var implementation: OpaquePointer? {
    switch self {
    case .md5: EVP_md5()
    case .sha1: EVP_sha1()
    case .sha256: EVP_sha256()
    case .sha384: EVP_sha384()
    case .sha512: EVP_sha512()
    }
  }
}

/// The cryptography library refused: no memory, or a digest that the system's policy forbids.
public struct DigestError: Error, Equatable, Sendable, CustomStringConvertible {
  public let kind: DigestKind
  public var description: String { "the system's OpenSSL does not offer \(kind.rawValue)" }
}

/// A digest in the making; reused by `reset`. Not thread-safe.
public final class Digester {
  public let kind: DigestKind
  private let context: OpaquePointer
  private let implementation: OpaquePointer

  public init(_ kind: DigestKind) throws(DigestError) {
    // Fetching once saves OpenSSL a search of its providers per digest.
    guard let implementation = EVP_MD_fetch(nil, kind.rawValue, nil) else { throw DigestError(kind: kind) }
    guard let context = EVP_MD_CTX_new() else {
      EVP_MD_free(implementation)
      throw DigestError(kind: kind)
    }
    self.kind = kind
    self.context = context
    self.implementation = implementation
    guard EVP_DigestInit_ex(context, implementation, nil) == 1 else { throw DigestError(kind: kind) }
  }

  deinit {
    EVP_MD_CTX_free(context)
    EVP_MD_free(implementation)
  }

  public func update(_ bytes: UnsafeRawBufferPointer) { _ = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) }

  /// Writes the digest of all that was given to the front of `output` and begins anew.
  ///
  /// - Precondition: `output` holds at least `kind.length` bytes.
  public func finish(into output: UnsafeMutableRawBufferPointer) {
    precondition(output.count >= kind.length)
    _ = EVP_DigestFinal_ex(context, output.baseAddress?.assumingMemoryBound(to: UInt8.self), nil)
    _ = EVP_DigestInit_ex(context, implementation, nil)
  }

  public func finish() -> [UInt8] {
    var output = [UInt8](repeating: 0, count: kind.length)
    output.withUnsafeMutableBytes { finish(into: $0) }
    return output
  }
}

public enum Digest {
  public static func compute(_ kind: DigestKind, _ bytes: [UInt8]) throws(DigestError) -> [UInt8] {
    let digester = try Digester(kind)
    bytes.withUnsafeBytes { digester.update($0) }
    return digester.finish()
  }

  /// RFC 2104.
  public static func hmac(_ kind: DigestKind, key: [UInt8], _ bytes: UnsafeRawBufferPointer) throws(DigestError) -> [UInt8] {
    var output = [UInt8](repeating: 0, count: kind.length)
    var length: UInt32 = 0
    // A null key would mean "the key of last time"; an empty key needs an address.
    let padded = key.isEmpty ? [0] : key
    let data = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    guard HMAC(kind.implementation, padded, CInt(clamping: key.count), data, bytes.count, &output, &length) != nil,
      Int(length) == kind.length
    else { throw DigestError(kind: kind) }
    return output
  }

  public static func hmac(_ kind: DigestKind, key: [UInt8], _ bytes: [UInt8]) throws(DigestError) -> [UInt8] {
    let made = bytes.withUnsafeBytes { bytes in
      Result { () throws(DigestError) in try hmac(kind, key: key, bytes) }
    }
    return try made.get()
  }

  /// Whether both are equal, in a time that depends on the lengths alone.
  public static func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count else { return false }
    return CRYPTO_memcmp(left, right, left.count) == 0
  }
}
