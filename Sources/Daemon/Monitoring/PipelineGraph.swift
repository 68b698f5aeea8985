//  A pipeline as vertices and edges, in the shape that Logstash's monitoring has: inputs, the queue, branches and filters
//  as events meet them, outputs. A `when` of a step is a branch of its own.

internal import Codecs
internal import Config
internal import Diagnostics
internal import Events
internal import Pipeline
internal import PluginKit

struct PipelineGraph {
  struct Vertex {
    enum Kind { case plugin(name: String, section: String), queue, branch(String) }
    var id: String
    var kind: Kind
    var position: SourcePosition?
    var isExplicit = false
  }
  struct Edge {
    var from: String
    var to: String
    /// The side of a branch that leads here.
    var when: Bool?
  }
  /// A vertex that something follows, and on which side.
  private typealias End = (id: String, when: Bool?)

  private(set) var vertices: [Vertex] = []
  private(set) var edges: [Edge] = []
  private let explicit: Set<String>
  private static let queue = "__QUEUE__"

  init(_ pipeline: CompiledPipeline) {
    let file = pipeline.file
    explicit = Set((file.inputs + file.filterSteps + file.outputs).filter(\.isIDGiven).map(\.id))
    for input in pipeline.inputs {
      addPlugin(input.id, input.kind, "input", input.position)
      edges.append(Edge(from: input.id, to: Self.queue))
    }
    vertices.append(Vertex(id: Self.queue, kind: .queue))
    let ends = walk(pipeline.steps, from: [(Self.queue, nil)])
    for output in pipeline.outputs {
      let before = output.condition.map { branch($0, output.position, from: ends) } ?? ends
      addPlugin(output.id, output.kind, "output", output.position)
      connect(before, to: output.id)
    }
  }

  private mutating func addPlugin(_ id: String, _ name: String, _ section: String, _ position: SourcePosition) {
    vertices.append(
      Vertex(
        id: id, kind: .plugin(name: name, section: section), position: position, isExplicit: explicit.contains(id)))
  }

  private mutating func connect(_ ends: [End], to id: String) {
    for end in ends { edges.append(Edge(from: end.id, to: id, when: end.when)) }
  }

  /// Adds a branch; what it lets through goes on from the result.
  private mutating func branch(_ condition: Condition, _ position: SourcePosition, from ends: [End]) -> [End] {
    let id = hexDigest("if \(position) \(condition)")
    vertices.append(Vertex(id: id, kind: .branch(condition.description), position: position))
    connect(ends, to: id)
    return [(id, true)]
  }

  private mutating func walk(_ steps: [Step], from start: [End]) -> [End] {
    var ends = start
    for step in steps {
      switch step {
      case .filter(let step):
        let before = step.condition.map { branch($0, step.position, from: ends) } ?? ends
        addPlugin(step.id, step.kind, "filter", step.position)
        connect(before, to: step.id)
        ends = [(step.id, nil)]
        if step.condition != nil, let branch = before.first { ends.append((branch.id, false)) }
      case .branch(let step):
        let yes = branch(step.condition, step.position, from: ends)
        let no: [End] = yes.map { ($0.id, false) }
        ends = walk(step.then, from: yes) + walk(step.otherwise, from: no)
      }
    }
    return ends
  }

  func write(_ text: inout JSONText, hash: String) {
    text.object("graph") { outer in
      outer.object("graph") { inner in
        inner.list("vertices", vertices) { list, vertex in
          switch vertex.kind {
          case .plugin(let name, let section):
            list.member("config_name", name)
            list.member("plugin_type", section)
          case .branch(let condition): list.member("condition", condition)
          case .queue: break
          }
          if let position = vertex.position {
            list.object("meta") { meta in
              meta.object("source") {
                $0.member("protocol", "file")
                $0.member("id", position.file)
                $0.member("line", position.line)
                $0.member("column", position.column)
              }
            }
          } else {
            list.null("meta")
          }
          list.member("id", vertex.id)
          list.member("explicit_id", vertex.isExplicit)
          switch vertex.kind {
          case .plugin: list.member("type", "plugin")
          case .branch: list.member("type", "if")
          case .queue: list.member("type", "queue")
          }
        }
        inner.list("edges", edges) { list, edge in
          list.member("from", edge.from)
          list.member("to", edge.to)
          list.member("id", hexDigest("\(edge.from)>\(edge.to)>\(edge.when.map { "\($0)" } ?? "")"))
          if let when = edge.when { list.member("when", when) }
          list.member("type", edge.when == nil ? "plain" : "boolean")
        }
      }
      outer.member("type", "lir")
      outer.member("version", "0.0.0")
      outer.member("hash", hash)
    }
  }
}

/// One entry for each plugin, with its figures.
func vertexStatistics(_ text: inout JSONText, of pipeline: RunningPipeline) {
  enum Plugin { case input(CompiledInput), filter(FilterStep), output(OutputStep) }
  let all =
    pipeline.compiled.inputs.map { Plugin.input($0) } + filterSteps(pipeline.runtime.steps).map { Plugin.filter($0) }
    + pipeline.runtime.outputs.map { Plugin.output($0) }
  func counters(_ list: inout JSONText, _ values: KeyValuePairs<String, Int>) {
    list.list("long_counters", values) {
      $0.member("name", $1.key)
      $0.member("value", $1.value)
    }
    list.list("double_gauges", EmptyCollection<Int>()) { _, _ in }
  }
  text.list("vertices", all) { list, plugin in
    switch plugin {
    case .input(let input):
      let figures = input.input.statistics
      list.member("id", input.id)
      list.member("pipeline_ephemeral_id", pipeline.identity)
      list.member("events_out", figures.events)
      list.member("queue_push_duration_in_millis", input.push.waitedNs / 1_000_000)
      counters(
        &list, ["current_connections": figures.connections, "peak_connections": figures.peakConnections])
    case .filter(let step):
      list.member("id", step.id)
      list.member("pipeline_ephemeral_id", pipeline.identity)
      list.member("events_in", step.statistics.eventsIn.value)
      list.member("events_out", step.statistics.eventsOut.value)
      list.member("duration_in_millis", step.statistics.durationNs.value / 1_000_000)
      if let outcomes = step.built.outcomes {
        counters(&list, ["matches": outcomes.matches.value, "failures": outcomes.failures.value])
      } else {
        counters(&list, [:])
      }
    case .output(let step):
      let figures = step.output.statistics
      list.member("id", step.id)
      list.member("pipeline_ephemeral_id", pipeline.identity)
      list.member("events_in", step.statistics.eventsIn.value)
      list.member("events_out", figures.eventsOut)
      list.member("duration_in_millis", step.statistics.durationNs.value / 1_000_000)
      counters(
        &list, ["dead_letters": figures.deadLetters, "duplicates": figures.duplicates, "retries": figures.retries])
    }
  }
}

/// SHA-256 of a text, as 64 hex digits.
func hexDigest(_ text: String) -> String {
  let digest = (try? Digest.compute(.sha256, Array(text.utf8))) ?? []
  return digest.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined()
}
