//  What every plugin declares of itself, and the pages that are printed from it.

import Config
import Daemon
import PluginKit
import Reference
import TestSupport
import Testing

let reference = Reference(.all) { "# Commands\n" }

/// A plugin as a test's argument: named by kind and name.
struct Subject: Sendable, CustomTestStringConvertible {
  var plugin: PluginDescription
  var testDescription: String { plugin.title }
}

@Suite struct ManualTests {
  static let plugins = PluginDescription.Kind.allCases.flatMap { Registry.all.descriptions($0) }
  static let subjects = plugins.map { Subject(plugin: $0) }

  @Test(arguments: subjects)
  func `a plugin says what it is for, what its options do, and shows it`(_ subject: Subject) {
    let plugin = subject.plugin
    let manual = plugin.manual
    #expect(manual.summary.hasSuffix(".") && !manual.summary.contains("\n"), "\(plugin.title)")
    #expect(!manual.examples.isEmpty, "\(plugin.title) has no example")
    #expect(Set(manual.examples.map(\.title)).count == manual.examples.count, "\(plugin.title)")
    let options = plugin.options + plugin.commonOptions
    #expect(Set(options.map(\.name)).count == options.count, "\(plugin.title) declares an option twice")
    for option in options where !option.isObsolete {
      #expect(option.sentence.hasSuffix("."), "'\(option.name)' of \(plugin.title): a sentence has a full stop")
    }
  }

  @Test(arguments: subjects)
  func `a plugin's help names every option in lines of at most 80 characters`(_ subject: Subject) throws {
    let plugin = subject.plugin
    let page = try #require(reference.help(plugin.title))
    for option in plugin.options where !option.isObsolete {
      #expect(page.contains("\n  \(option.name)  ("), "'\(option.name)' of \(plugin.title)")
    }
    // What is quoted of files and events is as wide as it is.
    let prose = page.split(separator: "\n").filter { !$0.hasPrefix("    ") || $0.hasPrefix("      ") }
    let wide = prose.filter { $0.count > 80 && !$0.hasPrefix("  ") }
    #expect(wide.isEmpty, "\(plugin.title): \(wide)")
  }

  @Test func `help knows a plugin by its name, and by its kind where two share a name`() throws {
    #expect(reference.helpNames.contains("grok") && reference.helpNames.contains("beats"))
    #expect(reference.help("filter json")?.hasPrefix("filter json\n") == true)
    #expect(reference.help("output json") == nil)
    #expect(reference.help("jsno") == nil)
  }

  @Test func `the pages name every plugin and every setting`() throws {
    for plugin in Self.plugins {
      let page = try #require(reference.page(plugin.kind.rawValue + "s"))
      #expect(page.contains("\n## \(plugin.manual.name)\n"), "\(plugin.title)")
      for example in plugin.manual.examples { #expect(page.contains("**\(example.title)**"), "\(plugin.title)") }
    }
    let settings = try #require(reference.page("settings"))
    for setting in DaemonSettings.descriptions { #expect(settings.contains("| `\(setting.name)` |")) }
    #expect(settings.contains("| `path.logs` |"))
    for name in Reference.pages { #expect(reference.page(name)?.hasPrefix("# ") == true, "page \(name)") }
    #expect(reference.page("filter") == nil)
  }
}
