//  What a command line names, read: settings, pipeline files, and the folders that go with them.

package import Config
package import Diagnostics
internal import Glibc
internal import Net
package import Pipeline
package import PluginKit

/// What the options of `run`, `check`, `try` and `test` say.
package struct LaunchOptions: Sendable {
  package var configFile: String?
  package var pipelines: [String] = []
  package var dataFolder: String?
  package var assignments: [String] = []
  package init() {}
}

/// Settings and pipeline files.
package struct Configuration: Sendable {
  package let settings: Settings
  package let files: [PipelineFile]
  package let variables: VariableSource
  package let configFolder: String
  package let dataFolder: String
  /// The settings file, whether or not it is there.
  package let settingsFile: String
  /// Pipeline files and folders of them.
  let pipelinePlaces: [String]

  /// True when systemd started this process as a service.
  package static let isSystemdService = getenv("NOTIFY_SOCKET") != nil

  /// Reads everything; problems are reported at their places.
  ///
  /// - Parameter opensFiles: False for a pure check: secrets in files stay unresolved.
  package static func load(_ options: LaunchOptions, opensFiles: Bool, problems: Problems) -> Configuration {
    let variables = VariableSource.process(opensFiles: opensFiles)
    let path = options.configFile ?? DaemonSettings.defaultFile(systemd: isSystemdService)
    // The default file may be missing; one that was named must be there.
    let file =
      options.configFile != nil || access(path, F_OK) == 0 ? YAML.load(path, problems: problems) : nil
    var assignments = options.assignments
    if let data = options.dataFolder { assignments.append("path.data=\(data)") }
    let settings = Settings(
      file: file, variables: variables, assignments: assignments, systemd: isSystemdService, problems: problems)
    let named = options.pipelines.isEmpty ? [settings.daemon.pathPipelines.text] : options.pipelines
    let files = pipelinePaths(named, problems).compactMap {
      PipelineFile.load($0, variables: variables, problems: problems)
    }
    PipelineFile.checkIDs(of: files, problems: problems)
    return Configuration(
      settings: settings, files: files, variables: variables, configFolder: folder(of: path),
      dataFolder: absolute(settings.daemon.pathData.text), settingsFile: path, pipelinePlaces: named)
  }

  static func pipelinePaths(_ named: [String], _ problems: Problems) -> [String] {
    named.flatMap { path -> [String] in
      do {
        guard isFolder(path) else { return [path] }
        let found = try pipelineFiles(in: path)
        if found.isEmpty {
          problems.error(
            SourcePosition(file: path), "no pipeline (*.yml) is in this folder", code: "config.no-pipeline")
        }
        return found
      } catch {
        problems.error(SourcePosition(file: path), "cannot be read: \(error)", code: "config.unreadable")
        return []
      }
    }
  }

  /// What plugins of a pipeline file may use.
  package func services(for file: PipelineFile, resolves: Bool) -> Services {
    Services(
      resolves: resolves, folder: Configuration.folder(of: file.path), dataFolder: dataFolder,
      configFolder: configFolder, storageKeys: { storageKeys })
  }

  /// Of all pipelines, each once. One that is no key is reported where its pipeline is opened.
  private var storageKeys: [[UInt8]] {
    let all =
      settings.daemon.pipeline.queueEncryptionKeys
      + files.flatMap { settings.pipeline($0, problems: Problems()).queueEncryptionKeys }
    var found: [[UInt8]] = []
    for secret in all {
      if let key = keyBytes(Array(secret.revealed.utf8)), !found.contains(key) { found.append(key) }
    }
    return found
  }

  /// Compiles every pipeline for checking or trying; nothing is opened but what plugins resolve.
  package func compile(resolves: Bool, parts: PipelineParts = .all, problems: Problems) -> [CompiledPipeline] {
    files.compactMap { file in
      CompiledPipeline.compile(
        file, settings: settings.pipeline(file, problems: problems),
        environment: CompileEnvironment(
          registry: .all, services: services(for: file, resolves: resolves), variables: variables),
        parts: parts, problems: problems)
    }
  }

  /// The path from the root, so that plugins can pass it on.
  package static func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let here = getcwd(nil, 0) else { return path }
    defer { free(here) }
    var rest = path[...]
    while rest.hasPrefix("./") { rest = rest.dropFirst(2).drop { $0 == "/" } }
    let folder = String(cString: here)
    return (folder == "/" ? "" : folder) + "/" + rest
  }

  package static func folder(of path: String) -> String {
    let full = absolute(path)
    guard let slash = full.lastIndex(of: "/"), slash != full.startIndex else { return "/" }
    return String(full[..<slash])
  }

  package static func isFolder(_ path: String) -> Bool {
    var info = stat()
    return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
  }
}

/// What settings and pipelines as a whole must fulfil beyond their declarations; `check` and `run` ask the same.
///
/// - Parameter opensFiles: False for a pure check.
package func checkRun(
  _ configuration: Configuration, _ pipelines: [CompiledPipeline], opensFiles: Bool, problems: Problems
) {
  checkPorts(of: pipelines, api: configuration.settings.daemon, problems: problems)
  for pipeline in pipelines { checkOutputs(of: pipeline, problems: problems) }
  checkKeys(configuration, problems: problems)
  guard opensFiles, configuration.settings.daemon.apiEnabled else { return }
  checkAPI(configuration, problems: problems)
}

private func checkAPI(_ configuration: Configuration, problems: Problems) {
  let settings = configuration.settings
  func place(_ name: String) -> SourcePosition {
    settings.position(of: name) ?? SourcePosition(file: configuration.settingsFile)
  }
  if let host = settings.daemon.apiHost {
    do {
      try ListenerConfiguration(host: host).resolve()
    } catch {
      problems.error(place("api.http.host"), "the monitoring API \(error)", code: "config.unknown-host")
    }
  }
  guard settings.daemon.apiTLS, !problems.hasErrors else { return }
  do {
    _ = try apiTLS(settings.daemon)
  } catch {
    problems.error(place("api.ssl.keystore.path"), "\(error)", code: "config.bad-keystore")
  }
}

/// A pipeline without outputs would keep its events for ever.
package func checkOutputs(of pipeline: CompiledPipeline, problems: Problems) {
  // Where the file has other mistakes, its outputs may not have been understood.
  let path = pipeline.file.path
  let isBroken = problems.all.contains { $0.severity == .error && $0.position.file == path }
  guard pipeline.lacksOutputs, !isBroken else { return }
  problems.error(
    SourcePosition(file: path, line: 1, column: 1),
    "the pipeline '\(pipeline.id)' has no output that can ever be reached", code: "config.no-output",
    hint: pipeline.file.outputs.isEmpty ? "add one below 'outputs:'" : "the conditions of all outputs are never true")
}

/// Keys are judged where they stand: in the settings, and in each pipeline that has its own.
private func checkKeys(_ configuration: Configuration, problems: Problems) {
  let name = "queue.encryption.keys"
  let settings = configuration.settings
  func check(_ pipeline: PipelineSettings, at written: YAMLNode?) {
    let items = written?.items ?? []
    for (i, secret) in pipeline.queueEncryptionKeys.enumerated() {
      let node = items.count == pipeline.queueEncryptionKeys.count ? items[i] : written
      if node?.holdsUnresolved ?? false { continue }
      if let sentence = keyFault(secret, number: i + 1) {
        problems.error(
          node?.position ?? SourcePosition(file: configuration.settingsFile), sentence, code: "config.bad-value",
          hint: "`openssl rand -hex 32` makes one")
      }
    }
  }
  check(settings.daemon.pipeline, at: settings.written(name))
  for file in configuration.files where file.settings.entry(name) != nil {
    check(settings.pipeline(file, problems: Problems()), at: settings.written(name, in: file))
  }
}

/// Two inputs of one run on the same port are an error that names both places; so is the port of the monitoring API.
package func checkPorts(of pipelines: [CompiledPipeline], api: DaemonSettings, problems: Problems) {
  var taken: [String: (position: SourcePosition, host: String)] = [:]
  for pipeline in pipelines {
    for input in pipeline.inputs {
      for port in input.input.ports where port.port != 0 {
        // Of a range the API takes the first that is free, before any input listens.
        if api.apiEnabled, !port.isDatagram, port.port == api.apiPort.ports.lowerBound,
          share(port.host, MonitoringServer.host(api))
        {
          problems.error(
            input.position, "port \(port.port) is that of Sluice's own monitoring API", code: "config.duplicate-port",
            hint: "choose another one here, or with 'api.http.port'")
        }
        let key = "\(port.isDatagram ? "udp" : "tcp") \(port.port)"
        if let other = taken[key], share(other.host, port.host) {
          problems.error(
            input.position, "port \(port.port) is taken", code: "config.duplicate-port",
            hint: "the other input is at \(other.position)")
        } else {
          taken[key] = (input.position, port.host)
        }
      }
    }
  }
}

/// Whether two listeners want the same address.
private func share(_ one: String, _ other: String) -> Bool {
  let everywhere = ["", "0.0.0.0", "::"]
  func address(_ host: String) -> String { host == "localhost" ? "127.0.0.1" : host }
  return address(one) == address(other) || everywhere.contains(one) || everywhere.contains(other)
}
