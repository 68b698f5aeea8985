//  What the queue's tests share: folders that go away, batches with known contents, and a way to read everything.

import Diagnostics
import Glibc
import Queue
import Records
import Synchronization

/// A folder that is removed with its object.
final class Folder: Sendable {
  let path: String

  init() {
    var name = Array("/tmp/queue-tests-XXXXXX".utf8CString)
    path = mkdtemp(&name).map { String(cString: $0) } ?? "/tmp/queue-tests"
  }

  deinit {
    for name in files { unlink(path + "/" + name) }
    rmdir(path)
  }

  var files: [String] { ((try? RealFileSystem().list(path)) ?? []).sorted() }

  func bytes(_ name: String) -> [UInt8] {
    let fd = open(path + "/" + name, O_RDONLY)
    defer { close(fd) }
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = Glibc.read(fd, &buffer, buffer.count)
      if count <= 0 { return all }
      all += buffer[..<count]
    }
  }

  func write(_ name: String, _ bytes: [UInt8]) {
    let fd = open(path + "/" + name, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    defer { close(fd) }
    var done = 0
    bytes.withUnsafeBytes {
      while done < bytes.count { done += max(0, Glibc.write(fd, $0.baseAddress! + done, bytes.count - done)) }
    }
  }
}

let descriptor = RecordDescriptor(Array(#"{"codec":"json"}"#.utf8))

func batch(
  _ texts: [String], context: RecordContext? = nil, descriptor: RecordDescriptor = descriptor, arrivalNs: Int64 = 7
)
  -> RecordBatch
{
  let batch = RecordBatch(descriptor: descriptor, context: context, arrivalNs: arrivalNs)
  for var text in texts { text.withUTF8 { batch.append(UnsafeRawBufferPointer($0)) } }
  return batch
}

extension QueueBatch {
  var texts: [String] { (0..<count).map { String(decoding: payload($0), as: UTF8.self) } }
}

extension EventQueue {
  func readNow(_ maxRecords: Int = 1_000_000, maxBytes: Int = .max) -> QueueBatch? {
    read(maxRecords: maxRecords, maxBytes: maxBytes, until: Instant.now, gather: .zero)
  }

  /// Waits until the completion comes.
  func appendAndWait(_ batch: RecordBatch) -> Result<Void, AppendFailure> {
    let gate = Gate<Result<Void, AppendFailure>?>(nil)
    append(batch) { result in gate.update { $0 = result } }
    return gate.wait(until: Instant.now + .seconds(20)) { $0 } ?? .failure(.closed)
  }

  /// Texts of everything that can be read now; released unless told otherwise.
  func drain(releases: Bool = true) -> [String] {
    var all: [String] = []
    while let batch = readNow() {
      all += batch.texts
      if releases { batch.release() } else { kept.withLock { $0.append(batch) } }
    }
    return all
  }
}

/// Batches that a test leaves in flight.
let kept = Lock<[QueueBatch]>([])

/// Settings with which small tests see segments come and go.
func smallSettings(_ change: (inout QueueSettings) -> Void = { _ in }) -> QueueSettings {
  var settings = QueueSettings()
  settings.segmentBytes = 1 << 16
  settings.maxBytes = 1 << 20
  settings.minFreeBytes = 0
  change(&settings)
  return settings
}

func openQueue(
  _ folder: Folder, _ settings: QueueSettings = smallSettings(), runsThreads: Bool = false
) throws(QueueOpenError) -> DiskQueue {
  try DiskQueue(folder: folder.path, settings: settings, fileSystem: RealFileSystem(), runsThreads: runsThreads)
}

/// Appends, writes one step after another, and says how many completions came.
@discardableResult
func append(_ queue: DiskQueue, _ batches: [RecordBatch]) -> Int {
  let done = Counter()
  for batch in batches { queue.append(batch) { if case .success = $0 { done.add() } } }
  while queue.writeStep() == .wrote {}
  return done.value
}

/// A thread of a test.
final class Worker: @unchecked Sendable {  // unchecked: written before it is shared
  private var thread = pthread_t()

  init(_ body: @escaping @Sendable () -> Void) {
    final class Box {
      let body: @Sendable () -> Void
      init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    pthread_create(
      &thread, nil,
      { context in
        Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
        return nil
      }, Unmanaged.passRetained(Box(body)).toOpaque())
  }

  func join() { pthread_join(thread, nil) }
}
