//  A MaxMind database file. libmaxminddb maps the file, checks its metadata and walks the search tree; the record that
//  an address leads to is read here in one pass over its bytes, because asking the library for one value at a time walks
//  the record anew for each of a dozen fields.
//
//  The file is mapped, not copied: a database replaced by renaming a new file over it is safe, one that is truncated in
//  place is not, as with every program that maps it.

internal import CMaxMindDB
internal import Diagnostics
internal import Glibc

/// Why a database cannot be used.
public struct GeoIPError: Error, CustomStringConvertible {
  public var path: String
  public var reason: String
  public var description: String {
    "the GeoIP database '\(path)' cannot be used: \(reason); give the path of a sound .mmdb file"
  }
}

/// What a database is about, by the type that its metadata names.
public enum GeoIPKind: String, Sendable, CaseIterable {
  case anonymousIP = "Anonymous-IP"
  case connectionType = "Connection-Type"
  case enterprise = "Enterprise"
  case city = "City"
  case country = "Country"
  case asn = "ASN"
  case isp = "ISP"
  case domain = "Domain"
  case other = ""
}

/// An open database, never written after `init`, so any thread may look things up in it.
public final class GeoIPDatabase: @unchecked Sendable {  // unchecked: read-only once open
  public let path: String
  public let kind: GeoIPKind
  /// The type that the file's metadata names.
  public let typeName: String
  /// Seconds since 1970 when the database was built.
  public let buildTime: UInt64

  private let handle: UnsafeMutablePointer<MMDB_s>
  private let data: UnsafeRawBufferPointer

  /// Opens and checks `path`.
  public init(path: String) throws(GeoIPError) {
    self.path = path
    handle = .allocate(capacity: 1)
    handle.initialize(to: MMDB_s())
    var status = stat()
    guard stat(path, &status) == 0 else {
      let reason = SystemError(errno, call: "stat").reason
      handle.deallocate()
      throw GeoIPError(path: path, reason: reason)
    }
    let result = MMDB_open(path, UInt32(MMDB_MODE_MMAP), handle)
    guard result == MMDB_SUCCESS else {
      handle.deallocate()
      throw GeoIPError(path: path, reason: String(cString: MMDB_strerror(result)))
    }
    let metadata = handle.pointee.metadata
    let name = metadata.database_type.map { String(cString: $0) } ?? ""
    typeName = name
    kind = GeoIPKind.allCases.first { $0 != .other && GeoIPDatabase.contains(name, $0.rawValue) } ?? .other
    buildTime = metadata.build_epoch
    data = UnsafeRawBufferPointer(start: handle.pointee.data_section, count: Int(handle.pointee.data_section_size))
  }

  deinit {
    MMDB_close(handle)
    handle.deallocate()
  }

  private static func contains(_ text: String, _ part: String) -> Bool {
    let (text, part) = (Array(text.utf8), Array(part.utf8))
    guard text.count >= part.count else { return false }
    return (0...(text.count - part.count)).contains { text[$0..<$0 + part.count].elementsEqual(part) }
  }

  enum Outcome { case found, notFound, damaged }

  /// Finds the record of `address` and fills `record` from it.
  func find(_ address: IPAddress, _ record: inout GeoIPRecord) -> Outcome {
    var error: CInt = 0
    let result: MMDB_lookup_result_s
    if address.isV4 {
      var socket = sockaddr_in()
      socket.sin_family = sa_family_t(AF_INET)
      socket.sin_addr.s_addr = UInt32(truncatingIfNeeded: address.value).bigEndian
      result = withUnsafePointer(to: &socket) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { MMDB_lookup_sockaddr(handle, $0, &error) }
      }
    } else {
      var socket = sockaddr_in6()
      socket.sin6_family = sa_family_t(AF_INET6)
      withUnsafeMutableBytes(of: &socket.sin6_addr) { $0.storeBytes(of: address.value.bigEndian, as: UInt128.self) }
      result = withUnsafePointer(to: &socket) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { MMDB_lookup_sockaddr(handle, $0, &error) }
      }
    }
    if error == MMDB_IPV6_LOOKUP_IN_IPV4_DATABASE_ERROR { return .notFound }
    guard error == MMDB_SUCCESS else { return .damaged }
    guard result.found_entry else { return .notFound }
    record.clear()
    var reader = RecordReader(data)
    return reader.read(at: Int(result.entry.offset), &record) ? .found : .damaged
  }
}

/// The values of one record that geoip can write. Texts point into the database.
struct GeoIPRecord: ~Copyable {
  enum Slot: Int, CaseIterable {
    case cityName, continentCode, continentName, countryCode, countryName, postalCode, dmaCode, regionName, regionCode
    case timezone, latitude, longitude, asNumber, asOrganization, isp, organization, domain, connectionType
    case anonymous, anonymousVPN, hostingProvider, publicProxy, residentialProxy, torExitNode
  }
  enum Value {
    case none
    case text(UnsafeRawBufferPointer)
    case integer(UInt64)
    case double(Double)
    case flag(Bool)

    var isPresent: Bool { if case .none = self { false } else { true } }
  }

  private let values: UnsafeMutablePointer<Value>

  init() {
    values = .allocate(capacity: Slot.allCases.count)
    values.initialize(repeating: .none, count: Slot.allCases.count)
  }

  deinit { values.deallocate() }

  mutating func clear() { values.update(repeating: .none, count: Slot.allCases.count) }

  subscript(slot: Slot) -> Value {
    get { values[slot.rawValue] }
    set { values[slot.rawValue] = newValue }
  }
}

/// Reads one record. Every offset and length comes from a file, so each is checked, and the steps are counted.
private struct RecordReader {
  private enum Kind {
    static let pointer = 1, string = 2, double = 3, uint16 = 5, uint32 = 6, map = 7, uint64 = 9, array = 11, bool = 14
    static let float = 15
  }
  private struct Item {
    var kind: Int
    var size: Int
    /// Where the payload begins; of a pointer, what it points to.
    var payload: Int
    /// What stands behind the item, without the members of a map or an array.
    var end: Int
  }
  private static let stepsMax = 4096
  private static let depthMax = 16

  private let base: UnsafePointer<UInt8>?
  private let count: Int
  private var steps = 0

  init(_ data: UnsafeRawBufferPointer) {
    base = data.baseAddress?.assumingMemoryBound(to: UInt8.self)
    count = data.count
  }

  /// - Returns: Whether the record could be read to its end.
  mutating func read(at offset: Int, _ record: inout GeoIPRecord) -> Bool {
    guard let root = target(of: offset), root.kind == Kind.map else { return false }
    var at = root.end
    for _ in 0..<root.size {
      guard let (key, value) = key(at: at), let next = skip(value, depth: 0) else { return false }
      guard take(key, value, &record) else { return false }
      at = next
    }
    return true
  }

  private mutating func take(_ key: UnsafeRawBufferPointer, _ at: Int, _ record: inout GeoIPRecord) -> Bool {
    switch key.count {
    case 3:
      if `is`(key, "isp") { return store(at, .isp, &record) }
    case 4:
      if `is`(key, "city") { return place(at, code: nil, name: .cityName, &record) }
    case 6:
      if `is`(key, "postal") { return member(at, "code", .postalCode, &record) }
      if `is`(key, "domain") { return store(at, .domain, &record) }
    case 7:
      if `is`(key, "country") { return place(at, code: .countryCode, name: .countryName, &record) }
    case 8:
      if `is`(key, "location") {
        return member(at, "latitude", .latitude, &record) && member(at, "longitude", .longitude, &record)
          && member(at, "metro_code", .dmaCode, &record) && member(at, "time_zone", .timezone, &record)
      }
    case 9:
      if `is`(key, "continent") { return place(at, code: .continentCode, name: .continentName, &record) }
    case 12:
      if `is`(key, "subdivisions") { return subdivisions(at, &record) }
      if `is`(key, "organization") { return store(at, .organization, &record) }
      if `is`(key, "is_anonymous") { return store(at, .anonymous, &record) }
    case 15:
      if `is`(key, "connection_type") { return store(at, .connectionType, &record) }
      if `is`(key, "is_public_proxy") { return store(at, .publicProxy, &record) }
    case 16:
      if `is`(key, "is_anonymous_vpn") { return store(at, .anonymousVPN, &record) }
      if `is`(key, "is_tor_exit_node") { return store(at, .torExitNode, &record) }
    case 19:
      if `is`(key, "is_hosting_provider") { return store(at, .hostingProvider, &record) }
    case 20:
      if `is`(key, "is_residential_proxy") { return store(at, .residentialProxy, &record) }
    case 24:
      if `is`(key, "autonomous_system_number") { return store(at, .asNumber, &record) }
    case 30:
      if `is`(key, "autonomous_system_organization") { return store(at, .asOrganization, &record) }
    default: break
    }
    return true
  }

  /// A map with a code and English names.
  private mutating func place(
    _ at: Int, code: GeoIPRecord.Slot?, name: GeoIPRecord.Slot, _ record: inout GeoIPRecord
  ) -> Bool {
    guard let map = target(of: at), map.kind == Kind.map else { return false }
    var next = map.end
    for _ in 0..<map.size {
      guard let (key, value) = key(at: next), let end = skip(value, depth: 0) else { return false }
      if let code, `is`(key, code == .continentCode ? "code" : "iso_code") {
        guard store(value, code, &record) else { return false }
      } else if `is`(key, "names") {
        guard member(value, "en", name, &record) else { return false }
      }
      next = end
    }
    return true
  }

  /// The last subdivision is the most specific one.
  private mutating func subdivisions(_ at: Int, _ record: inout GeoIPRecord) -> Bool {
    guard let array = target(of: at), array.kind == Kind.array else { return false }
    var next = array.end
    for index in 0..<array.size {
      guard let end = skip(next, depth: 0) else { return false }
      if index == array.size - 1 { return place(next, code: .regionCode, name: .regionName, &record) }
      next = end
    }
    return true
  }

  /// Stores the member `wanted` of the map at `at`, if it is there.
  private mutating func member(
    _ at: Int, _ wanted: StaticString, _ slot: GeoIPRecord.Slot, _ record: inout GeoIPRecord
  ) -> Bool {
    guard let map = target(of: at), map.kind == Kind.map else { return false }
    var next = map.end
    for _ in 0..<map.size {
      guard let (key, value) = key(at: next) else { return false }
      if `is`(key, wanted) { return store(value, slot, &record) }
      guard let end = skip(value, depth: 0) else { return false }
      next = end
    }
    return true
  }

  private mutating func store(_ at: Int, _ slot: GeoIPRecord.Slot, _ record: inout GeoIPRecord) -> Bool {
    guard let base, let item = target(of: at) else { return false }
    switch item.kind {
    case Kind.string: record[slot] = .text(UnsafeRawBufferPointer(start: base + item.payload, count: item.size))
    case Kind.uint16, Kind.uint32, Kind.uint64:
      guard item.size <= 8 else { return false }
      record[slot] = .integer(number(item.payload, item.size))
    case Kind.double:
      guard item.size == 8 else { return false }
      record[slot] = .double(Double(bitPattern: number(item.payload, 8)))
    case Kind.float:
      guard item.size == 4 else { return false }
      record[slot] = .double(Double(Float(bitPattern: UInt32(truncatingIfNeeded: number(item.payload, 4)))))
    case Kind.bool: record[slot] = .flag(item.size != 0)
    default: break  // a kind that no field of ours has
    }
    return true
  }

  private func number(_ at: Int, _ size: Int) -> UInt64 {
    guard let base else { return 0 }
    var value: UInt64 = 0
    for i in 0..<size { value = value << 8 | UInt64(base[at + i]) }
    return value
  }

  private func `is`(_ key: UnsafeRawBufferPointer, _ name: StaticString) -> Bool {
    guard key.count == name.utf8CodeUnitCount, let start = key.baseAddress else { return false }
    return memcmp(start, name.utf8Start, key.count) == 0
  }

  /// The key at `at` and where its value begins.
  private mutating func key(at: Int) -> (UnsafeRawBufferPointer, Int)? {
    guard let base, let item = item(at: at) else { return nil }
    if item.kind == Kind.string {
      return (UnsafeRawBufferPointer(start: base + item.payload, count: item.size), item.end)
    }
    guard item.kind == Kind.pointer, let string = self.item(at: item.payload), string.kind == Kind.string else {
      return nil
    }
    return (UnsafeRawBufferPointer(start: base + string.payload, count: string.size), item.end)
  }

  /// The item at `at`, or what it points to; a pointer to a pointer is damage.
  private mutating func target(of at: Int) -> Item? {
    guard let item = item(at: at) else { return nil }
    guard item.kind == Kind.pointer else { return item }
    guard let target = self.item(at: item.payload), target.kind != Kind.pointer else { return nil }
    return target
  }

  /// Where the item at `at` with all its members ends.
  private mutating func skip(_ at: Int, depth: Int) -> Int? {
    guard depth < RecordReader.depthMax, let item = item(at: at) else { return nil }
    var next = item.end
    if item.kind == Kind.map {
      for _ in 0..<item.size {
        guard let (_, value) = key(at: next), let end = skip(value, depth: depth + 1) else { return nil }
        next = end
      }
    } else if item.kind == Kind.array {
      for _ in 0..<item.size {
        guard let end = skip(next, depth: depth + 1) else { return nil }
        next = end
      }
    }
    return next
  }

  @inline(__always)
  private mutating func item(at: Int) -> Item? {
    steps &+= 1
    guard let base, at >= 0, at < count, steps <= RecordReader.stepsMax else { return nil }
    let control = base[at]
    var kind = Int(control >> 5)
    var next = at + 1
    if kind == Kind.pointer {
      let width = Int(control >> 3 & 3) + 1
      guard next + width <= count else { return nil }
      let low = Int(control & 7)
      let value =
        switch width {
        case 1: low << 8 | Int(number(next, 1))
        case 2: (low << 16 | Int(number(next, 2))) + 2048
        case 3: (low << 24 | Int(number(next, 3))) + 526_336
        default: Int(number(next, 4))
        }
      return Item(kind: kind, size: 0, payload: value, end: next + width)
    }
    if kind == 0 {
      guard next < count else { return nil }
      kind = Int(base[next]) + 7
      next += 1
    }
    var size = Int(control & 31)
    if size >= 29 {
      let width = size - 28
      guard next + width <= count else { return nil }
      size = Int(number(next, width)) + (width == 1 ? 29 : width == 2 ? 285 : 65_821)
      next += width
    }
    if kind == Kind.map || kind == Kind.array || kind == Kind.bool {
      return Item(kind: kind, size: size, payload: next, end: next)
    }
    guard size <= count - next else { return nil }
    return Item(kind: kind, size: size, payload: next, end: next + size)
  }
}
