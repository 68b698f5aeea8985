//  What the tests of the network inputs share: a sink that can be held back.

import Diagnostics
import Inputs
import Net
import Records
import TestSupport

/// One set of I/O queues for all tests of this target.
let testQueues = IOQueues(count: 2)

/// Keeps payloads in memory; answers at once, or when told to.
final class TestSink: RecordSink {
  enum Mode {
    case keep, hold, fail(AppendFailure)
    /// As `hold`, and what is held may be withdrawn.
    case full
  }
  struct Batch: Sendable { var payloads: [[UInt8]]; var context: String; var descriptor: String }
  private struct State {
    var mode = Mode.keep
    var batches: [Batch] = []
    var held: [(Batch, @Sendable (Result<Void, AppendFailure>) -> Void)] = []
    /// Beside `held`: the batch, where it may be withdrawn.
    var own: [RecordBatch?] = []
    var room = true
  }
  private let state = Gate(State())

  init(_ mode: Mode = .keep) { state.update { $0.mode = mode } }

  func append(_ batch: RecordBatch, completion: @escaping @Sendable (Result<Void, AppendFailure>) -> Void) {
    let copy = Batch(
      payloads: (0..<batch.count).map { batch.withPayload($0) { Array($0) } },
      context: batch.context.map { String(decoding: $0.bytes, as: UTF8.self) } ?? "",
      descriptor: String(decoding: batch.descriptor.bytes, as: UTF8.self))
    let result = state.update { state -> Result<Void, AppendFailure>? in
      switch state.mode {
      case .keep:
        state.batches.append(copy)
        return .success(())
      case .hold:
        state.held.append((copy, completion))
        state.own.append(nil)
        return nil
      case .full:
        state.held.append((copy, completion))
        state.own.append(batch)
        return nil
      case .fail(let failure): return .failure(failure)
      }
    }
    if let result { completion(result) }
  }

  func withdraw(_ batch: RecordBatch) -> Bool {
    state.update { state in
      guard let i = state.own.firstIndex(where: { $0 === batch }) else { return false }
      state.held.remove(at: i)
      state.own.remove(at: i)
      return true
    }
  }

  var hasRoom: Bool { state.withLock { $0.room } }
  func setRoom(_ room: Bool) { state.update { $0.room = room } }
  func setMode(_ mode: Mode) { state.update { $0.mode = mode } }

  var batches: [Batch] { state.withLock { $0.batches } }
  var payloads: [[UInt8]] { batches.flatMap(\.payloads) }
  var texts: [String] { payloads.map { String(decoding: $0, as: UTF8.self) } }
  var heldCount: Int { state.withLock { $0.held.count } }

  /// Waits until `count` records are kept; false after ten seconds.
  func waitForRecords(_ count: Int) -> Bool {
    state.wait(until: .now + .seconds(10)) { state in
      state.batches.reduce(0) { $0 + $1.payloads.count } >= count ? true : nil
    } ?? false
  }

  func waitForHeld(_ count: Int) -> Bool {
    state.wait(until: .now + .seconds(10)) { $0.held.count >= count ? true : nil } ?? false
  }

  /// Answers the held batch number `i`, counted among those still held.
  func release(_ i: Int = 0, _ result: Result<Void, AppendFailure> = .success(())) {
    let completion = state.update { state -> (@Sendable (Result<Void, AppendFailure>) -> Void)? in
      guard state.held.indices.contains(i) else { return nil }
      let (batch, completion) = state.held.remove(at: i)
      state.own.remove(at: i)
      if case .success = result { state.batches.append(batch) }
      return completion
    }
    completion?(result)
  }
}

/// Runs a server's stop and waits for its completion.
func waitForStop(_ stop: (@escaping @Sendable () -> Void) -> Void) -> Bool {
  let gate = Gate(false)
  stop { gate.update { $0 = true } }
  return gate.wait(until: .now + .seconds(10)) { $0 ? true : nil } ?? false
}

let testDescriptor = RecordDescriptor(Array("{\"codec\":\"plain\"}".utf8))
