//  What an input's connections have in common.

internal import Records

/// What all connections of a server share; never written after `init`.
final class ServerShared<Configuration: Sendable>: Sendable {
  let sink: any RecordSink
  let descriptor: RecordDescriptor
  let budget: InFlightBudget
  let metrics: InputMetrics
  let onOversized: OversizedHandler
  let configuration: Configuration

  init(
    configuration: Configuration, sink: any RecordSink, descriptor: RecordDescriptor, budget: InFlightBudget,
    metrics: InputMetrics, onOversized: @escaping OversizedHandler
  ) {
    self.configuration = configuration
    self.sink = sink
    self.descriptor = descriptor
    self.budget = budget
    self.metrics = metrics
    self.onOversized = onOversized
  }
}
