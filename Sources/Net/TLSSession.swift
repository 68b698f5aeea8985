//  One connection's TLS, over memory: ciphertext goes in and comes out as bytes, so that the connection's own reads,
//  writes and back-pressure stay what they are without TLS.

internal import COpenSSL
internal import Diagnostics
internal import Glibc

/// What the handshake agreed on, and who the peer is.
public struct TLSIdentity: Hashable, Sendable {
  /// `TLSv1.3`
  public var version: String
  /// IANA name.
  public var cipher: String
  /// The peer showed a certificate that the authorities vouch for.
  public var isVerified: Bool
  /// Subject of that certificate, most specific part first: `CN=web-01, O=Example`.
  public var subject: String?
}

/// Confined to its connection's queue.
final class TLSSession {
  enum Step {
    case done
    /// More ciphertext is needed.
    case starved
    /// The peer closed its side in order.
    case ended
    case failed(String)
  }

  private let session: OpaquePointer
  private let incoming: OpaquePointer
  private let outgoing: OpaquePointer
  private(set) var isEstablished = false

  init?(_ context: TLSServerContext) {
    guard let session = SSL_new(context.context) else { return nil }
    guard let incoming = BIO_new(BIO_s_mem()) else {
      SSL_free(session)
      return nil
    }
    guard let outgoing = BIO_new(BIO_s_mem()) else {
      BIO_free(incoming)
      SSL_free(session)
      return nil
    }
    SSL_set_bio(session, incoming, outgoing)  // the session frees both
    SSL_set_accept_state(session)
    self.session = session
    self.incoming = incoming
    self.outgoing = outgoing
  }

  deinit { SSL_free(session) }

  /// Takes ciphertext from the peer.
  func feed(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let start = bytes.baseAddress else { return true }
    return BIO_write(incoming, start, CInt(bytes.count)) == CInt(bytes.count)
  }

  func shakeHands() -> Step {
    ERR_clear_error()
    let result = SSL_do_handshake(session)
    if result == 1 {
      isEstablished = true
      return .done
    }
    return step(result)
  }

  /// Reads plain bytes until `capacity` is full or nothing is left.
  func read(into buffer: UnsafeMutableRawPointer, capacity: Int) -> (count: Int, step: Step) {
    var count = 0
    while count < capacity {
      var n = 0
      ERR_clear_error()
      let result = SSL_read_ex(session, buffer + count, capacity - count, &n)
      if result != 1 { return (count, step(result)) }
      count += n
    }
    return (count, .done)
  }

  func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var offset = 0
    while offset < bytes.count {
      var n = 0
      ERR_clear_error()
      guard let start = bytes.baseAddress, SSL_write_ex(session, start + offset, bytes.count - offset, &n) == 1 else {
        return false
      }
      offset += n
    }
    return true
  }

  /// Queues the closing alert.
  func shutDown() {
    ERR_clear_error()
    if isEstablished { SSL_shutdown(session) }
    ERR_clear_error()
  }

  /// Hands ciphertext for the peer to `body`, in pieces.
  func drain(_ body: (UnsafeRawBufferPointer) -> Void) {
    while ssl_bio_read_pending(outgoing) > 0 {
      withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 16) { buffer in
        let n = BIO_read(outgoing, buffer.baseAddress, CInt(buffer.count))
        if n > 0 { body(UnsafeRawBufferPointer(rebasing: buffer[..<Int(n)])) }
      }
    }
  }

  private func step(_ result: CInt) -> Step {
    switch SSL_get_error(session, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .starved
    case SSL_ERROR_ZERO_RETURN: return .ended
    default: return .failed(lastTLSReason())
    }
  }

  /// - Precondition: The handshake is done.
  var identity: TLSIdentity {
    var identity = TLSIdentity(version: String(cString: SSL_get_version(session)), cipher: "", isVerified: false)
    if let cipher = SSL_get_current_cipher(session), let name = SSL_CIPHER_standard_name(cipher) {
      identity.cipher = String(cString: name)
    }
    guard let certificate = SSL_get1_peer_certificate(session) else { return identity }
    defer { X509_free(certificate) }
    identity.isVerified = SSL_get_verify_result(session) == 0
    if let name = X509_get_subject_name(certificate), let text = BIO_new(BIO_s_mem()) {
      defer { BIO_free(text) }
      // Escapes of RFC 2253 but UTF-8 as it is; ", " and " + " between parts; the most specific part first.
      let flags: UInt = 0x1 | 0x2 | 0x10 | 0x100 | 0x200 | 2 << 16 | 1 << 20 | 1 << 24
      if X509_NAME_print_ex(text, name, 0, flags) >= 0 {
        var bytes = [UInt8](repeating: 0, count: min(4096, ssl_bio_read_pending(text)))
        let n = BIO_read(text, &bytes, CInt(bytes.count))
        identity.subject = String(decoding: bytes.prefix(Int(max(0, n))), as: UTF8.self)
      }
    }
    return identity
  }
}
