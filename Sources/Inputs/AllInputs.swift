//  Every input and codec of this module, in order of name.

public import PluginKit

public let allInputs: [InputKind] = [
  InputKind(BeatsInput.self),
  InputKind(ElasticAgentInput.self),
  InputKind(HTTPInput.self),
  InputKind(TCPInput.self),
]

public let allCodecs: [CodecKind] = [
  CodecKind(JSONCodec.manual, JSONCodec.descriptions),
  CodecKind(JSONLinesCodec.manual, JSONLinesCodec.descriptions),
  CodecKind(LineCodec.manual, LineCodec.descriptions),
  CodecKind(PlainCodec.manual, PlainCodec.descriptions),
]
