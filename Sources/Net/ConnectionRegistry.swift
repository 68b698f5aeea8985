//  The open connections of one server, for its stop: who they are, and when the last has gone.

internal import Diagnostics

/// Members are added and removed on their own queues and looked at from any thread.
public final class ConnectionRegistry<Member: AnyObject & Sendable>: Sendable {
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
}
