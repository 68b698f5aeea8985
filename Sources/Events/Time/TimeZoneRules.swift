//  Time zones from the system's zone files: offsets at a moment, and moments of local times.
//
//  A zone is a table of transitions with 400 years of its rule written out, and an index of coarse steps into it, so that
//  a look-up reads two or three neighbours. Loaded zones are kept for the life of the process and shared by all threads.

internal import CSystem
internal import Diagnostics
internal import Glibc

/// A time zone: how far local time is from UTC, at any moment. Immutable.
public final class TimeZoneRules: Sendable {
  /// `Europe/Berlin`, `+02:00`, `UTC`.
  public let id: String
  private let transitions: [Int64]
  private let offsets: [Int32]
  private let repeatsAbove: Int64
  /// For each step of 2^23 seconds from 1970 on: how many transitions lie at or before its beginning.
  private let steps: [UInt16]

  private static let stepBits: Int64 = 23
  private static let stepCount = 512

  init(id: String, table: ZoneTable) {
    self.id = id
    transitions = table.transitions
    offsets = table.offsets
    repeatsAbove = table.repeatsAbove ?? .max
    var steps: [UInt16] = []
    if !table.transitions.isEmpty {
      var count = 0
      for step in 0..<TimeZoneRules.stepCount {
        let beginning = Int64(step) << TimeZoneRules.stepBits
        while count < table.transitions.count, table.transitions[count] <= beginning { count += 1 }
        steps.append(UInt16(clamping: count))
      }
    }
    self.steps = steps
  }

  private init(id: String, offset: Int32) {
    self.id = id
    transitions = []
    offsets = [offset]
    repeatsAbove = .max
    steps = []
  }

  public static let utc = TimeZoneRules(id: "UTC", offset: 0)

  /// A zone that is always `seconds` east of UTC.
  public static func fixed(_ seconds: Int) -> TimeZoneRules {
    if seconds == 0 { return utc }
    let magnitude = seconds.magnitude
    func two(_ value: UInt) -> String { value < 10 ? "0\(value)" : "\(value)" }
    var id = "\(seconds < 0 ? "-" : "+")\(two(magnitude / 3600)):\(two(magnitude / 60 % 60))"
    if magnitude % 60 != 0 { id += ":\(two(magnitude % 60))" }
    return TimeZoneRules(id: id, offset: Int32(clamping: seconds))
  }

  // MARK: Looking up

  /// Seconds east of UTC at a moment, given in seconds since 1970.
  public func offset(at utc: Int64) -> Int {
    if transitions.isEmpty { return Int(offsets[0]) }
    return Int(offsets[period(of: folded(utc).moment)])
  }

  /// The moment of a local time, given in seconds since 1970 as if it were UTC. Of two moments the earlier one; nil
  /// where clocks were put forward past it.
  public func utc(local: Int64) -> Int64? {
    if transitions.isEmpty { return local &- Int64(offsets[0]) }
    let (local, shift) = folded(local)
    // No offset is 26 hours or more, so the period sought begins no earlier than this one.
    var i = period(of: local &- 93_600)
    while i < transitions.count, local &- Int64(offsets[i]) >= transitions[i] { i &+= 1 }
    let moment = local &- Int64(offsets[i])
    if i > 0, moment < transitions[i &- 1] { return nil }
    return moment &+ shift
  }

  /// Brings a moment behind the table back into its last 400 years.
  @inline(__always)
  private func folded(_ moment: Int64) -> (moment: Int64, shift: Int64) {
    // Two days of margin, so that local times and moments fold alike.
    guard moment > repeatsAbove &- 172_800 else { return (moment, 0) }
    guard repeatsAbove != .max else { return (min(max(moment, .min + 200_000), .max - 200_000), 0) }
    let over = moment &- (repeatsAbove &- 172_800)
    let shift = ((over &- 1) / ZoneTable.cycle &+ 1) &* ZoneTable.cycle
    return (moment &- shift, shift)
  }

  /// How many transitions lie at or before a moment.
  @inline(__always)
  private func period(of moment: Int64) -> Int {
    let step = moment >> TimeZoneRules.stepBits
    if _fastPath(step >= 0 && step < Int64(TimeZoneRules.stepCount)) {
      var i = Int(steps[Int(step)])
      while i < transitions.count, transitions[i] <= moment { i &+= 1 }
      return i
    }
    var low = 0
    var high = transitions.count
    while low < high {
      let middle = (low &+ high) / 2
      if transitions[middle] <= moment { low = middle &+ 1 } else { high = middle }
    }
    return low
  }

  // MARK: Finding

  /// The zone of an id: one of the system's (exact case), an offset (`+02`, `+0200`, `+02:00`), `Z`, or `UTC`, `GMT`,
  /// `UT` with an offset behind (`GMT+2`). Nil where there is none.
  public static func named(_ id: String) -> TimeZoneRules? {
    var id = id
    return id.withUTF8 { named(UnsafeRawBufferPointer($0)) }
  }

  /// As `named(_: String)`. Reads a file at the first use of an id only.
  public static func named(_ id: UnsafeRawBufferPointer) -> TimeZoneRules? {
    guard let p = id.baseAddress, id.count > 0 else { return nil }
    if id.count == 1 { return byte(p, 0) == UInt8(ascii: "Z") ? utc : nil }
    if let zone = region(id) { return zone }
    if let seconds = ZoneOffset.read(p, id.count, limit: 86_399) { return fixed(seconds) }
    for prefix in ["UTC", "GMT", "UT"] where id.starts(with: prefix.utf8) {
      let length = prefix.utf8.count
      if let seconds = ZoneOffset.readShort(p + length, id.count - length) { return fixed(seconds) }
    }
    return nil
  }

  /// A zone of the system's files.
  static func region(_ id: UnsafeRawBufferPointer) -> TimeZoneRules? {
    guard id.count >= 2, id.count <= 64, JodaToken.isLetter(id[0]) else { return nil }
    let hash = id.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    if let known = cache.withLock({ $0.find(hash, id) }) { return known }
    let name = String(decoding: id, as: UTF8.self)
    guard let zone = load(name) else { return nil }
    return cache.withLock { $0.keep(hash, zone) }
  }

  private static let cache = Lock(ZoneCache())

  /// The zone of this machine: `TZ`, else `/etc/localtime`, else UTC. Looked up once.
  public static let host: TimeZoneRules = {
    guard let value = getenv("TZ") else {
      return read(path: "/etc/localtime").flatMap { ZoneTable(file: $0) }
        .map { TimeZoneRules(id: hostID() ?? "localtime", table: $0) } ?? utc
    }
    var text = String(cString: value)
    if text.hasPrefix(":") { text.removeFirst() }
    if text.isEmpty { return utc }
    if text.hasPrefix("/") {
      return read(path: text).flatMap { ZoneTable(file: $0) }.map { TimeZoneRules(id: text, table: $0) } ?? utc
    }
    if let zone = load(text) { return zone }
    return ZoneTable(rule: Array(text.utf8)).map { TimeZoneRules(id: text, table: $0) } ?? utc
  }()

  /// `/etc/localtime` usually points to the file of its zone.
  private static func hostID() -> String? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1024) { room -> String? in
      guard let start = room.baseAddress else { return nil }
      let count = readlink("/etc/localtime", start, 1024)
      guard count > 0 else { return nil }
      let path = String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
      guard let range = path.ranges(of: "/zoneinfo/").last else { return nil }
      return String(path[range.upperBound...])
    }
  }

  private static func load(_ name: String) -> TimeZoneRules? {
    guard !name.hasPrefix("posix"), !name.hasPrefix("right/"), name != "localtime", name != "Factory",
      name.split(separator: "/", omittingEmptySubsequences: false).allSatisfy({ !$0.isEmpty }),
      name.utf8.allSatisfy({ JodaToken.isLetter($0) || $0 &- 48 <= 9 || "_+-/".utf8.contains($0) })
    else { return nil }
    let folder = getenv("TZDIR").map { String(cString: $0) } ?? "/usr/share/zoneinfo"
    guard let file = read(path: folder + "/" + name) else {
      return name == "UTC" || name == "GMT" || name == "UT" ? utc : nil
    }
    return ZoneTable(file: file).map { TimeZoneRules(id: name, table: $0) }
  }

  /// The bytes of a regular file below 1 MiB.
  private static func read(path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    let limit = 1 << 20
    while bytes.count < limit {
      let count = bytes.count
      let piece = [UInt8](unsafeUninitializedCapacity: 16_384) { room, filled in
        filled = max(0, Glibc.read(descriptor, room.baseAddress, 16_384))
      }
      bytes += piece
      if bytes.count == count { return bytes }
    }
    return nil
  }
}

/// Loaded zones by the hash of their id. There are no more of them than zone files, so the cache needs no bound.
private struct ZoneCache {
  private var slots: [UInt64: [TimeZoneRules]] = [:]

  func find(_ hash: UInt64, _ id: UnsafeRawBufferPointer) -> TimeZoneRules? {
    guard let zones = slots[hash] else { return nil }
    for zone in zones where zone.id.utf8.elementsEqual(id) { return zone }
    return nil
  }

  mutating func keep(_ hash: UInt64, _ zone: TimeZoneRules) -> TimeZoneRules {
    if let known = slots[hash]?.first(where: { $0.id == zone.id }) { return known }
    slots[hash, default: []].append(zone)
    return zone
  }
}
