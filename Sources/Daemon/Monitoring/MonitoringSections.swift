//  The sections of the monitoring API's answers, in Logstash's shapes. Figures that only a Java machine has are answered
//  by their honest counterparts: resident memory for the heap, zeros for collections.

internal import Config
internal import Diagnostics
internal import Events
internal import Glibc
internal import Pipeline
internal import PluginKit
internal import Queue

func milliseconds(_ duration: Duration) -> Int { Int(duration.ns / 1_000_000) }

// MARK: The node

/// What an answer shows beside what it always does, and settings that it tells.
struct Shown {
  var graph = false
  var vertices = false
  var reloadsAutomatically = false
  var reloadInterval = Duration.zero
}

/// `"pipelines"` of `/_node`: how each pipeline runs.
func pipelineSettings(_ text: inout JSONText, _ pipelines: [RunningPipeline], _ show: Shown) {
  text.object("pipelines") { all in
    for pipeline in pipelines {
      all.object(pipeline.compiled.id) {
        $0.member("ephemeral_id", pipeline.identity)
        $0.member("hash", pipeline.hash)
        batchSettings(&$0, pipeline)
        $0.member("config_reload_automatic", show.reloadsAutomatically)
        $0.member("config_reload_interval", Int(show.reloadInterval.ns))
        $0.member("dead_letter_queue_enabled", pipeline.compiled.settings.deadLettersEnabled)
        if pipeline.compiled.settings.deadLettersEnabled {
          $0.member("dead_letter_queue_path", pipeline.deadLetters.folder)
        }
        if show.graph { PipelineGraph(pipeline.compiled).write(&$0, hash: pipeline.hash) }
      }
    }
  }
}

private func batchSettings(_ text: inout JSONText, _ pipeline: RunningPipeline) {
  text.member("workers", pipeline.runtime.settings.workers)
  text.member("batch_size", pipeline.runtime.settings.batchSize)
  text.member("batch_delay", milliseconds(pipeline.runtime.settings.batchDelay))
}

func systemSection(_ text: inout JSONText) {
  var system = utsname()
  uname(&system)
  text.object("os") {
    $0.member("name", field(&system.sysname))
    $0.member("arch", field(&system.machine))
    $0.member("version", field(&system.release))
    $0.member("available_processors", max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
  }
}

/// The text of one of `utsname`'s arrays.
private func field<Characters>(_ characters: inout Characters) -> String {
  withUnsafeBytes(of: &characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

func runtimeSection(_ text: inout JSONText, startedAtNs: Int64) {
  text.object("jvm") {
    $0.member("pid", Int(getpid()))
    $0.member("version", Version.text)
    $0.member("vm_version", Version.text)
    $0.member("vm_vendor", "Sluice")
    $0.member("vm_name", "Sluice (no Java machine)")
    $0.member("start_time_in_millis", Int(startedAtNs / 1_000_000))
    $0.object("mem") { memory in
      memory.member("heap_init_in_bytes", 0)
      memory.member("heap_max_in_bytes", ProcessFigures().memoryBytes)
      memory.member("non_heap_init_in_bytes", 0)
      memory.member("non_heap_max_in_bytes", 0)
    }
    $0.list("gc_collectors", texts: ["none"])
  }
}

// MARK: Figures of the node

func runtimeStatistics(_ text: inout JSONText, _ startedAt: Instant) {
  let process = ProcessFigures()
  text.object("jvm") {
    $0.object("threads") {
      $0.member("count", process.threads)
      $0.member("peak_count", ProcessPeaks.threads(process))
    }
    $0.object("mem") {
      $0.member("heap_used_percent", process.residentBytes * 100 / max(1, process.memoryBytes))
      $0.member("heap_committed_in_bytes", process.residentBytes)
      $0.member("heap_max_in_bytes", process.memoryBytes)
      $0.member("heap_used_in_bytes", process.residentBytes)
      $0.member("non_heap_used_in_bytes", 0)
      $0.member("non_heap_committed_in_bytes", 0)
      $0.object("pools") { pools in
        for name in ["young", "old", "survivor"] {
          pools.object(name) { pool in
            for figure in ["max", "peak_max", "used", "peak_used", "committed"] {
              pool.member(figure + "_in_bytes", 0)
            }
          }
        }
      }
    }
    $0.object("gc") {
      $0.object("collectors") { collectors in
        for name in ["young", "old"] {
          collectors.object(name) {
            $0.member("collection_count", 0)
            $0.member("collection_time_in_millis", 0)
          }
        }
      }
    }
    $0.member("uptime_in_millis", milliseconds(Instant.now - startedAt))
  }
}

func processStatistics(_ text: inout JSONText) {
  let process = ProcessFigures()
  text.object("process") {
    $0.member("open_file_descriptors", process.openFiles)
    $0.member("peak_open_file_descriptors", ProcessPeaks.openFiles(process))
    $0.member("max_file_descriptors", process.openFilesLimit)
    $0.object("mem") { $0.member("total_virtual_in_bytes", process.virtualBytes) }
    $0.object("cpu") {
      $0.member("total_in_millis", Int(processCPUTime() / 1_000_000))
      $0.member("percent", process.cpuPercent)
      $0.object("load_average") { load in
        for (name, value) in zip(["1m", "5m", "15m"], process.loadAverages) { load.member(name, number: value) }
      }
    }
  }
}

func eventStatistics(_ text: inout JSONText, _ totals: EventTotals) {
  text.object("events") { $0.events(totals) }
}

extension JSONText {
  /// Events: what inputs took, what left the filters, what outputs finished.
  fileprivate mutating func events(_ totals: EventTotals) {
    member("in", totals.taken)
    member("filtered", totals.filtered)
    member("out", totals.out)
    member("duration_in_millis", totals.workerNs / 1_000_000)
    member("queue_push_duration_in_millis", totals.pushNs / 1_000_000)
  }

  /// The rates that node and pipelines have in common.
  fileprivate mutating func flows(_ view: FlowView) {
    flow("input_throughput", view.perSecond(FlowPlace.taken))
    flow("filter_throughput", view.perSecond(FlowPlace.filtered))
    flow("output_throughput", view.perSecond(FlowPlace.out))
    flow("queue_backpressure", view.concurrency(FlowPlace.pushNs))
    flow("worker_concurrency", view.concurrency(FlowPlace.workerNs))
  }
}

func flowStatistics(_ text: inout JSONText, _ recorder: FlowRecorder, _ totals: EventTotals) {
  text.object("flow") { $0.flows(FlowView(recorder, flowValues(of: totals))) }
}

func reloadStatistics(_ text: inout JSONText, _ totals: (successes: Int, failures: Int)) {
  text.object("reloads") {
    $0.member("successes", totals.successes)
    $0.member("failures", totals.failures)
  }
}

/// `"os"`: the control group that the process is in; empty outside of one.
func controlGroupSection(_ text: inout JSONText) {
  text.object("os") {
    guard let group = ControlGroup() else { return }
    $0.object("cgroup") { all in
      all.object("cpuacct") {
        $0.member("control_group", group.path)
        $0.member("usage_nanos", group.usageNs)
      }
      all.object("cpu") { cpu in
        cpu.member("control_group", group.path)
        cpu.member("cfs_period_micros", group.periodMicros)
        cpu.member("cfs_quota_micros", group.quotaMicros)
        cpu.object("stat") {
          $0.member("number_of_elapsed_periods", group.periods)
          $0.member("number_of_times_throttled", group.throttled)
          $0.member("time_throttled_nanos", group.throttledNs)
        }
      }
    }
  }
}

func queueStatistics(_ text: inout JSONText, _ pipelines: [RunningPipeline]) {
  text.object("queue") {
    $0.member(
      "events_count",
      pipelines.map(\.runtime.queue.statistics).filter(\.isPersisted).reduce(0) { $0 + $1.events })
  }
}

// MARK: Figures of pipelines

func pipelineStatistics(
  _ text: inout JSONText, _ pipelines: [RunningPipeline], _ state: DaemonState, _ show: Shown
) {
  text.object("pipelines") { all in
    for pipeline in pipelines {
      all.object(pipeline.compiled.id) { statistics(&$0, of: pipeline, state.reloads(of: pipeline.compiled.id), show) }
    }
  }
}

private func statistics(
  _ text: inout JSONText, of pipeline: RunningPipeline, _ reloads: ReloadFigures, _ show: Shown
) {
  let view = FlowView(pipeline.flow, flowValues(of: pipeline))
  text.object("events") { $0.events(pipeline.eventTotals) }
  pipelineFlow(&text, pipeline, view)
  plugins(&text, pipeline, view)
  text.object("reloads") {
    if let error = reloads.lastError {
      $0.object("last_error") {
        $0.member("message", error)
        $0.null("backtrace")
      }
    } else {
      $0.null("last_error")
    }
    $0.member("successes", reloads.successes)
    $0.member("failures", reloads.failures)
    $0.null("last_success_timestamp", or: reloads.lastSuccessNs.map(isoText))
    $0.null("last_failure_timestamp", or: reloads.lastFailureNs.map(isoText))
  }
  queueSection(&text, pipeline)
  if let overflows = pipeline.overflows { overflowSection(&text, overflows) }
  deadLetterSection(&text, pipeline)
  text.object("pipeline") { batchSettings(&$0, pipeline) }
  batchSection(&text, pipeline, view)
  text.member("hash", pipeline.hash)
  text.member("ephemeral_id", pipeline.identity)
  if show.vertices { vertexStatistics(&text, of: pipeline) }
}

/// A moment of the wall clock as ISO 8601.
func isoText(_ ns: Int64) -> String {
  var out = ByteBuffer(capacity: 40)
  Timestamp(ns: ns).cutToMilliseconds.appendISO8601(to: &out)
  return out.string()
}

private func pipelineFlow(_ text: inout JSONText, _ pipeline: RunningPipeline, _ view: FlowView) {
  text.object("flow") {
    $0.flows(view)
    $0.flow("worker_utilization", workerUtilization(pipeline, view))
    if pipeline.runtime.queue.statistics.isPersisted {
      $0.flow("queue_persisted_growth_events", view.perSecond(FlowPlace.queueEvents))
      $0.flow("queue_persisted_growth_bytes", view.perSecond(FlowPlace.queueBytes))
    }
  }
}

/// Percent of the workers' time that they were at work.
func workerUtilization(_ pipeline: RunningPipeline, _ view: FlowView) -> [(name: String, value: Double)] {
  view.concurrency(FlowPlace.workerNs, scale: 100 / Double(max(1, pipeline.runtime.settings.workers)))
}

private func plugins(_ text: inout JSONText, _ pipeline: RunningPipeline, _ view: FlowView) {
  let runtime = pipeline.runtime
  let inputs = pipeline.compiled.inputs
  let filters = filterSteps(runtime.steps)
  func stepFlow(_ list: inout JSONText, _ place: Int) {
    list.object("flow") {
      $0.flow(
        "worker_utilization", view.concurrency(place + 1, scale: 100 / Double(max(1, runtime.settings.workers))))
      $0.flow(
        "worker_millis_per_event",
        view.rates({ view.growth(place + 1, since: $0) / 1e6 }, by: { view.growth(place, since: $0) }))
    }
  }
  text.object("plugins") {
    $0.list("inputs", inputs.enumerated()) { list, entry in
      let (i, input) = entry
      let figures = input.input.statistics
      list.member("id", input.id)
      list.member("name", input.kind)
      list.object("events") {
        $0.member("out", figures.events)
        $0.member("queue_push_duration_in_millis", input.push.waitedNs / 1_000_000)
      }
      list.object("flow") { $0.flow("throughput", view.perSecond(FlowPlace.plugins + i)) }
      list.member("current_connections", figures.connections)
      list.member("peak_connections", figures.peakConnections)
      list.member("rejected_connections", figures.rejected)
      list.member("errors", figures.errors)
      list.member("oversized_events", figures.oversized)
      list.member("lost_events", figures.lost)
    }
    $0.list("codecs", inputs) { list, input in
      let codec = input.input.description.codec
      list.member("id", "\(codec)_\(input.id)")
      list.member("name", codec)
      if input.push.batches.value > 0 {
        list.object("decode") {
          $0.member("writes_in", input.push.batches.value)
          $0.member("out", input.push.records.value)
        }
      }
    }
    $0.list("filters", filters.enumerated()) { list, entry in
      let (i, step) = entry
      list.member("id", step.id)
      list.member("name", step.kind)
      list.object("events") {
        $0.member("in", step.statistics.eventsIn.value)
        $0.member("out", step.statistics.eventsOut.value)
        $0.member("duration_in_millis", step.statistics.durationNs.value / 1_000_000)
      }
      stepFlow(&list, FlowPlace.plugins + inputs.count + 2 * i)
      list.member("condition_failures", step.statistics.conditionFailures.value)
      if let outcomes = step.built.outcomes {
        list.member("matches", outcomes.matches.value)
        list.member("failures", outcomes.failures.value)
      }
    }
    $0.list("outputs", runtime.outputs.enumerated()) { list, entry in
      let (i, step) = entry
      let figures = step.output.statistics
      list.member("id", step.id)
      list.member("name", step.kind)
      list.object("events") {
        $0.member("in", step.statistics.eventsIn.value)
        $0.member("out", figures.eventsOut)
        $0.member("duration_in_millis", step.statistics.durationNs.value / 1_000_000)
      }
      stepFlow(&list, FlowPlace.plugins + inputs.count + 2 * (filters.count + i))
      list.member("condition_failures", step.statistics.conditionFailures.value)
      list.member("duplicates", figures.duplicates)
      list.member("dead_letters", figures.deadLetters)
      list.member("retries", figures.retries)
      if let trouble = figures.trouble { list.member("trouble", trouble) }
      if let concern = figures.concern { list.member("concern", concern) }
      list.members(ready: figures.extra)
    }
  }
}

/// How many events, and how many bytes of payloads, a worker takes at once.
private func batchSection(_ text: inout JSONText, _ pipeline: RunningPipeline, _ view: FlowView) {
  guard pipeline.runtime.batches.value > 0 else { return }
  func figures(_ text: inout JSONText, _ name: String, current: Int, _ place: Int) {
    text.object(name) {
      $0.member("current", current)
      $0.object("average") { average in
        let rates = view.rates({ view.growth(place, since: $0) }, by: { view.growth(FlowPlace.batches, since: $0) })
        for rate in rates where rate.name != "current" && rate.value.isFinite {
          average.member(rate.name, Int(rate.value.rounded()))
        }
      }
    }
  }
  text.object("batch") {
    figures(&$0, "event_count", current: pipeline.runtime.lastBatchEvents.value, FlowPlace.batchEvents)
    figures(&$0, "byte_size", current: pipeline.runtime.lastBatchBytes.value, FlowPlace.batchBytes)
  }
}

private func queueSection(_ text: inout JSONText, _ pipeline: RunningPipeline) {
  let queue = pipeline.runtime.queue.statistics
  text.object("queue") {
    $0.member("type", queue.isPersisted ? "persisted" : "memory")
    if queue.isPersisted {
      $0.object("capacity") {
        $0.member("max_unread_events", queue.maxEvents)
        $0.member("page_capacity_in_bytes", pipeline.compiled.settings.queuePageCapacity.bytes)
        $0.member("max_queue_size_in_bytes", queue.maxBytes)
        $0.member("queue_size_in_bytes", queue.bytes)
      }
      $0.object("data") {
        $0.member("path", queue.folder)
        $0.member("free_space_in_bytes", queue.freeBytes > 0 ? queue.freeBytes : freeBytes(of: queue.folder))
        $0.member("storage_type", fileSystemType(of: queue.folder))
      }
      $0.member("events", queue.events)
    }
    $0.member("events_count", queue.events)
    $0.member("queue_size_in_bytes", queue.bytes)
    $0.member("max_queue_size_in_bytes", queue.maxBytes)
  }
}

/// What outputs have spilled, and what lies there for outputs that are gone.
private func overflowSection(_ text: inout JSONText, _ overflows: Overflows) {
  text.object("overflow") {
    for overflow in overflows.queues {
      let figures = overflow.statistics
      $0.object(overflow.step.id) {
        $0.member("status", overflow.isSpilling ? "spilling" : "idle")
        $0.member("events_count", figures?.events ?? 0)
        $0.member("queue_size_in_bytes", figures?.bytes ?? 0)
        $0.member("spilled_events", overflow.spilledEvents.value)
      }
    }
    for orphan in overflows.orphans {
      $0.object(orphan.name) {
        $0.member("status", "orphaned")
        $0.member("events_count", orphan.events)
      }
    }
  }
}

func deadLetterSection(_ text: inout JSONText, _ pipeline: RunningPipeline) {
  let letters = pipeline.deadLetters
  let figures = letters.statistics
  text.object("dead_letter_queue") {
    $0.member("queue_size_in_bytes", figures.bytes)
    $0.member("max_queue_size_in_bytes", figures.maxBytes)
    $0.member("storage_policy", letters.settings.policy.rawValue)
    $0.member("dropped_events", figures.droppedOlder + figures.droppedNewer)
    $0.member("expired_events", figures.expired)
    $0.member("last_error", figures.lastError.isEmpty ? "no errors" : figures.lastError)
    $0.member("events_count", figures.letters)
    $0.member("written_events", figures.written)
    $0.member("removed_events", figures.removed)
    $0.member("damaged_segments", figures.damaged)
    $0.member("status", DeadLetterStore.isNearlyFull(figures) ? "red" : "green")
  }
}
