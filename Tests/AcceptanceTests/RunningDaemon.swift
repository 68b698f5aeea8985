//  The real program as an operator runs it: started with a folder and ports of its own, watched through its log.

import Diagnostics
import Foundation
import Glibc
import TestSupport
import Testing

/// The `sluice` that was built beside the tests.
let sluiceProgram: String =
  ProcessInfo.processInfo.environment["SLUICE_BINARY"]
  ?? URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().appending(path: "sluice")
  .path

/// A folder that goes with its owner.
final class TemporaryFolder: Sendable {
  let path: String

  init() {
    path = NSTemporaryDirectory() + "sluice-acceptance-" + UUID().uuidString
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ text: String, to name: String) throws -> String {
    let file = path + "/" + name
    try text.write(toFile: file, atomically: true, encoding: .utf8)
    return file
  }

  func text(_ name: String) -> String { (try? String(contentsOfFile: path + "/" + name, encoding: .utf8)) ?? "" }
}

/// What a program that ran to its end left.
struct Outcome {
  var status: Int32
  var output: String
  var errors: String
  var lines: [String] { output.split(separator: "\n").map(String.init) }
}

/// Runs a program to its end.
func run(
  _ program: String, _ arguments: [String], input: String = "", environment: [String: String] = [:],
  folder: String = Fixtures.root
) throws -> Outcome {
  let place = TemporaryFolder()
  let process = Process()
  process.executableURL = URL(filePath: program)
  process.arguments = arguments
  process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
  process.currentDirectoryURL = URL(filePath: folder)
  // Files instead of pipes: nothing can block.
  let input = try FileHandle(forReadingFrom: URL(filePath: place.write(input, to: "in")))
  process.standardInput = input
  process.standardOutput = try writer(place.path + "/out")
  process.standardError = try writer(place.path + "/err")
  try process.run()
  process.waitUntilExit()
  return Outcome(status: process.terminationStatus, output: place.text("out"), errors: place.text("err"))
}

private func writer(_ path: String) throws -> FileHandle {
  _ = FileManager.default.createFile(atPath: path, contents: nil)
  return try FileHandle(forWritingTo: URL(filePath: path))
}

/// A daemon that runs. It is killed when its owner forgets it.
final class RunningDaemon {
  let folder: TemporaryFolder
  let process = Process()
  let logName: String
  private static let numbers = Counter()

  /// Starts the program and waits until it is ready.
  ///
  /// - Parameters:
  ///   - folder: Holds `data`; a second daemon on the same folder continues the first one's work.
  ///   - pipeline: A pipeline file; the shipped pipeline by default.
  ///   - input: What stands on its standard input; nothing by default.
  init(
    in folder: TemporaryFolder = TemporaryFolder(), pipeline: String = Fixtures.root + "/pipelines/aura.yml",
    environment: [String: String] = [:], config: String = Fixtures.root + "/config/sluice.yml",
    settings: [String] = [], input: String? = nil, waits: Bool = true
  ) throws {
    self.folder = folder
    RunningDaemon.numbers.add()
    logName = "log-\(RunningDaemon.numbers.value)-\(UInt32.random(in: 0...UInt32.max))"
    process.executableURL = URL(filePath: sluiceProgram)
    process.arguments =
      ["run", "-c", config, "-p", pipeline, "--data", folder.path + "/data"]
      + (["api.http.port=0"] + settings).flatMap { ["--set", $0] }
    var variables = ProcessInfo.processInfo.environment.filter {
      !$0.key.hasPrefix("ELASTICSEARCH_") && !$0.key.hasPrefix("ELK_") && !$0.key.hasPrefix("SLUICE_")
    }
    for name in ["BEATS_PORT", "HTTP_PORT", "TCP_PORT"] { variables[name] = "0" }
    process.environment = variables.merging(environment) { $1 }
    process.currentDirectoryURL = URL(filePath: Fixtures.root)
    process.standardInput = try input.map(RunningDaemon.pipe) ?? FileHandle.nullDevice
    let log = try writer(folder.path + "/" + logName)
    process.standardOutput = log
    process.standardError = log
    try process.run()
    if waits, !waitUntil(seconds: 30, { isReady || !process.isRunning }) || !isReady {
      throw SocketFailure(description: "the daemon does not get ready:\n\(self.log)")
    }
  }

  /// A pipe that holds `text` and then ends.
  private static func pipe(_ text: String) throws -> Any {
    let pipe = Pipe()
    try pipe.fileHandleForWriting.write(contentsOf: Data(text.utf8))
    try pipe.fileHandleForWriting.close()
    return pipe
  }

  deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

  var log: String { folder.text(logName) }
  var isReady: Bool { log.contains("[daemon.ready]") }

  /// The port of an input's id, or of `api`.
  func port(_ name: String) throws -> Int {
    let line = log.split(separator: "\n").last {
      name == "api" ? $0.contains("[api.listening]") : $0.contains("[input.listening]") && $0.contains("input=\(name) ")
    }
    let words = line?.split(separator: " ") ?? []
    return try #require(
      words.last { $0.hasPrefix("port=") }.flatMap { Int($0.dropFirst(5)) }, "no port of \(name):\n\(log)")
  }

  /// Ends it as systemd does, and returns its status.
  func stop(_ signal: Int32 = SIGTERM) -> Int32 {
    kill(process.processIdentifier, signal)
    process.waitUntilExit()
    return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
  }

  func crash() { _ = stop(SIGKILL) }

  /// The answer of the monitoring API as JSON.
  func api(_ path: String) throws -> [String: Any] {
    let data = try fetch(path)
    return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  func fetch(_ path: String) throws -> Data {
    let client = try TestClient(port: port("api"))
    try client.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    let all = Data(client.receiveAll())
    let split = try #require(all.range(of: Data("\r\n\r\n".utf8)), "no answer to \(path)")
    return Data(all[split.upperBound...])
  }

  /// Events that wait in the queue, as the API says.
  func eventsInQueue(_ pipeline: String = "aura") throws -> Int {
    let pipelines = try #require(try api("/_node/stats/pipelines")["pipelines"] as? [String: Any])
    let queue = (pipelines[pipeline] as? [String: Any])?["queue"] as? [String: Any]
    return try #require((queue?["events_count"] ?? queue?["events"]) as? Int)
  }
}
