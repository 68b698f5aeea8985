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

enum BulkAction: String, Sendable { case index, create, update, delete }

/// A request body and its documents. Filled by one worker, then owned by the sender.
final class BulkRequest: @unchecked Sendable {  // unchecked: one owner at a time, handed over under a lock
  struct Document {
    var action = BulkAction.create
    /// Where the action line and the next action line start.
    var start: Int
    var end: Int
    /// Where the event's JSON lies: in the body, or for a deletion in `unsent`.
    var eventStart: Int
    var eventEnd: Int
    var record: Int
    /// Which of its record's events it is.
    var part = 0
    /// How often it has been answered.
    var attempts = 0
    /// Of them, with 500, 502 or 504.
    var serverErrors = 0
    /// How many of its fields were cured of a mapping conflict.
    var cures = 0
    /// Since when every answer was 403.
    var forbiddenSince: Instant?
  }

  var body: ByteBuffer
  var documents: [Document] = []
  /// Events of deletions, which are not sent but may become dead letters.
  var unsent = ByteBuffer()
  let delivery: Delivery
  var notBefore = Instant(ns: 0)
  /// Failures in a row, for the pauses between attempts.
  var refusals = 0
  /// Whether a server may have taken the documents without our knowing: its answer was lost.
  var mayBeThere = false
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
    counted = body.capacity + unsent.capacity
    let bytes = counted
    flow.withLock { $0.bytes += bytes }
  }

  /// A request of its own with one more document of `other`.
  func take(_ document: Document, from other: BulkRequest) {
    let shift = body.count - document.start
    body.append(UnsafeRawPointer(other.body.pointer + document.start), document.end - document.start)
    var moved = document
    moved.start += shift
    moved.end += shift
    if document.action == .delete {
      moved.eventStart = unsent.count
      unsent.append(other.json(document))
      moved.eventEnd = unsent.count
    } else {
      moved.eventStart += shift
      moved.eventEnd += shift
    }
    documents.append(moved)
  }

  /// A request of its own with one more document of `other`, whose event has other JSON now.
  func take(_ document: Document, from other: BulkRequest, json: [UInt8]) {
    var moved = document
    moved.start = body.count
    body.append(UnsafeRawPointer(other.body.pointer + document.start), document.eventStart - document.start)
    moved.eventStart = body.count
    body.append(contentsOf: json)
    moved.eventEnd = body.count
    body.append(10)
    moved.end = body.count
    documents.append(moved)
  }

  /// A counted request of its own with some of the documents.
  func copy(of chosen: some Collection<Document>) -> BulkRequest {
    let copy = BulkRequest(delivery, flow, capacity: chosen.reduce(0) { $0 + $1.end - $1.start })
    copy.refusals = refusals
    copy.mayBeThere = mayBeThere
    copy.canSpill = canSpill
    for document in chosen { copy.take(document, from: self) }
    copy.count()
    return copy
  }

  /// The event's JSON.
  func json(_ document: Document) -> UnsafeRawBufferPointer {
    let base = document.action == .delete ? unsent.pointer : body.pointer
    return UnsafeRawBufferPointer(
      start: base + document.eventStart, count: document.eventEnd - document.eventStart)
  }

  /// The line that names a document's target, without its line feed.
  func action(_ document: Document) -> UnsafeRawBufferPointer {
    let all = UnsafeRawBufferPointer(start: body.pointer + document.start, count: document.end - document.start)
    return UnsafeRawBufferPointer(rebasing: all.prefix { $0 != 10 })
  }

  /// The line behind it, without its line feed; empty for a deletion.
  func line(_ document: Document) -> UnsafeRawBufferPointer {
    let all = UnsafeRawBufferPointer(start: body.pointer + document.start, count: document.end - document.start)
    return UnsafeRawBufferPointer(rebasing: all.dropFirst(action(document).count + 1).dropLast())
  }

  /// Where a document was sent to, read from its action line.
  func target(_ document: Document) -> (index: String, id: String?) {
    let batch = EventBatch()
    defer { withExtendedLifetime(batch) {} }
    let action = (try? batch.add(arrivalNs: 0).parseJSON(action(document)))?.first
    return (action?["_index"]?.string ?? "", action?["_id"]?.string)
  }
}
