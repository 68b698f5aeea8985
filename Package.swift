// swift-tools-version: 6.2
import PackageDescription

// Settings of every Swift target of ours. C types stay out of signatures because imports are internal by default.
let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}
func system(_ name: String, _ pkgConfig: String, _ package: String) -> Target {
  .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([package])])
}
func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: name + "Tests", dependencies: dependencies + ["TestSupport"], path: "Tests/\(name)Tests",
    swiftSettings: settings)
}

let package = Package(
  name: "sluice",
  products: [.executable(name: "sluice", targets: ["sluice"])],
  targets: [
    // Debian's C libraries, linked dynamically so that the system's security updates reach them.
    system("CCurl", "libcurl", "libcurl4-openssl-dev"),
    system("CDeflate", "libdeflate", "libdeflate-dev"),
    system("CISAL", "libisal", "libisal-dev"),
    system("CLZ4", "liblz4", "liblz4-dev"),
    system("CMaxMindDB", "libmaxminddb", "libmaxminddb-dev"),
    system("COpenSSL", "openssl", "libssl-dev"),
    system("CPCRE2", "libpcre2-8", "libpcre2-dev"),
    system("CXML2", "libxml-2.0", "libxml2-dev"),
    system("CYAML", "yaml-0.1", "libyaml-dev"),
    system("CZlib", "zlib", "zlib1g-dev"),
    system("CZstd", "libzstd", "libzstd-dev"),

    // C of ours: byte scanning that is inlined into Swift loops, and Linux calls that Swift does not import.
    .target(name: "CScan"),
    .target(name: "CSystem", cSettings: [.define("_GNU_SOURCE")]),

    // The ground: bytes, locks, errors, positions, the log. Nothing of ours lies below it.
    library("Diagnostics", ["CSystem"]),
    // What inputs hand over and queues keep.
    library("Records", ["Diagnostics"]),
    // The one module that knows PCRE2.
    library("Patterns", ["Diagnostics", "CPCRE2"]),
    // Events in arenas, JSON, references, sprintf, conditions: one module, so that the hot path is optimised as one.
    library("Events", ["Diagnostics", "Patterns", "CScan"]),
    // Inflating, compressing, digests, encryption.
    library("Codecs", ["Diagnostics", "CDeflate", "CISAL", "CLZ4", "COpenSSL", "CZlib", "CZstd"]),
    // YAML with positions, options and their checker.
    library("Config", ["Diagnostics", "CSystem", "CYAML"]),
    // Sockets, TLS and HTTP on Dispatch.
    library("Net", ["Diagnostics", "COpenSSL", "CSystem"]),
    // The contracts of inputs, filters and outputs.
    library("PluginKit", ["Events", "Records", "Diagnostics", "Config", "Patterns"]),
    library("Inputs", ["Net", "Codecs", "PluginKit", "Events", "Records", "Config", "Diagnostics", "CScan"]),
    // The persisted queue and the dead letters: bytes and positions, no plugins.
    library("Queue", ["Codecs", "Records", "Diagnostics", "CSystem"]),
    library(
      "Filters",
      ["PluginKit", "Events", "Config", "Patterns", "Codecs", "Diagnostics", "CMaxMindDB", "CSystem", "CXML2"]),
    library("Outputs", ["PluginKit", "Events", "Config", "Codecs", "Diagnostics", "CCurl", "CSystem"]),
    // Compiles pipelines and runs them: workers between queue and outputs.
    library("Pipeline", ["PluginKit", "Queue", "Records", "Patterns", "Events", "Config", "Diagnostics", "CSystem"]),
    // Wiring, signals, shutdown; the only module that names every plugin.
    library(
      "Daemon",
      [
        "Inputs", "Filters", "Outputs", "Pipeline", "Queue", "Codecs", "Patterns", "Records", "Net",
        "PluginKit", "Config", "Events",
        "Diagnostics", "CSystem",
      ]),
    // Commands declared as data: parsing, help, completions.
    library("CommandLine", ["Diagnostics"]),
    .executableTarget(
      name: "sluice",
      dependencies: [
        "CommandLine", "Daemon", "Pipeline", "Queue", "Records", "PluginKit", "Config", "Events", "Diagnostics",
        "CSystem",
      ],
      path: "Sources/CLI", swiftSettings: settings),

    .target(
      name: "TestSupport",
      dependencies: ["Pipeline", "Queue", "PluginKit", "Config", "Events", "Diagnostics", "CSystem"],
      path: "Tests/Support", swiftSettings: settings),
    tests("Patterns", ["Patterns", "Diagnostics"]),
    tests("Events", ["Events", "Patterns", "Pipeline", "Diagnostics"]),
    tests("Codecs", ["Codecs", "Diagnostics"]),
    tests("Config", ["Config", "CommandLine", "Diagnostics"]),
    tests("Net", ["Net", "Diagnostics"]),
    tests("Inputs", ["Inputs", "PluginKit", "Net", "Codecs", "Records", "Events", "Config", "Diagnostics"]),
    tests("Queue", ["Queue", "Codecs", "Records", "Diagnostics"]),
    tests(
      "Daemon", ["Daemon", "Queue", "Pipeline", "PluginKit", "Records", "Events", "Config", "Diagnostics"]),
    tests("Filters", ["Filters", "Pipeline", "PluginKit", "Patterns", "Events", "Config", "Diagnostics"]),
    tests("Outputs", ["Outputs", "PluginKit", "Events", "Config", "Diagnostics"]),
    tests("Acceptance", ["Codecs", "Diagnostics"]),
  ],
  swiftLanguageModes: [.v6],
  cxxLanguageStandard: .cxx17
)
