//  What one worker needs to match: PCRE2's match data, a match context with limits, and a native stack. One scratch
//  serves every pattern of its worker; it grows when a pattern has more groups than any before.
//
//  How long a match may take. PCRE2 counts its steps but has no clock, and a callout at every step costs too much. So
//  a match first runs with a limit on the steps from each start (`quickSteps`, less where the text is long): all but
//  broken expressions end within it, and it costs nothing. A match that hits the limit is taken up again at the start
//  of the search in windows of start positions, with the clock read between runs and the limit doubled each time it is
//  hit, until the time is up. What is known is that a run takes at most about as long as all runs before it, so a match
//  ends within about twice its time limit.

internal import CPCRE2
internal import Diagnostics

/// How a match ended.
public enum MatchOutcome: Equatable, Sendable {
  /// Groups that may be set, group 0 included.
  case match(groups: Int)
  case none
  /// The time, the native stack or the heap was used up before an answer was found.
  case limit
  /// The text is no UTF-8 from this byte on.
  case badText(offset: Int)
}

/// Memory for matching. One thread at a time.
public final class MatchScratch {
  /// What the caller knows about the text.
  public struct Options: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The text is known to be UTF-8 and is not checked. Set it only where that is certain.
    public static let validText = Options(rawValue: 1)
    /// The text is known to have no byte above 127.
    public static let asciiText = Options(rawValue: 2)
    /// An empty match is none.
    public static let notEmpty = Options(rawValue: 4)
    /// An empty match where the search starts is none; used to go on after an empty match.
    public static let notEmptyAtStart = Options(rawValue: 8)
  }

  /// Steps from one start before the clock is asked, for short texts and for the longest.
  static let quickSteps: UInt32 = 200_000
  static let leastSteps: UInt32 = 10_000
  static let stackBytesMax = 16 << 20
  static let heapKiB: UInt32 = 64 << 10

  private var data: OpaquePointer
  private var pairs: UnsafeMutablePointer<Int>
  private var capacity: Int
  private let context: OpaquePointer
  private let stack: OpaquePointer?
  private var steps: UInt32 = 0
  private var valid = 0

  /// - Parameter groups: Groups that fit before the scratch has to grow.
  public init(groups: Int = 64) {
    capacity = min(max(groups, 1), 65_534) + 1
    // These fail only when memory is exhausted, and then nothing else works either.
    guard let data = pcre2_match_data_create_8(UInt32(capacity), nil),
      let context = pcre2_match_context_create_8(nil)
    else { preconditionFailure("no memory for match data") }
    self.data = data
    self.context = context
    pairs = pcre2_get_ovector_pointer_8(data)
    stack = pcre2_jit_stack_create_8(64 << 10, MatchScratch.stackBytesMax, nil)
    if let stack { pcre2_jit_stack_assign_8(context, nil, UnsafeMutableRawPointer(stack)) }
    _ = pcre2_set_heap_limit_8(context, MatchScratch.heapKiB)
  }

  deinit {
    pcre2_match_data_free_8(data)
    pcre2_match_context_free_8(context)
    if let stack { pcre2_jit_stack_free_8(stack) }
  }

  /// Finds the first match of `pattern` in `text` that starts at byte `start` or behind.
  ///
  /// - Parameters:
  ///   - start: A byte offset at a character's start; outside the text there is no match.
  ///   - timeLimit: Milliseconds; 0 for none.
  public func match(
    _ pattern: Pattern, _ text: UnsafeRawBufferPointer, from start: Int = 0, options: Options = [],
    timeLimit: Int = 30_000
  ) -> MatchOutcome {
    valid = 0
    guard start >= 0, start <= text.count else { return .none }
    if pattern.captureCount >= capacity { grow(pattern.captureCount + 1) }
    var flags: UInt32 = 0
    if options.contains(.notEmpty) { flags |= UInt32(PCRE2_NOTEMPTY) }
    if options.contains(.notEmptyAtStart) { flags |= UInt32(PCRE2_NOTEMPTY_ATSTART) }
    var code = pattern.code
    var checked = options.contains(.validText) || !pattern.isUTF
    if let twin = pattern.asciiCode, options.contains(.asciiText) || isASCII(text) {
      code = twin
      checked = true
    }
    // The empty text may have no address; PCRE2 wants one.
    let bytes =
      text.baseAddress.map { $0.assumingMemoryBound(to: UInt8.self) }
      ?? UnsafePointer(bitPattern: 1).unsafelyUnwrapped
    let limit = quickLimit(text.count &- start)
    if limit != steps { setSteps(limit) }
    let result =
      pattern.isJIT && checked
      ? pcre2_jit_match_8(code, bytes, text.count, start, flags, data, context)
      : pcre2_match_8(
        code, bytes, text.count, start, checked ? flags | UInt32(PCRE2_NO_UTF_CHECK) : flags, data, context)
    if result > 0 {
      valid = Int(result)
      return .match(groups: valid)
    }
    if result == PCRE2_ERROR_NOMATCH { return .none }
    if result == PCRE2_ERROR_MATCHLIMIT {
      return long(code, pattern.isJIT, bytes, text.count, start, flags, timeLimit)
    }
    return failure(result, start)
  }

  /// The byte offset where group `n` of the last match starts; -1 if it took no part.
  @inline(__always)
  public func start(of group: Int) -> Int {
    group < 0 || group >= valid ? -1 : pairs[group &* 2]
  }

  /// The byte offset behind group `n` of the last match; -1 if it took no part.
  @inline(__always)
  public func end(of group: Int) -> Int {
    group < 0 || group >= valid ? -1 : pairs[group &* 2 &+ 1]
  }

  private func quickLimit(_ count: Int) -> UInt32 {
    count <= 4096
      ? MatchScratch.quickSteps : max(MatchScratch.leastSteps, MatchScratch.quickSteps / UInt32(clamping: count >> 12))
  }

  private func setSteps(_ limit: UInt32) {
    steps = limit
    _ = pcre2_set_match_limit_8(context, limit)
  }

  private func failure(_ result: Int32, _ start: Int) -> MatchOutcome {
    // The codes of malformed UTF-8 are a range: ERR21 is the lowest, ERR1 the highest.
    if result >= PCRE2_ERROR_UTF8_ERR21, result <= PCRE2_ERROR_UTF8_ERR1 {
      return .badText(offset: pcre2_get_startchar_8(data))
    }
    if result == PCRE2_ERROR_BADUTFOFFSET { return .badText(offset: start) }
    return .limit
  }

  /// Goes on under a clock; see the head of the file.
  @inline(never)
  private func long(
    _ code: OpaquePointer, _ native: Bool, _ bytes: UnsafePointer<UInt8>, _ count: Int, _ start: Int,
    _ flags: UInt32, _ timeLimit: Int
  ) -> MatchOutcome {
    let began = Instant.now
    let allowed = Int64(timeLimit <= 0 ? .max / 2_000_000 : min(timeLimit, .max / 2_000_000)) * 1_000_000
    var limit = steps
    var from = start
    var window = 1
    defer { _ = pcre2_set_offset_limit_8(context, .max) }
    while from <= count {
      // A window must not end inside a character, or the next search would start there.
      var last = min(from + window - 1, count)
      while last < count, last + 1 < count, bytes[last + 1] & 0xc0 == 0x80 { last += 1 }
      _ = pcre2_set_offset_limit_8(context, last)
      setSteps(limit)
      let flags = from == start ? flags : flags & ~UInt32(PCRE2_NOTEMPTY_ATSTART)
      let result =
        native
        ? pcre2_jit_match_8(code, bytes, count, from, flags, data, context)
        : pcre2_match_8(code, bytes, count, from, flags | UInt32(PCRE2_NO_UTF_CHECK), data, context)
      if result > 0 {
        valid = Int(result)
        return .match(groups: valid)
      }
      if result == PCRE2_ERROR_NOMATCH {
        from = last + 1
        window = min(window * 2, 256)
      } else if result == PCRE2_ERROR_MATCHLIMIT {
        if window > 1 { window = 1 } else if limit < .max / 2 { limit *= 2 } else { return .limit }
      } else {
        return failure(result, from)
      }
      if Instant.now.ns - began.ns > allowed { return .limit }
    }
    return .none
  }

  private func grow(_ wanted: Int) {
    guard let larger = pcre2_match_data_create_8(UInt32(min(wanted, 65_535)), nil) else {
      preconditionFailure("no memory for match data")
    }
    pcre2_match_data_free_8(data)
    data = larger
    pairs = pcre2_get_ovector_pointer_8(larger)
    capacity = Int(pcre2_get_ovector_count_8(larger))
  }
}

/// True if no byte of `text` is above 127.
@inline(__always)
func isASCII(_ text: UnsafeRawBufferPointer) -> Bool {
  guard let base = text.baseAddress else { return true }
  var i = 0
  var seen: UInt64 = 0
  while i &+ 32 <= text.count {
    let words = base.loadUnaligned(fromByteOffset: i, as: SIMD4<UInt64>.self)
    seen |= words[0] | words[1] | words[2] | words[3]
    i &+= 32
  }
  while i &+ 8 <= text.count {
    seen |= base.loadUnaligned(fromByteOffset: i, as: UInt64.self)
    i &+= 8
  }
  while i < text.count {
    seen |= UInt64(base.load(fromByteOffset: i, as: UInt8.self))
    i &+= 1
  }
  return seen & 0x8080_8080_8080_8080 == 0
}
