//  Every filter of this module, in order of name.

public import PluginKit

public let allFilters: [FilterKind] = [
  FilterKind(Bytes.self),
  FilterKind(CIDR.self),
  FilterKind(CSVFilter.self),
  FilterKind(Clone.self),
  FilterKind(Correlation.self),
  FilterKind(DateFilter.self),
  FilterKind(Dissect.self),
  FilterKind(Drop.self),
  FilterKind(Fingerprint.self),
  FilterKind(GeoIPFilter.self),
  FilterKind(Grok.self),
  FilterKind(JSONFilter.self),
  FilterKind(KeyValue.self),
  FilterKind(Mutate.self),
  FilterKind(Performance.self),
  FilterKind(Prune.self),
  FilterKind(Sample.self),
  FilterKind(Split.self),
  FilterKind(SyslogPriority.self),
  FilterKind(ThreatScoreFilter.self),
  FilterKind(Throttle.self),
  FilterKind(Translate.self),
  FilterKind(Truncate.self),
  FilterKind(URLDecode.self),
  FilterKind(UUIDFilter.self),
  FilterKind(UserAgentFilter.self),
  FilterKind(XMLFilter.self),
]
