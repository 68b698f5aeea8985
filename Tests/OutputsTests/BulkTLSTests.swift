//  The `elasticsearch` output over TLS: authorities, fingerprints, the client's certificate, and what is refused. A small
//  relay in Python speaks TLS in front of the scripted endpoint, so that no TLS of ours answers for itself.

import Config
import Diagnostics
import Foundation
import PluginKit
import TestSupport
import Testing

@testable import Outputs

/// TLS in front of a port; made with certificates for 127.0.0.1 by the program `openssl`.
private final class TLSRelay: @unchecked Sendable {  // unchecked: one test uses it
  let folder = NSTemporaryDirectory() + "sluice-relay-" + UUID().uuidString
  private let process = Process()
  private(set) var port = 0

  init(to port: Int, demandsClient: Bool) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let steps = """
      set -e; cd '\(folder)'
      key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key; }
      key ca; openssl req -x509 -key ca.key -subj '/CN=Test CA' -days 2 -out ca.pem
      for name in server client; do
        key $name; openssl req -new -key $name.key -subj /CN=$name -out $name.csr
        printf 'subjectAltName=IP:127.0.0.1' > ext
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $name.pem
      done
      cat server.pem ca.pem > chain.pem
      openssl x509 -in ca.pem -outform der | sha256sum | cut -c1-64 > ca.digest
      """
    let shell = Process()
    shell.executableURL = URL(filePath: "/bin/bash")
    shell.arguments = ["-c", steps]
    shell.standardError = FileHandle.nullDevice
    shell.standardOutput = FileHandle.nullDevice
    try shell.run()
    shell.waitUntilExit()
    try #require(shell.terminationStatus == 0)
    let program = """
      import socket, ssl, sys, threading
      context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
      context.load_cert_chain('chain.pem', 'server.key')
      if sys.argv[2] == 'yes':
          context.load_verify_locations('ca.pem'); context.verify_mode = ssl.CERT_REQUIRED
      listener = socket.create_server(('127.0.0.1', 0))
      print(listener.getsockname()[1], flush=True)
      def pump(source, target):
          try:
              while data := source.recv(65536): target.sendall(data)
          except OSError: pass
          finally:
              try: target.shutdown(socket.SHUT_WR)
              except OSError: pass
      def serve(raw):
          try: inner = context.wrap_socket(raw, server_side=True)
          except OSError: return
          outer = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
          threading.Thread(target=pump, args=(outer, inner), daemon=True).start()
          pump(inner, outer)
      while True:
          raw, _ = listener.accept()
          threading.Thread(target=serve, args=(raw,), daemon=True).start()
      """
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["python3", "-c", program, String(port), demandsClient ? "yes" : "no"]
    process.currentDirectoryURL = URL(filePath: folder)
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    let line = String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self)
    self.port = try #require(Int(line.trimmingCharacters(in: .whitespacesAndNewlines)))
  }

  deinit {
    process.terminate()
    try? FileManager.default.removeItem(atPath: folder)
  }

  func path(_ name: String) -> FilePath { FilePath(folder + "/" + name) }
  var digest: String {
    (try? String(contentsOfFile: folder + "/ca.digest", encoding: .utf8))?.trimmingCharacters(in: .newlines) ?? ""
  }
}

@Suite struct BulkTLSTests {
  /// Whether one event arrives; `trouble` tells why not.
  private func delivers(
    _ relay: TLSRelay, name: String = "127.0.0.1", _ change: (inout Elasticsearch.Settings) -> Void
  ) throws -> (isThere: Bool, trouble: String) {
    let output = try started("https://\(name):\(relay.port)", KeptLetters(), change)
    defer { output.stop(deadline: .now) }
    let isDone = try write([#"{"n":1}"#], batch: Int.random(in: 0...1_000_000), to: output)
    _ = waitUntil { isDone.withLock { $0 } || output.statistics.trouble != nil }
    return (isDone.withLock { $0 }, output.statistics.trouble ?? "")
  }

  @Test func `a server is believed for its authority or its fingerprint, and for its name`() throws {
    let endpoint = try BulkEndpoint()
    defer { endpoint.stop() }
    let relay = try TLSRelay(to: endpoint.port, demandsClient: false)
    let digest = relay.digest
    #expect(try delivers(relay) { $0.authorities = [relay.path("ca.pem")] }.isThere)
    #expect(try delivers(relay) { $0.fingerprint = digest }.isThere)
    #expect(try delivers(relay) { $0.verification = .none }.isThere)
    #expect(
      try delivers(relay) {
        $0.authorities = [relay.path("ca.pem")]
        $0.protocols = [.v1_2]
      }.isThere)
    // Nobody vouches for it.
    let stranger = try delivers(relay) { _ in }
    #expect(!stranger.isThere && stranger.trouble.contains("cannot be reached"), "\(stranger)")
    let other = String(digest.reversed())
    #expect(try !delivers(relay) { $0.fingerprint = other }.isThere)
    // The right authority, but another name.
    #expect(try !delivers(relay, name: "localhost") { $0.authorities = [relay.path("ca.pem")] }.isThere)
    #expect(try !delivers(relay, name: "localhost") { $0.fingerprint = digest }.isThere)
    #expect(
      try delivers(relay, name: "localhost") {
        $0.authorities = [relay.path("ca.pem")]
        $0.verification = .certificate
      }.isThere)
  }

  @Test func `a server that demands a certificate gets the client's`() throws {
    let endpoint = try BulkEndpoint()
    defer { endpoint.stop() }
    let relay = try TLSRelay(to: endpoint.port, demandsClient: true)
    #expect(try !delivers(relay) { $0.authorities = [relay.path("ca.pem")] }.isThere)
    #expect(
      try delivers(relay) {
        $0.authorities = [relay.path("ca.pem")]
        $0.certificate = relay.path("client.pem")
        $0.key = relay.path("client.key")
      }.isThere)
  }
}
