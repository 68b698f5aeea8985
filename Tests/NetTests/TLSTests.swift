//  TLS of the listeners: versions, client certificates, and peers that speak something else.

import Diagnostics
import Foundation
import Glibc
import Net
import TestSupport
import Testing

/// Certificates made by the `openssl` program: an authority, a server's and a client's, and a stranger's.
struct Certificates {
  let folder: String
  static let shared = Certificates()

  private init?() {
    folder = NSTemporaryDirectory() + "sluice-tls-\(getpid())"
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let subject = "/O=Example Ltd./CN="
    func make(_ name: String, _ cn: String, signer: String?) -> Bool {
      let key = run(
        "openssl", ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path(name + ".key")])
      guard key == 0 else { return false }
      if let signer {
        guard
          run(
            "openssl",
            ["req", "-utf8", "-new", "-key", path(name + ".key"), "-subj", subject + cn, "-out", path(name + ".csr")])
            == 0
        else { return false }
        return run(
          "openssl",
          [
            "x509", "-req", "-in", path(name + ".csr"), "-CA", path(signer + ".pem"), "-CAkey", path(signer + ".key"),
            "-CAcreateserial", "-days", "2", "-out", path(name + ".pem"),
          ]) == 0
      }
      return run(
        "openssl",
        [
          "req", "-utf8", "-x509", "-key", path(name + ".key"), "-subj", subject + cn, "-days", "2", "-out",
          path(name + ".pem"),
        ])
        == 0
    }
    guard make("ca", "Test CA", signer: nil), make("server", "localhost", signer: "ca"),
      make("client", "wéb-01", signer: "ca"),
      make("stranger", "stranger", signer: nil),
      run(
        "openssl",
        ["pkey", "-in", path("server.key"), "-aes256", "-passout", "pass:secret", "-out", path("locked.key")]) == 0
    else { return nil }
  }

  func path(_ name: String) -> String { folder + "/" + name }

  func run(_ program: String, _ arguments: [String]) -> Int32 {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [program] + arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return -1 }
    process.waitUntilExit()
    return process.terminationStatus
  }

  func configuration(_ change: (inout TLSConfiguration) -> Void = { _ in }) -> TLSConfiguration {
    var configuration = TLSConfiguration(certificate: path("server.pem"), key: path("server.key"))
    change(&configuration)
    return configuration
  }

  /// What `openssl s_client` got back for `input`; nil when it failed.
  func talk(port: Int, _ input: [UInt8], expecting count: Int, _ arguments: [String] = []) -> [UInt8]? {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments =
      [
        "openssl", "s_client", "-quiet", "-connect", "127.0.0.1:\(port)", "-CAfile", path("ca.pem"),
        "-verify_return_error",
      ]
      + arguments
    let (toClient, fromClient) = (Pipe(), Pipe())
    process.standardInput = toClient
    process.standardOutput = fromClient
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    defer {
      // Dispatch's threads block most signals, and a child inherits that: only this one arrives for sure.
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
    let writer = toClient.fileHandleForWriting
    TestThread.run { try? writer.write(contentsOf: Data(input)) }
    var received: [UInt8] = []
    while received.count < count {
      let more = fromClient.fileHandleForReading.availableData
      if more.isEmpty { return nil }
      received += Array(more)
    }
    return received
  }
}

@Suite(.serialized) struct TLSTests {
  private func echo(_ change: (inout TLSConfiguration) -> Void = { _ in }) throws -> (Handlers, Listener, Certificates)?
  {
    guard let certificates = Certificates.shared else {
      Issue.record("the `openssl` program is needed for this test")
      return nil
    }
    let handlers = Handlers()
    let context = try TLSServerContext(certificates.configuration(change))
    return (handlers, try listen(handlers, { $0.tls = context }), certificates)
  }

  @Test(arguments: ["-tls1_2", "-tls1_3"]) func `a real client talks over TLS in both directions`(version: String)
    throws
  {
    guard let (handlers, listener, certificates) = try echo() else { return }
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 2) }
    #expect(certificates.talk(port: listener.port, bytes, expecting: bytes.count, [version]) == bytes)
    let identity = handlers.wait()?.state.withLock { $0.identity }
    #expect(identity?.version == (version == "-tls1_2" ? "TLSv1.2" : "TLSv1.3"))
    #expect(identity?.isVerified == false && identity?.subject == nil)
    #expect(identity?.cipher.hasPrefix("TLS_") == true)
    listener.stop()
  }

  @Test func `a required client certificate is checked and names its owner`() throws {
    guard
      let (handlers, listener, certificates) = try echo({
        $0.clientAuthentication = .required
        $0.authorities = [Certificates.shared?.path("ca.pem") ?? ""]
      })
    else { return }
    let hello = Array("hello".utf8)
    let own = ["-cert", certificates.path("client.pem"), "-key", certificates.path("client.key")]
    #expect(certificates.talk(port: listener.port, hello, expecting: 5, own) == hello)
    let identity = handlers.wait()?.state.withLock { $0.identity }
    #expect(identity?.isVerified == true)
    #expect(identity?.subject == "CN=wéb-01, O=Example Ltd.")
    #expect(certificates.talk(port: listener.port, hello, expecting: 5) == nil)
    let strange = ["-cert", certificates.path("stranger.pem"), "-key", certificates.path("stranger.key")]
    #expect(certificates.talk(port: listener.port, hello, expecting: 5, strange) == nil)
    if case .tls(let reason)? = handlers.wait(1)?.waitForClose() {
      #expect(reason.contains("certificate"))
    } else {
      Issue.record("the handshake without a certificate did not fail as TLS")
    }
    listener.stop()
  }

  @Test func `an optional client certificate may be left away but not be a stranger's`() throws {
    guard
      let (_, listener, certificates) = try echo({
        $0.clientAuthentication = .optional
        $0.authorities = [Certificates.shared?.path("ca.pem") ?? ""]
      })
    else { return }
    let hello = Array("hello".utf8)
    #expect(certificates.talk(port: listener.port, hello, expecting: 5) == hello)
    let strange = ["-cert", certificates.path("stranger.pem"), "-key", certificates.path("stranger.key")]
    #expect(certificates.talk(port: listener.port, hello, expecting: 5, strange) == nil)
    listener.stop()
  }

  @Test func `versions and suites are those allowed`() throws {
    guard
      let (handlers, listener, certificates) = try echo({
        $0.maxVersion = .v1_2
        $0.cipherSuites = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
      })
    else { return }
    let hello = Array("hello".utf8)
    #expect(certificates.talk(port: listener.port, hello, expecting: 5) == hello)
    #expect(handlers.wait()?.state.withLock { $0.identity?.cipher } == "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    #expect(certificates.talk(port: listener.port, hello, expecting: 5, ["-tls1_3"]) == nil)
    listener.stop()
  }

  @Test func `bytes that are no TLS, and a handshake that never comes, close the connection`() throws {
    guard let certificates = Certificates.shared else { return }
    var configuration = certificates.configuration()
    configuration.handshakeTimeout = .milliseconds(300)
    let context = try TLSServerContext(configuration)
    let handlers = Handlers()
    let listener = try listen(handlers, { $0.tls = context })
    let plain = try TestClient(port: listener.port)
    try plain.send("GET / HTTP/1.1\r\n\r\n")
    _ = plain.receiveAll()
    if case .tls? = handlers.wait()?.waitForClose() {} else { Issue.record("plain bytes were not refused as TLS") }
    let silent = try TestClient(port: listener.port)
    _ = silent.receiveAll()
    #expect(handlers.wait(1)?.waitForClose() == .tls("the handshake took too long"))
    #expect(handlers.wait(0)?.state.withLock { $0.isReady } == false)
    listener.stop()
  }

  @Test func `what is wrong with the files is told, and a locked key opens with its passphrase`() throws {
    guard let certificates = Certificates.shared else { return }
    func failure(_ change: (inout TLSConfiguration) -> Void) -> TLSError? {
      do {
        _ = try TLSServerContext(certificates.configuration(change))
        return nil
      } catch { return error }
    }
    if case .certificate(let path, _)? = failure({ $0.certificate = "/nowhere.pem" }) {
      #expect(path == "/nowhere.pem")
    } else {
      Issue.record("a missing certificate was not told")
    }
    if case .key? = failure({ $0.key = certificates.path("client.key") }) {
    } else {
      Issue.record("a foreign key was taken")
    }
    if case .key? = failure({ $0.key = certificates.path("locked.key") }) {
    } else {
      Issue.record("a locked key was taken")
    }
    #expect(failure({ $0.clientAuthentication = .required }) == .missingAuthorities)
    #expect(failure({ $0.cipherSuites = ["TLS_NO_SUCH_WITH_SUITE"] }) == .unknownCipherSuite("TLS_NO_SUCH_WITH_SUITE"))
    #expect(
      failure({
        $0.key = certificates.path("locked.key")
        $0.keyPassphrase = "secret"
      }) == nil)
  }
}
