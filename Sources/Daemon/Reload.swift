//  HUP, and `config.reload.automatic`: pipeline files that have changed are taken over while the others go on.
//
//  Everything is compiled first; a file with a mistake is named with its place, and its pipeline goes on as it was. Then
//  each changed pipeline is stopped as at the daemon's stop and started from its new file, over the same queue: what was
//  acknowledged lies there and is not touched, and its inputs listen again within moments. Workers and outputs end before
//  the inputs do, so that senders are kept away for as short as possible. Should the new pipeline not start (a port is
//  taken, a folder cannot be written), the old one is started again.

internal import Config
internal import Diagnostics
internal import Glibc
internal import Pipeline
internal import PluginKit
internal import Queue

/// A pipeline file that was read and found good.
struct ReloadCandidate {
  var compiled: CompiledPipeline
  var hash: String
}

extension Daemon {
  /// Takes changed pipeline files over. On the main thread.
  func reload() {
    ServiceManager.notify("RELOADING=1\nSTATUS=Reading the configuration.")
    defer { ServiceManager.notify("READY=1\nSTATUS=Running \(state.pipelines.count) pipelines.") }
    noteSettings()
    let problems = Problems()
    let paths = Configuration.pipelinePaths(configuration.pipelinePlaces, problems)
    seenFiles = digests(of: paths)
    guard !problems.hasErrors else { return refuse(problems, of: state.pipelines.map(\.compiled.id)) }

    let running = state.pipelines
    var candidates: [ReloadCandidate] = []
    var kept: [RunningPipeline] = []
    var refused = 0
    for path in paths {
      let current = running.first { $0.compiled.file.path == path }
      let hash = fileDigest(path)
      if let current, current.hash == hash, !current.isDown {
        kept.append(current)
        continue
      }
      let own = Problems()
      if let compiled = compile(path, own) {
        candidates.append(ReloadCandidate(compiled: compiled, hash: hash))
      } else {
        refused += 1
        refuse(own, of: [current?.compiled.id ?? pipelineName(path)])
        if let current { kept.append(current) }
      }
    }
    let whole = kept.map(\.compiled) + candidates.map(\.compiled)
    PipelineFile.checkIDs(of: whole.map(\.file), problems: problems)
    checkPorts(of: whole, api: configuration.settings.daemon, problems: problems)
    guard !problems.hasErrors else { return refuse(problems, of: candidates.map(\.compiled.id)) }

    let names = Set(whole.map(\.id))
    let removed = running.filter { !names.contains($0.compiled.id) }
    if candidates.isEmpty, removed.isEmpty {
      if refused == 0 { Log.info("reload.unchanged", "No pipeline file has changed.") }
      return
    }
    apply(candidates, removed)
  }

  private func pipelineName(_ path: String) -> String {
    let name = path.split(separator: "/").last ?? ""
    return String(name.prefix { $0 != "." })
  }

  /// Settings are read at the start alone; who changed them is told so.
  private func noteSettings() {
    guard settingsDigest != fileDigest(configuration.settingsFile) else { return }
    Log.outcome(
      .warn, "reload.settings", "The settings file has changed; a reload takes pipeline files over, not settings.",
      ["file": .text(configuration.settingsFile), "next": "restart the daemon to use the new settings"])
  }

  private func compile(_ path: String, _ problems: Problems) -> CompiledPipeline? {
    guard let file = PipelineFile.load(path, variables: configuration.variables, problems: problems) else { return nil }
    let compiled = CompiledPipeline.compile(
      file, settings: configuration.settings.pipeline(file, problems: problems),
      environment: CompileEnvironment(
        registry: .all, services: configuration.services(for: file, resolves: true),
        variables: configuration.variables),
      problems: problems)
    if let compiled { checkOutputs(of: compiled, problems: problems) }
    return problems.hasErrors ? nil : compiled
  }

  private func refuse(_ problems: Problems, of pipelines: [String]) {
    let errors = problems.sorted.filter { $0.severity == .error }.map(\.description)
    let text = errors.joined(separator: "\n")
    for id in pipelines { state.countReload(of: id, failure: text) }
    Log.outcome(
      .error, "reload.refused", "A changed pipeline is not taken over; what ran before goes on.",
      [
        "pipelines": .text(pipelines.joined(separator: ",")), "problems": .number(errors.count),
        "first": .text(errors.first ?? ""), "next": "`sluice check` shows all problems; mend them and reload again",
      ])
  }

  // MARK: Taking over

  private func apply(_ candidates: [ReloadCandidate], _ removed: [RunningPipeline]) {
    let began = Instant.now
    stopReplays()
    // All that goes is stopped before anything starts, so that a port may move from one pipeline to another.
    var stopped: [(old: RunningPipeline, queue: (any EventQueue)?)] = []
    for candidate in candidates {
      guard let old = state.pipelines.first(where: { $0.compiled.id == candidate.compiled.id }) else { continue }
      let inMemory = old.runtime.queue.statistics.isPersisted ? nil : old.runtime.queue
      stopped.append((old, old.isDown ? inMemory : stop(old)))
    }
    for old in removed {
      let queue = old.isDown ? nil : stop(old)
      queue?.close()
      state.replace(old, by: nil)
      Log.outcome(
        .warn, "reload.removed", "A pipeline's file is gone and the pipeline was stopped; its queue stays on disk.",
        [
          "pipeline": .text(old.compiled.id), "events_in_queue": .number(old.runtime.queue.statistics.events),
          "folder": .text(old.runtime.queue.statistics.folder),
        ])
    }
    let taken = candidates.filter { candidate in
      let before = stopped.first { $0.old.compiled.id == candidate.compiled.id }
      return take(candidate, insteadOf: before?.old, queue: before?.queue)
    }
    startReplays()
    let milliseconds = Int((Instant.now - began).ns / 1_000_000)
    if taken.isEmpty, removed.isEmpty {
      Log.info("reload.undone", "No changed pipeline file was taken over.", ["took_ms": .number(milliseconds)])
      return
    }
    Log.info(
      "reload.done", "Changed pipeline files were taken over.",
      [
        "changed": .text((taken.map(\.compiled.id) + removed.map(\.compiled.id)).joined(separator: ",")),
        "pipelines": .text(state.pipelines.map(\.compiled.id).joined(separator: ",")),
        "took_ms": .number(milliseconds),
      ])
  }

  /// - Returns: Whether the new file's pipeline runs.
  private func take(
    _ candidate: ReloadCandidate, insteadOf old: RunningPipeline?, queue: (any EventQueue)?
  ) -> Bool {
    let id = candidate.compiled.id
    do {
      let new = try bringUp(candidate.compiled, hash: candidate.hash, queue: queue)
      if let old { state.replace(old, by: new) } else { state.add(new) }
      state.countReload(of: id)
      return true
    } catch {
      state.countReload(of: id, failure: "\(error)")
      Log.outcome(
        .error, "reload.failed", "A changed pipeline could not be started.",
        [
          "pipeline": .text(id), "reason": .text("\(error)"),
          "next": old == nil ? "mend it and reload again" : "the pipeline as it was is started again",
        ])
      guard let old else { return false }
      do {
        state.replace(old, by: try bringUp(old.compiled, hash: old.hash, queue: queue))
      } catch {
        old.markDown()
        Log.outcome(
          .error, "reload.pipeline-down", "The pipeline as it was could not be started again either; it is down.",
          [
            "pipeline": .text(id), "reason": .text("\(error)"),
            "next": "mend the cause and reload again; what was acknowledged is in the queue",
          ])
      }
      return false
    }
  }

  /// Stops one pipeline and leaves the rest in its queue.
  ///
  /// - Returns: A queue in memory, which goes on with what it holds; nil for one on disk, which is closed.
  private func stop(_ pipeline: RunningPipeline) -> (any EventQueue)? {
    ServiceManager.notify("WATCHDOG=1")
    let deadline = Instant.now + min(configuration.settings.daemon.shutdownTimeout, .seconds(10))
    let queue = pipeline.runtime.queue
    let isPersisted = queue.statistics.isPersisted
    func stopInputs() {
      for input in pipeline.compiled.inputs { input.input.stop(deadline: Instant.now + .seconds(2)) }
    }
    if !isPersisted { stopInputs() }
    pipeline.runtime.stop(deadline: deadline, drain: !isPersisted)
    if isPersisted { stopInputs() }
    pipeline.deadLetters.close()
    if isPersisted { queue.close() }
    return isPersisted ? nil : queue
  }

  private func bringUp(
    _ checked: CompiledPipeline, hash: String, queue: (any EventQueue)?
  ) throws -> RunningPipeline {
    let pipeline = try open(checked, hash: hash, queue: queue)
    do {
      try pipeline.runtime.start()
      try startInputs(of: pipeline)
      return pipeline
    } catch {
      if stop(pipeline) != nil, queue == nil { pipeline.runtime.queue.close() }
      throw error
    }
  }

  /// What the pipeline files hold, so that a change shows.
  func digests(of paths: [String]) -> [String: String] {
    var result: [String: String] = [:]
    for path in paths { result[path] = fileDigest(path) }
    return result
  }

  /// Whether a pipeline file has come, gone or changed since the last look.
  var hasChangedFiles: Bool {
    let paths = Configuration.pipelinePaths(configuration.pipelinePlaces, Problems())
    return digests(of: paths) != seenFiles
  }
}
