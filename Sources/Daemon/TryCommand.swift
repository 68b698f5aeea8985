//  `sluice try`: events from standard input through the filters of one pipeline, results on standard output.

internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
package import Pipeline
internal import PluginKit
internal import Records

package struct TryOptions: Sendable {
  /// Every line is a `message`.
  package var isPlain = false
  /// The id of the input whose payload standard input is.
  package var input: String?
  package var showsMetadata = false
  package init() {}
}

/// Runs lines through `pipeline`. A bad line is tagged and the run goes on; the end flushes the filters.
package func tryPipeline(_ pipeline: CompiledPipeline, _ options: TryOptions, from descriptor: CInt, to output: CInt) {
  let batch = EventBatch()
  let runner = StepRunner(pipeline.steps, handler: nil)
  var out = ByteBuffer(capacity: 1 << 16)
  let decoders = RecordDecoders(filters: pipeline.filters)

  func emit(_ selection: [Int32]) {
    for i in selection {
      let event = batch[i]
      if options.showsMetadata, event.hasMetadata {
        let copy = event.makeValue(event.fields.copied())
        let name: StaticString = "@metadata"
        copy.set(
          name: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), event.metadata.copied())
        copy.appendJSON(to: &out)
      } else {
        event.appendJSON(to: &out)
      }
      out.append(10)
    }
    writeAll(out.bytes, to: output)
    out.removeAll()
  }

  var payloads = PayloadReader(descriptor, pipeline, options)
  var isOpen = true
  while isOpen {
    batch.removeAll()
    decoders.startBatch()
    var selection: [Int32] = []
    while selection.count < 500 {
      guard let records = payloads.next() else {
        isOpen = false
        break
      }
      for batchOfRecords in records {
        let decoder = decoders.decoder(batchOfRecords.descriptor)
        for i in 0..<batchOfRecords.count {
          batchOfRecords.withPayload(i) { payload in
            decoder.decode(payload, context: nil, record: -1, arrivalNs: batchOfRecords.arrivalNs, into: batch) {
              selection.append($0.index)
            }
          }
        }
      }
      if !payloads.hasMore { break }
    }
    runner.run(batch, &selection)
    emit(selection)
  }
  batch.removeAll()
  emit(runner.flush(batch, nowNs: WallClock.ns, isFinal: true))
}

/// Standard input as payloads: JSON documents or texts by lines, or what an input of the pipeline would take.
private struct PayloadReader {
  private var lines: LineReader
  private let input: (any Input)?
  private let descriptor: RecordDescriptor

  init(_ file: CInt, _ pipeline: CompiledPipeline, _ options: TryOptions) {
    input = options.input.flatMap { id in pipeline.inputs.first { $0.id == id || $0.kind == id }?.input }
    lines = LineReader(file)
    // The lines of an input are what a sender sent, to the byte.
    if let input {
      lines.dropsCarriageReturn = false
      lines.delimiter = input.payloadDelimiter
    }
    descriptor = lineDescription(pipeline, input: nil, isPlain: options.isPlain).descriptor
  }

  /// True when a further payload is here without waiting.
  var hasMore: Bool { lines.hasBufferedLine }

  mutating func next() -> [RecordBatch]? {
    while let line = lines.next() {
      if let input { return line.withUnsafeBytes { input.records(of: $0) } }
      if line.isEmpty { continue }
      let batch = RecordBatch(descriptor: descriptor, context: nil)
      line.withUnsafeBytes { batch.append($0) }
      return [batch]
    }
    return nil
  }
}

/// How single lines are decoded: as an input of the pipeline does, as plain text, or as JSON.
func lineDescription(_ pipeline: CompiledPipeline, input: String?, isPlain: Bool) -> RecordDescription {
  if let input, let found = pipeline.inputs.first(where: { $0.id == input || $0.kind == input }) {
    return found.input.description
  }
  return RecordDescription(input: "try", inputID: "try", codec: isPlain ? "plain" : "json")
}

/// Lines of a descriptor, without their ends.
package struct LineReader {
  /// What ends a line; nil: everything up to the end is one.
  package var delimiter: [UInt8]? = [10]
  /// A carriage return in front of a line feed goes with it.
  package var dropsCarriageReturn = true
  private let descriptor: CInt
  private var buffer: [UInt8] = []
  private var start = 0
  private var isAtEnd = false

  package init(_ descriptor: CInt) { self.descriptor = descriptor }

  package var hasBufferedLine: Bool { end(from: start) != nil }

  /// Where the next delimiter begins.
  private func end(from place: Int) -> Int? {
    guard let delimiter, let first = delimiter.first else { return nil }
    var searched = max(start, place)
    while let found = buffer[searched...].firstIndex(of: first) {
      if delimiter.count == 1 || buffer[found...].starts(with: delimiter) { return found }
      searched = found + 1
    }
    return nil
  }

  package mutating func next() -> [UInt8]? {
    var searched = start
    while true {
      if let end = end(from: searched) {
        defer { start = end + (delimiter?.count ?? 0) }
        let isReturn = dropsCarriageReturn && end > start && buffer[end - 1] == 13
        return Array(buffer[start..<(isReturn ? end - 1 : end)])
      }
      if isAtEnd {
        guard start < buffer.count else { return nil }
        defer { start = buffer.count }
        return Array(buffer[start...])
      }
      // A delimiter of several bytes may have begun in what is here.
      searched = max(0, buffer.count - start - (delimiter?.count ?? 1) + 1)
      buffer.removeFirst(start)
      start = 0
      var block = [UInt8](repeating: 0, count: 1 << 16)
      let n = read(descriptor, &block, block.count)
      if n < 0, errno == EINTR { continue }
      if n <= 0 { isAtEnd = true } else { buffer.append(contentsOf: block[..<n]) }
    }
  }
}
