//  The `multiline` codec: lines that belong together become one record. Joining needs order, so it is done here, for
//  each connection or body by itself, before the queue.
//
//  What was joined shows itself: only such a record holds a line feed, so decoding tags it by that. That a bound ended
//  a record is told by a descriptor of its own.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit
internal import Records

/// Options of the codec.
struct MultilineSettings: PluginSettings {
  var pattern = ""
  var what = What.previous
  var negate = false
  var patternsDir: [String] = []
  var charset = "UTF-8"
  var tag = "multiline"
  var maxLines = 500
  var maxSize: ByteCount = .mib(10)
  var autoFlush: Duration?

  enum What: String, OptionEnum { case previous, next }

  static let options: [Option<MultilineSettings>] = [
    .option(
      "pattern", \.pattern, "The expression, as for grok, of lines that belong to another one.", required: true,
      example: "'^\\s'"),
    .option(
      "what", \.what, "Whether such a line belongs to the one before or behind.", required: true, example: "previous"),
    .option("negate", \.negate, "Lines that the expression does not match belong to another one."),
    .option("patterns_dir", \.patternsDir, "Files with patterns of your own, or folders of such files."),
    .option("charset", \.charset, "The character set of the text.", check: charsetComplaint),
    .option("multiline_tag", \.tag, "The tag of events of several lines; empty for none."),
    .option("max_lines", \.maxLines, "Lines above which an event ends.", in: 1...1_000_000),
    .option("max_bytes", \.maxSize, "Bytes from which on an event ends."),
    .option(
      "auto_flush_interval", \.autoFlush, "Silence after which an event ends, though a line may still come.",
      unit: .seconds),
  ]
}

/// Compiled; shared by all connections of an input.
struct MultilineRule: Sendable {
  let pattern: Pattern
  let what: MultilineSettings.What
  let negate: Bool
  let charset: String
  let tag: String
  let maxLines: Int
  let maxBytes: Int
  let autoFlush: Duration?

  init(_ settings: MultilineSettings, _ context: InputContext) throws {
    guard let compiler = context.expressions else {
      throw BuildFailure("codec", "there is no library of patterns for 'multiline' here", code: "config.unsupported")
    }
    do {
      pattern = try compiler.compile(
        settings.pattern, folders: settings.patternsDir, ecs: context.ecs, services: context.services)
    } catch let failure as BuildFailure {
      throw BuildFailure(
        "codec", "'pattern' of codec 'multiline': \(failure.text)", code: failure.code, hint: failure.hint)
    }
    what = settings.what
    negate = settings.negate
    charset = settings.charset
    tag = settings.tag
    maxLines = settings.maxLines
    maxBytes = settings.maxSize.bytes
    autoFlush = settings.autoFlush
  }
}

/// Why a joined record ended.
enum JoiningEnd: Sendable { case line, maxLines, maxBytes }

/// A rule with the descriptors of the records that it makes.
struct LineJoining: Sendable {
  let rule: MultilineRule
  private let plain: RecordDescriptor
  private let maxLines: RecordDescriptor
  private let maxBytes: RecordDescriptor

  init(_ rule: MultilineRule, _ description: RecordDescription) {
    self.rule = rule
    plain = description.descriptor
    func tagged(_ tag: String) -> RecordDescriptor {
      var copy = description
      copy.options.append(.init("codec_tags", tag))
      return copy.descriptor
    }
    maxLines = tagged("multiline_codec_max_lines_reached")
    maxBytes = tagged("multiline_codec_max_bytes_reached")
  }

  func descriptor(_ end: JoiningEnd) -> RecordDescriptor {
    switch end {
    case .line: plain
    case .maxLines: maxLines
    case .maxBytes: maxBytes
    }
  }

  /// For payloads without a sender.
  var cut: @Sendable (UnsafeRawBufferPointer) -> [RecordBatch] { { records(of: $0, nil) } }

  /// The records of a whole text.
  func records(of bytes: UnsafeRawBufferPointer, _ context: RecordContext?) -> [RecordBatch] {
    let lines = RecordBatch(descriptor: plain, context: context)
    var start = 0
    while start < bytes.count {
      let end = lineEnd(bytes, from: start) ?? bytes.count
      lines.append(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
      start = end + 1
    }
    let joiner = MultilineJoiner(self)
    return joiner.join(lines) + joiner.flush(context)
  }
}

/// Joins the lines of one sender. Not thread-safe.
final class MultilineJoiner {
  private let joining: LineJoining
  private var rule: MultilineRule { joining.rule }
  private let scratch = MatchScratch(groups: 16)
  private let charset: CharsetDecoder?
  private var text = ByteBuffer()
  /// The lines so far, and what bounds them.
  private var held = ByteBuffer()
  private var lines = 0
  private var bytes = 0
  private var batches: [RecordBatch] = []

  init(_ joining: LineJoining) {
    self.joining = joining
    charset = joining.rule.charset == "UTF-8" ? nil : CharsetDecoder(joining.rule.charset)
  }

  /// Bytes that wait for a further line.
  var heldBytes: Int { held.count }
  var isEmpty: Bool { lines == 0 }

  /// Takes the lines of `batch` and returns what is whole with them.
  func join(_ batch: RecordBatch) -> [RecordBatch] {
    for i in 0..<batch.count { batch.withPayload(i) { take($0, batch) } }
    return takeBatches()
  }

  /// What is held becomes whole.
  func flush(_ context: RecordContext?) -> [RecordBatch] {
    end(.line, context, WallClock.ns)
    return takeBatches()
  }

  private func takeBatches() -> [RecordBatch] {
    defer { batches = [] }
    return batches
  }

  private func take(_ line: UnsafeRawBufferPointer, _ source: RecordBatch) {
    let belongs = matches(line) != rule.negate
    switch rule.what {
    case .previous:
      if !belongs { end(.line, source.context, source.arrivalNs) }
      add(line, source)
    case .next:
      add(line, source)
      if !belongs { end(.line, source.context, source.arrivalNs) }
    }
  }

  private func add(_ line: UnsafeRawBufferPointer, _ source: RecordBatch) {
    if lines > 0 { held.append(10) }
    held.append(line)
    lines += 1
    bytes += line.count
    if lines > rule.maxLines {
      end(.maxLines, source.context, source.arrivalNs)
    } else if bytes >= rule.maxBytes {
      end(.maxBytes, source.context, source.arrivalNs)
    }
  }

  private func end(_ reason: JoiningEnd, _ context: RecordContext?, _ arrivalNs: Int64) {
    guard lines > 0 else { return }
    let descriptor = joining.descriptor(reason)
    if batches.last.map({ $0.descriptor === descriptor && $0.context === context }) != true {
      batches.append(RecordBatch(descriptor: descriptor, context: context, arrivalNs: arrivalNs))
    }
    batches.last?.append(held.bytes)
    held.removeAll()
    held.shrink(to: 64 << 10)
    lines = 0
    bytes = 0
  }

  private func matches(_ line: UnsafeRawBufferPointer) -> Bool {
    if charset == nil, firstInvalidUTF8(line) == nil { return isMatch(line) }
    text.removeAll()
    if let charset { charset.append(line, to: &text) } else { appendRepairedUTF8(line, to: &text) }
    return isMatch(text.bytes)
  }

  private func isMatch(_ text: UnsafeRawBufferPointer) -> Bool {
    // A match that takes longer than this counts as none.
    if case .match = scratch.match(rule.pattern, text, options: .validText, timeLimit: 1000) { return true }
    return false
  }
}
