//  Users and keys for a cluster's security: the roles stand among the assets.

internal import Diagnostics

extension ClusterClient {
  /// Users by name with their roles.
  public func users() throws -> [(name: String, roles: [String])] {
    if try identity().flavour == .elasticsearch {
      return try demand("GET", "/_security/user").members.map {
        ($0.name, $0.value["roles"]?.elements.compactMap(\.string) ?? [])
      }
    }
    let users = try demand("GET", "/_plugins/_security/api/internalusers")
    let mappings = try demand("GET", "/_plugins/_security/api/rolesmapping")
    return users.members.map { user in
      let roles = mappings.members.filter { $0.value["users"]?.elements.contains(.text(user.name)) == true }.map(\.name)
      return (user.name, roles)
    }
  }

  /// Makes a user with a role, or gives a present one the role and, where one is given, the password.
  ///
  /// - Returns: True where it is new.
  public func putUser(_ name: String, role: String, password: String?) throws -> Bool {
    if try identity().flavour == .elasticsearch {
      let isThere = try request("GET", "/_security/user/\(name)").status == 200
      var body: JSONValue = ["roles": [.text(role)], "enabled": true, "metadata": ["managed_by": "sluice"]]
      if let password { body = body.merged(["password": .text(password)]) }
      if !isThere, password == nil { throw ClusterFailure("the new user \(name) needs a password") }
      _ = try demand("PUT", "/_security/user/\(name)", body)
      return !isThere
    }
    let isThere = try request("GET", "/_plugins/_security/api/internalusers/\(name)").status == 200
    if let password {
      _ = try demand("PUT", "/_plugins/_security/api/internalusers/\(name)", ["password": .text(password)])
    } else if !isThere {
      throw ClusterFailure("the new user \(name) needs a password")
    }
    // A mapping is replaced as a whole: whoever is in it stays.
    let mapping = try request("GET", "/_plugins/_security/api/rolesmapping/\(role)").json[role]
    var users = mapping?["users"]?.elements ?? []
    if !users.contains(.text(name)) { users.append(.text(name)) }
    _ = try demand(
      "PUT", "/_plugins/_security/api/rolesmapping/\(role)",
      ["users": .list(users), "backend_roles": mapping?["backend_roles"] ?? [], "hosts": mapping?["hosts"] ?? []])
    return !isThere
  }

  /// Makes a key that may write events and nothing else.
  ///
  /// - Returns: Its text for `api_key`; the cluster tells it this once.
  public func makeWriterKey(_ name: String, days: Int) throws -> String {
    guard try identity().flavour == .elasticsearch else {
      throw ClusterFailure("OpenSearch has no API keys; use a user")
    }
    guard let role = Assets.roles(.elasticsearch).first(where: { $0.name == "aura_writer" }) else { return "" }
    let answer = try demand(
      "POST", "/_security/api_key",
      [
        "name": .text(name), "expiration": .text("\(days)d"),
        "role_descriptors": ["aura_writer": role.body.without { $0 == "metadata" }],
        "metadata": ["managed_by": "sluice"],
      ])
    guard let id = answer["id"]?.string, let key = answer["api_key"]?.string else {
      throw ClusterFailure("the cluster tells no key")
    }
    return "\(id):\(key)"
  }
}
