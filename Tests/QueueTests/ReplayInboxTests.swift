//  Requests that commands leave for the daemon, on a disk that crashes at any call.

import Diagnostics
import Queue
import TestSupport
import Testing

@Suite struct ReplayInboxTests {
  @Test func `a request is there as a whole once it was handed over, through any crash`() throws {
    for seed in 1...200 {
      let disk = FaultyFileSystem(seed: UInt64(seed))
      var random = SeededRandom(UInt64(seed) &+ 3)
      let inbox = ReplayInbox(of: "/d", fileSystem: disk)
      var promised: [String: [UInt8]] = [:]
      var everMade: [String: [UInt8]] = [:]
      for life in 0..<3 {
        disk.shortWrites = 0.3
        disk.callsUntilCrash = 3 + random.below(25)
        while !disk.isStopped {
          let name = "\(life)-\(everMade.count)"
          let request = [UInt8](repeating: UInt8(everMade.count % 250), count: 1 + random.below(3000))
          everMade[name] = request
          if (try? inbox.hand(request, name: name)) != nil, !disk.isStopped { promised[name] = request }
        }
        disk.restart(random.chance(0.6) ? .powerLoss : .kill)
        disk.shortWrites = 0
        let names = try inbox.names()
        #expect(Set(promised.keys).isSubset(of: names), "seed \(seed)")
        for name in names { #expect(try inbox.read(name) == everMade[name], "seed \(seed): \(name) is torn") }
        // What was done stays away.
        if let first = names.first, promised[first] != nil {
          try inbox.remove(first)
          promised[first] = nil
          disk.restart(.powerLoss)
          #expect(try !inbox.names().contains(first))
        }
      }
    }
  }
}
