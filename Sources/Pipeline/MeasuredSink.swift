//  The way from one input to the queue, with its figures: what was handed over, and how long that took.

package import Diagnostics
package import Records
internal import Synchronization

package final class MeasuredSink: RecordSink {
  private let sink: any RecordSink
  /// Records and batches that were handed over, those among them that wait or were refused.
  package let records = Counter()
  package let batches = Counter()
  private let waiting = Atomic<Int>(0)
  /// Ends minus beginnings, in nanoseconds: with those that wait added at the present moment it is the time of all.
  private let balance = Atomic<Int>(0)

  package init(_ sink: any RecordSink) { self.sink = sink }

  package func append(
    _ batch: RecordBatch, completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void
  ) {
    records.add(batch.count)
    batches.add()
    begin()
    sink.append(batch) { [self] result in
      end()
      completion(result)
    }
  }

  package func withdraw(_ batch: RecordBatch) -> Bool {
    guard sink.withdraw(batch) else { return false }
    end()
    return true
  }

  package var hasRoom: Bool { sink.hasRoom }

  private func begin() {
    balance.wrappingSubtract(Int(Instant.now.ns), ordering: .relaxed)
    waiting.wrappingAdd(1, ordering: .relaxed)
  }

  private func end() {
    waiting.wrappingSubtract(1, ordering: .relaxed)
    balance.wrappingAdd(Int(Instant.now.ns), ordering: .relaxed)
  }

  /// The time that batches have spent between input and queue, that of those that still wait included.
  package var waitedNs: Int {
    let now = Int(Instant.now.ns)
    return max(0, balance.load(ordering: .relaxed) &+ waiting.load(ordering: .relaxed) &* now)
  }
}
