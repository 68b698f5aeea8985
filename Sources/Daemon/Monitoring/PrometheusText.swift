//  Figures of the daemon as Prometheus reads them.

internal import Diagnostics
internal import Pipeline
internal import PluginKit
internal import Queue

/// The text of `/metrics`. Pipeline ids have no character that a label would have to escape.
func prometheusText(_ pipelines: [RunningPipeline]) -> String {
  var text = ""
  func metric(_ name: String, _ kind: String, _ help: String, _ value: (RunningPipeline) -> Int) {
    text += "# HELP sluice_\(name) \(help)\n# TYPE sluice_\(name) \(kind)\n"
    for pipeline in pipelines { text += "sluice_\(name){pipeline=\"\(pipeline.compiled.id)\"} \(value(pipeline))\n" }
  }
  metric("events_in_total", "counter", "Events that workers decoded.") { $0.runtime.eventsIn.value }
  metric("events_filtered_total", "counter", "Events that left the filters.") { $0.runtime.eventsFiltered.value }
  metric("events_out_total", "counter", "Events that every output has finished with.") { $0.runtime.eventsOut.value }
  metric("queue_events", "gauge", "Events in the queue that are not delivered.") {
    $0.runtime.queue.statistics.events
  }
  metric("queue_bytes", "gauge", "Bytes that the queue takes.") { $0.runtime.queue.statistics.bytes }
  metric("queue_max_bytes", "gauge", "Bytes that the queue may take.") { $0.runtime.queue.statistics.maxBytes }
  func inputs(_ pipeline: RunningPipeline, _ figure: (InputStatistics) -> Int) -> Int {
    pipeline.compiled.inputs.reduce(0) { $0 + figure($1.input.statistics) }
  }
  metric("input_errors_total", "counter", "Protocol errors and refused requests.") { inputs($0, \.errors) }
  metric("input_rejected_connections_total", "counter", "Connections refused for want of room.") {
    inputs($0, \.rejected)
  }
  metric("input_oversized_events_total", "counter", "Events beyond an input's limit; their heads are dead letters.") {
    inputs($0, \.oversized)
  }
  metric("input_lost_events_total", "counter", "Events that came without acknowledgement and could not be kept.") {
    inputs($0, \.lost)
  }
  metric("dead_letters_total", "counter", "Events that became dead letters.") { $0.deadLetters.statistics.written }
  metric("dead_letters_dropped_total", "counter", "Dead letters that were dropped, or grew too old.") {
    let figures = $0.deadLetters.statistics
    return figures.droppedOlder + figures.droppedNewer + figures.expired
  }
  metric("dead_letters", "gauge", "Dead letters that are there.") { $0.deadLetters.statistics.letters }
  metric("dead_letters_bytes", "gauge", "Bytes that the dead letters take.") {
    $0.deadLetters.statistics.bytes
  }
  metric("dead_letters_max_bytes", "gauge", "Bytes that the dead letters may take.") {
    $0.deadLetters.statistics.maxBytes
  }
  return text
}
