//  What a screen of the cluster shows: its state, rates from one look to the next, and the daemon's queue beside them.

public import Diagnostics
internal import Outputs

public struct ClusterGlance: Sendable {
  public var status = "unreachable"
  public var nodes = 0
  public var shards = 0
  public var unassigned = 0
  /// Of the aura indices' primaries.
  public var documents = 0
  public var bytes = 0
  public var indexed = 0
  public var queries = 0
  public var rejected = 0
  public var heapPercent = 0
  public var diskPercent = 0
  public var when = Instant.now
  /// Of the daemon; nil where it does not answer.
  public var queueEvents: Int?
  public var deadLetters: Int?
  public var eventsOut: Int?

  public init() {}
}

extension ClusterClient {
  /// - Parameter daemon: Its monitoring API: `http://localhost:9600`.
  public func glance(daemon: String?) throws -> ClusterGlance {
    var glance = ClusterGlance()
    let health = try demand("GET", "/_cluster/health")
    glance.status = health["status"]?.string ?? "red"
    glance.nodes = health["number_of_nodes"]?.integer ?? 0
    glance.shards = health["active_shards"]?.integer ?? 0
    glance.unassigned = health["unassigned_shards"]?.integer ?? 0
    let totals = try request("GET", "/aura-*/_stats/docs,store,indexing,search").json.at("_all.primaries")
    glance.documents = totals?.at("docs.count")?.integer ?? 0
    glance.bytes = totals?.at("store.size_in_bytes")?.integer ?? 0
    glance.indexed = totals?.at("indexing.index_total")?.integer ?? 0
    glance.queries = totals?.at("search.query_total")?.integer ?? 0
    let nodes = try request("GET", "/_nodes/stats/jvm,fs,thread_pool").json["nodes"]?.members ?? []
    for node in nodes.map(\.value) {
      glance.rejected += node.at("thread_pool.write.rejected")?.integer ?? 0
      glance.heapPercent = max(glance.heapPercent, node.at("jvm.mem.heap_used_percent")?.integer ?? 0)
      let total = node.at("fs.total.total_in_bytes")?.integer ?? 0
      let free = node.at("fs.total.available_in_bytes")?.integer ?? 0
      if total > 0 { glance.diskPercent = max(glance.diskPercent, (total - free) * 100 / total) }
    }
    if let daemon, let session = try? ClusterSession(ClusterConnection()),
      let answer = try? session.send("GET", daemon + "/_node/stats/pipelines", timeout: .seconds(2)),
      answer.status == 200, let json = answer.body.withUnsafeBytes({ JSONValue($0) })
    {
      let pipelines = json["pipelines"]?.members.map(\.value) ?? []
      glance.queueEvents = pipelines.reduce(0) { sum, pipeline in
        sum + ((pipeline.at("queue.events_count") ?? pipeline.at("queue.events"))?.integer ?? 0)
      }
      glance.deadLetters = pipelines.reduce(0) { $0 + ($1.at("dead_letter_queue.events_count")?.integer ?? 0) }
      glance.eventsOut = pipelines.reduce(0) { $0 + ($1.at("events.out")?.integer ?? 0) }
    }
    glance.when = .now
    return glance
  }
}
