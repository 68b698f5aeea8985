//  The `elasticsearch` output: its options, and how they become a sender of bulk requests.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Elasticsearch: OutputPlugin {
  static let manual = Manual(
    name: "elasticsearch",
    summary: "Indexes events in Elasticsearch through bulk requests.",
    details: """
      Each event is sent until it is indexed or refused for good; a refused one becomes a dead letter with the server's \
      reason. Ids are made from the queue's record ids, so that an event that is sent twice is indexed once.
      """,
    examples: [
      Example(
        "Daily indices, with ids of one's own",
        config: """
          hosts: ['http://localhost:9200']
          index: 'orders-%{+yyyy.MM.dd}'
          document_id: '%{order}'
          action: create
          """,
        input: #"{"@timestamp": "2026-03-02T07:00:00.000Z", "@version": "1", "order": "A-17"}"#,
        output: """
          {"create": {"_index": "orders-2026.03.02", "_id": "A-17"}}
          {"@timestamp": "2026-03-02T07:00:00.000Z", "@version": "1", "order": "A-17"}
          """)
    ])

  enum Action: String, OptionEnum { case index, create }
  enum Verification: String, OptionEnum { case full, none }

  struct Settings: PluginSettings {
    var hosts: [WebAddress] = ["http://localhost:9200"]
    var index = Template("logstash-%{+yyyy.MM.dd}")
    var action: Action?
    var documentID: Template?
    var idempotent: Bool?
    var user: String?
    var password: Secret?
    var apiKey: Secret?
    var authorities: FilePath?
    var verification = Verification.full
    var compressionLevel = 0
    var timeout = Duration.seconds(60)
    var retryInitialInterval = Duration.seconds(2)
    var retryMaxInterval = Duration.seconds(64)
    var bulkMaxBytes = ByteCount.mib(2)
    var concurrentRequests = 4
    var dataStream: String?
    var manageTemplate: Bool?
    var ilmEnabled: String?
    var sslEnabled: Bool?

    static let options: [Option<Settings>] = [
      .option(
        "hosts", \.hosts, "The servers, used in turn; one that fails is left out for some seconds.",
        check: { $0.isEmpty ? "must not be empty" : nil }),
      .option("index", \.index, "The index or data stream; an event whose name is no legal index is a dead letter."),
      .option(
        "action", \.action, "Whether an existing document is replaced (index) or kept (create).",
        defaultText: "create where ids are made, else index"),
      .option("document_id", \.documentID, "The id of the document, at most 512 bytes."),
      .option(
        "idempotent", \.idempotent,
        "Whether ids are made from the queue's record ids, so that an event sent twice is indexed once.",
        defaultText: "true where neither 'action', 'document_id' nor a data stream is given"),
      .option("user", \.user, "The user for basic authentication."),
      .option("password", \.password, "The user's password."),
      .option("api_key", \.apiKey, "An API key: id:key, or its base64 text."),
      .option(
        "ssl_certificate_authorities", \.authorities, "A PEM file of the authorities that are trusted.",
        defaultText: "the system's authorities"),
      .option("ssl_verification_mode", \.verification, "Whether the server's certificate is checked."),
      .option(
        "compression_level", \.compressionLevel, "Level of gzip for requests; 0 sends them as they are.", in: 0...9),
      .option("timeout", \.timeout, "How long an answer may take.", unit: .seconds),
      .option("retry_initial_interval", \.retryInitialInterval, "The first pause after a refusal.", unit: .seconds),
      .option("retry_max_interval", \.retryMaxInterval, "The longest pause after refusals.", unit: .seconds),
      .option("bulk_max_bytes", \.bulkMaxBytes, "The largest request; a larger document is sent alone."),
      .option("concurrent_requests", \.concurrentRequests, "Requests that are under way at once.", in: 1...64),
      .option(
        "data_stream", \.dataStream, "Accepted for Logstash's sake; 'true' makes 'create' the action.",
        check: { ["true", "false", "auto", nil].contains($0) ? nil : "takes true, false or auto" }),
      .option("manage_template", \.manageTemplate, "Accepted for Logstash's sake; templates are never installed."),
      .option("ilm_enabled", \.ilmEnabled, "Accepted for Logstash's sake; life cycles are the server's affair."),
      .option("ssl_enabled", \.sslEnabled, "Whether hosts without a scheme are spoken to with TLS."),
    ]
  }

  static func make(_ settings: Settings, _ context: OutputContext) throws -> any Output {
    for (option, template) in [("index", settings.index), ("document_id", settings.documentID)] {
      if let fault = template?.fault { throw BuildFailure(option, "\(fault)") }
    }
    for (option, text) in [
      ("user", settings.user), ("password", settings.password?.revealed), ("api_key", settings.apiKey?.revealed),
    ] where text?.utf8.contains(where: { $0 < 32 || $0 == 127 }) == true {
      throw BuildFailure(option, "must not hold control characters")
    }
    let isStream = settings.dataStream == "true"
    let makesIDs = settings.documentID == nil && (settings.idempotent ?? (settings.action == nil && !isStream))
    let isCreate = settings.action.map { $0 == .create } ?? (makesIDs || isStream)
    let authorization = settings.apiKey.map { key in
      "Authorization: ApiKey " + (key.revealed.contains(":") ? Base64.encode(Array(key.revealed.utf8)) : key.revealed)
    }
    return BulkOutput(
      BulkOutput.Plan(
        hosts: settings.hosts.map { host in
          (address: bulkAddress(of: host.text, hasTLS: settings.sslEnabled == true), shown: host.description)
        },
        index: settings.index, documentID: settings.documentID, makesIDs: makesIDs, isCreate: isCreate,
        user: settings.user, password: settings.password, authorization: authorization.map { Secret($0) },
        authorities: settings.authorities.map { context.services.path($0.text) },
        verifies: settings.verification == .full, compressionLevel: settings.compressionLevel,
        timeout: settings.timeout, firstPause: settings.retryInitialInterval, longestPause: settings.retryMaxInterval,
        bulkMaxBytes: settings.bulkMaxBytes.bytes, concurrentRequests: settings.concurrentRequests), context)
  }

  /// Where bulk requests go: a missing scheme and the port 9200 are filled in, a path in front of it is kept.
  static func bulkAddress(of host: String, hasTLS: Bool) -> String {
    let marker = host.firstRange(of: "://")
    let scheme = marker.map { String(host[..<$0.lowerBound]) } ?? (hasTLS ? "https" : "http")
    let rest = host[(marker?.upperBound ?? host.startIndex)...]
    var authority = String(rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" })
    var path = String(rest.dropFirst(authority.count).prefix { $0 != "?" && $0 != "#" })
    while path.hasSuffix("/") { path.removeLast() }
    let name = authority.lastIndex(of: "@").map { authority[authority.index(after: $0)...] } ?? authority[...]
    let behind = name.lastIndex(of: "]").map { name[$0...] } ?? name
    if !behind.contains(":") { authority += ":9200" }
    return "\(scheme)://\(authority)\(path)/_bulk?filter_path=errors,items.*.error,items.*.status"
  }
}
