//  The `date` filter: reads a date or a count of seconds from a field and makes it a timestamp.
//
//  The formats are compiled once and shared by all workers. A worker keeps the zone that the last event named, since
//  neighbouring events mostly name the same.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct DateFilter: FilterPlugin {
  static let manual = Manual(
    name: "date",
    summary: "Makes a timestamp of a date in a field, by default the event's own.",
    details: """
      `match` names the field and the formats, which are tried in turn: `ISO8601`, `UNIX` (seconds since 1970), \
      `UNIX_MS`, `TAI64N`, or a pattern such as `dd/MMM/yyyy:HH:mm:ss Z`. A pattern has to take the whole text. \
      The field stays; remove it with `remove_field`, which happens only where a format fitted. Timestamps have \
      milliseconds. A date without a year gets the year in which the event arrived, or the nearest one around New Year.
      """,
    examples: [
      Example(
        "The time of a web server's line",
        config: #"{match: [time, "dd/MMM/yyyy:HH:mm:ss Z"], remove_field: [time]}"#,
        input: #"{"time": "02/Mar/2026:07:00:00 +0100"}"#, output: #"{"@timestamp": "2026-03-02T06:00:00.000Z"}"#),
      Example(
        "Local time without a zone",
        config: #"{match: [at, "yyyy-MM-dd HH:mm:ss"], timezone: America/New_York, target: "[event][created]"}"#,
        input: #"{"at": "2026-03-02 07:00:00"}"#,
        output: #"{"at": "2026-03-02 07:00:00", "event": {"created": "2026-03-02T12:00:00.000Z"}}"#),
    ],
    failureTags: ["_dateparsefailure"])

  struct Settings: PluginSettings {
    var match: [String] = []
    var target = FieldReference.timestamp
    var timezone: Template?
    var locale: String?
    var tagOnFailure = ["_dateparsefailure"]

    static let options: [Option<Settings>] = [
      .option(
        "match", \.match, "The field, and behind it one or more formats that are tried in turn.", required: true,
        example: #"[time, "dd/MMM/yyyy:HH:mm:ss Z", ISO8601]"#,
        check: { $0.count < 2 ? "needs a field and at least one format" : nil }),
      .option("target", \.target, "Where the timestamp goes."),
      .option(
        "timezone", \.timezone,
        "The zone of texts that name none: an id such as `Europe/Berlin`, or an offset such as `+02:00`.",
        defaultText: "the machine's zone"),
      .option(
        "locale", \.locale, "The language of month and day names, such as `de` or `pt-BR`.",
        defaultText: "the machine's language"),
      .option("tag_on_failure", \.tagOnFailure, "Tags for events whose field no format fits."),
    ]
  }

  private let source: FieldReference
  private let target: FieldReference
  private let parser: DateParser
  /// The zone where it differs from event to event.
  private let timezone: Template?
  private let failureTags: [[UInt8]]
  let outcomes: FilterOutcomes? = FilterOutcomes()

  init(_ settings: Settings, _ context: FilterContext) throws {
    let name = settings.match.first ?? ""
    do { source = try FieldReference(name) } catch {
      throw BuildFailure("match", "'\(name)' is no field reference: \(error)")
    }
    target = settings.target
    failureTags = settings.tagOnFailure.map { Array($0.utf8) }
    var zone: TimeZoneRules?
    if let template = settings.timezone, template.isConstant {
      timezone = nil
      zone = TimeZoneRules.named(template.description)
      if zone == nil {
        throw BuildFailure(
          "timezone", "'\(template.description)' is no time zone",
          hint: "give an id as the tz database spells it, such as Europe/Berlin, or an offset such as +02:00")
      }
    } else {
      timezone = settings.timezone
      if let fault = settings.timezone?.fault { throw BuildFailure("timezone", fault.description) }
    }
    let formats = Array(settings.match.dropFirst())
    do throws(DateFormatError) {
      parser = try DateParser(formats: formats, zone: zone, locale: settings.locale)
    } catch {
      throw BuildFailure(
        "match", "'\(formats[error.index])' is no date format: \(error)",
        hint: "other text has to stand between single quotes; the named formats are ISO8601, UNIX, UNIX_MS and TAI64N")
    }
    for warning in parser.warnings {
      Log.warn(
        "date.pattern", "A date pattern works and is probably meant otherwise.",
        ["step": .text(context.stepID), "reason": .text(warning)])
    }
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: DateFilter
    private var zoneText = ByteBuffer()
    private var lastZoneText: [UInt8] = []
    private var lastZone: TimeZoneRules?

    init(_ plugin: DateFilter) { self.plugin = plugin }

    func process(_ batch: FilterBatch) {
      var (matches, failures) = (0, 0)
      defer {
        plugin.outcomes?.matches.add(matches)
        plugin.outcomes?.failures.add(failures)
      }
      batch.forEach { event in
        guard let value = event.value(plugin.source), !value.isNull else { return false }
        if let time = read(value, event), (try? event.set(plugin.target, .timestamp(time))) != nil {
          matches += 1
          return true
        }
        failures += 1
        for tag in plugin.failureTags { tag.withUnsafeBytes { event.addTag($0, unlessPresent: true) } }
        return false
      }
    }

    @inline(__always)
    private func read(_ value: Value, _ event: Event) -> Timestamp? {
      if let text = value.text {
        guard plugin.timezone != nil else { return plugin.parser.parse(text, now: event.arrival) }
        guard let zone = zone(of: event) else { return plugin.parser.parse(counted: text) }
        return plugin.parser.parse(text, now: event.arrival, zone: zone)
      }
      switch value.kind {
      case .integer: return value.integer.flatMap { plugin.parser.parse(integer: $0) }
      case .double: return value.double.flatMap { plugin.parser.parse(double: $0) }
      default: return nil
      }
    }

    private func zone(of event: Event) -> TimeZoneRules? {
      zoneText.removeAll()
      guard let template = plugin.timezone, (try? template.append(event, to: &zoneText)) != nil else { return nil }
      if !zoneText.bytes.elementsEqual(lastZoneText) {
        lastZoneText = zoneText.array()
        lastZone = TimeZoneRules.named(zoneText.bytes)
      }
      return lastZone
    }
  }
}
