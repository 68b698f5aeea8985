//  The `cidr` filter: does an address lie in a network? Its purpose is its common options, which apply where one does.
//
//  Networks without placeholders are put into one sorted set at start. Those of a file are read again when the file
//  changes: a worker looks at the file's date between two batches, at most once in `refresh_interval`.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit
internal import Synchronization

struct CIDR: FilterPlugin {
  static let manual = Manual(
    name: "cidr",
    summary: "Applies the common options where an address lies in a network.",
    details: """
      Networks are `10.0.0.0/8`, `172.16.0.0/255.240.0.0`, `2001:db8::/32`, or one address. An address may stand in brackets, \
      have a zone, or be a network that must lie within. What is no address or network is passed over.
      """,
    examples: [
      Example(
        "Mark what is inside", config: #"{ address: ["%{client_ip}"], network: ["10.0.0.0/8"], add_tag: [internal] }"#,
        input: #"{"client_ip": "10.0.4.8"}"#, output: #"{"client_ip": "10.0.4.8", "tags": ["internal"]}"#),
      Example(
        "A list of addresses", config: #"{ address_field: ips, network: ["10.0.0.0/8"], add_tag: [internal] }"#,
        input: #"{"ips": ["203.0.113.80", "198.51.100.1"]}"#, output: #"{"ips": ["203.0.113.80", "198.51.100.1"]}"#),
    ])

  struct Settings: PluginSettings {
    var address: [Template] = []
    var addressField: FieldReference?
    var network: [Template] = []
    var networkPath: String?
    var separator = "\n"
    var refreshInterval = 600

    static let options: [Option<Settings>] = [
      .option("address", \.address, "Addresses, mostly placeholders."),
      .option("address_field", \.addressField, "A field with an address or a list of them."),
      .option("network", \.network, "Networks; one entry may hold several, with commas between."),
      .option("network_path", \.networkPath, "A file with networks."),
      .option("separator", \.separator, "What stands between the networks of the file."),
      .option(
        "refresh_interval", \.refreshInterval, "How often a changed file is looked for.", unit: .seconds,
        in: 1...86_400_000),
    ]
  }

  private let addresses: [Template]
  private let addressField: FieldReference?
  private let constant: NetworkSet
  private let dynamic: [Template]
  private let file: NetworkFile?

  init(_ settings: Settings, _ context: FilterContext) throws {
    if settings.addressField != nil, !settings.address.isEmpty {
      throw BuildFailure("address_field", "cannot stand beside 'address'")
    }
    if settings.networkPath != nil, !settings.network.isEmpty {
      throw BuildFailure("network_path", "cannot stand beside 'network'")
    }
    addresses = settings.address
    addressField = settings.addressField
    constant = NetworkSet(settings.network.filter(\.isConstant).flatMap { CIDR.networks($0.constantBytes) })
    dynamic = settings.network.filter { !$0.isConstant }
    file = try settings.networkPath.map { path in
      do {
        return try NetworkFile(
          path, separator: settings.separator, intervalSeconds: settings.refreshInterval, services: context.services)
      } catch {
        throw BuildFailure("network_path", "\(error)", code: "config.file")
      }
    }
  }

  func makeFilter() -> any Filter { Worker(self) }

  /// The networks of one entry: several with commas between, blanks around each.
  fileprivate static func networks(_ text: UnsafeRawBufferPointer) -> [IPNetwork] {
    text.split(separator: 44).compactMap { part in
      var part = part
      while let first = part.first, isSpace(first) { part = part.dropFirst() }
      while let last = part.last, isSpace(last) { part = part.dropLast() }
      return IPNetwork(UnsafeRawBufferPointer(rebasing: part))
    }
  }

  private final class Worker: Filter {
    private let plugin: CIDR
    private var fromFile = NetworkSet([])

    init(_ plugin: CIDR) { self.plugin = plugin }

    func process(_ batch: FilterBatch) {
      if let file = plugin.file { fromFile = file.current() }
      batch.forEach { matches($0) }
    }

    private func matches(_ event: Event) -> Bool {
      if let field = plugin.addressField {
        guard let value = event.value(field) else { return false }
        guard value.isList else { return value.text.map { isInside($0, event) } ?? false }
        var child = value.first
        while let element = child {
          if let text = element.text, isInside(text, event) { return true }
          child = element.next
        }
        return false
      }
      for address in plugin.addresses {
        guard let bits = try? address.bits(event), let text = event.makeValue(bits).text else { continue }
        if isInside(text, event) { return true }
      }
      return false
    }

    private func isInside(_ text: UnsafeRawBufferPointer, _ event: Event) -> Bool {
      guard let address = CIDR.address(text) else { return false }
      if plugin.constant.contains(address) || fromFile.contains(address) { return true }
      for template in plugin.dynamic {
        guard let bits = try? template.bits(event), let text = event.makeValue(bits).text else { continue }
        if NetworkSet(CIDR.networks(text)).contains(address) { return true }
      }
      return false
    }
  }

  /// An address, perhaps in brackets or with a zone, or a range of them.
  private static func address(_ text: UnsafeRawBufferPointer) -> IPNetwork? {
    var body = text
    if body.count > 2, body[0] == UInt8(ascii: "["), body[body.count - 1] == UInt8(ascii: "]") {
      body = body.slice(1, body.count - 1)
    }
    if let percent = body.firstIndex(of: UInt8(ascii: "%")) {
      guard percent + 1 < body.count, body.prefix(percent).contains(UInt8(ascii: ":")) else { return nil }
      body = body.slice(0, percent)
    }
    return IPNetwork(body)
  }
}

/// The networks of a file, read again when it changes. All workers share one.
private final class NetworkFile: Sendable {
  private struct State {
    var networks: NetworkSet
    var modifiedNs: Int64
  }

  private let path: String
  private let separator: [UInt8]
  private let interval: Duration
  private let services: Services
  private let state: Lock<State>
  private let due: Atomic<Int64>

  /// - Throws: `SystemError` where the file cannot be read; a configuration that is only checked reads nothing.
  init(_ path: String, separator: String, intervalSeconds: Int, services: Services) throws(SystemError) {
    self.path = path
    self.separator = Array(separator.utf8)
    interval = .seconds(intervalSeconds)
    self.services = services
    var first = State(networks: NetworkSet([]), modifiedNs: 0)
    if services.resolves {
      first.modifiedNs = services.stamp(path)?.modifiedNs ?? 0
      first.networks = NetworkFile.parse(try services.read(path), self.separator)
    }
    state = Lock(first)
    due = Atomic(Instant.now.ns + interval.ns)
  }

  /// The networks as they are now.
  func current() -> NetworkSet {
    let now = Instant.now.ns
    let due = due.load(ordering: .relaxed)
    if now >= due {
      let (isMine, _) = self.due.compareExchange(
        expected: due, desired: now + interval.ns, ordering: .acquiringAndReleasing)
      if isMine { reload() }
    }
    return state.withLock { $0.networks }
  }

  private func reload() {
    guard let stamp = services.stamp(path), stamp.modifiedNs != state.withLock({ $0.modifiedNs }) else { return }
    do {
      let fresh = State(
        networks: NetworkFile.parse(try services.read(path), separator), modifiedNs: stamp.modifiedNs)
      state.withLock { $0 = fresh }
      Log.info("cidr.reloaded", "A changed file of networks is in use.", ["path": .text(path)])
    } catch {
      Log.warn(
        "cidr.reload-failed", "A changed file of networks cannot be read; the networks before stay.",
        ["path": .text(path), "reason": .text("\(error)")])
    }
  }

  private static func parse(_ bytes: [UInt8], _ separator: [UInt8]) -> NetworkSet {
    bytes.withUnsafeBytes { text in
      separator.withUnsafeBytes { separator in
        var networks: [IPNetwork] = []
        var start = 0
        while start <= text.count {
          let end = find(separator, in: text, from: start) ?? text.count
          if let network = IPNetwork(text.slice(start, end)) { networks.append(network) }
          start = end + max(1, separator.count)
        }
        return NetworkSet(networks)
      }
    }
  }
}
