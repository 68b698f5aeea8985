//  The `elasticsearch` output: its options, named and meant as Logstash's.

internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

struct Elasticsearch: OutputPlugin {
  static let manual = Manual(
    name: "elasticsearch",
    summary: "Indexes events in Elasticsearch or OpenSearch through bulk requests.",
    details: """
      Each event is sent until it is indexed or refused for good; a refused one becomes a dead letter with the server's \
      reason. Ids are made from the queue's record ids, so that an event that is sent twice is indexed once.

      A host that cannot be reached, or that refuses every request (401, 403, 404, a redirection), is set aside and probed \
      with small requests until it takes events again; the events wait in the queue.
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

  enum DataStreamMode: String, OptionEnum { case `true`, `false`, auto }
  enum DataStreamType: String, OptionEnum { case logs, metrics, synthetics, traces }
  enum ScriptType: String, OptionEnum { case inline, indexed }

  struct Settings: PluginSettings {
    var hosts: [WebAddress]?
    var cloudID: String?
    var path: String?
    var parameters: OrderedMap<String, String> = [:]
    var bulkPath: String?
    var healthcheckPath: String?
    var index: Template?
    var action: Template?
    var documentID: Template?
    var idempotent: Bool?
    var routing: Template?
    var pipeline: Template?
    var version: Template?
    var versionType: ActionWriter.VersionType?
    var retryOnConflict = 1
    var docAsUpsert = false
    var upsert: Template?
    var script: String?
    var scriptLang = "painless"
    var scriptType = ScriptType.inline
    var scriptVarName = "event"
    var scriptedUpsert = false

    var dataStream = DataStreamMode.auto
    var dataStreamType: DataStreamType?
    var dataStreamDataset: String?
    var dataStreamNamespace: String?
    var dataStreamAutoRouting: Bool?
    var dataStreamSyncFields: Bool?

    var user: String?
    var password: Secret?
    var cloudAuth: Secret?
    var apiKey: Secret?
    var bearerToken: Secret?
    var customHeaders: OrderedMap<String, String> = [:]
    var proxy: Secret?

    var sslEnabled: Bool?
    var authorities: [FilePath] = []
    var fingerprint: String?
    var verification = CertificateCheck.full
    var certificate: FilePath?
    var key: FilePath?
    var keyPassphrase: Secret?
    var protocols: [TLSVersion] = []

    var compressionLevel = 0
    var httpCompression: Bool?
    var timeout = Duration.seconds(60)
    var retryInitialInterval = Duration.seconds(2)
    var retryMaxInterval = Duration.seconds(64)
    var resurrectDelay = Duration.seconds(5)
    var sniffing = false
    var sniffingDelay = Duration.seconds(5)
    var sniffingPath: String?
    var bulkMaxBytes = ByteCount.mib(2)
    var concurrentRequests = 16
    var letterCodes: [Int] = []
    var dropErrorTypes: [String] = []
    var silenceErrors: [String] = []
    var mappingConflicts = ConflictCure.deadLetter

    var manageTemplate: Bool?
    var ilmEnabled: String?

    static let options: [Option<Settings>] =
      places + documents + dataStreams + credentials + encryption + sending + conflicts + carriedOver
  }

  static func make(_ settings: Settings, _ context: OutputContext) throws -> any Output {
    BulkOutput(try settings.plan(context), context)
  }
}

extension Elasticsearch.Settings {
  private static let places: [Option<Self>] = [
    .option(
      "hosts", \.hosts, "The servers; the one with the fewest requests under way is used.",
      defaultText: "http://localhost:9200", check: { $0?.isEmpty == true ? "must not be empty" : nil }),
    .option("cloud_id", \.cloudID, "The cluster's Cloud ID, in place of 'hosts'."),
    .option("path", \.path, "A path in front of every request's, where a proxy wants one."),
    .option("parameters", \.parameters, "Parameters for the query of every bulk request."),
    .option(
      "bulk_path", \.bulkPath, "The whole path of bulk requests.",
      defaultText: "/_bulk behind 'path', its answer filtered"),
    .option(
      "healthcheck_path", \.healthcheckPath, "What is asked of a host that could not be reached.",
      defaultText: "/ behind 'path'"),
    .option("sniffing", \.sniffing, "Whether the cluster's nodes are asked for and used in place of 'hosts'."),
    .option("sniffing_delay", \.sniffingDelay, "The time between two questions for the nodes.", unit: .seconds),
    .option(
      "sniffing_path", \.sniffingPath, "Where the nodes are asked for.", defaultText: "/_nodes/http behind 'path'"),
    .option(
      "resurrect_delay", \.resurrectDelay, "The longest time between two health checks of a host.", unit: .seconds),
  ]

  private static let documents: [Option<Self>] = [
    .option(
      "index", \.index, "The index; an event whose name is no legal index is a dead letter.",
      defaultText: "logstash-%{+yyyy.MM.dd}, with 'ecs-' in front where ECS is on"),
    .option(
      "action", \.action, "What is done: index, create, update or delete; may name a field.",
      defaultText: "create where ids are made and for data streams, else index"),
    .option("document_id", \.documentID, "The id of the document, at most 512 bytes."),
    .option(
      "idempotent", \.idempotent,
      "Whether ids are made from the queue's record ids, so that an event sent twice is indexed once.",
      defaultText: "true where neither 'action', 'document_id' nor a data stream is given"),
    .option("routing", \.routing, "What chooses the shard."),
    .option("pipeline", \.pipeline, "The server's ingest pipeline; one that comes out empty is left out."),
    .option("version", \.version, "The document's version, a whole number."),
    .option("version_type", \.versionType, "How versions are compared.", defaultText: "external"),
    .option(
      "retry_on_conflict", \.retryOnConflict, "How often the server repeats an update that somebody else crossed.",
      in: 0...1000),
    .option("doc_as_upsert", \.docAsUpsert, "Whether an update makes a document that is not there."),
    .option("upsert", \.upsert, "The JSON of the document that an update makes where there is none."),
    .option("script", \.script, "The script that updates the document: its source, or its id."),
    .option("script_lang", \.scriptLang, "The script's language."),
    .option("script_type", \.scriptType, "Whether 'script' is its source (inline) or its id (indexed)."),
    .option("script_var_name", \.scriptVarName, "The name under which the script finds the event."),
    .option("scripted_upsert", \.scriptedUpsert, "Whether the script also makes a document that is not there."),
  ]

  private static let dataStreams: [Option<Self>] = [
    .option(
      "data_stream", \.dataStream,
      "Whether events go to data streams; auto: where ECS is on and no option speaks against it."),
    .option("data_stream_type", \.dataStreamType, "The first part of a stream's name.", defaultText: "logs"),
    .option(
      "data_stream_dataset", \.dataStreamDataset, "The second part of a stream's name.", defaultText: "generic",
      check: illegalStreamPart),
    .option(
      "data_stream_namespace", \.dataStreamNamespace, "The third part of a stream's name.", defaultText: "default",
      check: illegalStreamPart),
    .option(
      "data_stream_auto_routing", \.dataStreamAutoRouting, "Whether an event's data_stream fields choose its stream.",
      defaultText: "true"),
    .option(
      "data_stream_sync_fields", \.dataStreamSyncFields,
      "Whether the document's data_stream fields are made to name its stream.", defaultText: "true"),
  ]

  private static let credentials: [Option<Self>] = [
    .option("user", \.user, "The user for basic authentication."),
    .option("password", \.password, "The user's password."),
    .option("cloud_auth", \.cloudAuth, "The user and password as user:password, in place of 'user' and 'password'."),
    .option("api_key", \.apiKey, "An API key: id:key, or its base64 text."),
    .option("bearer_token", \.bearerToken, "A token for bearer authentication."),
    .option("custom_headers", \.customHeaders, "Headers for every request; they win over the output's own."),
    .option("proxy", \.proxy, "The URL of a proxy, with its credentials where it wants some."),
  ]

  private static let encryption: [Option<Self>] = [
    .option("ssl_enabled", \.sslEnabled, "Whether hosts without a scheme are spoken to with TLS."),
    .option(
      "ssl_certificate_authorities", \.authorities, "A PEM file of the authorities that are trusted.",
      defaultText: "the system's authorities", check: { $0.count > 1 ? "takes one file" : nil }),
    .option(
      "ca_trusted_fingerprint", \.fingerprint,
      "SHA-256 of a certificate, as hexadecimal digits: a chain that holds it is trusted.",
      check: { $0.map { CertificateFingerprint($0) != nil } == false ? "takes 64 hexadecimal digits" : nil }),
    .option(
      "ssl_verification_mode", \.verification,
      "Whether the server's certificate and its name are checked (full), the certificate alone, or nothing."),
    .option("ssl_certificate", \.certificate, "A PEM file of the client's certificate."),
    .option("ssl_key", \.key, "A PEM file of the client's key."),
    .option("ssl_key_passphrase", \.keyPassphrase, "What opens the client's key."),
    .option(
      "ssl_supported_protocols", \.protocols, "The versions of TLS that may be spoken.",
      defaultText: "TLSv1.2 and TLSv1.3"),
  ]

  private static let sending: [Option<Self>] = [
    .option(
      "compression_level", \.compressionLevel, "Level of gzip for requests; 0 sends them as they are.", in: 0...9),
    .option(
      "http_compression", \.httpCompression, "Whether requests are compressed.",
      deprecated: "use 'compression_level'"),
    .option("timeout", \.timeout, "How long an answer may take.", unit: .seconds),
    .option("retry_initial_interval", \.retryInitialInterval, "The first pause after a refusal.", unit: .seconds),
    .option("retry_max_interval", \.retryMaxInterval, "The longest pause after refusals.", unit: .seconds),
    .option("bulk_max_bytes", \.bulkMaxBytes, "The largest request; a larger document is sent alone."),
    .option(
      "concurrent_requests", \.concurrentRequests,
      "The most requests that are under way at once; fewer while the cluster is slow or busy.", in: 1...64),
    .option(
      "dlq_custom_codes", \.letterCodes, "Further statuses of documents that become dead letters at once.",
      check: { codes in
        codes.contains { [200, 201, 409].contains($0) || !(100...599).contains($0) }
          ? "takes statuses of refusals, but not 200, 201 or 409" : nil
      }),
    .option(
      "drop_error_types", \.dropErrorTypes, "Types of errors whose documents are dropped and counted."),
    .option(
      "silence_errors_in_log", \.silenceErrors,
      "Types of errors of documents that are not logged while they are retried."
    ),
  ]

  private static let conflicts: [Option<Self>] = [
    .option(
      "mapping_conflicts", \.mappingConflicts,
      """
      What becomes of a document with a field that does not fit the index: a dead letter; sent again with the field coerced \
      where nothing is lost by it; or with the field under a name that ends in its kind, such as 'duration_text'.
      """)
  ]

  private static let carriedOver: [Option<Self>] = [
    .option("manage_template", \.manageTemplate, "Accepted for Logstash's sake; 'sluice es setup' installs templates."),
    .option("ilm_enabled", \.ilmEnabled, "Accepted for Logstash's sake; life cycles are the server's affair."),
  ]

  @Sendable private static func illegalStreamPart(_ text: String?) -> String? {
    guard let text else { return nil }
    let isLegal =
      (1...DataStream.longestPart).contains(text.utf8.count)
      && text.utf8.allSatisfy { $0 > 32 && !Array("\\/*?\"<>|,#:".utf8).contains($0) && !(65...90).contains($0) }
    return isLegal ? nil : "takes up to 100 bytes in lower case without blanks and any of \\ / * ? \" < > | , # :"
  }
}
