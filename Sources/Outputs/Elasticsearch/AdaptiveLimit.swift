//  How many requests may be under way. It grows while answers take no longer than before, and halves when the server asks
//  for less or does not answer in time.

internal import Diagnostics

struct AdaptiveLimit: Sendable {
  private(set) var value: Int
  let most: Int
  private var successes = 0
  /// Nanoseconds: the shortest answers of late, the present ones, and the usual body's bytes.
  private var shortest = Double.infinity
  private var present = 0.0
  private var usualBytes = 0.0

  init(most: Int, first: Int = 4) {
    self.most = most
    value = min(first, most)
  }

  /// What an answer takes at present; zero before the first.
  var latency: Duration { .nanoseconds(Int64(present)) }

  /// A request of `bytes` was taken after `latency`.
  mutating func succeeded(after latency: Duration, bytes: Int) {
    let usual = Double(bytes) >= usualBytes / 2
    usualBytes = usualBytes == 0 ? Double(bytes) : usualBytes * 0.9 + Double(bytes) * 0.1
    // Small bodies are answered faster and say nothing of the load.
    if usual {
      let ns = Double(latency.ns)
      present = present == 0 ? ns : present * 0.7 + ns * 0.3
      shortest = min(shortest * 1.01, ns)
    }
    successes += 1
    guard successes >= value else { return }
    successes = 0
    if present <= shortest * 2 + 10_000_000 { value = min(value + 1, most) }
  }

  mutating func overloaded() {
    value = max(1, value / 2)
    successes = 0
  }
}
