//  Looking now and then whether a file changed. Workers ask once per batch, and one of them is told to look; what it
//  starts runs on a queue of its own, so that no batch waits for a file.

internal import Diagnostics
internal import Dispatch
internal import Synchronization

/// Runs a check every few seconds, driven by the batches that pass. Any thread may call it.
final class PeriodicCheck: Sendable {
  static let interval: Duration = .seconds(5)

  private let interval: Duration
  private let due: Atomic<Int64>
  private let check: @Sendable () -> Void

  init(every interval: Duration = PeriodicCheck.interval, _ check: @escaping @Sendable () -> Void) {
    self.interval = interval
    due = Atomic(Instant.now.ns + interval.ns)
    self.check = check
  }

  func poll() {
    let now = Instant.now.ns
    let due = due.load(ordering: .relaxed)
    guard now >= due else { return }
    let (isMine, _) = self.due.compareExchange(
      expected: due, desired: now + interval.ns, ordering: .acquiringAndReleasing)
    if isMine { DispatchQueue.global(qos: .utility).async(execute: DispatchWorkItem(block: check)) }
  }
}
