//  JSON: what the reader takes, the writer writes so that the reader takes it again, and writing that gives the same
//  bytes. What the HTTP input's cutter takes as an object, the reader takes too, for behind the cutter an event has been
//  acknowledged already.

import Diagnostics
import Events
import Records

@testable import Inputs

@Sendable func fuzzJSON(_ bytes: UnsafeRawBufferPointer) {
  let batch = EventBatch()
  if let event = try? batch.add(json: bytes, arrivalNs: 1_772_000_000_000_000_000) {
    var first = ByteBuffer()
    event.appendJSON(to: &first)
    guard let again = try? batch.add(json: first.bytes, arrivalNs: 0) else {
      finding("what was written is not read again: \(String(decoding: first.bytes, as: UTF8.self))")
    }
    var second = ByteBuffer()
    again.appendJSON(to: &second)
    if !first.bytes.elementsEqual(second.bytes) {
      finding(
        "written again it is something else: \(String(decoding: first.bytes, as: UTF8.self)) "
          + String(decoding: second.bytes, as: UTF8.self))
    }
  }
  let value = try? batch.add(arrivalNs: 0).parseJSON(bytes)
  let records = RecordBatch(descriptor: RecordDescriptor([]), context: nil, arrivalNs: 0)
  let isTaken = (try? JSONCutter(depthLimit: 500).cut(bytes, eventLimit: 1 << 20, into: records)) != nil
  guard isTaken else { return }
  for i in 0..<records.count {
    records.withPayload(i) { record in
      if (try? batch.add(json: record, arrivalNs: 0)) == nil {
        finding("the cutter takes what the reader refuses: \(String(decoding: record, as: UTF8.self))")
      }
    }
  }
  if records.count == 1, value == nil, records.byteCount == bytes.count {
    finding("the cutter takes the whole text and the reader does not")
  }
}
