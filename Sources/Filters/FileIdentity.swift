//  Which file lies at a path, to tell whether it was replaced or written since.

internal import Glibc

struct FileIdentity: Equatable {
  private var inode: UInt64
  private var size: Int
  private var modified: Int64

  /// nil where there is no such file.
  init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    inode = UInt64(status.st_ino)
    size = Int(status.st_size)
    modified = Int64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_mtim.tv_nsec)
  }
}
