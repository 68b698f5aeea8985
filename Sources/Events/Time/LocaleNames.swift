//  Finds the month and day names of a locale. The table is a text in the program and is read only when a pattern with
//  names is compiled for a language other than English.

internal import Glibc

enum LocaleNames {
  /// The locale of this machine for times: `LC_ALL`, `LC_TIME`, `LANG`; English where none is set or it is `C`.
  static let host: String = {
    for name in ["LC_ALL", "LC_TIME", "LANG"] {
      guard let value = getenv(name), value.pointee != 0 else { continue }
      let tag = String(cString: value).prefix { $0 != "." && $0 != "@" }
      return tag == "C" || tag == "POSIX" ? "en" : String(tag)
    }
    return "en"
  }()

  /// The names of a language tag, `de`, `pt_BR` or `pt-BR`; of its language where the region has none of its own, and
  /// English ones for tags that are unknown.
  static func find(_ tag: String) -> DateNames {
    var parts: [String] = []
    for part in tag.split(whereSeparator: { $0 == "-" || $0 == "_" }) {
      // Languages are written small, scripts with a capital, regions large.
      let isScript = part.utf8.count == 4
      parts.append(
        parts.isEmpty
          ? part.lowercased()
          : isScript ? part.prefix(1).uppercased() + part.dropFirst().lowercased() : part.uppercased())
    }
    while !parts.isEmpty, parts != ["en"] {
      if let names = row(parts.joined(separator: "_")) { return names }
      parts.removeLast()
    }
    return .english
  }

  private static func row(_ tag: String) -> DateNames? {
    let bytes = UnsafeRawBufferPointer(start: data.utf8Start, count: data.utf8CodeUnitCount)
    for paragraph in String(decoding: bytes, as: UTF8.self).split(separator: "\n\n") {
      let line = paragraph.split(separator: "\n").joined()
      let lists = line.split(separator: ";").map { $0.split(separator: "|").map(String.init) }
      guard lists.count == 6, lists[0].first?.split(separator: " ").contains(Substring(tag)) ?? false else { continue }
      return DateNames(
        months: lists[1], shortMonths: lists[2], weekdays: lists[3], shortWeekdays: lists[4], halfdays: lists[5])
    }
    return nil
  }
}
