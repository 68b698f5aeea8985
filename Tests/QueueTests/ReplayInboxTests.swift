//  Requests that commands leave for the daemon, on a disk that crashes at any call.

import Diagnostics
import Glibc
import Queue
import TestSupport
import Testing

@Suite struct ReplayInboxTests {
  @Test func `an inbox that is not there is empty, and one that cannot be read says so`() throws {
    let folder = Folder()
    #expect(try ReplayInbox(of: folder.path).names() == [])
    let inbox = ReplayInbox(of: folder.path)
    defer {
      unlink(inbox.folder)
      unlink(inbox.folder + ".moved/a.request")
      rmdir(inbox.folder + ".moved")
    }
    try inbox.hand([1], name: "a")
    #expect(try inbox.names() == ["a"])
    #expect(rename(inbox.folder, inbox.folder + ".moved") == 0)
    close(open(inbox.folder, O_CREAT | O_WRONLY, 0o600))
    #expect(throws: SystemError.self) { try inbox.names() }
  }

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

  @Test(arguments: [FaultyFileSystem.Fault.error(EIO), .error(ENOSPC), .short])
  func `a call that fails is told, and what was taken is there as a whole`(kind: FaultyFileSystem.Fault) throws {
    for site in 1...40 {
      let disk = FaultyFileSystem(seed: 9)
      disk.fault = (site, kind)
      let inbox = ReplayInbox(of: "/d", fileSystem: disk)
      var made: [String: [UInt8]] = [:]
      var promised: Set<String> = []
      for n in 0..<4 {
        let request = [UInt8](repeating: UInt8(n), count: 1000)
        made["\(n)"] = request
        if (try? inbox.hand(request, name: "\(n)")) != nil { promised.insert("\(n)") }
      }
      disk.fault = nil
      disk.restart(.powerLoss)
      let names = try inbox.names()
      #expect(promised.isSubset(of: names), "\(kind) at call \(site) (\(disk.faultyCalls))")
      #expect(promised.count >= 3)
      for name in names { #expect(try inbox.read(name) == made[name], "\(kind) at call \(site): \(name) is torn") }
    }
  }
}
