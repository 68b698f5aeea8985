//  One bulk request: its bytes, and where each document lies within them.

internal import Diagnostics
internal import Events
internal import PluginKit

/// The bytes that are in flight, and whether the output is to end.
struct BulkFlow {
  var overflow: (any Overflow)?
  var bytes = 0
  var arrivals: [BulkRequest] = []
  var isStopping = false
  var deadline = Instant(ns: .max)
  var hasEnded = false
}

/// A request body and its documents. Filled by one worker, then owned by the sender.
final class BulkRequest: @unchecked Sendable {  // unchecked: one owner at a time, handed over under a lock
  struct Document {
    /// Where the action line, the document and the next action line start.
    var start: Int
    var documentStart: Int
    var end: Int
    var record: Int
    /// Which of its record's events it is.
    var part = 0
    /// How often it has been answered.
    var attempts = 0
    /// Of them, with 500, 502 or 504.
    var serverErrors = 0
    /// Since when every answer was 403.
    var forbiddenSince: Instant?
  }

  var body: ByteBuffer
  var documents: [Document] = []
  let delivery: Delivery
  var notBefore = Instant(ns: 0)
  /// Failures in a row, for the pauses between attempts.
  var refusals = 0
  var connectionFailures = 0
  /// It may go to the overflow queue; what comes from there, or is a replayed letter, lies on disk already.
  var canSpill = false
  private let flow: Gate<BulkFlow>
  private var counted = 0

  init(_ delivery: Delivery, _ flow: Gate<BulkFlow>, capacity: Int) {
    body = ByteBuffer(capacity: capacity)
    self.delivery = delivery
    self.flow = flow
  }

  deinit {
    let bytes = counted
    if bytes > 0 { flow.update { $0.bytes -= bytes } }
  }

  /// Counts the body's memory as in flight, until the request goes away.
  func count() {
    counted = body.capacity
    let bytes = counted
    flow.withLock { $0.bytes += bytes }
  }

  /// A counted request of its own with some of the documents.
  func copy(of chosen: some Collection<Document>) -> BulkRequest {
    let copy = BulkRequest(delivery, flow, capacity: chosen.reduce(0) { $0 + $1.end - $1.start })
    copy.refusals = refusals
    copy.canSpill = canSpill
    for document in chosen {
      let shift = copy.body.count - document.start
      copy.body.append(UnsafeRawPointer(body.pointer + document.start), document.end - document.start)
      var moved = document
      moved.start += shift
      moved.documentStart += shift
      moved.end += shift
      copy.documents.append(moved)
    }
    copy.count()
    return copy
  }

  /// The JSON of a document, without the line feed behind it.
  func json(_ document: Document) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: body.pointer + document.documentStart, count: document.end - 1 - document.documentStart)
  }

  /// The line that names a document's target, without its line feed.
  func action(_ document: Document) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: body.pointer + document.start, count: document.documentStart - 1 - document.start)
  }

  /// Where a document was sent to, read from its action line.
  func target(_ document: Document) -> (index: String, id: String?) {
    let batch = EventBatch()
    let line = UnsafeRawBufferPointer(
      start: body.pointer + document.start, count: document.documentStart - document.start)
    let action = (try? batch.add(arrivalNs: 0).parseJSON(line))?.first
    return (action?["_index"]?.string ?? "", action?["_id"]?.string)
  }
}
