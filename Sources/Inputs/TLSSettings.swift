//  The TLS options of listening inputs, and what of them does not go together.

internal import Config
internal import Diagnostics
internal import Net
internal import PluginKit

/// Options named `ssl_*`.
struct TLSSettings: PluginSettings {
  var isEnabled: Bool?
  var certificate: FilePath?
  var key: FilePath?
  var passphrase: Secret?
  var authorities: [FilePath] = []
  var clientAuthentication: ClientAuthentication?
  var handshakeTimeout = Duration.seconds(10)
  var cipherSuites: [String] = []
  var protocols: [ProtocolVersion] = [.v1_2, .v1_3]

  enum ClientAuthentication: String, OptionEnum { case none, optional, required }
  enum ProtocolVersion: String, OptionEnum {
    case v1_1 = "TLSv1.1"
    case v1_2 = "TLSv1.2"
    case v1_3 = "TLSv1.3"
  }

  static let options: [Option<TLSSettings>] = [
    .option("ssl_enabled", \.isEnabled, "Whether the input speaks TLS.", defaultText: "true with ssl_certificate"),
    .option("ssl_certificate", \.certificate, "The certificate with its chain, PEM; turns TLS on."),
    .option("ssl_key", \.key, "The certificate's key, PEM."),
    .option("ssl_key_passphrase", \.passphrase, "The passphrase of the key."),
    .option("ssl_certificate_authorities", \.authorities, "Authorities of client certificates, PEM."),
    .option(
      "ssl_client_authentication", \.clientAuthentication, "Whether clients show a certificate.",
      defaultText: "depends on the input"),
    .option("ssl_handshake_timeout", \.handshakeTimeout, "How long a handshake may take.", unit: .milliseconds),
    .option("ssl_cipher_suites", \.cipherSuites, "The cipher suites, by their IANA names; without it OpenSSL's."),
    .option(
      "ssl_supported_protocols", \.protocols, "The versions of TLS, from the lowest to the highest of the list.",
      check: { $0.isEmpty ? "must not be empty" : nil }),
    .obsolete("ssl_keystore_path", "use 'ssl_certificate' and 'ssl_key', PEM files"),
    .obsolete("ssl_keystore_password", "use 'ssl_certificate' and 'ssl_key', PEM files"),
    .obsolete("ssl_keystore_type", "use 'ssl_certificate' and 'ssl_key', PEM files"),
    .obsolete("ssl_truststore_path", "use 'ssl_certificate_authorities', a PEM file"),
    .obsolete("ssl_truststore_password", "use 'ssl_certificate_authorities', a PEM file"),
    .obsolete("ssl_truststore_type", "use 'ssl_certificate_authorities', a PEM file"),
    .obsolete("ssl", "use 'ssl_enabled'"),
    .obsolete("ssl_verify_mode", "use 'ssl_client_authentication'"),
    .obsolete("cipher_suites", "use 'ssl_cipher_suites'"),
    .obsolete("tls_min_version", "use 'ssl_supported_protocols'"),
    .obsolete("tls_max_version", "use 'ssl_supported_protocols'"),
  ]

  var isOn: Bool { isEnabled ?? (certificate != nil) }

  /// What holds where `ssl_client_authentication` is not given.
  enum ClientDefault { case none, byAuthorities, required }

  /// Whether clients show a certificate.
  ///
  /// - Throws: A `BuildFailure` where authorities and authentication contradict each other.
  func authentication(_ standard: ClientDefault) throws -> TLSClientAuthentication {
    guard isOn else { return .none }
    switch clientAuthentication {
    case .some(.none):
      guard authorities.isEmpty else {
        throw BuildFailure(
          "ssl_certificate_authorities", "authorities have no use with ssl_client_authentication: none",
          hint: "set it to optional or required")
      }
      return .none
    case .optional, .required:
      guard !authorities.isEmpty else {
        throw BuildFailure(
          "ssl_client_authentication", "checking client certificates needs 'ssl_certificate_authorities'",
          code: "config.missing-option")
      }
      return clientAuthentication == .optional ? .optional : .required
    case nil:
      switch standard {
      case .byAuthorities: return authorities.isEmpty ? .none : .required
      case .none:
        guard authorities.isEmpty else {
          throw BuildFailure(
            "ssl_certificate_authorities", "authorities have no use without ssl_client_authentication",
            hint: "set ssl_client_authentication to optional or required")
        }
        return .none
      case .required:
        guard !authorities.isEmpty else {
          throw BuildFailure(
            nil, "client certificates are required by default, and 'ssl_certificate_authorities' is missing",
            code: "config.missing-option", hint: "name the authorities, or set ssl_client_authentication: none")
        }
        return .required
      }
    }
  }

  /// The listener's TLS; nil without it, and where files are not to be opened.
  func context(_ standard: ClientDefault, _ context: InputContext) throws -> TLSServerContext? {
    let authentication = try authentication(standard)
    guard isOn else { return nil }
    guard let certificate, let key else {
      throw BuildFailure(nil, "TLS needs 'ssl_certificate' and 'ssl_key'", code: "config.missing-option")
    }
    guard context.services.resolves else { return nil }
    var tls = TLSConfiguration(
      certificate: context.services.path(certificate.text), key: context.services.path(key.text))
    tls.keyPassphrase = passphrase?.revealed
    tls.authorities = authorities.map { context.services.path($0.text) }
    tls.clientAuthentication = authentication
    tls.cipherSuites = cipherSuites.map { $0.uppercased() }
    tls.handshakeTimeout = handshakeTimeout
    let versions = protocols.compactMap { TLSVersion(name: $0.rawValue) }
    tls.minVersion = versions.min() ?? .v1_2
    tls.maxVersion = versions.max() ?? .v1_3
    do {
      return try TLSServerContext(tls)
    } catch {
      throw BuildFailure("ssl_certificate", "\(error)")
    }
  }
}
