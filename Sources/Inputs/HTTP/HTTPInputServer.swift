//  The `http` input's engine: a request's body becomes a batch, and its answer waits until the queue has kept it.
//
//  A JSON body is checked and cut as a whole and refused as a whole; any other body goes by its codec's cutting. What
//  refuses a request is decided as early as it is known: method, credentials, encoding, length and overload before the
//  body is read.

internal import Diagnostics
public import Net
public import Records

/// How a body becomes records.
public enum BodyCutting: Sendable, Equatable {
  /// One record, however long, also of an empty body.
  case whole
  /// One up to each of these delimiters (not empty); a rest without one is a record too.
  case delimited([UInt8])
  /// Objects, alone, by lines, glued together, or in arrays.
  case json

  /// One a line, without its line feed.
  public static let lines = BodyCutting.delimited([10])
}

public struct BodyRule: Sendable {
  public var cutting: BodyCutting
  public var descriptor: RecordDescriptor
  /// For the events of a JSON body that holds several; nil where those are decoded as one is.
  public var several: RecordDescriptor?
  /// Joins the lines of a body that is text.
  var multiline: LineJoining?

  public init(_ cutting: BodyCutting, _ descriptor: RecordDescriptor) {
    self.cutting = cutting
    self.descriptor = descriptor
  }
}

/// The options of the `http` input that the engine needs; initial values are the defaults.
public struct HTTPInputConfiguration: Sendable {
  public enum ParseFailure: String, Sendable, CaseIterable {
    /// 400, and nothing is kept.
    case refuse
    /// 200, and the whole body is one record, which decoding will tag.
    case tag
  }

  public var listener: ListenerConfiguration
  public var limits = HTTPLimits()
  /// Basic credentials; both or none.
  public var user: String?
  public var password: String?
  public var responseCode = 200
  public var responseHeaders: [(name: String, value: String)] = []
  public var onParseFailure = ParseFailure.refuse
  /// JSON types that have no rule of their own are read as JSON.
  public var readsJSONTypes = true
  /// Requests that may wait for the queue at a time.
  public var maxPendingRequests = 200
  /// A request that waits longer than this is answered 429, and so are new ones as long as that lasts.
  public var blockedAfter = Duration.seconds(10)
  public var retryAfter = Duration.seconds(10)
  public var eventBytes = 64 << 20
  public var jsonDepth = 512
  /// Part of a body that is read whatever the common budget says.
  public var freeBodyBytes = 1 << 20

  public init(host: String = "0.0.0.0", port: Int) { listener = ListenerConfiguration(host: host, port: port) }
}

/// A listening HTTP input. `init` binds; `start` takes connections.
public final class HTTPInputServer: Sendable {
  public let configuration: HTTPInputConfiguration
  public let listener: Listener
  public var metrics: InputMetrics { service.metrics }
  private let queues: IOQueues
  private let service: HTTPInputService

  /// - Parameters:
  ///   - json: For JSON types and NDJSON without a rule of their own.
  ///   - other: For every other content type.
  ///   - rules: Content types (without parameters, in lower case) with a rule of their own.
  public init(
    _ configuration: HTTPInputConfiguration, queues: IOQueues, sink: any RecordSink, json: BodyRule,
    other: BodyRule, rules: [String: BodyRule] = [:], budget: InFlightBudget
  ) throws(ListenError) {
    self.configuration = configuration
    self.queues = queues
    var cutter = BodyCutter(json: json, other: other, rules: rules)
    cutter.readsJSONTypes = configuration.readsJSONTypes
    cutter.tagsFaults = configuration.onParseFailure == .tag
    cutter.eventBytes = configuration.eventBytes
    cutter.jsonDepth = configuration.jsonDepth
    let service = HTTPInputService(configuration, sink: sink, cutter: cutter, budget: budget, queue: queues.all[0])
    self.service = service
    let limits = configuration.limits
    listener = try Listener(configuration.listener, queues: queues) { connection in
      let handler = HTTPServerConnection(connection, service: service, limits: limits)
      service.connections.add(handler)
      return handler
    }
  }

  public var port: Int { listener.port }
  public var connectionCount: Int { service.connections.count }

  public func start() { listener.start() }

  /// Stops listening; requests that are whole are still answered, for at most `limit`. New ones get 503.
  ///
  /// - Parameter completion: Called once when no connection is left.
  public func stop(within limit: Duration, completion: @escaping @Sendable () -> Void) {
    service.refuseNew()
    service.connections.stop(
      listener, queues, within: limit, beforeAbort: { [service] in service.giveUp() }, completion: completion)
  }
}
