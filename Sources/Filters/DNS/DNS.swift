//  The `dns` filter: addresses of names, and names of addresses.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct DNS: FilterPlugin {
  static let manual = Manual(
    name: "dns",
    summary: "Looks up the addresses of names, or the names of addresses.",
    details: """
      The fields of `resolve` hold names, those of `reverse` addresses, as a text or a list of one. With `replace` the \
      answer takes the value's place, else it is appended. Only the first answer counts; a name that is an address is its \
      own answer. Where there is no answer, or a value is of another kind, the rest of the fields is left alone and the \
      common options are not applied; a missing field is passed over.

      Hosts files are looked at first, those of `hostsfile`, then the system's. Name servers are those of the system \
      unless `nameserver` names others; with a `hostsfile` and no `nameserver` none is asked. All questions of a batch are \
      asked at once, so a batch waits for about one answer, and at worst `timeout` times one more than `max_retries` for \
      each kind of question. Answers are remembered where a cache has a size, for its own time and whatever the server says.
      """,
    examples: [
      Example(
        "An address is its own answer", config: "{ resolve: [host], action: replace, hostsfile: [/dev/null] }",
        input: #"{"host": "203.0.113.80"}"#, output: #"{"host": "203.0.113.80"}"#),
      Example(
        "What is no address has no name", config: "{ reverse: [ip], add_tag: [named], hostsfile: [/dev/null] }",
        input: #"{"ip": "not-an-ip"}"#, output: #"{"ip": "not-an-ip"}"#),
    ],
    failureTags: ["_dnstimeout"])

  enum Action: String, OptionEnum { case append, replace }

  struct Settings: PluginSettings {
    var resolve: [FieldReference] = []
    var reverse: [FieldReference] = []
    var action = Action.append
    var nameserver: NameServers?
    var hostsfile: [FilePath]?
    var timeout = 0.5
    var maxRetries = 2
    var hitCacheSize = 0
    var hitCacheTTL = 60.0
    var failedCacheSize = 0
    var failedCacheTTL = 5.0
    var tagOnTimeout = ["_dnstimeout"]

    static let options: [Option<Settings>] = [
      .option("resolve", \.resolve, "Fields with names whose address is looked up."),
      .option("reverse", \.reverse, "Fields with addresses whose name is looked up."),
      .option("action", \.action, "Append the answer to the value, or replace it."),
      .option(
        "nameserver", \.nameserver,
        "Name servers to ask: addresses, or a map of `address`, `search` and `ndots`.", example: "[192.0.2.1]",
        defaultText: "the system's"),
      .option("hostsfile", \.hostsfile, "Hosts files that are looked at first."),
      .option("timeout", \.timeout, "How long one try waits.", unit: .seconds, in: 0.001...60),
      .option("max_retries", \.maxRetries, "Further tries for a question that is not answered.", in: 0...10),
      .option("hit_cache_size", \.hitCacheSize, "Answers that are remembered; 0 for none.", in: 0...1_000_000),
      .option("hit_cache_ttl", \.hitCacheTTL, "How long an answer is remembered.", unit: .seconds, in: 0...604_800),
      .option(
        "failed_cache_size", \.failedCacheSize, "Questions without an answer that are remembered; 0 for none.",
        in: 0...1_000_000),
      .option(
        "failed_cache_ttl", \.failedCacheTTL, "How long a question without an answer is remembered.",
        unit: .seconds, in: 0...604_800),
      .option("tag_on_timeout", \.tagOnTimeout, "Tags of an event whose question no server answered in time."),
    ]
  }

  fileprivate let settings: Settings
  fileprivate let hosts: HostsTable
  fileprivate let resolver: NameResolver?
  fileprivate let hits: NameCache
  fileprivate let failures: NameCache
  fileprivate let stepID: String

  init(_ settings: Settings, _ context: FilterContext) throws {
    self.settings = settings
    stepID = context.stepID
    hits = NameCache(entriesMax: settings.hitCacheSize, life: .milliseconds(Int64(settings.hitCacheTTL * 1000)))
    failures = NameCache(
      entriesMax: settings.failedCacheSize, life: .milliseconds(Int64(settings.failedCacheTTL * 1000)))
    var hosts = HostsTable()
    let services = context.services
    guard services.resolves else {
      self.hosts = hosts
      resolver = nil
      return
    }
    for path in settings.hostsfile ?? [] {
      do {
        hosts.read(try services.read(path.text, limitBytes: 16 << 20))
      } catch {
        throw BuildFailure("hostsfile", "the hosts file '\(path.text)' cannot be read: \(error.reason)")
      }
    }
    if let system = try? services.read("/etc/hosts", limitBytes: 16 << 20) { hosts.read(system) }
    self.hosts = hosts
    resolver = DNS.resolver(settings, services)
  }

  private static func resolver(_ settings: Settings, _ services: Services) -> NameResolver? {
    var resolving = NameResolverSettings()
    if let given = settings.nameserver {
      resolving.servers = given.servers
      resolving.search = given.details.search
      resolving.ndots = given.details.ndots
    } else {
      if settings.hostsfile != nil { return nil }
      if let file = try? services.read("/etc/resolv.conf", limitBytes: 1 << 20) { resolving.read(systemFile: file) }
    }
    resolving.timeout = .microseconds(Int64(settings.timeout * 1_000_000))
    resolving.tries = settings.maxRetries + 1
    return services.nameResolver(resolving)
  }

  func makeFilter() -> any Filter { Worker(self) }

  private enum Outcome {
    case found([UInt8])
    case missing
    case timeout
  }

  private final class Worker: Filter {
    private let plugin: DNS
    private let tags: FailureTags
    private let replaces: Bool
    /// Answers of the present batch by the hash of the question.
    private var answers: [UInt64: Outcome] = [:]
    private var questions: [NameQuestion] = []
    /// The hash of each question and its text, as caches know it.
    private var keys: [(hash: UInt64, text: [UInt8])] = []

    init(_ plugin: DNS) {
      self.plugin = plugin
      tags = FailureTags(plugin.settings.tagOnTimeout)
      replaces = plugin.settings.action == .replace
    }

    func process(_ batch: FilterBatch) {
      answers.removeAll(keepingCapacity: true)
      for i in batch.selection where !batch.events[i].isCancelled { collect(batch.events[i]) }
      ask()
      batch.forEach { event in
        for field in plugin.settings.resolve where !handle(field, isReverse: false, event) { return false }
        for field in plugin.settings.reverse where !handle(field, isReverse: true, event) { return false }
        return true
      }
    }

    // MARK: Asking

    private func collect(_ event: Event) {
      for field in plugin.settings.resolve { if let text = text(field, event) { look(up: text, isReverse: false) } }
      for field in plugin.settings.reverse { if let text = text(field, event) { look(up: text, isReverse: true) } }
    }

    /// The text of a field, or of the one element of its list.
    private func text(_ field: FieldReference, _ event: Event) -> UnsafeRawBufferPointer? {
      guard let value = event.value(field) else { return nil }
      return value.isList ? (value.count == 1 ? value.first?.text : nil) : value.text
    }

    private func hash(_ text: UnsafeRawBufferPointer, _ isReverse: Bool) -> UInt64 {
      SeededHash.of(text) &+ (isReverse ? 1 : 0)
    }

    /// Answers the question from what is known, or puts it among those that are to be asked.
    private func look(up text: UnsafeRawBufferPointer, isReverse: Bool) {
      let hash = hash(text, isReverse)
      if answers[hash] != nil { return }
      let address = IPAddress(text)
      if isReverse {
        guard let address else { return answers[hash] = .missing }
        if let name = plugin.hosts.names[address] { return answers[hash] = .found(name) }
      } else {
        if address != nil { return answers[hash] = .found(Array(text)) }
        if text.isEmpty || text.count > 1024 { return answers[hash] = .missing }
        if !plugin.hosts.isEmpty, let known = plugin.hosts.addresses[Array(text)] {
          return answers[hash] = .found(known)
        }
      }
      if let known = plugin.hits.find(text, hash) { return answers[hash] = .found(known) }
      if plugin.failures.find(text, hash) != nil || plugin.resolver == nil { return answers[hash] = .missing }
      answers[hash] = .missing
      let copy = Array(text)
      keys.append((hash, copy))
      questions.append(address.map { .name(of: Worker.bytes(of: $0)) } ?? .address(of: copy))
    }

    private static func bytes(of address: IPAddress) -> [UInt8] {
      let address = address.unmapped
      let count = address.isV4 ? 4 : 16
      return (0..<count).map { UInt8(truncatingIfNeeded: address.value >> UInt128((count - 1 - $0) * 8)) }
    }

    private func ask() {
      defer {
        questions.removeAll(keepingCapacity: true)
        keys.removeAll(keepingCapacity: true)
      }
      guard !questions.isEmpty, let resolver = plugin.resolver else { return }
      var late = 0
      for (key, answer) in zip(keys, resolver.answers(to: questions)) {
        switch answer {
        case .found(let text):
          answers[key.hash] = .found(text)
          plugin.hits.insert(key.text, key.hash, text)
        case .missing:
          answers[key.hash] = .missing
          plugin.failures.insert(key.text, key.hash, [])
        case .timeout:
          answers[key.hash] = .timeout
          plugin.failures.insert(key.text, key.hash, [])
          late += 1
        }
      }
      if late > 0 {
        Log.warn(
          "dns.timeout", "Name servers do not answer in time.",
          [
            "filter": .text(plugin.stepID), "questions": .number(late),
            "next": "Check the servers; 'failed_cache_size' keeps a silent one from slowing every batch.",
          ])
      }
    }

    // MARK: Writing

    /// - Returns: False where the rest of the event's fields is to be left alone.
    private func handle(_ field: FieldReference, isReverse: Bool, _ event: Event) -> Bool {
      guard let value = event.value(field), !value.isNull else { return true }
      guard let text = text(field, event) else { return false }
      let hash = hash(text, isReverse)
      if answers[hash] == nil {
        // A field that an earlier answer changed.
        look(up: text, isReverse: isReverse)
        ask()
      }
      switch answers[hash] {
      case .found(let answer): return write(answer, field, value, event)
      case .timeout:
        tags.apply(to: event)
        return false
      case .missing, nil: return false
      }
    }

    private func write(_ answer: [UInt8], _ field: FieldReference, _ value: Value, _ event: Event) -> Bool {
      let bits = answer.withUnsafeBytes { event.makeText($0) }
      if value.isList {
        if replaces { value.first?.replace(with: bits) } else { value.append(bits) }
        return true
      }
      if replaces { return event.write(field, bits) }
      let list = event.makeList()
      list.append(value.bits)
      list.append(bits)
      return event.write(field, list.bits)
    }
  }
}
