//  The program's version, and what it was built from.

internal import Glibc

package enum Version {
  package static let text = "0.1.0"
  /// The release of Logstash whose monitoring API is answered; readers of the API choose by it what they ask for.
  package static let emulated = "9.1.0"

  /// When the program's file was made, in seconds since 1970: there is no other record of a build.
  static let builtAt: Int64 = {
    var info = stat()
    return stat("/proc/self/exe", &info) == 0 ? Int64(info.st_mtim.tv_sec) : 0
  }()
}
