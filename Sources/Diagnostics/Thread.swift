//  Threads of the daemon: detached, named, with a stack that deep documents fit on.

internal import CSystem

/// Starts a detached thread.
///
/// - Parameters:
///   - name: Shown by ps and top; at most 15 bytes count.
///   - body: Runs on the thread, which ends when it returns.
public func startThread(_ name: String, stackBytes: Int = 8 << 20, _ body: @escaping @Sendable () -> Void) {
  let context = Unmanaged.passRetained(ThreadBody(body))
  let code = sys_start_thread(
    name, stackBytes,
    { argument in
      guard let argument else { return }
      Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body()
    }, context.toOpaque())
  if code != 0 {
    context.release()
    Log.error(
      "daemon.no-thread", "The system gives no more threads.",
      ["thread": .text(name), "reason": .text(SystemError(code, call: "pthread_create").reason)])
  }
}

private final class ThreadBody {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
