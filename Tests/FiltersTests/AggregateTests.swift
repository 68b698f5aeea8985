//  What recorded cases cannot show of `aggregate`: time, several workers, maps that outlive a run, and its bounds.

import Diagnostics
import Events
import Glibc
import PluginKit
import TestSupport
import Testing

@testable import Filters

@Suite struct AggregateTests {
  @Test func `a task whose time is up becomes an event, once`() {
    let steps = StepsHarness(
      """
      - aggregate:
          task_id: "%{t}"
          code: "map['n'] = (map['n'] || 0) + 1; map['at'] ||= event.timestamp"
          push_map_as_event_on_timeout: true
          timeout: 60
          timeout_task_id_field: who
          timeout_tags: [over]
      - mutate: { add_field: { later: "1" } }
      """)
    #expect(steps.problems.isEmpty)
    _ = steps.run(
      #"""
      {"t":"a","@timestamp":"2025-03-09T07:00:00Z"}
      {"t":"b","@timestamp":"2025-03-09T07:00:00Z"}
      {"t":"a"}
      """#)
    #expect(steps.flush(afterSeconds: 50).isEmpty)
    #expect(
      Set(steps.flush(afterSeconds: 61)) == [
        #"{"n":2,"at":"2025-03-09T07:00:00.000Z","who":"a","tags":["over"],"later":"1"}"#,
        #"{"n":1,"at":"2025-03-09T07:00:00.000Z","who":"b","tags":["over"],"later":"1"}"#,
      ])
    #expect(steps.flush(afterSeconds: 200).isEmpty)
  }

  @Test func `without a push a task ends in silence`() {
    let steps = StepsHarness(
      #"- aggregate: { task_id: "%{t}", code: "map['n'] ||= 0; map['n'] += 1; event.set('n', map['n'])" }"#)
    #expect(steps.run(#"{"t":"a"}"#) == [#"{"t":"a","n":1}"#])
    #expect(steps.flush(afterSeconds: 1700).isEmpty)
    #expect(steps.run(#"{"t":"a"}"#) == [#"{"t":"a","n":2}"#])
    #expect(steps.flush(afterSeconds: 1900).isEmpty)
    #expect(steps.run(#"{"t":"a"}"#) == [#"{"t":"a","n":1}"#])
  }

  @Test func `a script sets its task's limits, and 0 ends it at once`() {
    let steps = StepsHarness(
      """
      - aggregate:
          task_id: "%{t}"
          code: |
            map['n'] ||= 0
            map['n'] += 1
            map_meta.timeout = event.get('limit') if event.include?('limit')
          push_map_as_event_on_timeout: true
          timeout: 600
      """)
    #expect(steps.run(#"{"t":"a","limit":5}"#).count == 1)
    #expect(steps.run(#"{"t":"b"}"#).count == 1)
    #expect(steps.flush(afterSeconds: 10) == [#"{"n":1}"#])
    #expect(steps.run(#"{"t":"b","limit":0}"#) == [#"{"t":"b","limit":0}"#, #"{"n":2}"#])
    #expect(steps.run(#"{"t":"b"}"#) == [#"{"t":"b"}"#])
    #expect(steps.flush(afterSeconds: 601) == [#"{"n":1}"#])
  }

  @Test func `filters of one task see its events in order, whatever the batch`() {
    let steps = StepsHarness(
      """
      - mutate: { add_field: { front: "1" } }
      - aggregate: { task_id: "%{t}", code: "map['sum'] = 0", map_action: create }
        when: '[k] == "start"'
      - if: '[k] == "step"'
        then:
          - aggregate: { task_id: "%{t}", code: "map['sum'] += event.get('v')", map_action: update }
          - drop: {}
      - aggregate:
          task_id: "%{t}"
          code: "event.set('sum', map['sum'])"
          map_action: update
          end_of_task: true
        when: '[k] == "end"'
      """)
    var lines = ""
    for round in 1...3 {
      for t in ["a", "b"] {
        lines += "{\"t\":\"\(t)\",\"k\":\"start\"}\n{\"t\":\"\(t)\",\"k\":\"step\",\"v\":\(round)}\n"
        lines += "{\"t\":\"\(t)\",\"k\":\"step\",\"v\":10}\n{\"t\":\"\(t)\",\"k\":\"end\"}\n"
      }
    }
    let sums = steps.run(lines).filter { $0.contains("sum") }
    #expect(sums.count == 6)
    for (i, line) in sums.enumerated() { #expect(line.contains("\"sum\":\(11 + i / 2)")) }
  }

  @Test func `workers share the tasks`() {
    let steps = StepsHarness(
      #"""
      - aggregate:
          task_id: "%{t}"
          code: "map['n'] = (map['n'] || 0) + 1"
          push_map_as_event_on_timeout: true
          timeout_task_id_field: t
      """#)
    struct Sent: @unchecked Sendable { let harness: StepsHarness }  // unchecked: each goes to one thread
    let done = Gate(0)
    for _ in 0..<4 {
      let worker = Sent(harness: steps.another())
      TestThread.run {
        for _ in 0..<50 {
          _ = worker.harness.run((0..<20).map { "{\"t\":\"task-\($0)\"}" }.joined(separator: "\n"))
        }
        done.update { $0 += 1 }
      }
    }
    #expect(done.wait(until: .now + .seconds(60)) { $0 == 4 ? true : nil } == true)
    let made = steps.flush(afterSeconds: 2000)
    #expect(made.count == 20)
    #expect(made.allSatisfy { $0.contains("\"n\":200,") })
  }

  @Test func `maps outlive a run in their file`() throws {
    var template = Array("/tmp/sluice-maps-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { removeFolder(folder) }
    let filters = """
      - aggregate:
          task_id: "%{t}"
          code: |
            map['n'] = (map['n'] || 0) + 1
            map['first'] ||= event.timestamp
            map['list'] ||= [1.5, nil, "é\\"", {"k" => true}]
            event.set('n', map['n'])
            event.set('first', map['first'])
            event.set('list', map['list'])
          aggregate_maps_path: kept/maps
      """
    let first = StepsHarness(filters, folder: folder)
    try #require(first.problems.isEmpty, "\(first.problems)")
    for timed in first.timed() { timed.open() }
    _ = first.run(#"{"t":"a","@timestamp":"2025-03-09T07:00:00Z"}"#)
    for timed in first.timed() { timed.close() }
    #expect(access(folder + "/kept/maps", R_OK) == 0)

    let second = StepsHarness(filters, folder: folder)
    for timed in second.timed() { timed.open() }
    // Read once: what a crash would leave behind is not taken up a second time.
    #expect(access(folder + "/kept/maps", R_OK) != 0)
    #expect(
      second.run(#"{"t":"a","@timestamp":"2025-03-09T08:00:00Z"}"#) == [
        #"{"t":"a","n":2,"first":"2025-03-09T07:00:00.000Z","list":[1.5,null,"é\"",{"k":true}]}"#
      ])
    removeFolder(folder + "/kept")
  }

  @Test func `a damaged file of maps is no harm`() throws {
    var template = Array("/tmp/sluice-maps-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { removeFolder(folder) }
    let content = "{\"task_id\":\"%{t}\",\"id\":\"a\",\"created\":1}\n{\n\0\n[]\n{\"task_id\":5}\n"
    let file = try #require(fopen(folder + "/maps", "w"))
    fputs(content, file)
    fclose(file)
    let steps = StepsHarness(
      #"- aggregate: { task_id: "%{t}", code: "map['n'] = 1", aggregate_maps_path: maps }"#, folder: folder)
    for timed in steps.timed() { timed.open() }
    #expect(steps.run(#"{"t":"a"}"#) == [#"{"t":"a"}"#])
  }

  @Test(arguments: [
    (#"- aggregate: { task_id: "%{t}", code: "map['a" }"#, "line 1, column 5 of the script: this text never ends"),
    (
      "- aggregate:\n    task_id: '%{t}'\n    code: |\n      x = 1\n      foo\n",
      "line 2, column 1 of the script: 'foo'"
    ),
    (#"- aggregate: { task_id: "%{t}", code: "1", timeout_code: "nope" }"#, "'timeout_code'"),
    (#"- aggregate: { task_id: "t", code: "1" }"#, "is the same for every event"),
  ])
  func `a broken configuration is refused with its place`(_ filters: String, _ text: String) {
    let problems = StepsHarness(filters).problems.joined(separator: "\n")
    #expect(problems.contains(text), "\(problems)")
  }

  @Test func `a full shard ends its oldest tasks`() {
    var shard = AggregateShard()
    var ids: [[UInt8]] = []
    for i in 0..<100 {
      let id = Array("task-\(i)".utf8)
      ids.append(id)
      shard.insert(id.withUnsafeBytes { SeededHash.of($0) }, AggregateTask(id: id, nowNs: Int64(i), time: nil))
    }
    #expect(shard.takeOldest(12).map(\.id) == Array(ids[..<12]))
    #expect(shard.takeOldest(1).map(\.id) == [ids[12]])
    #expect(shard.count == 87)
    #expect(ids[13].withUnsafeBytes { shard.find(SeededHash.of($0), $0) } != nil)
    #expect(ids[5].withUnsafeBytes { shard.find(SeededHash.of($0), $0) } == nil)
  }
}
