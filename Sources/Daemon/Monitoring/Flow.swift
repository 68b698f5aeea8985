//  Rates of what is counted, over windows from ten seconds to a day.
//
//  Every five seconds the counters of a pipeline are noted. A rate is what a counter grew by since the note at the
//  window's beginning, by what its measure grew by (time, or another counter). Old notes are thinned out, so that a day
//  of them stays below two hundred. Nothing of this is on the way of events.

internal import Diagnostics
internal import Glibc
internal import Pipeline
internal import PluginKit
internal import Queue

/// The counters of one pipeline or of the node, noted now and then.
final class FlowRecorder: Sendable {
  struct Note: Sendable {
    let at: Instant
    let values: [Int]
  }

  /// A window and how far apart notes of its age need to be.
  private static let windows: [(name: String, length: Duration, step: Duration)] = [
    ("current", .seconds(10), .seconds(1)), ("last_1_minute", .seconds(60), .seconds(3)),
    ("last_5_minutes", .seconds(300), .seconds(15)), ("last_15_minutes", .seconds(900), .seconds(30)),
    ("last_1_hour", .seconds(3600), .seconds(60)), ("last_24_hours", .seconds(86_400), .seconds(900)),
  ]

  private let notes = Lock<[Note]>([])

  /// Notes `values`; the first of them are those at the beginning.
  func add(_ values: [Int], at now: Instant = .now) {
    notes.withLock { notes in
      notes.append(Note(at: now, values: values))
      guard notes.count > 2 else { return }
      var kept = [notes[0]]
      for i in 1..<notes.count {
        let age = now - notes[i].at
        let isLast = i == notes.count - 1
        let next = isLast ? now : notes[i + 1].at
        guard let window = Self.windows.first(where: { age <= $0.length }) else {
          // The last one beyond all windows is where the longest of them begins.
          if now - next <= Self.windows[Self.windows.count - 1].length { kept.append(notes[i]) }
          continue
        }
        // A note goes where the one before and the one behind it are near enough to each other.
        if isLast || next - kept[kept.count - 1].at > window.step { kept.append(notes[i]) }
      }
      notes = kept
    }
  }

  var noteCount: Int { notes.withLock { $0.count } }

  /// The windows that have passed, each with the note at its beginning.
  func windows(until now: Instant) -> [(name: String, since: Note)] {
    notes.withLock { notes in
      guard let first = notes.first else { return [] }
      var result: [(String, Note)] = []
      for window in Self.windows {
        let begin = Instant(ns: now.ns - window.length.ns)
        if let note = notes.last(where: { $0.at <= begin }) {
          result.append((window.name, note))
        } else if window.name == "current" {
          result.append((window.name, first))
        }
      }
      return result + [("lifetime", first)]
    }
  }
}

/// What rates are worked out from: the counters now, and those at the beginnings of windows.
struct FlowView {
  let now: FlowRecorder.Note
  private let windows: [(name: String, since: FlowRecorder.Note)]

  init(_ recorder: FlowRecorder, _ values: [Int], at moment: Instant = .now) {
    now = FlowRecorder.Note(at: moment, values: values)
    windows = recorder.windows(until: moment)
  }

  /// What a counter grew by over a window.
  func growth(_ i: Int, since note: FlowRecorder.Note) -> Double {
    i < note.values.count ? Double(now.values[i] - note.values[i]) : 0
  }

  /// Seconds of a window.
  func seconds(since note: FlowRecorder.Note) -> Double { Double((now.at - note.at).ns) / 1e9 }

  /// The members of one rate: `"current":603.1,"lifetime":575.4`.
  func rates(_ numerator: (FlowRecorder.Note) -> Double, by denominator: (FlowRecorder.Note) -> Double) -> [(
    name: String, value: Double
  )] {
    windows.compactMap { name, note in
      let (part, whole) = (numerator(note), denominator(note))
      if whole > 0 { return (name, part / whole) }
      return part > 0 ? (name, .infinity) : nil
    }
  }

  /// Growth of a counter by the second.
  func perSecond(_ i: Int) -> [(name: String, value: Double)] {
    rates({ growth(i, since: $0) }, by: { seconds(since: $0) })
  }

  /// Growth of a counter of nanoseconds by time: how many did that at once, on the average.
  func concurrency(_ i: Int, scale: Double = 1) -> [(name: String, value: Double)] {
    rates({ scale * growth(i, since: $0) / 1e9 }, by: { seconds(since: $0) })
  }
}

extension JSONText {
  /// A rate over its windows.
  mutating func flow(_ name: String, _ rates: [(name: String, value: Double)]) {
    object(name) {
      for rate in rates {
        if rate.value.isInfinite {
          $0.member(rate.name, "Infinity")
        } else {
          $0.member(rate.name, number: significant(rate.value))
        }
      }
    }
  }
}

/// A number with at most four significant digits, as JSON: `603.1`, `0.0`, `6.029E-5`.
func significant(_ value: Double) -> String {
  guard value != 0, value.isFinite else { return "0.0" }
  let sign = value < 0 ? "-" : ""
  var exponent = Int(floor(log10(abs(value))))
  var digits = Int((abs(value) / pow(10, Double(exponent - 3))).rounded(.toNearestOrAwayFromZero))
  if digits >= 10_000 {
    exponent += 1
    digits = Int((abs(value) / pow(10, Double(exponent - 3))).rounded(.toNearestOrAwayFromZero))
  }
  if digits < 1000 {
    exponent -= 1
    digits = Int((abs(value) / pow(10, Double(exponent - 3))).rounded(.toNearestOrAwayFromZero))
  }
  var text = String(digits)
  if exponent >= 7 || exponent < -3 {
    while text.hasSuffix("0"), text.utf8.count > 2 { text.removeLast() }
    let rest = text.dropFirst()
    return "\(sign)\(text.prefix(1)).\(rest)E\(exponent)"
  }
  if exponent >= 3 { return sign + text + String(repeating: "0", count: exponent - 3) + ".0" }
  if exponent < 0 { text = String(repeating: "0", count: -exponent) + text }
  let whole = max(1, exponent + 1)
  var fraction = String(text.dropFirst(whole))
  while fraction.hasSuffix("0"), fraction.utf8.count > 1 { fraction.removeLast() }
  return "\(sign)\(text.prefix(whole)).\(fraction)"
}

// MARK: The counters of a pipeline

/// Places of the counters in a pipeline's notes; those of its plugins follow. The node's notes have the first five.
enum FlowPlace {
  static let taken = 0
  static let filtered = 1
  static let out = 2
  static let pushNs = 3
  static let workerNs = 4
  static let queueEvents = 5
  static let queueBytes = 6
  static let batches = 7
  static let batchEvents = 8
  static let batchBytes = 9
  static let plugins = 10
}

func flowValues(of totals: EventTotals) -> [Int] {
  [totals.taken, totals.filtered, totals.out, totals.pushNs, totals.workerNs]
}

/// The counters of a pipeline, then one of each input, and two of each filter and output: events in and nanoseconds.
func flowValues(of pipeline: RunningPipeline) -> [Int] {
  let runtime = pipeline.runtime
  let queue = runtime.queue.statistics
  var values = flowValues(of: pipeline.eventTotals)
  values += [
    queue.events, queue.bytes, runtime.batches.value, runtime.eventsIn.value, runtime.batchBytes.value,
  ]
  for input in pipeline.compiled.inputs { values.append(input.input.statistics.events) }
  for step in filterSteps(runtime.steps) {
    values += [step.statistics.eventsIn.value, step.statistics.durationNs.value]
  }
  for step in runtime.outputs { values += [step.statistics.eventsIn.value, step.statistics.durationNs.value] }
  return values
}
