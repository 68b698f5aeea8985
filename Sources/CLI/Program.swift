//  All commands of the program.

internal import CommandLine
internal import Daemon

let program = Program(
  name: "sluice", version: Version.text, summary: "A log-ingestion daemon: Beats, HTTP and TCP in, Elasticsearch out",
  commands: [
    runCommand, checkCommand, tryCommand, testCommand, benchCommand,
    queueStatsCommand, queueCheckCommand, queueDumpCommand, queueRepairCommand,
    letterListCommand, letterShowCommand, letterExportCommand, letterPurgeCommand, letterReplayCommand,
    replayCommand,
  ],
  groups: [
    "queue": "The queues on disk: figures, check, records, repair",
    "dlq": "Dead letters: events that no output took, to list, mend and send once more",
  ])
