//  A real search engine for tests: one that the folder of shared material starts, or the cluster that ELASTICSEARCH_URL
//  names. Requests go through the program `curl`, so that nothing of ours stands between a test and what it asks.

internal import Diagnostics
public import Foundation
internal import Glibc

public final class RunningEngine: @unchecked Sendable {  // unchecked: one test uses it, from one thread
  public enum Kind: String, Sendable { case elasticsearch, opensearch }

  /// The answer to a request.
  public struct Answer {
    public var status: Int
    public var body: Data
    public var text: String { String(decoding: body, as: UTF8.self) }
    public var json: [String: Any] { (try? JSONSerialization.jsonObject(with: body)) as? [String: Any] ?? [:] }
  }

  /// Starts engines; nil where they are missing.
  private static let starter: String? = {
    guard let path = Fixtures.shared.map({ $0 + "/engines/run" }), access(path, X_OK) == 0 else { return nil }
    return path
  }()
  private static let named = getenv("ELASTICSEARCH_URL").map { String(cString: $0) } ?? ""

  /// Whether tests on a real engine can run; `why` says what is missing else.
  public static var isThere: Bool { starter != nil || !named.isEmpty }
  public static let why = "no real engine: neither ELASTICSEARCH_URL nor a script that starts one is there"

  public let address: String
  /// False for a cluster that others started: it is not killed.
  public let isOwn: Bool
  private let kind: Kind
  private let settings: [String]
  private let port: Int
  private let folder: String
  private var process: Process?

  /// Starts an engine, or takes the one that ELASTICSEARCH_URL names.
  ///
  /// - Parameter settings: Of an engine of its own: `http.max_content_length=1mb`.
  public init(_ kind: Kind = .elasticsearch, settings: [String] = [], waits: Bool = true) throws {
    self.kind = kind
    self.settings = settings
    folder = NSTemporaryDirectory() + "sluice-engine-" + UUID().uuidString
    if kind == .elasticsearch, settings.isEmpty, !RunningEngine.named.isEmpty {
      address = RunningEngine.named
      isOwn = false
      port = 0
      return
    }
    port = try freePort()
    address = "http://127.0.0.1:\(port)"
    isOwn = true
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try start(waits: waits)
  }

  deinit {
    kill()
    if isOwn { try? FileManager.default.removeItem(atPath: folder) }
  }

  /// Starts it on the folder of its earlier life.
  public func start(waits: Bool = true) throws {
    guard isOwn, process == nil else { return }
    guard let starter = RunningEngine.starter else { throw SocketFailure(description: RunningEngine.why) }
    try? FileManager.default.removeItem(atPath: folder + "/url")
    let made = Process()
    made.executableURL = URL(filePath: starter)
    made.arguments =
      [kind.rawValue, "--dir", folder, "--port", String(port)] + settings.flatMap { ["--setting", $0] }
    made.standardInput = FileHandle.nullDevice
    _ = FileManager.default.createFile(atPath: folder + "/output", contents: nil)
    let output = try FileHandle(forWritingTo: URL(filePath: folder + "/output"))
    made.standardOutput = output
    made.standardError = output
    try made.run()
    process = made
    if waits { try awaitReady() }
  }

  public func awaitReady() throws {
    let isReady = waitUntil(seconds: 120) { access(folder + "/url", R_OK) == 0 || process?.isRunning != true }
    guard isReady, process?.isRunning == true else {
      let text = (try? String(contentsOfFile: folder + "/output", encoding: .utf8)) ?? ""
      throw SocketFailure(description: "the engine does not start:\n\(text.suffix(4000))")
    }
  }

  /// Ends it as a power cut does. The script that starts it becomes the engine, so its id is the engine's.
  public func kill() {
    guard let process else { return }
    Glibc.kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    self.process = nil
  }

  /// Makes it hang, or go on.
  public func suspend() { process.map { _ = Glibc.kill($0.processIdentifier, SIGSTOP) } }
  public func resume() { process.map { _ = Glibc.kill($0.processIdentifier, SIGCONT) } }

  /// A folder that it may keep snapshots in.
  public var repositoryFolder: String { folder + "/repo" }

  @discardableResult
  public func request(_ method: String, _ path: String, _ body: String? = nil) throws -> Answer {
    let curl = Process()
    curl.executableURL = URL(filePath: "/usr/bin/env")
    curl.arguments =
      ["curl", "-sS", "-m", "60", "-w", "\n%{http_code}"] + (method == "HEAD" ? ["-I"] : ["-X", method])
      + (body.map { ["-H", "Content-Type: application/json", "--data-binary", $0] } ?? []) + [address + path]
    let pipe = Pipe()
    curl.standardOutput = pipe
    curl.standardError = FileHandle.nullDevice
    try curl.run()
    let all = pipe.fileHandleForReading.readDataToEndOfFile()
    curl.waitUntilExit()
    guard let end = all.lastIndex(of: 10), let status = Int(String(decoding: all[(end + 1)...], as: UTF8.self)),
      status > 0
    else { throw SocketFailure(description: "no answer to \(method) \(path)") }
    return Answer(status: status, body: Data(all[..<end]))
  }

  /// Documents of an index that match a query of Lucene's syntax; everything that was written counts. (A star alone asks
  /// for the fields that the index searches by default, `*:*` for all documents.)
  public func count(_ index: String, _ query: String = "*:*") throws -> Int {
    try request("POST", "/\(index)/_refresh")
    let wanted = query.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
    let answer = try request("GET", "/\(index)/_count?q=\(wanted)")
    guard let count = answer.json["count"] as? Int else {
      throw SocketFailure(description: "no count of \(index): \(answer.text.prefix(500))")
    }
    return count
  }
}

/// A port that nobody listens on now.
public func freePort() throws -> Int {
  let fd = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
  defer { close(fd) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  let port: UInt16? = withUnsafeMutablePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      guard bind(fd, $0, length) == 0, getsockname(fd, $0, &length) == 0 else { return nil }
      return $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
    }
  }
  guard let port else { throw SocketFailure(description: "no free port") }
  return Int(port)
}
