//  Dates: patterns are compiled or refused at one of their characters, any text is parsed or not, and a time that was
//  parsed is written in ISO 8601 so that reading gives it again. Three lines: Joda's pattern, Java's pattern, the text.

import Diagnostics
import Events

@Sendable func fuzzDate(_ bytes: UnsafeRawBufferPointer) {
  guard bytes.count <= 1024 else { return }
  let lines = bytes.split(separator: 10, maxSplits: 2, omittingEmptySubsequences: false)
  let pattern = String(decoding: lines[0], as: UTF8.self)
  let text = lines.count > 2 ? UnsafeRawBufferPointer(rebasing: lines[2]) : UnsafeRawBufferPointer(start: nil, count: 0)
  let now = Timestamp(ns: 1_772_000_000_000_000_000)
  var times: [Timestamp] = []
  do {
    let parser = try DateParser(formats: [pattern], zone: nil, locale: nil, now: now)
    if let time = parser.parse(text, now: now) { times.append(time) }
  } catch {
    if error.cause.character < 0 || error.cause.character > pattern.unicodeScalars.count + 1 {
      finding("no place in the pattern: \(error)")
    }
  }
  if let time = Timestamp(arriving: text) { times.append(time) }
  let format = lines.count > 1 ? try? JavaTimeFormat(String(decoding: lines[1], as: UTF8.self)) : nil
  for time in times {
    var written = ByteBuffer()
    format?.append(time, to: &written)
    written.removeAll()
    time.appendISO8601(to: &written)
    // Years beyond four digits have a sign that arriving times may lack.
    guard written.count <= 30, let again = Timestamp(arriving: written.bytes) else { continue }
    // Written are milliseconds, or more digits where there are more.
    if again.seconds != time.seconds {
      finding(
        "\(time.seconds) is written as \(String(decoding: written.bytes, as: UTF8.self)), read as \(again.seconds)")
    }
  }
}
