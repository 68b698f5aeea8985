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
    details: """
      Placeholders in `path` choose the file by the event; files are made with mode 0640.

      Each event is written at least once: it counts as delivered once its line is synced, and what was written but not \
      yet counted when the daemon was killed or the machine lost power is written again after the next start. Such a \
      line stands twice. A last line that was torn in half is cut first.
      """,
    examples: [
      Example(
        "A file for each service and day", config: "{ path: '/var/log/sluice/%{service}-%{+yyyy.MM.dd}.ndjson' }",
        input: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "@version": "1", "service": "shop", "ok": true}"#,
        output: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "@version": "1", "service": "shop", "ok": true}"#)
    ])

  struct Settings: PluginSettings {
    var path: Template?
    static let options: [Option<Settings>] = [
      .option(
        "path", \.path, "The file, below a folder that is the same for all events: /var/log/aura/%{service}.ndjson.",
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
    /// Held over system calls: whoever writes a batch waits for the disk.
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
      guard let first = batch.selection.first else { return }
      var name = self.name(batch.events[first])
      var start = 0
      // Events of one file that follow each other are written and synced together.
      for end in 1...batch.selection.count {
        let next = end < batch.selection.count ? self.name(batch.events[batch.selection[end]]) : nil
        if next == name { continue }
        append(UnsafeBufferPointer(rebasing: batch.selection[start..<end]), batch, to: name)
        start = end
        if let next { name = next }
      }
    }

    private struct Name: Equatable {
      var text: String
      /// Every field and date of the path had a value.
      var isWhole: Bool
    }

    private func name(_ event: Event) -> Name {
      var text = ByteBuffer()
      let isWhole = (try? path.append(event, to: &text)) ?? false
      return Name(text: text.string(), isWhole: isWhole)
    }

    /// Why no file of this name is written; nil for a name that will do.
    private func fault(_ name: Name) -> String? {
      let parts = name.text.dropFirst(folder.count).split(separator: "/", omittingEmptySubsequences: false)
      if !name.isWhole { return "lacks the value of a field" }
      if !name.text.hasPrefix(folder) || parts.contains("..") { return "leaves the folder \(folder)" }
      if name.text.utf8.contains(0) || parts.last?.isEmpty != false { return "is no name of a file" }
      if name.text.utf8.count >= PATH_MAX || parts.contains(where: { $0.utf8.count > NAME_MAX }) {
        return "is too long"
      }
      return nil
    }

    private func append(_ part: UnsafeBufferPointer<Int32>, _ batch: OutputBatch, to name: Name) {
      if let fault = fault(name) { return refuse(part, batch, name.text, fault) }
      let name = name.text
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
        } catch let error as SystemError where [EISDIR, ENOTDIR, ENAMETOOLONG, ELOOP].contains(error.code) {
          // The name is at fault, and no time mends it.
          return refuse(part, batch, name, "cannot be written: \(error.reason)")
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

    /// Makes dead letters of the events; waits while they cannot be kept.
    private func refuse(_ part: UnsafeBufferPointer<Int32>, _ batch: OutputBatch, _ name: String, _ fault: String) {
      var document = ByteBuffer()
      for i in part {
        let event = batch.events[i]
        document.removeAll()
        event.appendJSON(to: &document)
        let reason = DeadLetterReason(
          stage: context.stepID, type: "file-path", message: "the path '\(name.prefix(256))' \(fault)",
          part: event.part)
        guard
          untilStop({
            context.deadLetters.write(
              reason, source: batch.delivery.source, record: event.record, document: document.bytes)
          })
        else { return batch.delivery.expect(1) }
      }
      guard untilStop({ context.deadLetters.sync() }) else { return batch.delivery.expect(1) }
      letters.add(part.count)
    }

    /// Tries once a second until it works; false when the stop comes before, and the events stay in the queue.
    private func untilStop(_ attempt: () -> Bool) -> Bool {
      while !attempt() {
        if isStopping.wait(until: Instant.now + .seconds(1), { $0 ? true : nil }) != nil { return attempt() }
      }
      return true
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
