//  A failed system call: its name and its `errno`.

internal import Glibc

/// A system call that failed.
public struct SystemError: Error, Equatable, CustomStringConvertible, Sendable {
  public let code: CInt
  public let call: String

  public init(_ code: CInt, call: String) {
    self.code = code
    self.call = call
  }

  public var description: String { "\(call): \(reason)" }

  /// The system's words for `code`.
  public var reason: String { String(cString: strerror(code)) }
}

/// Calls `body` again while a signal interrupts it.
///
/// - Returns: What `body` returned, when it was not -1.
/// - Throws: The `errno` that it left.
@discardableResult
public func systemCall<Result: FixedWidthInteger & SignedInteger>(
  _ name: @autoclosure () -> String, _ body: () -> Result
) throws(SystemError) -> Result {
  while true {
    let result = body()
    if result != -1 { return result }
    let code = errno
    if code != EINTR { throw SystemError(code, call: name()) }
  }
}
