//  Documents that were encoded before and are sent once more: dead letters that are replayed as they were.

internal import Diagnostics
internal import Events
internal import PluginKit

extension BulkOutput {
  func write(_ events: [EncodedEvent], delivery: Delivery) {
    guard !events.isEmpty else { return }
    delivery.expect(events.count)
    figures.eventsIn.add(events.count)
    figures.inFlight.add(events.count)
    var request = BulkRequest(delivery, flow, capacity: 64 << 10)
    for event in events {
      if !request.documents.isEmpty, request.body.count + event.document.count + 1024 > plan.bulkMaxBytes {
        queue(request)
        request = BulkRequest(delivery, flow, capacity: 64 << 10)
      }
      let start = request.body.count
      request.body.append(plan.isCreate ? "{\"create\":{\"_index\":" : "{\"index\":{\"_index\":")
      request.body.append(quoted: event.index)
      if let id = event.documentID {
        request.body.append(",\"_id\":")
        request.body.append(quoted: id)
      }
      request.body.append("}}\n")
      let documentStart = request.body.count
      request.body.append(contentsOf: event.document)
      request.body.append(10)
      request.documents.append(
        BulkRequest.Document(
          start: start, documentStart: documentStart, end: request.body.count, record: event.record, part: event.part))
    }
    queue(request)
  }
}
