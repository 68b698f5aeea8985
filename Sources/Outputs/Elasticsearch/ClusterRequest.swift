//  One request to a cluster, answered before the caller goes on: for the commands that look after it.

internal import CCurl
internal import Codecs
internal import Config
internal import Diagnostics

/// A connection that is kept from request to request. Not thread-safe.
public final class ClusterSession {
  public struct Answer {
    public var status: Int
    public var body: [UInt8]
  }

  /// No answer came.
  public struct Failure: Error, CustomStringConvertible {
    public var description: String
  }

  private final class Received {
    var body = ByteBuffer(capacity: 4096)
    static let limit = 256 << 20
  }

  private let handle: UnsafeMutableRawPointer
  private let headers: UnsafeMutablePointer<curl_slist>?
  private let received = Received()
  private let connection: ClusterConnection

  public init(_ connection: ClusterConnection, headers own: [(name: String, value: String)] = []) throws {
    guard ClusterConnection.isReady, let made = curl_easy_init() else {
      throw SystemError(12, call: "curl_easy_init")
    }
    handle = made
    self.connection = connection
    let hasType = own.contains { $0.name == "Content-Type" }
    headers = connection.headerList((hasType ? [] : [("Content-Type", "application/json")]) + own)
  }

  deinit {
    curl_easy_cleanup(handle)
    curl_slist_free_all(headers)
  }

  /// - Parameter timeout: How long the answer may take, where not as long as the connection says.
  public func send(
    _ method: String, _ address: String, _ body: [UInt8]? = nil, timeout: Duration? = nil
  ) throws(Failure) -> Answer {
    curl_easy_reset(handle)
    connection.configure(handle)
    if let timeout { _ = curl_set_long(handle, CURLOPT_TIMEOUT_MS, Int(max(1, timeout.ns / 1_000_000))) }
    _ = curl_set_pointer(handle, CURLOPT_HTTPHEADER, headers)
    _ = curl_set_text(handle, CURLOPT_URL, address)
    _ = curl_set_text(handle, CURLOPT_CUSTOMREQUEST, method)
    if method == "HEAD" { _ = curl_set_long(handle, CURLOPT_NOBODY, 1) }
    if let body {
      _ = curl_set_off(handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
      _ = body.withUnsafeBytes { curl_set_pointer(handle, CURLOPT_COPYPOSTFIELDS, $0.baseAddress) }
    }
    received.body.removeAll()
    _ = curl_set_write(
      handle,
      { bytes, size, count, context in
        guard let bytes, let context else { return 0 }
        let received = Unmanaged<Received>.fromOpaque(context).takeUnretainedValue()
        guard received.body.count + size * count <= Received.limit else { return 0 }
        received.body.append(UnsafeRawPointer(bytes), size * count)
        return size * count
      }, Unmanaged.passUnretained(received).toOpaque())
    let code = curl_easy_perform(handle)
    guard code == CURLE_OK else {
      throw Failure(description: "\(maskedAddress(address)): \(String(cString: curl_easy_strerror(code)))")
    }
    var status = 0
    _ = curl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
    return Answer(status: status, body: received.body.array())
  }
}
