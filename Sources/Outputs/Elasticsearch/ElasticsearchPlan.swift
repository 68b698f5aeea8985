//  From the options of the `elasticsearch` output to what its workers and its sender need, with every contradiction named.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import PluginKit

extension Elasticsearch.Settings {
  func plan(_ context: OutputContext) throws -> BulkOutput.Plan {
    for (option, template) in [
      ("index", index), ("document_id", documentID), ("action", action), ("routing", routing), ("pipeline", pipeline),
      ("version", version), ("upsert", upsert),
    ] {
      if let fault = template?.fault { throw BuildFailure(option, "\(fault)") }
    }
    var plan = BulkOutput.Plan(hosts: [], writer: try writer(context), bulkPath: "", healthPath: "")
    plan.connection = try connection(context)
    plan.hosts = try bases(connection: plan.connection)
    let query =
      (["filter_path=errors,items.*.error,items.*.status"]
      + parameters.entries.map { "\(percentEncoded($0.key))=\(percentEncoded($0.value))" }).joined(separator: "&")
    plan.bulkPath = bulkPath.map { $0.contains("?") ? $0 : "\($0)?\(query)" } ?? "/_bulk?\(query)"
    plan.healthPath = healthcheckPath ?? "/"
    plan.sniffPath = sniffing ? sniffingPath ?? "/_nodes/http" : nil
    for (option, text) in [
      ("bulk_path", bulkPath), ("healthcheck_path", healthcheckPath), ("sniffing_path", sniffingPath),
    ] {
      if let text, !text.hasPrefix("/") || text.utf8.contains(where: { $0 <= 32 || $0 == 127 }) {
        throw BuildFailure(option, "must begin with '/' and hold no blanks")
      }
    }
    plan.sniffPause = max(.seconds(1), sniffingDelay)
    plan.compressionLevel = httpCompression == true && compressionLevel == 0 ? 1 : compressionLevel
    plan.firstPause = retryInitialInterval
    plan.longestPause = retryMaxInterval
    plan.resurrectPause = resurrectDelay
    plan.bulkMaxBytes = bulkMaxBytes.bytes
    plan.concurrentRequests = concurrentRequests
    plan.letterCodes = Set(letterCodes)
    plan.dropTypes = Set(dropErrorTypes)
    plan.silentTypes = Set(silenceErrors)
    plan.conflictCure = mappingConflicts
    return plan
  }

  // MARK: Documents

  /// The options that no data stream can have, as far as they are given.
  private var againstStreams: [String] {
    let fixedAction = action.map { $0.description != "create" } ?? false
    return [
      ("action", fixedAction), ("index", index != nil), ("version", version != nil),
      ("version_type", versionType != nil),
      ("upsert", upsert != nil), ("doc_as_upsert", docAsUpsert), ("script", script != nil),
      ("scripted_upsert", scriptedUpsert), ("manage_template", manageTemplate == true),
      ("ilm_enabled", ilmEnabled != nil),
    ].filter(\.1).map(\.0)
  }

  private func streams(_ context: OutputContext) throws -> Bool {
    let against = againstStreams
    switch dataStream {
    case .true:
      if let option = against.first {
        throw BuildFailure(option, "cannot go with data_stream: true", hint: "leave one of the two out")
      }
      return true
    case .auto where against.isEmpty && context.ecs.isOn: return true
    case .auto, .false:
      for (option, isGiven) in [
        ("data_stream_type", dataStreamType != nil), ("data_stream_dataset", dataStreamDataset != nil),
        ("data_stream_namespace", dataStreamNamespace != nil),
        ("data_stream_auto_routing", dataStreamAutoRouting != nil),
        ("data_stream_sync_fields", dataStreamSyncFields != nil),
      ] where isGiven {
        throw BuildFailure(option, "has no meaning without data_stream: true")
      }
      return false
    }
  }

  private func writer(_ context: OutputContext) throws -> ActionWriter {
    let isStream = try streams(context)
    let makesIDs = documentID == nil && (idempotent ?? (action == nil && !isStream))
    if idempotent == true, documentID != nil { throw BuildFailure("idempotent", "cannot go with a document_id") }
    let usual = BulkAction.create
    let fixed: BulkAction?
    if let action, !action.isConstant {
      fixed = nil
    } else if let action {
      guard let named = BulkAction(rawValue: action.description) else {
        throw BuildFailure("action", "takes index, create, update or delete, or a field that tells")
      }
      fixed = named
    } else {
      fixed = makesIDs || isStream ? usual : .index
    }
    if fixed == .update || fixed == .delete, documentID == nil {
      throw BuildFailure("action", "'\(action?.description ?? "")' needs a document_id")
    }
    if version == nil, versionType != nil { throw BuildFailure("version_type", "needs a version") }
    if versionType == .internal { throw BuildFailure("version_type", "internal versions cannot be given") }
    if version != nil, fixed == .create || fixed == .update {
      throw BuildFailure("version", "goes with the actions index and delete alone")
    }
    if let index, index.fault == nil, !ActionWriter.mayBeIndexName(index) {
      throw BuildFailure(
        "index", "'\(index.description.prefix(64))' can be no index's name",
        hint: "names are of a-z, 0-9, '.', '_' and '-', at most \(ActionWriter.longestIndexName) bytes")
    }
    let name =
      index ?? Template(context.ecs.isOn ? "ecs-logstash-%{+yyyy.MM.dd}" : "logstash-%{+yyyy.MM.dd}")
    let stream = DataStream(
      type: dataStreamType?.rawValue ?? "logs", dataset: dataStreamDataset ?? "generic",
      namespace: dataStreamNamespace ?? "default", autoRouting: dataStreamAutoRouting ?? true,
      syncFields: dataStreamSyncFields ?? true)
    var writer = ActionWriter(stage: context.stepID, target: isStream ? .dataStream(stream) : .index(name))
    writer.action = fixed
    writer.actionTemplate = action
    writer.id = documentID
    writer.makesIDs = makesIDs
    writer.routing = routing
    writer.pipeline = pipeline
    writer.version = version
    writer.versionType = versionType
    writer.retryOnConflict = retryOnConflict
    writer.update = try update()
    return writer
  }

  private func update() throws -> ActionWriter.Update {
    if docAsUpsert, scriptedUpsert { throw BuildFailure("doc_as_upsert", "cannot go with scripted_upsert") }
    if let upsert, upsert.isConstant, !isJSONObject(upsert.description) {
      throw BuildFailure("upsert", "is no JSON object")
    }
    var update = ActionWriter.Update()
    guard let script, !script.isEmpty else {
      if scriptedUpsert { throw BuildFailure("scripted_upsert", "needs a script") }
      if docAsUpsert { update.suffix = Array(",\"doc_as_upsert\":true".utf8) } else { update.upsert = upsert }
      return update
    }
    var text = ByteBuffer()
    text.append("{\"script\":{\"")
    text.append(scriptType == .inline ? "source\":" : "id\":")
    text.append(quoted: script)
    if scriptType == .inline {
      text.append(",\"lang\":")
      text.append(quoted: scriptLang)
    }
    text.append(",\"params\":{")
    text.append(quoted: scriptVarName)
    text.append(58)
    update.prefix = text.array()
    update.suffix = Array("}}".utf8)
    if scriptedUpsert {
      update.suffix += Array(",\"scripted_upsert\":true".utf8)
      if upsert == nil { update.suffix += Array(",\"upsert\":{}".utf8) }
    }
    update.upsertsEvent = docAsUpsert
    if !docAsUpsert { update.upsert = upsert }
    return update
  }

  // MARK: Places

  private func bases(connection: ClusterConnection) throws -> [(base: String, shown: String)] {
    if let cloudID {
      if hosts != nil { throw BuildFailure("cloud_id", "cannot go with hosts") }
      guard let host = cloudHost(cloudID) else { throw BuildFailure("cloud_id", "is no Cloud ID") }
      return [(host, host)]
    }
    let found = (hosts ?? ["http://localhost:9200"]).map { host in
      (base: hostBase(host.text, hasTLS: sslEnabled == true, path: path ?? ""), shown: host.description)
    }
    if let path, hosts?.contains(where: { hasPath($0.text) }) == true {
      throw BuildFailure("path", "'\(path)' cannot go with a path in hosts")
    }
    if sslEnabled == false, found.contains(where: { $0.base.hasPrefix("https:") }) {
      throw BuildFailure("ssl_enabled", "is false, but a host begins with https:")
    }
    return found
  }

  private func hasPath(_ host: String) -> Bool {
    let rest = host.firstRange(of: "://").map { host[$0.upperBound...] } ?? host[...]
    return (rest.firstIndex(of: "/").map { rest[$0...].count > 1 }) ?? false
  }

  // MARK: Credentials

  private func connection(_ context: OutputContext) throws -> ClusterConnection {
    for (option, text) in [
      ("user", user), ("password", password?.revealed), ("api_key", apiKey?.revealed),
      ("cloud_auth", cloudAuth?.revealed), ("bearer_token", bearerToken?.revealed), ("proxy", proxy?.revealed),
    ] where text?.utf8.contains(where: { $0 < 32 || $0 == 127 }) == true {
      throw BuildFailure(option, "must not hold control characters")
    }
    let ways = [
      ("user", user != nil), ("cloud_auth", cloudAuth != nil), ("api_key", apiKey != nil),
      ("bearer_token", bearerToken != nil),
    ].filter(\.1)
    if ways.count > 1 { throw BuildFailure(ways[1].0, "cannot go with \(ways[0].0)") }
    var connection = ClusterConnection()
    connection.user = user
    connection.password = password
    if let cloudAuth {
      guard let colon = cloudAuth.revealed.firstIndex(of: ":") else {
        throw BuildFailure("cloud_auth", "takes user:password")
      }
      connection.user = String(cloudAuth.revealed[..<colon])
      connection.password = Secret(String(cloudAuth.revealed[cloudAuth.revealed.index(after: colon)...]))
    }
    connection.authorization =
      apiKey.map { Secret(apiKeyHeader($0.revealed)) } ?? bearerToken.map { Secret("Bearer \($0.revealed)") }
    connection.proxy = proxy
    for header in customHeaders.entries {
      guard !header.key.isEmpty, header.key.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != 58 }),
        header.value.utf8.allSatisfy({ $0 >= 32 && $0 != 127 })
      else { throw BuildFailure("custom_headers", "'\(header.key.prefix(64))' is no header") }
      connection.headers.append((header.key, header.value))
    }
    connection.authorities = authorities.first.map { context.services.path($0.text) }
    connection.fingerprint = fingerprint.flatMap { CertificateFingerprint($0) }
    connection.check = verification
    connection.certificate = certificate.map { context.services.path($0.text) }
    connection.key = key.map { context.services.path($0.text) }
    connection.keyPassphrase = keyPassphrase
    if (certificate == nil) != (key == nil) {
      throw BuildFailure(certificate == nil ? "ssl_key" : "ssl_certificate", "needs both ssl_certificate and ssl_key")
    }
    if !protocols.isEmpty {
      let order: [TLSVersion] = [.v1, .v1_1, .v1_2, .v1_3]
      connection.leastTLS = order.first { protocols.contains($0) } ?? .v1_2
      connection.highestTLS = order.last { protocols.contains($0) } ?? .v1_3
    }
    connection.timeout = timeout
    return connection
  }
}

/// The header's value for an API key: `id:key`, its base64 text, or a key of Elastic Cloud as it is.
public func apiKeyHeader(_ key: String) -> String {
  "ApiKey " + (key.contains(":") ? Base64.encode(Array(key.utf8)) : key)
}

/// The server that a Cloud ID names: `label:base64(host$elasticsearch$kibana)`; nil where it names none.
public func cloudHost(_ cloudID: String) -> String? {
  let coded = cloudID.split(separator: ":", omittingEmptySubsequences: false).last ?? ""
  guard let bytes = Base64.decode(coded.utf8) ?? Base64.decode(coded.utf8, .url) else { return nil }
  let parts = String(decoding: bytes, as: UTF8.self).split(separator: "$", omittingEmptySubsequences: false)
  guard parts.count >= 3, !parts[0].isEmpty, !parts[1].isEmpty, parts[1] != "undefined" else { return nil }
  func port(_ part: Substring) -> Substring? { part.firstIndex(of: ":").map { part[part.index(after: $0)...] } }
  let name = parts[1].prefix { $0 != ":" } + "." + parts[0].prefix { $0 != ":" }
  return "https://\(name):\(port(parts[1]) ?? port(parts[0]) ?? "443")"
}

/// Scheme, address and path of a host: a missing scheme and the port 9200 are filled in; no slash at the end.
public func hostBase(_ host: String, hasTLS: Bool = false, path extra: String = "") -> String {
  let marker = host.firstRange(of: "://")
  let scheme = marker.map { String(host[..<$0.lowerBound]) } ?? (hasTLS ? "https" : "http")
  let rest = host[(marker?.upperBound ?? host.startIndex)...]
  var authority = String(rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" })
  var path = String(rest.dropFirst(authority.count).prefix { $0 != "?" && $0 != "#" })
  if !extra.isEmpty { path += "/" + extra }
  while let double = path.firstRange(of: "//") { path.replaceSubrange(double, with: "/") }
  while path.hasSuffix("/") { path.removeLast() }
  let name = authority.lastIndex(of: "@").map { authority[authority.index(after: $0)...] } ?? authority[...]
  let behind = name.lastIndex(of: "]").map { name[$0...] } ?? name
  if !behind.contains(":") { authority += ":9200" }
  return "\(scheme)://\(authority)\(path)"
}

/// Text as a part of a URL's query.
public func percentEncoded(_ text: String) -> String {
  var out = ""
  for byte in text.utf8 {
    switch byte {
    case 48...57, 65...90, 97...122, 45, 46, 95, 126, 42, 44: out.unicodeScalars.append(Unicode.Scalar(byte))
    default: out += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
    }
  }
  return out
}

private func isJSONObject(_ text: String) -> Bool {
  let batch = EventBatch()
  defer { withExtendedLifetime(batch) {} }
  var text = text
  return text.withUTF8 { (try? batch.add(arrivalNs: 0).parseJSON(UnsafeRawBufferPointer($0)))?.isMap } == true
}
