//  Cuts long texts out of an answer while it arrives. A server quotes the values that it refuses, up to three times over,
//  so that the answer to a request may be larger than the request; what is read of it stays bounded, and sound JSON.

internal import Diagnostics

/// Copies JSON as it comes, and leaves out what a text has beyond `limit` bytes. One answer's state; not thread-safe.
struct AnswerCutter {
  let limit: Int
  private var isInText = false
  private var isEscaped = false
  /// Digits of a `\u` escape that are still to come.
  private var digitsLeft = 0
  private var length = 0
  private var isDropping = false

  init(limit: Int) { self.limit = limit }

  mutating func append(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    guard let start = bytes.baseAddress else { return }
    var run = 0
    for i in 0..<bytes.count {
      let byte = bytes[i]
      guard isInText else {
        isInText = byte == 34
        length = 0
        continue
      }
      if isEscaped {
        isEscaped = false
        if byte == 117 { digitsLeft = 4 }
      } else if byte == 34 {
        isInText = false
        if isDropping { run = i }
        isDropping = false
        continue
      } else {
        // A place between two characters.
        if length >= limit, !isDropping, digitsLeft == 0, byte & 0xc0 != 0x80 {
          out.append(start + run, i - run)
          isDropping = true
        }
        if digitsLeft > 0 { digitsLeft -= 1 }
        isEscaped = byte == 92
      }
      length += 1
    }
    if !isDropping { out.append(start + run, bytes.count - run) }
  }
}
