//  What an operator does to the daemon, and what it says.

import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct OperatorTests {
  private func pipeline(_ folder: TemporaryFolder, port: Int = 0) throws -> String {
    try folder.write(
      """
      pipeline: { id: small }
      inputs:
        - tcp: { port: \(port), codec: json_lines }
      outputs:
        - file: { path: '\(folder.path)/events.ndjson' }
      """, to: "small.yml")
  }

  @Test(arguments: [SIGTERM, SIGINT])
  func `a signal ends it in order, and HUP without a change does nothing`(signal: Int32) throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder, pipeline: pipeline(folder))
    kill(daemon.process.processIdentifier, SIGHUP)
    #expect(waitUntil { daemon.log.contains("[reload.unchanged]") })
    #expect(daemon.process.isRunning)
    #expect(daemon.stop(signal) == 0, "\(daemon.log)")
  }

  @Test func `signals that come right behind the start wait until the daemon takes them`() throws {
    let folder = TemporaryFolder()
    let file = try pipeline(folder)
    for round in 0..<6 {
      let daemon = try withoutBlocked { try RunningDaemon(in: folder, pipeline: file, waits: false) }
      let id = daemon.process.processIdentifier
      #expect(waitUntil { blocksHUP(id) })
      kill(id, SIGHUP)
      if round.isMultiple(of: 2) {
        #expect(waitUntil { daemon.log.contains("[reload.unchanged]") }, "\(daemon.log)")
      }
      #expect(daemon.stop(round.isMultiple(of: 3) ? SIGINT : SIGTERM) == 0, "\(daemon.log)")
    }
  }

  /// `run --help` cannot write its page into a full pipe and so stands before all that the daemon does.
  @Test func `signals wait before the command line is read`() throws {
    let pipe = Pipe()
    let descriptor = pipe.fileHandleForWriting.fileDescriptor
    let flags = fcntl(descriptor, F_GETFL)
    _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
    let filling = [UInt8](repeating: 32, count: 4096)
    while write(descriptor, filling, filling.count) > 0 {}
    _ = fcntl(descriptor, F_SETFL, flags)
    let process = Process()
    process.executableURL = URL(filePath: sluiceProgram)
    process.arguments = ["run", "--help"]
    process.standardOutput = pipe
    try withoutBlocked { try process.run() }
    #expect(waitUntil { blocksHUP(process.processIdentifier) })
    kill(process.processIdentifier, SIGHUP)
    kill(process.processIdentifier, SIGTERM)
    try? pipe.fileHandleForWriting.close()
    let page = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    #expect(process.terminationReason == .exit && process.terminationStatus == 0)
    #expect(String(decoding: page, as: UTF8.self).contains("sluice run"))
  }

  /// The threads of tests block signals, and a process that is started inherits that.
  private func withoutBlocked<Result>(_ body: () throws -> Result) rethrows -> Result {
    var none = sigset_t()
    var before = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    return try body()
  }

  private func blocksHUP(_ process: Int32) -> Bool {
    let status = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("SigBlk:") }
    let mask = line.flatMap { UInt64($0.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16) }
    return (mask ?? 0) & 1 << UInt64(SIGHUP - 1) != 0
  }

  @Test func `a second daemon on the same folder is refused, and the first goes on`() throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder, pipeline: pipeline(folder))
    let second = try RunningDaemon(in: folder, pipeline: pipeline(folder), waits: false)
    second.process.waitUntilExit()
    #expect(second.process.terminationStatus == 1)
    #expect(second.log.contains("is used by another process"))
    #expect(daemon.stop() == 0)
  }

  @Test func `a broken pipeline ends the start with its place`() throws {
    let folder = TemporaryFolder()
    let file = try folder.write("pipeline: { id: x }\ninputs:\n  - beets: { port: 0 }\n", to: "broken.yml")
    let daemon = try RunningDaemon(in: folder, pipeline: file, waits: false)
    daemon.process.waitUntilExit()
    #expect(daemon.process.terminationStatus == 1)
    #expect(
      daemon.log.contains("broken.yml:3:5: error:") && daemon.log.contains("did you mean 'beats'"), "\(daemon.log)")
  }

  /// Broken files of the settings' and pipelines' own tests, whose problems are the same with the whole program.
  static let brokenFiles: [String] = {
    let root = Fixtures.root + "/Tests/Cases/config"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
    return names.sorted().filter { name in
      let files = (try? FileManager.default.contentsOfDirectory(atPath: root + "/" + name)) ?? []
      let expected = (try? String(contentsOfFile: root + "/" + name + "/expected.problems", encoding: .utf8)) ?? ""
      return expected.contains(": error: ") && !files.contains("environment") && !files.contains("set")
    }
  }()

  @Test func `check names every mistake of broken files at its place`() throws {
    #expect(OperatorTests.brokenFiles.count >= 20)
    let root = Fixtures.root + "/Tests/Cases/config/"
    for name in OperatorTests.brokenFiles {
      let isPipeline = FileManager.default.fileExists(atPath: root + name + "/pipeline.yml")
      let checked = try run(
        sluiceProgram,
        isPipeline
          ? ["check", "-c", Fixtures.root + "/config/sluice.yml", "-p", "pipeline.yml"]
          : ["check", "-c", "sluice.yml", "-p", "../sound_pipeline/pipeline.yml"], folder: root + name)
      let expected = try String(contentsOfFile: root + name + "/expected.problems", encoding: .utf8)
      let missing = expected.split(separator: "\n").filter { !checked.lines.contains(String($0)) }
      #expect(checked.status == 1 && missing.isEmpty, "\(name): \(missing)\n\(checked.output)\(checked.errors)")
    }
  }

  @Test(arguments: OperatorTests.pluginMistakes) func `check names the mistakes in plugins' options`(name: String)
    throws
  {
    let folder = Fixtures.root + "/Tests/Cases/check/" + name
    let checked = try run(
      sluiceProgram, ["check", "-c", Fixtures.root + "/config/sluice.yml", "-p", "pipeline.yml"], folder: folder)
    let golden = folder + "/expected.problems"
    if ProcessInfo.processInfo.environment["SLUICE_UPDATE_GOLDEN"] != nil {
      try checked.output.write(toFile: golden, atomically: true, encoding: .utf8)
      Issue.record("recorded; run again without SLUICE_UPDATE_GOLDEN")
    }
    #expect(try checked.status == 1 && checked.output == String(contentsOfFile: golden, encoding: .utf8))
  }

  /// Broken files whose mistakes the plugins find. All that is said about them stands beside them.
  static let pluginMistakes: [String] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: Fixtures.root + "/Tests/Cases/check")) ?? []
    return names.isEmpty ? ["there are no cases"] : names.sorted()
  }()

  @Test func `a port of the API that is taken ends the start before anything is accepted`() throws {
    let folder = TemporaryFolder()
    let other = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder, pipeline: pipeline(folder))
    let second = try RunningDaemon(
      in: other, pipeline: pipeline(other), settings: ["api.http.port=\(daemon.port("api"))"], waits: false)
    second.process.waitUntilExit()
    #expect(second.process.terminationStatus == 1 && !second.log.contains("input.listening"), "\(second.log)")
    #expect(second.log.contains("The daemon could not start. reason="), "\(second.log)")
    #expect(!second.log.contains("in the queue"), "\(second.log)")
    #expect(daemon.stop() == 0)
  }

  @Test func `the API asks for its password`() throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(
      in: folder, pipeline: pipeline(folder),
      settings: ["api.auth.type=basic", "api.auth.basic.username=aura", "api.auth.basic.password=secret"])
    let address = try "127.0.0.1:\(daemon.port("api"))/_node/stats"
    func status(_ arguments: [String]) throws -> String {
      try run("/usr/bin/env", ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"] + arguments + [address]).output
    }
    #expect(
      try status([]) == "401" && status(["-u", "aura:wrong"]) == "401" && status(["-u", "aura:secret"]) == "200")
    #expect(daemon.stop() == 0)
  }

  @Test func `the API speaks TLS with a key store, and check and run say the same of one that is wrong`() throws {
    let folder = TemporaryFolder()
    let made = try run(
      "/bin/sh",
      [
        "-c",
        """
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2 \
          -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem &&
        openssl pkcs12 -export -inkey key.pem -in cert.pem -passout pass:store -out api.p12
        """,
      ], folder: folder.path)
    try #require(made.status == 0, "\(made.errors)")
    func settings(_ path: String, _ password: String) -> [String] {
      ["api.ssl.enabled=true", "api.ssl.keystore.path=\(path)", "api.ssl.keystore.password=\(password)"]
    }
    let daemon = try RunningDaemon(
      in: folder, pipeline: pipeline(folder), settings: settings(folder.path + "/api.p12", "store"))
    let port = try daemon.port("api")
    func curl(_ address: String) throws -> Outcome {
      try run(
        "/usr/bin/env",
        ["curl", "-s", "--cacert", folder.path + "/cert.pem", "--resolve", "localhost:\(port):127.0.0.1", address])
    }
    #expect(try curl("https://localhost:\(port)/_node").output.contains("\"jvm\""))
    #expect(try curl("http://localhost:\(port)/_node").status != 0)
    #expect(daemon.stop() == 0)

    for (path, password, reason) in [
      (folder.path + "/api.p12", "wrong", "the password is wrong"), ("/none.p12", "x", "it cannot be opened"),
      (folder.path + "/cert.pem", "x", "it is no PKCS#12 file"),
    ] {
      let text = "cannot use the PKCS#12 file '\(path)': \(reason)"
      let refused = try RunningDaemon(
        in: folder, pipeline: pipeline(folder), settings: settings(path, password), waits: false)
      refused.process.waitUntilExit()
      #expect(refused.process.terminationStatus == 1 && refused.log.contains(text), "\(refused.log)")
      let checked = try run(
        sluiceProgram,
        ["check", "--resolve", "-c", Fixtures.root + "/config/sluice.yml", "-p", pipeline(folder)]
          + settings(path, password).flatMap { ["--set", $0] })
      #expect(checked.status == 1 && checked.output.contains(text), "\(checked)")
    }
    let old = try run(
      sluiceProgram,
      ["check", "-c", Fixtures.root + "/config/sluice.yml", "-p", pipeline(folder)]
        + ["--set", "api.ssl.supported_protocols=TLSv1"])
    #expect(old.status == 1 && old.output.contains("TLSv1.2"), "\(old)")
  }

  /// What ends a start must be told by a check, in the same words.
  @Test(arguments: [
    ("", [], "p.yml:1:1: error: the pipeline 'p' has no output that can ever be reached; add one below 'outputs:'"),
    (
      "outputs: []", [],
      "p.yml:1:1: error: the pipeline 'p' has no output that can ever be reached; add one below 'outputs:'"
    ),
    (
      "outputs:\n  - { stdout: {}, when: '1 == 2' }", [],
      "p.yml:1:1: error: the pipeline 'p' has no output that can ever be reached; the conditions of all outputs are "
        + "never true"
    ),
    (
      "outputs: [stdout: {}]", ["queue.encryption.keys: [abc]"],
      "s.yml:2:25: error: queue.encryption.keys: number 1 is no key of 32 bytes, written as 64 hexadecimal digits or "
        + "as base64; `openssl rand -hex 32` makes one"
    ),
    (
      "outputs: [stdout: {}]", ["api.http.port: 9731"],
      "p.yml:2:13: error: port 9731 is that of Sluice's own monitoring API; choose another one here, or with "
        + "'api.http.port'"
    ),
    (
      "outputs: [stdout: {}]", ["api.http.host: nonsense.invalid"],
      "s.yml:2:16: error: the monitoring API cannot find the address of host 'nonsense.invalid'"
    ),
  ]) func `check tells what a start would end with`(outputs: String, settings: [String], told: String) throws {
    let folder = TemporaryFolder()
    _ = try folder.write("pipeline: { id: p }\ninputs: [ { tcp: { port: 9731 } } ]\n" + outputs, to: "p.yml")
    let base = "path.data: \(folder.path)/data\n"
    _ = try folder.write((base + settings.joined()) + "\n", to: "s.yml")
    let arguments = ["-c", "s.yml", "-p", "p.yml"]
    let resolves = told.contains("nonsense.invalid")
    let checked = try run(sluiceProgram, ["check"] + (resolves ? ["--resolve"] : []) + arguments, folder: folder.path)
    #expect(checked.status == 1 && checked.lines.contains { $0.hasPrefix(told) }, "\(checked)")
    let started = try run(sluiceProgram, ["run"] + arguments, folder: folder.path)
    #expect(started.status == 1 && started.errors.contains(told), "\(started)")
  }

  @Test func `help explains the settings`() throws {
    let page = try run(sluiceProgram, ["help", "settings"])
    #expect(page.status == 0)
    for name in ["api.ssl.keystore.path", "config.reload.automatic", "queue.max_bytes", "pipeline.workers"] {
      #expect(page.output.contains("  \(name)  ("), "\(name)")
    }
  }

  @Test func `the queue's commands see what is there and what is damaged`() throws {
    let folder = TemporaryFolder()
    let daemon = try RunningDaemon(in: folder, pipeline: pipeline(folder))
    let client = try TestClient(port: daemon.port("tcp-1"))
    for n in 0..<40 {
      try client.send("{\"n\":\(n)}\n")
      // Four blocks, so that what is damaged below is not the last one.
      if n % 10 == 9 { #expect(waitUntil { folder.text("events.ndjson").split(separator: "\n").count == n + 1 }) }
    }
    // A stop in order would let go of the segment, since every event is out.
    daemon.crash()
    let queue = folder.path + "/data/queue/small"
    func command(_ words: String...) throws -> Outcome {
      try run(sluiceProgram, ["queue"] + words + ["--folder", queue])
    }
    #expect(try command("stats").output.contains("40 records in 1 segments"))
    #expect(try command("check").status == 0)
    #expect(try command("dump", "--all").lines.count == 40)
    #expect(try command("dump", "--all", "--payload").lines.last == "{\"n\":39}")
    let segment = try #require(
      try FileManager.default.contentsOfDirectory(atPath: queue).filter { $0.hasSuffix(".seg") && $0.first != "s" }
        .min())
    var bytes = try Fixtures.read(queue + "/" + segment)
    let place = try #require(bytes.firstRange(of: Array("{\"n\":7}".utf8))).lowerBound
    for i in place..<place + 7 { bytes[i] = 0 }
    try Data(bytes).write(to: URL(filePath: queue + "/" + segment))
    let check = try command("check")
    #expect(check.status == 1 && check.output.contains("1 records lost"), "\(check)")
    let dump = try command("dump", "--all")
    #expect(dump.status == 1 && dump.errors.contains("1 records lost") && dump.lines.count == 39, "\(dump)")
    #expect(check.output.contains("'sluice queue repair' does it at once"), "\(check)")
    // A repair makes it known; what can be read stays, and other damage at the same place is new.
    let repaired = try command("repair")
    #expect(repaired.status == 0 && repaired.output.contains("copied to"), "\(repaired)")
    let known = try command("check")
    #expect(known.status == 0 && known.output.contains("1 records lost; known, and set aside"), "\(known)")
    #expect(known.output.contains("all else is well") && !known.output.contains("repair"), "\(known)")
    #expect(try command("repair").output.contains("nothing to repair"))
    #expect(try command("dump", "--all").lines.count == 39)
    bytes[place + 1] = 1
    try Data(bytes).write(to: URL(filePath: queue + "/" + segment))
    #expect(try command("check").status == 1)
    #expect(try command("repair").status == 0)
    #expect(try command("check").status == 0)
    #expect(try run(sluiceProgram, ["queue", "stats", "--folder", folder.path + "/none"]).status == 1)
  }

  @Test func `a disk's fitness for the queue is measured, and nothing stays behind`() throws {
    let folder = TemporaryFolder()
    let command = ["queue", "bench", "--folder", folder.path, "--writers", "4", "--seconds", "1", "--backlog", "4"]
    let outcome = try run(sluiceProgram, command + ["--format", "json"])
    #expect(outcome.status == 0, "\(outcome)")
    let report = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Double]
    let figures = try #require(report, "\(outcome.output)")
    for key in ["disk_mib_per_second", "queue_mib_per_second", "records_per_second", "syncs_per_second", "open_ms"] {
      #expect(try #require(figures[key]) > 0, "\(key)")
    }
    #expect(try #require(figures["full_p50_ms"]) <= #require(figures["full_p99_ms"]))
    #expect(try #require(figures["backlog_mib"]) >= 4)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    let missing = try run(sluiceProgram, ["queue", "bench", "--folder", folder.path + "/none"])
    #expect(missing.status == 1 && missing.errors.contains("No such file"), "\(missing)")
  }
}
