//  Every output of this module, in order of name.

public import PluginKit

public let allOutputs: [OutputKind] = [
  OutputKind(Elasticsearch.self),
  OutputKind(FileOutput.self),
  OutputKind(Stdout.self),
]
