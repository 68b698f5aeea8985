//  The `file` output at work: lines into files, synced before they count; into its overflow queue while no file can be
//  written and other outputs go on; and dead letters of events whose file can never be.

internal import CSystem
internal import Diagnostics
internal import Events
internal import Glibc
internal import PluginKit

final class FileWriter: SpillingOutput {
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
  private let inFlight = Counter()
  private let trouble = Lock<String?>(nil)
  private let overflow = Lock<(any Overflow)?>(nil)
  private let isStopping = Gate(false)
  static let openLimit = 64

  init(_ path: Template, folder: String, _ context: OutputContext) {
    self.path = path
    self.folder = folder
    self.context = context
  }

  /// Files below one folder lie on one disk.
  var destination: String { "file " + folder }
  var keepsOrder: Bool { true }
  func spill(to overflow: any Overflow) { self.overflow.withLock { $0 = overflow } }

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

  /// Writes the events, spills them, or makes dead letters of them; returns without an answer at a stop.
  private func append(_ part: UnsafeBufferPointer<Int32>, _ batch: OutputBatch, to name: Name) {
    if let fault = fault(name) {
      if !refuse(letters(part, batch), batch.delivery.source, name.text, fault) { batch.delivery.expect(1) }
      return
    }
    var turn = Turn()
    defer { if turn.isCounted { inFlight.add(-part.count) } }
    while true {
      switch decide(&turn, part.count) {
      case nil:
        // The batch is never answered when the stop comes first, so it stays in the queue.
        batch.delivery.expect(1)
        return
      case .spill:
        guard let isKept = spill(part, batch, name.text) else { return }
        if isKept { return }
        turn.hasFailed = true
      case .wait: continue
      case .send:
        let written = attempt(name.text) { buffer in
          for i in part {
            batch.events[i].appendJSON(to: &buffer)
            buffer.append(10)
          }
        }
        switch written {
        case .done: return events.add(part.count)
        case .failed: turn.fail()
        case .refused(let fault):
          if !refuse(letters(part, batch), batch.delivery.source, name.text, fault) { batch.delivery.expect(1) }
          return
        }
      }
    }
  }

  // MARK: The overflow queue

  /// One attempt after another to get rid of the same events.
  private struct Turn {
    let since = Instant.now
    var hasFailed = false
    var isCounted = false
    private var retryAt = Instant(ns: 0)

    mutating func fail() {
      hasFailed = true
      retryAt = Instant.now + .seconds(1)
    }

    /// A second after a failure the file is tried again.
    mutating func settle() { if hasFailed, Instant.now >= retryAt { hasFailed = false } }
  }

  /// What to do next, after a pause where there is nothing to do; nil at a stop.
  private func decide(_ turn: inout Turn, _ count: Int) -> OverflowDecision? {
    if isStopping.withLock({ $0 }) { return nil }
    turn.settle()
    let choice =
      overflow.withLock { $0 }?.decide(waitingSince: turn.since, hasRoom: !turn.hasFailed)
      ?? (turn.hasFailed ? .wait : .send)
    if !turn.isCounted {
      turn.isCounted = true
      inFlight.add(count)
    }
    guard choice == .wait else { return choice }
    let pause = turn.hasFailed ? Duration.milliseconds(100) : .milliseconds(5)
    return isStopping.wait(until: Instant.now + pause) { $0 ? true : nil } == nil ? .wait : nil
  }

  /// - Returns: Whether the events are in the overflow queue; nil where the stop came before its answer.
  private func spill(_ part: UnsafeBufferPointer<Int32>, _ batch: OutputBatch, _ name: String) -> Bool? {
    guard let overflow = overflow.withLock({ $0 }) else { return false }
    var document = ByteBuffer()
    let encoded = part.map { i in
      document.removeAll()
      batch.events[i].appendJSON(to: &document)
      let event = batch.events[i]
      return EncodedEvent(record: event.record, part: event.part, action: Array(name.utf8), body: document.array())
    }
    let delivery = batch.delivery
    let n = encoded.count
    delivery.expect(n)
    let answer = Lock<Bool?>(nil)
    overflow.append(encoded, of: delivery.source) { [isStopping] isKept in
      if isKept { delivery.finish(n) }
      answer.withLock { $0 = isKept }
      isStopping.update { _ in }
    }
    let isKept = isStopping.wait(until: Instant(ns: .max)) { isStopping in
      answer.withLock { $0 }.map { $0 as Bool? } ?? (isStopping ? .some(nil) : nil)
    }
    guard let isKept = isKept ?? nil else { return nil }
    // The worker's own answer is still to come, so this ends nothing.
    if !isKept { delivery.finish(n) }
    return isKept
  }

  /// From the overflow queue, in order; blocks while the file cannot be written.
  func write(_ encoded: [EncodedEvent], delivery: Delivery) {
    delivery.expect(encoded.count)
    inFlight.add(encoded.count)
    var start = 0
    while start < encoded.count {
      let action = encoded[start].action
      let end = encoded[start...].firstIndex { $0.action != action } ?? encoded.count
      guard store(encoded[start..<end], String(decoding: action, as: UTF8.self), delivery.source) else { return }
      inFlight.add(start - end)
      delivery.finish(end - start)
      start = end
    }
  }

  /// - Returns: False at a stop: the events stay in the overflow queue.
  private func store(_ part: ArraySlice<EncodedEvent>, _ name: String, _ source: any SourceRecords) -> Bool {
    while !isStopping.withLock({ $0 }) {
      let written = attempt(name) { buffer in
        for event in part {
          buffer.append(contentsOf: event.body)
          buffer.append(10)
        }
      }
      switch written {
      case .done:
        events.add(part.count)
        return true
      case .refused(let fault):
        return refuse(part.map { Refused(record: $0.record, part: $0.part, document: $0.body) }, source, name, fault)
      case .failed: _ = isStopping.wait(until: Instant.now + .seconds(1)) { $0 ? true : nil }
      }
    }
    return false
  }

  // MARK: The file

  private enum Attempt {
    case done
    /// It may go well later.
    case failed
    /// No time mends it.
    case refused(String)
  }

  private func attempt(_ name: String, _ encode: (inout ByteBuffer) -> Void) -> Attempt {
    do {
      try state.withLock { state in
        state.buffer.bytes.removeAll()
        encode(&state.buffer.bytes)
        try store(&state, name)
      }
      trouble.withLock { $0 = nil }
      return .done
    } catch let error as SystemError
      where [EISDIR, ENOTDIR, ENAMETOOLONG, ELOOP].contains(error.code) && hasFolder
    {
      return .refused("cannot be written: \(error.reason)")
    } catch {
      trouble.withLock { $0 = "the file '\(name.prefix(256))' cannot be written: \(error)" }
      Log.error(
        "file.write-failed", "Events could not be written to a file; it is tried again every second.",
        ["output": .text(context.stepID), "file": Log.foreign(name), "reason": .text("\(error)")])
      return .failed
    }
  }

  /// Whether the folder that all files lie below is one: else no event's name is at fault.
  private var hasFolder: Bool {
    var info = stat()
    return stat(folder, &info) == 0 && sys_is_directory(info.st_mode) != 0
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
    if state.descriptors.count >= FileWriter.openLimit {
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

  // MARK: Dead letters

  private struct Refused {
    var record: Int
    var part: Int
    var document: [UInt8]
  }

  private func letters(_ part: UnsafeBufferPointer<Int32>, _ batch: OutputBatch) -> [Refused] {
    part.map { i in
      let event = batch.events[i]
      var document = ByteBuffer()
      event.appendJSON(to: &document)
      return Refused(record: event.record, part: event.part, document: document.array())
    }
  }

  /// Makes dead letters of the events; waits while they cannot be kept.
  ///
  /// - Returns: False where the stop came first.
  private func refuse(_ part: [Refused], _ source: any SourceRecords, _ name: String, _ fault: String) -> Bool {
    for refused in part {
      let reason = DeadLetterReason(
        stage: context.stepID, type: "file-path", message: "the path '\(name.prefix(256))' \(fault)",
        part: refused.part)
      let isKept = untilStop {
        refused.document.withUnsafeBytes {
          context.deadLetters.write(reason, source: source, record: refused.record, document: $0)
        }
      }
      if !isKept { return false }
    }
    guard untilStop({ context.deadLetters.sync() }) else { return false }
    letters.add(part.count)
    return true
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
    result.inFlight = inFlight.value
    result.trouble = trouble.withLock { $0 }
    return result
  }
}
