//  The two names of a node: one that lasts, in the data folder, and one of this run.

internal import Codecs
internal import Diagnostics
internal import Glibc
internal import PluginKit

/// A random UUID, version 4.
func makeUUID() -> String {
  var bytes = [UInt8](repeating: 0, count: 16)
  if getentropy(&bytes, bytes.count) != 0 { for i in bytes.indices { bytes[i] = .random(in: 0...255) } }
  bytes[6] = bytes[6] & 0x0f | 0x40
  bytes[8] = bytes[8] & 0x3f | 0x80
  var text = ""
  for (i, byte) in bytes.enumerated() {
    if [4, 6, 8, 10].contains(i) { text += "-" }
    text += byte < 16 ? "0" + String(byte, radix: 16) : String(byte, radix: 16)
  }
  return text
}

/// The id of this node, kept in the file `uuid` of the data folder; made there once.
func nodeIdentity(in folder: String) -> String {
  let path = folder + "/uuid"
  if let bytes = try? readFile(path, limitBytes: 64) {
    let text = String(decoding: bytes.filter { $0 > 32 }, as: UTF8.self)
    if text.utf8.count == 36 { return text }
  }
  let made = makeUUID()
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
  if descriptor >= 0 {
    Array((made + "\n").utf8).withUnsafeBytes { _ = writeAll($0, to: descriptor) }
    close(descriptor)
  }
  return made
}

/// SHA-256 of a file as 64 hex digits; of nothing, where it cannot be read any more.
func fileDigest(_ path: String) -> String {
  let bytes = (try? readFile(path)) ?? []
  let digest = (try? Digest.compute(.sha256, bytes)) ?? []
  return digest.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined()
}
