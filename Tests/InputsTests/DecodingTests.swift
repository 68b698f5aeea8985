//  Decoding in context, where no recorded case says it: TLS identities, collisions, several events of a record, many
//  contexts, and payloads without a connection.

import Diagnostics
import Events
import Foundation
import Inputs
import Pipeline
import PluginKit
import Records
import TestSupport
import Testing

/// Decodes payloads with one decoder into one batch. Both stay, so that a test can look at events of one that is gone.
private struct Decoding {
  private final class Keeper: @unchecked Sendable {  // unchecked: `kept` is touched under the lock alone
    private let lock = Lock(())
    private var kept: [AnyObject] = []
    func keep(_ objects: AnyObject...) { lock.withLock { _ in kept += objects } }
  }
  private static let keeper = Keeper()

  let decoders = RecordDecoders()
  let batch = EventBatch()
  let descriptor: RecordDescriptor

  init(_ description: RecordDescription) {
    descriptor = description.descriptor
    Decoding.keeper.keep(decoders, batch)
  }

  func events(_ payload: String, _ context: String? = nil, arrivalNs: Int64 = 1_700_000_000_000_000_000) -> [Event] {
    var events: [Event] = []
    let context = context.map { RecordContext(Array($0.utf8)) }
    Array(payload.utf8).withUnsafeBytes {
      decoders.decoder(descriptor).decode($0, context: context, record: -1, arrivalNs: arrivalNs, into: batch) {
        events.append($0)
      }
    }
    return events
  }

  func event(_ payload: String, _ context: String? = nil) throws -> Event {
    let events = events(payload, context)
    return try #require(events.count == 1 ? events[0] : nil)
  }
}

private func beats(_ enrich: String, codec: String = "plain", ecs: ECSMode = .v8) -> Decoding {
  Decoding(
    RecordDescription(
      input: "beats", inputID: "beats", codec: "beats", ecs: ecs,
      options: [.init("enrich", enrich), .init("codec", codec)]))
}

private func http(_ codec: String = "json", ecs: ECSMode = .v8) -> Decoding {
  Decoding(RecordDescription(input: "http", inputID: "http", codec: codec, ecs: ecs))
}

private let request = """
  {"peer":{"ip":"192.0.2.1","port":40123},"http":{"method":"POST","target":"/in?x=1","version":"HTTP/1.1",\
  "headers":{"content_length":"7","host":"[2001:db8::5]:8080","user_agent":"a \\"quoted\\" one","x_request_id":"r-1"}}}
  """

@Suite struct DecodingTests {
  // Keys of references are not copied, so these stay.
  private static let scheme = FieldReference.known("[url][scheme]")
  private static let hostName = FieldReference.known("[host][name]")

  @Test func `a verified client certificate is told in the metadata`() throws {
    let tls = """
      {"peer":{"ip":"192.0.2.1","port":1},"tls":{"version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384",\
      "verified":true,"subject":"CN=web-01"}}
      """
    let event = try beats("ssl_peer_metadata").event(#"{"message":"m"}"#, tls)
    #expect(
      event.metadata.json
        == #"{"tls_peer":{"status":"verified"},"input":{"beats":{"tls":{"version_protocol":"TLSv1.3","#
        + #""client":{"subject":"CN=web-01"},"cipher":"TLS_AES_256_GCM_SHA384"}}}}"#)
    let old = try beats("ssl_peer_metadata", ecs: .disabled).event(#"{"message":"m"}"#, tls)
    #expect(
      old.metadata.json
        == #"{"tls_peer":{"status":"verified","protocol":"TLSv1.3","subject":"CN=web-01","#
        + #""cipher_suite":"TLS_AES_256_GCM_SHA384"}}"#)
    let unknown = #"{"peer":{"ip":"192.0.2.1","port":1},"tls":{"version":"TLSv1.3","cipher":"X","verified":false}}"#
    #expect(
      try beats("ssl_peer_metadata").event(#"{"message":"m"}"#, unknown).metadata.json
        == #"{"tls_peer":{"status":"unverified"}}"#)
  }

  @Test func `the sender's metadata of the same name is joined, and what the connection knows wins`() throws {
    let event = try beats("source_metadata").event(
      #"{"@metadata":{"beat":"f","input":{"beats":{"host":{"ip":"6.6.6.6","x":1}},"own":true}},"message":"m"}"#,
      #"{"peer":{"ip":"192.0.2.1","port":1}}"#)
    #expect(
      event.metadata.json
        == #"{"beat":"f","input":{"beats":{"host":{"ip":"192.0.2.1","x":1}},"own":true}}"#)
    let scalar = try beats("source_metadata").event(
      #"{"@metadata":{"input":"text"},"message":"m"}"#, #"{"peer":{"ip":"192.0.2.1","port":1}}"#)
    #expect(scalar.metadata.json == #"{"input":"text"}"#)
  }

  @Test func `a request's fields are readable and writable like any other`() throws {
    let event = try http().event(#"{"a":1}"#, request)
    #expect(event.value(.known("[url][domain]"))?.string == "[2001:db8::5]")
    #expect(event.value(.known("[url][port]"))?.integer == 8080)
    #expect(event.value(.known("[user_agent][original]"))?.string == #"a "quoted" one"#)
    #expect(
      event.value(.known("[@metadata][input][http][request][headers][x_request_id]"))?.string == "r-1")
    try event.set(DecodingTests.scheme, .text("https"))
    #expect(event.fields["url"]?.json.contains(#""scheme":"https""#) == true)
    // The next event of the request has the pieces as they were.
    let decoding = http()
    let first = try decoding.event(#"{"a":1}"#, request)
    try first.set(DecodingTests.hostName, .text("changed"))
    #expect(try decoding.event(#"{"a":1}"#, request).fields["host"]?.json == #"{"ip":"192.0.2.1"}"#)
  }

  @Test(arguments: [
    (#"{"host":"web1"}"#, "[@metadata][host][ip]", "192.0.2.1"), (#"{"http":1}"#, "[@metadata][http][method]", "POST"),
    (#"{"url":["x"]}"#, "[url][0]", "x"), (#"{"event":true}"#, "[@metadata][event][original]", #"{"event":true}"#),
    (#"{"user_agent":null}"#, "[@metadata][user_agent][original]", #"a "quoted" one"#),
  ])
  func `where the payload has a scalar it stays, and the request's field goes to the metadata`(
    payload: String, field: String, value: String
  ) throws {
    let event = try http().event(payload, request)
    #expect(event.value(try FieldReference(field))?.string == value, "\(event.fields.json) \(event.metadata.json)")
    #expect(!event.contains(.tags))
  }

  @Test func `a list of documents on a line makes several events with one origin`() throws {
    let decoding = Decoding(
      RecordDescription(input: "tcp", inputID: "tcp", codec: "json_lines", ecs: .v8, type: "t", tags: ["x"]))
    let events = decoding.events(
      #"[{"a":1,"@timestamp":"2024-05-06T07:08:09Z"},{"a":2,"@metadata":{"m":1},"tags":"y"},{}]"#,
      #"{"peer":{"ip":"192.0.2.1","port":7}}"#)
    #expect(events.map(\.part) == [0, 1, 2])
    #expect(events.map { $0.fields["a"]?.integer } == [1, 2, nil])
    #expect(events[0].timestamp?.iso8601 == "2024-05-06T07:08:09.000Z")
    #expect(events[1].timestamp == events[1].arrival)
    #expect(events[1].fields["tags"]?.json == #"["y","x"]"#)
    #expect(events.allSatisfy { $0.fields["type"]?.string == "t" })
    #expect(
      events[1].metadata.json
        == #"{"m":1,"input":{"tcp":{"source":{"name":"192.0.2.1","ip":"192.0.2.1","port":7}}}}"#)
    #expect(!decoding.batch.hasSpawned)
  }

  @Test(arguments: [
    "[1]", "17", "\"x\"", "null", "{", "{\"a\":1}x", "[{\"a\":1},[]]", "{\"@metadata\":1}", "[{\"@metadata\":[]}]",
    "\u{FEFF}{}",
  ])
  func `what is no document is kept as text with a tag`(_ payload: String) throws {
    for codec in ["json", "json_lines"] {
      let event = try http(codec).event(payload, request)
      #expect(event.fields["message"]?.string == payload)
      #expect(event.fields["tags"]?.json == #"["_jsonparsefailure"]"#)
      #expect(event.fields["event"] == nil)
      #expect(event.fields["http"] != nil)
    }
  }

  @Test(arguments: ["", " ", "\t\r\n"]) func `a blank text is no document and no failure`(_ payload: String) {
    #expect(http("json").events(payload).isEmpty)
    #expect(http("json_lines").events(payload).isEmpty)
    #expect(http("plain").events(payload).count == 1)
  }

  @Test func `a message through the json codec is joined with its envelope`() throws {
    let message = #"{\"a\":1,\"@timestamp\":\"2024-01-02T03:04:05Z\",\"@metadata\":{\"k\":2,\"beat\":\"no\"}}"#
    let event = try beats("codec_metadata", codec: "json").event(
      #"{"@metadata":{"beat":"f"},"message":"\#(message)","a":{"own":true}}"#)
    #expect(event.fields["a"]?.json == #"{"own":true}"#)
    #expect(event.timestamp?.iso8601 == "2024-01-02T03:04:05.000Z")
    #expect(event.metadata.json == #"{"beat":"f","k":2}"#)
    #expect(event.fields["message"] == nil)
    #expect(event.fields["event"]?["original"]?.string?.hasPrefix(#"{"a":1"#) == true)
    #expect(event.fields["tags"]?.json == #"["beats_input_codec_json_applied"]"#)
  }

  @Test func `several events of a beats message have the shipper's time and fields`() throws {
    let decoding = beats("none", codec: "json_lines")
    let events = decoding.events(
      #"{"@timestamp":"2024-05-06T07:08:09Z","message":"{\"a\":1}\n\n[{\"a\":2},{\"a\":3}]\nbad\n","host":{"name":"h"}}"#
    )
    #expect(events.map { $0.fields["a"]?.integer } == [1, 2, 3, nil])
    #expect(events.map(\.part) == [0, 2, 3, 1].sorted() || Set(events.map(\.part)) == [0, 1, 2, 3])
    #expect(events.allSatisfy { $0.timestamp?.iso8601 == "2024-05-06T07:08:09.000Z" })
    #expect(events.allSatisfy { $0.fields["host"]?.json == #"{"name":"h"}"# })
    #expect(events[3].fields["message"]?.string == "bad")
    #expect(events[3].fields["tags"]?.json == #"["_jsonparsefailure"]"#)
  }

  @Test func `without enrichment an event of a shipper stays as it came`() throws {
    let payload = #"{"@timestamp":"2024-05-06T07:08:09.123Z","@version":"1","message":"m","tags":["b"]}"#
    let decoding = Decoding(
      RecordDescription(
        input: "beats", inputID: "beats", codec: "beats", ecs: .v8,
        options: [.init("enrich", ""), .init("codec", "plain"), .init("original", "false")]))
    #expect(
      try decoding.event(payload, #"{"peer":{"ip":"192.0.2.1","port":1}}"#).fields.json == payload)
  }

  @Test func `contexts are kept apart and let go of between batches`() throws {
    let decoding = http("plain", ecs: .disabled)
    for round in 0..<3 {
      decoding.batch.removeAll()
      decoding.decoders.startBatch()
      var events: [Event] = []
      for i in 0..<200 {
        events += decoding.events(
          "m",
          """
          {"peer":{"ip":"10.0.\(round).\(i)","port":1},"http":{"method":"POST","target":"/\(i)","version":"HTTP/1.1",\
          "headers":{"content_length":"1"}}}
          """)
      }
      #expect(events.enumerated().allSatisfy { $1.fields["host"]?.string == "10.0.\(round).\($0)" })
      #expect(try !decoding.event("without").contains(.known("host")))
      #expect(events.enumerated().allSatisfy { $1.fields["headers"]?["request_path"]?.string == "/\($0)" })
    }
  }

  @Test func `a descriptor of a queue without these options is decoded as before`() throws {
    let event = try Decoding(RecordDescription(input: "beats", inputID: "b", codec: "beats"))
      .event(#"{"message":"m","a":1}"#, #"{"peer":{"ip":"192.0.2.1","port":1}}"#)
    #expect(!event.hasMetadata && !event.contains(.tags))
    #expect(event.fields["message"]?.string == "m")
  }

  @Test func `a broken context adds nothing and stops nothing`() throws {
    for context in ["", "{", "[]", "17", #"{"peer":7,"http":[],"tls":"x"}"#] {
      #expect(try http().event(#"{"a":1}"#, context).fields["a"]?.integer == 1)
      #expect(try beats("source_metadata,ssl_peer_metadata").event(#"{"a":1}"#, context).fields["a"]?.integer == 1)
    }
  }

  @Test(arguments: ["plain", "line", "json", "json_lines", "multiline"])
  func `whatever comes makes events that are JSON for another reader`(codec: String) throws {
    let samples = [
      #"{"@timestamp":"2024-05-06T07:08:09Z","@metadata":{"beat":"f"},"message":"{\"a\":[1,{}]}","tags":["x"]}"#,
      #"[{"a":1,"tags":"t","host":"h"},{"@metadata":{"input":{}},"event":{"original":1}}]"#,
      "{\"message\":\"one\\ntwo\\n[{},{\\\"b\\\":2}]\\n\",\"line\":null,\"url\":{\"port\":\"x\"}}",
      "plain text\nof two lines",
    ]
    let descriptions = [
      RecordDescription(
        input: "beats", inputID: "b", codec: "beats", ecs: .v8, tags: ["i"],
        options: [.init("enrich", "source_metadata,codec_metadata,ssl_peer_metadata"), .init("codec", codec)]),
      RecordDescription(input: "http", inputID: "h", codec: codec, ecs: .v8, type: "t"),
      RecordDescription(input: "http", inputID: "h", codec: codec, options: [.init("target", "[a][b]")]),
      RecordDescription(input: "tcp", inputID: "t", codec: codec, charset: "Shift_JIS", ecs: .v1),
      RecordDescription(input: "generator", inputID: "g", codec: codec, options: [.init("sequence_field", "[a][n]")]),
    ]
    var random = SeededRandom(11)
    var count = 0
    for description in descriptions {
      let decoders = RecordDecoders()
      let batch = EventBatch()
      for _ in 0..<150 {
        batch.removeAll()
        decoders.startBatch()
        var payload = Array((samples.randomElement(using: &random) ?? "").utf8)
        var context = Array(request.utf8)
        for _ in 0..<Int.random(in: 0...3, using: &random) {
          let at = Int.random(in: 0..<payload.count, using: &random)
          if Bool.random(using: &random) {
            payload[at] = UInt8.random(in: 0...255, using: &random)
          } else {
            payload.removeSubrange(at..<min(payload.count, at + Int.random(in: 1...4, using: &random)))
          }
          if payload.isEmpty { payload = [0] }
          if Int.random(in: 0..<4, using: &random) == 0 {
            context[Int.random(in: 0..<context.count, using: &random)] = UInt8.random(in: 32...126, using: &random)
          }
        }
        let holder = RecordContext(context)
        payload.withUnsafeBytes { bytes in
          decoders.decoder(description.descriptor).decode(
            bytes, context: holder, record: -1, arrivalNs: 1, into: batch
          ) { event in
            count += 1
            var out = ByteBuffer()
            event.appendJSON(to: &out)
            event.metadata.appendJSON(to: &out)
            let text = out.string()
            #expect(String(validating: out.array(), as: UTF8.self) != nil)
            let parts = try? JSONSerialization.jsonObject(with: Data("[\(text.replacing("}{", with: "},{"))]".utf8))
            #expect(parts is [[String: Any]], "\(text)")
          }
        }
      }
    }
    #expect(count > 300)
  }
}
