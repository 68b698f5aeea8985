//  A cluster that takes nothing and a queue that is full: HTTP clients are told in time, and told the truth.

import Diagnostics
import Foundation
import TestSupport
import Testing

@Suite struct OverloadTests {
  @Test func `with a full queue every request is answered, and what is refused is never written`() throws {
    let isStuck = Lock(true)
    let cluster = try BulkEndpoint { _, _ in
      isStuck.withLock { $0 } ? .answer(429, #"{"error":{"type":"es_rejected_execution_exception"}}"#) : nil
    }
    defer { cluster.stop() }
    let folder = TemporaryFolder()
    let file = try folder.write(
      """
      pipeline: { id: small, workers: 1, queue: { max_bytes: 4mb, page_capacity: 1mb } }
      inputs:
        - http: { port: 0, queue_timeout: 200ms }
      outputs:
        - elasticsearch: { hosts: ['\(cluster.address)'], index: 'logs', retry_initial_interval: 1, retry_max_interval: 1 }
      """, to: "small.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file)
    let filler = String(repeating: "x", count: 100_000)
    var acknowledged: Set<Int> = []
    var refused: Set<Int> = []
    var number = 0
    while refused.count < 4, number < 200 {
      // Several at a time wait for the queue.
      let clients = try (0..<4).map { _ in try TestClient(port: daemon.port("http-1")) }
      for (i, client) in clients.enumerated() {
        let body = "{\"n\":\(number + i),\"filler\":\"\(filler)\"}"
        try client.send(
          "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
            + "Connection: close\r\n\r\n\(body)")
      }
      for (i, client) in clients.enumerated() {
        let answer = String(decoding: client.receiveAll(), as: UTF8.self)
        if answer.contains(" 200 ") {
          acknowledged.insert(number + i)
        } else {
          #expect(answer.contains(" 429 ") && answer.contains("Retry-After: "), "\(answer)")
          refused.insert(number + i)
        }
      }
      number += clients.count
    }
    #expect(refused.count >= 4 && acknowledged.count > 20)
    isStuck.withLock { $0 = false }
    #expect(waitUntil(seconds: 30) { cluster.documents.count >= acknowledged.count })
    #expect(daemon.stop() == 0)
    let arrived = try cluster.documents.values.map {
      try #require((try JSONSerialization.jsonObject(with: Data($0.source)) as? [String: Any])?["n"] as? Int)
    }
    #expect(Set(arrived) == acknowledged && arrived.count == acknowledged.count)
  }
}
