//  What the system says about this process, read from /proc.

internal import Diagnostics
internal import Glibc
internal import PluginKit

/// Figures of this process at one moment; zeros where the system does not tell.
struct ProcessFigures {
  private(set) var residentBytes = 0
  private(set) var virtualBytes = 0
  private(set) var threads = 0
  private(set) var openFiles = 0
  private(set) var openFilesLimit = 0
  /// Memory of the machine.
  private(set) var memoryBytes = 0
  /// Share of one core since the process started.
  private(set) var cpuPercent = 0
  /// Of 1, 5 and 15 minutes, as the system writes them.
  private(set) var loadAverages: [String] = []

  init() {
    for line in ProcessFigures.lines("/proc/self/status") {
      let words = line.split(separator: "\t")
      guard words.count >= 2 else { continue }
      let number = Int(words[1].split(separator: " ").first ?? "") ?? 0
      switch words[0] {
      case "VmRSS:": residentBytes = number << 10
      case "VmSize:": virtualBytes = number << 10
      case "Threads:": threads = number
      default: break
      }
    }
    openFiles = ProcessFigures.entries("/proc/self/fd")
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      openFilesLimit = Int(clamping: limit.rlim_cur)
    }
    memoryBytes = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
    loadAverages = ProcessFigures.lines("/proc/loadavg").first?.split(separator: " ").prefix(3).map(String.init) ?? []
    let alive = max(1, (Instant.now - ProcessFigures.start).ns)
    cpuPercent = Int(processCPUTime() * 100 / alive)
  }

  /// About the process's start: the first use, at which the API begins.
  static let start = Instant.now

  private static func lines(_ path: String) -> [Substring] {
    guard let bytes = try? readFile(path) else { return [] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
  }

  /// Entries of a folder, without the two dots and the one by which it is read.
  private static func entries(_ path: String) -> Int {
    guard let folder = opendir(path) else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return max(0, count - 3)
  }
}
