//  All commands of the program.

internal import CommandLine
internal import Daemon
internal import Reference

let program: Program = Program(
  name: "sluice", version: Version.text, summary: "A log-ingestion daemon: Beats, HTTP and TCP in, Elasticsearch out",
  commands: [
    runCommand, checkCommand, tryCommand, testCommand, benchCommand,
    queueStatsCommand, queueCheckCommand, queueDumpCommand, queueRepairCommand, queueBenchCommand,
    letterListCommand, letterShowCommand, letterExportCommand, letterPurgeCommand, letterReplayCommand,
    replayCommand, docsCommand, schemaCommand,
    clusterHealthCommand, clusterSetupCommand, clusterTemplatesCommand, clusterIndicesCommand, clusterCleanupCommand,
    clusterOptimizeCommand, snapshotCreateCommand, snapshotListCommand, snapshotStatusCommand, snapshotRestoreCommand,
    usersCommand, endToEndCommand, monitorCommand,
  ],
  groups: [
    "queue": "The queues on disk: figures, check, records, repair",
    "dlq": "Dead letters: events that no output took, to list, mend and send once more",
    "es": "The Elasticsearch or OpenSearch cluster: health, templates, indices, snapshots, users",
    "es snapshot": "Snapshots of the aura indices",
  ],
  topicNames: reference.helpNames, topic: { reference.help($0) })
