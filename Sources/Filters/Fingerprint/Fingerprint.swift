//  The `fingerprint` filter: a hash of fields, for ids that stay the same when an event comes twice, and for values that
//  must be comparable but not readable.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Fingerprint: FilterPlugin {
  static let manual = Manual(
    name: "fingerprint",
    summary: "Writes a hash of fields.",
    details: """
      Without an option to concatenate, each source is hashed into the same target, so that the last one that is there \
      wins; a list gives a list. `concatenate_sources` hashes `|name|value` for each source, sorted by name, and a bar; \
      a missing value is an empty text. `concatenate_all_fields` does so for all fields but the metadata. Nested data \
      count by their content, whatever the order of their keys. With a `key` the hash is an HMAC. IPV4_NETWORK cuts an \
      address to its network, PUNCTUATION keeps only the signs of a text, UUID is random. The target is ECS's \
      `[event][hash]` where `ecs_compatibility` is on.
      """,
    examples: [
      Example(
        "One field", config: "{}", input: #"{"message": "cart-7"}"#,
        output: #"{"message": "cart-7", "fingerprint": "5d82522a300e2955be20f13da9df20925d6315ed"}"#),
      Example(
        "An id from two fields",
        config: #"{ source: [user, site], concatenate_sources: true, target: "[@metadata][id]" }"#,
        input: #"{"user": "lena", "site": "eu"}"#,
        output: """
          {"user": "lena", "site": "eu", "@metadata": {"id": "0f400d69a1f5666e05725a387038aee5039a7446"}}
          """),
      Example(
        "The network of an address", config: #"{ source: ip, target: net, method: IPV4_NETWORK, key: "24" }"#,
        input: #"{"ip": "203.0.113.80"}"#, output: #"{"ip": "203.0.113.80", "net": "203.0.113.0"}"#),
    ])

  enum Method: String, OptionEnum {
    case sha1 = "SHA1"
    case sha256 = "SHA256"
    case sha384 = "SHA384"
    case sha512 = "SHA512"
    case md5 = "MD5"
    case murmur3 = "MURMUR3"
    case murmur3Long = "MURMUR3_128"
    case network = "IPV4_NETWORK"
    case uuid = "UUID"
    case punctuation = "PUNCTUATION"

    fileprivate var digest: DigestKind? { DigestKind(rawValue: rawValue) }
  }

  struct Settings: PluginSettings {
    var source = [FieldReference.message]
    var target: FieldReference?
    var method = Method.sha1
    var key: HashKey?
    var base64encode = false
    var concatenateSources = false
    var concatenateAllFields = false

    static let options: [Option<Settings>] = [
      .option("source", \.source, "The fields to hash."),
      .option(
        "target", \.target, "Where the hash goes.", defaultText: "fingerprint; [event][hash] where ECS names are on"),
      .option("method", \.method, "The hash, or what else is made of the fields."),
      .option("key", \.key, "The key of an HMAC; for IPV4_NETWORK the length of the prefix, in quotes."),
      .option("base64encode", \.base64encode, "Writes hashes in base64 instead of hexadecimal digits."),
      .option("concatenate_sources", \.concatenateSources, "Makes one hash of all sources."),
      .option("concatenate_all_fields", \.concatenateAllFields, "Makes one hash of the whole event."),
    ]
  }

  private let settings: Settings
  private let target: FieldReference
  /// `|name|` and the field, sorted by name.
  private let sorted: [(label: Template, field: FieldReference)]
  private let prefixBits: Int

  init(_ settings: Settings, _ context: FilterContext) throws {
    self.settings = settings
    target = settings.target ?? FieldReference.known(context.ecs.isOn ? "[event][hash]" : "fingerprint")
    let names = settings.source.sorted { $0.description.utf8.lexicographicallyPrecedes($1.description.utf8) }
    sorted = names.map { (Template("|\($0.description)|"), $0) }
    prefixBits = settings.key.flatMap { Int($0.text) } ?? 0
    if settings.method == .network {
      guard let key = settings.key else {
        throw BuildFailure("key", "is needed with IPV4_NETWORK: the length of the prefix", hint: "key: \"24\"")
      }
      guard let bits = Int(key.text), (0...128).contains(bits) else {
        throw BuildFailure("key", "is the length of a prefix with IPV4_NETWORK, 0 to 128")
      }
    }
    if let kind = settings.method.digest {
      do { _ = try Digester(kind) } catch { throw BuildFailure("method", "\(error)") }
    }
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let settings: Settings
    private let target: FieldReference
    private let sorted: [(label: Template, field: FieldReference)]
    private let prefixBits: Int
    private let digester: Digester?
    private let keyed: KeyedDigester?
    private let ids = RandomUUIDs()
    private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 8)
    private var canonical = CanonicalText()
    private var text = ByteBuffer()

    init(_ plugin: Fingerprint) {
      settings = plugin.settings
      target = plugin.target
      sorted = plugin.sorted
      prefixBits = plugin.prefixBits
      // The plugin has made one of this kind, so that a failure here means lack of memory: nothing is written then.
      digester = plugin.settings.method.digest.flatMap { try? Digester($0) }
      keyed = plugin.settings.key.flatMap { key in
        plugin.settings.method.digest.flatMap { try? KeyedDigester($0, key: Array(key.text.utf8)) }
      }
    }

    deinit { room.deallocate() }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        switch settings.method {
        case .uuid: _ = event.write(target, ids.make(event))
        case .punctuation: for entry in sorted { hash(entry.field, event) }
        default:
          if settings.concatenateAllFields {
            text.removeAll()
            text.append(124)
            canonical.append(membersOf: event.fields, to: &text)
            text.append(124)
            write(hash(text: text.bytes, event), event)
          } else if settings.concatenateSources {
            concatenate(event)
          } else {
            for field in settings.source { hash(field, event) }
          }
        }
        return true
      }
    }

    private func concatenate(_ event: Event) {
      text.removeAll()
      for entry in sorted {
        text.append(entry.label.constantBytes)
        if let value = event.value(entry.field) { canonical.append(value, to: &text) }
      }
      text.append(124)
      write(hash(text: text.bytes, event), event)
    }

    private func write(_ bits: ValueBits?, _ event: Event) { if let bits { _ = event.write(target, bits) } }

    private func hash(_ field: FieldReference, _ event: Event) {
      guard let value = event.value(field) else { return }
      guard value.isList else { return write(hash(value, event), event) }
      let list = event.makeList()
      var child = value.first
      while let element = child {
        // One element that cannot be hashed leaves the target as it is.
        guard let bits = hash(element, event) else { return }
        list.append(bits)
        child = element.next
      }
      write(list.bits, event)
    }

    private func hash(_ value: Value, _ event: Event) -> ValueBits? {
      switch settings.method {
      case .punctuation: return value.text.map { signs($0, event) }
      case .network: return value.text.flatMap { network($0, event) }
      case .murmur3:
        if let number = value.integer {
          return withUnsafeBytes(of: number.littleEndian) { .integer(Int64(Murmur3.hash32($0))) }
        }
      case .murmur3Long:
        if let number = value.integer {
          if let small = Int32(exactly: number) {
            return withUnsafeBytes(of: small.littleEndian) { hash(text: $0, event) }
          }
          return withUnsafeBytes(of: number.littleEndian) { hash(text: $0, event) }
        }
      default: break
      }
      if let plain = value.text { return hash(text: plain, event) }
      text.removeAll()
      canonical.append(value, to: &text)
      return hash(text: text.bytes, event)
    }

    private func hash(text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits? {
      switch settings.method {
      case .murmur3: return .integer(Int64(Murmur3.hash32(text)))
      case .murmur3Long:
        let (low, high) = Murmur3.hash128(text, seed: 2)
        room.storeBytes(of: low.littleEndian, as: UInt64.self)
        room.storeBytes(of: high.littleEndian, toByteOffset: 8, as: UInt64.self)
        return printed(16, event)
      case .network: return network(text, event)
      case .punctuation: return signs(text, event)
      case .uuid: return nil
      default: break
      }
      if let keyed {
        keyed.update(text)
        keyed.finish(into: room)
        return printed(keyed.length, event)
      }
      guard let digester else { return nil }
      digester.update(text)
      digester.finish(into: room)
      return printed(digester.kind.length, event)
    }

    private func printed(_ count: Int, _ event: Event) -> ValueBits {
      let bytes = UnsafeRawBufferPointer(rebasing: room[..<count])
      guard settings.base64encode else { return event.makeHexadecimal(bytes) }
      return event.makeText { Base64.encode(bytes, into: &$0) }
    }

    private func network(_ text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits? {
      guard var address = IPAddress(text), prefixBits <= address.bitCount else { return nil }
      let host = UInt128(address.bitCount - prefixBits)
      address.value = host == 128 ? 0 : (address.value >> host) << host
      return event.makeText { address.appendShortest(to: &$0) }
    }

    private func signs(_ text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits {
      event.makeText { out in
        var i = 0
        while i < text.count {
          let byte = text[i]
          if byte < 0x80 {
            if byte > 32, byte < 127, byte &- 48 > 9, (byte | 32) &- 97 > 25 { out.append(byte) }
            i += 1
            continue
          }
          var end = i + 1
          while end < text.count, text[end] & 0xc0 == 0x80 { end += 1 }
          if isSign(text.slice(i, end)) { out.append(text.slice(i, end)) }
          i = end
        }
      }
    }

    /// Punctuation and symbols of all scripts.
    private func isSign(_ character: UnsafeRawBufferPointer) -> Bool {
      guard let scalar = String(decoding: character, as: UTF8.self).unicodeScalars.first else { return false }
      switch scalar.properties.generalCategory {
      case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
        .finalPunctuation, .otherPunctuation, .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol:
        return true
      default: return false
      }
    }
  }
}

/// A key of a hash, never shown. A bare number is refused: whether `007` means its digits would be a guess.
struct HashKey: OptionValue {
  let text: String

  static var typeName: String { Secret.typeName }
  static var schema: OptionSchema { .secret }

  static func read(_ node: YAMLNode, _ context: OptionContext) -> HashKey? {
    guard let secret = Secret.read(node, context) else { return nil }
    if !node.isQuoted, !node.heldVariable, let first = secret.revealed.utf8.first, first &- 48 < 10 || first == 45,
      Double(secret.revealed) != nil
    {
      return context.complain(node, "takes a text, not a number", hint: "write it in quotes")
    }
    return HashKey(text: secret.revealed)
  }

  var optionText: String? { "***" }
}

extension IPAddress {
  /// Writes the address; of IPv6 the longest run of zero groups becomes `::`.
  func appendShortest(to out: inout ByteBuffer) {
    guard !isV4 else { return append(to: &out) }
    func group(_ i: Int) -> UInt32 { UInt32(truncatingIfNeeded: value >> UInt128(112 - 16 * i)) & 0xffff }
    var run = 0..<0
    var i = 0
    while i < 8 {
      let start = i
      while i < 8, group(i) == 0 { i += 1 }
      if i - start > max(1, run.count) { run = start..<i }
      i += 1
    }
    i = 0
    while i < 8 {
      if i == run.lowerBound, !run.isEmpty {
        out.append("::")
        i = run.upperBound
        continue
      }
      if i > 0, i != run.upperBound || run.isEmpty { out.append(58) }
      var isLeading = true
      for shift in [12, 8, 4, 0] as [UInt32] {
        let digit = UInt8(group(i) >> shift & 15)
        if digit == 0, isLeading, shift > 0 { continue }
        isLeading = false
        out.append(hexadecimalDigit(of: digit))
      }
      i += 1
    }
  }
}
