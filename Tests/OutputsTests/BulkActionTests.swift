//  What the `elasticsearch` output sends for its options: actions, metadata, data streams, headers, proxy, compression.

import Config
import Diagnostics
import Events
import Glibc
import PluginKit
import TestSupport
import Testing

@testable import Outputs

@Suite struct BulkActionTests {
  /// The lines that documents become, sent in one request.
  private func lines(
    _ documents: [String], buried: Int = 0, _ change: (inout Elasticsearch.Settings) -> Void
  ) throws -> [String] {
    let endpoint = try BulkEndpoint(takesAll: true)
    defer { endpoint.stop() }
    let letters = KeptLetters()
    let output = try started(endpoint.address, letters, change)
    let isDone = try write(documents, to: output)
    #expect(waitUntil { isDone.withLock { $0 } } && endpoint.faults.isEmpty)
    #expect(letters.all.count == buried)
    output.stop(deadline: .now + .seconds(5))
    return endpoint.bulks.flatMap { $0.body.split(separator: "\n").map(String.init) }
  }

  @Test func `an update carries the document, and makes it where there is none`() throws {
    let sent = try lines([#"{"id":"a","n":1,"@timestamp":"2026-03-01T00:00:00.000Z"}"#]) {
      $0.action = Template("update")
      $0.documentID = Template("%{id}")
      $0.docAsUpsert = true
      $0.routing = Template("r%{n}")
    }
    #expect(
      sent[0] == #"{"update":{"_index":"logs-2026.03.01","_id":"a","routing":"r1","retry_on_conflict":1}}"#)
    let body = try PlainJSON(sent[1])
    #expect(body["doc"]?["n"]?.integer == 1 && body["doc_as_upsert"]?.boolean == true)
  }

  @Test func `a script gets the event as a parameter`() throws {
    let sent = try lines([#"{"id":"a","n":1}"#]) {
      $0.action = Template("update")
      $0.documentID = Template("%{id}")
      $0.script = "ctx._source.n += params.event.n"
      $0.scriptedUpsert = true
      $0.upsert = Template(#"{"n": %{n}}"#)
    }
    let body = try PlainJSON(sent[1])
    #expect(body["script"]?["source"]?.string == "ctx._source.n += params.event.n")
    #expect(body["script"]?["lang"]?.string == "painless")
    #expect(body["script"]?["params"]?["event"]?["n"]?.integer == 1)
    #expect(body["scripted_upsert"]?.boolean == true && body["upsert"]?["n"]?.integer == 1)
  }

  @Test func `each event may name its action, and what is none is a dead letter`() throws {
    let sent = try lines(
      [
        #"{"id":"a","do":"index"}"#, #"{"id":"a","do":"delete"}"#, #"{"id":"b","do":"delete"}"#,
        #"{"id":"a","do":"burn"}"#, #"{"id":"a"}"#,
      ], buried: 2
    ) {
      $0.action = Template("%{do}")
      $0.documentID = Template("%{id}")
      $0.version = Template("17")
    }
    let day = "2026.02.25"
    let versioned = #""version":17,"version_type":"external"}}"#
    #expect(sent.count == 4)
    #expect(sent[0] == #"{"index":{"_index":"logs-\#(day)","_id":"a",\#(versioned)"#)
    #expect(sent[2] == #"{"delete":{"_index":"logs-\#(day)","_id":"a",\#(versioned)"#)
    #expect(sent[3] == #"{"delete":{"_index":"logs-\#(day)","_id":"b",\#(versioned)"#)
  }

  @Test func `a pipeline that comes out empty is left out`() throws {
    let sent = try lines([#"{"p":"","n":1}"#, #"{"p":"geo","n":2}"#]) { $0.pipeline = Template("%{p}") }
    #expect(!sent[0].contains("pipeline") && sent[2].contains(#""pipeline":"geo""#))
  }

  @Test func `events go to the data stream that they name, and the document tells it`() throws {
    let documents = [
      #"{"n":1}"#, #"{"data_stream":{"type":"metrics","dataset":"My-Set/1","namespace":"a-b","extra":true},"n":2}"#,
    ]
    let sent = try lines(documents) {
      $0.index = nil
      $0.dataStream = .true
      $0.dataStreamDataset = "shop"
    }
    #expect(sent[0] == #"{"create":{"_index":"logs-shop-default"}}"#)
    #expect(sent[2] == #"{"create":{"_index":"metrics-my_set_1-a-b"}}"#)
    let one = try PlainJSON(sent[1])
    #expect(one["data_stream"]?["dataset"]?.string == "shop" && one["data_stream"]?["type"]?.string == "logs")
    let two = try PlainJSON(sent[3])
    #expect(two["data_stream"]?["dataset"]?.string == "my_set_1" && two["data_stream"]?["extra"]?.boolean == true)
    let fixed = try lines([documents[1]]) {
      $0.index = nil
      $0.dataStream = .true
      $0.dataStreamAutoRouting = false
    }
    #expect(fixed[0] == #"{"create":{"_index":"logs-generic-default"}}"#)
    #expect(try PlainJSON(fixed[1])["data_stream"]?["type"]?.string == "logs")
    #expect(try lines([documents[1]]) { $0.dataStreamSyncFields = nil }[1].contains("My-Set/1"))
  }

  @Test(arguments: [
    ("a user", ["authorization": "Basic dTpw"]), ("an API key", ["authorization": "ApiKey aWQ6a2V5"]),
    ("a token", ["authorization": "Bearer t0ken"]), ("headers", ["x-tenant": "blue", "user-agent": "shipper"]),
    ("a cloud password", ["authorization": "Basic dTpw"]), ("gzip", ["content-encoding": "gzip"]),
  ])
  func `every request carries`(what: String, headers: [String: String]) throws {
    let endpoint = try BulkEndpoint()
    defer { endpoint.stop() }
    let output = try started(endpoint.address, KeptLetters()) {
      switch what {
      case "a user": ($0.user, $0.password) = ("u", Secret("p"))
      case "an API key": $0.apiKey = Secret("id:key")
      case "a token": $0.bearerToken = Secret("t0ken")
      case "a cloud password": $0.cloudAuth = Secret("u:p")
      case "gzip": $0.compressionLevel = 1
      default: $0.customHeaders = ["X-Tenant": "blue", "User-Agent": "shipper"]
      }
    }
    _ = try write([#"{"n":1}"#], to: output)
    #expect(waitUntil { !endpoint.bulks.isEmpty })
    let sent = try #require(endpoint.bulks.first?.headers)
    for header in headers { #expect(sent[header.key] == header.value) }
    output.stop(deadline: .now + .milliseconds(100))
  }

  @Test func `a proxy is asked for the host, and parameters and path are part of the address`() throws {
    let proxy = try BulkEndpoint()
    defer { proxy.stop() }
    let output = try started("http://cluster.invalid", KeptLetters()) {
      $0.proxy = Secret(proxy.address)
      $0.path = "/es/"
      $0.parameters = ["timeout": "30s", "a b": "ü"]
    }
    let isDone = try write([#"{"n":1}"#], to: output)
    #expect(waitUntil { isDone.withLock { $0 } })
    #expect(
      proxy.bulks.first?.target
        == "http://cluster.invalid:9200/es/_bulk?filter_path=errors,items.*.error,items.*.status&timeout=30s&a%20b=%C3%BC"
    )
    output.stop(deadline: .now + .seconds(5))
  }

  @Test func `errors that are named are dropped or become letters at once`() throws {
    let endpoint = try BulkEndpoint { _, body in
      .refuse(status: body.contains("\"n\":1}") ? 403 : 429, type: "odd_exception", text: "\"n\"")
    }
    defer { endpoint.stop() }
    let letters = KeptLetters()
    let output = try started(endpoint.address, letters) { $0.letterCodes = [403] }
    let isDone = try write([#"{"n":1}"#], to: output)
    #expect(waitUntil { isDone.withLock { $0 } } && letters.all.first?.reason.status == 403)
    output.stop(deadline: .now + .seconds(5))
    let dropping = try started(endpoint.address, letters) { $0.dropErrorTypes = ["odd_exception"] }
    let isDropped = try write([#"{"n":2}"#], to: dropping)
    #expect(waitUntil { isDropped.withLock { $0 } } && letters.all.count == 1)
    #expect(dropping.statistics.extra.contains(#""non_retryable_failures":1"#))
    dropping.stop(deadline: .now + .seconds(5))
  }

  @Test(arguments: [
    "action": "burn", "version": "1", "version_type": "", "cloud_id": "x", "api_key": "a\nb", "ssl_key": "k",
    "idempotent": "", "upsert": "[1]", "data_stream_dataset": "x", "bulk_path": "x", "scripted_upsert": "",
    "custom_headers": "", "user": "",
  ])
  func `options that contradict each other are named`(option: String, value: String) throws {
    var settings = Elasticsearch.Settings()
    switch option {
    case "action": settings.action = Template(value)
    case "version": (settings.version, settings.action) = (Template(value), Template("create"))
    case "version_type": settings.versionType = .external
    case "cloud_id": (settings.cloudID, settings.hosts) = (value, nil)
    case "api_key": settings.apiKey = Secret(value)
    case "ssl_key": settings.key = "k"
    case "idempotent": (settings.idempotent, settings.documentID) = (true, Template("x"))
    case "upsert": settings.upsert = Template(value)
    case "data_stream_dataset": settings.dataStreamDataset = value
    case "bulk_path": settings.bulkPath = value
    case "scripted_upsert": settings.scriptedUpsert = true
    case "custom_headers": settings.customHeaders = ["a b": "c"]
    default: (settings.user, settings.apiKey) = ("u", Secret("k"))
    }
    let failure = #expect(throws: BuildFailure.self) { try Elasticsearch.make(settings, context(KeptLetters())) }
    #expect(failure?.option == option || option == "user" && failure?.option == "api_key")
  }
}
