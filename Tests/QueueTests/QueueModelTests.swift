//  Random histories of a queue on a failing disk, against a model that is obviously right: sets of numbers.
//
//  Three kinds: long ones in which anything may happen at any time; short ones with one drawn crash and another one during
//  recovery; and short ones that are played again and again, with a crash or a failing call at each of their calls in turn.
//
//  A failing seed is printed and can be run alone: QUEUE_SEED=17 swift test --filter QueueModelTests. More of each kind run
//  with QUEUE_SEEDS=5000 (long), QUEUE_HISTORIES=100000 (two crashes), QUEUE_POINTS=500 (a crash at every call) and
//  QUEUE_FAULTS=50 (a fault at every call), from QUEUE_FIRST on.

import Codecs
import Diagnostics
import Glibc
import Queue
import Records
import TestSupport
import Testing

/// What a history did wrong; nil is well.
struct Violation: Error, CustomStringConvertible {
  let text: String
  init(_ text: String) { self.text = text }
  var description: String { text }
}

/// One history.
final class History: @unchecked Sendable {  // unchecked: one thread; the queue runs without any of its own
  struct Delivered { var id: RecordIdentity; var life: Int }
  struct InFlight { var batch: QueueBatch; var numbers: [Int] }

  /// What happens to a short history, and when; nothing else does.
  struct Plan {
    /// The power goes, or the process dies, at this call.
    var crashAt: Int?
    /// And again at this call of the recovery behind it.
    var recoveryCrashAt: Int?
    /// This call fails.
    var fault: (site: Int, kind: FaultyFileSystem.Fault)?
  }

  private let plan: Plan?
  private var random: SeededRandom
  private let disk: FaultyFileSystem
  private let settings: QueueSettings
  /// Acknowledgements before the sync: the process may be killed, the power stays on and the disk is well.
  private let isRelaxed: Bool
  private let faults: QueueFaults
  private let folder = "/q"
  private var queue: DiskQueue?
  private var life = 0
  private(set) var trace: [String] = []

  // The model.
  private var nextNumber = 0
  /// First number and count of each appended batch.
  private var batches: [(first: Int, count: Int)] = []
  private var acknowledged: Set<Int> = []
  private var refused: Set<Int> = []
  private var released: Set<Int> = []
  private var releasedInThisLife: Set<Int> = []
  private var ids: [Int: Delivered] = [:]
  private var numbers: [RecordIdentity: Int] = [:]
  /// Of this life: in order of reading.
  private var read: [Int] = []
  private var readSet: Set<Int> = []
  private var givenBack: Set<Int> = []
  private var inFlight: [InFlight] = []
  /// What must not come back after a kill: released in order when a checkpoint was last written.
  private var settled: Set<Int> = []
  private var mustStayAway: Set<Int> = []
  private(set) var crashes = 0
  private(set) var failures = 0
  /// Crashes during recovery.
  private(set) var recoveryCrashes = 0
  var calls: Int { disk.calls }
  var sites: Int { disk.sites }
  var faultyCalls: [String] { disk.faultyCalls }

  init(seed: UInt64, faults: QueueFaults = QueueFaults(), plan: Plan? = nil) {
    self.plan = plan
    random = SeededRandom(seed)
    disk = FaultyFileSystem(seed: seed ^ 0xabcdef)
    self.faults = faults
    var settings = QueueSettings()
    settings.segmentBytes = plan == nil ? [4096, 8192, 20_000][random.below(3)] : 4096
    settings.maxBytes = [40_000, 200_000][random.below(2)]
    settings.minFreeBytes = 0
    settings.memoryBytes = [0, 3000, 1 << 20][random.below(3)]
    settings.checkpointInterval = .seconds(3600)
    settings.maxEvents = random.chance(0.2) ? 40 : 0
    settings.compression = [.none, .none, .lz4, .zstd(level: 1)][random.below(4)]
    if random.chance(0.2), let key = BlockKey([UInt8](repeating: 9, count: 32)) { settings.keys = [key] }
    if random.chance(0.15) { settings.retainBytes = 20_000 }
    isRelaxed = plan == nil && seed % 9 == 4
    if isRelaxed { settings.durability = seed % 2 == 0 ? .os : .interval(.milliseconds(1)) }
    self.settings = settings
  }

  static func payload(_ number: Int) -> String {
    let length = [0, 10, 60, 400, 2500][(number &* 7) % 5]
    return "\(number):" + String(repeating: Character(UnicodeScalar(UInt8(97 + number % 26))), count: length)
  }

  func run(steps: Int) throws {
    try open()
    for _ in 0..<steps {
      try step()
      if disk.isStopped { try restart(crash(0.7)) }
    }
    // The disk is well again: everything acknowledged must come, and everything waiting must be taken.
    calm()
    try restart(crash(0.5))
    try settle()
  }

  /// A short history, as planned.
  func runPlanned(steps: Int) throws {
    disk.fault = plan?.fault
    disk.callsUntilCrash = plan?.crashAt
    try open()
    for _ in 0..<steps {
      try step()
      if disk.isStopped { try restart(crash(0.7)) }
    }
    disk.callsUntilCrash = nil
    if plan?.crashAt == nil || crashes == 0 { try restart(crash(0.7)) }
    try settle()
  }

  private func crash(_ share: Double) -> FaultyFileSystem.Crash {
    let isPowerLoss = random.chance(share)
    return isPowerLoss && !isRelaxed ? .powerLoss : .kill
  }

  private func note(_ text: String) { trace.append(text) }

  private func calm() {
    disk.syncFailures = 0
    disk.writeFailures = 0
    disk.shortWrites = 0
    disk.capacity = .max
    disk.callsUntilCrash = nil
  }

  // MARK: Actions

  private func step() throws {
    switch random.below(100) {
    case 0..<26: append()
    case 26..<48:
      note("write \(String(describing: queue?.writeStep()))")
    case 48..<66: try readSome()
    case 66..<80: releaseSome()
    case 80..<84: keep()
    case 84..<86: _ = queue?.spareStep()
    case 86..<88: try reopen()
    case 88..<98 where plan != nil: try readSome()
    case 88..<92:
      let calls = 1 + random.below(12)
      note("crash in \(calls) calls")
      disk.callsUntilCrash = calls
    case 92..<94:
      disk.syncFailures = random.chance(0.5) && !isRelaxed ? 0.2 : 0
      disk.writeFailures = random.chance(0.3) ? 0.1 : 0
      disk.shortWrites = random.chance(0.5) ? 0.3 : 0
      note("faults \(disk.syncFailures) \(disk.writeFailures) \(disk.shortWrites)")
    case 94..<96:
      disk.capacity = random.chance(0.5) ? disk.used + random.below(8000) : .max
      note("capacity \(disk.capacity)")
    case 96..<98: try restart(crash(0.6))
    default: try settle()
    }
  }

  private func append() {
    let first = nextNumber
    let count = random.chance(0.1) ? 20 : 1 + random.below(5)
    nextNumber += count
    batches.append((first, count))
    let texts = (first..<first + count).map(History.payload)
    note("append \(first)..<\(first + count)")
    let life = self.life
    queue?.append(batch(texts, context: RecordContext(Array("c\(first)".utf8)), arrivalNs: Int64(first))) {
      [weak self] result in
      guard let self, life == self.life else { return }
      switch result {
      case .success:
        self.note("ack \(first)")
        self.acknowledged.formUnion(first..<first + count)
      case .failure: self.refused.formUnion(first..<first + count)
      }
    }
  }

  private func readSome() throws {
    guard let queue,
      let batch = queue.readNow([1, 3, 10, 1000][random.below(4)], maxBytes: random.chance(0.2) ? 500 : .max)
    else {
      return
    }
    try take(batch)
  }

  private func take(_ batch: QueueBatch) throws {
    var got: [Int] = []
    for i in 0..<batch.count {
      let text = String(decoding: batch.payload(i), as: UTF8.self)
      guard let number = Int(text.prefix { $0 != ":" }), number < nextNumber, text == History.payload(number) else {
        throw Violation("a record that nobody appended: \(text.prefix(40))")
      }
      let run = batch.runs[batch.runIndex(of: i)]
      let owner = batches[batchPlace(number)]
      guard run.arrivalNs == Int64(owner.first), run.context?.bytes == Array("c\(owner.first)".utf8),
        run.descriptor == descriptor
      else { throw Violation("record \(number) has another batch's arrival or context") }
      let id = batch.identity(i)
      if let known = ids[number] {
        if known.id != id { throw Violation("record \(number) changed its id from \(known.id) to \(id)") }
        if known.life < life, !run.isRecovered {
          throw Violation("record \(number) was handed out before and is not marked")
        }
      }
      if let other = numbers[id], other != number {
        throw Violation("records \(other) and \(number) have the id \(id)")
      }
      ids[number] = Delivered(id: id, life: life)
      numbers[id] = number
      if readSet.contains(number), givenBack.remove(number) == nil {
        throw Violation("record \(number) was read twice in one life")
      }
      if mustStayAway.contains(number) { throw Violation("record \(number) came back although its release was kept") }
      if let last = read.last, last > number, !readSet.contains(number) {
        throw Violation("record \(number) came after \(last)")
      }
      if readSet.insert(number).inserted { read.append(number) }
      got.append(number)
    }
    note("read \(got)")
    inFlight.append(InFlight(batch: batch, numbers: got))
  }

  private func batchPlace(_ number: Int) -> Int {
    var low = 0
    var high = batches.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if batches[middle].first <= number { low = middle } else { high = middle }
    }
    return low
  }

  private func releaseSome() {
    guard !inFlight.isEmpty else { return }
    let item = inFlight.remove(at: random.below(min(3, inFlight.count)))
    if random.chance(0.1) {
      note("give back \(item.numbers)")
      givenBack.formUnion(item.numbers)
      item.batch.giveBack()
    } else {
      note("release \(item.numbers)")
      released.formUnion(item.numbers)
      releasedInThisLife.formUnion(item.numbers)
      item.batch.release()
    }
  }

  private func keep() {
    note("keep")
    queue?.keepStep(syncs: random.chance(0.5))
    if !disk.isStopped { settle(prefixOf: &settled) }
  }

  /// The records that were read and released without a gap before them.
  private func settle(prefixOf set: inout Set<Int>) {
    for number in read {
      if !releasedInThisLife.contains(number) { break }
      set.insert(number)
    }
  }

  // MARK: Lives

  private func reopen() throws {
    note("close")
    // What workers hold goes back.
    queue?.close()
    if disk.isStopped { return }
    var prefix: Set<Int> = []
    settle(prefixOf: &prefix)
    let isExact =
      (plan == nil || disk.faultsMet == 0) && disk.syncFailures == 0 && disk.writeFailures == 0 && disk.capacity == .max
    endLife()
    mustStayAway = isExact ? prefix : []
    try open()
  }

  private func endLife() {
    life += 1
    inFlight = []
    queue = nil
    read = []
    readSet = []
    releasedInThisLife = []
    givenBack = []
    settled = []
    mustStayAway = []
  }

  private func restart(_ crash: FaultyFileSystem.Crash) throws {
    note("crash \(crash)")
    crashes += 1
    let settled = self.settled
    life += 1
    disk.restart(crash)
    endLife()
    let isExact = plan == nil || disk.faultsMet == 0
    mustStayAway = isExact && crash == .kill && disk.writeFailures == 0 && disk.capacity == .max ? settled : []
    try open()
  }

  private func open() throws {
    for attempt in 0..<6 {
      // The world may stop while it is being put in order.
      if plan == nil, attempt < 2, random.chance(0.2) { disk.callsUntilCrash = 1 + random.below(15) }
      let met = disk.faultsMet
      let isRecovery = plan != nil && crashes == 1 && recoveryCrashes == 0
      if isRecovery { disk.callsUntilCrash = plan?.recoveryCrashAt }
      do {
        queue = try DiskQueue(
          folder: folder, settings: settings, fileSystem: disk, runsThreads: false, faults: faults)
        note("open \(queue?.statistics.events ?? -1)")
        if !disk.isStopped {
          if isRecovery { disk.callsUntilCrash = nil }
          // A checkpoint that could not be read costs deliveries once more, under the same ids.
          if plan != nil, disk.faultsMet > met { mustStayAway = [] }
          return
        }
      } catch {
        failures += 1
        let isExpected =
          disk.isStopped || disk.faultsMet > met || disk.syncFailures > 0 || disk.writeFailures > 0
          || disk.capacity < .max
        guard isExpected, case .disk = error else { throw Violation("open failed: \(error)") }
        note("open failed \(error)")
      }
      queue = nil
      if disk.isStopped {
        crashes += 1
        if isRecovery { recoveryCrashes += 1 }
        disk.restart(crash(0.5))
        mustStayAway = []
      }
      if attempt >= 2 { calm() }
    }
    throw Violation("the queue did not open")
  }

  /// Reads and releases everything; then all that was acknowledged must have come.
  private func settle() throws {
    if disk.isStopped { return }
    calm()
    note("settle")
    for item in inFlight {
      released.formUnion(item.numbers)
      releasedInThisLife.formUnion(item.numbers)
      item.batch.release()
    }
    inFlight = []
    guard let queue else { return }
    for _ in 0..<200 {
      while queue.writeStep() == .wrote {}
      while let batch = queue.readNow() { try take(batch) }
      for item in inFlight {
        released.formUnion(item.numbers)
        releasedInThisLife.formUnion(item.numbers)
        item.batch.release()
      }
      inFlight = []
      queue.keepStep()
      if queue.isDrained { break }
    }
    guard queue.isDrained else { throw Violation("the queue does not drain: \(queue.statistics)") }
    settle(prefixOf: &settled)
    let missing = acknowledged.subtracting(released)
    if let first = missing.min() {
      throw Violation("acknowledged record \(first) and \(missing.count - 1) more never came")
    }
    // A batch that nobody was told of is there as a whole or not at all.
    for item in batches {
      let seen = (item.first..<item.first + item.count).count { readSet.contains($0) }
      let before = (item.first..<item.first + item.count).contains { released.contains($0) && !readSet.contains($0) }
      if seen > 0, seen < item.count, !before {
        throw Violation("batch \(item.first) came in part: \(seen) of \(item.count)")
      }
    }
    let figures = queue.statistics
    if figures.events != 0 || figures.unreadEvents != 0 { throw Violation("counts do not come to zero: \(figures)") }
    if figures.damagedEvents != 0 { throw Violation("damage where there is none: \(figures)") }
  }
}

private func number(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }

@Suite struct QueueModelTests {
  /// Seeds that failed once; they run first.
  static let remembered: [Int] = [192, 226]

  static var seeds: [Int] {
    if let one = number("QUEUE_SEED") { return [one] }
    return remembered + Array(1...(number("QUEUE_SEEDS") ?? 200))
  }

  @Test func `no history on a failing disk loses, invents, doubles or renames a record`() {
    var crashes = 0
    for seed in QueueModelTests.seeds {
      let history = History(seed: UInt64(seed))
      do {
        try history.run(steps: 150)
        crashes += history.crashes
      } catch {
        Issue.record(
          "QUEUE_SEED=\(seed): \(error)\n\(history.trace.suffix(number("QUEUE_SEED") == nil ? 20 : 2000).joined(separator: "\n"))"
        )
        return
      }
    }
    #expect(number("QUEUE_SEED") != nil || crashes > 100)
  }

  static let defects: [(String, @Sendable (inout QueueFaults) -> Void)] = [
    ("a sync that is left out", { $0.skipsSync = true }),
    ("a checkpoint of what is not released", { $0.checkpointsUnreleased = true }),
    ("checksums that nobody looks at", { $0.ignoresChecksums = true }),
    ("an acknowledgement before the sync", { $0.completesBeforeSync = true }),
    ("a checkpoint that is written before its data", { $0.checkpointsBeforeData = true }),
  ]

  @Test(arguments: 0..<5) func `the model notices a queue that is broken on purpose`(which: Int) {
    var faults = QueueFaults()
    QueueModelTests.defects[which].1(&faults)
    for seed in 1...400 {
      do { try History(seed: UInt64(seed), faults: faults).run(steps: 150) } catch {
        report("\(QueueModelTests.defects[which].0): noticed by long history \(seed)")
        break
      }
      if seed == 400 { Issue.record("nobody noticed \(QueueModelTests.defects[which].0)") }
    }
    // The short kind notices it too, ignored checksums only after thousands.
    if getenv("QUEUE_REPORT") == nil { return }
    for seed in 1...20_000 {
      do {
        try History(seed: UInt64(seed), faults: faults, plan: QueueModelTests.twoCrashes(seed)).runPlanned(steps: 40)
      } catch {
        report("\(QueueModelTests.defects[which].0): noticed by two-crash history \(seed)")
        return
      }
    }
    Issue.record("no history with two crashes noticed \(QueueModelTests.defects[which].0)")
  }

  // MARK: Short histories

  private static func twoCrashes(_ seed: Int) -> History.Plan {
    var random = SeededRandom(UInt64(seed) &* 31 &+ 5)
    return History.Plan(crashAt: 1 + random.below(120), recoveryCrashAt: 1 + random.below(10))
  }

  private static func range(_ name: String, _ usual: Int) -> Range<Int> {
    let first = number("QUEUE_FIRST") ?? 1
    return first..<first + (number(name) ?? usual)
  }

  @Test func `a crash, and another one during recovery, cost nothing that was acknowledged`() {
    let start = Instant.now
    var (crashes, recoveryCrashes) = (0, 0)
    let seeds = QueueModelTests.range("QUEUE_HISTORIES", 400)
    for seed in seeds {
      let history = History(seed: UInt64(seed), plan: QueueModelTests.twoCrashes(seed))
      do { try history.runPlanned(steps: 40) } catch {
        Issue.record("history \(seed): \(error)\n\(history.trace.suffix(40).joined(separator: "\n"))")
        return
      }
      crashes += history.crashes
      recoveryCrashes += history.recoveryCrashes
    }
    report("\(seeds.count) histories, \(crashes) crashes, \(recoveryCrashes) of them during recovery", since: start)
    #expect(recoveryCrashes > seeds.count / 2)
  }

  @Test func `a crash at any call of a history costs nothing that was acknowledged`() {
    let start = Instant.now
    var points = 0
    let seeds = QueueModelTests.range("QUEUE_POINTS", 4)
    for seed in seeds {
      let whole = History(seed: UInt64(seed), plan: History.Plan())
      do { try whole.runPlanned(steps: 25) } catch {
        Issue.record("history \(seed): \(error)\n\(whole.trace.suffix(40).joined(separator: "\n"))")
        return
      }
      for point in 1...whole.calls {
        let history = History(seed: UInt64(seed), plan: History.Plan(crashAt: point))
        do { try history.runPlanned(steps: 25) } catch {
          Issue.record("history \(seed), call \(point): \(error)\n\(history.trace.suffix(40).joined(separator: "\n"))")
          return
        }
        points += 1
      }
    }
    report("\(seeds.count) histories, a crash at each of \(points) calls", since: start)
  }

  @Test(arguments: [FaultyFileSystem.Fault.error(EIO), .error(ENOSPC), .short])
  func `a fault at any call of a history costs nothing that was acknowledged`(kind: FaultyFileSystem.Fault) {
    let start = Instant.now
    var met: [String: Int] = [:]
    let seeds = QueueModelTests.range("QUEUE_FAULTS", 3)
    for seed in seeds {
      let whole = History(seed: UInt64(seed), plan: History.Plan())
      do { try whole.runPlanned(steps: 40) } catch {
        Issue.record("history \(seed): \(error)\n\(whole.trace.suffix(40).joined(separator: "\n"))")
        return
      }
      for site in 1...whole.sites {
        let history = History(seed: UInt64(seed), plan: History.Plan(fault: (site, kind)))
        do { try history.runPlanned(steps: 40) } catch {
          let place = "history \(seed), \(kind) at call \(site) (\(history.faultyCalls))"
          Issue.record("\(place): \(error)\n\(history.trace.suffix(40).joined(separator: "\n"))")
          return
        }
        for call in history.faultyCalls { met[call, default: 0] += 1 }
      }
    }
    let text = met.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    report("\(seeds.count) histories, \(kind) at each call: \(text)", since: start)
    let wanted = ["fdatasync", "fsync", "open", "opendir", "pread", "pwritev", "unlink"]
    if case .error = kind { for call in wanted { #expect(met[call] ?? 0 > 0, "\(call) never failed") } }
  }
}

/// Says what a run was, where somebody asked for more than the usual.
private func report(_ text: String, since start: Instant? = nil) {
  guard getenv("QUEUE_REPORT") != nil else { return }
  print("model: \(text)" + (start.map { ", \((Instant.now - $0).ns / 1_000_000) ms" } ?? ""))
}
