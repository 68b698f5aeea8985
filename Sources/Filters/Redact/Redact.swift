//  The `redact` filter: takes personal data and secrets out of texts before they leave.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import Patterns
internal import PluginKit

struct Redact: FilterPlugin {
  static let manual = Manual(
    name: "redact",
    summary: "Takes personal data and secrets out of texts.",
    details: """
      Looks for e-mail addresses, payment card numbers (by issuer, length and check digit), social security numbers, \
      medical record numbers (behind a label such as MRN), tokens, keys and passwords, and, where `detect` says so, IP \
      addresses; and for expressions of your own. All texts of the event are looked through, at any depth, unless \
      `fields` names some; names of fields are not, and neither are numbers, but for card numbers. What is found is \
      replaced, hashed with a key (equal values give equal hashes, whatever their case, blanks and dashes), or cut \
      out. The fields of `whole_fields` are redacted whatever they hold. The common options apply to events in which \
      something was found. A text on which an expression takes too long is redacted whole and the event tagged. \
      Finding is a matter of patterns: a number without its label, or a name, is not seen.
      """,
    examples: [
      Example(
        "What is looked for by itself", config: "{}",
        input: #"{"message": "lena@example.org paid with 4111 1111 1111 1111, MRN: 00123456, password=hunter2"}"#,
        output: #"{"message": "[email] paid with [card], MRN: [medical_record], password=[token]"}"#),
      Example(
        "Hashes that can be compared, with addresses",
        config: #"{ detect: [address], action: hash, key: "k", hash_digits: 8, replacement: "ip-{hash}" }"#,
        input: #"{"client": "203.0.113.80", "n": 1}"#, output: #"{"client": "ip-a1a6002b", "n": 1}"#),
      Example(
        "An expression, and a field that goes whole",
        config: #"{ detect: [], patterns: { staff: 'EMP-(\d+)' }, whole_fields: [diagnosis], add_tag: [redacted] }"#,
        input: #"{"message": "EMP-4711 signed", "diagnosis": "J45"}"#,
        output: #"{"message": "EMP-[staff] signed", "diagnosis": "[field]", "tags": ["redacted"]}"#),
    ],
    failureTags: ["_redactfailure"])

  enum Action: String, OptionEnum { case replace, hash, remove }

  enum Detector: String, OptionEnum {
    case address, email, card, ssn, token
    case medicalRecord = "medical_record"
  }

  struct Settings: PluginSettings {
    var fields: [FieldReference]?
    var except: [FieldReference] = []
    var wholeFields: [FieldReference] = []
    var detect: [Detector] = [.email, .card, .ssn, .token, .medicalRecord]
    var patterns: OrderedMap<String, String> = [:]
    var action = Action.replace
    var replacement: String?
    var key: Secret?
    var hashDigits = 32

    static let options: [Option<Settings>] = [
      .option("fields", \.fields, "The fields to look through.", defaultText: "all texts of the event"),
      .option("except", \.except, "Fields that stay as they are, with all that is in them."),
      .option("whole_fields", \.wholeFields, "Fields that are redacted whatever they hold."),
      .option("detect", \.detect, "What to look for."),
      .option(
        "patterns", \.patterns,
        "Names and regular expressions; where an expression has a group, only what the first group takes is redacted.",
        example: "{ staff: 'EMP-(\\d+)' }"),
      .option("action", \.action, "What happens to what is found: `remove` cuts it out of its text."),
      .option(
        "replacement", \.replacement,
        "The text in its place; `{kind}` stands for what was found and `{hash}` for its hash.",
        defaultText: "[{kind}]; [{kind}:{hash}] with `hash`"),
      .option("key", \.key, "The key of the hashes (HMAC with SHA-256)."),
      .option("hash_digits", \.hashDigits, "Length of a hash in hexadecimal digits.", in: 8...64),
    ]
  }

  /// A part of the replacement.
  fileprivate enum Part: Sendable { case text([UInt8]), kind, hash }

  private let settings: Settings
  private let patterns: [Pattern]
  /// The names of kinds, then those of expressions, then that of whole fields.
  fileprivate let names: [[UInt8]]
  fileprivate let parts: [Part]

  init(_ settings: Settings, _ context: FilterContext) throws {
    self.settings = settings
    patterns = try settings.patterns.entries.map { entry in
      do {
        return try Pattern(ruby: entry.value, dialect: .condition)
      } catch {
        throw BuildFailure("patterns", "the expression of '\(entry.key)' cannot be read: \(error)")
      }
    }
    names =
      RedactKind.allCases.map { Array($0.rawValue.utf8) } + settings.patterns.entries.map { Array($0.key.utf8) }
      + [Array("field".utf8)]
    let standard = settings.action == .hash ? "[{kind}:{hash}]" : "[{kind}]"
    parts = Redact.parts(settings.action == .remove ? "" : settings.replacement ?? standard)
    let hasHash = parts.contains { if case .hash = $0 { true } else { false } }
    switch settings.action {
    case .remove:
      if settings.replacement != nil { throw BuildFailure("replacement", "means nothing with 'action: remove'") }
    case .replace:
      if hasHash { throw BuildFailure("replacement", "has a hash, which needs 'action: hash' and a key") }
    case .hash:
      if settings.key?.isEmpty ?? true {
        throw BuildFailure(
          "key", "is needed with 'action: hash': without a key, hashes of short numbers are found by trying",
          code: "config.missing-option")
      }
      if !hasHash { throw BuildFailure("replacement", "has no {hash}, though 'action' is hash") }
      do { _ = try Digester(.sha256) } catch { throw BuildFailure("action", "\(error)") }
    }
    if settings.detect.isEmpty, settings.patterns.isEmpty, settings.wholeFields.isEmpty {
      throw BuildFailure("detect", "is empty beside no 'patterns' and no 'whole_fields': nothing is looked for")
    }
  }

  private static func parts(_ text: String) -> [Part] {
    var parts: [Part] = []
    var literal: [UInt8] = []
    var rest = Array(text.utf8)[...]
    func close() {
      if !literal.isEmpty { parts.append(.text(literal)) }
      literal = []
    }
    while let byte = rest.first {
      if rest.starts(with: "{kind}".utf8) {
        close()
        parts.append(.kind)
        rest = rest.dropFirst(6)
      } else if rest.starts(with: "{hash}".utf8) {
        close()
        parts.append(.hash)
        rest = rest.dropFirst(6)
      } else {
        literal.append(byte)
        rest = rest.dropFirst()
      }
    }
    close()
    return parts
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: Redact
    private let settings: Settings
    private let scanner: RedactScanner
    private let scansNumbers: Bool
    private let looks: Bool
    private let digester: KeyedDigester?
    private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 32, alignment: 8)
    private var plain = ByteBuffer()
    /// The values of `except` and `whole_fields` in the event at hand.
    private var skipped: [Value] = []
    private var isUnfinished = false

    init(_ plugin: Redact) {
      self.plugin = plugin
      settings = plugin.settings
      let kinds = plugin.settings.detect.compactMap { RedactKind(rawValue: $0.rawValue) }
      scanner = RedactScanner(kinds, plugin.patterns)
      scansNumbers = kinds.contains(.card)
      looks = !kinds.isEmpty || !plugin.patterns.isEmpty
      digester = plugin.settings.key.flatMap { try? KeyedDigester(.sha256, key: Array($0.revealed.utf8)) }
    }

    deinit { room.deallocate() }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        isUnfinished = false
        let isChanged = handle(event)
        if isUnfinished { event.addTag("_redactfailure") }
        return isChanged
      }
    }

    private func handle(_ event: Event) -> Bool {
      skipped.removeAll(keepingCapacity: true)
      for field in settings.except { if let value = event.value(field) { skipped.append(value) } }
      var isChanged = false
      for field in settings.wholeFields {
        guard let value = event.value(field) else { continue }
        isChanged = redactWhole(value, event) || isChanged
        skipped.append(value)
      }
      guard looks else { return isChanged }
      if let fields = settings.fields {
        for field in fields { if let value = event.value(field) { isChanged = look(value, event) || isChanged } }
      } else {
        var child = event.fields.first
        while let field = child {
          isChanged = look(field, event) || isChanged
          child = field.next
        }
      }
      return isChanged
    }

    private func look(_ value: Value, _ event: Event) -> Bool {
      if !skipped.isEmpty, skipped.contains(where: { $0.isSame(as: value) }) { return false }
      switch value.kind {
      case .text:
        guard let text = value.text, scanner.scan(text) else { return false }
        if scanner.isUnfinished {
          isUnfinished = true
          value.replace(with: event.makeText { [self] out in append(text, plugin.names.count - 1, to: &out) })
        } else {
          value.replace(with: redacted(text, event))
        }
        return true
      case .integer:
        guard scansNumbers, let number = value.integer, number >= 100_000_000_000 else { return false }
        plain.removeAll()
        plain.append(decimal: number)
        guard RedactScanner.isCard(UInt64(number), plain.count) else { return false }
        let digits = event.copy(plain.bytes)
        value.replace(with: event.makeText { [self] out in append(digits, Worker.cardKind, to: &out) })
        return true
      case .list, .map:
        var isChanged = false
        var child = value.first
        while let member = child {
          isChanged = look(member, event) || isChanged
          child = member.next
        }
        return isChanged
      default: return false
      }
    }

    private static let cardKind = RedactKind.allCases.firstIndex(of: .card) ?? 0

    private func redacted(_ text: UnsafeRawBufferPointer, _ event: Event) -> ValueBits {
      event.makeText { out in
        var done = 0
        for hit in scanner.hits {
          out.append(text.slice(done, hit.start))
          append(text.slice(hit.start, hit.end), hit.kind, to: &out)
          done = hit.end
        }
        out.append(text.slice(done, text.count))
      }
    }

    private func append(_ piece: UnsafeRawBufferPointer, _ kind: Int, to out: inout ByteBuffer) {
      for part in plugin.parts {
        switch part {
        case .text(let text): out.append(contentsOf: text)
        case .kind: out.append(contentsOf: plugin.names[kind])
        case .hash: appendHash(piece, kind, to: &out)
        }
      }
    }

    /// The hash of what counts in a piece, so that two ways to write it have one hash.
    private func appendHash(_ piece: UnsafeRawBufferPointer, _ kind: Int, to out: inout ByteBuffer) {
      guard let digester else { return }
      plain.removeAll()
      let known = kind < RedactKind.allCases.count ? RedactKind.allCases[kind] : nil
      switch known {
      case .email, .address: for byte in piece { plain.append(lowerCase(byte)) }
      case .card, .ssn: for byte in piece where isDigit(byte) { plain.append(byte) }
      default: plain.append(piece)
      }
      digester.update(plain.bytes)
      digester.finish(into: room)
      for i in 0..<settings.hashDigits {
        let byte = room[i / 2]
        out.append(hexadecimalDigit(of: i % 2 == 0 ? byte >> 4 : byte & 15))
      }
    }

    /// Redacts every scalar of a value as a whole; null stays.
    private func redactWhole(_ value: Value, _ event: Event) -> Bool {
      switch value.kind {
      case .null: return false
      case .list, .map:
        var isChanged = false
        var child = value.first
        while let member = child {
          isChanged = redactWhole(member, event) || isChanged
          child = member.next
        }
        return isChanged
      default:
        guard let text = value.text ?? event.rubyText(value) else { return false }
        // `@timestamp` and the like hold no text, and stay.
        if value.kind == .timestamp { return false }
        value.replace(with: event.makeText { [self] out in append(text, plugin.names.count - 1, to: &out) })
        return true
      }
    }
  }
}
