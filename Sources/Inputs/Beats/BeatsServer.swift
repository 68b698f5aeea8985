//  The `beats` input's engine: listens, and gives each connection a `BeatsConnection`.

internal import Diagnostics
public import Net
public import Records

/// The options of the `beats` input that the engine needs; initial values are the defaults.
public struct BeatsConfiguration: Sendable {
  public var listener: ListenerConfiguration
  public var limits = BeatsLimits()
  /// With neither a read nor a write for this long an idle connection is closed.
  public var clientInactivityTimeout = Duration.seconds(60)
  /// Between keep-alive acknowledgements while a window is unfinished.
  public var keepAliveInterval = Duration.seconds(5)
  /// Age after which a connection is closed between two windows; nil for never.
  public var maxConnectionAge: Duration?
  /// Windows of one connection that may wait for the queue. Clients write up to three before they wait.
  public var windowsInFlight = 4
  /// Parts of one large window that may wait for the queue.
  public var partsInFlight = 2

  public init(host: String = "0.0.0.0", port: Int) { listener = ListenerConfiguration(host: host, port: port) }
}

/// A listening Beats input. `init` binds; `start` takes connections.
public final class BeatsServer: Sendable {
  public let configuration: BeatsConfiguration
  public let metrics = InputMetrics()
  public let listener: Listener
  private let queues: IOQueues
  private let connections = ConnectionRegistry<BeatsConnection>()

  /// - Parameters:
  ///   - descriptor: How the records are to be decoded; given to each batch.
  ///   - onOversized: Keeps the head of an event above the limit.
  public init(
    _ configuration: BeatsConfiguration, queues: IOQueues, sink: any RecordSink, descriptor: RecordDescriptor,
    budget: InFlightBudget, onOversized: @escaping OversizedHandler
  ) throws(ListenError) {
    self.configuration = configuration
    self.queues = queues
    let scratches = BeatsScratches(queues)
    let shared = BeatsShared(
      configuration: configuration, sink: sink, descriptor: descriptor, budget: budget, metrics: metrics,
      onOversized: onOversized)
    let connections = self.connections
    listener = try Listener(configuration.listener, queues: queues) { connection in
      let handler = BeatsConnection(
        connection, shared, scratches.all[connection.queue.index], whenClosed: { connections.remove($0) })
      connections.add(handler)
      return handler
    }
  }

  public var port: Int { listener.port }
  public var connectionCount: Int { connections.count }

  public func start() { listener.start() }

  /// Stops listening and reading, waits until whole windows are acknowledged, and closes. After `limit` it closes
  /// whatever is left without acknowledgement.
  ///
  /// - Parameter completion: Called once when no connection is left.
  public func stop(within limit: Duration, completion: @escaping @Sendable () -> Void) {
    connections.stop(listener, queues, within: limit, completion: completion)
  }
}

typealias BeatsShared = ServerShared<BeatsConfiguration>

/// One scratch per I/O queue.
final class BeatsScratches: @unchecked Sendable {  // unchecked: each is used on its own queue alone
  let all: [BeatsScratch]
  init(_ queues: IOQueues) { all = queues.all.map { _ in BeatsScratch() } }
}
