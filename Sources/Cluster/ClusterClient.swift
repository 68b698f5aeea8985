//  Talks to a cluster: the first of its hosts that answers, JSON in and out, and errors that an operator can act on.

internal import Diagnostics
public import Outputs

/// What a cluster refuses, or why it cannot be asked.
public struct ClusterFailure: Error, CustomStringConvertible {
  public var description: String
  /// 0 where no answer came.
  public var status: Int

  public init(_ description: String, status: Int = 0) {
    self.description = description
    self.status = status
  }
}

/// Not thread-safe.
public final class ClusterClient {
  public enum Flavour: String, Sendable { case elasticsearch, opensearch }

  public struct Answer {
    public var status: Int
    public var json: JSONValue
    /// The beginning of the body, for messages where it is no JSON.
    public var text: String

    /// `type: reason`, and the deepest cause, where the answer is an error.
    public var reason: String {
      guard let error = json["error"] else {
        return json["message"]?.string ?? json["reason"]?.string ?? (text.isEmpty ? "status \(status)" : text)
      }
      guard let type = error["type"]?.string else { return error.string ?? text }
      var words = "\(type): \(error["reason"]?.string ?? "")"
      var cause = error["caused_by"]
      var deepest: String?
      while let present = cause {
        deepest = present["reason"]?.string ?? deepest
        cause = present["caused_by"]
      }
      if let deepest, !words.contains(deepest) { words += " (\(deepest))" }
      return words
    }
  }

  public let hosts: [String]
  private let session: ClusterSession
  private var current = 0
  private var known: (flavour: Flavour, version: String)?

  /// - Parameter hosts: Bases as `hostBase` makes them; not empty.
  public init(hosts: [String], connection: ClusterConnection) throws {
    self.hosts = hosts
    session = try ClusterSession(connection)
  }

  /// What `GET /` tells; asked once.
  public func identity() throws -> (flavour: Flavour, version: String) {
    if let known { return known }
    let answer = try request("GET", "/")
    guard answer.status == 200 else {
      throw ClusterFailure(
        "the cluster answers \(answer.status) to GET /: \(answer.reason)" + hint(answer.status), status: answer.status)
    }
    let flavour: Flavour = answer.json.at("version.distribution")?.string == "opensearch" ? .opensearch : .elasticsearch
    let found = (flavour, answer.json.at("version.number")?.string ?? "unknown")
    known = found
    return found
  }

  /// Any answer is returned; only silence is thrown.
  public func request(
    _ method: String, _ path: String, _ body: JSONValue? = nil, timeout: Duration? = nil
  ) throws(ClusterFailure) -> Answer {
    var last = ""
    for step in 0..<hosts.count {
      let i = (current + step) % hosts.count
      do {
        let answer = try session.send(method, hosts[i] + path, body.map { Array($0.text.utf8) }, timeout: timeout)
        current = i
        let json = answer.body.withUnsafeBytes { JSONValue($0) } ?? .null
        return Answer(
          status: answer.status, json: json, text: String(decoding: answer.body.prefix(512), as: UTF8.self))
      } catch {
        last = "\(error)"
      }
    }
    throw ClusterFailure("the cluster cannot be reached: \(last)")
  }

  /// An answer that must be good.
  public func demand(
    _ method: String, _ path: String, _ body: JSONValue? = nil, timeout: Duration? = nil
  ) throws(ClusterFailure) -> JSONValue {
    let answer = try request(method, path, body, timeout: timeout)
    guard (200..<300).contains(answer.status) else {
      throw ClusterFailure(
        "\(method) \(path.prefix { $0 != "?" }) is answered \(answer.status): \(answer.reason)" + hint(answer.status),
        status: answer.status)
    }
    return answer.json
  }

  private func hint(_ status: Int) -> String {
    switch status {
    case 401: "; check the user, the password or the API key"
    case 403: "; the user lacks this privilege"
    default: ""
    }
  }
}
