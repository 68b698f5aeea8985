//  The `generator` input: the same events over and over, for trying a pipeline out.

internal import Config
internal import Diagnostics
internal import PluginKit
internal import Records

struct GeneratorInput: InputPlugin {
  static let manual = Manual(
    name: "generator", summary: "Makes the same events over and over, for trying a pipeline out.",
    details: "Each round has a number from 0 on, in `sequence`, or `[event][sequence]` with ECS.",
    examples: [
      Example(
        "Two rounds", config: "{ message: order placed, count: 2 }", input: "",
        output: "{\"message\": \"order placed\", \"sequence\": 0}\n{\"message\": \"order placed\", \"sequence\": 1}")
    ])

  struct Settings: PluginSettings {
    var message = "Hello world!"
    var lines: [String]?
    var count = 0
    var threads = 1
    var codec = PluginChoice("plain")
    var common = CommonInputSettings()

    static let options: [Option<Settings>] =
      [
        .option("message", \.message, "The text of each event."),
        .option("lines", \.lines, "Texts that stand for `message`; each round makes an event of every one."),
        .option("count", \.count, "Rounds; 0 for no end.", in: 0...Int.max),
        .option("threads", \.threads, "Threads, each of which makes all rounds.", in: 1...64),
        .option("codec", \.codec, "What the text is."),
      ] + CommonInputSettings.options.map { $0.lifted(into: \Settings.common) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    let codec = try InputCodec(settings.codec, context)
    guard codec.multiline == nil else { throw BuildFailure("codec", "there are no lines to join here") }
    let description = settings.common.description(
      "generator", codec: codec.kind.rawValue, codec, context,
      options: [.init("sequence_field", context.ecs.isOn ? "[event][sequence]" : "sequence")])
    let descriptor = description.descriptor
    let lines = settings.lines ?? [settings.message]
    let count = settings.count
    let body: @Sendable (SourceFeed) -> Void = { feed in
      let origin = ContextText.local(host: hostName(), path: nil)
      var round = 0
      while count == 0 || round < count {
        let batch = RecordBatch(descriptor: descriptor, context: origin)
        repeat {
          for line in lines { batch.append(number: round, text: line) }
          round += 1
        } while batch.count < 500 && batch.byteCount < 1 << 20 && (count == 0 || round < count)
        if !feed.append(batch) { return }
      }
    }
    return SourceInput(
      "generator", description: description, context, Array(repeating: body, count: settings.threads))
  }
}

extension RecordBatch {
  /// A record with a number in front, which decoding puts into a field of its own.
  func append(number: Int, text: String?) {
    payloads.append(decimal: number)
    if let text {
      payloads.append(32)
      payloads.append(text: text)
    }
    endRecord()
  }
}
