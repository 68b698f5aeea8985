//  The figures of a `metrics` filter, shared by the workers of its pipeline.
//
//  A worker collects what a batch adds and takes the lock once. Names are few and bounded, so one lock serves all. Rates
//  are moving averages that the timer brings on every five seconds. A timer keeps a sample of its values in which newer
//  ones are likelier to stay: each draws a priority that grows with time, and the largest priorities are kept.

internal import Diagnostics
internal import Events
internal import Glibc
internal import PluginKit

/// One event's step in one figure.
struct MetricsUpdate {
  var hash: UInt64
  /// Where the name stands in the batch's names.
  var start: Int
  var end: Int
  /// Nil for a meter.
  var value: Double?
}

/// Any thread.
final class MetricsFigures: TimedState {
  static let namesMax = 10_000
  private static let tickSeconds = 5
  private static let message = FieldReference.known("message")
  private static let hostName = Template(machineName())

  private struct State {
    var figures: [MetricsFigure] = []
    var places: [UInt64: Int] = [:]
    var secondsSinceFlush = 0
    var secondsSinceClear = 0
    var leftOut = 0
  }
  private let state = Lock(State())
  private let flushInterval: Int
  private let clearInterval: Int
  private let rates: [Int]
  private let percentiles: [Double]

  init(_ settings: Metrics.Settings) {
    flushInterval = settings.flushInterval
    clearInterval = settings.clearInterval
    rates = settings.rates
    percentiles = settings.percentiles
  }

  func add(_ updates: [MetricsUpdate], _ names: UnsafeRawBufferPointer, now: Instant = .now) {
    state.withLock { state in
      for update in updates {
        let name = names.slice(update.start, update.end)
        guard let place = MetricsFigures.place(of: update, name, &state) else {
          state.leftOut += 1
          continue
        }
        state.figures[place].add(update.value, now)
      }
    }
  }

  private static func place(of update: MetricsUpdate, _ name: UnsafeRawBufferPointer, _ state: inout State) -> Int? {
    var hash = update.hash
    while let place = state.places[hash] {
      let figure = state.figures[place]
      if figure.isTimer == (update.value != nil), figure.name.elementsEqual(name) { return place }
      hash = hash &+ 1
    }
    guard state.figures.count < namesMax else { return nil }
    state.places[hash] = state.figures.count
    state.figures.append(MetricsFigure(name: Array(name), isTimer: update.value != nil))
    return state.figures.count - 1
  }

  func flush(_ batch: FlushBatch, isFinal: Bool) {
    // The end of a run is no interval.
    if isFinal { return }
    let leftOut = state.withLock { state in
      for figure in state.figures { figure.tick(seconds: MetricsFigures.tickSeconds) }
      state.secondsSinceFlush += MetricsFigures.tickSeconds
      state.secondsSinceClear += MetricsFigures.tickSeconds
      if state.secondsSinceFlush >= flushInterval {
        state.secondsSinceFlush = 0
        if !state.figures.isEmpty { write(state.figures, batch) }
      }
      if clearInterval > 0, state.secondsSinceClear >= clearInterval {
        state.secondsSinceClear = 0
        state.figures.removeAll()
        state.places.removeAll()
      }
      defer { state.leftOut = 0 }
      return state.leftOut
    }
    if leftOut > 0 {
      Log.warn(
        "metrics.too-many-names", "A metrics filter has 10,000 names; further ones are left out.",
        ["events": .number(leftOut), "next": "Set 'clear_interval', or make names of fields with few values."])
    }
  }

  private func write(_ figures: [MetricsFigure], _ batch: FlushBatch) {
    let event = batch.makeEvent()
    _ = event.write(MetricsFigures.message, .text(staying: MetricsFigures.hostName.constantBytes))
    for figure in figures {
      let name = "[\(String(decoding: figure.name, as: UTF8.self))]"
      guard let reference = try? FieldReference(name, isTransient: true) else { continue }
      // A meter and a timer of one name share a map.
      let map = event.value(reference).flatMap { $0.isMap ? $0 : nil } ?? event.makeMap()
      figure.write(to: map, event, rates, percentiles)
      _ = event.write(reference, map.bits)
    }
    if !batch.success.isEmpty, !batch.success.apply(to: event) { event.addTag("_decoratefailure") }
  }
}

/// A meter or timer. Guarded by the lock of its figures.
final class MetricsFigure {
  static let sampleMax = 1028
  /// How much likelier a value is to stay than one a second older.
  private static let decay = 0.015

  let name: [UInt8]
  let isTimer: Bool
  private(set) var count: Int64 = 0
  private var uncounted: Int64 = 0
  private var averages: [Int: Double] = [:]
  private var smallest = Double.infinity
  private var largest = -Double.infinity
  private var mean = 0.0
  private var squares = 0.0
  /// A heap by priority, the smallest in front.
  private var sample: [(priority: Double, value: Double)] = []
  private let start = Instant.now

  init(name: [UInt8], isTimer: Bool) {
    self.name = name
    self.isTimer = isTimer
  }

  func add(_ value: Double?, _ now: Instant) {
    count += 1
    uncounted += 1
    guard let value else { return }
    smallest = min(smallest, value)
    largest = max(largest, value)
    let difference = value - mean
    mean += difference / Double(count)
    squares += difference * (value - mean)
    let age = Double((now - start).ns) / 1e9
    // The logarithm of exp(decay * age) / random: it orders alike and never overflows.
    insert(MetricsFigure.decay * age - log(Double.random(in: Double.leastNonzeroMagnitude..<1)), value)
  }

  private func insert(_ priority: Double, _ value: Double) {
    if sample.count < MetricsFigure.sampleMax {
      sample.append((priority, value))
      var i = sample.count - 1
      while i > 0, sample[(i - 1) / 2].priority > sample[i].priority {
        sample.swapAt(i, (i - 1) / 2)
        i = (i - 1) / 2
      }
      return
    }
    guard priority > sample[0].priority else { return }
    sample[0] = (priority, value)
    var i = 0
    while true {
      var least = i
      for child in [2 * i + 1, 2 * i + 2] where child < sample.count && sample[child].priority < sample[least].priority
      {
        least = child
      }
      if least == i { return }
      sample.swapAt(i, least)
      i = least
    }
  }

  /// Brings the rates on by one interval.
  func tick(seconds: Int) {
    let rate = Double(uncounted) / Double(seconds)
    uncounted = 0
    for minutes in [1, 5, 15] {
      let weight = 1 - exp(-Double(seconds) / 60 / Double(minutes))
      averages[minutes] = averages[minutes].map { $0 + weight * (rate - $0) } ?? rate
    }
  }

  func write(to map: Value, _ event: Event, _ rates: [Int], _ percentiles: [Double]) {
    func set(_ name: String, _ bits: ValueBits) { Array(name.utf8).withUnsafeBytes { map.set(name: $0, bits) } }
    set("count", .integer(count))
    for minutes in rates { set("rate_\(minutes)m", .double(averages[minutes] ?? 0)) }
    guard isTimer else { return }
    set("min", .double(smallest))
    set("max", .double(largest))
    set("stddev", .double(count > 1 ? (squares / Double(count - 1)).squareRoot() : 0))
    set("mean", .double(mean))
    let sorted = sample.map(\.value).sorted()
    for percentile in percentiles {
      let name = Int(exactly: percentile).map { "p\($0)" } ?? "p\(percentile)"
      set(name, .double(MetricsFigure.percentile(percentile, of: sorted)))
    }
  }

  /// The value at a share of the sorted ones, between two of them in proportion.
  static func percentile(_ percentile: Double, of sorted: [Double]) -> Double {
    guard let first = sorted.first, let last = sorted.last else { return 0 }
    let position = percentile / 100 * Double(sorted.count + 1)
    if position < 1 { return first }
    if position >= Double(sorted.count) { return last }
    let below = Int(position)
    return sorted[below - 1] + (position - Double(below)) * (sorted[below] - sorted[below - 1])
  }
}
