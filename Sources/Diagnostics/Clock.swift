//  The two clocks: a monotonic one for durations and deadlines, the wall clock for events and logs.

internal import CSystem
internal import Glibc

/// A moment of the monotonic clock, for deadlines and durations.
public struct Instant: Comparable, Hashable, Sendable {
  /// Nanoseconds since an arbitrary start.
  public var ns: Int64

  public init(ns: Int64) { self.ns = ns }

  public static var now: Instant {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Instant(ns: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }

  /// CPU time that the calling thread has used; differences of it are what work costs on a busy machine too.
  public static var threadCPU: Instant {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Instant(ns: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }

  public static func < (left: Instant, right: Instant) -> Bool { left.ns < right.ns }
  public static func - (left: Instant, right: Instant) -> Duration { .nanoseconds(left.ns - right.ns) }
  public static func + (left: Instant, right: Duration) -> Instant { Instant(ns: left.ns + right.ns) }
}

extension Duration {
  /// This duration in whole nanoseconds; durations above 292 years are cut.
  public var ns: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? (seconds < 0 ? .min : .max) : product &+ attoseconds / 1_000_000_000
  }
}

/// Lets `duration` pass, where there is nothing to wait for but time. A signal ends it: one that the program handles the
/// wait alone, any other the program.
public func waitOut(_ duration: Duration) { poll(nil, 0, CInt(clamping: duration.ns / 1_000_000)) }

public enum WallClock {
  /// Nanoseconds since 1970-01-01T00:00:00Z.
  public static var ns: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}

/// CPU time of this process so far, user and system together, in nanoseconds.
public func processCPUTime() -> Int64 { sys_cpu_ns() }
