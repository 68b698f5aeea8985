//  The `file` output: events as JSON lines in files that the path template names, daily by default.
//
//  A range of the queue counts as delivered once the file is synced, so a crash can repeat lines but lose none. A torn
//  last line is cut before the first append after a start. The path begins with a fixed folder, and what an event adds to
//  it never leaves that folder.

internal import CSystem
internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
internal import PluginKit

struct FileOutput: OutputPlugin {
  static let manual = Manual(
    name: "file", summary: "Writes events as JSON lines to files.",
    details: "Placeholders in `path` choose the file by the event; files are made with mode 0640.")

  struct Settings: PluginSettings {
    var path: Template?
    static let options: [Option<Settings>] = [
      .option(
        "path", \.path, "The file; placeholders are allowed behind a fixed folder.",
        defaultText: "events/aura-logs-%{+yyyy.MM.dd}.ndjson, below path.data")
    ]
  }

  static func make(_ settings: Settings, _ context: OutputContext) throws -> any Output {
    let path = settings.path ?? Template(context.services.dataFolder + "/events/aura-logs-%{+yyyy.MM.dd}.ndjson")
    if let fault = path.fault { throw BuildFailure("path", fault.description) }
    let fixed = path.description.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)[0]
    guard let slash = fixed.lastIndex(of: "/") else {
      throw BuildFailure("path", "begins with no fixed folder, such as /var/log/sluice/")
    }
    return Writer(path, folder: String(fixed[...slash]), context)
  }

  private final class Writer: Output {
    private struct State {
      var descriptors: [String: CInt] = [:]
      let buffer = ByteBufferBox()
    }
    private let path: Template
    private let folder: String
    private let context: OutputContext
    private let state = Lock(State())
    private let events = Counter()
    private let letters = Counter()
    private let isStopping = Gate(false)
    static let openLimit = 64

    init(_ path: Template, folder: String, _ context: OutputContext) {
      self.path = path
      self.folder = folder
      self.context = context
    }

    func start() throws {}
    func stop(deadline: Instant) { isStopping.update { $0 = true } }

    func write(_ batch: OutputBatch) {
      var name = ""
      var start = 0
      // Events of one file that follow each other are written and synced together.
      while start < batch.selection.count {
        var end = start
        var next = ""
        while end < batch.selection.count {
          next = (try? path.string(batch.events[batch.selection[end]])) ?? ""
          if end > start, next != name { break }
          name = next
          end += 1
        }
        let part = UnsafeBufferPointer(rebasing: batch.selection[start..<end])
        append(part, batch, to: name)
        start = end
      }
    }

    private func append(_ part: UnsafeBufferPointer<Int32>, _ batch: OutputBatch, to name: String) {
      guard name.hasPrefix(folder), !name.dropFirst(folder.count).split(separator: "/").contains(".."),
        !name.utf8.contains(0), !name.hasSuffix("/")
      else {
        refuse(part, batch, name)
        return
      }
      while true {
        do {
          try state.withLock { state in
            state.buffer.bytes.removeAll()
            for i in part {
              batch.events[i].appendJSON(to: &state.buffer.bytes)
              state.buffer.bytes.append(10)
            }
            try store(&state, name)
          }
          events.add(part.count)
          return
        } catch {
          Log.error(
            "file.write-failed", "Events could not be written to a file; it is tried again every second.",
            ["output": .text(context.stepID), "file": Log.foreign(name), "reason": .text("\(error)")])
          // The batch is never answered when the stop comes first, so it stays in the queue.
          if isStopping.wait(until: Instant.now + .seconds(1), { $0 ? true : nil }) != nil {
            batch.delivery.expect(1)
            return
          }
        }
      }
    }

    private func store(_ state: inout State, _ name: String) throws {
      let descriptor = try open(&state, name)
      let size = try systemCall("lseek \(name)") { lseek(descriptor, 0, SEEK_END) }
      do {
        var done = 0
        while done < state.buffer.bytes.count {
          let base = state.buffer.bytes.pointer + done
          let left = state.buffer.bytes.count - done
          done += try systemCall("write \(name)") { Glibc.write(descriptor, base, left) }
        }
        try systemCall("fdatasync \(name)") { fdatasync(descriptor) }
      } catch {
        // What was written of the failed batch is taken back, or it would stand twice.
        _ = ftruncate(descriptor, size)
        close(descriptor)
        state.descriptors[name] = nil
        throw error
      }
    }

    private func open(_ state: inout State, _ name: String) throws -> CInt {
      if let known = state.descriptors[name] {
        var info = stat()
        var present = stat()
        if fstat(known, &info) == 0, stat(name, &present) == 0, info.st_ino == present.st_ino { return known }
        close(known)
        state.descriptors[name] = nil
      }
      if state.descriptors.count >= Writer.openLimit {
        for descriptor in state.descriptors.values { close(descriptor) }
        state.descriptors.removeAll()
      }
      var built = ""
      for part in name.split(separator: "/", omittingEmptySubsequences: false).dropLast() {
        built += part + "/"
        if built != "/", mkdir(built, 0o750) != 0, errno != EEXIST { throw SystemError(errno, call: "mkdir \(built)") }
      }
      let descriptor = try systemCall("open \(name)") {
        Glibc.open(name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
      }
      try cutTornLine(descriptor, name)
      state.descriptors[name] = descriptor
      return descriptor
    }

    private func cutTornLine(_ descriptor: CInt, _ name: String) throws {
      var end = try systemCall("lseek \(name)") { lseek(descriptor, 0, SEEK_END) }
      let size = end
      var block = [UInt8](repeating: 0, count: 1 << 16)
      while end > 0 {
        let start = max(0, end - block.count)
        let n = try systemCall("pread \(name)") { pread(descriptor, &block, end - start, start) }
        if let line = block[..<n].lastIndex(of: 10) {
          end = start + line + 1
          break
        }
        end = start
      }
      if end < size { try systemCall("ftruncate \(name)") { ftruncate(descriptor, end) } }
    }

    private func refuse(_ part: UnsafeBufferPointer<Int32>, _ batch: OutputBatch, _ name: String) {
      var document = ByteBuffer()
      for i in part {
        let event = batch.events[i]
        document.removeAll()
        event.appendJSON(to: &document)
        let reason = DeadLetterReason(
          stage: context.stepID, type: "file-path", message: "the path '\(name)' leaves the folder \(folder)")
        if !context.deadLetters.write(
          reason, source: batch.delivery.source, record: event.record, document: document.bytes)
        {
          batch.delivery.expect(1)
          return
        }
        letters.add()
      }
      if !context.deadLetters.sync() { batch.delivery.expect(1) }
    }

    var statistics: OutputStatistics {
      var result = OutputStatistics()
      result.eventsIn = events.value + letters.value
      result.eventsOut = events.value
      result.deadLetters = letters.value
      return result
    }
  }
}
