//  JSON Schemas (draft 2020-12) of pipeline files and of the settings file, for editors. They are made from the same
//  declarations as the reader's checks, and say what the reader says as far as a schema can: which sections, plugins and
//  options there are, and the shapes of their values. What depends on several values is left to `sluice check`.

internal import Config
internal import PluginKit

extension Reference {
  /// Names of the schemas.
  package static let schemas = ["pipeline", "settings"]

  /// A schema, with line breaks; nil where there is none of this name.
  package func schema(_ name: String) -> String? {
    switch name {
    case "pipeline": laidOut(pipelineSchema)
    case "settings": laidOut(settingsSchema)
    default: nil
    }
  }

  private static let dialect = #""$schema":"https://json-schema.org/draft/2020-12/schema""#

  private var pipelineSchema: String {
    let settings = SettingsSchema(PipelineSettings.descriptions, shortening: "pipeline.")
    var definitions = settings.definitions
    for kind in PluginDescription.Kind.allCases where kind != .codec {
      for plugin in registry.descriptions(kind) {
        let options = plugin.options.map { kind == .input ? namingCodecs($0) : $0 } + plugin.commonOptions
        definitions.append(
          "\(jsonText("\(kind.rawValue).\(plugin.manual.name)")):{\"description\":\(jsonText(plugin.manual.summary)),"
            + options.jsonSchema().dropFirst())
      }
      definitions.append("\"\(kind.rawValue)Step\":" + step(kind))
    }
    definitions += [branch, ##""steps":{"type":["array","null"],"items":{"$ref":"#/$defs/filterStep"}}"##, condition]
    return "{\(Self.dialect),\"title\":\"A pipeline of Sluice\",\"type\":\"object\",\"properties\":{"
      + ##""pipeline":{"description":"The pipeline's id and its settings.","$ref":"#/$defs/settings"},"##
      + #""inputs":{"description":"Where events come from.","type":["array","null"],"#
      + ##""items":{"$ref":"#/$defs/inputStep"}},"##
      + ##""filters":{"description":"What is done to events, in this order.","$ref":"#/$defs/steps"},"##
      + #""outputs":{"description":"Where events go.","type":["array","null"],"#
      + ##""items":{"$ref":"#/$defs/outputStep"}},"##
      + "\"tests\":{\"description\":\"What `sluice test` runs.\",\"type\":[\"array\",\"null\"],"
      + "\"items\":\(PipelineTest.descriptions.jsonSchema())}},"
      + "\"additionalProperties\":false,\"$defs\":{\(definitions.joined(separator: ","))}}"
  }

  /// An input's codec by name, or a map of the name to the codec's options.
  private func namingCodecs(_ option: OptionDescription) -> OptionDescription {
    guard option.typeName == PluginChoice.typeName else { return option }
    let codecs = registry.descriptions(.codec)
    let maps = codecs.map { codec in
      var option = OptionDescription(
        name: codec.manual.name, typeName: "", schema: .nested(codec.options), sentence: codec.manual.summary)
      option.isRequired = true
      return OptionSchema.nested([option])
    }
    var named = option
    named.schema = .oneOf([.choice(codecs.map(\.manual.name))] + maps)
    return named
  }

  private var settingsSchema: String {
    let settings = SettingsSchema(DaemonSettings.descriptions, shortening: nil)
    return "{\(Self.dialect),\"title\":\"The settings of Sluice\",\"$ref\":\"#/$defs/settings\","
      + "\"$defs\":{\(settings.definitions.joined(separator: ","))}}"
  }

  /// A plugin's name alone where it needs no option, or a map of one name to its options beside `when` and `id`.
  private func step(_ kind: PluginDescription.Kind) -> String {
    let plugins = registry.descriptions(kind)
    let bare = plugins.filter { plugin in !plugin.options.contains { $0.isRequired } }
    let properties = plugins.map { plugin in
      let name = jsonText(plugin.manual.name)
      let options = "{\"$ref\":\(jsonText("#/$defs/\(kind.rawValue).\(plugin.manual.name)"))}"
      let needsNone = bare.contains { $0.manual.name == plugin.manual.name }
      return "\(name):" + (needsNone ? "{\"anyOf\":[\(options),{\"type\":\"null\"}]}" : options)
    }
    let one = plugins.map { "{\"required\":[\(jsonText($0.manual.name))]}" }
    let map =
      "\"properties\":{\"when\":{\"$ref\":\"#/$defs/condition\"},\"id\":{\"type\":[\"string\",\"number\"],"
      + "\"description\":\"Names the step in statistics and messages.\"},\(properties.joined(separator: ","))},"
      + "\"additionalProperties\":false,\"oneOf\":[\(one.joined(separator: ","))]"
    let names = bare.map { jsonText($0.manual.name) }.joined(separator: ",")
    let plugin =
      "{\"type\":[\"object\",\"string\"],\"if\":{\"type\":\"string\"},\"then\":{\"enum\":[\(names)]},\"else\":{\(map)}}"
    guard kind == .filter else { return plugin }
    return #"{"if":{"type":"object","anyOf":[{"required":["if"]},{"required":["then"]},{"required":["else"]}]},"#
      + "\"then\":{\"$ref\":\"#/$defs/branch\"},\"else\":\(plugin)}"
  }

  private var branch: String {
    ##""branch":{"type":"object","properties":{"if":{"$ref":"#/$defs/condition"},"then":{"$ref":"#/$defs/steps"},"##
      + ##""else":{"anyOf":[{"$ref":"#/$defs/steps"},{"$ref":"#/$defs/branch"}]}},"required":["if"],"##
      + #""anyOf":[{"required":["then"]},{"required":["else"]}],"additionalProperties":false}"#
  }

  private var condition: String {
    #""condition":{"description":"A condition in Logstash's expression language.","type":["string","boolean"]}"#
  }
}

/// Settings as a tree of maps: each dotted name may be cut into nested maps at any of its dots.
private struct SettingsSchema {
  private(set) var definitions: [String] = []
  private let leaves: [(name: String, schema: String)]

  /// - Parameter shortening: A prefix of names that may be left out, as `pipeline.` in a pipeline's own map.
  init(_ options: [OptionDescription], shortening prefix: String?) {
    var leaves: [(name: String, schema: String)] = []
    func add(_ name: String, _ schema: String) {
      if !leaves.contains(where: { $0.name == name }) { leaves.append((name, schema)) }
      if let prefix, name.hasPrefix(prefix) {
        let short = String(name.dropFirst(prefix.count))
        if !leaves.contains(where: { $0.name == short }) { leaves.append((short, schema)) }
      }
    }
    for option in options where !option.isObsolete { add(option.name, option.schemaText) }
    if prefix != nil {
      add(
        "pipeline.id",
        #"{"description":"The pipeline's id; the file's name unless it is given.","type":["string","number"]}"#)
    }
    for setting in ignoredSettings where !setting.name.hasSuffix("*") {
      add(
        setting.name,
        "{\"description\":\(jsonText("A setting of Logstash without meaning here: \(setting.reason).")),\"deprecated\":true}"
      )
    }
    self.leaves = leaves
    addGroup("")
  }

  /// The map of all names that begin with `prefix`, and the maps within it.
  private mutating func addGroup(_ prefix: String) {
    var members: [String] = []
    var groups: [String] = []
    for leaf in leaves where leaf.name.hasPrefix(prefix) {
      let rest = leaf.name.dropFirst(prefix.count)
      members.append("\(jsonText(String(rest))):\(leaf.schema)")
      for index in rest.indices where rest[index] == "." {
        let group = String(rest[..<index])
        if !groups.contains(group) { groups.append(group) }
      }
    }
    for group in groups where !leaves.contains(where: { $0.name == prefix + group }) {
      members.append("\(jsonText(group)):{\"$ref\":\(jsonText("#/$defs/settings." + prefix + group))}")
    }
    let name = prefix.isEmpty ? "settings" : "settings." + prefix.dropLast()
    definitions.append(
      "\(jsonText(name)):{\"type\":[\"object\",\"null\"],\"properties\":{\(members.joined(separator: ","))},"
        + "\"patternProperties\":{\(Self.passedOver)},\"additionalProperties\":false}")
    for group in groups
    where !definitions.contains(where: { $0.hasPrefix(jsonText("settings." + prefix + group) + ":") }) {
      addGroup(prefix + group + ".")
    }
  }

  /// Whole families of Logstash's settings that mean nothing here.
  private static let passedOver = ignoredSettings.filter { $0.name.hasSuffix("*") }.map { setting in
    let name = setting.name.dropLast(2).split(separator: ".").joined(separator: "\\.")
    return "\(jsonText("^\(name)(\\.|$)")):{\"deprecated\":true}"
  }.joined(separator: ",")
}

/// JSON with line breaks and two blanks a level; what fits into one line of 100 characters stays in one.
func laidOut(_ json: String) -> String {
  var layout = Layout(bytes: Array(json.utf8))
  layout.value(indent: 0)
  return String(decoding: layout.out, as: UTF8.self) + "\n"
}

private struct Layout {
  let bytes: [UInt8]
  var index = 0
  var out: [UInt8] = []

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func value(indent: Int) {
    let end = endOfValue(index)
    guard let first = bytes[index...].first, first == UInt8(ascii: "{") || first == UInt8(ascii: "["),
      indent + (end - index) > 100
    else {
      spaced(index..<end)
      index = end
      return
    }
    out.append(first)
    index += 1
    while index < end - 1 {
      out.append(10)
      out += [UInt8](repeating: 32, count: indent + 2)
      if first == UInt8(ascii: "{") {
        let key = endOfValue(index)
        out += bytes[index..<key] + [UInt8(ascii: ":"), 32]
        index = key + 1
      }
      value(indent: indent + 2)
      if index < end - 1 {
        out.append(UInt8(ascii: ","))
        index += 1
      }
    }
    out.append(10)
    out += [UInt8](repeating: 32, count: indent) + [bytes[end - 1]]
    index = end
  }

  /// A value in one line, with a blank behind each comma and colon.
  private mutating func spaced(_ range: Range<Int>) {
    var isText = false
    var index = range.lowerBound
    while index < range.upperBound {
      let byte = bytes[index]
      out.append(byte)
      if isText, byte == UInt8(ascii: "\\"), index + 1 < range.upperBound {
        index += 1
        out.append(bytes[index])
      } else if byte == UInt8(ascii: "\"") {
        isText.toggle()
      } else if !isText, byte == UInt8(ascii: ",") || byte == UInt8(ascii: ":") {
        out.append(32)
      }
      index += 1
    }
  }

  /// The index behind the value that begins at `start`.
  private func endOfValue(_ start: Int) -> Int {
    var depth = 0
    var isText = false
    var index = start
    while index < bytes.count {
      let byte = bytes[index]
      if isText {
        if byte == UInt8(ascii: "\\") {
          index += 1
        } else if byte == UInt8(ascii: "\"") {
          isText = false
          if depth == 0 { return index + 1 }
        }
      } else {
        switch byte {
        case UInt8(ascii: "\""): isText = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
          if depth == 0 { return index }
          depth -= 1
          if depth == 0 { return index + 1 }
        case UInt8(ascii: ","), UInt8(ascii: ":"): if depth == 0 { return index }
        default: break
        }
      }
      index += 1
    }
    return bytes.count
  }
}
