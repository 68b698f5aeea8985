//  The `stdout` output: a JSON object a line on standard output, for looking at a pipeline.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Stdout: OutputPlugin {
  static let manual = Manual(
    name: "stdout", summary: "Prints events on standard output, one JSON object a line.",
    details: """
      It is for looking, and has no overflow queue: while whoever reads standard output does not read, the other outputs \
      of the pipeline wait as well. Events count as shown where nobody reads at all.
      """,
    examples: [
      Example(
        "Look at a pipeline", config: "{}",
        input: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "@version": "1", "message": "order placed"}"#,
        output: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "@version": "1", "message": "order placed"}"#)
    ])

  struct Settings: PluginSettings {
    static let options: [Option<Settings>] = []
  }

  static func make(_ settings: Settings, _ context: OutputContext) throws -> any Output { Printer() }

  private final class Printer: Output {
    private let buffer = Lock(ByteBufferBox())
    private let events = Counter()

    func start() throws {}
    func stop(deadline: Instant) {}

    func write(_ batch: OutputBatch) {
      buffer.withLock { box in
        box.bytes.removeAll()
        for i in batch.selection {
          batch.events[i].appendJSON(to: &box.bytes)
          box.bytes.append(10)
        }
        // A closed standard output has nobody to tell; the events count as shown.
        writeAll(box.bytes.bytes, to: 1)
      }
      events.add(batch.selection.count)
    }

    var statistics: OutputStatistics {
      var result = OutputStatistics()
      result.eventsIn = events.value
      result.eventsOut = events.value
      return result
    }
  }
}

/// A buffer that a lock can hold.
final class ByteBufferBox {
  var bytes = ByteBuffer(capacity: 1 << 16)
}
