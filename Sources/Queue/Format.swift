//  The bytes of segment and block headers. What they mean together stands at the head of DiskQueue.swift; all numbers
//  are little-endian, identities big-endian.

internal import CSystem
internal import Diagnostics

enum Format {
  static let version: UInt16 = 1
  static let segmentHeaderBytes = 96
  static let blockHeaderBytes = 80
  /// Blocks begin at multiples of this, so that a search for the next one is quick.
  static let alignment = 16
  static let magic: UInt64 = 0x0a51_4543_4955_4c53  // "SLUICEQ\n"
  static let blockMarker: UInt32 = 0x424c_5351  // "QSLB"
  static let noContext: UInt32 = .max
  /// Longest block: sizes are 32 bits wide, and what encrypts and compresses takes less than 1 GiB at once.
  static let blockLimitBytes = 1 << 30

  static func aligned(_ count: Int) -> Int { (count &+ (alignment - 1)) & ~(alignment - 1) }

  /// The checksum of record `index` begins here, so that neither another segment's bytes nor a neighbour's pass.
  static func recordSeed(_ seed: UInt32, _ index: UInt32) -> UInt32 { seed &+ index &* 0x9e37_79b1 }

  static func segmentName(_ number: UInt64) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 12 - digits.utf8.count)) + digits + ".seg"
  }

  /// The number in a segment's file name, nil for other names.
  static func segmentNumber(_ name: String) -> UInt64? {
    guard name.hasSuffix(".seg") else { return nil }
    let digits = name.dropLast(4)
    guard digits.utf8.count >= 12, digits.utf8.count <= 19, digits.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }) else {
      return nil
    }
    return UInt64(digits)
  }
}

/// The first 96 bytes of a segment.
struct SegmentHeader: Equatable {
  var number: UInt64
  var identity: SegmentIdentity
  var createdNs: Int64
  /// 0: the blocks are not encrypted.
  var keyId: UInt64 = 0
  /// The segment before this one and where it ends: what stands behind was never acknowledged.
  var previous: UInt64 = 0
  var previousEnd: UInt64 = 0
  var previousCount: UInt32 = 0

  enum ReadResult: Equatable {
    case header(SegmentHeader)
    /// The file was made and never written, or is one that was taken for reuse and not begun.
    case unwritten
    case version(UInt16)
    case damaged
  }

  func bytes() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Format.segmentHeaderBytes)
    bytes.withUnsafeMutableBytes { room in
      guard let base = room.baseAddress else { return }
      base.storeBytes(of: Format.magic.littleEndian, as: UInt64.self)
      base.storeBytes(of: Format.version.littleEndian, toByteOffset: 8, as: UInt16.self)
      base.storeBytes(of: UInt32(Format.segmentHeaderBytes).littleEndian, toByteOffset: 12, as: UInt32.self)
      base.storeBytes(of: number.littleEndian, toByteOffset: 16, as: UInt64.self)
      identity.store(to: base + 24)
      base.storeBytes(of: createdNs.littleEndian, toByteOffset: 40, as: Int64.self)
      base.storeBytes(of: keyId.littleEndian, toByteOffset: 48, as: UInt64.self)
      base.storeBytes(of: previous.littleEndian, toByteOffset: 56, as: UInt64.self)
      base.storeBytes(of: previousEnd.littleEndian, toByteOffset: 64, as: UInt64.self)
      base.storeBytes(of: previousCount.littleEndian, toByteOffset: 72, as: UInt32.self)
      base.storeBytes(of: sys_crc32c(0, base, 92).littleEndian, toByteOffset: 92, as: UInt32.self)
    }
    return bytes
  }

  static func read(_ bytes: [UInt8]) -> ReadResult {
    if bytes.count < Format.segmentHeaderBytes {
      return bytes.allSatisfy { $0 == 0 } ? .unwritten : .damaged
    }
    return bytes.withUnsafeBytes { room in
      guard let base = room.baseAddress else { return .damaged }
      if room.prefix(Format.segmentHeaderBytes).allSatisfy({ $0 == 0 }) { return .unwritten }
      guard UInt64(littleEndian: base.loadUnaligned(as: UInt64.self)) == Format.magic else { return .damaged }
      let version = UInt16(littleEndian: base.loadUnaligned(fromByteOffset: 8, as: UInt16.self))
      let sum = UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 92, as: UInt32.self))
      // A later version may have another length and another place for its checksum: its number is all we can read.
      if version != Format.version { return .version(version) }
      guard sum == sys_crc32c(0, base, 92) else { return .damaged }
      return .header(
        SegmentHeader(
          number: UInt64(littleEndian: base.loadUnaligned(fromByteOffset: 16, as: UInt64.self)),
          identity: SegmentIdentity(bytes: base + 24),
          createdNs: Int64(littleEndian: base.loadUnaligned(fromByteOffset: 40, as: Int64.self)),
          keyId: UInt64(littleEndian: base.loadUnaligned(fromByteOffset: 48, as: UInt64.self)),
          previous: UInt64(littleEndian: base.loadUnaligned(fromByteOffset: 56, as: UInt64.self)),
          previousEnd: UInt64(littleEndian: base.loadUnaligned(fromByteOffset: 64, as: UInt64.self)),
          previousCount: UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 72, as: UInt32.self))))
    }
  }
}

/// The first 80 bytes of a block.
struct BlockHeader: Equatable {
  /// Bytes behind this header, as they stand in the file.
  var storedBytes: UInt32
  /// Table and payloads, expanded.
  var rawBytes: UInt32
  var tableBytes: UInt32
  /// Number of the first record in the segment.
  var firstIndex: UInt32
  var recordCount: UInt32
  /// Checksum of the table; 0 in an encrypted block, whose tag says more.
  var tableSum: UInt32
  /// Checksum of the stored bytes where they are compressed; else 0.
  var storedSum: UInt32
  /// All of the segment before this offset was on the disk when the block was written.
  var durableEnd: UInt32
  var compression: UInt8 = 0
  var isEncrypted = false
  /// Arrival of the first record.
  var arrivalNs: Int64
  /// The id of the first record where it is not this segment's: the block was written once before and its sync failed.
  var origin: RecordIdentity?

  var isPlain: Bool { compression == 0 && !isEncrypted }
  /// Bytes of the whole block in the file, padding included.
  var extent: Int { Format.aligned(Format.blockHeaderBytes + Int(storedBytes)) }

  func store(to base: UnsafeMutableRawPointer, seed: UInt32) {
    memoryZero(base, Format.blockHeaderBytes)
    func put(_ value: UInt32, _ offset: Int) {
      base.storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt32.self)
    }
    put(Format.blockMarker, 0)
    put(storedBytes, 4)
    put(rawBytes, 8)
    put(tableBytes, 12)
    put(firstIndex, 16)
    put(recordCount, 20)
    put(tableSum, 24)
    put(storedSum, 28)
    put(durableEnd, 32)
    base.storeBytes(
      of: compression | (isEncrypted ? 0x10 : 0) | (origin != nil ? 0x20 : 0), toByteOffset: 36, as: UInt8.self)
    base.storeBytes(of: arrivalNs.littleEndian, toByteOffset: 40, as: Int64.self)
    if let origin {
      origin.segment.store(to: base + 48)
      put(origin.index, 60)
    }
    put(sys_crc32c(seed, base, 76), 76)
  }

  /// - Returns: nil unless a header of the segment with that seed stands there.
  static func read(_ base: UnsafeRawPointer, seed: UInt32) -> BlockHeader? {
    func get(_ offset: Int) -> UInt32 {
      UInt32(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    guard get(0) == Format.blockMarker, get(76) == sys_crc32c(seed, base, 76) else { return nil }
    let flags = base.load(fromByteOffset: 36, as: UInt8.self)
    let header = BlockHeader(
      storedBytes: get(4), rawBytes: get(8), tableBytes: get(12), firstIndex: get(16), recordCount: get(20),
      tableSum: get(24), storedSum: get(28), durableEnd: get(32), compression: flags & 0x0f,
      isEncrypted: flags & 0x10 != 0,
      arrivalNs: Int64(littleEndian: base.loadUnaligned(fromByteOffset: 40, as: Int64.self)),
      origin: flags & 0x20 == 0
        ? nil : RecordIdentity(segment: SegmentIdentity(bytes: base + 48), index: get(60)))
    // The checksum vouches for the writer, not for its limits.
    guard Int(header.storedBytes) <= Format.blockLimitBytes, Int(header.rawBytes) <= Format.blockLimitBytes,
      header.tableBytes >= 8, header.tableBytes <= header.rawBytes,
      Int(header.recordCount) <= Int(header.tableBytes) / 8, header.firstIndex <= .max - header.recordCount
    else { return nil }
    return header
  }
}

@inline(__always)
func memoryZero(_ base: UnsafeMutableRawPointer, _ count: Int) {
  base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
}
