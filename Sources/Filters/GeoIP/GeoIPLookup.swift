//  Addresses to places. One `GeoIPSource` per database file is shared by all workers and replaced as a whole when the
//  file changes; each worker has a `GeoIPLookup` of its own with a bounded cache of finished answers.
//
//  A worker holds on to the database that it uses, so that a replacement never takes one away in the middle of a
//  look-up: it sees the new one at its next batch, and the old file is unmapped when the last worker has let go.

internal import Diagnostics
internal import Glibc
internal import Synchronization

/// A database file that may be replaced while it is in use. Any thread may call it.
public final class GeoIPSource: Sendable {
  private struct Current {
    var database: GeoIPDatabase
    /// nil where there was no file to look at.
    var identity: FileIdentity?
  }

  public let path: String
  private let current: Lock<Current>
  private let version = Atomic<Int>(1)

  public init(path: String) throws(GeoIPError) {
    self.path = path
    let identity = FileIdentity(path: path)
    current = Lock(Current(database: try GeoIPDatabase(path: path), identity: identity))
  }

  public var database: GeoIPDatabase { current.withLock { $0.database } }

  /// Raised by every replacement.
  public var generation: Int { version.load(ordering: .acquiring) }

  /// Opens the file anew if it is another one than before. A file that cannot be used is logged, and the present
  /// database stays. Call it every few seconds from a timer, never per event.
  ///
  /// - Returns: Whether the database was replaced.
  @discardableResult
  public func reloadIfChanged() -> Bool {
    guard let identity = FileIdentity(path: path), identity != current.withLock({ $0.identity }) else {
      return false
    }
    do {
      let fresh = try GeoIPDatabase(path: path)
      let old = current.withLock { state in
        let old = state.database
        state = Current(database: fresh, identity: identity)
        return old
      }
      version.add(1, ordering: .acquiringAndReleasing)
      Log.info(
        "geoip.reloaded", "A changed GeoIP database is in use.",
        ["path": .text(path), "type": Log.foreign(fresh.typeName)])
      _ = old  // let go outside the lock: this may unmap the old file
      return true
    } catch {
      // Not tried again until the file changes once more.
      current.withLock { $0.identity = identity }
      Log.warn(
        "geoip.reload-failed", "A changed GeoIP database cannot be used; the one before it stays.",
        ["path": .text(path), "reason": Log.foreign(error.reason)])
      return false
    }
  }
}

/// The answer for one source text.
public struct GeoIPAnswer {
  public enum Outcome: UInt8, Sendable {
    /// `fragment` is a JSON object to be merged below the target.
    case found
    /// No such address, or nothing known about it: failure, and an empty map where there is no target yet.
    case notFound
    /// No text at all: failure, the target is not touched.
    case blank
  }
  public var outcome: Outcome
  /// A JSON object, good until the next look-up; `{}` unless found.
  public var fragment: UnsafeRawBufferPointer
}

/// One worker's way to a database. Not thread-safe.
public final class GeoIPLookup {
  private static let emptyObject: StaticString = "{}"
  private static let cacheBytesMax = 4 << 20

  private let source: GeoIPSource
  private let requested: [GeoIPField]
  private let style: GeoIPSelection.Style
  private var database: GeoIPDatabase
  private var generation: Int
  private var selection: GeoIPSelection
  private var cache: FragmentCache
  private var record = GeoIPRecord()
  private var scratch = ByteBuffer(capacity: 1024)
  private var ip = ByteBuffer(capacity: 64)

  /// - Parameters:
  ///   - fields: What to write; empty for what the kind of database gives.
  ///   - ecs: Whether to write the nested names of the Elastic Common Schema.
  ///   - cacheEntries: How many answers to keep.
  public init(_ source: GeoIPSource, fields: [GeoIPField], ecs: Bool, cacheEntries: Int = 4096) {
    self.source = source
    requested = fields
    style = ecs ? .ecs : .legacy
    generation = source.generation
    database = source.database
    selection = GeoIPSelection([], style: .legacy)
    cache = FragmentCache(entries: cacheEntries, bytesMax: GeoIPLookup.cacheBytesMax)
    select()
  }

  private func select() {
    selection =
      requested.isEmpty
      ? GeoIPSelection(kind: database.kind, style: style) : GeoIPSelection(requested, style: style)
  }

  /// Takes up a replaced database. Call it once per batch.
  public func refresh() {
    let newest = source.generation
    if _fastPath(newest == generation) { return }
    generation = newest
    database = source.database
    select()
    cache.removeAll()
  }

  /// Looks up the address that `text` holds.
  public func lookup(_ text: UnsafeRawBufferPointer) -> GeoIPAnswer {
    let textHash = SeededHash.of(text)
    if let value = cache.find(text, hash: textHash) { return answer(value) }
    guard let lenient = LenientAddress(text) else {
      let isBlank = text.allSatisfy { $0 <= 32 }
      return GeoIPAnswer(outcome: isBlank ? .blank : .notFound, fragment: GeoIPLookup.empty)
    }
    ip.removeAll()
    ip.append(UInt8(ascii: "\""))
    lenient.address.append(to: &ip)
    ip.append(UnsafeRawBufferPointer(rebasing: text[lenient.zone]))
    ip.append(UInt8(ascii: "\""))
    scratch.removeAll()
    scratch.append(GeoIPAnswer.Outcome.notFound.rawValue)
    switch database.find(lenient.address, &record) {
    case .found: writeFound()
    case .notFound: scratch.append(GeoIPLookup.emptyObject)
    case .damaged:
      Log.warn(
        "geoip.database-damaged", "A record of a GeoIP database cannot be read; the event is tagged as a failure.",
        ["path": .text(database.path), "next": "fetch the database anew"])
      scratch.append(GeoIPLookup.emptyObject)
    }
    cache.insert(text, hash: textHash, scratch.bytes)
    return answer(scratch.bytes)
  }

  private func writeFound() {
    if database.kind == .anonymousIP {
      for slot in [.anonymous, .anonymousVPN, .hostingProvider, .publicProxy, .residentialProxy, .torExitNode]
        as [GeoIPRecord.Slot] where !record[slot].isPresent
      { record[slot] = .flag(false) }
    }
    // A city's entry without a place on the map counts as unknown, whatever else it holds.
    let isPlaced = record[.latitude].isPresent && record[.longitude].isPresent
    guard database.kind != .city || isPlaced, selection.write(record, ip: ip.bytes, to: &scratch) else {
      scratch.count = 1
      scratch.append(GeoIPLookup.emptyObject)
      return
    }
    scratch.pointer[0] = GeoIPAnswer.Outcome.found.rawValue
  }

  private func answer(_ value: UnsafeRawBufferPointer) -> GeoIPAnswer {
    GeoIPAnswer(
      outcome: GeoIPAnswer.Outcome(rawValue: value.first ?? 1) ?? .notFound,
      fragment: UnsafeRawBufferPointer(rebasing: value.dropFirst()))
  }

  private static var empty: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: emptyObject.utf8Start, count: emptyObject.utf8CodeUnitCount)
  }

  /// The two-letter code of the country of `address`, for filters that only compare countries; nil where unknown.
  public func countryCode(_ address: IPAddress) -> UInt16? {
    guard case .found = database.find(address, &record), case .text(let code) = record[.countryCode], code.count == 2
    else { return nil }
    return UInt16(code[0]) << 8 | UInt16(code[1])
  }
}
