// swift-tools-version: 6.2
import PackageDescription

// Settings of every Swift target of ours. C types stay out of signatures because imports are internal by default.
// The scripts set SLUICE_STRICT, so that no warning passes them; no other build fails for a warning.
let isStrict = Context.environment["SLUICE_STRICT"] != nil
let settings: [SwiftSetting] =
  (isStrict ? [.treatAllWarnings(as: .error)] : []) + [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    // Debug builds, which all tests run in, check every access to a class's fields; in a release build the checks cost
    // 4 to 5 % of an event and find nothing new.
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
  ]
let strictC: [CSetting] = isStrict ? [.treatAllWarnings(as: .error)] : []

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
    system("CZstd", "libzstd", "libzstd-dev"),

    // C of ours: byte scanning that is inlined into Swift loops, and Linux calls that Swift does not import.
    .target(name: "CScan", cSettings: strictC),
    .target(name: "CSystem", cSettings: [.define("_GNU_SOURCE")] + strictC),

    // The ground: bytes, locks, errors, positions, the log. Nothing of ours lies below it.
    library("Diagnostics", ["CSystem"]),
    // What inputs hand over and queues keep.
    library("Records", ["Diagnostics"]),
    // The one module that knows PCRE2.
    library("Patterns", ["Diagnostics", "CPCRE2", "CSystem"]),
    // Events in arenas, JSON, references, sprintf, conditions: one module, so that the hot path is optimised as one.
    library("Events", ["Diagnostics", "Patterns", "CScan", "CSystem"]),
    // Inflating, compressing, digests, encryption.
    library("Codecs", ["Diagnostics", "CDeflate", "CISAL", "CLZ4", "COpenSSL", "CZstd"]),
    // YAML with positions, options and their checker.
    library("Config", ["Diagnostics", "CSystem", "CYAML"]),
    // Sockets, TLS and HTTP on Dispatch.
    library("Net", ["Diagnostics", "COpenSSL", "CSystem"]),
    // The contracts of inputs, filters and outputs.
    library("PluginKit", ["Events", "Records", "Diagnostics", "Config", "Patterns"]),
    library(
      "Inputs",
      ["Net", "Codecs", "PluginKit", "Patterns", "Events", "Records", "Config", "Diagnostics", "CScan", "CSystem"]),
    // The persisted queue and the dead letters: bytes and positions, no plugins.
    library("Queue", ["Codecs", "Records", "Diagnostics", "CSystem"]),
    library(
      "Filters",
      ["PluginKit", "Events", "Config", "Patterns", "Codecs", "Diagnostics", "CMaxMindDB", "CSystem", "CXML2"]),
    library(
      "Outputs", ["PluginKit", "Events", "Config", "Codecs", "Diagnostics", "CCurl", "COpenSSL", "CSystem"]),
    // Looks after a cluster: templates, life cycles, indices, snapshots, users.
    library("Cluster", ["Outputs", "Events", "Diagnostics"]),
    // Compiles pipelines and runs them: workers between queue and outputs.
    library(
      "Pipeline",
      ["PluginKit", "Queue", "Records", "Patterns", "Events", "Codecs", "Config", "Diagnostics"]),
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
    // Pages, help and the schema of pipelines, printed from the declarations of plugins and settings.
    library("Reference", ["PluginKit", "Config", "Diagnostics"]),
    .executableTarget(
      name: "sluice",
      dependencies: [
        "Cluster", "CommandLine", "Reference", "Daemon", "Outputs", "Pipeline", "Queue", "Records", "PluginKit",
        "Config", "Events", "Diagnostics",
      ],
      path: "Sources/CLI", swiftSettings: settings),

    .target(
      name: "TestSupport", dependencies: ["Pipeline", "Queue", "PluginKit", "Config", "Events", "Diagnostics"],
      path: "Tests/Support", swiftSettings: settings),
    tests("Patterns", ["Patterns", "Diagnostics"]),
    tests("Events", ["Events", "Patterns", "Pipeline", "Diagnostics"]),
    tests("Codecs", ["Codecs", "Diagnostics"]),
    tests("Config", ["Config", "CommandLine", "Diagnostics"]),
    tests("Net", ["Net", "Diagnostics"]),
    tests(
      "Inputs",
      ["Inputs", "Filters", "Pipeline", "PluginKit", "Net", "Codecs", "Records", "Events", "Config", "Diagnostics"]),
    tests("Queue", ["Queue", "Codecs", "Records", "Diagnostics"]),
    tests(
      "Daemon", ["Daemon", "Queue", "Pipeline", "PluginKit", "Records", "Events", "Config", "Diagnostics"]),
    tests("Filters", ["Filters", "Pipeline", "PluginKit", "Patterns", "Events", "Config", "Diagnostics"]),
    tests(
      "Pipeline",
      ["Pipeline", "Filters", "PluginKit", "Queue", "Records", "Events", "Config", "Diagnostics"]),
    tests("Outputs", ["Outputs", "PluginKit", "Events", "Config", "Diagnostics"]),
    tests("Reference", ["Reference", "Daemon", "Pipeline", "PluginKit", "Events", "Config", "Diagnostics"]),
    tests("Cluster", ["Cluster", "Outputs", "Diagnostics"]),
    tests("Acceptance", ["Cluster", "Daemon", "PluginKit", "Codecs", "Diagnostics"]),
    // Reads the tree; needs nothing of it.
    .testTarget(name: "TidyTests", dependencies: ["TestSupport"], path: "Tests/TidyTests", swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6],
  cxxLanguageStandard: .cxx17
)

// The fuzz targets, and the fuzzer's counters in everything they reach. A build of its own, without the tests.
if Context.environment["SLUICE_FUZZ"] != nil {
  package.targets.removeAll { $0.isTest || $0.name == "TestSupport" }
  for target in package.targets where target.type != .system {
    if target.swiftSettings != nil {
      target.swiftSettings?.append(.unsafeFlags(["-sanitize=fuzzer"]))
    } else {
      target.cSettings = (target.cSettings ?? []) + [.unsafeFlags(["-fsanitize=fuzzer-no-link"])]
    }
  }
  package.targets += [
    .target(name: "CFuzz", path: "Fuzz/CFuzz"),
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "CFuzz", "Daemon", "Pipeline", "PluginKit", "Filters", "Inputs", "Net", "Queue", "Records", "Codecs", "Config",
        "Events", "Patterns", "Diagnostics",
      ],
      path: "Fuzz/Targets", swiftSettings: settings + [.unsafeFlags(["-sanitize=fuzzer"])],
      linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]),
  ]
}
