//  How a cluster is spoken to: credentials, TLS, proxy and headers, set on handles of libcurl. The output's bulk requests,
//  its probes and the commands for the cluster's care all go this way.

internal import CCurl
internal import COpenSSL
public import Config
internal import Diagnostics

/// How far a server's certificate is checked.
public enum CertificateCheck: String, OptionEnum, Sendable { case full, certificate, none }

/// Credentials, TLS, proxy and headers. Immutable; any thread may use it.
public struct ClusterConnection: Sendable {
  public var user: String?
  public var password: Secret?
  /// The whole value of the header: `ApiKey …`, `Bearer …`.
  public var authorization: Secret?
  /// PEM file of the authorities that are trusted.
  public var authorities: String?
  /// Makes the chain that this certificate stands in trusted.
  public var fingerprint: CertificateFingerprint?
  /// PEM files of the client's certificate and its key.
  public var certificate: String?
  public var key: String?
  public var keyPassphrase: Secret?
  public var check = CertificateCheck.full
  public var leastTLS = TLSVersion.v1_2
  public var highestTLS = TLSVersion.v1_3
  public var proxy: Secret?
  public var headers: [(name: String, value: String)] = []
  public var timeout = Duration.seconds(60)

  public init() {}

  /// Puts everything on a handle that is the same for every request.
  func configure(_ handle: UnsafeMutableRawPointer) {
    _ = curl_set_long(handle, CURLOPT_NOSIGNAL, 1)
    // A name that is still being resolved does not hold up the end.
    _ = curl_set_long(handle, CURLOPT_QUICK_EXIT, 1)
    // The environment's proxies are for other programs.
    _ = curl_set_text(handle, CURLOPT_PROXY, proxy?.revealed ?? "")
    _ = curl_set_text(handle, CURLOPT_PROTOCOLS_STR, "http,https")
    _ = curl_set_text(handle, CURLOPT_USERAGENT, "sluice")
    _ = curl_set_text(handle, CURLOPT_ACCEPT_ENCODING, "gzip")
    let milliseconds = Int(max(1, timeout.ns / 1_000_000))
    _ = curl_set_long(handle, CURLOPT_TIMEOUT_MS, milliseconds)
    _ = curl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, min(milliseconds, 10_000))
    if let user {
      _ = curl_set_text(handle, CURLOPT_USERNAME, user)
      _ = curl_set_text(handle, CURLOPT_PASSWORD, password?.revealed ?? "")
    }
    if let authorities { _ = curl_set_text(handle, CURLOPT_CAINFO, authorities) }
    if let certificate { _ = curl_set_text(handle, CURLOPT_SSLCERT, certificate) }
    if let key { _ = curl_set_text(handle, CURLOPT_SSLKEY, key) }
    if let keyPassphrase { _ = curl_set_text(handle, CURLOPT_KEYPASSWD, keyPassphrase.revealed) }
    _ = curl_set_long(handle, CURLOPT_SSL_VERIFYPEER, check == .none ? 0 : 1)
    _ = curl_set_long(handle, CURLOPT_SSL_VERIFYHOST, check == .full ? 2 : 0)
    _ = curl_set_long(handle, CURLOPT_SSLVERSION, leastTLS.curlNumber | highestTLS.curlNumber << 16)
    if let fingerprint, check != .none {
      _ = curl_set_tls_context(
        handle,
        { _, context, fingerprint in
          guard let context, let fingerprint else { return CURLE_OK }
          ssl_ctx_trust_fingerprint(OpaquePointer(context), fingerprint.assumingMemoryBound(to: UInt8.self))
          return CURLE_OK
        }, fingerprint.bytes)
    }
  }

  /// A header list for libcurl, to be freed by `curl_slist_free_all`; the headers of the configuration win.
  func headerList(_ own: [(name: String, value: String)]) -> UnsafeMutablePointer<curl_slist>? {
    var all = own
    if let authorization { all.append(("Authorization", authorization.revealed)) }
    let names = headers.map { $0.name.lowercased() }
    all.removeAll { names.contains($0.name.lowercased()) }
    var list: UnsafeMutablePointer<curl_slist>?
    for header in all + headers {
      // A header without a value is written with a semicolon.
      list = curl_slist_append(list, header.value.isEmpty ? "\(header.name);" : "\(header.name): \(header.value)")
    }
    return curl_slist_append(list, "Expect:")
  }

  /// Prepares libcurl, once for the program.
  static let isReady: Bool = curl_global_init(3) == CURLE_OK  // SSL and Win32, as CURL_GLOBAL_DEFAULT
}

extension TLSVersion {
  fileprivate var curlNumber: Int {
    switch self {
    case .v1: 4
    case .v1_1: 5
    case .v1_2: 6
    case .v1_3: 7
    }
  }
}

/// The SHA-256 digest of a certificate. It lives at least as long as the handles that it was set on.
public final class CertificateFingerprint: @unchecked Sendable {  // unchecked: written in `init` alone
  let bytes: UnsafeMutablePointer<UInt8>

  /// - Parameter text: 64 hexadecimal digits, with or without colons; nil for anything else.
  public init?(_ text: String) {
    guard let digest = hexadecimalBytes(text), digest.count == 32 else { return nil }
    bytes = .allocate(capacity: 32)
    bytes.initialize(from: digest, count: 32)
  }

  deinit { bytes.deallocate() }
}

private func hexadecimalBytes(_ text: String) -> [UInt8]? {
  let digits = text.utf8.filter { $0 != 58 }.map { byte -> UInt8? in
    switch byte {
    case 48...57: byte - 48
    case 65...70: byte - 55
    case 97...102: byte - 87
    default: nil
    }
  }
  guard digits.count.isMultiple(of: 2) else { return nil }
  var bytes: [UInt8] = []
  for i in stride(from: 0, to: digits.count, by: 2) {
    guard let high = digits[i], let low = digits[i + 1] else { return nil }
    bytes.append(high << 4 | low)
  }
  return bytes
}
