//  The `correlation` filter: one id by which the lines of a request are found again across services.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Correlation: FilterPlugin {
  static let manual = Manual(
    name: "correlation",
    summary: "Gives every event a correlation id: a sound one that it carries, else one made of its record's id.",
    details: """
      The fields are looked for in the event, then in the head of the request that brought it. An id is 1 to 128 of \
      `A-Z a-z 0-9 . _ : -`; of a `traceparent` the trace id counts. A made id is that of the event's queue record, so that \
      a replay gives the same.
      """,
    examples: [
      Example(
        "An id from another field", config: "{}", input: #"{"x_request_id": "7f3a-91"}"#,
        output: #"{"x_request_id": "7f3a-91", "correlation_id": "7f3a-91"}"#),
      Example(
        "The trace id of a traceparent", config: "{}",
        input: #"{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#,
        output: """
          {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", \
          "correlation_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
          """),
    ])

  struct Settings: PluginSettings {
    var fields: [FieldReference] = [
      .known("correlation_id"), .known("x_correlation_id"), .known("x_request_id"), .known("traceparent"),
    ]
    var target = FieldReference.known("correlation_id")

    static let options: [Option<Settings>] = [
      .option("fields", \.fields, "Where an id may stand, the first sound one counts."),
      .option("target", \.target, "Where the id goes."),
    ]
  }

  /// A place where an id may stand.
  private struct Place: Sendable {
    var reference: FieldReference
    var isTraceparent: Bool
    var isTarget = false
  }

  private let places: [Place]
  private let target: FieldReference

  init(_ settings: Settings, _ context: FilterContext) {
    target = settings.target
    // The head of the request stands under one of these, depending on the field style of the input.
    let heads = ["[headers]", "[@metadata][input][http][request][headers]"]
    var places: [Place] = []
    for field in settings.fields {
      places.append(
        Place(
          reference: field, isTraceparent: field.path.last == "traceparent", isTarget: field == settings.target))
    }
    for head in heads {
      for field in settings.fields {
        guard let name = field.topLevelName, let reference = try? FieldReference("\(head)[\(name)]") else { continue }
        places.append(Place(reference: reference, isTraceparent: name == "traceparent"))
      }
    }
    self.places = places
  }

  func makeFilter() -> any Filter { Worker(places, target) }

  private final class Worker: Filter {
    private let places: [Place]
    private let target: FieldReference

    init(_ places: [Place], _ target: FieldReference) {
      self.places = places
      self.target = target
    }

    func process(_ batch: FilterBatch) {
      batch.forEach { event in
        for place in places {
          guard let value = event.value(place.reference), let text = value.text else { continue }
          if place.isTraceparent {
            if let id = traceID(text) { return event.write(target, .text(staying: id, isClean: true)) }
          } else if isSound(text) {
            // Most events carry their id where it belongs; then nothing is written.
            if place.isTarget { return true }
            return event.write(target, .text(staying: text, isClean: true))
          }
        }
        return event.write(target, event.makeText { event.appendRecordID(to: &$0) })
      }
    }

    private func isSound(_ text: UnsafeRawBufferPointer) -> Bool {
      guard text.count >= 1, text.count <= 128 else { return false }
      return text.allSatisfy { byte in
        byte &- 48 < 10 || (byte | 32) &- 97 < 26 || byte == 45 || byte == 46 || byte == 58 || byte == 95
      }
    }

    /// The second part of `00-TRACE-PARENT-FLAGS`: 32 hexadecimal digits, not all zero.
    private func traceID(_ text: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
      guard text.count >= 55, text[2] == 45, text[35] == 45, text[52] == 45 else { return nil }
      let id = text.slice(3, 35)
      let isHexadecimal = id.allSatisfy { $0 &- 48 < 10 || $0 &- 97 < 6 }
      return isHexadecimal && !id.allSatisfy { $0 == 48 } ? id : nil
    }
  }
}
