//  The `tcp` input's engine: lines of a byte stream become records.
//
//  There is no acknowledgement, so what has been read can only be kept or lost: reading stops while the queue has no
//  room, and TCP holds the sender back. A connection always has one batch under way, whatever the others hold.

internal import Diagnostics
public import Net
public import Records

/// The options of the `tcp` input that the engine needs; initial values are the defaults.
public struct TCPLineConfiguration: Sendable {
  public var listener: ListenerConfiguration
  /// What ends a line; not empty.
  public var delimiter: [UInt8] = [10]
  /// The delimiter stays at the end of its line.
  public var keepsDelimiter = false
  /// A line may also be a frame that says its length, as syslog has them; only with a line feed as delimiter.
  public var takesOctetCounts = false
  /// What has no delimiter when the connection ends is no record; it is counted as lost.
  public var dropsRest = false
  /// Also drop a carriage return in front of the delimiter. Off, as in Logstash's `line` codec.
  public var dropsCarriageReturn = false
  /// Longer lines are read past and not kept.
  public var eventBytes = 64 << 20
  /// Payload bytes of one connection that may wait for the queue.
  public var inFlightBytes = 2 << 20
  /// For a Unix socket: what stands for the peer.
  var local: LocalOrigin?
  /// Joins lines; nil for one record a line.
  var multiline: LineJoining?
  /// The first line of every connection is a PROXY header, version 1.
  public var proxyProtocol = false
  /// A sender's name is looked up before its first line is read.
  public var looksUpNames = false
  /// How long a connection waits for that.
  public var nameTimeout = Duration.seconds(1)
  /// Silence after which a connection is closed; nil for never.
  public var idleTimeout: Duration?

  public init(host: String = "0.0.0.0", port: Int) { listener = ListenerConfiguration(host: host, port: port) }
}

/// A listening TCP input. `init` binds; `start` takes connections.
public final class TCPLineServer: Sendable {
  public let configuration: TCPLineConfiguration
  public let metrics = InputMetrics()
  public let listener: Listener
  private let queues: IOQueues
  private let connections = ConnectionRegistry<TCPLineConnection>()

  public init(
    _ configuration: TCPLineConfiguration, queues: IOQueues, sink: any RecordSink, descriptor: RecordDescriptor,
    budget: InFlightBudget, onOversized: @escaping OversizedHandler
  ) throws(ListenError) {
    self.configuration = configuration
    self.queues = queues
    let shared = TCPLineShared(
      configuration: configuration, sink: sink, descriptor: descriptor, budget: budget, metrics: metrics,
      onOversized: onOversized)
    let connections = self.connections
    listener = try Listener(configuration.listener, queues: queues) { connection in
      let handler = TCPLineConnection(connection, shared) { connections.remove($0) }
      connections.add(handler)
      return handler
    }
  }

  public var port: Int { listener.port }
  public var connectionCount: Int { connections.count }

  public func start() { listener.start() }

  /// Stops listening and reading; the rest of each unfinished line becomes a record whose context says so.
  ///
  /// - Parameter completion: Called once when all that was read is kept, or after `limit`.
  public func stop(within limit: Duration, completion: @escaping @Sendable () -> Void) {
    connections.stop(listener, queues, within: limit, completion: completion)
  }
}

typealias TCPLineShared = ServerShared<TCPLineConfiguration>
