//  Every filter of this module, in order of name.

public import PluginKit

public let allFilters: [FilterKind] = [
  FilterKind(DateFilter.self),
  FilterKind(Drop.self),
]
