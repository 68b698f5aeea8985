//  Texts of other character sets to UTF-8, by the C library's tables.

public import Diagnostics
internal import Glibc

/// The character sets that options name, as Logstash spells them.
public enum Charset {
  /// Every name that an option takes; case matters.
  public static let names: [String] = own.map(\.0) + same

  /// Names that the C library spells in another way.
  private static let own: [(String, String)] = [
    ("ASCII-8BIT", "US-ASCII"), ("BINARY", "US-ASCII"), ("Windows-31J", "CP932"), ("CP932", "CP932"),
    ("csWindows31J", "CP932"), ("EUC-TW", "EUC-TW"), ("Shift_JIS", "SHIFT_JIS"), ("Big5", "BIG5"), ("CP949", "CP949"),
    ("macCroatian", "MACCROATIAN"), ("macCyrillic", "MAC-CYRILLIC"), ("macGreek", "MACGREEK"),
    ("macIceland", "MACICELAND"), ("macRoman", "MACINTOSH"), ("macRomania", "MACROMANIA"), ("macTurkish", "MACTURKISH"),
    ("macUkraine", "MAC-UK"), ("UTF8-MAC", "UTF-8"), ("Windows-874", "CP874"), ("CP874", "CP874"),
  ]

  private static let same: [String] =
    [
      "UTF-8", "US-ASCII", "ASCII", "UTF-16", "UTF-16BE", "UTF-16LE", "UTF-32", "UTF-32BE", "UTF-32LE", "UTF-7", "GBK",
      "GB2312", "GB18030", "EUC-JP", "EUC-KR", "EUC-CN", "KOI8-R", "KOI8-U", "TIS-620", "ISO-2022-JP", "IBM037",
      "CP1252", "Big5-HKSCS", "SJIS",
    ] + (1...16).filter { $0 != 12 }.map { "ISO-8859-\($0)" } + (1250...1258).map { "Windows-\($0)" }
    + [437, 850, 852, 855, 857, 860, 861, 862, 863, 864, 865, 866, 869].map { "IBM\($0)" }

  fileprivate static func libraryName(_ name: String) -> String? {
    own.first { $0.0 == name }?.1 ?? (same.contains(name) ? name : nil)
  }
}

/// Decodes one character set. Not thread-safe; a worker owns it.
public final class CharsetDecoder {
  private let handle: iconv_t
  /// Bytes of one unit, which is what is passed over where nothing can be read.
  private let unitBytes: Int

  /// - Returns: Nil for a name that is not among `Charset.names`, or that this machine has no table for.
  public init?(_ name: String) {
    guard let libraryName = Charset.libraryName(name), let handle = iconv_open("UTF-8", libraryName),
      handle != iconv_t(bitPattern: -1)
    else { return nil }
    self.handle = handle
    unitBytes = name.hasPrefix("UTF-16") ? 2 : name.hasPrefix("UTF-32") ? 4 : 1
  }

  deinit { iconv_close(handle) }

  /// Appends `bytes` as UTF-8; what means nothing becomes U+FFFD.
  public func append(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    guard let start = bytes.baseAddress else { return }
    // The library reads through a pointer that it declares writable, and writes nothing there.
    var input: UnsafeMutablePointer<CChar>? = UnsafeMutableRawPointer(mutating: start)
      .assumingMemoryBound(to: CChar.self)
    var left = bytes.count
    _ = iconv(handle, nil, nil, nil, nil)
    while left > 0 {
      out.reserve(left * 3 + 16)
      var room = out.capacity - out.count
      let before = room
      var target: UnsafeMutablePointer<CChar>? = UnsafeMutableRawPointer(out.pointer + out.count)
        .assumingMemoryBound(to: CChar.self)
      let result = iconv(handle, &input, &left, &target, &room)
      let code = errno
      out.count += before - room
      if result != -1 || left == 0 { return }
      if code == E2BIG { continue }
      out.append("\u{fffd}")
      let skipped = min(unitBytes, left)
      input = input.map { $0 + skipped }
      left -= skipped
    }
  }
}
