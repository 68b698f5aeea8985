//  The `useragent` filter: browser, system and device of a user agent, by the rule file of the ua-parser project.

internal import Config
internal import Dispatch
internal import Events
internal import Glibc
internal import PluginKit

struct UserAgentFilter: FilterPlugin {
  static let manual = Manual(
    name: "useragent",
    summary: "Takes browser, operating system and device from the text of a user agent.",
    details: """
      The rules come from Debian's package `uap-core` or from the file that `regexes` names; a changed file is taken up \
      within seconds. With `ecs_compatibility` the fields have the nested names of the Elastic Common Schema and stand \
      below `[user_agent]`, else they are flat. What is not recognised is `Other`. There is no failure tag.
      """,
    examples: [
      Example(
        "Flat names below a target", config: "{source: agent, target: client, ecs_compatibility: disabled}",
        input: #"{"agent": "curl/8.5.0"}"#,
        output: #"{"agent": "curl/8.5.0", "client": {"name": "curl", "version": "8.5.0", "major": "8", "minor": "5", "#
          + #""patch": "0", "os": "Other", "os_name": "Other", "os_full": "Other", "device": "Other"}}"#)
    ])

  struct Settings: PluginSettings {
    var source: FieldReference?
    var target: FieldReference?
    var prefix = ""
    var regexes: FilePath?
    var cacheSize = 8192

    static let options: [Option<Settings>] = [
      .option(
        "source", \.source, "The field with the text; of a list the first element.", required: true,
        example: "user_agent"),
      .option(
        "target", \.target, "Where the fields go.", defaultText: "the event itself; with ecs_compatibility [user_agent]"
      ),
      .option("prefix", \.prefix, "Goes before each name; without ecs_compatibility only."),
      .option("regexes", \.regexes, "The rule file.", defaultText: UserAgentRules.systemPath),
      .option("lru_cache_size", \.cacheSize, "How many texts each worker remembers.", in: 1...1_000_000),
    ]
  }

  fileprivate let input: FieldReference
  fileprivate let target: FieldReference?
  fileprivate let style: UserAgentStyle
  fileprivate let cacheEntries: Int
  fileprivate let source: UserAgentSource?
  fileprivate let check: PeriodicCheck?
  fileprivate static let metadata = FieldReference.known("[@metadata][filter][user_agent]")

  init(_ settings: Settings, _ context: FilterContext) throws {
    guard let input = settings.source else {
      throw BuildFailure("source", "is needed", code: "config.missing-option")
    }
    self.input = input
    let isECS = context.ecs.isOn
    target = settings.target ?? (isECS ? .known("user_agent") : nil)
    style = isECS ? .ecs : .legacy(prefix: settings.prefix)
    cacheEntries = settings.cacheSize
    guard context.services.resolves else {
      source = nil
      check = nil
      return
    }
    let path = settings.regexes.map { context.services.path($0.text) } ?? UserAgentRules.systemPath
    guard access(path, R_OK) == 0 else {
      throw BuildFailure(
        "regexes", "the user-agent rules '\(path)' cannot be read", code: "useragent.rules-missing",
        hint: "install Debian's package uap-core, or give the path of a regexes.yaml")
    }
    let source = UserAgentSource.shared(path: path)
    self.source = source
    check = PeriodicCheck { source.reloadIfChanged() }
    // Reading takes some tens of milliseconds, which no start should wait for; the first batch waits for the rest.
    DispatchQueue.global(qos: .utility).async {
      _ = try? source.load()
      source.reloadIfChanged()
    }
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: UserAgentFilter
    private let lookup: UserAgentLookup?
    /// The fields go where the text stands.
    private let isInPlace: Bool

    init(_ plugin: UserAgentFilter) {
      self.plugin = plugin
      isInPlace = plugin.target == plugin.input
      lookup = plugin.source.map { UserAgentLookup($0, style: plugin.style, cacheEntries: plugin.cacheEntries) }
    }

    func process(_ batch: FilterBatch) {
      guard let lookup else { return }
      plugin.check?.poll()
      lookup.refresh()
      batch.forEach { event in handle(event, lookup) }
    }

    private func handle(_ event: Event, _ lookup: UserAgentLookup) -> Bool {
      guard let text = event.value(plugin.input)?.leadingText, !text.isEmpty,
        let answer = lookup.answer(text)
      else { return false }
      if isInPlace, let target = plugin.target {
        // The text makes way for the map.
        guard (try? event.set(target, event.makeMap().bits)) != nil else { return false }
      }
      guard event.merge(answer.fields, at: plugin.target) else { return false }
      if !answer.metadata.isEmpty { _ = event.merge(answer.metadata, at: UserAgentFilter.metadata) }
      return true
    }
  }
}
