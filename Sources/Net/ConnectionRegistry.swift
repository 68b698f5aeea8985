//  The open connections of one server, for its stop: who they are, and when the last has gone.

internal import Diagnostics

/// A connection that its server can end. Both calls come on its queue.
public protocol StoppableConnection: AnyObject, Sendable {
  var queue: IOQueue { get }
  /// Reads no more; finishes what it has begun, and closes.
  func stop()
  /// Closes as it is.
  func abort()
}

/// Members are added and removed on their own queues and looked at from any thread.
public final class ConnectionRegistry<Member: StoppableConnection>: Sendable {
  private struct State {
    var members: [ObjectIdentifier: Member] = [:]
    var whenEmpty: [@Sendable () -> Void] = []
  }
  private let state = Lock(State())

  public init() {}

  public var count: Int { state.withLock { $0.members.count } }
  public var all: [Member] { state.withLock { Array($0.members.values) } }

  public func add(_ member: Member) { state.withLock { $0.members[ObjectIdentifier(member)] = member } }

  public func remove(_ member: Member) {
    let waiting = state.withLock { state -> [@Sendable () -> Void] in
      state.members[ObjectIdentifier(member)] = nil
      guard state.members.isEmpty else { return [] }
      let waiting = state.whenEmpty
      state.whenEmpty = []
      return waiting
    }
    for body in waiting { body() }
  }

  /// Calls `body` once, as soon as there is no member; at once if there is none.
  public func whenEmpty(_ body: @escaping @Sendable () -> Void) {
    let isEmpty = state.withLock { state -> Bool in
      if state.members.isEmpty { return true }
      state.whenEmpty.append(body)
      return false
    }
    if isEmpty { body() }
  }

  /// Stops listening and then every member, and aborts after `limit` those that are left.
  ///
  /// - Parameters:
  ///   - beforeAbort: Called once the limit has passed, with what can still be answered in mind.
  ///   - completion: Called once when no member is left.
  public func stop(
    _ listener: Listener, _ queues: IOQueues, within limit: Duration, beforeAbort: @escaping @Sendable () -> Void = {},
    completion: @escaping @Sendable () -> Void
  ) {
    listener.stop { [self] in
      // A connection taken a moment ago stands on its queue in front of this.
      queues.onEach { [self] queue in
        for one in all where one.queue === queue { one.stop() }
      } completion: { [self] in
        whenEmpty(completion)
        queues.all[0].async(after: limit) { [self] in
          beforeAbort()
          for one in all { one.queue.async { one.abort() } }
        }
      }
    }
  }
}
