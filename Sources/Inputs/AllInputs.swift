//  Every input of this module, in order of name.

public import PluginKit

public let allInputs: [InputKind] = [
  InputKind(BeatsInput.self),
  InputKind(ElasticAgentInput.self),
  InputKind(HTTPInput.self),
  InputKind(TCPInput.self),
]
