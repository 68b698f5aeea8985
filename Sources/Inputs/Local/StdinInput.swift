//  The `stdin` input: lines of standard input.

internal import Config
internal import Diagnostics
internal import Glibc
internal import PluginKit
internal import Records

struct StdinInput: InputPlugin {
  static let manual = Manual(
    name: "stdin", summary: "Takes lines from standard input.",
    details: """
      At its end the input has nothing more to do, and the daemon goes on. A rest without line end is no event; that it was \
      there is logged.
      """,
    examples: [
      Example(
        "Lines of text", config: "{}", input: "order placed\norder paid",
        output: "{\"message\": \"order placed\"}\n{\"message\": \"order paid\"}")
    ])

  struct Settings: PluginSettings {
    var codec = PluginChoice("line")
    var common = CommonInputSettings()
    static let options: [Option<Settings>] =
      [.option("codec", \.codec, "What a line is. `plain` counts as `line`, `json` as `json_lines`.")]
      + CommonInputSettings.options.map { $0.lifted(into: \Settings.common) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    let codec = try InputCodec(settings.codec, context).forStream
    let description = settings.common.description("stdin", codec: codec.kind.rawValue, codec, context)
    let joining = codec.multiline.map { LineJoining($0, description) }
    let descriptor = description.descriptor
    let id = context.stepID
    return SourceInput(
      "stdin", description: description, context,
      [
        { feed in
          var reader = StreamLines(
            0, descriptor: descriptor, context: ContextText.local(host: hostName(), path: nil),
            delimiter: codec.delimiter, joiner: joining.map { MultilineJoiner($0) })
          reader.run(feed, id)
        }
      ])
  }
}

/// Lines of a descriptor that may be a pipe, a file or a terminal. One thread.
private struct StreamLines: ~Copyable {
  private let file: CInt
  private let descriptor: RecordDescriptor
  private let context: RecordContext
  private let delimiter: [UInt8]
  private let joiner: MultilineJoiner?
  private var rest = ByteBuffer()

  init(
    _ file: CInt, descriptor: RecordDescriptor, context: RecordContext, delimiter: [UInt8], joiner: MultilineJoiner?
  ) {
    self.file = file
    self.descriptor = descriptor
    self.context = context
    self.delimiter = delimiter
    self.joiner = joiner
  }

  mutating func run(_ feed: SourceFeed, _ id: String) {
    while !feed.isStopping {
      var entry = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
      guard poll(&entry, 1, 200) > 0 else { continue }
      rest.reserve(64 << 10)
      let n = read(file, rest.pointer + rest.count, 64 << 10)
      if n < 0, errno == EINTR || errno == EAGAIN { continue }
      if n <= 0 { break }
      rest.count += n
      guard cut(feed) else { return }
    }
    if let joiner { for batch in joiner.flush(context) where !feed.append(batch) { return } }
    guard rest.count > 0 else { return }
    feed.metrics.lost.add()
    Log.warn(
      "stdin.rest-dropped", "Standard input ended within a line; what had come of it is no event.",
      ["input": .text(id), "bytes": .number(rest.count)])
  }

  /// Hands on what is whole; false when the stop has come.
  private mutating func cut(_ feed: SourceFeed) -> Bool {
    let batch = RecordBatch(descriptor: descriptor, context: context)
    var start = 0
    while let end = delimiterStart(rest.bytes, delimiter, from: start) {
      batch.append(UnsafeRawBufferPointer(rebasing: rest.bytes[start..<end]))
      start = end + delimiter.count
    }
    rest.removeFirst(start)
    guard batch.count > 0 else { return true }
    let batches = joiner.map { $0.join(batch) } ?? [batch]
    for one in batches where !feed.append(one) { return false }
    return true
  }
}
