//  Expressions with named patterns (`%{NAME}`) for plugins that are no filters. The library of patterns belongs to the
//  filters; inputs meet it through this contract.

public import Patterns

/// Compiles expressions in the dialect of `grok`.
public protocol ExpressionCompiler: Sendable {
  /// - Parameters:
  ///   - folders: Files with patterns of the operator's own, or folders of such files.
  /// - Throws: A `BuildFailure` without an option.
  func compile(_ expression: String, folders: [String], ecs: ECSMode, services: Services) throws -> Pattern
}
