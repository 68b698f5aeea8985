//  The library of patterns for plugins that are no filters.

internal import Diagnostics
public import Patterns
public import PluginKit

/// Compiles single expressions as the `grok` filter does.
public struct GrokExpressions: ExpressionCompiler {
  public init() {}

  public func compile(_ expression: String, folders: [String], ecs: ECSMode, services: Services) throws -> Pattern {
    var library = GrokLibrary(ecs.isOn ? .ecs : .legacy)
    for path in folders where services.resolves {
      do throws(SystemError) {
        try library.load(services.path(path))
      } catch {
        throw BuildFailure(nil, "'\(path)' cannot be read: \(error.reason)", code: "grok.patterns-unreadable")
      }
    }
    do throws(GrokError) {
      return try GrokExpression(expression, library: library).pattern
    } catch {
      throw BuildFailure(
        nil, "\(error.message), at character \(error.offset + 1)", code: "grok.bad-expression", hint: error.hint)
    }
  }
}
