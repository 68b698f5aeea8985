//  Dead letters of one pipeline: refused events with their reasons, as JSON lines in an append-only file.
//
//  A line holds time, reason, the payload as it arrived (text, or base64 where it is no UTF-8) and the event as it was
//  sent. Letters are synced before the event counts as done. When the file is full it becomes the `.old` one, and the
//  letters of the previous `.old` are gone, counted and named in the log.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
internal import PluginKit

final class DeadLetterStore: DeadLetterSink {
  private struct State {
    var descriptor: CInt = -1
    var bytes = 0
    let buffer = LetterBuffer()
  }
  private final class LetterBuffer { var bytes = ByteBuffer(capacity: 4096) }

  private let path: String
  private let pipelineID: String
  private let isEnabled: Bool
  private let limitBytes: Int
  private let state: Lock<State>
  let written = Counter()
  let dropped = Counter()

  init(folder: String, pipelineID: String, settings: PipelineSettings) throws {
    path = folder + "/letters.jsonl"
    self.pipelineID = pipelineID
    isEnabled = settings.deadLettersEnabled
    limitBytes = settings.deadLettersMaxSize.bytes
    state = Lock(State())
    guard isEnabled else { return }
    try makeFolders(folder)
    try state.withLock { try open(&$0) }
  }

  var bytes: Int { state.withLock { $0.bytes } }
  var maxBytes: Int { limitBytes }

  private func open(_ state: inout State) throws {
    state.descriptor = try systemCall("open \(path)") {
      Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
    }
    state.bytes = try systemCall("lseek \(path)") { lseek(state.descriptor, 0, SEEK_END) }
  }

  func write(
    _ reason: DeadLetterReason, source: any SourceRecords, record: Int, document: UnsafeRawBufferPointer
  ) -> Bool {
    guard isEnabled else {
      dropped.add()
      Log.error(
        "dead_letters.off", "A refused event was dropped, since dead letters are switched off.",
        ["pipeline": .text(pipelineID), "stage": .text(reason.stage), "reason": Log.foreign(reason.message)])
      return true
    }
    return state.withLock { state in
      let buffer = state.buffer
      buffer.bytes.removeAll()
      encode(reason, source, record, document, &buffer.bytes)
      do {
        if state.bytes > 0, state.bytes + buffer.bytes.count > limitBytes / 2 { try turnOver(&state) }
        var done = 0
        while done < buffer.bytes.count {
          let base = buffer.bytes.pointer + done
          let left = buffer.bytes.count - done
          done += try systemCall("write \(path)") { Glibc.write(state.descriptor, base, left) }
        }
        state.bytes += buffer.bytes.count
        written.add()
        return true
      } catch {
        if state.descriptor >= 0 { _ = ftruncate(state.descriptor, state.bytes) }
        Log.error(
          "dead_letters.write-failed", "A dead letter could not be written; its event waits.",
          ["pipeline": .text(pipelineID), "reason": .text("\(error)")])
        return false
      }
    }
  }

  private func turnOver(_ state: inout State) throws {
    var old = stat()
    if stat(path + ".old", &old) == 0 {
      Log.error(
        "dead_letters.dropped", "Dead letters were full; the oldest are gone.",
        [
          "pipeline": .text(pipelineID), "bytes": .number(Int(old.st_size)),
          "next": "Raise dead_letter_queue.max_bytes.",
        ])
    }
    try systemCall("rename \(path)") { rename(path, path + ".old") }
    close(state.descriptor)
    try open(&state)
  }

  private func encode(
    _ reason: DeadLetterReason, _ source: any SourceRecords, _ record: Int, _ document: UnsafeRawBufferPointer,
    _ out: inout ByteBuffer
  ) {
    out.append("{\"time\":\"")
    Timestamp(ns: WallClock.ns).appendISO8601(to: &out)
    out.append("\",\"pipeline\":")
    out.append(quoted: pipelineID)
    out.append(",\"id\":\"")
    source.appendID(record, to: &out)
    out.append("\",\"stage\":")
    out.append(quoted: reason.stage)
    if let status = reason.status {
      out.append(",\"status\":")
      out.append(decimal: status)
    }
    out.append(",\"type\":")
    out.append(quoted: reason.type)
    out.append(",\"reason\":")
    out.append(quoted: reason.message)
    if let index = reason.index {
      out.append(",\"index\":")
      out.append(quoted: index)
    }
    if let id = reason.documentID {
      out.append(",\"document_id\":")
      out.append(quoted: id)
    }
    out.append(",\"attempts\":")
    out.append(decimal: reason.attempts)
    source.withPayload(record) { payload in
      if firstInvalidUTF8(payload) == nil {
        out.append(",\"arrived\":")
        appendQuoted(payload, to: &out)
      } else {
        out.append(",\"arrived_base64\":\"")
        Base64.encode(payload, into: &out)
        out.append("\"")
      }
    }
    if document.count > 0 {
      out.append(",\"event\":")
      out.append(document)
    }
    out.append("}\n")
  }

  func sync() -> Bool {
    guard isEnabled else { return true }
    return state.withLock { $0.descriptor < 0 || fdatasync($0.descriptor) == 0 }
  }

  func close() {
    _ = sync()
    state.withLock {
      if $0.descriptor >= 0 { Glibc.close($0.descriptor) }
      $0.descriptor = -1
    }
  }

  private func close(_ descriptor: CInt) { Glibc.close(descriptor) }
}
