//  Blocks: what one write brings to a segment. A block holds whole batches (or one part of a giant batch) and explains
//  itself: descriptors and contexts stand in its own table, so that damage elsewhere never costs it its meaning.

internal import CSystem
internal import Codecs
internal import Diagnostics
internal import Records

/// Bytes of a block in memory, shared by the queue and the batches that were read from it.
// unchecked: written by one thread until it is published, read-only afterwards
final class Chunk: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  let byteCount: Int
  var blocks: [Block] = []
  var segment: UInt64 = 0
  /// Memory of blocks that had to be expanded.
  var expanded: [Chunk] = []

  /// Where the blocks end in the segment's file.
  var end: Int { blocks.last.map { $0.offset + $0.extent } ?? 0 }

  init(byteCount: Int) {
    self.byteCount = byteCount
    base = .allocate(byteCount: max(byteCount, 16), alignment: 16)
  }

  deinit { base.deallocate() }
}

/// Records that share arrival, descriptor and context.
struct BlockRun {
  var count: Int
  var arrivalNs: Int64
  var descriptor: RecordDescriptor
  var context: RecordContext?
}

/// An expanded block within a chunk's memory.
struct Block {
  /// Place and bytes in the segment's file.
  var offset: Int
  var extent: Int
  var firstIndex: UInt32
  var count: Int
  /// The id of the first record.
  var identity: RecordIdentity
  /// `count` times length and checksum, 4 bytes each.
  var records: UnsafeRawPointer
  var payloads: UnsafeRawPointer
  var runs: [BlockRun]
  /// Numbers of records within the block whose checksum fails.
  var damaged: Set<Int> = []

  @inline(__always)
  func length(_ i: Int) -> Int {
    Int(UInt32(littleEndian: records.loadUnaligned(fromByteOffset: i &* 8, as: UInt32.self)))
  }
}

/// A batch, or the part of a giant one, that waits to be written.
struct PendingPart {
  let batch: RecordBatch
  let records: Range<Int>
  let byteCount: Int
  /// On the last part alone.
  let completion: (@Sendable (Result<Void, AppendFailure>) -> Void)?
}

/// A block before it has a place: the expanded bytes with room for the header in front.
///
/// The table is laid out as
///
///     u32 runs, u32 definitions
///     per run: i64 arrival ns, u32 descriptor, u32 context (all ones: none), u32 records, u32 0
///     per record: u32 length, u32 CRC-32C of the payload
///     per definition: u32 length; then the definitions' bytes, padded to a multiple of 8
///
/// and the payloads follow back to back.
struct BlockDraft {
  let chunk: Chunk
  let parts: [PendingPart]
  let tableBytes: Int
  let rawBytes: Int
  let recordCount: Int
  let recordsOffset: Int
  let runs: [BlockRun]
  /// What goes to the file behind the header where the block is compressed or encrypted; made once, at sealing.
  var stored: Chunk?
  var storedBytes = 0
  /// The ids that were given at the first try.
  var identity: RecordIdentity?

  init(_ parts: [PendingPart]) {
    self.parts = parts
    var definitions: [[UInt8]] = []
    var descriptors: [RecordDescriptor: UInt32] = [:]
    var contexts: [RecordContext: UInt32] = [:]
    var places: [(descriptor: UInt32, context: UInt32)] = []
    var count = 0
    var payloadBytes = 0
    var runs: [BlockRun] = []
    for part in parts {
      count += part.records.count
      payloadBytes += part.byteCount
      let descriptor: UInt32
      if let known = descriptors[part.batch.descriptor] {
        descriptor = known
      } else {
        descriptor = UInt32(definitions.count)
        descriptors[part.batch.descriptor] = descriptor
        definitions.append(part.batch.descriptor.bytes)
      }
      var context = Format.noContext
      if let some = part.batch.context {
        if let known = contexts[some] {
          context = known
        } else {
          context = UInt32(definitions.count)
          contexts[some] = context
          definitions.append(some.bytes)
        }
      }
      places.append((descriptor, context))
      runs.append(
        BlockRun(
          count: part.records.count, arrivalNs: part.batch.arrivalNs, descriptor: part.batch.descriptor,
          context: part.batch.context))
    }
    let definitionBytes = definitions.reduce(0) { $0 + $1.count }
    recordsOffset = 8 + 24 * runs.count
    tableBytes = (recordsOffset + 8 * count + 4 * definitions.count + definitionBytes + 7) & ~7
    rawBytes = tableBytes + payloadBytes
    recordCount = count
    self.runs = runs
    chunk = Chunk(byteCount: Format.aligned(Format.blockHeaderBytes + rawBytes))
    let table = chunk.base + Format.blockHeaderBytes
    func put(_ value: UInt32, _ offset: Int) {
      table.storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt32.self)
    }
    put(UInt32(runs.count), 0)
    put(UInt32(definitions.count), 4)
    for (i, run) in runs.enumerated() {
      table.storeBytes(of: run.arrivalNs.littleEndian, toByteOffset: 8 + 24 * i, as: Int64.self)
      put(places[i].descriptor, 16 + 24 * i)
      put(places[i].context, 20 + 24 * i)
      put(UInt32(run.count), 24 + 24 * i)
      put(0, 28 + 24 * i)
    }
    var lengthAt = recordsOffset
    var payload = table + tableBytes
    for part in parts {
      let ends = part.batch.ends
      var start = part.records.lowerBound == 0 ? 0 : ends[part.records.lowerBound - 1]
      payload.copyMemory(from: part.batch.payloads.pointer + start, byteCount: part.byteCount)
      payload += part.byteCount
      for i in part.records {
        table.storeBytes(
          of: UInt32(truncatingIfNeeded: ends[i] &- start).littleEndian, toByteOffset: lengthAt, as: UInt32.self)
        start = ends[i]
        lengthAt &+= 8
      }
    }
    for definition in definitions {
      put(UInt32(definition.count), lengthAt)
      lengthAt += 4
    }
    for definition in definitions {
      (table + lengthAt).copyMemory(from: definition, byteCount: definition.count)
      lengthAt += definition.count
    }
    while lengthAt < tableBytes {
      table.storeBytes(of: 0, toByteOffset: lengthAt, as: UInt8.self)
      lengthAt += 1
    }
    let end = Format.blockHeaderBytes + rawBytes
    memoryZero(chunk.base + end, chunk.byteCount - end)
  }

  /// Gives the block its place: checksums, header, and the bytes that go to the file.
  ///
  /// Called again, for another segment, when the first place turned out not to be lasting; ids then stay as given.
  /// - Returns: False where the cipher refuses.
  mutating func seal(
    segment: SegmentIdentity, seed: UInt32, offset: Int, firstIndex: UInt32, durableEnd: Int,
    compressor: BlockCompressor?, cipher: BlockCipher?
  ) -> Bool {
    let table = chunk.base + Format.blockHeaderBytes
    var payload = UnsafeRawPointer(table + tableBytes)
    for i in 0..<recordCount {
      let at = recordsOffset &+ i &* 8
      let length = Int(UInt32(littleEndian: table.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
      let sum = sys_crc32c(Format.recordSeed(seed, firstIndex &+ UInt32(truncatingIfNeeded: i)), payload, length)
      table.storeBytes(of: sum.littleEndian, toByteOffset: at &+ 4, as: UInt32.self)
      payload += length
    }
    let own = RecordIdentity(segment: segment, index: firstIndex)
    let given = identity ?? own
    identity = given
    var header = BlockHeader(
      storedBytes: UInt32(rawBytes), rawBytes: UInt32(rawBytes), tableBytes: UInt32(tableBytes), firstIndex: firstIndex,
      recordCount: UInt32(recordCount), tableSum: 0, storedSum: 0, durableEnd: UInt32(clamping: durableEnd),
      arrivalNs: runs.first?.arrivalNs ?? 0, origin: given == own ? nil : given)
    stored = nil
    let raw = UnsafeRawBufferPointer(start: table, count: rawBytes)
    if cipher == nil { header.tableSum = sys_crc32c(seed, table, tableBytes) }
    if compressor != nil || cipher != nil {
      var bytes = ByteBuffer(capacity: rawBytes + BlockCipher.overhead)
      if let compressor { header.compression = compressor.compress(raw, into: &bytes) }
      if let cipher {
        header.isEncrypted = true
        header.storedBytes = UInt32((header.compression == 0 ? rawBytes : bytes.count) + BlockCipher.overhead)
        var sealed = ByteBuffer(capacity: Int(header.storedBytes))
        header.store(to: chunk.base, seed: seed)
        let associated = UnsafeRawBufferPointer(start: chunk.base, count: 76)
        guard cipher.seal(header.compression == 0 ? raw : bytes.bytes, associated: associated, into: &sealed) else {
          return false
        }
        keep(sealed.bytes)
      } else if header.compression != 0 {
        header.storedBytes = UInt32(bytes.count)
        header.storedSum = sys_crc32c(seed, bytes.pointer, bytes.count)
        keep(bytes.bytes)
      }
    }
    storedBytes = Int(header.storedBytes)
    header.store(to: chunk.base, seed: seed)
    chunk.blocks = [
      Block(
        offset: offset, extent: header.extent, firstIndex: firstIndex, count: recordCount, identity: given,
        records: UnsafeRawPointer(table + recordsOffset), payloads: UnsafeRawPointer(table + tableBytes), runs: runs)
    ]
    return true
  }

  private mutating func keep(_ bytes: UnsafeRawBufferPointer) {
    let padded = Chunk(byteCount: Format.aligned(Format.blockHeaderBytes + bytes.count) - Format.blockHeaderBytes)
    if let from = bytes.baseAddress { padded.base.copyMemory(from: from, byteCount: bytes.count) }
    memoryZero(padded.base + bytes.count, padded.byteCount - bytes.count)
    stored = padded
  }

  /// What is written, in order.
  var buffers: [UnsafeRawBufferPointer] {
    guard let stored else { return [UnsafeRawBufferPointer(start: chunk.base, count: chunk.byteCount)] }
    return [
      UnsafeRawBufferPointer(start: chunk.base, count: Format.blockHeaderBytes),
      UnsafeRawBufferPointer(start: stored.base, count: stored.byteCount),
    ]
  }

  var extent: Int { Format.aligned(Format.blockHeaderBytes + (stored == nil ? rawBytes : storedBytes)) }
  /// Upper bound of `extent`, whatever becomes of the bytes.
  var extentLimit: Int { Format.aligned(Format.blockHeaderBytes + rawBytes + BlockCipher.overhead) }
}
