//  Month and day names of other languages.

internal import Glibc

enum LocaleNames {
  static let host: String = "en"
  static func find(_ tag: String) -> DateNames { .english }
}
