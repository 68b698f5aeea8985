//  What a connection or request adds to each of its events: peer, TLS identity, HTTP head.
//
//  Two steps, so that nothing is worked out per event. A descriptor has a *layout*: which facts go where, with compiled
//  references. From the layout and a context come the *fields*: finished values, and for each field at the top one ready
//  piece of JSON that holds all facts below it. An event that has no such field, as nearly all do, takes that piece as one
//  node; only where the sender uses the same name are the facts written one by one.

internal import Diagnostics
internal import Events
internal import PluginKit
internal import Records

/// What a context may know.
enum ArrivalFact {
  case peerName, peerIP, peerPort, proxyIP, proxyPort
  case tlsStatus, tlsVersion, tlsCipher, tlsSubject
  case headers, method, target, version, userAgent, domain, port, bodyBytes, mimeType
  /// Of inputs without a peer: this machine's name, the socket's path.
  case hostName, path
}

/// Where the facts of one descriptor go. Immutable.
struct ArrivalLayout {
  struct Place {
    let fact: ArrivalFact
    let reference: FieldReference
    /// Takes the fact where `reference` leads below a scalar of the sender.
    let fallback: FieldReference?
    /// Number of the root that the place lies below.
    let root: Int
  }

  private(set) var places: [Place] = []
  /// The fields at the top of the event or of its metadata.
  private(set) var roots: [FieldReference] = []
  /// What the event has already stays.
  private(set) var onlyIfAbsent = false
  /// `type`, `tags` and `add_field` of the input come first.
  private(set) var followsDecoration = false

  /// The layout that an input's kind, field style and options make.
  init(_ description: RecordDescription) {
    let isECS = description.ecs.isOn
    switch description.input {
    case "beats", "elastic_agent": addBeats(description, isECS)
    case "http": addHTTP(description, isECS)
    case "tcp": addTCP(isECS)
    case "udp":
      followsDecoration = true
      onlyIfAbsent = true
      add(.peerIP, description.option("source_ip_fieldname") ?? (isECS ? "[host][ip]" : "host"))
    case "syslog":
      followsDecoration = true
      add(.peerIP, isECS ? "[host][ip]" : "host")
    case "stdin":
      onlyIfAbsent = true
      add(.hostName, isECS ? "[host][hostname]" : "host")
    case "heartbeat", "generator":
      add(.hostName, isECS ? "[host][name]" : "host")
    case "unix":
      onlyIfAbsent = true
      add(.hostName, isECS ? "[host][name]" : "host")
      add(.path, isECS ? "[file][path]" : "path")
    default: break
    }
  }

  private mutating func addBeats(_ description: RecordDescription, _ isECS: Bool) {
    let enrich = (description.option("enrich") ?? "").split(separator: ",")
    if enrich.contains("source_metadata") {
      add(.peerIP, isECS ? "[@metadata][input][beats][host][ip]" : "[@metadata][ip_address]")
    }
    if enrich.contains("ssl_peer_metadata") {
      add(.tlsStatus, "[@metadata][tls_peer][status]")
      let own = isECS ? "[@metadata][input][beats][tls]" : "[@metadata][tls_peer]"
      add(.tlsVersion, own + (isECS ? "[version_protocol]" : "[protocol]"))
      add(.tlsSubject, own + (isECS ? "[client][subject]" : "[subject]"))
      add(.tlsCipher, own + (isECS ? "[cipher]" : "[cipher_suite]"))
    }
  }

  private mutating func addHTTP(_ description: RecordDescription, _ isECS: Bool) {
    if isECS {
      add(.version, "[http][version]")
      add(.userAgent, "[user_agent][original]")
      add(.domain, "[url][domain]")
      add(.port, "[url][port]")
      add(.method, "[http][method]")
      add(.target, "[url][path]")
      add(.bodyBytes, "[http][request][body][bytes]")
      add(.mimeType, "[http][request][mime_type]")
    }
    add(
      .headers,
      description.option("request_headers_target_field")
        ?? (isECS ? "[@metadata][input][http][request][headers]" : "headers"))
    add(.peerIP, description.option("remote_host_target_field") ?? (isECS ? "[host][ip]" : "host"))
  }

  private mutating func addTCP(_ isECS: Bool) {
    onlyIfAbsent = true
    let own = "[@metadata][input][tcp]"
    add(.peerName, isECS ? own + "[source][name]" : "host")
    add(.peerIP, isECS ? own + "[source][ip]" : "[@metadata][ip_address]")
    add(.peerPort, isECS ? own + "[source][port]" : "port")
    add(.proxyIP, isECS ? own + "[proxy][ip]" : "proxy_host")
    add(.proxyPort, isECS ? own + "[proxy][port]" : "proxy_port")
    add(.tlsSubject, isECS ? own + "[tls][client][subject]" : "sslsubject")
  }

  private mutating func add(_ fact: ArrivalFact, _ text: String) {
    guard let reference = try? FieldReference(text) else { return }
    let path = reference.path
    let isMetadata = reference.root == .metadata
    let top = path.prefix(isMetadata ? 2 : 1)
    guard top.count == (isMetadata ? 2 : 1) else { return }
    let rootPath = Array(top)
    var root = roots.firstIndex { $0.path == rootPath }
    if root == nil, let made = try? FieldReference(rootPath.map { "[\($0)]" }.joined()) {
      roots.append(made)
      root = roots.count - 1
    }
    guard let root else { return }
    let fallback = isMetadata ? nil : try? FieldReference("[@metadata]" + path.map { "[\($0)]" }.joined())
    places.append(Place(fact: fact, reference: reference, fallback: fallback, root: root))
  }
}

/// The finished values of one context. Its memory must stay until the batch that uses it is emptied.
final class ArrivalFields {
  private struct Item {
    let reference: FieldReference
    let fallback: FieldReference?
    let bits: ValueBits
  }
  private struct Group {
    let root: FieldReference
    let bits: ValueBits
    var items: [Item] = []
  }
  private let groups: [Group]
  private let onlyIfAbsent: Bool
  private let memory: StableBytes
  /// Our own stop cut the line.
  let isPartialLine: Bool

  /// - Parameters:
  ///   - context: Nil for payloads that came without a connection: then nothing is added.
  ///   - scratch: Emptied first.
  init(_ layout: ArrivalLayout, _ context: RecordContext?, scratch: EventBatch) {
    scratch.removeAll()
    let maker = scratch.add(arrivalNs: 0)
    onlyIfAbsent = layout.onlyIfAbsent
    let parsed = context.flatMap { context in context.bytes.withUnsafeBytes { try? maker.parseJSON($0) } }
    guard let map = parsed, map.isMap else {
      (groups, memory, isPartialLine) = ([], StableBytes(0), false)
      return
    }
    let memory = StableBytes((context?.bytes.count ?? 0) * 3 + 512)
    self.memory = memory
    isPartialLine = map["partial_line"]?.boolean == true
    let facts = ContextFacts(map, maker)
    var items: [(root: Int, item: Item)] = []
    for place in layout.places {
      guard let found = facts.value(place.fact) else { continue }
      let bits = memory.keep(maker.makeValue(found), maker)
      try? maker.set(place.reference, bits)
      items.append((place.root, Item(reference: place.reference, fallback: place.fallback, bits: bits)))
    }
    groups = layout.roots.enumerated().compactMap { number, root in
      guard let value = maker.value(root) else { return nil }
      var group = Group(root: root, bits: memory.keep(value, maker))
      group.items = items.filter { $0.root == number }.map(\.item)
      return group.items.isEmpty ? nil : group
    }
  }

  var isEmpty: Bool { groups.isEmpty && !isPartialLine }

  func apply(to event: Event) {
    for group in groups {
      if !event.contains(group.root) {
        try? event.set(group.root, group.bits)
      } else {
        merge(group, into: event)
      }
    }
    if isPartialLine { event.addTag("_partial_line") }
  }

  /// The sender has a field of that name.
  private func merge(_ group: Group, into event: Event) {
    for item in group.items {
      if onlyIfAbsent, event.contains(item.reference) { continue }
      do {
        try event.set(item.reference, item.bits)
      } catch {
        if let fallback = item.fallback { try? event.set(fallback, item.bits) }
      }
    }
  }
}

/// Memory that stays in place as long as this object.
final class StableBytes {
  private var chunks: [UnsafeMutablePointer<UInt8>] = []
  private var free: UnsafeMutablePointer<UInt8>?
  private var left = 0

  /// - Parameter expected: Bytes that will probably be needed.
  init(_ expected: Int) { if expected > 0 { addChunk(expected) } }

  deinit { for chunk in chunks { chunk.deallocate() } }

  private func addChunk(_ count: Int) {
    let chunk = UnsafeMutablePointer<UInt8>.allocate(capacity: count)
    chunk.initialize(repeating: 0, count: count)
    chunks.append(chunk)
    free = chunk
    left = count
  }

  /// A copy of `bytes`, with 64 readable bytes behind it.
  func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    let needed = bytes.count + 64
    if left < needed { addChunk(max(needed, 1024)) }
    guard let start = free else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    if let source = bytes.baseAddress {
      UnsafeMutableRawPointer(start).copyMemory(from: source, byteCount: bytes.count)
    }
    free = start + needed
    left -= needed
    return UnsafeRawBufferPointer(start: start, count: bytes.count)
  }

  /// The value, its bytes kept here: a text as it is, a map or list as JSON that is parsed only where somebody looks
  /// inside.
  func keep(_ value: Value, _ maker: Event) -> ValueBits {
    switch value.kind {
    case .text: return .text(staying: copy(value.text ?? UnsafeRawBufferPointer(start: nil, count: 0)))
    case .map, .list:
      var json = ByteBuffer(capacity: 1024)
      value.appendJSON(to: &json)
      return maker.makeFragment(staying: copy(json.bytes), kind: value.kind)
    case .integer: return .integer(value.integer ?? 0)
    case .boolean: return value.bits
    default: return .null
    }
  }
}

/// Looks facts up in the JSON of a context.
private struct ContextFacts {
  private let map: Value
  private let maker: Event
  private let http: Value?
  private let headers: Value?

  init(_ map: Value, _ maker: Event) {
    self.map = map
    self.maker = maker
    http = map["http"]
    headers = http?["headers"]
  }

  func value(_ fact: ArrivalFact) -> ValueBits? {
    switch fact {
    case .peerName: (map["peer"]?["name"] ?? map["peer"]?["ip"])?.bits
    case .peerIP: map["peer"]?["ip"]?.bits
    // An address that a PROXY line named is a text, since Logstash takes it over as it stands there.
    case .peerPort: map["proxy"] == nil ? map["peer"]?["port"]?.bits : map["peer"]?["port"].map(text)
    case .proxyIP: map["proxy"]?["ip"]?.bits
    case .proxyPort: map["proxy"]?["port"].map(text)
    case .tlsStatus: map["tls"].map { _ in .text(isVerified ? "verified" : "unverified") }
    case .tlsVersion: isVerified ? map["tls"]?["version"]?.bits : nil
    case .tlsCipher: isVerified ? map["tls"]?["cipher"]?.bits : nil
    case .tlsSubject: isVerified ? map["tls"]?["subject"]?.bits : nil
    case .headers: http.map(allHeaders)
    case .method: http?["method"]?.bits
    case .target: http?["target"]?.bits
    case .version: http?["version"]?.bits
    case .userAgent: headers?["user_agent"]?.bits
    case .domain: hostParts.domain
    case .port: hostParts.port
    case .bodyBytes: headers?["content_length"]?.bits
    case .mimeType: headers?["content_type"]?.bits
    case .hostName: map["host"]?.bits
    case .path: map["path"]?.bits
    }
  }

  /// A client certificate was asked for, shown and found good.
  private var isVerified: Bool { map["tls"]?["verified"]?.boolean == true && map["tls"]?["subject"] != nil }

  private func text(_ value: Value) -> ValueBits { maker.makeText { value.appendText(to: &$0) } }

  /// The request as a map of texts: its headers, three of them under other names, and the request line.
  private func allHeaders(_ http: Value) -> ValueBits {
    let result = maker.makeMap()
    func set(_ name: StaticString, _ bits: ValueBits) {
      result.set(name: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), bits)
    }
    set("request_method", http["method"]?.bits ?? .null)
    set("request_path", http["target"]?.bits ?? .null)
    set("http_version", http["version"]?.bits ?? .null)
    var member = headers?.first
    while let header = member {
      member = header.next
      switch String(decoding: header.key.bytes, as: UTF8.self) {
      case "accept", "host", "user_agent": continue
      default: result.set(name: header.key.bytes, header.bits)
      }
    }
    set("http_accept", headers?["accept"]?.bits ?? .null)
    set("http_host", headers?["host"]?.bits ?? .null)
    set("http_user_agent", headers?["user_agent"]?.bits ?? .null)
    return result.bits
  }

  /// `name:port` or `[address]:port`; without a port the whole of it is the name.
  private var hostParts: (domain: ValueBits?, port: ValueBits?) {
    guard let host = headers?["host"], let text = host.text, !text.isEmpty else { return (nil, nil) }
    guard let colon = text.lastIndex(of: 58), colon > 0, colon + 1 < text.count, text.count - colon <= 6,
      text[(colon + 1)...].allSatisfy({ $0 >= 48 && $0 <= 57 }),
      text[0] == 91 || !text[..<colon].contains(58)
    else { return (host.bits, nil) }
    let port = text[(colon + 1)...].reduce(0) { $0 * 10 + Int($1 - 48) }
    return (maker.makeText(UnsafeRawBufferPointer(rebasing: text[..<colon])), .integer(port))
  }
}
