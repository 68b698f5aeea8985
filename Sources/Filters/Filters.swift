//  Filters
