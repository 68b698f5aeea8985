//  The disk as queues and dead letters see it. Everything they do to files goes through these two protocols, so that a
//  test can stop the world at any call, tear a write or refuse a sync.

internal import CSystem
public import Diagnostics
internal import Glibc

/// A folder's worth of disk. Safe to use from several threads.
public protocol FileSystem: Sendable {
  /// Creates the folder and those above it; nothing happens where it exists.
  func createFolder(_ path: String) throws(SystemError)
  /// Names of the files in a folder, in no order, without folders.
  func list(_ folder: String) throws(SystemError) -> [String]
  func open(_ path: String, _ mode: FileMode) throws(SystemError) -> any QueueFile
  /// Replaces `to` where it exists. Lasting once the folder is synced.
  func rename(_ from: String, _ to: String) throws(SystemError)
  func remove(_ path: String) throws(SystemError)
  /// Makes created, renamed and removed names of a folder lasting.
  func syncFolder(_ path: String) throws(SystemError)
  /// Free bytes for us on the file system of `folder`.
  func freeBytes(_ folder: String) throws(SystemError) -> Int
  /// Takes the lock file or throws `EWOULDBLOCK`; held until the result goes away.
  func lock(_ path: String) throws(SystemError) -> any FileLock
}

public enum FileMode: Sendable {
  case read
  case readWrite
  /// Read and write; made (mode 0640) where it does not exist.
  case create
}

/// A lock that goes with its object.
public protocol FileLock: AnyObject, Sendable {}

/// An open file. Reads may run beside writes; writes have one owner. Closed when the object goes away.
public protocol QueueFile: AnyObject, Sendable {
  /// - Returns: The bytes read: fewer than asked for, 0 at the end of the file.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int
  /// - Returns: The bytes written, possibly fewer than asked for.
  func write(_ buffers: [UnsafeRawBufferPointer], at offset: Int) throws(SystemError) -> Int
  /// Returns once what was written is on the disk.
  func sync() throws(SystemError)
  /// Lets the disk begin with these bytes, which a later `sync` waits for. A hint.
  func startWriteback(at offset: Int, count: Int)
  func size() throws(SystemError) -> Int
  func truncate(to size: Int) throws(SystemError)
}

extension QueueFile {
  /// Reads until `buffer` is full or the file ends.
  func readFully(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int {
    var done = 0
    while done < buffer.count {
      let count = try read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[done...]), at: offset + done)
      if count <= 0 { break }
      done += count
    }
    return done
  }

  /// Writes all of `buffers`. After an error any part of them may be in the file.
  func writeFully(_ buffers: [UnsafeRawBufferPointer], at offset: Int) throws(SystemError) {
    var rest = buffers.filter { !$0.isEmpty }
    var offset = offset
    while !rest.isEmpty {
      var count = try write(rest, at: offset)
      if count <= 0 { throw SystemError(EIO, call: "pwritev") }
      offset += count
      var whole = 0
      while whole < rest.count, count >= rest[whole].count {
        count -= rest[whole].count
        whole += 1
      }
      rest.removeFirst(whole)
      if count > 0, let first = rest.first { rest[0] = UnsafeRawBufferPointer(rebasing: first[count...]) }
    }
  }

  func writeFully(_ bytes: [UInt8], at offset: Int) throws(SystemError) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
    defer { copy.deallocate() }
    copy.copyBytes(from: bytes)
    try writeFully([UnsafeRawBufferPointer(copy)], at: offset)
  }

  func readAll(limit: Int) throws(SystemError) -> [UInt8] {
    let count = min(try size(), limit)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
    defer { buffer.deallocate() }
    let read = try readFully(into: buffer, at: 0)
    return Array(UnsafeRawBufferPointer(buffer)[..<read])
  }
}

/// The machine's own disk.
public struct RealFileSystem: FileSystem {
  public init() {}

  public func createFolder(_ path: String) throws(SystemError) {
    if mkdir(path, 0o750) == 0 { return }
    let code = errno
    if code == ENOENT, let slash = path.lastIndex(of: "/"), slash > path.startIndex {
      try createFolder(String(path[..<slash]))
      if mkdir(path, 0o750) == 0 { return }
      if errno != EEXIST { throw SystemError(errno, call: "mkdir") }
    } else if code != EEXIST {
      throw SystemError(code, call: "mkdir")
    }
    var status = stat()
    if stat(path, &status) != 0 { throw SystemError(errno, call: "stat") }
    if sys_is_directory(status.st_mode) == 0 { throw SystemError(ENOTDIR, call: "mkdir") }
  }

  public func list(_ folder: String) throws(SystemError) -> [String] {
    guard let directory = opendir(folder) else { throw SystemError(errno, call: "opendir") }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name == "." || name == ".." || Int(entry.pointee.d_type) == Int(DT_DIR) { continue }
      names.append(name)
    }
    return names
  }

  public func open(_ path: String, _ mode: FileMode) throws(SystemError) -> any QueueFile {
    let flags: CInt =
      switch mode {
      case .read: O_RDONLY | O_CLOEXEC
      case .readWrite: O_RDWR | O_CLOEXEC
      case .create: O_RDWR | O_CREAT | O_CLOEXEC
      }
    return RealFile(try systemCall("open", { Glibc.open(path, flags, 0o640) }))
  }

  public func rename(_ from: String, _ to: String) throws(SystemError) {
    try systemCall("rename", { Glibc.rename(from, to) })
  }

  public func remove(_ path: String) throws(SystemError) { try systemCall("unlink", { unlink(path) }) }

  public func syncFolder(_ path: String) throws(SystemError) {
    let fd = try systemCall("open", { Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) })
    defer { close(fd) }
    try systemCall("fsync", { fsync(fd) })
  }

  public func freeBytes(_ folder: String) throws(SystemError) -> Int {
    Int(try systemCall("statvfs", { sys_free_bytes(folder) }))
  }

  public func lock(_ path: String) throws(SystemError) -> any FileLock {
    let fd = try systemCall("open", { Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640) })
    if flock(fd, LOCK_EX | LOCK_NB) != 0 {
      let code = errno
      close(fd)
      throw SystemError(code, call: "flock")
    }
    return RealLock(fd)
  }
}

private final class RealLock: FileLock {
  private let fd: CInt
  init(_ fd: CInt) { self.fd = fd }
  deinit { close(fd) }
}

private final class RealFile: QueueFile {
  private let fd: CInt
  init(_ fd: CInt) { self.fd = fd }
  deinit { close(fd) }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int {
    try systemCall("pread", { pread(fd, buffer.baseAddress, buffer.count, offset) })
  }

  func write(_ buffers: [UnsafeRawBufferPointer], at offset: Int) throws(SystemError) -> Int {
    if buffers.count == 1 {
      return try systemCall("pwrite", { pwrite(fd, buffers[0].baseAddress, buffers[0].count, offset) })
    }
    // The kernel takes 1024 pieces at a time; the caller comes again with the rest.
    let pieces = buffers.prefix(1024).map {
      iovec(iov_base: UnsafeMutableRawPointer(mutating: $0.baseAddress), iov_len: $0.count)
    }
    return try systemCall("pwritev", { pwritev(fd, pieces, CInt(pieces.count), offset) })
  }

  func sync() throws(SystemError) { try systemCall("fdatasync", { fdatasync(fd) }) }
  func startWriteback(at offset: Int, count: Int) { _ = sys_sync_file_range(fd, offset, count) }

  func size() throws(SystemError) -> Int {
    var status = stat()
    try systemCall("fstat", { fstat(fd, &status) })
    return Int(status.st_size)
  }

  func truncate(to size: Int) throws(SystemError) { try systemCall("ftruncate", { ftruncate(fd, size) }) }
}
