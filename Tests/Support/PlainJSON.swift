//  JSON as Foundation reads it, for what tests look at: no reader of ours answers for our writer.

public import Foundation

public struct PlainJSON: @unchecked Sendable, CustomStringConvertible {  // unchecked: the JSON values never change
  private let raw: Any

  public init(_ data: Data) throws { raw = try JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed) }
  public init(_ text: String) throws { try self.init(Data(text.utf8)) }
  private init(raw: Any) { self.raw = raw }

  public subscript(name: String) -> PlainJSON? { (raw as? [String: Any])?[name].map(PlainJSON.init(raw:)) }
  public subscript(index: Int) -> PlainJSON? {
    guard let list = raw as? [Any], list.indices.contains(index) else { return nil }
    return PlainJSON(raw: list[index])
  }
  /// The same for the same value.
  public var description: String {
    let options: JSONSerialization.WritingOptions = [.sortedKeys, .fragmentsAllowed]
    return (try? JSONSerialization.data(withJSONObject: raw, options: options)).map {
      String(decoding: $0, as: UTF8.self)
    }
      ?? "?"
  }
  public var string: String? { raw as? String }
  public var integer: Int? { raw as? Int }
  public var number: Double? { raw as? Double }
  public var boolean: Bool? { raw as? Bool }
  public var count: Int { (raw as? [Any])?.count ?? (raw as? [String: Any])?.count ?? 0 }
  public var keys: [String] { (raw as? [String: Any])?.keys.sorted() ?? [] }
  public var items: [PlainJSON] { (raw as? [Any])?.map(PlainJSON.init(raw:)) ?? [] }
}
