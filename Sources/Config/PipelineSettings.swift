//  Settings that each pipeline may have for itself. In `sluice.yml` they are the defaults of all pipelines.

internal import Diagnostics

public enum QueueType: String, OptionEnum { case persisted, memory }
public enum QueueCompression: String, OptionEnum { case none, lz4, zstd, speed, balanced, size, disabled }
public enum QueueDurability: String, OptionEnum { case sync, interval, os }
public enum StoragePolicy: String, OptionEnum {
  case dropOlder = "drop_older"
  case dropNewer = "drop_newer"
  case block
}
public enum EventOrder: String, OptionEnum {
  case auto
  case ordered = "true"
  case unordered = "false"
}
public enum ECSCompatibility: String, OptionEnum { case v8, v1, disabled }

public struct PipelineSettings: PluginSettings {
  /// nil: one per CPU core.
  public var workers: Int?
  public var batchSize = 125
  public var batchDelay = Duration.milliseconds(50)
  public var order = EventOrder.auto
  public var ecsCompatibility = ECSCompatibility.v8
  public var maxEventSize: ByteCount = .mib(64)

  public var queueType = QueueType.persisted
  /// Size of a segment.
  public var queuePageCapacity: ByteCount = .mib(64)
  /// Queue and overflow queues together; 0 is unlimited.
  public var queueMaxSize: ByteCount = .gib(1)
  /// 0 is unlimited.
  public var queueMaxEvents = 0
  public var queueDrain = false
  public var queueDurability = QueueDurability.sync
  public var queueSyncInterval = Duration.seconds(1)
  public var queueCompression = QueueCompression.none
  /// The first encrypts, all of them decrypt; empty: no encryption. Dead letters and overflow queues have the same.
  public var queueEncryptionKeys: [Secret] = []
  /// nil: released events are not kept.
  public var queueRetainAge: Duration?
  /// 0 keeps none, unless an age is set.
  public var queueRetainSize: ByteCount = 0
  public var queueMinFree: ByteCount = .mib(256)
  public var queueSpillAfter = Duration.seconds(5)
  /// nil: `queue` below `path.data`.
  public var queuePath: FilePath?

  public var deadLettersEnabled = true
  public var deadLettersMaxSize: ByteCount = .gib(1)
  public var deadLettersPolicy = StoragePolicy.dropOlder
  /// nil: no letter is too old.
  public var deadLettersRetainAge: Duration?
  /// nil: `dead_letter_queue` below `path.data`.
  public var deadLettersPath: FilePath?

  public init() {}

  public static let options: [Option<PipelineSettings>] = [
    .option(
      "pipeline.workers", \.workers, "Threads that run filters.", in: 1...1024, defaultText: "one per CPU core"),
    .option(
      "pipeline.batch.size", \.batchSize, "The most events that a worker takes at once.", unit: .events, in: 1...100_000
    ),
    .option(
      "pipeline.batch.delay", \.batchDelay,
      "How long a worker waits for the next event before it runs a smaller batch.",
      unit: .milliseconds, in: .zero ... .seconds(3600)),
    .option("pipeline.ordered", \.order, "Whether events keep their order; auto: with one worker."),
    .option(
      "pipeline.ecs_compatibility", \.ecsCompatibility,
      "Which field names plugins use unless their own option says otherwise."),
    .option(
      "max_event_bytes", \.maxEventSize, "The largest event; a larger one becomes a dead letter.", unit: .binaryBytes,
      in: .kib(1) ... .gib(1)),
    .option("queue.type", \.queueType, "Whether events are on disk before they are acknowledged."),
    .option(
      "queue.page_capacity", \.queuePageCapacity, "The size of one file of the queue.", unit: .binaryBytes,
      in: .kib(64)...ByteCount(Int(Int32.max))),
    .option(
      "queue.max_bytes", \.queueMaxSize,
      "The most that queue and overflow queues of a pipeline take on disk; 0: no limit.",
      unit: .binaryBytes),
    .option(
      "queue.max_events", \.queueMaxEvents, "The most events that wait; 0: no limit.", unit: .events,
      in: 0...1_000_000_000_000),
    .option("queue.drain", \.queueDrain, "Whether a stop waits until the queue is empty."),
    .option(
      "queue.durability", \.queueDurability,
      "When an event is acknowledged: once it is synced to the disk, or written and synced within an interval, or "
        + "written and left to the system."),
    .option(
      "queue.sync_interval", \.queueSyncInterval,
      "How much time a power loss may cost with 'queue.durability: interval'.",
      unit: .milliseconds, in: .milliseconds(1) ... .seconds(3600)),
    .option("queue.compression", \.queueCompression, "How records are compressed on disk, dead letters too."),
    .option(
      "queue.encryption.keys", \.queueEncryptionKeys,
      "Keys of 32 bytes, as 64 hexadecimal digits or base64: the first encrypts queue and dead letters "
        + "(AES-256-GCM), the others still decrypt.",
      example: "['${credential:queue-key}', '${file:/etc/sluice/old-queue-key}']"),
    .option(
      "queue.retain.age", \.queueRetainAge, "How long delivered events are kept for 'sluice replay'.",
      in: .seconds(1) ... .seconds(86_400 * 3650)),
    .option(
      "queue.retain.max_bytes", \.queueRetainSize,
      "The most that delivered events may take, beside queue.max_bytes; 0: no limit but the age.",
      unit: .binaryBytes),
    .option(
      "queue.min_free", \.queueMinFree, "While less than this is free on the disk, nothing is accepted.",
      unit: .binaryBytes),
    .option(
      "queue.spill_after", \.queueSpillAfter, "How long a slow output may hold back the others.",
      in: .zero ... .seconds(86_400)),
    .option(
      "path.queue", \.queuePath, "The folder of the queues.", defaultText: "queue, below path.data"),
    .option("dead_letter_queue.enable", \.deadLettersEnabled, "Whether refused events are kept."),
    .option(
      "dead_letter_queue.max_bytes", \.deadLettersMaxSize, "The most that dead letters of a pipeline take on disk.",
      unit: .binaryBytes, in: .mib(1) ... .gib(1 << 20)),
    .option("dead_letter_queue.storage_policy", \.deadLettersPolicy, "What gives way when dead letters are full."),
    .option("dead_letter_queue.retain.age", \.deadLettersRetainAge, "How old a dead letter may become."),
    .option(
      "path.dead_letter_queue", \.deadLettersPath, "The folder of the dead letters.",
      defaultText: "dead_letter_queue, below path.data"),
  ]

  /// What no single option can see.
  ///
  /// - Parameter position: Where a setting is given; nil where it has its default.
  mutating func check(at position: (String) -> SourcePosition?, problems: Problems) {
    if queueMaxSize.bytes > 0, queuePageCapacity > queueMaxSize {
      if let place = position("queue.page_capacity") {
        problems.error(
          place,
          "'queue.page_capacity' (\(queuePageCapacity.optionText ?? "")) is above 'queue.max_bytes' "
            + "(\(queueMaxSize.optionText ?? ""))", code: "config.bad-value")
      } else {
        queuePageCapacity = queueMaxSize  // nobody asked for larger files than the whole queue
      }
    }
    if order == .ordered, let workers, workers > 1 {
      problems.error(
        position("pipeline.ordered") ?? SourcePosition(file: "sluice.yml"),
        "'pipeline.ordered: true' needs 'pipeline.workers' to be 1, not \(workers)", code: "config.bad-value")
    }
  }
}
