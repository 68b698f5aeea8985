//  The `heartbeat` input: an event in every interval, so that silence behind it can be told from a fault.

internal import Config
internal import Diagnostics
internal import PluginKit
internal import Records

struct HeartbeatInput: InputPlugin {
  static let manual = Manual(
    name: "heartbeat", summary: "Makes an event in every interval, the first at once.",
    details: """
      With `sequence` each event has a number in `clock`, or `[event][sequence]` with ECS: a count from 1 on, or the seconds \
      since 1970.
      """,
    examples: [
      Example(
        "A sign of life, once", config: "{ message: alive, count: 1 }", input: "", output: #"{"message": "alive"}"#)
    ])

  struct Settings: PluginSettings {
    var message = "ok"
    var interval = Duration.seconds(60)
    var count = -1
    var sequence: Sequence?
    var threads = 1
    var codec = PluginChoice("plain")
    var common = CommonInputSettings()

    enum Sequence: String, OptionEnum { case none, epoch, sequence }

    static let options: [Option<Settings>] =
      [
        .option("message", \.message, "The text of each event."),
        .option("interval", \.interval, "Time between two events.", unit: .seconds),
        .option("count", \.count, "Events after which it ends; -1 for no end.", in: -1...Int.max),
        .option("sequence", \.sequence, "The number that events carry.", defaultText: "none"),
        .option("threads", \.threads, "Accepted for Logstash's sake; one thread is enough.", in: 1...64),
        .option("codec", \.codec, "Accepted for Logstash's sake; the text is the message."),
      ] + CommonInputSettings.options.map { $0.lifted(into: \Settings.common) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    guard settings.interval > .zero else { throw BuildFailure("interval", "must be longer than nothing") }
    var sequence = settings.sequence ?? .none
    var text: String? = settings.message
    // Without ECS two messages stand for a sequence, and are no text then.
    if settings.sequence == nil, !context.ecs.isOn, settings.message == "epoch" || settings.message == "sequence" {
      sequence = settings.message == "epoch" ? .epoch : .sequence
      text = nil
    }
    var options = [RecordDescription.Setting("original", "false")]
    if sequence != .none {
      options.append(.init("sequence_field", context.ecs.isOn ? "[event][sequence]" : "clock"))
      if text == nil { options.append(.init("message", "none")) }
    }
    let plain = try InputCodec(PluginChoice("plain"), context)
    let description = settings.common.description("heartbeat", codec: "plain", plain, context, options: options)
    let descriptor = description.descriptor
    let (interval, count, numbers, message) = (settings.interval, settings.count, sequence, text)
    let body: @Sendable (SourceFeed) -> Void = { feed in
      let origin = ContextText.local(host: hostName(), path: nil)
      var next = Instant.now
      var number = 0
      while count < 0 || number < count {
        number += 1
        let batch = RecordBatch(descriptor: descriptor, context: origin)
        switch numbers {
        case .none: Array((message ?? "").utf8).withUnsafeBytes { batch.append($0) }
        case .sequence: batch.append(number: number, text: message)
        case .epoch: batch.append(number: Int(batch.arrivalNs / 1_000_000_000), text: message)
        }
        if !feed.append(batch) { return }
        next = max(next + interval, Instant.now)
        if count < 0 || number < count, !feed.pause(until: next) { return }
      }
    }
    return SourceInput("heartbeat", description: description, context, [body])
  }
}
