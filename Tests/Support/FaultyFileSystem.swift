//  A disk in memory that fails as disks do: it forgets what was not synced, in pieces of a sector; it takes half a write;
//  it refuses a sync and then claims that all is well; it is full for a while; and it stops the world at any call, or makes
//  one call fail.
//
//  For one thread. Everything it draws comes from a seed.

public import Diagnostics
import Glibc
public import Queue

public final class FaultyFileSystem: FileSystem, @unchecked Sendable {  // unchecked: used by one thread
  final class Node {
    struct Write {
      var offset: Int
      var bytes: [UInt8]

      /// What is left of it once newer bytes of `range` are on the disk.
      func without(_ range: Range<Int>) -> [Write] {
        let end = offset + bytes.count
        if range.upperBound <= offset || range.lowerBound >= end { return [self] }
        var left: [Write] = []
        if range.lowerBound > offset {
          left.append(Write(offset: offset, bytes: Array(bytes[..<(range.lowerBound - offset)])))
        }
        if range.upperBound < end {
          left.append(Write(offset: range.upperBound, bytes: Array(bytes[(range.upperBound - offset)...])))
        }
        return left
      }
    }
    /// What a reader sees, and what a power loss leaves at least.
    var view: [UInt8] = []
    var durable: [UInt8] = []
    /// Since the last sync; those whose sync failed are never written by a later one.
    var pending: [Write] = []
    var forsaken: [Write] = []
  }

  enum NameChange {
    case set(String, Node)
    case remove(String)
    case move(String, String, Node)
  }

  public enum Crash { case kill, powerLoss }

  public var random: SeededRandom
  private var names: [String: Node] = [:]
  private var durableNames: [String: Node] = [:]
  private var changes: [NameChange] = []
  private var locks: Set<String> = []
  fileprivate var generation = 0

  /// The world stops at this call; counts down.
  public var callsUntilCrash: Int?
  public private(set) var isStopped = false
  public private(set) var calls = 0
  /// Shares of calls that fail.
  public var syncFailures = 0.0
  public var writeFailures = 0.0
  public var shortWrites = 0.0
  /// Bytes that all files together may have.
  public var capacity = Int.max
  public private(set) var faultsMet = 0

  /// What one call does instead of its work.
  public enum Fault: Sendable {
    case error(CInt)
    /// Half of what was to be read or written; other calls do their work.
    case short
  }
  /// The call that fails, counted over all calls that there are.
  public var fault: (site: Int, kind: Fault)?
  /// Calls so far, those included that `calls` leaves out.
  public private(set) var sites = 0
  /// Names of calls that a fault met.
  public private(set) var faultyCalls: [String] = []

  public init(seed: UInt64) { random = SeededRandom(seed) }

  /// Starts the machine again after a crash: what survived is all there is.
  public func restart(_ crash: Crash) {
    generation += 1
    isStopped = false
    callsUntilCrash = nil
    locks = []
    guard crash == .powerLoss else { return }
    for change in changes.prefix(random.below(changes.count + 1)) { apply(change, to: &durableNames) }
    changes = []
    names = durableNames
    var seen: Set<ObjectIdentifier> = []
    // In order of names: a dictionary's own order would differ from run to run.
    for (_, node) in names.sorted(by: { $0.key < $1.key }) where seen.insert(ObjectIdentifier(node)).inserted {
      for write in node.forsaken + node.pending { survive(write, node) }
      node.view = node.durable
      node.pending = []
      node.forsaken = []
    }
  }

  /// Some sectors of an unsynced write reached the disk.
  private func survive(_ write: Node.Write, _ node: Node) {
    let mode = random.below(4)
    if mode == 0 { return }
    var at = 0
    while at < write.bytes.count {
      let sectorEnd = ((write.offset + at) / 512 + 1) * 512 - write.offset
      let end = min(write.bytes.count, sectorEnd)
      if mode == 1 || random.chance(0.6) {
        FaultyFileSystem.put(Array(write.bytes[at..<end]), write.offset + at, &node.durable)
      }
      at = end
    }
  }

  fileprivate static func put(_ bytes: [UInt8], _ offset: Int, _ content: inout [UInt8]) {
    if content.count < offset + bytes.count {
      content.append(contentsOf: [UInt8](repeating: 0, count: offset + bytes.count - content.count))
    }
    content.replaceSubrange(offset..<offset + bytes.count, with: bytes)
  }

  private func apply(_ change: NameChange, to names: inout [String: Node]) {
    switch change {
    case .set(let name, let node): names[name] = node
    case .remove(let name): names[name] = nil
    case .move(let from, let to, let node):
      names[from] = nil
      names[to] = node
    }
  }

  fileprivate func change(_ change: NameChange) {
    apply(change, to: &names)
    changes.append(change)
  }

  public var used: Int {
    var seen: Set<ObjectIdentifier> = []
    return names.values.reduce(0) { seen.insert(ObjectIdentifier($1)).inserted ? $0 + $1.view.count : $0 }
  }

  /// Counts a call; the world may stop here.
  ///
  /// - Returns: False where this very call is the one that was interrupted.
  fileprivate func enter(_ call: String, _ ofGeneration: Int) throws(SystemError) -> Bool {
    if isStopped || ofGeneration != generation { throw SystemError(EIO, call: call) }
    try meet(call)
    calls += 1
    guard let left = callsUntilCrash else { return true }
    callsUntilCrash = left - 1
    if left > 1 { return true }
    isStopped = true
    return false
  }

  /// Counts a call and throws where it is the one that fails.
  private func meet(_ call: String) throws(SystemError) {
    sites += 1
    guard let fault, fault.site == sites else { return }
    guard case .error(let code) = fault.kind else { return }
    faultsMet += 1
    faultyCalls.append(call)
    throw SystemError(code, call: call)
  }

  /// Whether the next call fails.
  fileprivate var failsNext: Bool {
    guard let fault, fault.site == sites + 1, !isStopped, case .error = fault.kind else { return false }
    return true
  }

  /// Whether this call does half of its work.
  fileprivate func isShort(_ call: String) -> Bool {
    guard let fault, fault.site == sites, case .short = fault.kind else { return false }
    faultsMet += 1
    faultyCalls.append(call)
    return true
  }

  fileprivate func draw(_ share: Double) -> Bool {
    if share > 0, random.chance(share) {
      faultsMet += 1
      return true
    }
    return false
  }

  // MARK: FileSystem

  public func createFolder(_ path: String) throws(SystemError) { _ = try enter("mkdir", generation) }

  public func list(_ folder: String) throws(SystemError) -> [String] {
    guard try enter("opendir", generation) else { throw SystemError(EIO, call: "opendir") }
    return names.keys.map { String($0.dropFirst(folder.utf8.count + 1)) }.shuffled(using: &random)
  }

  public func open(_ path: String, _ mode: FileMode) throws(SystemError) -> any QueueFile {
    guard try enter("open", generation) else { throw SystemError(EIO, call: "open") }
    if let node = names[path] { return FaultyFile(self, node) }
    guard mode == .create else { throw SystemError(ENOENT, call: "open") }
    let node = Node()
    change(.set(path, node))
    return FaultyFile(self, node)
  }

  public func rename(_ from: String, _ to: String) throws(SystemError) {
    guard try enter("rename", generation) else { throw SystemError(EIO, call: "rename") }
    guard let node = names[from] else { throw SystemError(ENOENT, call: "rename") }
    // One step of the journal: never both names, never none.
    change(.move(from, to, node))
  }

  public func remove(_ path: String) throws(SystemError) {
    guard try enter("unlink", generation) else { throw SystemError(EIO, call: "unlink") }
    guard names[path] != nil else { throw SystemError(ENOENT, call: "unlink") }
    change(.remove(path))
  }

  public func syncFolder(_ path: String) throws(SystemError) {
    guard try enter("fsync", generation) else { throw SystemError(EIO, call: "fsync") }
    if draw(syncFailures) { throw SystemError(EIO, call: "fsync") }
    for change in changes { apply(change, to: &durableNames) }
    changes = []
  }

  public func freeBytes(_ folder: String) throws(SystemError) -> Int {
    try meet("statvfs")
    return max(0, capacity - used)
  }

  public func lock(_ path: String) throws(SystemError) -> any FileLock {
    try meet("flock")
    if locks.contains(path) { throw SystemError(EWOULDBLOCK, call: "flock") }
    locks.insert(path)
    return FaultyLock(self, path)
  }

  fileprivate func unlock(_ path: String, _ ofGeneration: Int) {
    if ofGeneration == generation { locks.remove(path) }
  }

  /// Everything on the disk, for tests that damage it.
  public var files: [String: [UInt8]] { names.mapValues(\.view) }

  public func damage(_ path: String, _ body: (inout [UInt8]) -> Void) {
    guard let node = names[path] else { return }
    body(&node.view)
    node.durable = node.view
    node.pending = []
  }
}

private final class FaultyLock: FileLock, @unchecked Sendable {
  private let disk: FaultyFileSystem
  private let path: String
  private let generation: Int
  init(_ disk: FaultyFileSystem, _ path: String) {
    self.disk = disk
    self.path = path
    generation = disk.generation
  }
  deinit { disk.unlock(path, generation) }
}

private final class FaultyFile: QueueFile, @unchecked Sendable {
  private let disk: FaultyFileSystem
  private let node: FaultyFileSystem.Node
  private let generation: Int

  init(_ disk: FaultyFileSystem, _ node: FaultyFileSystem.Node) {
    self.disk = disk
    self.node = node
    generation = disk.generation
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int {
    guard try disk.enter("pread", generation) else { throw SystemError(EIO, call: "pread") }
    guard offset < node.view.count else { return 0 }
    var count = min(buffer.count, node.view.count - offset)
    if count > 1, disk.draw(disk.shortWrites) { count = 1 + disk.random.below(count) }
    if count > 1, disk.isShort("pread") { count /= 2 }
    node.view.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count])) }
    return count
  }

  func write(_ buffers: [UnsafeRawBufferPointer], at offset: Int) throws(SystemError) -> Int {
    var bytes = buffers.flatMap { Array($0) }
    let total = bytes.count
    if disk.failsNext {
      // What fails may have done part of its work.
      put(Array(bytes.prefix(total / 2)), offset)
    }
    let isWhole = try disk.enter("pwritev", generation)
    if total > 1, disk.isShort("pwritev") { bytes = Array(bytes.prefix(total / 2)) }
    if !isWhole || (total > 1 && disk.draw(disk.shortWrites)) {
      bytes = Array(bytes.prefix(disk.random.below(total + 1)))
    }
    let isFailing = isWhole && disk.draw(disk.writeFailures)
    if isFailing { bytes = Array(bytes.prefix(disk.random.below(bytes.count + 1))) }
    let growth = max(0, offset + bytes.count - node.view.count)
    let room = max(0, disk.capacity - disk.used)
    let isOutOfSpace = growth > room
    if isOutOfSpace { bytes = Array(bytes.prefix(max(0, node.view.count + room - offset))) }
    put(bytes, offset)
    if !isWhole || isFailing { throw SystemError(EIO, call: "pwritev") }
    if isOutOfSpace, bytes.isEmpty { throw SystemError(ENOSPC, call: "pwritev") }
    return bytes.isEmpty && total > 0 ? try writeOne(buffers, offset) : bytes.count
  }

  private func put(_ bytes: [UInt8], _ offset: Int) {
    if bytes.isEmpty { return }
    FaultyFileSystem.put(bytes, offset, &node.view)
    node.pending.append(FaultyFileSystem.Node.Write(offset: offset, bytes: bytes))
  }

  /// A short write brings one byte at least.
  private func writeOne(_ buffers: [UnsafeRawBufferPointer], _ offset: Int) throws(SystemError) -> Int {
    guard let byte = buffers.first?.first else { return 0 }
    if offset + 1 > node.view.count, disk.used >= disk.capacity { throw SystemError(ENOSPC, call: "pwritev") }
    FaultyFileSystem.put([byte], offset, &node.view)
    node.pending.append(FaultyFileSystem.Node.Write(offset: offset, bytes: [byte]))
    return 1
  }

  func sync() throws(SystemError) {
    if disk.failsNext { forsake() }
    let isWhole = try disk.enter("fdatasync", generation)
    if !isWhole || disk.draw(disk.syncFailures) {
      // The kernel forgets that these pages are dirty: the next sync succeeds and they are not on the disk.
      if isWhole { forsake() }
      throw SystemError(EIO, call: "fdatasync")
    }
    for write in node.pending {
      FaultyFileSystem.put(write.bytes, write.offset, &node.durable)
      node.forsaken = node.forsaken.flatMap { $0.without(write.offset..<write.offset + write.bytes.count) }
    }
    node.pending = []
  }

  private func forsake() {
    node.forsaken += node.pending
    node.pending = []
  }

  func startWriteback(at offset: Int, count: Int) {}

  func size() throws(SystemError) -> Int {
    guard try disk.enter("fstat", generation) else { throw SystemError(EIO, call: "fstat") }
    return node.view.count
  }

  func truncate(to size: Int) throws(SystemError) {
    guard try disk.enter("ftruncate", generation) else { throw SystemError(EIO, call: "ftruncate") }
    node.view = Array(node.view.prefix(size))
  }
}
