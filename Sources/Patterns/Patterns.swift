//  Patterns
