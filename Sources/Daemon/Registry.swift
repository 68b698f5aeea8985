//  The one place that names every plugin.

internal import Filters
internal import Inputs
internal import Outputs
package import PluginKit

extension Registry {
  /// Every plugin of this program.
  package static let all = Registry(
    inputs: allInputs + [InputKind(DeadLetterInput.self)], filters: allFilters, outputs: allOutputs, codecs: allCodecs,
    expressions: GrokExpressions())
}
