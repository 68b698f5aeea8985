//  Requests that commands hand to the daemon through a folder: to replay letters or kept events, to remove letters.
//
//  A request is a file that is written beside its final name, synced, renamed and made lasting with its folder, so it is
//  there as a whole or not at all, whether or not the daemon runs. The daemon removes it once all of it is done; what a
//  crash leaves is done again, which repeats deliveries under the same ids.

public import Diagnostics
internal import Glibc

/// The folder of requests beside a queue or its dead letters. Safe to use from any thread and process.
public struct ReplayInbox: Sendable {
  public let folder: String
  private let fileSystem: any FileSystem
  /// The longest request; two million letters fit.
  public static let limitBytes = 64 << 20

  /// - Parameter owner: The folder that the requests are about.
  public init(of owner: String, fileSystem: any FileSystem = RealFileSystem()) {
    folder = owner + "/inbox"
    self.fileSystem = fileSystem
  }

  /// Hands a request over; it is lasting when this returns.
  ///
  /// - Parameter name: Sorts requests; must be new.
  public func hand(_ request: [UInt8], name: String) throws(SystemError) {
    try fileSystem.createFolder(folder)
    let written = "\(folder)/\(name).tmp"
    let file = try fileSystem.open(written, .create)
    try file.truncate(to: 0)
    try file.writeFully(request, at: 0)
    try file.sync()
    try fileSystem.rename(written, "\(folder)/\(name).request")
    try fileSystem.syncFolder(folder)
  }

  /// The names of what waits, oldest first.
  public func names() throws(SystemError) -> [String] {
    let all: [String]
    do { all = try fileSystem.list(folder) } catch {
      if error.code == ENOENT { return [] }
      throw error
    }
    return all.filter { $0.hasSuffix(".request") }.map { String($0.dropLast(8)) }.sorted()
  }

  public func read(_ name: String) throws(SystemError) -> [UInt8] {
    let file = try fileSystem.open("\(folder)/\(name).request", .read)
    guard try file.size() <= Self.limitBytes else { throw SystemError(EFBIG, call: "read") }
    return try file.readAll(limit: Self.limitBytes)
  }

  /// The request is done.
  public func remove(_ name: String) throws(SystemError) {
    try fileSystem.remove("\(folder)/\(name).request")
    try fileSystem.syncFolder(folder)
  }

  /// The request cannot be done: it stays as NAME.bad for the operator.
  public func setAside(_ name: String) throws(SystemError) {
    try fileSystem.rename("\(folder)/\(name).request", "\(folder)/\(name).bad")
    try fileSystem.syncFolder(folder)
  }
}
