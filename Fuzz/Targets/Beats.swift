//  The Lumberjack parser: however the bytes of a connection are cut into pieces, the same records come out in the same
//  windows. Where the protocol is broken it breaks either way, and what came out until then differs at most in length: a
//  broken compressed frame gives a part of its content if it comes in pieces, and nothing if it comes at once.

import Codecs
import Diagnostics
import Records

@testable import Inputs

private struct Reading: Equatable {
  var events: [[UInt8]] = []
  var steps: [String] = []
  var fault: BeatsFault?
}

@Sendable func fuzzBeats(_ bytes: UnsafeRawBufferPointer) {
  guard let seed = bytes.first else { return }
  let session = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
  let whole = read(session) { _ in session.count }
  var state = UInt32(seed) | 0x100
  let pieces = read(session) { _ in
    state = state &* 1_664_525 &+ 1_013_904_223
    return 1 + Int(state >> 24) % (1 + Int(seed))
  }
  // ISA-L forgets that a stream wants a dictionary when the stream's head comes in pieces, and goes on without.
  if whole.fault?.reason == InflateError.needsDictionary.description { return }
  let isSame =
    whole.fault == nil
    ? whole == pieces
    : pieces.fault != nil && pieces.events.starts(with: whole.events.prefix(pieces.events.count))
      && pieces.steps.starts(with: whole.steps.prefix(pieces.steps.count))
  if !isSame { finding("cut into pieces it is read otherwise: \(whole) \(pieces)") }
}

private func read(_ session: UnsafeRawBufferPointer, _ pieceCount: (Int) -> Int) -> Reading {
  var limits = BeatsLimits()
  limits.windowEvents = 1000
  limits.compressedBytes = 1 << 20
  limits.inflatedBytes = 1 << 20
  limits.eventBytes = 4096
  limits.valueBytes = 4096
  limits.keyBytes = 1024
  limits.partBytes = 64 << 10
  limits.oversizedHeadBytes = 128
  var parser = BeatsParser(limits: limits, scratch: BeatsScratch()) {
    RecordBatch(descriptor: RecordDescriptor([]), context: nil, arrivalNs: 0)
  }
  var reading = Reading()
  var held: [UInt8] = []
  var position = 0
  func take() {
    if let batch = parser.takeBatch() {
      for i in 0..<batch.count { reading.events.append(batch.withPayload(i) { Array($0) }) }
    }
    for (head, size) in parser.takeOversized() { reading.events.append(head + Array("\(size)".utf8)) }
  }
  do throws(BeatsFault) {
    // Asked once more at the end, as a connection does that goes on after it was held: the rest may need no bytes.
    var isOver = false
    while !isOver {
      isOver = position == session.count
      let count = min(max(1, pieceCount(position)), session.count - position)
      held += session[position..<position + count]
      position += count
      while true {
        let copy = held
        let step = copy.withUnsafeBytes { bytes -> Result<(used: Int, outcome: BeatsParser.Outcome), BeatsFault> in
          do throws(BeatsFault) { return .success(try parser.parse(bytes)) } catch { return .failure(error) }
        }
        let (used, outcome) = try step.get()
        held.removeFirst(used)
        if outcome == .more { break }
        if outcome != .part { reading.steps.append("\(outcome) \(parser.sequence)") }
        take()
      }
    }
  } catch {
    reading.fault = error
  }
  take()
  parser.abandon()
  return reading
}
