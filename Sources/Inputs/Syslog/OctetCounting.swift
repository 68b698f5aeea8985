//  Frames of syslog over TCP that say how long they are: `MSG-LEN SP SYSLOG-MSG` (RFC 6587 section 3.4.1). A stream may
//  mix them with lines, which begin with `<`.

internal import Diagnostics

enum OctetCount: Equatable {
  /// What stands there is a line.
  case none
  /// It may become a header when more has come.
  case incomplete
  /// A message of `length` bytes behind a header of `header` bytes.
  case frame(length: Int, header: Int)

  /// Longer numbers are no lengths.
  private static let digitsMax = 8

  init(_ bytes: UnsafeRawBufferPointer, at start: Int) {
    var length = 0
    var i = start
    while i < bytes.count, bytes[i] &- 48 < 10 {
      if i - start == OctetCount.digitsMax || (i == start && bytes[i] == 48) { break }
      length = length * 10 + Int(bytes[i] - 48)
      i += 1
    }
    if i == start {
      self = .none
    } else if i == bytes.count || (bytes[i] == 32 && i + 1 == bytes.count) {
      self = .incomplete
    } else if bytes[i] == 32, bytes[i + 1] == UInt8(ascii: "<") {
      self = .frame(length: length, header: i + 1 - start)
    } else {
      self = .none
    }
  }
}
