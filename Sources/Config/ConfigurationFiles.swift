//  Files of a configuration: bounded reading, and which files of a folder are pipelines.

internal import CSystem
public import Diagnostics
internal import Glibc

/// Reads a whole file of at most `limit` bytes.
///
/// - Throws: `EFBIG` for a larger file, else what the system said.
func readFile(_ path: String, limit: Int) throws(SystemError) -> [UInt8] {
  if path.utf8.contains(0) { throw SystemError(EINVAL, call: "open") }
  let file = try systemCall("open") { open(path, O_RDONLY | O_CLOEXEC) }
  defer { close(file) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 64 << 10)
  while true {
    let count = try systemCall("read") { chunk.withUnsafeMutableBytes { read(file, $0.baseAddress, $0.count) } }
    if count == 0 { return bytes }
    bytes += chunk.prefix(count)
    if bytes.count > limit { throw SystemError(EFBIG, call: "read") }
  }
}

extension YAML {
  /// Reads and parses a file.
  ///
  /// - Returns: As `parse`; nil where the file cannot be read, which is told to `problems`.
  public static func load(_ path: String, problems: Problems, limits: Limits = Limits()) -> YAMLNode? {
    do {
      return parse(try readFile(path, limit: limits.bytes), file: path, problems: problems, limits: limits)
    } catch {
      problems.error(
        SourcePosition(file: path), "the file cannot be read: \(error.reason)", code: "config.unreadable-file")
      return nil
    }
  }
}

/// The pipelines of a folder: `*.yml` and `*.yaml` without a leading dot, in order of name.
///
/// - Returns: Their paths, each below `folder`.
/// - Throws: Where the folder cannot be read.
public func pipelineFiles(in folder: String) throws(SystemError) -> [String] {
  guard let directory = opendir(folder) else { throw SystemError(errno, call: "opendir") }
  defer { closedir(directory) }
  var names: [String] = []
  while let entry = readdir(directory) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
      String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
    }
    if !name.hasPrefix("."), name.hasSuffix(".yml") || name.hasSuffix(".yaml") { names.append(name) }
  }
  let prefix = folder.hasSuffix("/") ? folder : folder + "/"
  return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }.map { prefix + $0 }.filter { path in
    var status = stat()
    // A file that cannot be looked at is kept, so that reading it reports why.
    return stat(path, &status) != 0 || sys_is_directory(status.st_mode) == 0
  }
}
