//  Basic authentication (RFC 7617), the server's side.

/// A user and a password that requests must show.
public struct BasicCredentials: Sendable {
  private let expected: [UInt8]

  public init(user: String, password: String) { expected = Array("\(user):\(password)".utf8) }

  /// Whether an `Authorization` header's value shows them. Takes the same time wherever a wrong one differs.
  public func accepts(_ authorization: String?) -> Bool {
    guard let authorization, authorization.utf8.count > 6, authorization.prefix(6).lowercased() == "basic ",
      let given = Base64.decode(authorization.utf8.dropFirst(6))
    else { return false }
    return Digest.isEqual(given, expected)
  }
}
