//  Every filter of this module, in order of name.

public import PluginKit

public let allFilters: [FilterKind] = [
  FilterKind(Drop.self)
]
