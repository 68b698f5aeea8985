//  Names and addresses of hosts files: an address and its names a line. Names count with their case, and of several lines
//  the first.

internal import Diagnostics

struct HostsTable: Sendable {
  private(set) var addresses: [[UInt8]: [UInt8]] = [:]
  private(set) var names: [IPAddress: [UInt8]] = [:]

  mutating func read(_ text: [UInt8]) {
    for line in text.split(separator: 10) {
      let words = line.prefix { $0 != UInt8(ascii: "#") }.split(whereSeparator: isSpace)
      guard words.count > 1 else { continue }
      guard let address = words[0].withUnsafeBytes({ IPAddress($0) }) else { continue }
      for name in words.dropFirst() where addresses[Array(name)] == nil { addresses[Array(name)] = Array(words[0]) }
      if names[address] == nil { names[address] = Array(words[1]) }
    }
  }

  var isEmpty: Bool { addresses.isEmpty }
}
