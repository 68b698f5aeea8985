//  The queue on a disk whose bytes were changed. The input is a list of changes (file, place, kind, value) to the files of
//  a sound queue, or, behind a first byte of 255, the bytes of its first segment. Opening it never traps, no record comes
//  out that was not put in, none comes twice, and opening it again gives no record more than before.

import Diagnostics
import Glibc
import Queue
import Records

/// Files in memory.
private final class MemoryDisk: FileSystem, @unchecked Sendable {  // unchecked: one thread
  final class Node {
    var bytes: [UInt8] = []
    init(_ bytes: [UInt8] = []) { self.bytes = bytes }
  }
  var nodes: [String: Node] = [:]

  func createFolder(_ path: String) throws(SystemError) {}
  func list(_ folder: String) throws(SystemError) -> [String] {
    nodes.keys.map { String($0.dropFirst(folder.utf8.count + 1)) }.sorted()
  }
  func open(_ path: String, _ mode: FileMode) throws(SystemError) -> any QueueFile {
    if let node = nodes[path] { return MemoryFile(node) }
    guard mode == .create else { throw SystemError(ENOENT, call: "open") }
    let node = Node()
    nodes[path] = node
    return MemoryFile(node)
  }
  func rename(_ from: String, _ to: String) throws(SystemError) {
    guard let node = nodes.removeValue(forKey: from) else { throw SystemError(ENOENT, call: "rename") }
    nodes[to] = node
  }
  func remove(_ path: String) throws(SystemError) {
    if nodes.removeValue(forKey: path) == nil { throw SystemError(ENOENT, call: "unlink") }
  }
  func syncFolder(_ path: String) throws(SystemError) {}
  func freeBytes(_ folder: String) throws(SystemError) -> Int { 1 << 40 }
  func lock(_ path: String) throws(SystemError) -> any FileLock { MemoryLock() }

  func copy() -> MemoryDisk {
    let copy = MemoryDisk()
    copy.nodes = nodes.mapValues { Node($0.bytes) }
    return copy
  }
}

private final class MemoryLock: FileLock {}

private final class MemoryFile: QueueFile, @unchecked Sendable {  // unchecked: one thread
  private let node: MemoryDisk.Node
  init(_ node: MemoryDisk.Node) { self.node = node }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int {
    guard offset >= 0, offset < node.bytes.count else { return 0 }
    let count = min(buffer.count, node.bytes.count - offset)
    node.bytes.withUnsafeBytes {
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count]))
    }
    return count
  }
  func write(_ buffers: [UnsafeRawBufferPointer], at offset: Int) throws(SystemError) -> Int {
    let bytes = buffers.flatMap { Array($0) }
    guard offset >= 0, offset + bytes.count <= 64 << 20 else { throw SystemError(EFBIG, call: "pwritev") }
    if node.bytes.count < offset + bytes.count {
      node.bytes += [UInt8](repeating: 0, count: offset + bytes.count - node.bytes.count)
    }
    node.bytes.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    return bytes.count
  }
  func sync() throws(SystemError) {}
  func startWriteback(at offset: Int, count: Int) {}
  func size() throws(SystemError) -> Int { node.bytes.count }
  func truncate(to size: Int) throws(SystemError) { node.bytes = Array(node.bytes.prefix(size)) }
}

private func settings() -> QueueSettings {
  var settings = QueueSettings()
  settings.segmentBytes = 4096
  settings.maxBytes = 1 << 20
  settings.minFreeBytes = 0
  return settings
}

private let folder = "/queue"

/// Three segments of records, the first of which are released, as a killed process leaves them.
private let sound: (disk: MemoryDisk, records: Set<[UInt8]>) = {
  let disk = MemoryDisk()
  var records: Set<[UInt8]> = []
  do {
    let queue = try DiskQueue(folder: folder, settings: settings(), fileSystem: disk, runsThreads: false)
    for i in 0..<12 {
      let batch = RecordBatch(
        descriptor: RecordDescriptor(Array("{\"codec\":\"json\",\"n\":\(i % 2)}".utf8)),
        context: i % 3 == 0 ? RecordContext(Array("{\"peer\":\(i)}".utf8)) : nil, arrivalNs: Int64(i))
      for j in 0..<3 {
        let record = Array("record \(i).\(j) ".utf8) + [UInt8](repeating: UInt8(97 + i), count: 40 + 60 * j)
        records.insert(record)
        record.withUnsafeBytes { batch.append($0) }
      }
      queue.append(batch) { _ in }
      while queue.writeStep() == .wrote {}
      if i == 5 { queue.read(maxRecords: 4, maxBytes: .max, until: Instant.now, gather: .zero)?.release() }
    }
    let killed = disk.copy()
    queue.close()
    return (killed, records)
  } catch {
    finding("no sound queue to begin with: \(error)")
  }
}()

/// Opens the queue and reads all of it.
private func drain(_ disk: MemoryDisk) -> [[UInt8]]? {
  guard let queue = try? DiskQueue(folder: folder, settings: settings(), fileSystem: disk, runsThreads: false) else {
    return nil
  }
  var all: [[UInt8]] = []
  while let batch = queue.read(maxRecords: 100, maxBytes: .max, until: Instant.now, gather: .zero) {
    for i in 0..<batch.count { all.append(Array(batch.payload(i))) }
    if all.count > 10_000 { finding("more records than ever were") }
    kept.append(batch)
  }
  kept.removeAll()
  queue.close()
  return all
}
nonisolated(unsafe) private var kept: [QueueBatch] = []

@Sendable func fuzzQueue(_ bytes: UnsafeRawBufferPointer) {
  let disk = sound.disk.copy()
  let names = disk.nodes.keys.sorted()
  let isWhole = bytes.first == 255
  if isWhole {
    if let first = names.first(where: { $0.hasSuffix(".seg") }) { disk.nodes[first]?.bytes = Array(bytes.dropFirst()) }
  } else {
    for start in stride(from: 0, to: bytes.count - 4, by: 5) {
      change(disk, names[Int(bytes[start]) % names.count], UnsafeRawBufferPointer(rebasing: bytes[start..<start + 5]))
    }
  }
  guard let first = drain(disk) else { return }
  if !isWhole, let foreign = first.first(where: { !sound.records.contains($0) }) {
    finding("a record that nobody put in: \(String(decoding: foreign, as: UTF8.self))")
  }
  if Set(first).count != first.count { finding("a record came twice") }
  guard let second = drain(disk) else { finding("opened once, and not again") }
  if !Set(second).isSubset(of: Set(first)) { finding("more records than at the first opening") }
}

/// File, place (two bytes), kind, value.
private func change(_ disk: MemoryDisk, _ name: String, _ words: UnsafeRawBufferPointer) {
  guard let node = disk.nodes[name] else { return }
  let count = node.bytes.count
  guard count > 0 else { return }
  let at = (Int(words[1]) << 8 | Int(words[2])) % count
  switch words[3] % 6 {
  case 0: node.bytes[at] ^= words[4] | 1
  case 1: node.bytes[at] = words[4]
  case 2: node.bytes.removeSubrange(at...)
  case 3: for i in at..<min(count, at + Int(words[4])) { node.bytes[i] = 0 }
  case 4: disk.nodes[name] = nil
  default: node.bytes.replaceSubrange(at..<at, with: [UInt8](repeating: words[4], count: 3))
  }
}
