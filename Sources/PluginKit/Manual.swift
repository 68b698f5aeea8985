//  What a plugin says of itself; help, reference pages and tests of the examples are made from it.

/// A plugin's name, purpose and worked examples.
public struct Manual: Sendable {
  public let name: String
  /// One sentence.
  public let summary: String
  public let details: String
  public let examples: [Example]
  /// Tags that the plugin puts on events that it could not handle.
  public let failureTags: [String]

  public init(name: String, summary: String, details: String = "", examples: [Example] = [], failureTags: [String] = [])
  {
    self.name = name
    self.summary = summary
    self.details = details
    self.examples = examples
    self.failureTags = failureTags
  }
}

/// An example that is run as a test: `config` (the options as YAML) applied to `input` gives `output`.
public struct Example: Sendable {
  public let title: String
  public let config: String
  public let input: String
  public let output: String

  public init(_ title: String, config: String, input: String, output: String) {
    self.title = title
    self.config = config
    self.input = input
    self.output = output
  }
}
