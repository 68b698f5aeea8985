//  Every filter of this module, in order of name.

public import PluginKit

public let allFilters: [FilterKind] = [
  FilterKind(Correlation.self),
  FilterKind(DateFilter.self),
  FilterKind(Drop.self),
  FilterKind(JSONFilter.self),
  FilterKind(KeyValue.self),
  FilterKind(Mutate.self),
  FilterKind(Performance.self),
]
