//  Where the queues of a data folder lie and how they are written, for the daemon and for commands that look at them
//  from outside.

package import Codecs
package import Config
package import Diagnostics
internal import Glibc
internal import Pipeline
internal import Queue

/// The queue of one pipeline, or its dead letters.
package struct QueueLocation: Sendable {
  /// The pipeline's id.
  package let id: String
  package let folder: String
  /// Keys with which its blocks may be encrypted.
  package var keys: [BlockKey] = []

  package init(id: String, folder: String, keys: [BlockKey] = []) {
    self.id = id
    self.folder = folder
    self.keys = keys
  }
}

/// The keys that encrypt and decrypt queue and dead letters of a pipeline.
///
/// - Throws: A sentence about the one that is no key.
package func encryptionKeys(_ settings: PipelineSettings) throws(StartFailure) -> [BlockKey] {
  var keys: [BlockKey] = []
  for (i, secret) in settings.queueEncryptionKeys.enumerated() {
    guard let key = blockKey(secret) else { throw StartFailure(description: keyFault(secret, number: i + 1) ?? "") }
    keys.append(key)
  }
  return keys
}

private func blockKey(_ secret: Secret) -> BlockKey? { keyBytes(Array(secret.revealed.utf8)).flatMap { BlockKey($0) } }

/// What is wrong with a key; nil where nothing is.
func keyFault(_ secret: Secret, number: Int) -> String? {
  guard blockKey(secret) == nil else { return nil }
  return
    "queue.encryption.keys: number \(number) is no key of 32 bytes, written as 64 hexadecimal digits or as base64"
}

func keyBytes(_ text: [UInt8]) -> [UInt8]? {
  guard text.count == 2 * BlockKey.byteCount else { return Base64.decode(text) }
  var bytes: [UInt8] = []
  for i in stride(from: 0, to: text.count, by: 2) {
    guard let byte = UInt8(String(decoding: text[i...i + 1], as: UTF8.self), radix: 16) else { return nil }
    bytes.append(byte)
  }
  return bytes
}

func blockCompression(_ settings: PipelineSettings) -> BlockCompression {
  switch settings.queueCompression {
  case .none, .disabled: .none
  case .lz4, .speed: .lz4
  case .zstd, .balanced: .zstd(level: 3)
  case .size: .zstd(level: 9)
  }
}

/// How the queue of a pipeline is written.
func diskQueueSettings(_ id: String, _ settings: PipelineSettings) throws(StartFailure) -> QueueSettings {
  var queue = QueueSettings()
  queue.segmentBytes = settings.queuePageCapacity.bytes
  queue.maxBytes = settings.queueMaxSize.bytes
  queue.maxEvents = settings.queueMaxEvents
  queue.minFreeBytes = settings.queueMinFree.bytes
  queue.durability =
    switch settings.queueDurability {
    case .sync: .sync
    case .interval: .interval(settings.queueSyncInterval)
    case .os: .os
    }
  queue.compression = blockCompression(settings)
  queue.keys = try encryptionKeys(settings)
  queue.retainAge = settings.queueRetainAge ?? .zero
  queue.retainBytes = settings.queueRetainSize.bytes
  queue.name = id
  return queue
}

/// Keys for looking; one that is none was reported when the daemon did not start with it.
func lookingKeys(_ settings: PipelineSettings) -> [BlockKey] { (try? encryptionKeys(settings)) ?? [] }

/// The folder in which the queue of a pipeline lies.
package func queueFolder(of id: String, _ settings: PipelineSettings, _ configuration: Configuration) -> String {
  (settings.queuePath?.text ?? configuration.dataFolder + "/queue") + "/" + id
}

/// The folder in which the dead letters of a pipeline lie.
package func deadLetterFolder(of id: String, _ settings: PipelineSettings, _ configuration: Configuration) -> String {
  (settings.deadLettersPath?.text ?? configuration.dataFolder + "/dead_letter_queue") + "/" + id
}

/// The queues that are on disk: of the configured pipelines, and of others that were configured once, each with the
/// overflow queues of its outputs behind it (`aura/overflow/…`).
package func queueLocations(_ configuration: Configuration, problems: Problems) -> [QueueLocation] {
  mainQueues(configuration, problems).flatMap { queue in
    let root = queue.folder + "/overflow"
    return [queue]
      + folderNames(in: root).filter { Configuration.isFolder("\(root)/\($0)") }.map {
        QueueLocation(id: "\(queue.id)/overflow/\($0)", folder: "\(root)/\($0)", keys: queue.keys)
      }
  }
}

private func mainQueues(_ configuration: Configuration, _ problems: Problems) -> [QueueLocation] {
  locations(configuration, problems, below: configuration.dataFolder + "/queue", queueFolder)
}

/// What lies on disk for each pipeline: the configured ones, and others that were configured once.
///
/// - Parameters:
///   - root: Where it lies unless a setting says otherwise.
///   - folder: Where it lies for one pipeline.
func locations(
  _ configuration: Configuration, _ problems: Problems, below root: String,
  _ folder: (String, PipelineSettings, Configuration) -> String
) -> [QueueLocation] {
  var found: [QueueLocation] = []
  func add(_ id: String, _ folder: String, _ settings: PipelineSettings) {
    guard !found.contains(where: { $0.folder == folder }), Configuration.isFolder(folder) else { return }
    found.append(QueueLocation(id: id, folder: folder, keys: lookingKeys(settings)))
  }
  for file in configuration.files {
    let settings = configuration.settings.pipeline(file, problems: problems)
    add(file.id, folder(file.id, settings, configuration), settings)
  }
  for name in folderNames(in: root) { add(name, "\(root)/\(name)", configuration.settings.daemon.pipeline) }
  return found
}

func folderNames(in folder: String) -> [String] {
  guard let stream = opendir(folder) else { return [] }
  defer { closedir(stream) }
  var names: [String] = []
  while let entry = readdir(stream) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
      pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if !name.hasPrefix(".") { names.append(name) }
  }
  return names.sorted()
}
