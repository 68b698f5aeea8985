//  The settings of `config/sluice.yml`. Names and meanings are Logstash's, so that a logstash.yml carries over; they are
//  declared as plugin options are.

internal import Diagnostics

public enum APIAuthentication: String, OptionEnum { case none, basic }
public enum LogLevel: String, OptionEnum { case fatal, error, warn, info, debug, trace }
public enum LogFormat: String, OptionEnum { case plain, json }
public enum TLSVersion: String, OptionEnum {
  case v1 = "TLSv1"
  case v1_1 = "TLSv1.1"
  case v1_2 = "TLSv1.2"
  case v1_3 = "TLSv1.3"
}

/// What a listener speaks; TLS 1.0 is not among it.
public enum ServerTLSVersion: String, OptionEnum {
  case v1_1 = "TLSv1.1"
  case v1_2 = "TLSv1.2"
  case v1_3 = "TLSv1.3"
}

public struct DaemonSettings: PluginSettings {
  public var nodeName: String?
  public var pathData: FilePath = "./data"
  public var pathPipelines: FilePath = "./pipelines"
  public var reloadAutomatic = false
  public var reloadInterval = Duration.seconds(3)
  public var shutdownTimeout = Duration.seconds(25)
  public var memoryInFlight: ByteCount = .mib(64)
  public var logLevel = LogLevel.info
  public var logFormat = LogFormat.plain

  public var apiEnabled = true
  /// nil: loopback, or every address where TLS and a password are both on.
  public var apiHost: String?
  public var apiPort: PortRange = 9600
  public var apiAuthentication = APIAuthentication.none
  public var apiUser: String?
  public var apiPassword: Secret?
  public var apiTLS = false
  public var apiKeystore: FilePath?
  public var apiKeystorePassword: Secret?
  public var apiProtocols: [ServerTLSVersion] = [.v1_2, .v1_3]

  /// What holds for pipelines that say nothing else.
  public var pipeline = PipelineSettings()

  public init() {}

  public static let options: [Option<DaemonSettings>] =
    own + PipelineSettings.options.map { $0.lifted(into: \DaemonSettings.pipeline) }

  private static let own: [Option<DaemonSettings>] = [
    .option("node.name", \.nodeName, "The name of this node.", defaultText: "the host's name"),
    .option(
      "path.data", \.pathData, "The folder of queues, dead letters and state.",
      defaultText: "./data; /var/lib/sluice under systemd"),
    .option(
      "path.pipelines", \.pathPipelines, "The folder of the pipeline files.",
      defaultText: "./pipelines; /etc/sluice/pipelines under systemd"),
    .option("config.reload.automatic", \.reloadAutomatic, "Whether changed pipeline files are taken over at once."),
    .option(
      "config.reload.interval", \.reloadInterval, "How often pipeline files are looked at.",
      in: .milliseconds(100) ... .seconds(86_400)),
    .option(
      "shutdown.timeout", \.shutdownTimeout, "How long a stop finishes what is in flight.", in: .zero ... .seconds(3600)
    ),
    .option(
      "memory.in_flight", \.memoryInFlight, "The most that inputs hold of events that are not yet in the queue.",
      unit: .binaryBytes, in: .mib(1) ... .gib(64)),
    .option("log.level", \.logLevel, "The least grave lines that the log shows."),
    .option("log.format", \.logFormat, "Whether log lines are for people or programs."),
    .option("api.enabled", \.apiEnabled, "Whether the monitoring API listens."),
    .option(
      "api.http.host", \.apiHost, "The address on which the monitoring API listens.",
      defaultText: "127.0.0.1; 0.0.0.0 with TLS and a password"),
    .option(
      "api.http.port", \.apiPort, "The port of the monitoring API, or a range of which the first free one is taken."),
    .option("api.auth.type", \.apiAuthentication, "Whether the monitoring API asks for a password."),
    .option("api.auth.basic.username", \.apiUser, "The user of the monitoring API."),
    .option("api.auth.basic.password", \.apiPassword, "The password of the monitoring API."),
    .option("api.ssl.enabled", \.apiTLS, "Whether the monitoring API speaks TLS."),
    .option("api.ssl.keystore.path", \.apiKeystore, "The PKCS#12 file with certificate and key of the monitoring API."),
    .option("api.ssl.keystore.password", \.apiKeystorePassword, "The password of that file."),
    .option("api.ssl.supported_protocols", \.apiProtocols, "The TLS versions of the monitoring API."),
  ]

  /// Defaults that depend on who started the process.
  ///
  /// - Parameter systemd: The process is a service of systemd.
  public static func defaults(systemd: Bool) -> DaemonSettings {
    var settings = DaemonSettings()
    if systemd {
      settings.pathData = "/var/lib/sluice"
      settings.pathPipelines = "/etc/sluice/pipelines"
    }
    return settings
  }

  /// The settings file that is read where `-c` names none.
  public static func defaultFile(systemd: Bool) -> String { systemd ? "/etc/sluice/sluice.yml" : "./config/sluice.yml" }

  /// What no single option can see.
  ///
  /// - Parameters:
  ///   - position: Where a setting is given; nil where it has its default.
  ///   - written: The value that stands for a setting, also one that a variable emptied; nil where none does.
  mutating func check(
    at position: (String) -> SourcePosition?, written: (String) -> YAMLNode?, problems: Problems
  ) {
    pipeline.check(at: position, problems: problems)
    /// Whether one of `settings` stands nowhere. What a variable could not give was told there.
    func lacks(_ settings: [(name: String, isThere: Bool)]) -> Bool {
      settings.contains { !$0.isThere && written($0.name)?.holdsUnresolved != true }
    }
    func need(_ setting: String, _ text: String) {
      let place = position(setting) ?? SourcePosition(file: "sluice.yml")
      problems.error(place, text, code: "config.missing-option")
    }
    if apiAuthentication == .basic {
      let parts = [
        (name: "api.auth.basic.username", isThere: apiUser != nil, isEmpty: apiUser?.isEmpty ?? true),
        (name: "api.auth.basic.password", isThere: apiPassword != nil, isEmpty: apiPassword?.revealed.isEmpty ?? true),
      ]
      // Whoever knows that it is empty would be let in.
      for part in parts where part.isEmpty {
        guard let node = written(part.name), !node.holdsUnresolved, part.isThere || node.isEmptied else { continue }
        problems.error(
          node.position, "'\(part.name)' is empty, which is no protection", code: "config.bad-value",
          hint: "give it a value, or set 'api.auth.type: none'")
      }
      if lacks(parts.map { ($0.name, $0.isThere || written($0.name)?.isEmptied == true) }) {
        need(
          "api.auth.type", "'api.auth.type: basic' needs 'api.auth.basic.username' and 'api.auth.basic.password'")
      }
    }
    if apiTLS,
      lacks([
        ("api.ssl.keystore.path", apiKeystore != nil), ("api.ssl.keystore.password", apiKeystorePassword != nil),
      ])
    {
      need(
        "api.ssl.enabled", "'api.ssl.enabled: true' needs 'api.ssl.keystore.path' and 'api.ssl.keystore.password'")
    }
  }
}
