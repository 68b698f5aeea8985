//  The `drop` filter: takes events out of the pipeline, all of them or a share.

internal import Config
internal import Events
internal import PluginKit

struct Drop: FilterPlugin {
  static let manual = Manual(
    name: "drop",
    summary: "Drops events.",
    details: "Put it under a condition. With `percentage` that share of the events is dropped, drawn by chance.",
    examples: [
      Example("Drop everything that arrives here", config: "{}", input: #"{"level": "debug"}"#, output: "")
    ])

  struct Settings: PluginSettings {
    var percentage = 100

    static let options: [Option<Settings>] = [
      .option("percentage", \.percentage, "The share of events that is dropped.", unit: .percent)
    ]
  }

  private let percentage: Int

  init(_ settings: Settings, _ context: FilterContext) { percentage = settings.percentage }

  func makeFilter() -> any Filter { Worker(percentage) }

  private final class Worker: Filter {
    private let percentage: Int
    init(_ percentage: Int) { self.percentage = percentage }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        if percentage >= 100 || Int.random(in: 0..<100) < percentage { event.cancel() }
        return false  // upstream, a kept event is not decorated either
      }
    }
  }
}
