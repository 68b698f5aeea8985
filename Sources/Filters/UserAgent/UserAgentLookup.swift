//  User agents to JSON: the rule file shared by all workers and replaced when it changes, and each worker's parser with
//  its bounded cache of finished answers in both styles of names.

internal import Diagnostics
internal import Glibc
internal import Patterns
internal import Synchronization

/// A rule file that is read at first use, and anew when it changes. Any thread may call it.
public final class UserAgentSource: Sendable {
  private struct State {
    var rules: UserAgentRules?
    var identity: FileIdentity?
  }

  public let path: String
  private let state = Lock(State())
  private let version = Atomic<Int>(0)

  /// - Parameter path: The rule file; not opened before `load()` or the first text.
  public init(path: String = UserAgentRules.systemPath) { self.path = path }

  private static let sharedMax = 8
  private static let known = Lock<[String: UserAgentSource]>([:])

  /// The source of `path` that all filters of this process use together, so that rules and their compiled expressions
  /// are held once. It stays for the life of the process; beyond a few files each filter gets its own.
  static func shared(path: String) -> UserAgentSource {
    known.withLock { known in
      if let source = known[path] { return source }
      let source = UserAgentSource(path: path)
      if known.count < sharedMax { known[path] = source }
      return source
    }
  }

  /// Raised by every replacement; 0 until the rules are read.
  public var generation: Int { version.load(ordering: .acquiring) }

  /// The rules, read now if that was not done yet. Takes some milliseconds the first time: call it from a background
  /// queue at start, so that no batch waits.
  public func load() throws(UserAgentRulesError) -> UserAgentRules {
    try state.withLock { (state: inout State) throws(UserAgentRulesError) -> UserAgentRules in
      if let rules = state.rules { return rules }
      let identity = FileIdentity(path: path)
      let rules = try UserAgentRules(path: path)
      state.rules = rules
      state.identity = identity
      version.add(1, ordering: .acquiringAndReleasing)
      return rules
    }
  }

  /// Reads the file anew if it changed. A file that cannot be used is logged, and the present rules stay. Call it every
  /// few seconds from a timer, never per event.
  ///
  /// - Returns: Whether the rules were replaced.
  @discardableResult
  public func reloadIfChanged() -> Bool {
    guard generation > 0, let identity = FileIdentity(path: path),
      identity != state.withLock({ $0.identity })
    else { return false }
    do {
      let fresh = try UserAgentRules(path: path)
      let old = state.withLock { state in
        let old = state.rules
        state = State(rules: fresh, identity: identity)
        return old
      }
      version.add(1, ordering: .acquiringAndReleasing)
      Log.info("useragent.reloaded", "Changed user-agent rules are in use.", ["path": .text(path)])
      _ = old  // freed outside the lock
      return true
    } catch {
      state.withLock { $0.identity = identity }  // not tried again until the file changes once more
      Log.warn(
        "useragent.reload-failed", "Changed user-agent rules cannot be used; the ones before stay.",
        ["path": .text(path), "line": .number(error.line), "reason": Log.foreign(error.reason)])
      return false
    }
  }
}

/// How the parts are named.
public enum UserAgentStyle: Sendable {
  /// Flat names, each with the prefix in front.
  case legacy(prefix: String)
  /// The nested names of the Elastic Common Schema, with the version parts in metadata.
  case ecs
}

/// The answer for one text; both are JSON objects, good until the next text.
public struct UserAgentAnswer {
  /// To be merged below the target.
  public var fields: UnsafeRawBufferPointer
  /// To be merged below `[@metadata][filter][user_agent]`; empty where there is nothing.
  public var metadata: UnsafeRawBufferPointer
}

/// One worker's way to the rules. Not thread-safe.
public final class UserAgentLookup {
  private static let cacheBytesMax = 8 << 20

  private let source: UserAgentSource
  private let style: UserAgentStyle
  private let prefix: [UInt8]
  private let scratch = MatchScratch()
  private var generation = 0
  private var parser: UserAgentParser?
  private var parts = UserAgentParts()
  private var out = ByteBuffer(capacity: 1024)
  private var cache: FragmentCache

  /// - Parameter cacheEntries: How many texts to remember; bounded by 8 MiB as well.
  public init(_ source: UserAgentSource, style: UserAgentStyle, cacheEntries: Int = 4096) {
    self.source = source
    self.style = style
    prefix = if case .legacy(let prefix) = style { Array(prefix.utf8) } else { [] }
    cache = FragmentCache(entries: cacheEntries, bytesMax: UserAgentLookup.cacheBytesMax)
  }

  /// Takes up replaced rules. Call it once per batch.
  public func refresh() {
    let newest = source.generation
    if _fastPath(newest == generation) { return }
    parser = nil
  }

  /// Parses `text`, which is not empty.
  ///
  /// - Throws: Where the rules cannot be read at first use.
  public func lookup(_ text: UnsafeRawBufferPointer) throws(UserAgentRulesError) -> UserAgentAnswer {
    if _slowPath(parser == nil) { try open() }
    let hash = SeededHash.of(text)
    if let value = cache.find(text, hash: hash) { return answer(value) }
    parser?.parse(text, &parts)
    write(text)
    cache.insert(text, hash: hash, out.bytes)
    return answer(out.bytes)
  }

  /// The same, or nil and a line in the log where the rules cannot be read.
  func answer(_ text: UnsafeRawBufferPointer) -> UserAgentAnswer? {
    do {
      return try lookup(text)
    } catch {
      Log.error(
        "useragent.rules-unusable", "The user-agent rules cannot be used; events pass without the fields.",
        ["path": .text(error.path), "line": .number(error.line), "reason": Log.foreign(error.reason)])
      return nil
    }
  }

  private func open() throws(UserAgentRulesError) {
    let rules = try source.load()
    generation = source.generation
    parser = UserAgentParser(rules, scratch: scratch)
    cache.removeAll()
  }

  private func answer(_ value: UnsafeRawBufferPointer) -> UserAgentAnswer {
    let split = min(Int(value.loadUnaligned(as: UInt32.self)), value.count)
    return UserAgentAnswer(
      fields: UnsafeRawBufferPointer(rebasing: value[4..<split]),
      metadata: UnsafeRawBufferPointer(rebasing: value[split...]))
  }

  private func write(_ text: UnsafeRawBufferPointer) {
    out.removeAll()
    out.append(littleEndian: UInt32(0))
    switch style {
    case .legacy:
      writeLegacy(text)
      setSplit()
    case .ecs:
      writeECS(text)
      setSplit()
      writeMetadata()
    }
  }

  private func setSplit() { UnsafeMutableRawPointer(out.pointer).storeBytes(of: UInt32(out.count), as: UInt32.self) }

  private func writeLegacy(_ text: UnsafeRawBufferPointer) {
    out.append(UInt8(ascii: "{"))
    part("name", .name)
    member("version", .major) { writeVersion(text) }
    part("major", .major)
    part("minor", .minor)
    part("patch", .patch)
    part("os", .systemName)
    part("os_name", .systemName)
    member("os_full", .systemName) { writeSystemFull() }
    member("os_version", .systemMajor) { writeSystemVersion() }
    part("os_major", .systemMajor)
    part("os_minor", .systemMinor)
    part("os_patch", .systemPatch)
    part("device", .device)
    out.append(UInt8(ascii: "}"))
  }

  private func writeECS(_ text: UnsafeRawBufferPointer) {
    out.append(UInt8(ascii: "{"))
    part("name", .name)
    member("version", .major) { writeVersion(text) }
    out.append(",\"os\":{")
    part("name", .systemName)
    member("full", .systemName) { writeSystemFull() }
    member("version", .systemMajor) { writeSystemVersion() }
    out.append("},\"device\":{")
    part("name", .device)
    out.append("}}")
  }

  private func writeMetadata() {
    guard parts[.major] != nil || parts[.systemMajor] != nil else { return }
    out.append(UInt8(ascii: "{"))
    if parts[.major] != nil {
      out.append("\"version\":{")
      part("major", .major)
      part("minor", .minor)
      part("patch", .patch)
      out.append(UInt8(ascii: "}"))
    }
    if parts[.systemMajor] != nil {
      if parts[.major] != nil { out.append(UInt8(ascii: ",")) }
      out.append("\"os\":{\"version\":{")
      part("major", .systemMajor)
      part("minor", .systemMinor)
      part("patch", .systemPatch)
      out.append("}}")
    }
    out.append(UInt8(ascii: "}"))
  }

  /// A member that is the part itself; nothing where it is absent.
  private func part(_ name: StaticString, _ part: UserAgentParts.Part) {
    member(name, part) { if let value = parts[part] { out.appendJSONContent(value) } }
  }

  /// A member whose text `body` writes; nothing where `part` is absent.
  private func member(_ name: StaticString, _ part: UserAgentParts.Part, _ body: () -> Void) {
    guard parts[part] != nil else { return }
    if out.count > 0, out.pointer[out.count - 1] != UInt8(ascii: "{") { out.append(UInt8(ascii: ",")) }
    out.append(UInt8(ascii: "\""))
    prefix.withUnsafeBytes { out.appendJSONContent($0) }
    out.append(name)
    out.append("\":\"")
    body()
    out.append(UInt8(ascii: "\""))
  }

  private func writeVersion(_ text: UnsafeRawBufferPointer) {
    let start = out.count
    for (index, part) in [UserAgentParts.Part.major, .minor, .patch, .fourth].enumerated() {
      guard let value = parts[part] else { break }
      if index > 0 { out.append(UInt8(ascii: ".")) }
      out.appendJSONContent(value)
    }
    if parts[.fourth] == nil { writeFourth(text, from: start) }
  }

  /// Chrome's versions have four parts where many rules read three: digits that follow the version in the text, behind
  /// a dot and before a blank, belong to it.
  private func writeFourth(_ text: UnsafeRawBufferPointer, from start: Int) {
    let version = UnsafeRawBufferPointer(rebasing: out.bytes[start...])
    guard let base = text.baseAddress, let needle = version.baseAddress, !version.isEmpty else { return }
    var at = 0
    while at + version.count + 2 < text.count {
      guard memcmp(base + at, needle, version.count) == 0, text[at + version.count] == UInt8(ascii: ".") else {
        at += 1
        continue
      }
      let digits = at + version.count + 1
      var end = digits
      while end < text.count, text[end] &- 48 < 10 { end += 1 }
      if end > digits, end < text.count, text[end] == 32 {
        out.append(UInt8(ascii: "."))
        out.append(UnsafeRawBufferPointer(rebasing: text[digits..<end]))
        return
      }
      at += 1
    }
  }

  private func writeSystemFull() {
    if let name = parts[.systemName] { out.appendJSONContent(name) }
    guard parts[.systemMajor] != nil else { return }
    out.append(UInt8(ascii: " "))
    writeSystemVersion()
  }

  private func writeSystemVersion() {
    guard let major = parts[.systemMajor] else { return }
    out.appendJSONContent(major)
    let isNumeric = major.allSatisfy { $0 &- 48 < 10 }
    for (index, part) in [UserAgentParts.Part.systemMinor, .systemPatch, .systemFourth].enumerated() {
      guard let value = parts[part] else { break }
      out.append(index == 0 && !isNumeric ? UInt8(ascii: " ") : UInt8(ascii: "."))
      out.appendJSONContent(value)
    }
  }
}
