//  All commands of the program.

internal import CommandLine
internal import Daemon
internal import Reference

let program: Program = Program(
  name: "sluice", version: Version.text, summary: "A log-ingestion daemon: Beats, HTTP and TCP in, Elasticsearch out",
  commands: [
    runCommand, checkCommand, tryCommand, testCommand, benchCommand,
    queueStatsCommand, queueCheckCommand, queueDumpCommand, queueRepairCommand,
    letterListCommand, letterShowCommand, letterExportCommand, letterPurgeCommand, letterReplayCommand,
    replayCommand, docsCommand, schemaCommand,
  ],
  groups: [
    "queue": "The queues on disk: figures, check, records, repair",
    "dlq": "Dead letters: events that no output took, to list, mend and send once more",
  ],
  topicNames: reference.helpNames, topic: { reference.help($0) })
