//  The `file` output: what lies in the files, and what becomes of names that cannot be.

import Diagnostics
import Events
import Foundation
import Glibc
import PluginKit
import TestSupport
import Testing

@testable import Outputs

@Suite struct FileOutputTests {
  private let folder = NSTemporaryDirectory() + "sluice-file-" + UUID().uuidString

  private func output(_ path: String, _ letters: KeptLetters) throws -> any Output {
    var settings = FileOutput.Settings()
    settings.path = Template(folder + path)
    return try FileOutput.make(settings, context(letters))
  }

  private func text(_ name: String) -> String {
    (try? String(contentsOfFile: folder + "/" + name, encoding: .utf8)) ?? ""
  }

  @Test func `events lie in the files that they name, and count once they are synced`() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let letters = KeptLetters()
    let output = try output("/%{app}-%{+yyyy.MM.dd}.ndjson", letters)
    let isDone = try write(["{\"app\":\"a\"}", "{\"app\":\"b\"}", "{\"app\":\"b\",\"n\":1}"], to: output)
    #expect(isDone.withLock { $0 } && letters.all.isEmpty && output.statistics.eventsOut == 3)
    #expect(text("a-2026.02.25.ndjson").split(separator: "\n").count == 1)
    #expect(text("b-2026.02.25.ndjson").split(separator: "\n").count == 2)
  }

  @Test func `a torn last line is cut before the first append`() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try "{\"n\":1}\n{\"n\":".write(toFile: folder + "/log", atomically: true, encoding: .utf8)
    _ = try write(["{\"app\":\"a\"}"], to: output("/log", KeptLetters()))
    let lines = text("log").split(separator: "\n")
    #expect(lines.count == 2 && lines[0] == "{\"n\":1}" && lines[1].contains("\"app\""))
  }

  @Test func `a file that was renamed is made anew`() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let output = try output("/log", KeptLetters())
    _ = try write(["{\"n\":1}"], to: output)
    try FileManager.default.moveItem(atPath: folder + "/log", toPath: folder + "/log.1")
    _ = try write(["{\"n\":2}"], to: output)
    #expect(text("log").contains("\"n\":2") && text("log.1").contains("\"n\":1"))
  }

  @Test(arguments: [
    ("../outside", "leaves the folder"), (String(repeating: "x", count: 300), "is too long"),
    ("folder", "cannot be written"), ("", "is no name of a file"),
  ])
  func `a name that cannot be is a dead letter, and the other events are written`(name: String, reason: String) throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder + "/folder", withIntermediateDirectories: true)
    let letters = KeptLetters(refusals: 1)
    let output = try output("/%{app}", letters)
    let isDone = try write(
      ["{\"app\":\"good\"}", "{\"app\":\"\(name)\"}", "{\"n\":1}", "{\"app\":\"good\"}"], to: output)
    #expect(isDone.withLock { $0 })
    #expect(letters.all.count == 2 && letters.all[0].reason.message.contains(reason), "\(letters.all)")
    #expect(letters.all[1].reason.message.contains("lacks the value"))
    #expect(text("good").split(separator: "\n").count == 2 && output.statistics.deadLetters == 2)
  }
}
