//  A folder of one test, removed with its last user.

import Diagnostics
import Glibc

final class TemporaryFolder {
  let path: String
  private var files: [String] = []
  private var folders: [String] = []

  init() throws {
    var template = Array("/tmp/sluice-config-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SystemError(errno, call: "mkdtemp") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  func write(_ name: String, _ text: String) throws {
    let file = try systemCall("open") { open(path + "/" + name, O_WRONLY | O_CREAT | O_TRUNC, 0o600) }
    files.append(name)
    defer { close(file) }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = try systemCall("write") { bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) } }
      bytes = bytes.dropFirst(count)
    }
  }

  func makeFolder(_ name: String) throws {
    try systemCall("mkdir") { mkdir(path + "/" + name, 0o700) }
    folders.append(name)
  }

  deinit {
    for name in files { unlink(path + "/" + name) }
    for name in folders { rmdir(path + "/" + name) }
    rmdir(path)
  }
}
