//  What the system says about this process, read from /proc.

internal import CSystem
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

  static func lines(_ path: String) -> [Substring] {
    guard let bytes = try? readFile(path) else { return [] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
  }

  /// Entries of a folder, without the two dots and the one by which it is read.
  static func entries(_ path: String) -> Int {
    guard let folder = opendir(path) else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return max(0, count - 3)
  }
}

/// The highest figures that were seen since the start; looked at with every answer and every five seconds.
enum ProcessPeaks {
  private static let peaks = Lock((threads: 0, openFiles: 0))

  static func threads(_ figures: ProcessFigures) -> Int { note(figures).threads }
  static func openFiles(_ figures: ProcessFigures) -> Int { note(figures).openFiles }

  @discardableResult
  static func note(_ figures: ProcessFigures) -> (threads: Int, openFiles: Int) {
    peaks.withLock { peaks in
      peaks.threads = max(peaks.threads, figures.threads)
      peaks.openFiles = max(peaks.openFiles, figures.openFiles)
      return peaks
    }
  }
}

/// The control group (version 2) of this process, with its limits and counts of processor time.
struct ControlGroup {
  let path: String
  private(set) var usageNs = 0
  private(set) var periodMicros = 0
  /// -1 without a limit.
  private(set) var quotaMicros = -1
  private(set) var periods = 0
  private(set) var throttled = 0
  private(set) var throttledNs = 0

  /// nil outside of a control group of version 2, and where its files cannot be read.
  init?() {
    guard let line = ProcessFigures.lines("/proc/self/cgroup").first(where: { $0.hasPrefix("0::") }) else { return nil }
    path = String(line.dropFirst(3))
    // In a container the group's own folder is the root of what is mounted there.
    let folders = ["/sys/fs/cgroup" + path, "/sys/fs/cgroup"]
    guard let folder = folders.first(where: { access($0 + "/cpu.stat", R_OK) == 0 }) else { return nil }
    for line in ProcessFigures.lines(folder + "/cpu.stat") {
      let words = line.split(separator: " ")
      guard words.count == 2, let value = Int(words[1]) else { continue }
      switch words[0] {
      case "usage_usec": usageNs = value * 1000
      case "nr_periods": periods = value
      case "nr_throttled": throttled = value
      case "throttled_usec": throttledNs = value * 1000
      default: break
      }
    }
    if let limit = ProcessFigures.lines(folder + "/cpu.max").first?.split(separator: " "), limit.count == 2 {
      quotaMicros = Int(limit[0]) ?? -1
      periodMicros = Int(limit[1]) ?? 0
    }
  }
}

/// The kind of file system that a folder lies on, as /proc/self/mounts names it; by its number where the mount is out of
/// sight, as in a changed root.
func fileSystemType(of folder: String) -> String {
  var best: (length: Int, type: String)?
  for line in ProcessFigures.lines("/proc/self/mounts") {
    let words = line.split(separator: " ")
    guard words.count > 2 else { continue }
    let place = String(words[1])
    let isAbove = place == "/" || folder == place || folder.hasPrefix(place + "/")
    if isAbove, place.utf8.count >= best?.length ?? 0 { best = (place.utf8.count, String(words[2])) }
  }
  if let best { return best.type }
  let number = sys_file_system(folder)
  let names: [Int64: String] = [
    0xef53: "ext4", 0x5846_5342: "xfs", 0x9123_683e: "btrfs", 0x0102_1994: "tmpfs", 0x794c_7630: "overlay",
    0x6969: "nfs", 0x2fc1_2fc1: "zfs", 0xf2f5_2010: "f2fs",
  ]
  return names[number] ?? (number < 0 ? "unknown" : "0x" + String(number, radix: 16))
}

/// Bytes that the file system of a folder has free for this process.
func freeBytes(of folder: String) -> Int {
  var info = statvfs()
  guard statvfs(folder, &info) == 0 else { return 0 }
  return Int(clamping: info.f_bavail) * Int(clamping: info.f_frsize)
}

/// A thread of this process and what it does.
struct ThreadFigures {
  var id: Int
  var name: String
  /// R, S, D … as the system writes it.
  var state: String
  /// Share of a core over the thread's life.
  var cpuPercent: Double

  /// All threads, the busiest first.
  static func all() -> [ThreadFigures] {
    guard let folder = opendir("/proc/self/task") else { return [] }
    defer { closedir(folder) }
    let ticks = Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
    let uptime = Double(ProcessFigures.lines("/proc/uptime").first?.split(separator: " ").first ?? "") ?? 0
    var result: [ThreadFigures] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard let id = Int(name), let line = ProcessFigures.lines("/proc/self/task/\(id)/stat").first,
        let start = line.firstIndex(of: "("), let end = line.lastIndex(of: ")")
      else { continue }
      // Behind the name: the state is field 3, user and system time 14 and 15, the start 22.
      let fields = line[line.index(after: end)...].split(separator: " ")
      guard fields.count > 19, let user = Double(fields[11]), let system = Double(fields[12]),
        let began = Double(fields[19])
      else { continue }
      let alive = max(0.01, uptime - began / ticks)
      result.append(
        ThreadFigures(
          id: id, name: String(line[line.index(after: start)..<end]), state: String(fields[0]),
          cpuPercent: min(100, (user + system) / ticks / alive * 100)))
    }
    return result.sorted { $0.cpuPercent > $1.cpuPercent }
  }
}
