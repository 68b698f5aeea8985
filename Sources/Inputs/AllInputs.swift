//  Every input and codec of this module, in order of name.

internal import Config
public import PluginKit

public let allInputs: [InputKind] = [
  InputKind(BeatsInput.self),
  InputKind(ElasticAgentInput.self),
  InputKind(GeneratorInput.self),
  InputKind(HeartbeatInput.self),
  InputKind(HTTPInput.self),
  InputKind(StdinInput.self),
  InputKind(SyslogInput.self),
  InputKind(TCPInput.self),
  InputKind(UDPInput.self),
  InputKind(UnixInput.self),
]

public let allCodecs: [CodecKind] = [
  CodecKind(JSONCodec.manual, JSONCodec.descriptions),
  CodecKind(JSONLinesCodec.manual, JSONLinesCodec.descriptions),
  CodecKind(LineCodec.manual, LineCodec.descriptions),
  CodecKind(PlainCodec.manual, PlainCodec.descriptions),
]
