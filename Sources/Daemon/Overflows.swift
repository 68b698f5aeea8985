//  The overflow queues of a pipeline: one beside its queue for each output that can spill and is not alone, and those of
//  outputs that are no longer there, which are kept and named.

internal import Config
internal import Diagnostics
internal import Pipeline
internal import PluginKit
internal import Queue

/// The overflow queues of one pipeline.
struct Overflows: Sendable {
  var queues: [OutputOverflow] = []
  /// Folders with events of outputs that the pipeline no longer has, or that send elsewhere now.
  var orphans: [(name: String, events: Int)] = []

  /// - Parameters:
  ///   - folder: The pipeline's queue.
  ///   - quota: The bytes that queue and overflow queues share.
  init(
    _ compiled: CompiledPipeline, folder: String, settings: QueueSettings, quota: QueueQuota?,
    spillAfter: Duration
  ) {
    let groups = Dictionary(grouping: compiled.outputs, by: Self.destination)
    var known: Set<String> = []
    for step in compiled.outputs {
      guard let output = step.output as? any SpillingOutput else { continue }
      let name = Self.name(step.id, output.destination)
      let others = groups.filter { $0.key != output.destination }.map(\.value)
      // An output that is alone lags with its pipeline; what it spilled in other company is sent all the same.
      guard !others.isEmpty || Configuration.isFolder("\(folder)/overflow/\(name)") else { continue }
      known.insert(name)
      var own = settings
      own.name += "/" + step.id
      own.quota = quota
      own.retainAge = .zero
      own.retainBytes = 0
      queues.append(
        OutputOverflow(
          step, output, others: others, folder: "\(folder)/overflow/\(name)", settings: own, spillAfter: spillAfter))
    }
    nameOrphans(folder + "/overflow", known, settings, quota, compiled.id)
  }

  private static func destination(_ step: OutputStep) -> String {
    (step.output as? any SpillingOutput)?.destination ?? "output " + step.id
  }

  /// The output's id, and a hash of its hosts: another cluster's events are not for this one.
  static func name(_ id: String, _ destination: String) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in destination.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    let digits = String(hash, radix: 16)
    return id + "-" + String(repeating: "0", count: max(0, 16 - digits.utf8.count)) + digits
  }

  private mutating func nameOrphans(
    _ root: String, _ known: Set<String>, _ settings: QueueSettings, _ quota: QueueQuota?, _ pipeline: String
  ) {
    for name in folderNames(in: root) where !known.contains(name) {
      let report: QueueFolderReport
      do { report = try QueueInspector(folder: "\(root)/\(name)", keys: settings.keys).stats() } catch {
        Log.warn(
          "overflow.orphan", "An overflow queue belongs to no output, and it cannot be read.",
          [
            "pipeline": .text(pipeline), "folder": .text("\(root)/\(name)"), "reason": .text(error.description),
            "next": "`sluice queue check` names what is wrong with it",
          ])
        continue
      }
      if report.events == 0 { continue }
      orphans.append((name, report.events))
      quota?.reserve(report.bytes)
      Log.warn(
        "overflow.orphan", "An overflow queue belongs to no output; its events stay on disk and are not sent.",
        [
          "pipeline": .text(pipeline), "folder": .text("\(root)/\(name)"), "events": .number(report.events),
          "next": "give the output its old id and hosts back to send them, or remove the folder",
        ])
    }
  }
}
