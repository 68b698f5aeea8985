//  Signals, waited for instead of handled: blocked in every thread, taken by the main one.

internal import CSystem
internal import Diagnostics
internal import Glibc

/// Blocks the daemon's signals for all threads that start from now on; `early_signals.c` has done so already where the
/// program was started as `sluice run`.
struct SignalWaiter {
  private var set = sigset_t()

  init() {
    signal(SIGPIPE, SIG_IGN)
    sigemptyset(&set)
    for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// The next signal; 0 when `limit` has passed.
  func wait(atMost limit: Duration) -> CInt {
    var set = self.set
    var time = timespec(tv_sec: Int(limit.ns / 1_000_000_000), tv_nsec: Int(limit.ns % 1_000_000_000))
    let number = sigtimedwait(&set, nil, &time)
    return number < 0 ? 0 : number
  }

  /// From now on TERM and INT end the process at once.
  func exitOnNext() {
    var ending = sigset_t()
    sigemptyset(&ending)
    for number in [SIGTERM, SIGINT] { sigaddset(&ending, number) }
    signal(SIGTERM, SIG_DFL)
    signal(SIGINT, SIG_DFL)
    pthread_sigmask(SIG_UNBLOCK, &ending, nil)
  }
}

/// What systemd is told; nothing where it did not start the process.
enum ServiceManager {
  static func notify(_ text: String) {
    guard let path = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }), !path.isEmpty else { return }
    let bytes = Array(text.utf8)
    if sys_notify(path, bytes, bytes.count) != 0 {
      Log.warn(
        "daemon.notify-failed", "systemd could not be told.", ["reason": .text(String(cString: strerror(errno)))])
    }
  }

  /// Half of the watchdog's time; nil without one.
  static let watchdogInterval: Duration? = {
    guard let text = getenv("WATCHDOG_USEC"), let usec = Int64(String(cString: text)), usec > 0 else { return nil }
    return .microseconds(usec / 2)
  }()
}
