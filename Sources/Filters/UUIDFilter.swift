//  The `uuid` filter: a random id for each event.

internal import Config
internal import Events
internal import Glibc
internal import PluginKit

struct UUIDFilter: FilterPlugin {
  static let manual = Manual(
    name: "uuid",
    summary: "Writes a random UUID (version 4).",
    details: "A value that is there stays unless `overwrite` is on. The id is random: a replay gives another one.",
    examples: [
      Example(
        "An id that is there stays", config: "{ target: id }", input: #"{"id": "x"}"#, output: #"{"id": "x"}"#)
    ])

  struct Settings: PluginSettings {
    var target = FieldReference.known("uuid")
    var overwrite = false

    static let options: [Option<Settings>] = [
      .option("target", \.target, "Where the id goes.", required: true, example: "id"),
      .option("overwrite", \.overwrite, "Replaces a value that is there."),
    ]
  }

  private let settings: Settings

  init(_ settings: Settings, _ context: FilterContext) { self.settings = settings }

  func makeFilter() -> any Filter { Worker(settings) }

  private final class Worker: Filter {
    private let settings: Settings
    private let ids = RandomUUIDs()

    init(_ settings: Settings) { self.settings = settings }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        if settings.overwrite || event.value(settings.target)?.isNull ?? true {
          return event.write(settings.target, ids.make(event))
        }
        return true
      }
    }
  }
}

/// Random UUIDs of version 4. One worker owns it.
final class RandomUUIDs {
  /// Randomness of the kernel, fetched for many ids at once.
  private var pool = [UInt8](repeating: 0, count: 256)
  private var used = 256

  func make(_ event: Event) -> ValueBits {
    if used == pool.count {
      if getentropy(&pool, pool.count) != 0 {
        var generator = SystemRandomNumberGenerator()
        for i in pool.indices { pool[i] = .random(in: 0...255, using: &generator) }
      }
      used = 0
    }
    let out = event.allocate(36)
    var n = 0
    for i in 0..<16 {
      var byte = pool[used + i]
      if i == 6 { byte = byte & 15 | 0x40 }
      if i == 8 { byte = byte & 63 | 0x80 }
      if i == 4 || i == 6 || i == 8 || i == 10 {
        out[n] = 45
        n += 1
      }
      out[n] = hexadecimalDigit(of: byte >> 4)
      out[n + 1] = hexadecimalDigit(of: byte & 15)
      n += 2
    }
    used += 16
    return .text(staying: UnsafeRawBufferPointer(start: out, count: 36), isClean: true)
  }
}

/// The small letter or digit of 0…15.
@inline(__always)
func hexadecimalDigit(of value: UInt8) -> UInt8 { value < 10 ? 48 + value : 87 + value }

extension Event {
  /// A text of two hexadecimal digits for each byte.
  func makeHexadecimal(_ bytes: UnsafeRawBufferPointer) -> ValueBits {
    let out = allocate(bytes.count * 2)
    for i in 0..<bytes.count {
      out[2 * i] = hexadecimalDigit(of: bytes[i] >> 4)
      out[2 * i + 1] = hexadecimalDigit(of: bytes[i] & 15)
    }
    return .text(staying: UnsafeRawBufferPointer(start: out, count: bytes.count * 2), isClean: true)
  }
}
