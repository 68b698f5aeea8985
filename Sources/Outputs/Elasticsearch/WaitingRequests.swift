//  Requests that wait for their time: a heap, so that a long list of them costs no scan at each turn of the sender.

internal import Diagnostics

struct WaitingRequests {
  private var heap: [BulkRequest] = []

  var isEmpty: Bool { heap.isEmpty }
  var count: Int { heap.count }
  /// When the first of them is due.
  var nextDue: Instant? { heap.first?.notBefore }

  mutating func add(_ request: BulkRequest) {
    heap.append(request)
    var i = heap.count - 1
    while i > 0, heap[i].notBefore < heap[(i - 1) / 2].notBefore {
      heap.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  /// The first request, if it is due.
  mutating func popDue(_ now: Instant) -> BulkRequest? {
    guard let first = heap.first, first.notBefore <= now, let last = heap.popLast() else { return nil }
    if heap.isEmpty { return first }
    heap[0] = last
    var i = 0
    while true {
      var least = i
      for child in [2 * i + 1, 2 * i + 2] where child < heap.count && heap[child].notBefore < heap[least].notBefore {
        least = child
      }
      if least == i { return first }
      heap.swapAt(i, least)
      i = least
    }
  }

  /// Takes out the requests for which `condition` holds, the first due first.
  mutating func take(where condition: (BulkRequest) -> Bool) -> [BulkRequest] {
    let all = heap
    heap.removeAll(keepingCapacity: true)
    var taken: [BulkRequest] = []
    for request in all { if condition(request) { taken.append(request) } else { add(request) } }
    return taken.sorted { $0.notBefore < $1.notBefore }
  }

  mutating func removeAll() { heap.removeAll() }
}
