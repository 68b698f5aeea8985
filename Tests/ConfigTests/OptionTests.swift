//  Options: what each type takes and refuses, in exact words.

import Config
import Diagnostics
import Testing

enum Level: String, OptionEnum { case low, high, Mixed }

struct Bounds: NestedSettings {
  var slow = 2.0
  var name: String?
  init() {}
  static let options: [Option<Bounds>] = [
    .option("slow", \.slow, "Seconds from which on a request is slow."),
    .option("name", \.name, "A name."),
  ]
}

struct Everything: PluginSettings {
  var text = "message"
  var flag = false
  var count = 5
  var bounded = 5
  var maybe: Int?
  var number = 0.5
  var list = ["a"]
  var map: OrderedMap<String, [String]> = [:]
  var plainMap: OrderedMap<String, String> = ["a": "b c"]
  var level = Level.low
  var levels: [Level] = []
  var delay = Duration.milliseconds(50)
  var timeout: Duration? = .seconds(90)
  var size: ByteCount = .mib(64)
  var binarySize: ByteCount = 1000
  var port: Port = 5044
  var range: PortRange = 9600
  var path: FilePath?
  var password: Secret?
  var hosts: [WebAddress] = ["http://localhost:9200"]
  var raw: YAMLNode?
  var bounds = Bounds()
  var codec = PluginChoice("plain")
  var old: String?
  init() {}
  static let options: [Option<Everything>] = [
    .option("text", \.text, "A text."),
    .option("flag", \.flag, "A flag."),
    .option("count", \.count, "A count."),
    .option("bounded", \.bounded, "A bounded count.", unit: .events, in: 1...10),
    .option("maybe", \.maybe, "A count that may be absent.", in: 1...10),
    .option("number", \.number, "A number."),
    .option("list", \.list, "A list.", check: { $0.isEmpty ? "must not be empty" : nil }),
    .option("map", \.map, "A map."),
    .option("plain_map", \.plainMap, "A map."),
    .option("level", \.level, "A level."),
    .option("levels", \.levels, "Levels."),
    .option("delay", \.delay, "A delay.", unit: .milliseconds, in: .milliseconds(1) ... .seconds(60)),
    .option("timeout", \.timeout, "A time-out."),
    .option("size", \.size, "A size.", unit: .bytes),
    .option("binary_size", \.binarySize, "A size.", unit: .binaryBytes),
    .option("port", \.port, "A port."),
    .option("range", \.range, "Ports."),
    .option("path", \.path, "A path."),
    .option("password", \.password, "A password."),
    .option("hosts", \.hosts, "Hosts."),
    .option("raw", \.raw, "Anything."),
    .option("bounds", \.bounds, "Bounds."),
    .option("codec", \.codec, "A codec."),
    .option("old", \.old, "An old name.", deprecated: "use 'text'"),
    .obsolete("older", "use 'text'"),
  ]
}

struct Needy: PluginSettings {
  var hosts: [String] = []
  var index = ""
  init() {}
  static let options: [Option<Needy>] = [
    .option("hosts", \.hosts, "Hosts.", required: true, example: "[\"https://es1:9200\"]"),
    .option("index", \.index, "The index.", required: true),
  ]
}

/// Reads settings and returns them with the messages.
func read<Settings: PluginSettings>(
  _ text: String, _ environment: [String: String] = [:], as type: Settings.Type = Everything.self,
  opensFiles: Bool = true
) -> (Settings, [String]) {
  let problems = Problems()
  let source = VariableSource(environment: environment, opensFiles: opensFiles)
  let node = YAML.parse(text, file: "f.yml", problems: problems)?.expanded(by: source, problems: problems)
  let owner = OptionOwner.plugin("filter", "clip", at: SourcePosition(file: "f.yml", line: 9, column: 3))
  let settings = Settings.read(node, of: owner, problems: problems)
  return (settings, problems.sorted.map(\.description))
}

@Suite struct OptionTests {
  @Test func `what is not given keeps its initial value`() {
    let (settings, messages) = read("")
    #expect(settings.text == "message" && settings.timeout == .seconds(90) && messages.isEmpty)
  }

  @Test func `every type reads its values`() {
    let (settings, messages) = read(
      """
      text: 012
      flag: 'true'
      count: [-7]
      bounded: 10
      maybe: '3'
      number: 0.25
      list: one
      map: [a, x, b, y, a, [z]]
      plain_map: { z: 1, a: 'two words' }
      level: high
      levels: [low, Mixed]
      delay: 250
      timeout: 1.5s
      size: 10mb
      binary_size: 10mb
      port: 0
      range: 9600-9700
      path: /etc/x
      password: geheim
      hosts: ['https://user:pw@es1:9200/x', es2, '[::1]:9200']
      raw: { a: [1] }
      bounds: { slow: 3 }
      codec: { json: { charset: UTF-8 } }
      """)
    #expect(messages.isEmpty)
    #expect(settings.text == "012")
    #expect(settings.flag)
    #expect(settings.count == -7)
    #expect(settings.bounded == 10 && settings.maybe == 3 && settings.number == 0.25)
    #expect(settings.list == ["one"])
    #expect(settings.map.optionText == "{ a: [x, z], b: [y] }")
    #expect(settings.plainMap.entries.map(\.key) == ["z", "a"] && settings.plainMap["a"] == "two words")
    #expect(settings.level == .high && settings.levels == [.low, .Mixed])
    #expect(settings.delay == .milliseconds(250) && settings.timeout == .milliseconds(1500))
    #expect(settings.size.bytes == 10_000_000 && settings.binarySize.bytes == 10 << 20)
    #expect(settings.port.number == 0 && settings.range.ports == 9600...9700)
    #expect(settings.path?.text == "/etc/x" && settings.password?.revealed == "geheim")
    #expect(settings.hosts.map(\.text) == ["https://user:pw@es1:9200/x", "es2", "[::1]:9200"])
    #expect(settings.raw?["a"]?.items?.first?.text == "1")
    #expect(settings.bounds.slow == 3)
    #expect(settings.codec.name == "json" && settings.codec.options?["charset"]?.text == "UTF-8")
  }

  @Test(arguments: Block.all("config-options.txt"))
  func `what is wrong is said with its place`(block: Block) {
    #expect(read(block.input).1 == block.expected)
  }

  @Test func `a required option is missed at the plugin's name`() {
    let (_, messages) = read("{}", as: Needy.self)
    #expect(
      messages == [
        "f.yml:9:3: error: 'hosts' is required in filter 'clip'; add it, for example:  hosts: [\"https://es1:9200\"] "
          + "[config.missing-option]",
        "f.yml:9:3: error: 'index' is required in filter 'clip' [config.missing-option]",
      ])
  }

  @Test func `a scalar that held a variable is split where a list is wanted`() {
    let hosts = ["H": "es1:9200, es2:9200 es3"]
    #expect(read("list: '${H}'", hosts).0.list == ["es1:9200", "es2:9200", "es3"])
    #expect(read("hosts: 'http://${H}'", hosts).0.hosts.map(\.text) == ["http://es1:9200", "es2:9200", "es3"])
    #expect(read("list: 'a, b'").0.list == ["a, b"])
    #expect(read("list: ['${H}']", hosts).0.list == ["es1:9200, es2:9200 es3"])
    #expect(read("text: '${H}'", hosts).0.text == "es1:9200, es2:9200 es3")
  }

  @Test func `an option that a variable empties counts as not given`() {
    let (settings, messages) = read("text: '${NONE:}'\npath: ${EMPTY}\nlist: '${EMPTY}'", ["EMPTY": ""])
    #expect(settings.text == "message" && settings.path == nil && settings.list == ["a"] && messages.isEmpty)
    #expect(read("text: ''").0.text == "")
    #expect(read("hosts: '${E:}'\nindex: x", as: Needy.self).1.map { $0.contains("'hosts' is required") } == [true])
  }

  @Test func `numbers and booleans come from variables too`() {
    let (settings, messages) = read("port: ${P}\nflag: ${F:true}", ["P": "5045"])
    #expect(settings.port == 5045 && settings.flag && messages.isEmpty)
    #expect(
      read("port: ${P}", ["P": "x"]).1 == [
        "f.yml:1:7: error: 'port' of filter 'clip' takes a port from 0 to 65535, not 'x' [config.bad-value]"
      ])
  }

  @Test func `secrets are never shown`() throws {
    let folder = try TemporaryFolder()
    try folder.write("pw", "geheim\n")
    let (settings, messages) = read("port: ${file:\(folder.path)/pw}\npassword: ${file:\(folder.path)/pw}")
    #expect(settings.password?.revealed == "geheim")
    #expect("\(settings)".contains("geheim") == false)
    #expect(
      messages == ["f.yml:1:7: error: 'port' of filter 'clip' takes a port from 0 to 65535, not *** [config.bad-value]"]
    )
  }

  @Test func `a text from a file that is not opened is never at fault`() {
    let (settings, messages) = read("port: ${file:/none}\npassword: ${credential:x}", opensFiles: false)
    #expect(messages.isEmpty && settings.port == 5044 && settings.password != nil)
  }

  @Test func `an optional duration can be switched off`() {
    #expect(read("timeout: -1").0.timeout == nil)
    #expect(read("timeout: off").0.timeout == nil)
  }

  @Test func `the description holds what a page needs`() throws {
    let all = Everything.descriptions
    func line(_ name: String) throws -> String {
      let option = try #require(all.first { $0.name == name })
      return "\(option.typeName) | \(option.defaultText ?? "-") | \(option.range ?? "-")"
    }
    #expect(try line("text") == "text | message | -")
    #expect(try line("bounded") == "whole number | 5 | 1 to 10")
    #expect(try line("maybe") == "whole number | - | 1 to 10")
    #expect(try line("plain_map") == "map of text to text | { a: 'b c' } | -")
    #expect(try line("level") == "one of low, high, Mixed | low | -")
    #expect(try line("delay") == "duration | 50ms | 1ms to 1m")
    #expect(try line("timeout") == "duration | 90s | -")
    #expect(try line("size") == "byte count | 64mib | -")
    #expect(try line("hosts") == "list of URL | ['http://localhost:9200'] | -")
    #expect(try line("bounds") == "map of options | { slow: 2 } | -")
    #expect(all.first { $0.name == "levels" }?.allowedValues == ["low", "high", "Mixed"])
    #expect(Needy.descriptions.map(\.isRequired) == [true, true])
  }
}
