//  The `http` input: JSON objects, arrays and lines by POST or PUT.

internal import Config
internal import Diagnostics
internal import Events
internal import Net
internal import PluginKit
internal import Records

struct HTTPInput: InputPlugin {
  static let manual = Manual(
    name: "http", summary: "Takes events by HTTP: JSON objects, arrays and lines, or text.",
    details: """
      The answer 200 is sent once the events are on disk; a body that does not parse leaves nothing behind. GET and HEAD \
      never make an event: `/health` and `/` answer 200. JSON types and NDJSON are read as values, any other type by the \
      codec. A field of the request that would lead below a text of the payload goes to `[@metadata]` instead.
      """,
    examples: [
      Example(
        "Two events in an array", config: "{ port: 5000 }",
        input: #"[{"message": "order placed"}, {"message": "order paid"}]"#,
        output: "{\"message\": \"order placed\"}\n{\"message\": \"order paid\"}"),
      Example("Text", config: "{ port: 5000 }", input: "order placed", output: #"{"message": "order placed"}"#),
    ])

  struct Settings: PluginSettings {
    var port: Port = 8080
    var listen = ListenSettings()
    var codec = PluginChoice("plain")
    var additionalCodecs: OrderedMap<String, PluginChoice>?
    var user: String?
    var password: Secret?
    var onParseFailure = ParseFailure.refuse
    var maxContentLength: ByteCount = .mib(100)
    var maxPendingRequests = 200
    var queueTimeout = Duration.seconds(10)
    var responseCode = ResponseCode.ok
    var responseHeaders: OrderedMap<String, String> = [:]
    var remoteHostField: FieldReference?
    var headersField: FieldReference?
    var threads: Int?

    enum ParseFailure: String, OptionEnum { case refuse, tag }
    enum ResponseCode: String, OptionEnum {
      case ok = "200"
      case created = "201"
      case accepted = "202"
      case noContent = "204"
    }

    static let options: [Option<Settings>] =
      [
        .option("port", \.port, "The port to listen on."),
        .option("codec", \.codec, "What a body is whose content type has no codec of its own."),
        .option(
          "additional_codecs", \.additionalCodecs,
          "Codecs by content type, without its parameters. Where it is given, no other type is read as JSON.",
          defaultText: "JSON types and NDJSON are read as JSON"),
        .option("user", \.user, "The user of basic authentication; only with a password."),
        .option("password", \.password, "The password of basic authentication."),
        .option("on_parse_failure", \.onParseFailure, "What becomes of a body that is no JSON."),
        .option("max_content_length", \.maxContentLength, "The largest body, unpacked."),
        .option(
          "max_pending_requests", \.maxPendingRequests, "Requests that may wait for the queue; more are answered 429.",
          in: 1...1_000_000),
        .option(
          "queue_timeout", \.queueTimeout,
          "How long a request waits for a full queue. Then it is answered 429, and nothing of it is kept.",
          in: .milliseconds(10) ... .seconds(3600)),
        .option("response_code", \.responseCode, "The status of an answer to events that were taken."),
        .option("response_headers", \.responseHeaders, "Headers of such an answer."),
        .option(
          "remote_host_target_field", \.remoteHostField, "The field that takes the sender's address.",
          defaultText: "'[host][ip]', or host with ecs_compatibility: disabled"),
        .option(
          "request_headers_target_field", \.headersField, "The field that takes the request's headers.",
          defaultText:
            "'[@metadata][input][http][request][headers]', or headers with ecs_compatibility: disabled"),
        .option("threads", \.threads, "Accepted for Logstash's sake; there is a thread per core."),
      ] + ListenSettings.options.map { $0.lifted(into: \Settings.listen) }
  }

  static func make(_ settings: Settings, _ context: InputContext) throws -> any Input {
    var configuration = HTTPInputConfiguration(host: settings.listen.host, port: settings.port.number)
    configuration.listener = try settings.listen.listener(port: settings.port.number, context, clients: .none)
    configuration.user = settings.user
    configuration.password = settings.password?.revealed
    configuration.onParseFailure = settings.onParseFailure == .tag ? .tag : .refuse
    configuration.eventBytes = settings.listen.maxEventSize.bytes
    configuration.limits.bodyBytes = settings.maxContentLength.bytes
    configuration.maxPendingRequests = settings.maxPendingRequests
    configuration.blockedAfter = settings.queueTimeout
    configuration.responseCode = Int(settings.responseCode.rawValue) ?? 200
    configuration.responseHeaders = settings.responseHeaders.entries.map { ($0.key, $0.value) }
    configuration.readsJSONTypes = settings.additionalCodecs == nil
    let rules = BodyRules(settings, context)
    let other = try rules.rule(settings.codec)
    var byType: [String: BodyRule] = [:]
    if let given = settings.additionalCodecs {
      for entry in given.entries { byType[entry.key.lowercased()] = try rules.rule(entry.value) }
    } else {
      let lines = try rules.rule(PluginChoice("json_lines"))
      for type in ndjsonTypes { byType[type] = lines }
    }
    let json = try rules.rule(PluginChoice("json"))
    let (complete, types) = (configuration, byType)
    var cutter = BodyCutter(json: json, other: other, rules: types)
    cutter.tagsFaults = true
    let bodies = cutter
    return ServerInput<HTTPInputServer>(
      port: InputPort(host: settings.listen.host, port: settings.port.number),
      description: RecordDescription(settings.additionalCodecs == nil ? json.descriptor : other.descriptor),
      delimiter: nil, cut: { bodies.records(of: $0, prefersJSON: complete.readsJSONTypes) },
      make: {
        try HTTPInputServer(
          complete, queues: NetworkInputs.queues, sink: context.sink, json: json, other: other, rules: types,
          budget: NetworkInputs.budget)
      }, begin: { $0.start() }, end: { $0.stop(within: $1, completion: $2) },
      figures: { inputStatistics($0.metrics, $0.listener) })
  }
}

/// Makes the rules of content types.
private struct BodyRules {
  let settings: HTTPInput.Settings
  let context: InputContext

  init(_ settings: HTTPInput.Settings, _ context: InputContext) {
    self.settings = settings
    self.context = context
  }

  func rule(_ choice: PluginChoice) throws -> BodyRule {
    let codec = try InputCodec(choice, context)
    let description = description(codec)
    let descriptor = description.descriptor
    switch codec.kind {
    case .plain: return BodyRule(.whole, descriptor)
    case .line: return BodyRule(.delimited(codec.delimiter), descriptor)
    case .jsonLines:
      // A body is refused as a whole or, where faults are tagged, taken line by line.
      let isTagging = settings.onParseFailure == .tag
      return BodyRule(isTagging ? .delimited(codec.delimiter) : .json, descriptor)
    case .json:
      var rule = BodyRule(.json, descriptor)
      // Only a document that came alone keeps its text; several of a body are as those of lines.
      if context.ecs.isOn {
        var several = codec
        several.kind = .jsonLines
        rule.several = self.description(several).descriptor
      }
      return rule
    case .multiline:
      var rule = BodyRule(.whole, descriptor)
      rule.multiline = codec.multiline.map { LineJoining($0, description) }
      return rule
    }
  }

  private func description(_ codec: InputCodec) -> RecordDescription {
    var options: [RecordDescription.Setting] = []
    if let field = settings.remoteHostField { options.append(.init("remote_host_target_field", field.description)) }
    if let field = settings.headersField { options.append(.init("request_headers_target_field", field.description)) }
    return settings.listen.common.description(
      "http", codec: codec.kind.rawValue, codec, context, options: options)
  }
}
