//  Writing to standard output, standard error and pipes: all of it, or until nobody reads.

internal import Glibc

/// Writes all bytes; waits where a pipe that does not block is full.
///
/// - Returns: False where the other end is closed or the disk takes no more.
@discardableResult
public func writeAll(_ bytes: UnsafeRawBufferPointer, to descriptor: CInt) -> Bool {
  var done = 0
  while done < bytes.count {
    let n = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
    if n > 0 {
      done += n
    } else if n < 0, errno == EAGAIN {
      var place = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      _ = poll(&place, 1, 1000)
    } else if n == 0 || errno != EINTR {
      return false
    }
  }
  return true
}

/// Prints a line on standard error.
public func writeError(_ text: String) {
  var line = text + "\n"
  line.withUTF8 { _ = writeAll(UnsafeRawBufferPointer($0), to: 2) }
}
