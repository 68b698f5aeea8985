//  What the care of a cluster is made of, without a cluster: JSON, comparison, names of daily indices, the assets' files.

import Diagnostics
import Foundation
import TestSupport
import Testing

@testable import Cluster

@Suite struct ClusterPartsTests {
  @Test(arguments: [
    #"{"a":1,"b":[true,null,"x\n"],"c":{"d":1.50,"e":{}}}"#, "[]", "null", #""\u00e4\"""#, "-1e3",
  ])
  func `JSON comes out as it went in`(text: String) throws {
    let value = try #require(JSONValue(text))
    #expect(try PlainJSON(value.text).description == PlainJSON(text).description)
    #expect(JSONValue(value.pretty) == value)
  }

  @Test func `what the server adds is no difference, what it lacks or has otherwise is`() throws {
    let wanted: JSONValue = [
      "settings": ["index": ["number_of_shards": "1", "codec": "best"]], "list": ["a"], "on": true,
    ]
    func difference(_ text: String) throws -> String? {
      ClusterSetup.difference(wanted, try #require(JSONValue(text)))
    }
    #expect(
      try difference(
        #"{"more":1,"settings":{"index":{"number_of_shards":1,"codec":"best","uuid":"x"}},"list":["a"],"on":"true"}"#)
        == nil)
    #expect(
      try difference(#"{"settings":{"index":{"number_of_shards":"2","codec":"best"}},"list":["a"],"on":true}"#)
        == #"settings.index.number_of_shards is "2" instead of "1""#)
    #expect(
      try difference(#"{"settings":{"index":{"number_of_shards":"1"}},"list":["a"],"on":true}"#)
        == "settings.index.codec is missing")
    #expect(
      try difference(#"{"settings":{"index":{"number_of_shards":"1","codec":"best"}},"list":["a","b"],"on":true}"#)
        == "list has 2 instead of 1")
  }

  @Test(arguments: [
    ("aura-logs-1970.01.01", 0), ("aura-metrics-2024.02.29", 19782), ("aura-security-2026.03.01", 20513),
    ("aura-performance-1969.12.31", -1), ("aura-logs-2023.02.29", nil), ("aura-logs-2024.13.01", nil),
    ("aura-logs-2024.1.01", nil), ("aura-logs-2024.01.01-000001", nil), ("other-2024.01.01", nil),
    ("aura-logs-+024.01.01", nil), ("restored-aura-logs-2024.01.01", nil),
  ])
  func `the date of a daily index`(name: String, day: Int?) { #expect(DailyIndex(name)?.day == day) }

  @Test func `every field has one type, and none stands below one that holds a value`() {
    let paths = FieldList.all.map(\.path)
    #expect(Set(paths).count == paths.count)
    for path in paths {
      #expect(!paths.contains { $0.hasPrefix(path + ".") }, "\(path) holds a value and fields")
    }
    #expect(FieldList.knows("geoip.location.lat") && FieldList.knows("extra.anything.at.all"))
    #expect(!FieldList.knows("geoip.nowhere") && !FieldList.knows("message.keyword"))
  }

  /// The files are made by this test when SLUICE_WRITE_ASSETS is set.
  @Test func `the files below config are what the program puts into a cluster`() throws {
    var files: [(path: String, text: String)] = []
    for flavour in [ClusterClient.Flavour.elasticsearch, .opensearch] {
      var options = AssetOptions()
      options.repository = "aura_backup"
      let all =
        Assets.templates(flavour, options) + Assets.roles(flavour)
        + [Assets.snapshotPolicy(flavour, repository: "aura_backup")]
      for asset in all {
        files.append(
          ("config/elasticsearch/\(flavour.rawValue)/\(asset.kind.rawValue)-\(asset.name).json", asset.body.pretty))
      }
    }
    files.append(("config/elasticsearch/watch-aura-high-error-rate.json", Alerts.watch.pretty))
    files.append(("config/kibana/aura.ndjson", SavedObjects.lines.map { $0.text + "\n" }.joined()))
    for rule in Alerts.rules { files.append(("config/kibana/rule-\(rule.name).json", rule.body.pretty)) }
    for file in files {
      let path = Fixtures.root + "/" + file.path
      if ProcessInfo.processInfo.environment["SLUICE_WRITE_ASSETS"] != nil {
        let folder = URL(filePath: path).deletingLastPathComponent()
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try file.text.write(toFile: path, atomically: true, encoding: .utf8)
      }
      #expect(try String(decoding: Fixtures.read(path), as: UTF8.self) == file.text, "\(file.path) is stale")
    }
    for flavour in ["elasticsearch", "opensearch"] {
      let folder = "config/elasticsearch/" + flavour
      let there = try FileManager.default.contentsOfDirectory(atPath: Fixtures.root + "/" + folder)
      #expect(Set(there.map { "\(folder)/\($0)" }) == Set(files.map(\.path).filter { $0.hasPrefix(folder + "/") }))
    }
  }

  // MARK: Saved objects

  @Test func `saved objects refer to what is there, and every text in them that is JSON parses`() throws {
    let lines = try SavedObjects.lines.map { try PlainJSON($0.text) }
    let known = Set(lines.map { "\($0["type"]?.string ?? "")/\($0["id"]?.string ?? "")" })
    #expect(known.count == lines.count)
    #expect(lines.filter { $0["type"]?.string == "dashboard" }.count == 4)
    for line in lines {
      let references = line["references"]?.items ?? []
      let names = references.compactMap { $0["name"]?.string }
      #expect(Set(names).count == references.count)
      for reference in references {
        #expect(known.contains("\(reference["type"]?.string ?? "")/\(reference["id"]?.string ?? "")"))
      }
      let attributes = try #require(line["attributes"])
      for name in ["panelsJSON", "optionsJSON", "fieldFormatMap", "fields"] {
        if let text = attributes[name]?.string { _ = try PlainJSON(text) }
      }
      if let text = attributes["kibanaSavedObjectMeta"]?["searchSourceJSON"]?.string {
        if let wanted = try PlainJSON(text)["indexRefName"]?.string { #expect(names.contains(wanted)) }
      }
      if let text = attributes["panelsJSON"]?.string {
        let panels = try PlainJSON(text).items
        var taken: Set<[Int]> = []
        for panel in panels {
          let index = try #require(panel["panelIndex"]?.string)
          #expect(names.contains("\(index):\(panel["panelRefName"]?.string ?? "")"))
          let place = try #require(panel["gridData"])
          func number(_ name: String) -> Int { place[name]?.integer ?? -1 }
          #expect(number("x") >= 0 && number("x") + number("w") <= 48)
          for x in number("x")..<number("x") + number("w") {
            for y in number("y")..<number("y") + number("h") { #expect(taken.insert([x, y]).inserted) }
          }
        }
      }
      if let state = attributes["state"] {
        let layer = state["datasourceStates"]?["formBased"]?["layers"]?["layer-1"]
        #expect(Set(layer?["columnOrder"]?.items.compactMap(\.string) ?? []) == Set(layer?["columns"]?.keys ?? ["?"]))
        #expect(names == ["indexpattern-datasource-layer-layer-1"])
      }
    }
  }

  @Test func `every field of a panel, a search and a rule stands in the templates, and words are not counted`() throws {
    var fields: Set<String> = []
    let name = /([A-Za-z_@][\w.@]*)\s*(?::|>=|<=|>|<)/
    func collect(_ query: String) { for match in query.matches(of: name) { fields.insert(String(match.1)) } }
    var aggregated: Set<String> = []
    for dashboard in Dashboards.all {
      fields.formUnion(dashboard.controls)
      for panel in dashboard.panels {
        collect(panel.query)
        if case .documents(let columns) = panel.shape { fields.formUnion(columns) }
        for metric in panel.metrics {
          if let field = metric.field { aggregated.insert(field) }
          if let filter = metric.filter { collect(filter) }
        }
        switch panel.split {
        case .terms(let field, _): aggregated.insert(field)
        case .ranges(let field, _): aggregated.insert(field)
        case .filters(let filters): for filter in filters { collect(filter.query) }
        case nil: break
        }
      }
    }
    for search in Dashboards.searches {
      collect(search.query)
      fields.formUnion(search.columns)
    }
    #expect(fields.count > 20 && aggregated.count > 15)
    for field in fields.union(aggregated) where field != "_index" { #expect(FieldList.knows(field), "\(field)") }
    for field in FieldList.all where aggregated.contains(field.path) {
      if case .text = field.kind { Issue.record("\(field.path) is words and cannot be counted by") }
    }
  }
}
