//  From a segment's bytes back to blocks. Everything read here may be damaged: each length is checked before it is used.

internal import CSystem
internal import Codecs
internal import Diagnostics
internal import Records

/// Reads the blocks of segments. One owner at a time; keeps working memory and recently seen definitions.
final class BlockReader {
  private let decompressor = BlockDecompressor()
  private let keys: [BlockKey]
  private var cipher: (identity: SegmentIdentity, cipher: BlockCipher)?
  private var descriptors: [RecordDescriptor] = []
  private var lastContext: RecordContext?
  /// Tests break the reader on purpose, to see that the model notices.
  var ignoresChecksums = false

  init(keys: [BlockKey]) { self.keys = keys }

  /// Makes a block of the `header.extent` bytes at `file`, a block's place in its chunk's memory (or in a window).
  ///
  /// - Parameter chunk: Owns `file`; for transformed blocks, a fresh chunk is returned instead.
  /// - Returns: nil where nothing of the block can be trusted.
  func expand(
    _ file: UnsafeRawPointer, _ header: BlockHeader, in chunk: Chunk, offset: Int, segment: SegmentHeader, seed: UInt32
  ) -> (block: Block, chunk: Chunk)? {
    let stored = UnsafeRawBufferPointer(start: file + Format.blockHeaderBytes, count: Int(header.storedBytes))
    var raw = stored
    var owner = chunk
    if !header.isPlain {
      guard let expanded = transform(file, stored, header, segment: segment, seed: seed) else { return nil }
      owner = expanded
      raw = UnsafeRawBufferPointer(start: expanded.base, count: Int(header.rawBytes))
    }
    guard raw.count == Int(header.rawBytes), let base = raw.baseAddress else { return nil }
    if !header.isEncrypted, !ignoresChecksums {
      guard header.tableSum == sys_crc32c(seed, base, Int(header.tableBytes)) else { return nil }
    }
    guard var block = readTable(base, raw.count, header) else { return nil }
    block.offset = offset
    block.identity = header.origin ?? RecordIdentity(segment: segment.identity, index: header.firstIndex)
    if !ignoresChecksums { block.damaged = findDamage(block, seed: seed) }
    return (block, owner)
  }

  /// Reads blocks that follow one another from `offset` on, as many as fit into the window, or one that is longer.
  ///
  /// - Returns: A chunk without blocks where the first one is damaged, or does not end before `limit`.
  func window(
    _ file: any QueueFile, _ segment: SegmentHeader, _ seed: UInt32, from offset: Int, to limit: Int, windowBytes: Int
  ) throws(SystemError) -> Chunk {
    var size = min(windowBytes, limit - offset)
    while true {
      let chunk = Chunk(byteCount: max(0, size))
      chunk.segment = segment.number
      let read = try file.readFully(
        into: UnsafeMutableRawBufferPointer(start: chunk.base, count: max(0, size)), at: offset)
      var at = 0
      while read - at >= Format.blockHeaderBytes, let header = BlockHeader.read(chunk.base + at, seed: seed) {
        guard offset + at + header.extent <= limit else { break }
        if at + header.extent > read {
          // Cut by the window, unless the file ends here.
          if at == 0, size < header.extent { size = header.extent } else { size = at == 0 ? 0 : size }
          break
        }
        guard
          let found = expand(chunk.base + at, header, in: chunk, offset: offset + at, segment: segment, seed: seed)
        else { break }
        if found.chunk !== chunk { chunk.expanded.append(found.chunk) }
        chunk.blocks.append(found.block)
        at += header.extent
      }
      if !chunk.blocks.isEmpty || size <= chunk.byteCount { return chunk }
    }
  }

  /// The next place from `offset` on where a block of the segment begins.
  func search(
    _ file: any QueueFile, _ seed: UInt32, from offset: Int, to limit: Int,
    where condition: (BlockHeader) -> Bool = { _ in true }
  ) throws(SystemError) -> (offset: Int, header: BlockHeader)? {
    let size = 1 << 20
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
    defer { buffer.deallocate() }
    var start = Format.aligned(offset)
    guard let base = buffer.baseAddress else { return nil }
    while limit - start >= Format.blockHeaderBytes {
      let wanted = min(size, limit - start)
      let read = try file.readFully(into: UnsafeMutableRawBufferPointer(start: base, count: wanted), at: start)
      var at = 0
      while at + Format.blockHeaderBytes <= read {
        if UInt32(littleEndian: base.load(fromByteOffset: at, as: UInt32.self)) == Format.blockMarker,
          let header = BlockHeader.read(base + at, seed: seed), condition(header)
        {
          return (start + at, header)
        }
        at += Format.alignment
      }
      if read < wanted || at == 0 { return nil }
      start += at
    }
    return nil
  }

  private func transform(
    _ file: UnsafeRawPointer, _ stored: UnsafeRawBufferPointer, _ header: BlockHeader, segment: SegmentHeader,
    seed: UInt32
  ) -> Chunk? {
    let target = Chunk(byteCount: Int(header.rawBytes))
    let room = UnsafeMutableRawBufferPointer(start: target.base, count: Int(header.rawBytes))
    if !header.isEncrypted {
      guard header.storedSum == sys_crc32c(seed, stored.baseAddress, stored.count),
        decompressor.expand(stored, code: header.compression, into: room)
      else { return nil }
      return target
    }
    guard stored.count >= BlockCipher.overhead, let cipher = cipher(for: segment) else { return nil }
    let associated = UnsafeRawBufferPointer(start: file, count: 76)
    if header.compression == 0 {
      return cipher.open(stored, associated: associated, into: room) ? target : nil
    }
    let packed = Chunk(byteCount: stored.count - BlockCipher.overhead)
    let packedRoom = UnsafeMutableRawBufferPointer(start: packed.base, count: stored.count - BlockCipher.overhead)
    guard cipher.open(stored, associated: associated, into: packedRoom),
      decompressor.expand(UnsafeRawBufferPointer(packedRoom), code: header.compression, into: room)
    else { return nil }
    return target
  }

  private func cipher(for segment: SegmentHeader) -> BlockCipher? {
    if let cipher, cipher.identity == segment.identity { return cipher.cipher }
    guard let key = keys.first(where: { $0.id == segment.keyId }),
      let fresh = key.cipher(salt: segment.identity.bytes)
    else { return nil }
    cipher = (segment.identity, fresh)
    return fresh
  }

  private func readTable(_ base: UnsafeRawPointer, _ rawBytes: Int, _ header: BlockHeader) -> Block? {
    func get(_ offset: Int) -> UInt32 {
      UInt32(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    let tableBytes = Int(header.tableBytes)
    let count = Int(header.recordCount)
    let runCount = Int(get(0))
    let definitionCount = Int(get(4))
    let recordsOffset = 8 + 24 * runCount
    let lengthsOffset = recordsOffset + 8 * count
    var definitionAt = lengthsOffset + 4 * definitionCount
    guard definitionAt <= tableBytes else { return nil }
    var definitions: [UnsafeRawBufferPointer] = []
    definitions.reserveCapacity(definitionCount)
    for i in 0..<definitionCount {
      let length = Int(get(lengthsOffset + 4 * i))
      guard length <= tableBytes - definitionAt else { return nil }
      definitions.append(UnsafeRawBufferPointer(start: base + definitionAt, count: length))
      definitionAt += length
    }
    var runs: [BlockRun] = []
    runs.reserveCapacity(runCount)
    var counted = 0
    for i in 0..<runCount {
      let at = 8 + 24 * i
      let descriptor = Int(get(at + 8))
      let context = get(at + 12)
      let records = Int(get(at + 16))
      guard descriptor < definitions.count, context == Format.noContext || Int(context) < definitions.count else {
        return nil
      }
      counted += records
      runs.append(
        BlockRun(
          count: records, arrivalNs: Int64(littleEndian: base.loadUnaligned(fromByteOffset: at, as: Int64.self)),
          descriptor: intern(definitions[descriptor]),
          context: context == Format.noContext ? nil : internContext(definitions[Int(context)])))
    }
    guard counted == count else { return nil }
    var payloadBytes = 0
    for i in 0..<count { payloadBytes += Int(get(recordsOffset + 8 * i)) }
    guard payloadBytes == rawBytes - tableBytes else { return nil }
    return Block(
      offset: 0, extent: header.extent, firstIndex: header.firstIndex, count: count,
      identity: RecordIdentity(segment: SegmentIdentity(high: 0, low: 0), index: 0), records: base + recordsOffset,
      payloads: base + tableBytes, runs: runs)
  }

  private func findDamage(_ block: Block, seed: UInt32) -> Set<Int> {
    var damaged: Set<Int> = []
    var payload = block.payloads
    for i in 0..<block.count {
      let length = block.length(i)
      let sum = UInt32(littleEndian: block.records.loadUnaligned(fromByteOffset: i * 8 + 4, as: UInt32.self))
      let index = block.firstIndex &+ UInt32(truncatingIfNeeded: i)
      if sum != sys_crc32c(Format.recordSeed(seed, index), payload, length) { damaged.insert(i) }
      payload += length
    }
    return damaged
  }

  /// The object for these bytes: one of the last few, so that records of one input share it.
  private func intern(_ bytes: UnsafeRawBufferPointer) -> RecordDescriptor {
    if let known = descriptors.first(where: { $0.bytes.elementsEqual(bytes) }) { return known }
    let fresh = RecordDescriptor(Array(bytes))
    if descriptors.count >= 16 { descriptors.removeFirst() }
    descriptors.append(fresh)
    return fresh
  }

  private func internContext(_ bytes: UnsafeRawBufferPointer) -> RecordContext {
    if let lastContext, lastContext.bytes.elementsEqual(bytes) { return lastContext }
    let fresh = RecordContext(Array(bytes))
    lastContext = fresh
    return fresh
  }
}
