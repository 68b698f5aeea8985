//  What a plugin may use of the world, so that none opens a file or a name by accident.

public import Diagnostics
internal import Glibc

/// Files and names for plugins. Pure where `resolves` is false: `sluice check` builds plugins without touching files.
public final class Services: Sendable {
  /// False while a configuration is only checked.
  public let resolves: Bool
  /// Relative paths of options start here: the folder of the pipeline's file.
  public let folder: String
  /// Where the daemon keeps its data.
  public let dataFolder: String
  /// Where the configuration lies, for files that ship with it.
  public let configFolder: String
  /// The keys with which queues and dead letters of any pipeline may be encrypted.
  public let storageKeys: @Sendable () -> [[UInt8]]

  public init(
    resolves: Bool, folder: String, dataFolder: String, configFolder: String,
    storageKeys: @escaping @Sendable () -> [[UInt8]] = { [] }
  ) {
    self.storageKeys = storageKeys
    self.resolves = resolves
    self.folder = folder
    self.dataFolder = dataFolder
    self.configFolder = configFolder
  }

  /// The place that a path option names.
  public func path(_ text: String) -> String {
    text.hasPrefix("/") ? text : folder + "/" + text
  }

  /// The whole of a file, up to `limitBytes`.
  ///
  /// - Throws: `SystemError`; `EFBIG` for a larger file.
  public func read(_ path: String, limitBytes: Int = 64 << 20) throws(SystemError) -> [UInt8] {
    try readFile(self.path(path), limitBytes: limitBytes)
  }

  /// Replaces a file as a whole: readers and a crash see the old content or the new one. Its folder is made.
  public func write(_ path: String, _ bytes: UnsafeRawBufferPointer) throws(SystemError) {
    let path = self.path(path)
    let temporary = path + ".new"
    if let end = path.lastIndex(of: "/") { mkdir(String(path[..<end]), 0o750) }
    let descriptor = try systemCall("open \(temporary)") {
      open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
    }
    defer { close(descriptor) }
    var offset = 0
    while offset < bytes.count {
      offset += try systemCall("write \(temporary)") {
        Glibc.write(descriptor, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
      }
    }
    try systemCall("sync \(temporary)") { fdatasync(descriptor) }
    try systemCall("rename \(temporary)") { rename(temporary, path) }
  }

  public func remove(_ path: String) throws(SystemError) {
    let path = self.path(path)
    try systemCall("unlink \(path)") { unlink(path) }
  }

  /// When a file was last changed (nanoseconds since 1970) and its size; nil when it is not there.
  public func stamp(_ path: String) -> (modifiedNs: Int64, bytes: Int64)? {
    var info = Glibc.stat()
    guard stat(self.path(path), &info) == 0 else { return nil }
    return (Int64(info.st_mtim.tv_sec) * 1_000_000_000 + Int64(info.st_mtim.tv_nsec), Int64(info.st_size))
  }
}

/// The whole of a file, up to `limitBytes`.
public func readFile(_ path: String, limitBytes: Int = 64 << 20) throws(SystemError) -> [UInt8] {
  let descriptor = try systemCall("open \(path)") { open(path, O_RDONLY | O_CLOEXEC) }
  defer { close(descriptor) }
  var info = Glibc.stat()
  try systemCall("stat \(path)") { fstat(descriptor, &info) }
  var bytes: [UInt8] = []
  var block = [UInt8](repeating: 0, count: min(max(Int(info.st_size) + 1, 4096), limitBytes + 1))
  while true {
    let n = try systemCall("read \(path)") { Glibc.read(descriptor, &block, block.count) }
    if n == 0 { return bytes }
    bytes.append(contentsOf: block[..<n])
    if bytes.count > limitBytes { throw SystemError(EFBIG, call: "read \(path)") }
  }
}
