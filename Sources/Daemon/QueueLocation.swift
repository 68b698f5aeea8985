//  Where the queues of a data folder lie, for commands that look at them from outside.

package import Codecs
package import Config
package import Diagnostics
internal import Glibc
internal import Pipeline

/// The queue of one pipeline.
package struct QueueLocation: Sendable {
  /// The pipeline's id.
  package let id: String
  package let folder: String
  /// Keys with which its blocks may be encrypted.
  package var keys: [BlockKey] = []

  package init(id: String, folder: String) {
    self.id = id
    self.folder = folder
  }
}

/// The folder in which the queue of a pipeline lies.
package func queueFolder(of id: String, _ settings: PipelineSettings, _ configuration: Configuration) -> String {
  (settings.queuePath?.text ?? configuration.dataFolder + "/queue") + "/" + id
}

/// The folder in which the dead letters of a pipeline lie.
package func deadLetterFolder(of id: String, _ settings: PipelineSettings, _ configuration: Configuration) -> String {
  (settings.deadLettersPath?.text ?? configuration.dataFolder + "/dead_letter_queue") + "/" + id
}

/// The queues that are on disk: of the configured pipelines, and of others that were configured once.
package func queueLocations(_ configuration: Configuration, problems: Problems) -> [QueueLocation] {
  var found: [QueueLocation] = []
  for file in configuration.files {
    let folder = queueFolder(of: file.id, configuration.settings.pipeline(file, problems: problems), configuration)
    if Configuration.isFolder(folder) { found.append(QueueLocation(id: file.id, folder: folder)) }
  }
  let root = configuration.dataFolder + "/queue"
  for name in folderNames(in: root) where !found.contains(where: { $0.folder == "\(root)/\(name)" }) {
    if Configuration.isFolder("\(root)/\(name)") { found.append(QueueLocation(id: name, folder: "\(root)/\(name)")) }
  }
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
