//  The TLS settings of a listener: certificate, key, authorities, versions, suites. One context serves all connections
//  of a listener and is never written after `init`.

internal import COpenSSL
internal import Glibc

public enum TLSVersion: Int, Comparable, Sendable, CaseIterable {
  case v1_1 = 0x0302
  case v1_2 = 0x0303
  case v1_3 = 0x0304
  /// `TLSv1.2`
  public init?(name: String) {
    switch name {
    case "TLSv1.1": self = .v1_1
    case "TLSv1.2": self = .v1_2
    case "TLSv1.3": self = .v1_3
    default: return nil
    }
  }
  public static func < (left: TLSVersion, right: TLSVersion) -> Bool { left.rawValue < right.rawValue }
}

public enum TLSClientAuthentication: String, Sendable, CaseIterable { case none, optional, required }

public struct TLSConfiguration: Sendable {
  /// Path of a PEM file with the certificate, then its chain.
  public var certificate: String
  /// Path of a PEM file with the private key (PKCS#8, PKCS#1 or EC).
  public var key: String
  public var keyPassphrase: String?
  /// Path of a PKCS#12 file with certificate, key and chain; used instead of `certificate` and `key`.
  public var keystore: String?
  /// Paths of PEM files with the authorities that client certificates are checked against.
  public var authorities: [String] = []
  public var clientAuthentication = TLSClientAuthentication.none
  public var minVersion = TLSVersion.v1_2
  public var maxVersion = TLSVersion.v1_3
  /// IANA names (`TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`) or OpenSSL's; empty for OpenSSL's defaults.
  public var cipherSuites: [String] = []
  /// How long a handshake may take.
  public var handshakeTimeout = Duration.seconds(10)

  public init(certificate: String, key: String) {
    self.certificate = certificate
    self.key = key
  }

  public init(keystore: String, password: String) {
    self.init(certificate: keystore, key: keystore)
    self.keystore = keystore
    keyPassphrase = password
  }
}

/// What is wrong with TLS settings, or with one peer's TLS.
public enum TLSError: Error, Equatable, CustomStringConvertible {
  case certificate(path: String, reason: String)
  case key(path: String, reason: String)
  case keystore(path: String, reason: String)
  case authority(path: String, reason: String)
  case unknownCipherSuite(String)
  case noCipherSuite
  case missingAuthorities
  case library(String)

  public var description: String {
    switch self {
    case .certificate(let path, let reason): "cannot use the certificate '\(path)': \(reason)"
    case .key(let path, let reason): "cannot use the private key '\(path)': \(reason)"
    case .keystore(let path, let reason): "cannot use the PKCS#12 file '\(path)': \(reason)"
    case .authority(let path, let reason): "cannot use the certificate authorities in '\(path)': \(reason)"
    case .unknownCipherSuite(let name): "unknown cipher suite '\(name)'"
    case .noCipherSuite: "no usable cipher suite is left"
    case .missingAuthorities: "checking client certificates needs certificate authorities"
    case .library(let reason): "TLS cannot be set up: \(reason)"
    }
  }
}

/// Never written after `init`; OpenSSL counts references to it atomically, so any queue may make sessions of it.
public final class TLSServerContext: @unchecked Sendable {  // unchecked: `context` is read-only once made
  let context: OpaquePointer
  let handshakeTimeout: Duration

  /// Reads the files; blocks for as long as that takes.
  public init(_ configuration: TLSConfiguration) throws(TLSError) {
    ERR_clear_error()
    guard let made = SSL_CTX_new(TLS_server_method()) else { throw .library(lastTLSReason()) }
    do throws(TLSError) {
      try TLSServerContext.fill(made, configuration)
    } catch {
      SSL_CTX_free(made)
      throw error
    }
    context = made
    handshakeTimeout = configuration.handshakeTimeout
  }

  deinit { SSL_CTX_free(context) }

  private static func fill(_ context: OpaquePointer, _ configuration: TLSConfiguration) throws(TLSError) {
    guard ssl_ctx_set_min_version(context, CInt(configuration.minVersion.rawValue)) == 1,
      ssl_ctx_set_max_version(context, CInt(configuration.maxVersion.rawValue)) == 1
    else { throw .library(lastTLSReason()) }
    _ = ssl_ctx_add_options(context, ssl_no_renegotiation() | ssl_no_compression())
    // Idle connections give OpenSSL's record buffers back; a write may be continued from another address.
    let modes = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS
    _ = ssl_ctx_set_modes(context, Int(modes))
    let name = Array("sluice".utf8)
    _ = SSL_CTX_set_session_id_context(context, name, UInt32(name.count))
    // TLS 1.1 signs with SHA-1, which OpenSSL allows at security level 0 alone.
    if configuration.minVersion == .v1_1 { SSL_CTX_set_security_level(context, 0) }
    try useSuites(configuration.cipherSuites, context)
    try useKeys(configuration, context)
    try useAuthorities(configuration, context)
  }

  private static func useKeystore(_ path: String, password: String, _ context: OpaquePointer) throws(TLSError) {
    let reason: String
    switch ssl_ctx_use_keystore(context, path, password) {
    case 0: return
    case 1: reason = "it cannot be opened: " + String(cString: strerror(errno))
    case 2: reason = "it is no PKCS#12 file (keytool makes one of a Java key store)"
    case 3: reason = "the password is wrong, or it is encrypted in a way that is not known"
    case 4: reason = "it lacks certificate or key"
    default: reason = lastTLSReason()
    }
    ERR_clear_error()
    throw .keystore(path: path, reason: reason)
  }

  private static func useKeys(_ configuration: TLSConfiguration, _ context: OpaquePointer) throws(TLSError) {
    if let keystore = configuration.keystore {
      return try useKeystore(keystore, password: configuration.keyPassphrase ?? "", context)
    }
    guard SSL_CTX_use_certificate_chain_file(context, configuration.certificate) == 1 else {
      throw .certificate(path: configuration.certificate, reason: lastTLSReason())
    }
    // OpenSSL's own callback takes the passphrase from here; without one it would ask on the terminal.
    let passphrase = strdup(configuration.keyPassphrase ?? "")
    defer {
      SSL_CTX_set_default_passwd_cb_userdata(context, nil)
      if let passphrase {
        memset(passphrase, 0, strlen(passphrase))
        free(passphrase)
      }
    }
    SSL_CTX_set_default_passwd_cb_userdata(context, passphrase)
    guard SSL_CTX_use_PrivateKey_file(context, configuration.key, SSL_FILETYPE_PEM) == 1 else {
      throw .key(path: configuration.key, reason: lastTLSReason())
    }
    guard SSL_CTX_check_private_key(context) == 1 else {
      throw .key(
        path: configuration.key, reason: "it does not belong to the certificate '\(configuration.certificate)'")
    }
  }

  private static func useAuthorities(_ configuration: TLSConfiguration, _ context: OpaquePointer) throws(TLSError) {
    guard configuration.clientAuthentication != .none else { return }
    guard !configuration.authorities.isEmpty else { throw .missingAuthorities }
    for path in configuration.authorities {
      guard SSL_CTX_load_verify_locations(context, path, nil) == 1 else {
        throw .authority(path: path, reason: lastTLSReason())
      }
    }
    // The names that the server sends with its request for a certificate, so that clients pick the right one.
    if let names = SSL_load_client_CA_file(configuration.authorities[0]) {
      for path in configuration.authorities.dropFirst() { SSL_add_file_cert_subjects_to_stack(names, path) }
      SSL_CTX_set_client_CA_list(context, names)
    }
    let required = configuration.clientAuthentication == .required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | required, nil)
  }

  private static func useSuites(_ names: [String], _ context: OpaquePointer) throws(TLSError) {
    if names.isEmpty { return }
    var modern: [String] = []
    var older: [String] = []
    for name in names {
      // Suites of TLS 1.3 name no key exchange and are set by another call.
      if name.hasPrefix("TLS_"), !name.contains("_WITH_") {
        modern.append(name)
        continue
      }
      let known = name.hasPrefix("TLS_") ? OPENSSL_cipher_name(name).map { String(cString: $0) } : name
      guard let known, known != "(NONE)" else { throw .unknownCipherSuite(name) }
      older.append(known)
    }
    if !modern.isEmpty || older.isEmpty {
      guard SSL_CTX_set_ciphersuites(context, modern.joined(separator: ":")) == 1 else {
        throw .unknownCipherSuite(modern.joined(separator: ", "))
      }
    } else {
      _ = SSL_CTX_set_ciphersuites(context, "")
    }
    let list = older.isEmpty ? "ECDHE+AESGCM" : older.joined(separator: ":")
    guard SSL_CTX_set_cipher_list(context, list) == 1 else { throw .noCipherSuite }
  }
}

/// The newest reason in OpenSSL's error queue, in its words, and empties the queue.
func lastTLSReason() -> String {
  var newest: UInt = 0
  while true {
    let code = ERR_get_error()
    if code == 0 { break }
    newest = code
  }
  if newest == 0 { return "unknown reason" }
  if let text = ERR_reason_error_string(newest) { return String(cString: text) }
  return "error \(newest)"
}
