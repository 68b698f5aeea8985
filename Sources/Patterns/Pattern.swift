//  The one module that knows PCRE2. It holds three things: `Pattern`, a compiled expression; `MatchScratch`, what a
//  worker needs to run any number of patterns without allocating; and `RubyPattern`, which reads the Ruby dialect that
//  operators of Logstash write and says it again in PCRE2's.
//
//  A pattern is compiled once, at start, with the just-in-time compiler where the machine allows it, and shared by all
//  workers. Most log text is ASCII, and PCRE2 is faster on bytes than on characters: a pattern may therefore carry a
//  twin that was compiled without UTF, and a scan for bytes above 127 (a few nanoseconds a line) chooses between them.
//
//  PCRE2 has no clock. What bounds a match is described in MatchScratch.swift.

internal import CPCRE2
internal import CSystem

/// Why an expression was refused.
public struct PatternError: Error, Equatable, Sendable, CustomStringConvertible {
  /// One sentence without a full stop.
  public var message: String
  /// Where, in Unicode characters of the expression as it was written, from 0.
  public var offset: Int
  /// True if PCRE2's size limit is the reason.
  var isTooLarge = false

  public init(_ message: String, at offset: Int) {
    self.message = message
    self.offset = offset
  }

  public var description: String { "\(message) (at character \(offset + 1))" }
}

/// A compiled expression. Immutable, so it is shared by all threads.
public final class Pattern: @unchecked Sendable {  // unchecked: PCRE2 code is read-only once it is compiled
  public struct Options: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// `^` and `$` match at every line.
    public static let lineAnchors = Options(rawValue: 1)
    /// `.` matches a newline too.
    public static let dotMatchesNewline = Options(rawValue: 2)
    /// Blanks and comments in the expression mean nothing.
    public static let extended = Options(rawValue: 4)
    public static let ignoreCase = Options(rawValue: 8)
    /// Texts and expression are UTF-8.
    public static let utf = Options(rawValue: 16)
    /// Classes and boundaries know all of Unicode; needs `utf`.
    public static let unicodeClasses = Options(rawValue: 32)
    /// Matches only where the search starts.
    public static let anchored = Options(rawValue: 64)
    /// Plain parentheses do not capture.
    public static let noPlainCaptures = Options(rawValue: 128)
    /// Several groups may have one name.
    public static let duplicateNames = Options(rawValue: 256)
    /// Matches only where the text ends.
    public static let endAnchored = Options(rawValue: 512)
  }

  let code: OpaquePointer
  /// The same expression without UTF, for texts without a byte above 127.
  let asciiCode: OpaquePointer?
  /// True if native code stands for every variant.
  public let isJIT: Bool
  let isUTF: Bool
  /// Numbered groups, group 0 not counted.
  public let captureCount: Int
  /// Group numbers by name, in order of appearance.
  public let groups: [String: [Int]]
  /// No text shorter than this many characters matches.
  public let minimumLength: Int
  /// The byte every match starts with, and the one it must hold somewhere behind, where PCRE2 found them.
  public let firstByte: UInt8?
  public let lastByte: UInt8?
  /// A literal in UTF-8 that every matching text holds; empty where none was found.
  public let requiredLiteral: [UInt8]

  /// Compiles `source`, which is in PCRE2's own dialect.
  ///
  /// - Parameter jit: False leaves the expression to the interpreter (for one that is used once).
  public convenience init(_ source: String, options: Options = [.utf], jit: Bool = true) throws(PatternError) {
    try self.init(
      source, ascii: nil, options: options, groups: nil, literal: [], jit: jit, locate: { $0 })
  }

  /// - Parameters:
  ///   - ascii: The same expression for texts without a byte above 127; nil for no twin.
  ///   - groups: Names to group numbers; nil takes PCRE2's own.
  ///   - locate: Turns a character offset of `source` into one of the text that the error is about.
  init(
    _ source: String, ascii: String?, options: Options, groups: [String: [Int]]?, literal: [UInt8], jit: Bool,
    locate: (Int) -> Int
  ) throws(PatternError) {
    code = try Pattern.compile(source, options, locate)
    var twin: OpaquePointer?
    // A twin that PCRE2 refuses is done without: the full variant is right for every text.
    if let ascii { twin = try? Pattern.compile(ascii, options.subtracting([.utf, .unicodeClasses]), locate) }
    asciiCode = twin
    var native = jit && pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE)) == 0
    if native, let twin { native = pcre2_jit_compile_8(twin, UInt32(PCRE2_JIT_COMPLETE)) == 0 }
    isJIT = native
    isUTF = options.contains(.utf)
    captureCount = Int(Pattern.number(code, UInt32(PCRE2_INFO_CAPTURECOUNT)))
    minimumLength = Int(Pattern.number(code, UInt32(PCRE2_INFO_MINLENGTH)))
    firstByte =
      Pattern.number(code, UInt32(PCRE2_INFO_FIRSTCODETYPE)) == 1
      ? UInt8(truncatingIfNeeded: Pattern.number(code, UInt32(PCRE2_INFO_FIRSTCODEUNIT))) : nil
    lastByte =
      Pattern.number(code, UInt32(PCRE2_INFO_LASTCODETYPE)) == 1
      ? UInt8(truncatingIfNeeded: Pattern.number(code, UInt32(PCRE2_INFO_LASTCODEUNIT))) : nil
    self.groups = groups ?? Pattern.names(code)
    requiredLiteral = literal
  }

  deinit {
    pcre2_code_free_8(code)
    if let asciiCode { pcre2_code_free_8(asciiCode) }
  }

  /// False if `text` lacks the literal that every match holds.
  public func mayMatch(_ text: UnsafeRawBufferPointer) -> Bool {
    if requiredLiteral.count < 2 { return true }
    guard let base = text.baseAddress, text.count >= requiredLiteral.count else { return false }
    return requiredLiteral.withUnsafeBytes { sys_memmem(base, text.count, $0.baseAddress, $0.count) != nil }
  }

  /// Group numbers of `name`, in order of appearance; empty for a name that is not there.
  public func groupNumbers(_ name: String) -> [Int] { groups[name] ?? [] }

  private static func compile(
    _ source: String, _ options: Options, _ locate: (Int) -> Int
  ) throws(PatternError) -> OpaquePointer {
    // The offset limit lets a match that takes long be continued piece by piece under a clock.
    var flags = UInt32(PCRE2_USE_OFFSET_LIMIT)
    if options.contains(.lineAnchors) { flags |= PCRE2_MULTILINE }
    if options.contains(.dotMatchesNewline) { flags |= PCRE2_DOTALL }
    if options.contains(.extended) { flags |= PCRE2_EXTENDED }
    if options.contains(.ignoreCase) { flags |= PCRE2_CASELESS }
    if options.contains(.utf) { flags |= PCRE2_UTF }
    if options.contains(.unicodeClasses) { flags |= PCRE2_UCP }
    if options.contains(.anchored) { flags |= PCRE2_ANCHORED }
    if options.contains(.endAnchored) { flags |= UInt32(PCRE2_ENDANCHORED) }
    if options.contains(.noPlainCaptures) { flags |= PCRE2_NO_AUTO_CAPTURE }
    if options.contains(.duplicateNames) { flags |= PCRE2_DUPNAMES }
    let context = pcre2_compile_context_create_8(nil)
    defer { pcre2_compile_context_free_8(context) }
    if let context {
      _ = pcre2_set_newline_8(context, UInt32(PCRE2_NEWLINE_LF))
      _ = pcre2_set_parens_nest_limit_8(context, 500)
    }
    var status: Int32 = 0
    var offset = 0
    let bytes = Array(source.utf8)
    let code = bytes.withUnsafeBufferPointer {
      // An empty array has no base address, and PCRE2 wants one.
      $0.baseAddress.map { pcre2_compile_8($0, bytes.count, flags, &status, &offset, context) }
        ?? pcre2_compile_8([0], 0, flags, &status, &offset, context)
    }
    if let code { return code }
    var words = [UInt8](repeating: 0, count: 256)
    let length = pcre2_get_error_message_8(status, &words, words.count)
    let message = length > 0 ? String(decoding: words[..<Int(length)], as: UTF8.self) : "error \(status)"
    let before = String(decoding: bytes[..<min(max(offset, 0), bytes.count)], as: UTF8.self)
    var error = PatternError(message, at: locate(before.unicodeScalars.count))
    error.isTooLarge = status == PCRE2_ERROR_PATTERN_TOO_LARGE || status == PCRE2_ERROR_PATTERN_TOO_COMPLICATED
    throw error
  }

  private static func number(_ code: OpaquePointer, _ what: UInt32) -> UInt32 {
    var value: UInt32 = 0
    return pcre2_pattern_info_8(code, what, &value) == 0 ? value : 0
  }

  private static func names(_ code: OpaquePointer) -> [String: [Int]] {
    let count = Int(number(code, UInt32(PCRE2_INFO_NAMECOUNT)))
    let size = Int(number(code, UInt32(PCRE2_INFO_NAMEENTRYSIZE)))
    var table: UnsafePointer<UInt8>?
    guard count > 0, size > 2, pcre2_pattern_info_8(code, UInt32(PCRE2_INFO_NAMETABLE), &table) == 0, let table
    else { return [:] }
    var result: [String: [Int]] = [:]
    for i in 0..<count {
      let entry = UnsafeBufferPointer(start: table + i * size, count: size)
      let number = Int(entry[0]) << 8 | Int(entry[1])
      let name = String(decoding: entry[2...].prefix { $0 != 0 }, as: UTF8.self)
      result[name, default: []].append(number)
    }
    return result.mapValues { $0.sorted() }
  }
}
