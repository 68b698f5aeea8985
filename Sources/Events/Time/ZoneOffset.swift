//  Offsets from UTC as ISO 8601 writes them.

enum ZoneOffset {
  /// Reads `+hh`, `+hhmm`, `+hh:mm`, `+hhmmss` or `+hh:mm:ss` up to `limit` seconds.
  ///
  /// - Returns: Seconds east of UTC, or nil where the bytes are anything else.
  static func read(_ p: UnsafeRawPointer, _ count: Int, limit: Int = 18 * 3600) -> Int? {
    guard count >= 3, count <= 9 else { return nil }
    let sign = byte(p, 0)
    guard sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") else { return nil }
    var flaw = 0
    var seconds = pair(p, 1, &flaw) &* 3600
    switch count {
    case 3: break
    case 5, 7:
      let minutes = pair(p, 3, &flaw)
      let rest = count == 7 ? pair(p, 5, &flaw) : 0
      flaw |= (59 &- minutes) | (59 &- rest)
      seconds &+= minutes &* 60 &+ rest
    case 6, 9:
      let minutes = pair(p, 4, &flaw)
      let rest = count == 9 ? pair(p, 7, &flaw) : 0
      flaw |= (59 &- minutes) | (59 &- rest)
      guard byte(p, 3) == UInt8(ascii: ":"), count == 6 || byte(p, 6) == UInt8(ascii: ":") else { return nil }
      seconds &+= minutes &* 60 &+ rest
    default: return nil
    }
    guard flaw >= 0, seconds <= limit else { return nil }
    return sign == UInt8(ascii: "+") ? seconds : -seconds
  }

  /// As `read`, and a single digit for the hour, as behind `GMT`.
  static func readShort(_ p: UnsafeRawPointer, _ count: Int) -> Int? {
    if count == 2, byte(p, 1) &- 48 <= 9 {
      let seconds = Int(byte(p, 1) &- 48) &* 3600
      if byte(p, 0) == UInt8(ascii: "+") { return seconds }
      if byte(p, 0) == UInt8(ascii: "-") { return -seconds }
    }
    return read(p, count)
  }
}
