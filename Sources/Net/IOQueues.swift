//  The threads of all networking: a fixed set of serial Dispatch queues, one per core.
//
//  Design. A connection belongs to one queue for its whole life, and everything of it happens there: reads, writes,
//  deadlines, callbacks. So a connection needs no lock, and a queue's big buffers serve all of its connections in turn;
//  an idle connection holds little more than its object. Work that comes from elsewhere (a queue's completion, an HTTP
//  answer) is handed over with `async`. Nothing on a queue ever waits.
//
//  Deadlines. One timer per queue and a wheel of 512 slots of 100 ms. A slot holds connection numbers; a check that
//  comes too early (the deadline moved on, which is the usual case) only puts the number into a later slot. So moving a
//  deadline costs a store, and ten thousand idle connections cost one look each per minute.

package import Diagnostics
@preconcurrency public import Dispatch
internal import Glibc
internal import Synchronization

/// The fixed set of queues. One object for the whole process.
public final class IOQueues: Sendable {
  public let all: [IOQueue]

  /// - Parameter count: Number of queues; nil for one per online core, at most 64.
  public convenience init(count: Int? = nil) { self.init(count: count, quietSince: .now) }

  /// - Parameter quietSince: When the queues last had a deadline to look at; earlier than now for tests.
  package init(count: Int?, quietSince: Instant) {
    let cores = max(1, Int(sysconf(CInt(_SC_NPROCESSORS_ONLN))))
    all = (0..<min(64, max(1, count ?? cores))).map { IOQueue(index: $0, quietSince: quietSince) }
  }

  public var count: Int { all.count }

  /// Runs `body` once on every queue, and `completion` behind the last of them. Any thread.
  public func onEach(_ body: @escaping @Sendable (IOQueue) -> Void, completion: @escaping @Sendable () -> Void) {
    let left = Gauge(all.count)
    for queue in all {
      queue.async {
        body(queue)
        if left.add(-1) == 0 { completion() }
      }
    }
  }

  /// The queue with the fewest connections.
  public func leastLoaded() -> IOQueue {
    var best = all[0]
    for queue in all.dropFirst() where queue.load < best.load { best = queue }
    return best
  }
}

/// One serial queue and what its connections share. Confined to itself, except for `async` and `load`.
public final class IOQueue: @unchecked Sendable {  // unchecked: all state is reached on `dispatch` alone
  public let index: Int
  public let dispatch: DispatchQueue

  /// Bytes of a connection that its handler left unconsumed stand in front of what one read brings.
  static let restCapacity = 64 << 10
  static let readCapacity = 256 << 10
  let readBuffer: UnsafeMutableRawPointer
  /// Where TLS connections read ciphertext; made by the first of them.
  private var cipherBufferStore: UnsafeMutableRawPointer?

  private var connections: [Int: Connection] = [:]
  private var nextNumber = 1
  private let loadCount = Atomic<Int>(0)

  static let slotNs: Int64 = 100_000_000
  static let slotCount: Int64 = 512
  private var slots: [[Int]] = Array(repeating: [], count: Int(IOQueue.slotCount))
  private var checkedTick: Int64
  private var armedTick: Int64 = .max
  private let timer: any DispatchSourceTimer

  init(index: Int, quietSince: Instant) {
    self.index = index
    dispatch = DispatchQueue(label: "sluice.io.\(index)")
    readBuffer = .allocate(byteCount: IOQueue.restCapacity + IOQueue.readCapacity, alignment: 64)
    checkedTick = quietSince.ns / IOQueue.slotNs
    timer = DispatchSource.makeTimerSource(queue: dispatch)
    timer.schedule(deadline: .distantFuture)
    timer.setEventHandler { [weak self] in self?.timerFired() }
    timer.activate()
  }

  deinit {
    timer.cancel()
    readBuffer.deallocate()
    cipherBufferStore?.deallocate()
  }

  /// Connections that this queue serves now, for the choice of a queue; any thread.
  public var load: Int { loadCount.load(ordering: .relaxed) }

  /// Runs `body` on this queue, later. Any thread.
  public func async(_ body: @escaping @Sendable () -> Void) { dispatch.async(execute: body) }

  /// Runs `body` on this queue after `wait`. Any thread.
  public func async(after wait: Duration, _ body: @escaping @Sendable () -> Void) {
    dispatch.asyncAfter(deadline: .now() + .nanoseconds(Int(clamping: max(0, wait.ns))), execute: body)
  }

  var cipherBuffer: UnsafeMutableRawPointer {
    if let buffer = cipherBufferStore { return buffer }
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: IOQueue.readCapacity, alignment: 64)
    cipherBufferStore = buffer
    return buffer
  }

  // MARK: Members

  /// Counts a connection before it starts, so that the choice of queues sees it at once; any thread.
  func reserve() { loadCount.wrappingAdd(1, ordering: .relaxed) }

  func add(_ connection: Connection) -> Int {
    let number = nextNumber
    nextNumber &+= 1
    connections[number] = connection
    return number
  }

  func remove(_ number: Int) {
    if connections.removeValue(forKey: number) != nil { loadCount.wrappingSubtract(1, ordering: .relaxed) }
  }

  // MARK: Deadlines

  /// Sees to it that `connection` is looked at once `deadline` has passed, up to 200 ms late.
  func check(_ connection: Connection, by deadline: Instant) {
    let now = Instant.now.ns / IOQueue.slotNs
    let wanted = deadline.ns / IOQueue.slotNs &+ 1
    let tick = min(max(wanted, now &+ 1), now &+ IOQueue.slotCount &- 2)
    if connection.checkTick != 0, connection.checkTick <= tick { return }
    connection.checkTick = tick
    slots[Int(tick % IOQueue.slotCount)].append(connection.number)
    if tick < armedTick { arm(tick) }
  }

  private func arm(_ tick: Int64) {
    armedTick = tick
    let wait = tick &* IOQueue.slotNs &- Instant.now.ns
    timer.schedule(deadline: .now() + .nanoseconds(Int(max(0, wait))), leeway: .milliseconds(20))
  }

  private func timerFired() {
    let now = Instant.now
    let last = now.ns / IOQueue.slotNs
    armedTick = .max
    let first = max(checkedTick &+ 1, last &- IOQueue.slotCount &+ 1)
    checkedTick = max(checkedTick, last)
    if first <= last {
      for tick in first...last {
        let slot = Int(tick % IOQueue.slotCount)
        if slots[slot].isEmpty { continue }
        let numbers = slots[slot]
        slots[slot] = []
        for number in numbers {
          guard let connection = connections[number] else { continue }
          if connection.checkTick == tick {
            connection.checkTick = 0
            connection.checkDeadlines(now)
          } else if connection.checkTick > last, Int(connection.checkTick % IOQueue.slotCount) == slot {
            // After a long quiet the slots behind and those to come are the same ones.
            slots[slot].append(number)
          }
        }
      }
    }
    for distance in 1..<IOQueue.slotCount where !slots[Int((last &+ distance) % IOQueue.slotCount)].isEmpty {
      if last &+ distance < armedTick { arm(last &+ distance) }
      return
    }
  }
}
