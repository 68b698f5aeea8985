//  As much of JSON Schema as our schemas use, so that a test can ask what an editor would say. A keyword that it does not
//  know is a failure, lest a schema promises what nobody checked.

import Config
import Foundation

struct SchemaValidator {
  private let root: [String: Any]

  init(_ text: String) throws {
    root = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
  }

  /// What is wrong with `value`; empty where nothing is.
  func problems(_ value: Any) -> [String] { problems(value, root, "") }

  private static let annotations: Set<String> = ["$schema", "$defs", "title", "description", "default", "deprecated"]

  private func problems(_ value: Any, _ schema: Any, _ place: String) -> [String] {
    if let boolean = schema as? Bool { return boolean ? [] : ["\(place): not allowed"] }
    guard let schema = schema as? [String: Any] else { return ["\(place): no schema"] }
    var found: [String] = []
    func failures(_ part: Any) -> [String] { problems(value, part, place) }
    for (keyword, argument) in schema where !Self.annotations.contains(keyword) {
      switch keyword {
      case "$ref": found += failures(resolved(argument as? String ?? ""))
      case "type":
        let names = argument as? [String] ?? [argument as? String ?? ""]
        if !names.contains(where: { Self.isOfType(value, $0) }) { found.append("\(place): no \(names)") }
      case "enum":
        let allowed = argument as? [Any] ?? []
        if !allowed.contains(where: { NSDictionary(object: $0, forKey: "a" as NSString).isEqual(to: ["a": value]) }) {
          found.append("\(place): not in \(allowed)")
        }
      case "pattern":
        guard let text = value as? String else { break }
        switch Self.matches(text, argument as? String ?? "") {
        case true?: break
        case false?: found.append("\(place): does not match \(argument)")
        case nil: found.append("\(place): the schema's '\(argument)' is no pattern")
        }
      case "properties":
        for (name, part) in argument as? [String: Any] ?? [:] {
          if let member = (value as? [String: Any])?[name] { found += problems(member, part, "\(place)/\(name)") }
        }
      case "patternProperties", "additionalProperties": found += others(value, schema, keyword, place)
      case "required":
        if let map = value as? [String: Any] {
          found += (argument as? [String] ?? []).filter { map[$0] == nil }.map { "\(place): '\($0)' is missing" }
        }
      case "items":
        for (i, item) in (value as? [Any] ?? []).enumerated() { found += problems(item, argument, "\(place)/\(i)") }
      case "anyOf":
        let all = (argument as? [Any] ?? []).map(failures)
        if !all.contains(where: \.isEmpty) { found += ["\(place): none of \(all.count)"] + all.joined() }
      case "oneOf":
        let count = (argument as? [Any] ?? []).map(failures).count { $0.isEmpty }
        if count != 1 { found.append("\(place): \(count) of those of which one is allowed") }
      case "if":
        let branch = failures(argument).isEmpty ? "then" : "else"
        if let part = schema[branch] { found += failures(part) }
      case "then", "else": break
      default: found.append("\(place): the validator does not know '\(keyword)'")
      }
    }
    return found
  }

  /// nil where the pattern is none.
  private static func matches(_ text: String, _ pattern: String) -> Bool? {
    (try? Regex(pattern)).map { text.firstMatch(of: $0) != nil }
  }

  /// Members that `properties` does not name.
  private func others(_ value: Any, _ schema: [String: Any], _ keyword: String, _ place: String) -> [String] {
    guard let map = value as? [String: Any] else { return [] }
    let named = schema["properties"] as? [String: Any] ?? [:]
    let patterns = schema["patternProperties"] as? [String: Any] ?? [:]
    var found: [String] = []
    for (name, member) in map {
      let matching = patterns.filter { Self.matches(name, $0.key) == true }
      for (pattern, _) in patterns where Self.matches(name, pattern) == nil {
        found.append("\(place): the schema's '\(pattern)' is no pattern")
      }
      if keyword == "patternProperties" {
        for part in matching.values { found += problems(member, part, "\(place)/\(name)") }
      } else if named[name] == nil, matching.isEmpty {
        found += problems(member, schema["additionalProperties"] ?? true, "\(place)/\(name)")
      }
    }
    return found
  }

  private func resolved(_ reference: String) -> Any {
    var part: Any = root
    for name in reference.dropFirst(2).split(separator: "/") {
      guard let next = (part as? [String: Any])?[String(name)] else { return false }
      part = next
    }
    return part
  }

  private static func isOfType(_ value: Any, _ name: String) -> Bool {
    switch name {
    case "object": return value is [String: Any]
    case "array": return value is [Any]
    case "string": return value is String
    case "null": return value is NSNull
    case "boolean": return value is Bool
    case "integer": return value is Int
    case "number": return value is Int || value is Double
    default: return false
    }
  }
}

/// A YAML tree as an editor reads it: plain scalars are what the core schema of YAML says.
func editorValue(_ node: YAMLNode) -> Any {
  if let items = node.items { return items.map(editorValue) }
  if let entries = node.entries {
    return Dictionary(uniqueKeysWithValues: entries.map { ($0.key, editorValue($0.value)) }) as [String: Any]
  }
  let text = node.text ?? ""
  guard !node.isQuoted else { return text }
  switch text {
  case "", "~", "null": return NSNull()
  case "true": return true
  case "false": return false
  default: return Int(text).map { $0 as Any } ?? Double(text).map { $0 as Any } ?? text
  }
}
