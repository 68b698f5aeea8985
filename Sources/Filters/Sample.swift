//  The `sample` filter: keeps a share of the events, always the same ones, so that a replay or a second daemon keeps what
//  the first one kept.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Sample: FilterPlugin {
  static let manual = Manual(
    name: "sample",
    summary: "Keeps a percentage of the events and drops the others.",
    details: """
      Whether an event is kept is worked out from its key, else from the id of its record, and not drawn: events with equal \
      keys stay or go together, on every machine and at every replay, and what is kept at 10 percent is kept at 20 as well. \
      Where a field of the key is missing, the record's id decides. Kept events take the common options. The `drop` filter \
      with `percentage` draws by chance.
      """,
    examples: [
      Example(
        "A tenth of the sessions, each of them whole", config: #"{ percentage: 10, key: "%{session}", target: rate }"#,
        input: """
          {"session": "a", "n": 1}
          {"session": "b", "n": 1}
          {"session": "n", "n": 1}
          {"session": "n", "n": 2}
          """,
        output: """
          {"session": "n", "n": 1, "rate": 10.0}
          {"session": "n", "n": 2, "rate": 10.0}
          """)
    ])

  struct Settings: PluginSettings {
    var percentage = 100.0
    var key: Template?
    var target: FieldReference?

    static let options: [Option<Settings>] = [
      .option(
        "percentage", \.percentage, "The share that is kept, such as 12.5.", unit: .percent, in: 0...100,
        required: true, example: "10"),
      .option(
        "key", \.key, "Events with equal keys stay or go together; placeholders are filled in.",
        example: "'%{session}'", defaultText: "the record's id"),
      .option("target", \.target, "Where the percentage is written, so that counts can be scaled later."),
    ]
  }

  private let settings: Settings

  init(_ settings: Settings, _ context: FilterContext) throws {
    if let fault = settings.key?.fault { throw BuildFailure("key", fault.description) }
    self.settings = settings
  }

  func makeFilter() -> any Filter { Worker(settings) }

  private final class Worker: Filter {
    private let key: Template?
    private let target: FieldReference?
    private let percentage: Double
    /// Hashes below it are kept; nil keeps all.
    private let limit: UInt64?
    private var text = ByteBuffer(capacity: 128)

    init(_ settings: Settings) {
      key = settings.key
      target = settings.target
      percentage = settings.percentage
      limit = settings.percentage >= 100 ? nil : UInt64(settings.percentage / 100 * 0x1p64)
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        if let limit, hash(event) >= limit {
          event.cancel()
          return false
        }
        if let target { return event.write(target, .double(percentage)) }
        return true
      }
    }

    private func hash(_ event: Event) -> UInt64 {
      text.removeAll()
      if let key, (try? key.append(event, to: &text)) == true { return Worker.hash(text.bytes) }
      text.removeAll()
      event.appendRecordID(to: &text)
      return Worker.hash(text.bytes)
    }

    /// A hash without a seed: it must be the same everywhere and for ever.
    private static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
      var value: UInt64 = 0xcbf2_9ce4_8422_2325
      for byte in bytes { value = (value ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
      value = (value ^ value >> 33) &* 0xff51_afd7_ed55_8ccd
      value = (value ^ value >> 33) &* 0xc4ce_b9fe_1a85_ec53
      return value ^ value >> 33
    }
  }
}
