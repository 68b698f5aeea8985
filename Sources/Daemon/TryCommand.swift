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
  let decoder = RecordDecoder(
    lineDescription(pipeline, input: options.input, isPlain: options.isPlain).descriptor)

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

  var lines = LineReader(descriptor)
  var isOpen = true
  while isOpen {
    batch.removeAll()
    var selection: [Int32] = []
    while selection.count < 500 {
      guard let line = lines.next() else {
        isOpen = false
        break
      }
      if line.isEmpty { continue }
      line.withUnsafeBytes { bytes in
        decoder.decode(bytes, context: nil, record: -1, arrivalNs: WallClock.ns, into: batch) {
          selection.append($0.index)
        }
      }
      if !lines.hasBufferedLine { break }
    }
    runner.run(batch, &selection)
    emit(selection)
  }
  batch.removeAll()
  emit(runner.flush(batch, nowNs: WallClock.ns, isFinal: true))
}

/// How lines are decoded: as an input of the pipeline does, as plain text, or as JSON.
func lineDescription(_ pipeline: CompiledPipeline, input: String?, isPlain: Bool) -> RecordDescription {
  if let input, let found = pipeline.inputs.first(where: { $0.id == input || $0.kind == input }) {
    return found.input.description
  }
  return RecordDescription(input: "try", inputID: "try", codec: isPlain ? "plain" : "json", ecs: pipeline.ecs)
}

/// Lines of a descriptor, without their ends.
package struct LineReader {
  private let descriptor: CInt
  private var buffer: [UInt8] = []
  private var start = 0
  private var isAtEnd = false

  package init(_ descriptor: CInt) { self.descriptor = descriptor }

  package var hasBufferedLine: Bool { buffer[start...].contains(10) }

  package mutating func next() -> [UInt8]? {
    var searched = start
    while true {
      if let end = buffer[searched...].firstIndex(of: 10) {
        defer { start = end + 1 }
        return Array(buffer[start..<(end > start && buffer[end - 1] == 13 ? end - 1 : end)])
      }
      if isAtEnd {
        guard start < buffer.count else { return nil }
        defer { start = buffer.count }
        return Array(buffer[start...])
      }
      searched = buffer.count - start
      buffer.removeFirst(start)
      start = 0
      var block = [UInt8](repeating: 0, count: 1 << 16)
      let n = read(descriptor, &block, block.count)
      if n < 0, errno == EINTR { continue }
      if n <= 0 { isAtEnd = true } else { buffer.append(contentsOf: block[..<n]) }
    }
  }
}
