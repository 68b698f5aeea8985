//  The option `nameserver` of the `dns` filter: addresses, or a map with search domains beside them.

internal import Config
internal import PluginKit

/// Whom to ask. Ports may stand behind addresses: `192.0.2.1:5353`, `[2001:db8::1]:5353`.
struct NameServers: OptionValue {
  struct Details: NestedSettings {
    var address: [String] = []
    var search: [String] = []
    var ndots = 1

    static let options: [Option<Details>] = [
      .option(
        "address", \.address, "Addresses of name servers.", required: true, example: "[192.0.2.1]",
        check: { check($0) }),
      .option(
        "search", \.search, "Domains that are tried behind a short name, at most six.",
        check: { $0.count <= 6 ? nil : "takes at most six domains" }),
      .option("ndots", \.ndots, "From this number of dots on, a name is tried as it is first.", in: 1...15),
    ]

    static func check(_ addresses: [String]) -> String? {
      if addresses.isEmpty { return "must not be empty" }
      guard let broken = addresses.first(where: { NameServer($0) == nil }) else { return nil }
      return "takes IP addresses, not '\(broken)'"
    }
  }

  var details: Details

  static var typeName: String { "list of addresses, or a map" }
  static var schema: OptionSchema { .oneOf([.list(.text), .text, Details.schema]) }

  static func read(_ node: YAMLNode, _ context: OptionContext) -> NameServers? {
    if node.entries != nil { return Details.read(node, context).map { NameServers(details: $0) } }
    guard let addresses = [String].read(node, context) else { return nil }
    if let complaint = Details.check(addresses) { return context.complain(node, complaint) }
    var details = Details()
    details.address = addresses
    return NameServers(details: details)
  }

  var optionText: String? { details.optionText }

  var servers: [NameServer] { details.address.compactMap { NameServer($0) } }
}
