//  The daemon: opens queues, starts pipelines, inputs and the API, and brings them down again in the right order.
//
//  Order of start: settings, pipelines compiled, data folder locked, queues opened (with recovery), API, outputs, workers,
//  inputs. Every problem up to the inputs ends the start with status 1 and a sentence; nothing was accepted then.
//  Order of stop: inputs close, workers finish their batch, outputs finish what is in flight, queues close. What is not
//  delivered lies in the queue, on disk, and comes again at the next start.

internal import CSystem
internal import Codecs
internal import Config
internal import Diagnostics
internal import Glibc
internal import Inputs
internal import Net
internal import Pipeline
internal import PluginKit
internal import Queue
internal import Records

/// Runs the daemon until a signal ends it, and returns the exit status.
package func runDaemon(_ options: LaunchOptions) -> Int32 {
  let signals = SignalWaiter()
  let problems = Problems()
  let configuration = Configuration.load(options, opensFiles: true, problems: problems)
  let daemonSettings = configuration.settings.daemon
  Log.configure(
    level: Log.Level(name: daemonSettings.logLevel.rawValue) ?? .info,
    format: daemonSettings.logFormat == .json ? .json : .plain)
  // Compiled once without opening anything, so that a broken configuration touches nothing.
  let checked = configuration.compile(resolves: true, problems: problems)
  checkRun(configuration, checked, opensFiles: true, problems: problems)
  for problem in problems.sorted { writeError(problem.description) }
  if problems.hasErrors {
    let count = problems.sorted.filter { $0.severity == .error }.count
    writeError("\(count) \(count == 1 ? "problem" : "problems"), nothing was started.")
    return 1
  }
  for name in configuration.settings.unknownEnvironment {
    let text = "An environment variable is no setting."
    if let near = Settings.nearestVariable(to: name) {
      Log.info("config.unknown-environment", text, ["name": Log.foreign(name), "next": .text("did you mean \(near)?")])
    } else {
      Log.info("config.unknown-environment", text, ["name": Log.foreign(name)])
    }
  }
  _ = sys_raise_open_files()
  sys_keep_freed_memory(4 << 20)
  do {
    let daemon = try Daemon(configuration, checked: checked)
    try daemon.start()
    return daemon.serve(signals)
  } catch {
    Log.error(
      "daemon.start-failed", "The daemon could not start.", ["reason": .text("\(error)")])
    return 1
  }
}

/// Why the daemon could not start.
package struct StartFailure: Error, CustomStringConvertible {
  package let description: String
}

final class Daemon {
  let configuration: Configuration
  let state = DaemonState()
  /// Digests of the pipeline files at the last look, and of the settings file at the start.
  var seenFiles: [String: String] = [:]
  let settingsDigest: String
  private let lock: FolderLock
  private var api: MonitoringServer?
  private var replays: ReplayService?

  /// Opens the data folder and the queues of all pipelines.
  init(_ configuration: Configuration, checked: [CompiledPipeline]) throws {
    self.configuration = configuration
    lock = try FolderLock(configuration.dataFolder)
    settingsDigest = fileDigest(configuration.settingsFile)
    for pipeline in checked { state.add(try open(pipeline, hash: fileDigest(pipeline.file.path))) }
    seenFiles = digests(of: checked.map(\.file.path))
  }

  /// Opens everything that a pipeline needs; nothing runs yet.
  ///
  /// - Parameter queue: A queue in memory that goes on from the pipeline's earlier run.
  func open(
    _ checked: CompiledPipeline, hash: String, queue earlier: (any EventQueue)? = nil
  ) throws -> RunningPipeline {
    let settings = checked.settings
    let quota = settings.queueMaxSize.bytes > 0 ? QueueQuota(limitBytes: settings.queueMaxSize.bytes) : nil
    if let earlier, settings.queueType == .persisted, !earlier.isDrained {
      throw StartFailure(description: "the queue in memory still holds events, and the new one would be on disk")
    }
    let kept = settings.queueType == .persisted ? nil : earlier
    let queue = try kept ?? openQueue(checked.id, settings, quota)
    var isOpen = false
    defer { if !isOpen, kept == nil { queue.close() } }
    let letters = try openLetters(checked.id, settings)
    defer { if !isOpen { letters.close() } }
    let problems = Problems()
    let environment = CompileEnvironment(
      registry: .all, services: configuration.services(for: checked.file, resolves: true),
      variables: configuration.variables, sink: queue, deadLetters: letters)
    guard
      let compiled = CompiledPipeline.compile(
        checked.file, settings: settings, environment: environment, problems: problems)
    else { throw StartFailure(description: problems.sorted.map(\.description).joined(separator: "\n")) }
    var runtimeSettings = RuntimeSettings()
    runtimeSettings.workers = settings.workers ?? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    runtimeSettings.batchSize = settings.batchSize
    runtimeSettings.batchDelay = settings.batchDelay
    // Events of a memory queue are not made safer by an overflow queue than they are.
    let overflows =
      settings.queueType == .persisted
      ? Overflows(
        compiled, folder: queueFolder(of: compiled.id, settings, configuration),
        settings: try diskQueueSettings(compiled.id, settings), quota: quota, spillAfter: settings.queueSpillAfter)
      : nil
    let runtime = PipelineRuntime(
      id: compiled.id, steps: compiled.steps, outputs: compiled.outputs, queue: queue, deadLetters: letters,
      settings: runtimeSettings, filters: compiled.filters, overflows: overflows?.queues ?? [])
    isOpen = true
    return RunningPipeline(
      compiled: compiled, hash: hash, runtime: runtime, deadLetters: letters, overflows: overflows)
  }

  private func openLetters(_ id: String, _ settings: PipelineSettings) throws -> DeadLetterStore {
    let folder = deadLetterFolder(of: id, settings, configuration)
    guard settings.deadLettersEnabled else {
      return try DeadLetterStore(folder: folder, pipelineID: id, settings: nil)
    }
    var letterSettings = DeadLetterSettings()
    letterSettings.maxBytes = settings.deadLettersMaxSize.bytes
    letterSettings.retainAge = settings.deadLettersRetainAge ?? .zero
    letterSettings.policy = DeadLetterSettings.Policy(rawValue: settings.deadLettersPolicy.rawValue) ?? .dropOlder
    letterSettings.compression = blockCompression(settings)
    letterSettings.keys = try encryptionKeys(settings)
    letterSettings.name = id
    return try DeadLetterStore(folder: folder, pipelineID: id, settings: letterSettings)
  }

  private func openQueue(
    _ id: String, _ settings: PipelineSettings, _ quota: QueueQuota?
  ) throws -> any EventQueue {
    guard settings.queueType == .persisted else {
      Log.warn(
        "queue.memory", "The queue is in memory: an acknowledgement does not mean that an event is safe.",
        ["pipeline": .text(id), "next": "Set queue.type: persisted to keep events through a crash."])
      return MemoryQueue(
        maxEvents: settings.queueMaxEvents, maxBytes: settings.queueMaxSize.bytes, name: id)
    }
    var queueSettings = try diskQueueSettings(id, settings)
    queueSettings.quota = quota
    if queueSettings.durability != .sync {
      Log.warn(
        "queue.durability", "Events are acknowledged before they are synced: a power loss can cost the last of them.",
        ["pipeline": .text(id), "next": "Set queue.durability: sync to keep every acknowledged event."])
    }
    let folder = queueFolder(of: id, settings, configuration)
    try makeFolders(folder)
    return try DiskQueue(folder: folder, settings: queueSettings)
  }

  /// Opens the API, starts outputs and workers, and binds the inputs.
  func start() throws {
    if configuration.settings.daemon.apiEnabled {
      let server = try MonitoringServer(self)
      try server.start()
      api = server
    }
    NetworkInputs.budget.limitBytes = configuration.settings.daemon.memoryInFlight.bytes
    for pipeline in state.pipelines { try pipeline.runtime.start() }
    for pipeline in state.pipelines {
      do {
        try startInputs(of: pipeline)
      } catch {
        let came = state.pipelines.flatMap(\.compiled.inputs).contains { $0.push.records.value > 0 }
        stop()
        if came {
          Log.info("daemon.start-undone", "Events that inputs took meanwhile were delivered or are in the queue.")
        }
        throw error
      }
    }
    startReplays()
    Log.info(
      "daemon.ready", "Sluice is ready.",
      [
        "version": .text(Version.text), "pipelines": .text(state.pipelines.map(\.compiled.id).joined(separator: ",")),
        "start_ms": .number(Int((Instant.now - state.startedAt).ns / 1_000_000)),
      ])
    ServiceManager.notify("READY=1\nSTATUS=Running \(state.pipelines.count) pipelines.")
  }

  /// Binds a pipeline's inputs.
  func startInputs(of pipeline: RunningPipeline) throws {
    for input in pipeline.compiled.inputs {
      do {
        try input.input.start()
      } catch {
        throw StartFailure(description: "input '\(input.id)' at \(input.position): \(error)")
      }
      Log.info(
        "input.listening", "An input listens.",
        [
          "pipeline": .text(pipeline.compiled.id), "input": .text(input.id),
          "port": .number(input.input.statistics.boundPort),
        ])
    }
  }

  func startReplays() {
    let replays = ReplayService(state.pipelines.filter { !$0.isDown })
    replays.start()
    self.replays = replays
  }

  /// Ends what replays are at; their requests stay and are done again.
  func stopReplays() {
    replays?.stop()
    replays?.join(Instant.now + .seconds(5))
    replays = nil
  }

  /// Waits for a signal, keeping systemd's watchdog content, and stops.
  ///
  /// - Returns: The exit status.
  func serve(_ signals: SignalWaiter) -> Int32 {
    let interval = ServiceManager.watchdogInterval
    let settings = configuration.settings.daemon
    let looks = settings.reloadAutomatic ? settings.reloadInterval : .seconds(60)
    while true {
      switch signals.wait(atMost: min(interval ?? .seconds(60), looks)) {
      case SIGTERM, SIGINT:
        ServiceManager.notify("STOPPING=1\nSTATUS=Finishing what is in flight.")
        signals.exitOnNext()
        return stop()
      case SIGHUP: reload()
      default:
        if settings.reloadAutomatic, hasChangedFiles { reload() }
        if interval != nil { ServiceManager.notify("WATCHDOG=1") }
      }
    }
  }

  @discardableResult
  private func stop() -> Int32 {
    let pipelines = state.pipelines.filter { !$0.isDown }
    let timeout = configuration.settings.daemon.shutdownTimeout
    let start = Instant.now
    let deadline = start + timeout
    Log.info("daemon.stopping", "Stopping: inputs close, what is in flight is finished, the rest stays on disk.")
    for pipeline in pipelines {
      for input in pipeline.compiled.inputs { input.input.stop(deadline: min(deadline, Instant.now + .seconds(2))) }
    }
    // What a pipeline that is down holds in memory goes with the process.
    var lost = state.pipelines.filter(\.isDown).map(\.runtime.queue.statistics).filter { !$0.isPersisted }
      .reduce(0) { $0 + $1.events }
    replays?.stop()
    for pipeline in pipelines {
      pipeline.runtime.stop(
        deadline: deadline,
        drain: pipeline.compiled.settings.queueDrain || !pipeline.runtime.queue.statistics.isPersisted)
    }
    replays?.join(Instant.now + .seconds(2))
    for pipeline in pipelines {
      pipeline.runtime.queue.close()
      let left = pipeline.runtime.queue.statistics
      if !left.isPersisted, left.events > 0 { lost += left.events }
      let spilled = pipeline.overflows?.queues.reduce(0) { $0 + ($1.statistics?.events ?? 0) } ?? 0
      pipeline.deadLetters.close()
      Log.info(
        "pipeline.stopped", "A pipeline has stopped.",
        [
          "pipeline": .text(pipeline.compiled.id), "events_in_queue": .number(left.events),
          "events_in_overflow": .number(spilled),
        ])
    }
    api?.stop()
    if lost > 0 {
      Log.error(
        "queue.memory-lost", "Events of a memory queue were given up at the stop.",
        ["events_lost": .number(lost), "next": "Set queue.type: persisted to keep events through a stop."])
      return 1
    }
    Log.info("daemon.stopped", "Sluice has stopped.", ["took_ms": .number(Int((Instant.now - start).ns / 1_000_000))])
    return 0
  }
}

/// A lock file in the data folder, so that two daemons never share it. The system lets go of it when the process ends.
final class FolderLock {
  private let descriptor: CInt

  init(_ folder: String) throws {
    try makeFolders(folder)
    let path = folder + "/.lock"
    descriptor = try systemCall("open \(path)") { open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640) }
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      close(descriptor)
      throw StartFailure(
        description: "the data folder \(folder) is used by another process; stop it or set path.data to another folder")
    }
  }

  deinit { close(descriptor) }
}

/// Makes a folder and those above it.
func makeFolders(_ path: String) throws {
  var built = path.hasPrefix("/") ? "/" : ""
  for part in path.split(separator: "/") {
    built += (built.isEmpty || built.hasSuffix("/") ? "" : "/") + part
    if mkdir(built, 0o750) != 0, errno != EEXIST { throw SystemError(errno, call: "mkdir \(built)") }
  }
}
