//  The `geoip` filter: where an address is, from a database file in MaxMind's format.

internal import Config
internal import Events
internal import PluginKit

struct GeoIPFilter: FilterPlugin {
  static let manual = Manual(
    name: "geoip",
    summary: "Adds place, network or provider of an address from a MaxMind database.",
    details: """
      Which fields are written depends on the kind of database (City, Country, ASN, ISP, Domain, Anonymous-IP, \
      Connection-Type, Enterprise), or on `fields`. With `ecs_compatibility` they have the nested names of the Elastic \
      Common Schema. Host names are not resolved. A database that is replaced is taken up within seconds; replace it by \
      renaming a new file over the old one. An address that is not found gets the tag, and the target becomes an empty \
      map where it did not exist.
      """,
    examples: [
      Example(
        "The place of a client",
        config: """
          source: client_ip
          database: /var/lib/GeoIP/GeoLite2-City.mmdb
          fields: [city_name, country_code2, location]
          ecs_compatibility: disabled
          """,
        input: #"{"client_ip": "203.0.113.80"}"#,
        output: """
          {"client_ip": "203.0.113.80", "geoip": {"city_name": "Oulu", "country_code2": "FI", \
          "location": {"lat": 65.01, "lon": 25.47}}}
          """)
    ],
    failureTags: ["_geoip_lookup_failure"])

  struct Settings: PluginSettings {
    var source: FieldReference?
    var target: FieldReference?
    var database: FilePath?
    var defaultDatabaseType: String?
    var fields: [String] = []
    var cacheSize = 4096
    var tagOnFailure = ["_geoip_lookup_failure"]

    static let options: [Option<Settings>] = [
      .option(
        "source", \.source, "The field with the address; of a list the first element.", required: true,
        example: "client_ip"),
      .option(
        "target", \.target, "Where the fields go.",
        defaultText: "geoip; with ecs_compatibility the parent of a source that ends in [ip]"),
      .option(
        "database", \.database, "The database file.", required: true, example: "/var/lib/GeoIP/GeoLite2-City.mmdb"),
      .option(
        "default_database_type", \.defaultDatabaseType,
        "Accepted for Logstash's sake; the kind is read from the database."),
      .option(
        "fields", \.fields, "The fields to write; all that suit the database where none are named.",
        check: { names in
          names.first { GeoIPField(name: $0) == nil }.map {
            "takes names of fields, and '\($0)' is none of \(GeoIPField.names.joined(separator: ", "))"
          }
        }),
      .option("cache_size", \.cacheSize, "How many answers each worker remembers.", in: 1...1_000_000),
      .option("tag_on_failure", \.tagOnFailure, "The tags for an address that is not found."),
    ]
  }

  fileprivate let input: FieldReference
  fileprivate let target: FieldReference
  fileprivate let fields: [GeoIPField]
  fileprivate let isECS: Bool
  fileprivate let cacheEntries: Int
  fileprivate let tags: [[UInt8]]
  fileprivate let source: GeoIPSource?
  fileprivate let check: PeriodicCheck?

  init(_ settings: Settings, _ context: FilterContext) throws {
    guard let input = settings.source, let database = settings.database else {
      throw BuildFailure(nil, "needs 'source' and 'database'", code: "config.missing-option")
    }
    self.input = input
    isECS = context.ecs.isOn
    if let target = settings.target {
      self.target = target
    } else if !isECS {
      target = .known("geoip")
    } else {
      let path = input.path
      guard path.last == "ip", path.count > 1 else {
        throw BuildFailure(
          "target", "is needed, because the source does not end in [ip]", code: "config.missing-option",
          hint: "write target: client, or ecs_compatibility: disabled")
      }
      target = try FieldReference(path.dropLast().map { "[\($0)]" }.joined())
    }
    fields = settings.fields.compactMap { GeoIPField(name: $0) }
    cacheEntries = settings.cacheSize
    tags = settings.tagOnFailure.map { Array($0.utf8) }
    guard context.services.resolves else {
      source = nil
      check = nil
      return
    }
    do {
      let source = try GeoIPSource(path: context.services.path(database.text))
      self.source = source
      check = PeriodicCheck { source.reloadIfChanged() }
    } catch {
      throw BuildFailure("database", "\(error)", code: "geoip.database-unusable")
    }
  }

  func makeFilter() -> any Filter { Worker(self) }

  private final class Worker: Filter {
    private let plugin: GeoIPFilter
    private let lookup: GeoIPLookup?

    init(_ plugin: GeoIPFilter) {
      self.plugin = plugin
      lookup = plugin.source.map {
        GeoIPLookup($0, fields: plugin.fields, ecs: plugin.isECS, cacheEntries: plugin.cacheEntries)
      }
    }

    func process(_ batch: FilterBatch) {
      guard let lookup else { return }
      plugin.check?.poll()
      lookup.refresh()
      batch.forEach { event in
        if handle(event, lookup) { return true }
        for tag in plugin.tags { tag.withUnsafeBytes { event.addTag($0, unlessPresent: true) } }
        return false
      }
    }

    private func handle(_ event: Event, _ lookup: GeoIPLookup) -> Bool {
      guard let text = event.value(plugin.input)?.leadingText else { return false }
      let answer = lookup.lookup(text)
      switch answer.outcome {
      case .found: return event.merge(answer.fragment, at: plugin.target)
      case .notFound:
        _ = event.merge(answer.fragment, at: plugin.target)
        return false
      case .blank: return false
      }
    }
  }
}
