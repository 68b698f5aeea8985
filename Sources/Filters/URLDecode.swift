//  The `urldecode` filter: `%41` becomes `A`.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct URLDecode: FilterPlugin {
  static let manual = Manual(
    name: "urldecode",
    summary: "Decodes percent signs of URLs.",
    details: """
      A plus sign stays. A result that is no UTF-8 is stored in an escaped form, with `\\xNN` for bad bytes. With another \
      `charset` the whole text is read in it. Lists and maps are decoded with all texts in them. A field that is not there \
      becomes null.
      """,
    examples: [
      Example(
        "A query", config: "{ field: q }", input: #"{"q": "a%20b%26c+d"}"#, output: #"{"q": "a b&c+d"}"#),
      Example(
        "Every field", config: "{ all_fields: true }", input: #"{"q": {"x": "%C3%BC"}, "l": ["%41", 5]}"#,
        output: #"{"q": {"x": "ü"}, "l": ["A", 5]}"#),
    ],
    failureTags: ["_urldecodefailure"])

  struct Settings: PluginSettings {
    var field = FieldReference.message
    var allFields = false
    var charset = "UTF-8"
    var tagOnFailure = ["_urldecodefailure"]

    static let options: [Option<Settings>] = [
      .option("field", \.field, "The field to decode."),
      .option("all_fields", \.allFields, "Decodes every top-level field instead."),
      .option("charset", \.charset, "The character set of the decoded bytes.") {
        Charset.names.contains($0)
          ? nil : "takes a character set such as UTF-8, ISO-8859-1 or Windows-1252, not '\($0)'"
      },
      .option("tag_on_failure", \.tagOnFailure, "Tags of events whose field could not be written."),
    ]
  }

  private let settings: Settings
  private let tags: FailureTags

  init(_ settings: Settings, _ context: FilterContext) {
    self.settings = settings
    tags = FailureTags(settings.tagOnFailure)
  }

  func makeFilter() -> any Filter { Worker(settings, tags) }

  private final class Worker: Filter {
    private let settings: Settings
    private let tags: FailureTags
    private let decoder: CharsetDecoder?

    init(_ settings: Settings, _ tags: FailureTags) {
      self.settings = settings
      self.tags = tags
      decoder = settings.charset == "UTF-8" ? nil : CharsetDecoder(settings.charset)
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        if settings.allFields {
          var child = event.fields.first
          while let field = child {
            decode(field, event)
            child = field.next
          }
        } else if let value = event.value(settings.field) {
          decode(value, event)
        } else if !event.write(settings.field, .null) {
          tags.apply(to: event)
        }
        return true  // a failure is decorated as well, upstream too
      }
    }

    private func decode(_ value: Value, _ event: Event) {
      if value.isList || value.isMap {
        var child = value.first
        while let element = child {
          decode(element, event)
          child = element.next
        }
        return
      }
      guard let text = value.text else { return }
      guard decoder != nil || text.contains(37) else { return }
      let out = event.allocate(text.count)
      let count = URLDecode.decode(text, to: out)
      let bytes = UnsafeRawBufferPointer(start: out, count: count)
      if let decoder {
        value.replace(with: event.makeText { decoder.append(bytes, to: &$0) })
      } else if firstInvalidUTF8(bytes) == nil {
        value.replace(with: .text(staying: bytes))
      } else {
        value.replace(with: event.makeText { appendRubyEscaped(bytes, to: &$0) })
      }
    }
  }

  /// Writes the decoded bytes, of which there are never more than `text` has, and returns their number.
  private static func decode(_ text: UnsafeRawBufferPointer, to out: UnsafeMutablePointer<UInt8>) -> Int {
    var i = 0
    var n = 0
    while i < text.count {
      if text[i] == 37, i + 2 < text.count, let high = digit(text[i + 1]), let low = digit(text[i + 2]) {
        out[n] = high << 4 | low
        i += 3
      } else {
        out[n] = text[i]
        i += 1
      }
      n += 1
    }
    return n
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 48...57: byte - 48
    case 65...70: byte - 55
    case 97...102: byte - 87
    default: nil
    }
  }
}
