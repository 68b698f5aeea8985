//  What geoip writes: the names that its `fields` option takes, what each kind of database gives when none are named,
//  and the two styles of writing them: flat names, or the nested ones of the Elastic Common Schema.

internal import Diagnostics

/// A field that the `fields` option can name.
public enum GeoIPField: Int, CaseIterable, Sendable {
  case ip, cityName, continentCode, continentName, countryName, countryCode2, countryCode3, postalCode, dmaCode
  case regionName, regionCode, regionISOCode, timezone, location, latitude, longitude, asNumber, asOrganization
  case isp, organization, domain, connectionType, network, hostingProvider, torExitNode, anonymousVPN, anonymous
  case publicProxy, residentialProxy

  /// Names in the order of the cases.
  public static let names = [
    "ip", "city_name", "continent_code", "continent_name", "country_name", "country_code2", "country_code3",
    "postal_code", "dma_code", "region_name", "region_code", "region_iso_code", "timezone", "location", "latitude",
    "longitude", "autonomous_system_number", "autonomous_system_organization", "isp", "organization", "domain",
    "connection_type", "network", "hosting_provider", "tor_exit_node", "anonymous_vpn", "anonymous", "public_proxy",
    "residential_proxy",
  ]

  /// The field with this name in any case; nil where there is none.
  public init?(name: String) {
    guard let index = GeoIPField.names.firstIndex(of: name.lowercased()) else { return nil }
    self.init(rawValue: index)
  }
}

/// A set of fields and how they are written.
struct GeoIPSelection: Sendable {
  enum Style: Sendable { case legacy, ecs }

  private var bits: UInt64 = 0
  let style: Style

  init(_ fields: some Sequence<GeoIPField>, style: Style) {
    self.style = style
    for field in fields { bits |= GeoIPSelection.bit(field) }
  }

  /// What a database of `kind` gives when no fields are named.
  init(kind: GeoIPKind, style: Style) {
    let fields: [GeoIPField] =
      switch kind {
      case .city:
        [
          .ip, .cityName, .continentCode, .countryName, .countryCode2, .countryCode3, .postalCode, .dmaCode,
          .regionName, style == .legacy ? .regionCode : .regionISOCode, .timezone, .location, .latitude, .longitude,
        ]
      case .country: [.ip, .countryCode2, .countryName, .continentName]
      case .asn: [.ip, .asNumber, .asOrganization]
      case .isp: [.ip, .asNumber, .asOrganization, .isp, .organization]
      case .domain: [.domain]
      case .anonymousIP:
        [.hostingProvider, .torExitNode, .anonymousVPN, .anonymous, .publicProxy, .residentialProxy]
      case .enterprise:
        [.ip, .countryCode2, .countryName, .continentName, .regionISOCode, .regionName, .cityName, .location]
      case .connectionType: [.ip, .connectionType]
      case .other: GeoIPField.allCases
      }
    self.init(fields, style: style)
  }

  private static func bit(_ field: GeoIPField) -> UInt64 { 1 &<< UInt64(field.rawValue) }

  private func has(_ field: GeoIPField) -> Bool { bits & GeoIPSelection.bit(field) != 0 }

  /// Writes the selected fields of `record` as one JSON object.
  ///
  /// - Parameter ip: The JSON string of the address.
  /// - Returns: Whether the record had any of them; one that this style does not write counts too.
  func write(_ record: borrowing GeoIPRecord, ip: UnsafeRawBufferPointer, to out: inout ByteBuffer) -> Bool {
    var writer = ObjectWriter()
    out.append(UInt8(ascii: "{"))
    if has(.ip) {
      writer.key("ip", &out)
      out.append(ip)
    }
    switch style {
    case .legacy: writeLegacy(record, &writer, &out)
    case .ecs: writeECS(record, &writer, &out)
    }
    out.append(UInt8(ascii: "}"))
    return writer.hasFound
  }

  private func writeLegacy(_ record: borrowing GeoIPRecord, _ writer: inout ObjectWriter, _ out: inout ByteBuffer) {
    writePlace(record, &writer, &out, isLegacy: true)
    func put(_ field: GeoIPField, _ slot: GeoIPRecord.Slot, _ name: StaticString) {
      if has(field) { writer.member(name, record[slot], &out) }
    }
    put(.latitude, .latitude, "latitude")
    put(.longitude, .longitude, "longitude")
    put(.asNumber, .asNumber, "asn")
    put(.asOrganization, .asOrganization, "as_org")
    put(.isp, .isp, "isp")
    put(.organization, .organization, "organization")
    put(.domain, .domain, "domain")
    put(.connectionType, .connectionType, "connection_type")
    writeTraits(record, &writer, &out)
  }

  private func writeECS(_ record: borrowing GeoIPRecord, _ writer: inout ObjectWriter, _ out: inout ByteBuffer) {
    writer.object("geo", &out) { inner, out in writePlace(record, &inner, &out, isLegacy: false) }
    writer.object("as", &out) { inner, out in
      if has(.asNumber) { inner.member("number", record[.asNumber], &out) }
      inner.object("organization", &out) { inner, out in
        if has(.asOrganization) { inner.member("name", record[.asOrganization], &out) }
      }
    }
    writer.object("mmdb", &out) { inner, out in
      if has(.dmaCode) { inner.member("dma_code", record[.dmaCode], &out) }
      if has(.isp) { inner.member("isp", record[.isp], &out) }
      if has(.organization) { inner.member("organization", record[.organization], &out) }
      if has(.connectionType) { inner.member("connection_type", record[.connectionType], &out) }
    }
    if has(.domain) { writer.member("domain", record[.domain], &out) }
    writer.object("ip_traits", &out) { inner, out in writeTraits(record, &inner, &out) }
  }

  private func writePlace(
    _ record: borrowing GeoIPRecord, _ writer: inout ObjectWriter, _ out: inout ByteBuffer, isLegacy: Bool
  ) {
    func put(_ field: GeoIPField, _ slot: GeoIPRecord.Slot, _ name: StaticString) {
      if has(field) { writer.member(name, record[slot], &out) }
    }
    put(.cityName, .cityName, "city_name")
    put(.continentCode, .continentCode, "continent_code")
    put(.continentName, .continentName, "continent_name")
    put(.countryName, .countryName, "country_name")
    put(.countryCode2, .countryCode, isLegacy ? "country_code2" : "country_iso_code")
    if has(.countryCode3), record[.countryCode].isPresent {
      // The databases know no three-letter code; the flat style holds the two-letter one here, the other nothing.
      if isLegacy { writer.member("country_code3", record[.countryCode], &out) }
      writer.hasFound = true
    }
    put(.postalCode, .postalCode, "postal_code")
    if isLegacy { put(.dmaCode, .dmaCode, "dma_code") }
    put(.regionName, .regionName, "region_name")
    put(.regionCode, .regionCode, "region_code")
    if has(.regionISOCode), case .text(let country) = record[.countryCode], case .text(let region) = record[.regionCode]
    {
      writer.key("region_iso_code", &out)
      out.append(UInt8(ascii: "\""))
      out.appendJSONContent(country)
      out.append(UInt8(ascii: "-"))
      out.appendJSONContent(region)
      out.append(UInt8(ascii: "\""))
    }
    put(.timezone, .timezone, "timezone")
    writer.object("location", &out) { inner, out in
      let isWhole = has(.location) && record[.latitude].isPresent && record[.longitude].isPresent
      if isWhole || (!isLegacy && has(.latitude)) { inner.member("lat", record[.latitude], &out) }
      if isWhole || (!isLegacy && has(.longitude)) { inner.member("lon", record[.longitude], &out) }
    }
  }

  private func writeTraits(_ record: borrowing GeoIPRecord, _ writer: inout ObjectWriter, _ out: inout ByteBuffer) {
    func put(_ field: GeoIPField, _ slot: GeoIPRecord.Slot, _ name: StaticString) {
      if has(field) { writer.member(name, record[slot], &out) }
    }
    put(.hostingProvider, .hostingProvider, "hosting_provider")
    put(.torExitNode, .torExitNode, "tor_exit_node")
    put(.anonymousVPN, .anonymousVPN, "anonymous_vpn")
    put(.anonymous, .anonymous, "anonymous")
    put(.publicProxy, .publicProxy, "public_proxy")
    put(.residentialProxy, .residentialProxy, "residential_proxy")
  }
}

/// Writes the members of one JSON object; an inner object appears with its first member.
struct ObjectWriter {
  private var isFirst = true
  /// Whether a value was found for any member.
  var hasFound = false

  mutating func key(_ name: StaticString, _ out: inout ByteBuffer) {
    if !isFirst { out.append(UInt8(ascii: ",")) }
    isFirst = false
    hasFound = true
    out.appendJSON(name)
    out.append(UInt8(ascii: ":"))
  }

  mutating func member(_ name: StaticString, _ value: GeoIPRecord.Value, _ out: inout ByteBuffer) {
    guard value.isPresent else { return }
    key(name, &out)
    switch value {
    case .none: break
    case .text(let text): out.appendJSON(text)
    case .integer(let number): out.append(text: "\(number)")
    case .double(let number): out.appendJSON(number)
    case .flag(let flag): flag ? out.append("true") : out.append("false")
    }
  }

  /// An inner object; nothing is written where `body` writes no member.
  mutating func object(
    _ name: StaticString, _ out: inout ByteBuffer, _ body: (inout ObjectWriter, inout ByteBuffer) -> Void
  ) {
    let start = out.count
    let (wasFirst, hadFound) = (isFirst, hasFound)
    key(name, &out)
    out.append(UInt8(ascii: "{"))
    var inner = ObjectWriter()
    body(&inner, &out)
    if inner.isFirst {
      out.count = start
      isFirst = wasFirst
      hasFound = hadFound || inner.hasFound
    } else {
      out.append(UInt8(ascii: "}"))
    }
  }
}
