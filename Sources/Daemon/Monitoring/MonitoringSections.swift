//  The sections of the monitoring API's answers, in Logstash's shapes. Figures that only a Java machine has are answered
//  by their honest counterparts: resident memory for the heap, zeros for collections.

internal import Config
internal import Diagnostics
internal import Glibc
internal import Pipeline
internal import PluginKit
internal import Queue

func milliseconds(_ duration: Duration) -> Int { Int(duration.ns / 1_000_000) }

// MARK: The node

/// `"pipelines"` of `/_node`: how each pipeline runs.
func pipelineSettings(_ text: inout JSONText, _ pipelines: [RunningPipeline]) {
  text.object("pipelines") { all in
    for pipeline in pipelines {
      all.object(pipeline.compiled.id) {
        $0.member("ephemeral_id", pipeline.identity)
        $0.member("hash", pipeline.hash)
        batchSettings(&$0, pipeline)
        $0.member("dead_letter_queue_enabled", pipeline.compiled.settings.deadLettersEnabled)
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

func runtimeSection(_ text: inout JSONText) {
  text.object("jvm") {
    $0.member("pid", Int(getpid()))
    $0.member("version", Version.text)
    $0.member("vm_name", "Sluice")
    $0.object("mem") { memory in
      for name in ["heap_init_in_bytes", "heap_max_in_bytes", "non_heap_init_in_bytes", "non_heap_max_in_bytes"] {
        memory.member(name, 0)
      }
    }
  }
}

// MARK: Figures of the node

func runtimeStatistics(_ text: inout JSONText, _ startedAt: Instant) {
  let process = ProcessFigures()
  text.object("jvm") {
    $0.object("threads") {
      $0.member("count", process.threads)
      $0.member("peak_count", process.threads)
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
    $0.member("peak_open_file_descriptors", process.openFiles)
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

func eventStatistics(_ text: inout JSONText, _ pipelines: [RunningPipeline]) {
  text.object("events") { $0.events(pipelines) }
}

extension JSONText {
  /// Events of pipelines: what inputs took, what left the filters, what outputs finished.
  fileprivate mutating func events(_ pipelines: [RunningPipeline]) {
    member("in", pipelines.reduce(0) { $0 + $1.compiled.inputs.reduce(0) { $0 + $1.input.statistics.events } })
    member("filtered", pipelines.reduce(0) { $0 + $1.runtime.eventsFiltered.value })
    member("out", pipelines.reduce(0) { $0 + $1.runtime.eventsOut.value })
    member("duration_in_millis", pipelines.reduce(0) { $0 + $1.runtime.workerBusyNs.value } / 1_000_000)
    member("queue_push_duration_in_millis", 0)
  }
}

func reloadStatistics(_ text: inout JSONText) {
  text.object("reloads") {
    $0.member("successes", 0)
    $0.member("failures", 0)
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

func pipelineStatistics(_ text: inout JSONText, _ pipelines: [RunningPipeline]) {
  text.object("pipelines") { all in
    for pipeline in pipelines { all.object(pipeline.compiled.id) { statistics(&$0, of: pipeline) } }
  }
}

private func statistics(_ text: inout JSONText, of pipeline: RunningPipeline) {
  let runtime = pipeline.runtime
  text.object("events") { $0.events([pipeline]) }
  text.object("plugins") {
    $0.list("inputs", pipeline.compiled.inputs) { list, input in
      let figures = input.input.statistics
      list.member("id", input.id)
      list.member("name", input.kind)
      list.object("events") {
        $0.member("out", figures.events)
        $0.member("queue_push_duration_in_millis", 0)
      }
      list.member("current_connections", figures.connections)
      list.member("peak_connections", figures.peakConnections)
    }
    $0.list("codecs", EmptyCollection<Int>()) { _, _ in }
    $0.list("filters", filterSteps(runtime.steps)) { list, step in
      list.member("id", step.id)
      list.member("name", step.kind)
      list.object("events") {
        $0.member("in", step.statistics.eventsIn.value)
        $0.member("out", step.statistics.eventsOut.value)
        $0.member("duration_in_millis", step.statistics.durationNs.value / 1_000_000)
      }
    }
    $0.list("outputs", runtime.outputs) { list, step in
      let figures = step.output.statistics
      list.member("id", step.id)
      list.member("name", step.kind)
      list.object("events") {
        $0.member("in", step.statistics.eventsIn.value)
        $0.member("out", figures.eventsOut)
        $0.member("duration_in_millis", step.statistics.durationNs.value / 1_000_000)
      }
      list.member("duplicates", figures.duplicates)
      list.member("dead_letters", figures.deadLetters)
      list.member("retries", figures.retries)
      if let trouble = figures.trouble { list.member("trouble", trouble) }
      if let concern = figures.concern { list.member("concern", concern) }
      list.members(ready: figures.extra)
    }
  }
  text.object("reloads") {
    $0.null("last_error")
    $0.member("successes", 0)
    $0.member("failures", 0)
    $0.null("last_success_timestamp")
    $0.null("last_failure_timestamp")
  }
  queueSection(&text, pipeline)
  if let overflows = pipeline.overflows { overflowSection(&text, overflows) }
  deadLetterSection(&text, pipeline)
  text.object("pipeline") { batchSettings(&$0, pipeline) }
  text.member("hash", pipeline.hash)
  text.member("ephemeral_id", pipeline.identity)
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
        $0.member("free_space_in_bytes", queue.freeBytes)
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
