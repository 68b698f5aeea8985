//  Outputs without a pipeline: events made from JSON, ids that name them, and dead letters that are kept in memory.

import Config
import Diagnostics
import Events
import PluginKit

@testable import Outputs

final class KeptLetters: DeadLetterSink {
  struct Letter: Sendable {
    var reason: DeadLetterReason
    var document: String
  }
  private let kept = Lock<[Letter]>([])
  /// So many letters are refused first.
  private let refusals: Lock<Int>

  init(refusals: Int = 0) { self.refusals = Lock(refusals) }

  var all: [Letter] { kept.withLock { $0 } }

  func write(
    _ reason: DeadLetterReason, source: any SourceRecords, record: Int, document: UnsafeRawBufferPointer
  ) -> Bool {
    let isRefused = refusals.withLock { left in
      defer { left -= 1 }
      return left > 0
    }
    if isRefused { return false }
    kept.withLock { $0.append(Letter(reason: reason, document: String(decoding: document, as: UTF8.self))) }
    return true
  }
  func sync() -> Bool { true }
}

/// Ids that tell the batch and the record.
final class NumberedRecords: SourceRecords {
  private let batch: Int
  init(batch: Int) { self.batch = batch }
  func appendID(_ record: Int, to out: inout ByteBuffer) { out.append(text: "b\(batch)r\(record)") }
  func withPayload(_ record: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    body(UnsafeRawBufferPointer(start: nil, count: 0))
  }
  func arrivalNs(_ record: Int) -> Int64 { 0 }
  func isRecovered(_ record: Int) -> Bool { false }
}

func context(_ letters: any DeadLetterSink, folder: String = "/tmp") -> OutputContext {
  OutputContext(
    pipelineID: "test", stepID: "out", position: SourcePosition(file: "test.yml"), ecs: .disabled,
    services: Services(resolves: true, folder: folder, dataFolder: folder, configFolder: folder), deadLetters: letters)
}

/// Writes one batch; `isDone` becomes true once the output has answered for every event.
func write(_ documents: [String], batch number: Int = 0, to output: any Output) throws -> Lock<Bool> {
  let batch = EventBatch()
  var selection: [Int32] = []
  for (i, document) in documents.enumerated() {
    let made = try Array(document.utf8).withUnsafeBytes {
      try batch.add(json: $0, record: i, arrivalNs: 1_772_000_000_000_000_000)
    }
    guard let event = made else { continue }
    selection.append(event.index)
  }
  let isDone = Lock(false)
  let delivery = Delivery(source: NumberedRecords(batch: number)) { isDone.withLock { $0 = true } }
  selection.withUnsafeBufferPointer {
    output.write(OutputBatch(events: batch, selection: $0, delivery: delivery))
  }
  delivery.seal()
  return isDone
}

/// An `elasticsearch` output that waits no longer than tests like.
func started(
  _ endpoint: String, _ letters: KeptLetters, _ change: (inout Elasticsearch.Settings) -> Void = { _ in }
) throws -> any Output {
  var settings = Elasticsearch.Settings()
  settings.hosts = [WebAddress(endpoint)]
  settings.index = Template("logs-%{+yyyy.MM.dd}")
  settings.retryInitialInterval = .milliseconds(5)
  settings.retryMaxInterval = .milliseconds(20)
  change(&settings)
  let output = try Elasticsearch.make(settings, context(letters))
  try output.start()
  return output
}
