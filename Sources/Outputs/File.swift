//  The `file` output: events as JSON lines in files that the path template names, daily by default.
//
//  A range of the queue counts as delivered once the file is synced, so a crash can repeat lines but lose none. A torn
//  last line is cut before the first append after a start. The path begins with a fixed folder, and what an event adds to
//  it never leaves that folder.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct FileOutput: OutputPlugin {
  static let manual = Manual(
    name: "file", summary: "Writes events as JSON lines to files.",
    details: """
      Placeholders in `path` choose the file by the event; files are made with mode 0640.

      Each event is written at least once: it counts as delivered once its line is synced, and what was written but not \
      yet counted when the daemon was killed or the machine lost power is written again after the next start. Such a \
      line stands twice. A last line that was torn in half is cut first.

      While a file cannot be written (a full disk, a folder that is gone or not ours) it is tried again every second, and \
      the other outputs of the pipeline go on: after `queue.spill_after` the events go to an overflow queue of this \
      output and are written from there in their order. With a queue in memory there is none, and all outputs wait.
      """,
    examples: [
      Example(
        "A file for each service and day", config: "{ path: '/var/log/sluice/%{service}-%{+yyyy.MM.dd}.ndjson' }",
        input: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "@version": "1", "service": "shop", "ok": true}"#,
        output: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "@version": "1", "service": "shop", "ok": true}"#)
    ])

  struct Settings: PluginSettings {
    var path: Template?
    static let options: [Option<Settings>] = [
      .option(
        "path", \.path, "The file, below a folder that is the same for all events: /var/log/aura/%{service}.ndjson.",
        defaultText: "events/aura-logs-%{+yyyy.MM.dd}.ndjson, below path.data")
    ]
  }

  static func make(_ settings: Settings, _ context: OutputContext) throws -> any Output {
    let path = settings.path ?? Template(context.services.dataFolder + "/events/aura-logs-%{+yyyy.MM.dd}.ndjson")
    if let fault = path.fault { throw BuildFailure("path", fault.description) }
    let fixed = path.description.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)[0]
    guard let slash = fixed.lastIndex(of: "/") else {
      throw BuildFailure("path", "begins with no fixed folder, such as /var/log/sluice/")
    }
    return FileWriter(path, folder: String(fixed[...slash]), context)
  }
}
