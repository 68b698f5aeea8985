//  One row of comma-separated values, as RFC 4180 and Ruby read it: fields may stand in quotes, a quote within is
//  doubled, and what follows the first line end outside of quotes is not looked at.

internal import Events
internal import Glibc

/// Cuts rows into cells. One worker owns it; a row allocates nothing once the longest has been seen.
struct CSVRow {
  /// The value of one column, as a place in the text.
  struct Cell {
    var start: Int
    var end: Int
    var isQuoted: Bool
    /// There are doubled quotes within.
    var isEscaped: Bool
    /// Nothing between two separators.
    var isNull: Bool { start == end && !isQuoted }
  }

  /// A row of more columns counts as malformed.
  static let columnLimit = 10_000

  private(set) var cells: [Cell] = []
  /// Where the row ended: at its line end, or at the end of the text.
  private(set) var end = 0
  private let separator: [UInt8]
  private let quote: [UInt8]
  /// Bytes at which a separator, a quote or a line end may begin.
  private let stops: [Bool]

  /// - Parameters:
  ///   - separator: Not empty.
  ///   - quote: One character; empty where quoting is off.
  init(separator: [UInt8], quote: [UInt8]) {
    self.separator = separator
    self.quote = quote
    var stops = [Bool](repeating: false, count: 256)
    for byte in [10, 13] + separator.prefix(1) + quote.prefix(1) { stops[Int(byte)] = true }
    self.stops = stops
  }

  /// Reads the first row of `text` into `cells`.
  ///
  /// - Returns: False where the text is malformed.
  mutating func read(_ text: UnsafeRawBufferPointer) -> Bool {
    cells.removeAll(keepingCapacity: true)
    end = 0
    if text.count > 0, text[0] == 10 || text[0] == 13 { return true }
    return separator.withUnsafeBytes { separator in
      quote.withUnsafeBytes { quote in
        stops.withUnsafeBufferPointer { stops in
          guard let end = read(text, separator, quote, stops, into: &cells) else { return false }
          self.end = end
          return true
        }
      }
    }
  }

  private func read(
    _ text: UnsafeRawBufferPointer, _ separator: UnsafeRawBufferPointer, _ quote: UnsafeRawBufferPointer,
    _ stops: UnsafeBufferPointer<Bool>, into cells: inout [Cell]
  ) -> Int? {
    var i = 0
    while cells.count < CSVRow.columnLimit {
      if quote.count > 0, begins(text, i, quote) {
        guard let cell = quoted(text, &i, quote) else { return nil }
        cells.append(cell)
      } else {
        let start = i
        while i < text.count {
          guard stops[Int(text[i])] else {
            i &+= 1
            continue
          }
          if begins(text, i, separator) || text[i] == 10 || text[i] == 13 { break }
          if quote.count > 0, begins(text, i, quote) { return nil }
          i &+= 1
        }
        cells.append(Cell(start: start, end: i, isQuoted: false, isEscaped: false))
      }
      if i == text.count || text[i] == 10 || text[i] == 13 { return i }
      // Behind a quoted field anything but a separator or a line end is a fault.
      guard begins(text, i, separator) else { return nil }
      i &+= separator.count
    }
    return nil
  }

  private func quoted(_ text: UnsafeRawBufferPointer, _ i: inout Int, _ quote: UnsafeRawBufferPointer) -> Cell? {
    let start = i &+ quote.count
    var isEscaped = false
    i = start
    while let hit = find(quote, in: text, from: i) {
      i = hit &+ quote.count
      guard begins(text, i, quote) else { return Cell(start: start, end: hit, isQuoted: true, isEscaped: isEscaped) }
      isEscaped = true
      i &+= quote.count
    }
    return nil
  }

  @inline(__always)
  private func begins(_ text: UnsafeRawBufferPointer, _ i: Int, _ part: UnsafeRawBufferPointer) -> Bool {
    guard text.count &- i >= part.count, text[i] == part[0] else { return false }
    return part.count == 1 || equal(text.slice(i, i &+ part.count), part)
  }

  /// The value of a cell that is not null.
  func bits(_ cell: Cell, of text: UnsafeRawBufferPointer, isClean: Bool, _ event: Event) -> ValueBits {
    let inner = text.slice(cell.start, cell.end)
    guard cell.isEscaped else { return .text(staying: inner, isClean: isClean) }
    let out = event.allocate(inner.count)
    var n = 0
    var i = 0
    quote.withUnsafeBytes { quote in
      while i < inner.count {
        // The first of two quotes is left out.
        if begins(inner, i, quote) {
          i += quote.count
          for j in 0..<quote.count { out[n + j] = quote[j] }
          n += quote.count
          i += quote.count
        } else {
          out[n] = inner[i]
          n += 1
          i += 1
        }
      }
    }
    return .text(staying: UnsafeRawBufferPointer(start: out, count: n))
  }
}
