//  A shipper that keeps its windows until they are acknowledged, and sends them again over a new connection, as real ones
//  do.

import Diagnostics
import Glibc
import TestSupport

struct BeatsShipper {
  /// Events of windows that were acknowledged.
  private(set) var acknowledged = 0
  /// Windows that were sent more than once: their events may stand twice.
  private(set) var resent: Set<Int> = []
  let windows: [[[UInt8]]]
  let windowSize: Int
  private var next = 0

  init(_ payloads: [[UInt8]], windowSize: Int = 500) {
    self.windowSize = windowSize
    windows = stride(from: 0, to: payloads.count, by: windowSize).map {
      Array(payloads[$0..<min($0 + windowSize, payloads.count)])
    }
  }

  var isDone: Bool { next == windows.count }

  /// Sends window after window until all are acknowledged, `until` says so, or the connection ends.
  mutating func ship(to port: Int, until isOver: (_ acknowledged: Int) -> Bool) {
    guard let client = try? TestClient(port: port) else { return }
    var isFirst = true
    while next < windows.count, !isOver(acknowledged) {
      if isFirst, sent.contains(next) { resent.insert(next) }
      isFirst = false
      sent.insert(next)
      guard (try? client.send(BeatsShipper.frames(windows[next]))) != nil, awaitAcknowledgement(client) else { return }
      acknowledged += windows[next].count
      next += 1
    }
  }

  private var sent: Set<Int> = []

  private func awaitAcknowledgement(_ client: TestClient) -> Bool {
    while true {
      let answer = client.receive(exactly: 6)
      guard answer.count == 6, answer[0] == UInt8(ascii: "2"), answer[1] == UInt8(ascii: "A") else { return false }
      let number = answer[2...].reduce(0) { $0 << 8 | Int($1) }
      if number == windows[next].count { return true }
    }
  }

  static func frames(_ window: [[UInt8]]) -> [UInt8] {
    var bytes = Array("2W".utf8) + number(window.count)
    for (i, payload) in window.enumerated() {
      bytes += Array("2J".utf8) + number(i + 1) + number(payload.count) + payload
    }
    return bytes
  }

  private static func number(_ value: Int) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
  }
}
