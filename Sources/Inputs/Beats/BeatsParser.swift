//  Cuts the bytes of a Lumberjack connection (protocols 1 and 2) into records.
//
//  Constraints. Bytes come split anywhere; nothing is allocated by a declared size; a payload is copied once, from
//  where it was received or inflated to the batch. Every number from outside is checked against its limit before it is
//  used.
//
//  Frames, all integers 32 bits, big-endian, after a version byte ('1' or '2') and a type byte:
//
//      W count                                   count data frames follow: a window
//      J sequence length <length bytes>          one JSON document
//      D sequence pairs (length key length value)...   protocol 1: one map of texts
//      C length <length bytes>                   a zlib stream of whole data frames
//
//  The parser stops at the end of a window, and after each part of a large one, and says so; its owner takes the batch
//  and calls again. What a compressed frame holds is inflated in chunks that are parsed at once, so neither a large
//  window nor a bomb is ever held inflated.

internal import Codecs
internal import Diagnostics
internal import Records

struct BeatsParser: ~Copyable {
  enum Outcome: Equatable {
    /// All bytes are used up to an incomplete header; more are needed.
    case more
    /// The window is whole; `takeBatch`, then call again with the rest.
    case window
    /// A part of the window is due; `takeBatch`, then call again with the rest.
    case part
    /// A window of no events.
    case emptyWindow
  }

  private enum Body {
    case none
    case payload(left: Int)
    /// An event above the limit: `kept` of it stand in `oversizedHead`.
    case oversized(left: Int, size: Int)
    case pair(PairState)
    case compressed(left: Int)
  }
  private struct PairState {
    var left: Int
    var isValue = false
    /// Bytes of the text still to come; nil before its length is known.
    var textLeft: Int?
    var size = 0
    var isFirst = true
  }

  private let limits: BeatsLimits
  private let makeBatch: () -> RecordBatch
  private let scratch: BeatsScratch

  /// Of the window under way, or the last one: "1" or "2" as a byte.
  private(set) var version: UInt8 = 0
  /// The highest of the window's data frames; a counter that wraps around counts on.
  private(set) var sequence: UInt32 = 0
  private var isFirstOfWindow = true
  private(set) var framesLeft = 0
  private(set) var batch: RecordBatch?
  private var expectedBytes = 0
  private var body = Body.none
  private var recordStart = 0
  private var text = ByteBuffer()
  private var oversizedHead: [UInt8] = []
  /// Events above the limit since the last `takeOversized`.
  private(set) var oversized: [(head: [UInt8], sizeBytes: Int)] = []

  private var inflater: Inflater?
  private var inflatedBytes = 0
  private var hasMoreOutput = false
  private var carryCount = 0
  private var carry: (UInt64, UInt64) = (0, 0)
  private var isWindowDone = false
  private var isPartDue = false
  private var isEmptyWindow = false
  /// Bytes of the connection that are done with.
  private(set) var position = 0

  init(limits: BeatsLimits, scratch: BeatsScratch, makeBatch: @escaping () -> RecordBatch) {
    self.limits = limits
    self.scratch = scratch
    self.makeBatch = makeBatch
  }

  /// A window has begun and is not whole yet, or a frame is incomplete.
  var isWithinWindow: Bool {
    if framesLeft > 0 { return true }
    if case .none = body { return false }
    return true
  }

  /// Something is to be told though no bytes need to come for it: content of a compressed frame, or a window's end that
  /// stood behind a part.
  var isPending: Bool { hasMoreOutput || isWindowDone }

  /// The records so far, for a part or a whole window; nil where there are none.
  mutating func takeBatch() -> RecordBatch? {
    let taken = batch
    batch = nil
    if let taken { expectedBytes = min(taken.byteCount + taken.byteCount / 16, 4 << 20) }
    return taken
  }

  mutating func takeOversized() -> [(head: [UInt8], sizeBytes: Int)] {
    let taken = oversized
    oversized = []
    return taken
  }

  /// Gives the inflater back; for the end of the connection.
  mutating func abandon() {
    if let inflater { scratch.giveBack(inflater) }
    inflater = nil
    batch = nil
    hasMoreOutput = false
  }

  private var isWithinCompressed: Bool {
    if case .compressed = body { return true }
    return false
  }

  // MARK: The connection's bytes

  /// Parses from the front of `bytes`.
  ///
  /// - Returns: Bytes used, and why parsing stopped.
  mutating func parse(_ bytes: UnsafeRawBufferPointer) throws(BeatsFault) -> (used: Int, outcome: Outcome) {
    var used = 0
    while true {
      if isWindowDone, !isWithinCompressed {
        isWindowDone = false
        return (used, .window)
      }
      var wasCompressed = false
      if case .compressed(let left) = body {
        wasCompressed = true
        let n = min(left, bytes.count &- used)
        let taken = try inflate(UnsafeRawBufferPointer(rebasing: bytes[used..<(used &+ n)]), left: left)
        used &+= taken
        position &+= taken
      } else {
        let before = used
        used &+= try parseFrames(
          UnsafeRawBufferPointer(rebasing: bytes[used...]), isInflated: false)
        position &+= used &- before
      }
      if isPartDue {
        isPartDue = false
        return (used, .part)
      }
      if case .compressed(let left) = body {
        if hasMoreOutput || (used < bytes.count && left > 0) { continue }
        return (used, .more)
      }
      if isWindowDone { continue }
      if isEmptyWindow {
        isEmptyWindow = false
        return (used, .emptyWindow)
      }
      // Behind a compressed frame that did not end the window more frames may follow.
      if wasCompressed, used < bytes.count { continue }
      return (used, .more)
    }
  }

  // MARK: Frames

  /// Parses whole headers and any piece of a body. Stops at the end of a window, at a part, at a compressed frame.
  private mutating func parseFrames(_ bytes: UnsafeRawBufferPointer, isInflated: Bool) throws(BeatsFault) -> Int {
    guard let base = bytes.baseAddress else { return 0 }
    let count = bytes.count
    var i = 0
    while true {
      switch body {
      case .none:
        // The common case, a data frame that is here as a whole, is handled without leaving this loop.
        guard count &- i >= 2 else { return i }
        let version = base.load(fromByteOffset: i, as: UInt8.self)
        let type = base.load(fromByteOffset: i &+ 1, as: UInt8.self)
        guard version == 0x31 || version == 0x32 else { throw fault(badVersion(version, type), i, isInflated) }
        switch type {
        case UInt8(ascii: "J"):
          guard count &- i >= 10 else { return i }
          guard framesLeft > 0 else { throw fault(surplus, i, isInflated) }
          let sequence = word(base, i &+ 2)
          let length = Int(word(base, i &+ 6))
          guard length > 0, length < 1 << 31 else {
            throw fault("a data frame of \(length) bytes", i &+ 6, isInflated)
          }
          note(sequence)
          i &+= 10
          if _fastPath(length <= limits.eventBytes) {
            let batch = currentBatch()
            if _fastPath(count &- i >= length) {
              batch.append(UnsafeRawBufferPointer(start: base + i, count: length))
              i &+= length
              if endFrame(isInflated) { return i }
            } else {
              recordStart = batch.payloads.count
              body = .payload(left: length)
            }
          } else {
            oversizedHead = []
            body = .oversized(left: length, size: length)
          }
        case UInt8(ascii: "W"):
          guard count &- i >= 6 else { return i }
          guard !isInflated else { throw fault("a window frame within a compressed frame", i, isInflated) }
          guard framesLeft == 0 else {
            throw fault("a new window while \(framesLeft) events of the one before are missing", i, isInflated)
          }
          let events = Int(word(base, i &+ 2))
          guard events <= limits.windowEvents else {
            throw fault("a window of \(events) events, the limit is \(limits.windowEvents)", i &+ 2, isInflated)
          }
          self.version = version
          framesLeft = events
          isFirstOfWindow = true
          i &+= 6
          if events == 0 {
            sequence = 0
            isEmptyWindow = true
            return i
          }
        case UInt8(ascii: "C"):
          guard count &- i >= 6 else { return i }
          guard !isInflated else { throw fault("a compressed frame within a compressed frame", i, isInflated) }
          guard framesLeft > 0 else { throw fault(surplus, i, isInflated) }
          let length = Int(word(base, i &+ 2))
          guard length > 0, length <= limits.compressedBytes else {
            throw fault("a compressed frame of \(length) bytes, the limit is \(limits.compressedBytes)", i &+ 2, false)
          }
          i &+= 6
          beginCompressed(length)
          return i
        case UInt8(ascii: "D"):
          guard count &- i >= 10 else { return i }
          guard framesLeft > 0 else { throw fault(surplus, i, isInflated) }
          guard self.version == 0x31 else { throw fault("a key/value frame in a window of protocol 2", i, isInflated) }
          let pairs = Int(word(base, i &+ 6))
          guard pairs > 0, pairs <= limits.pairs else {
            throw fault("a frame of \(pairs) pairs, the limit is \(limits.pairs)", i &+ 6, isInflated)
          }
          note(word(base, i &+ 2))
          i &+= 10
          beginPairs(pairs)
        default: throw fault("an unknown frame type, byte \(type)", i &+ 1, isInflated)
        }
      case .payload(let left):
        guard i < count else { return i }
        let n = min(left, count &- i)
        let batch = currentBatch()
        batch.payloads.append(base + i, n)
        i &+= n
        if n < left {
          body = .payload(left: left &- n)
          return i
        }
        batch.endRecord()
        body = .none
        if endFrame(isInflated) { return i }
      case .oversized(let left, let size):
        guard i < count else { return i }
        let n = min(left, count &- i)
        keepOversized(UnsafeRawBufferPointer(start: base + i, count: n))
        i &+= n
        if n < left {
          body = .oversized(left: left &- n, size: size)
          return i
        }
        oversized.append((oversizedHead, size))
        oversizedHead = []
        body = .none
        if endFrame(isInflated) { return i }
      case .pair(let state):
        let before = i
        i &+= try takePair(UnsafeRawBufferPointer(start: base + i, count: count &- i), state, at: i, isInflated)
        if case .pair = body {
          if i == before { return i }
        } else if endFrame(isInflated) {
          return i
        }
      case .compressed: return i
      }
    }
  }

  /// Counts a data frame; true when parsing has to stop here.
  @inline(__always)
  private mutating func endFrame(_ isInflated: Bool) -> Bool {
    framesLeft &-= 1
    if framesLeft == 0 {
      isWindowDone = true
      // Within a compressed frame its end is still to come: nothing but that may follow.
      return !isInflated
    }
    if let batch, batch.byteCount >= limits.partBytes {
      isPartDue = true
      return !isInflated
    }
    return false
  }

  @inline(__always)
  private mutating func currentBatch() -> RecordBatch {
    if let batch { return batch }
    let fresh = makeBatch()
    // A shipper's windows are much alike: as much as the one before really held saves growing step by step.
    if expectedBytes > 0 { fresh.payloads.reserve(expectedBytes) }
    batch = fresh
    return fresh
  }

  /// Keeps the window's highest sequence number. Numbers are compared on a circle, so that 1 follows 2^32 - 1.
  @inline(__always)
  private mutating func note(_ number: UInt32) {
    if isFirstOfWindow || Int32(bitPattern: number &- sequence) > 0 { sequence = number }
    isFirstOfWindow = false
  }

  private mutating func keepOversized(_ bytes: UnsafeRawBufferPointer) {
    let room = limits.oversizedHeadBytes - oversizedHead.count
    if room > 0 { oversizedHead.append(contentsOf: bytes.prefix(room)) }
  }

  // MARK: Protocol 1

  private mutating func beginPairs(_ pairs: Int) {
    let batch = currentBatch()
    recordStart = batch.payloads.count
    batch.payloads.append(UInt8(ascii: "{"))
    text.removeAll()
    body = .pair(PairState(left: pairs))
  }

  /// Takes a length or a piece of a text. Ends the record after the last pair.
  private mutating func takePair(
    _ bytes: UnsafeRawBufferPointer, _ old: PairState, at i: Int, _ isInflated: Bool
  ) throws(BeatsFault) -> Int {
    var state = old
    guard let left = state.textLeft else {
      guard bytes.count >= 4, let base = bytes.baseAddress else { return 0 }
      let length = Int(word(base, 0))
      let limit = state.isValue ? limits.valueBytes : limits.keyBytes
      guard length <= limit else {
        throw fault("a \(state.isValue ? "value" : "key") of \(length) bytes, the limit is \(limit)", i, isInflated)
      }
      state.textLeft = length
      state.size += length
      text.removeAll()
      if length == 0 { endText(&state) } else { body = .pair(state) }
      return 4
    }
    let n = min(left, bytes.count)
    text.append(UnsafeRawBufferPointer(rebasing: bytes[..<n]))
    state.textLeft = left - n
    if n == left { endText(&state) } else { body = .pair(state) }
    return n
  }

  private mutating func endText(_ state: inout PairState) {
    let batch = currentBatch()
    state.textLeft = nil
    // Above the limit the texts are still read but no longer kept.
    if state.size <= limits.eventBytes {
      if state.isValue {
        batch.payloads.append(UInt8(ascii: ":"))
      } else if !state.isFirst {
        batch.payloads.append(UInt8(ascii: ","))
      }
      appendJSON(text.bytes, to: &batch.payloads)
    }
    state.isFirst = false
    if state.isValue { state.left -= 1 }
    state.isValue.toggle()
    guard state.left == 0 else {
      body = .pair(state)
      return
    }
    body = .none
    text.shrink(to: max(text.count, 4096))
    if state.size <= limits.eventBytes {
      batch.payloads.append(UInt8(ascii: "}"))
      batch.endRecord()
    } else {
      let head = UnsafeRawBufferPointer(rebasing: batch.payloads.bytes[recordStart...])
      oversized.append((Array(head.prefix(limits.oversizedHeadBytes)), state.size))
      batch.payloads.count = recordStart
    }
  }

  // MARK: Compressed frames

  private mutating func beginCompressed(_ length: Int) {
    inflater = scratch.takeInflater()
    inflatedBytes = 0
    carryCount = 0
    hasMoreOutput = false
    body = .compressed(left: length)
  }

  /// Inflates `input`, a piece of the compressed frame, and parses what comes out; all of it unless a part is due.
  private mutating func inflate(_ input: UnsafeRawBufferPointer, left: Int) throws(BeatsFault) -> Int {
    guard let inflater else { return 0 }
    let start = position
    var used = 0
    while !inflater.isFinished {
      let room = scratch.chunk + BeatsScratch.carryCapacity
      let made: Int
      do throws(InflateError) {
        let step = try inflater.inflate(
          UnsafeRawBufferPointer(rebasing: input[used...]),
          into: UnsafeMutableRawBufferPointer(start: room, count: BeatsScratch.chunkBytes))
        used &+= step.used
        made = step.made
      } catch {
        throw BeatsFault(reason: "\(error)", offset: start &+ used, inflatedOffset: inflatedBytes)
      }
      hasMoreOutput = made == BeatsScratch.chunkBytes && !inflater.isFinished
      if made > 0 { try parseInflated(room, made) }
      guard inflatedBytes <= limits.inflatedBytes else {
        throw BeatsFault(
          reason: "a compressed frame that unpacks to more than \(limits.inflatedBytes) bytes", offset: start &+ used,
          inflatedOffset: inflatedBytes)
      }
      if isPartDue || (!hasMoreOutput && used == input.count) { break }
    }
    if inflater.isFinished {
      // What follows the stream within the frame means nothing and is passed over.
      used = input.count
      hasMoreOutput = false
    }
    if used == left, !hasMoreOutput { try endCompressed(inflater) } else { body = .compressed(left: left &- used) }
    return used
  }

  /// Parses a chunk with what the chunk before left over in front of it.
  private mutating func parseInflated(_ room: UnsafeMutableRawPointer, _ made: Int) throws(BeatsFault) {
    let outer = body
    let start = room - carryCount
    withUnsafeBytes(of: carry) {
      start.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(start), byteCount: carryCount)
    }
    let bytes = UnsafeRawBufferPointer(start: start, count: carryCount &+ made)
    inflatedBytes &-= carryCount
    body = innerBody
    let used = try parseFrames(bytes, isInflated: true)
    innerBody = body
    body = outer
    inflatedBytes &+= bytes.count
    carryCount = bytes.count &- used
    guard carryCount <= BeatsScratch.carryCapacity else { throw fault("a frame without end", 0, true) }
    withUnsafeMutableBytes(of: &carry) { carry in
      for k in 0..<carryCount { carry[k] = bytes[used &+ k] }
    }
  }
  private var innerBody = Body.none

  private mutating func endCompressed(_ inflater: Inflater) throws(BeatsFault) {
    guard inflater.isFinished else {
      throw BeatsFault(reason: "the compressed data is cut off", offset: position, inflatedOffset: inflatedBytes)
    }
    guard case .none = innerBody, carryCount == 0 else {
      throw BeatsFault(
        reason: "a compressed frame that ends within a data frame", offset: position, inflatedOffset: inflatedBytes)
    }
    scratch.giveBack(inflater)
    self.inflater = nil
    body = .none
  }

  // MARK: Faults

  private var surplus: String {
    version == 0 ? "data before the first window frame" : "more data frames than the window announced"
  }

  private func badVersion(_ version: UInt8, _ type: UInt8) -> String {
    guard position == 0 else { return "an unknown protocol version, byte \(version)" }
    switch version {
    case 0x16: return "an unknown protocol version, byte 22; the peer seems to speak TLS, which is off here"
    case 65...90, 97...122: return "an unknown protocol version, byte \(version); the peer seems to speak HTTP or text"
    default: return "an unknown protocol version, byte \(version)"
    }
  }

  private func fault(_ reason: String, _ i: Int, _ isInflated: Bool) -> BeatsFault {
    isInflated
      ? BeatsFault(reason: reason, offset: position, inflatedOffset: inflatedBytes &+ i)
      : BeatsFault(reason: reason, offset: position &+ i, inflatedOffset: nil)
  }
}

@inline(__always)
private func word(_ base: UnsafeRawPointer, _ offset: Int) -> UInt32 {
  UInt32(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
}
