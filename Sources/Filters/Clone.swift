//  The `clone` filter: copies of an event, for different ways further on.

internal import Config
internal import Events
internal import PluginKit

struct Clone: FilterPlugin {
  static let manual = Manual(
    name: "clone",
    summary: "Makes copies of an event.",
    details: """
      Each copy has one of the names in its `type`, or with `ecs_compatibility` among its `tags`. Copies stand behind their \
      original and meet the later filters only; the common options apply to the copies.
      """,
    examples: [
      Example(
        "A copy for the auditors", config: "{ clones: [audit] }", input: #"{"m": "x"}"#,
        output: "{\"m\": \"x\"}\n{\"m\": \"x\", \"type\": \"audit\"}")
    ])

  struct Settings: PluginSettings {
    var clones: [String] = []

    static let options: [Option<Settings>] = [
      .option("clones", \.clones, "The names of the copies.", required: true, example: "[audit]")
    ]
  }

  private let names: [Template]
  private let isECS: Bool

  init(_ settings: Settings, _ context: FilterContext) {
    names = settings.clones.map { Template($0) }
    isECS = context.ecs.isOn
  }

  func makeFilter() -> any Filter { Worker(names, isECS) }

  private final class Worker: Filter {
    private let names: [Template]
    private let isECS: Bool
    private let type = FieldReference.known("type")

    init(_ names: [Template], _ isECS: Bool) {
      self.names = names
      self.isECS = isECS
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        for name in names {
          let copy = event.spawnClone()
          if isECS {
            copy.addTag(name.constantBytes, unlessPresent: false)
          } else {
            _ = copy.write(type, .text(staying: name.constantBytes))
          }
          if !batch.success.isEmpty, !batch.success.apply(to: copy) { copy.addTag("_decoratefailure") }
        }
        return false
      }
    }
  }
}
